"""CNN14 and HTSAT against the reference implementations, filled with the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training.golden_fill import GOLDEN, fill, noise, signal, values
from training.features import PRESETS, LogMel
from training.models.cnn14 import Cnn14
from training.models.htsat import Htsat

DTYPES = [(torch.float64, 1e-9), (torch.float32, 1e-5)]


def log_mel_of(sample_rate: int, seconds: float, preset: str, dtype: torch.dtype) -> torch.Tensor:
    waveform = torch.from_numpy(signal(sample_rate, seconds).astype(np.float32))[None]
    return LogMel(**PRESETS[preset], dtype=dtype)(waveform)


def test_the_fill_is_the_stated_one():
    check = np.load(GOLDEN / "fill_check.npz")
    assert np.array_equal(noise("noise", np.arange(8)), check["noise_first8"])
    np.testing.assert_allclose(signal(44_100, 1.0)[:8], check["signal_A_first8"], atol=1e-12)
    first = values("conv_block1.conv1.weight", (64, 1, 3, 3), gain=6).ravel()[:4]
    np.testing.assert_allclose(first, [-0.22196884, -0.80270022, 0.62708157, -0.14460586], atol=1e-8)


@pytest.fixture(scope="module")
def cnn14():
    return fill(Cnn14(num_classes=527), gain=6)


@pytest.fixture(scope="module")
def htsat():
    return fill(Htsat(num_classes=527), gain=3)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_cnn14_equals_the_reference(cnn14, dtype, tolerance):
    golden = np.load(GOLDEN / "cnn14.npz")
    log_mel = log_mel_of(44_100, 2.0, "paper", dtype)
    model = cnn14.to(dtype)
    with torch.inference_mode():
        assert np.abs(model.pooled(log_mel)[0].numpy() - golden["pooled_f64"]).max() < tolerance
        assert np.abs(model(log_mel)[0].numpy() - golden["embedding_f64"]).max() < tolerance
        assert np.abs(model.tag(log_mel)[0].numpy() - golden["clipwise"]).max() < 1e-5


def test_cnn14_has_the_published_names_and_size(cnn14):
    names = cnn14.state_dict()
    assert names["conv_block6.conv2.weight"].shape == (2048, 2048, 3, 3)
    assert {"bn0.running_mean", "conv_block1.bn2.weight", "fc1.bias", "fc_audioset.weight"} <= names.keys()
    assert len(names) == 84 - 3  # all but the front end's three
    assert sum(p.numel() for p in cnn14.parameters()) == 80_753_615


@pytest.mark.parametrize("channels", [(4,), (8, 8, 16), (4, 4, 4, 4, 4, 6)])
def test_cnn14_of_any_width_and_depth(channels):
    model = Cnn14(n_mels=32, channels=channels)
    assert model(torch.randn(2, 40, 32)).shape == (2, channels[-1])
    with pytest.raises(ValueError, match="at least 64 mel bands, got 32"):
        Cnn14(n_mels=32, channels=(1,) * 7)


def test_cnn14_names_too_short_a_clip():
    with pytest.raises(ValueError, match="at least 32 frames, got 31"):
        Cnn14(channels=(2,) * 6).eval()(torch.zeros(1, 31, 64))


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_htsat_body_equals_the_reference(htsat, dtype, tolerance):
    golden = np.load(GOLDEN / "htsat.npz")
    row, column = np.mgrid[0:256, 0:256]
    image = np.sin(0.05 * row + 0.03 * column) + 0.3 * noise("img", np.arange(256 * 256)).reshape(256, 256)
    image = torch.from_numpy(image).to(dtype)[None, None]
    model = htsat.to(dtype)
    with torch.inference_mode():
        assert np.abs(model.body(image)[0].numpy() - golden["img_latent_f64"]).max() < tolerance
        assert np.abs(model.tag_image(image)[0].numpy() - golden["img_clipwise_f64"]).max() < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("halves", "avg3x689"),
        ("centre", "centre1024"),
        ("resize", "resize1024"),
        ("windows", "avg2x1024"),
    ],
)
def test_htsat_long_clip_rules_equal_the_reference(htsat, rule, expected, dtype, tolerance):
    golden = np.load(GOLDEN / "htsat.npz")
    model = htsat.to(dtype)
    model.long_clips = rule
    with torch.inference_mode():
        latent = model(log_mel_of(44_100, 10.0, "paper", dtype))[0].numpy()
    assert np.abs(latent - golden[f"wav44_{expected}"]).max() < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_htsat_at_the_checkpoints_rate_and_short_clips(htsat, dtype, tolerance):
    golden = np.load(GOLDEN / "htsat.npz")
    model = htsat.to(dtype)
    with torch.inference_mode():
        log_mel = log_mel_of(32_000, 10.0, "panns-32k", dtype)
        assert np.abs(model(log_mel)[0].numpy() - golden["wav32k_latent_f64"]).max() < tolerance
        assert np.abs(model.tag(log_mel)[0].numpy() - golden["wav32k_clipwise_f32"]).max() < 1e-5
        short = model(log_mel_of(44_100, 3.0, "paper", dtype))[0].numpy()
    assert np.abs(short - golden["wav3s_stretch"]).max() < tolerance


def test_htsat_folds_as_the_reference(htsat):
    golden = np.load(GOLDEN / "htsat_image.npz")
    time, band = np.mgrid[0:1024, 0:64]
    ramp = torch.from_numpy(64.0 * time + band)[None]
    assert np.array_equal(htsat.fold(ramp)[0, 0].numpy(), golden["ramp_image"])
    for frames in (1001, 965, 689, 138):
        time, band = np.mgrid[0:frames, 0:64]
        stretched = htsat.stretch(torch.from_numpy(np.sin(0.013 * time + 0.11 * band) + 0.001 * time)[None])
        np.testing.assert_allclose(stretched[0, ::16].numpy(), golden[f"stretch{frames}_rows16"], atol=1e-5)
        image = htsat.fold(stretched)[0, 0].numpy()
        np.testing.assert_allclose(image[::8, ::8], golden[f"image{frames}_8x8"], atol=1e-5)


def test_htsat_body_is_the_size_of_the_reference(htsat):
    assert sum(p.numel() for p in htsat.body.parameters()) == 27_534_360
    assert len(htsat.body.state_dict()) == 171


@pytest.mark.parametrize(("spec_size", "n_mels", "depths"), [(64, 32, (1, 1)), (128, 64, (1, 1, 1)), (64, 64, (1, 1))])
def test_htsat_of_any_width_and_depth(spec_size, n_mels, depths):
    heads = (2,) * len(depths)
    model = Htsat(n_mels=n_mels, spec_size=spec_size, embed_dim=8, depths=depths, num_heads=heads, num_classes=3)
    for frames in (20, model.target_frames, 2 * model.target_frames):
        log_mel = torch.randn(2, frames, n_mels)
        assert model.train()(log_mel).shape == (2, 8 * 2 ** (len(depths) - 1))
        assert model.eval().tag(log_mel).shape == (2, 3)


def test_htsat_crops_differently_in_training_and_not_in_evaluation():
    torch.manual_seed(0)
    model = Htsat(n_mels=32, spec_size=32, embed_dim=8, depths=(1, 1), num_heads=(2, 2), drop_path_rate=0.0)
    clip = torch.randn(1, 60, 32)
    model.train()
    model.bn0.eval()
    assert not torch.equal(model(clip), model(clip))
    model.eval()
    assert torch.equal(model(clip), model(clip))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"n_mels": 60}, "multiple of n_mels"), ({"long_clips": "cut"}, "one of halves, centre, resize, windows")],
)
def test_htsat_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        Htsat(**settings)


def test_htsat_halves_refuses_what_the_window_cannot_hold():
    model = Htsat(n_mels=32, spec_size=32, embed_dim=8, depths=(1,), num_heads=(2,)).eval()
    with pytest.raises(ValueError, match="at most 66 frames, got 80; cut the clip first"):
        model(torch.zeros(1, 80, 32))
