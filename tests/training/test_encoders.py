"""CNN14 and HTSAT against the reference implementations, filled with the same numbers.

Each golden file has one function that computes every array in it, so that none is left unchecked. What the files say
in float64 must hold to 1e-9 in float64 and to 1e-5 in float32; what they say in float32 is itself rounded, to 1e-5.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.training.golden_fill import GOLDEN, fill, noise, signal, uniform, values
from training.features import PRESETS, LogMel
from training.models.cnn14 import Cnn14, fold_batch_norm
from training.models.htsat import Htsat

DTYPES = [torch.float64, torch.float32]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


@pytest.fixture(scope="module")
def cnn14():
    return fill(Cnn14(num_classes=527), gain=6)


@pytest.fixture(scope="module")
def htsat():
    return fill(Htsat(num_classes=527), gain=3)


def log_mel_of(waveform: np.ndarray, preset: str, dtype: torch.dtype) -> torch.Tensor:
    """Return the spectrogram (1, T, M) of a float64 waveform (S,), which the references read in float32."""
    return LogMel(**PRESETS[preset], dtype=dtype)(torch.from_numpy(waveform.astype(np.float32))[None])


def deviations(file: str, found: dict[str, torch.Tensor | np.ndarray]) -> dict[str, float]:
    """Return the largest deviation from each array of a golden file, all of which must have been found."""
    golden = np.load(GOLDEN / file)
    assert found.keys() == set(golden.files)
    largest = {}
    for name, array in found.items():
        array = array.double().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
        expected = golden[name]
        assert array.shape == expected.shape, name
        largest[name] = float(np.abs(array - expected).max())
    return largest


def check(file: str, found: dict[str, torch.Tensor | np.ndarray], dtype: torch.dtype) -> None:
    golden = np.load(GOLDEN / file)
    allowed = {name: max(TOLERANCE[dtype], 1e-5 * (golden[name].dtype == np.float32)) for name in golden.files}
    wrong = {name: by for name, by in deviations(file, found).items() if not by < allowed[name]}
    assert not wrong


def test_the_fill_is_the_stated_one(cnn14, htsat):
    check = np.load(GOLDEN / "fill_check.npz")
    assert set(check.files) == {"names", "crc32", "u_first4", "value_first4", "noise_first8", "signal_A_first8"}
    assert np.array_equal(noise("noise", np.arange(8)), check["noise_first8"])
    np.testing.assert_allclose(signal(44_100, 1.0)[:8], check["signal_A_first8"], atol=1e-12)
    shapes = {name: (parameter.shape, 6) for name, parameter in cnn14.state_dict().items()}
    shapes |= {name.removeprefix("body."): (tensor.shape, 3) for name, tensor in htsat.body.state_dict().items()}
    shapes["layers.0.downsample.reduction.weight"] = shapes["layers.1.downsample.reduction.weight"]
    shapes["audio_projection.weight"] = ((1024, 2816), 3)
    for row, name in enumerate(check["names"]):
        shape, gain = shapes[str(name)]
        assert zlib.crc32(str(name).encode()) == check["crc32"][row]
        assert np.array_equal(uniform(str(name), np.arange(4)), check["u_first4"][row])
        filled = values(str(name), tuple(shape), gain=gain).ravel()[:4]
        np.testing.assert_allclose(filled, check["value_first4"][row], rtol=1e-6, err_msg=str(name))


@torch.no_grad()
def cnn14_arrays(model: Cnn14, dtype: torch.dtype) -> dict[str, torch.Tensor | np.ndarray]:
    """Return what cnn14.npz holds: 2 s at 44.1 kHz, outputs of bn0 and of all blocks, their means and deviations."""
    log_mel = log_mel_of(signal(44_100, 2.0), "paper", dtype)
    normal, *blocks = outputs([model.bn0, *(getattr(model, f"conv_block{i}") for i in range(1, 7))], model, log_mel)
    embedding = model(log_mel)
    arrays = {
        "embedding": embedding[0],
        "embedding_f64": embedding[0],
        "pooled_f64": model.pooled(log_mel)[0],
        "clipwise": model.tag(log_mel)[0],
        "stats_f64": torch.stack([torch.stack([x.mean(), x.std()]) for x in (normal, *blocks)]),
    }
    for number, block in enumerate(blocks, start=1):
        arrays |= {f"block{number}_first8": block[0, :8, 0, 0], f"block{number}_shape": np.array(block.shape)}
    return arrays


def outputs(modules: Sequence[nn.Module], model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Return what modules inside a model give when it is run."""
    found: list[torch.Tensor] = []
    hooks = [module.register_forward_hook(lambda *args: found.append(args[2])) for module in modules]
    model(x)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_cnn14_equals_the_reference(cnn14, dtype):
    check("cnn14.npz", cnn14_arrays(cnn14.to(dtype), dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cnn14_folded_equals_the_reference(cnn14, dtype):
    check("cnn14.npz", cnn14_arrays(fold_batch_norm(cnn14.to(dtype)), dtype), dtype)


@torch.no_grad()
def htsat_arrays(model: Htsat, dtype: torch.dtype) -> dict[str, torch.Tensor | np.ndarray]:
    """Return what htsat.npz holds: an image, and clips at 32 and 44.1 kHz under the rules for long and short clips."""
    arrays = image_arrays(model, dtype)

    clip = log_mel_of(signal(32_000, 10.0), "panns-32k", dtype)
    arrays["wav32k_latent_f64"] = arrays["wav32k_latent_f32"] = model(clip)[0]
    arrays["wav32k_clipwise_f32"] = model.tag(clip)[0]

    clip = log_mel_of(signal(44_100, 10.0), "paper", dtype)
    rules = {"avg3x689": "halves", "centre1024": "centre", "resize1024": "resize", "avg2x1024": "windows"}
    for name, rule in rules.items():
        model.long_clips = rule
        arrays[f"wav44_{name}"] = model(clip)[0]
    model.long_clips = "halves"
    arrays["wav44_msclap_f32"] = arrays["wav44_avg3x689"]
    arrays["wav44_first1024"] = model(clip[:, :1024])[0]
    arrays["wav44_last1024"] = model(clip[:, -1024:])[0]

    short = signal(44_100, 3.0)
    stretched = log_mel_of(short, "paper", dtype)
    arrays["wav3s_frames"] = np.array([1, *stretched.shape])  # the reference has a channel axis
    arrays["wav3s_stretch"] = model(stretched)[0]
    arrays["wav3s_repeat10s_first1024"] = model(log_mel_of(np.resize(short, 441_000), "paper", dtype)[:, :1024])[0]
    padded = np.pad(short, (0, 441_000 - len(short)))
    arrays["wav3s_zeropad10s_first1024"] = model(log_mel_of(padded, "paper", dtype)[:, :1024])[0]
    return arrays


def image_arrays(model: Htsat, dtype: torch.dtype) -> dict[str, torch.Tensor | np.ndarray]:
    """Return latent, clipwise and token 0 of each stage; the reference merges patches at a stage's end, timm before."""
    row, column = np.mgrid[0:256, 0:256]
    image = np.sin(0.05 * row + 0.03 * column) + 0.3 * noise("img", np.arange(256 * 256)).reshape(256, 256)
    tensor = torch.from_numpy(image).to(dtype)[None, None]
    layers = model.body.layers
    places = [model.body.patch_embed, *(layer.downsample for layer in layers[1:]), layers[-1]]
    tokens = [grid.flatten(1, 2) for grid in outputs(places, model.body, tensor)]
    latent = model.body(tensor)[0]
    arrays = {
        "img_latent_f64": latent,
        "img_latent_f32": latent,
        "img_clipwise_f64": model.tag_image(tensor)[0],
        "img_patch_embed_tok0": tokens[0][0, 0],
    }
    for stage, output in enumerate(tokens[1:]):
        arrays[f"img_stage{stage}_tok0_first16"] = output[0, 0, :16]
        arrays[f"img_stage{stage}_shape"] = np.array(output.shape)
    return arrays


@pytest.mark.parametrize("dtype", DTYPES)
def test_htsat_equals_the_reference(htsat, dtype):
    check("htsat.npz", htsat_arrays(htsat.to(dtype), dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_htsat_folds_and_stretches_as_the_reference(htsat, dtype):
    time, band = np.mgrid[0:1024, 0:64]
    arrays = {"ramp_image": htsat.fold(torch.from_numpy(64.0 * time + band)[None])[0, 0]}
    for frames in (1001, 965, 689, 138):
        time, band = np.mgrid[0:frames, 0:64]
        clip = torch.from_numpy(np.sin(0.013 * time + 0.11 * band) + 0.001 * time).to(dtype)
        stretched = htsat.stretch(clip[None])
        arrays[f"stretch{frames}_rows16"] = stretched[0, ::16]
        arrays[f"image{frames}_8x8"] = htsat.fold(stretched)[0, 0, ::8, ::8]
    check("htsat_image.npz", arrays, dtype)


@torch.no_grad()
def test_ten_seconds_at_32_khz_are_one_stretched_pass_under_every_rule(htsat):
    """Rule D of the long clips: the front end of the AudioSet checkpoints, so that nothing is cut."""
    clip = log_mel_of(signal(32_000, 10.0), "panns-32k", torch.float32)
    assert clip.shape[1] == 1001
    model = htsat.float()
    normal = model.bn0(clip.transpose(1, 2)).transpose(1, 2)
    expected = F.interpolate(normal[:, None], (1024, 64), mode="bicubic", align_corners=True)[:, 0]
    for rule in ("halves", "centre", "resize", "windows"):
        model.long_clips = rule
        (window,) = model.cut(normal)
        assert torch.equal(model.stretch(window), expected)
    model.long_clips = "halves"


def test_cnn14_has_the_published_names_and_size(cnn14):
    names = cnn14.state_dict()
    assert names["conv_block6.conv2.weight"].shape == (2048, 2048, 3, 3)
    assert {"bn0.running_mean", "conv_block1.bn2.weight", "fc1.bias", "fc_audioset.weight"} <= names.keys()
    assert len(names) == 84 - 3  # all but the front end's three
    assert sum(p.numel() for p in cnn14.parameters()) == 80_753_615


def test_htsat_has_the_published_size(htsat):
    assert sum(p.numel() for p in htsat.body.parameters()) == 27_534_360
    assert len(htsat.body.state_dict()) == 171
    unused_head = 527 * 527 + 527
    assert sum(p.numel() for p in htsat.parameters()) == 30_241_687 - unused_head
