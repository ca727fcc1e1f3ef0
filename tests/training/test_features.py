"""The front end against torchlibrosa, librosa and float64 reference values; the masking against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training.golden_fill import GOLDEN, signal
from training.features import PRESETS, LogMel, SpecAugment

CONFIGS = {"A": ("paper", {}), "B": ("paper", {"f_max": 14_000}), "C": ("panns-32k", {}), "D": ("panns-16k", {})}


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "frontend.npz")


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("dtype", "tolerance_db"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
def test_log_mel_equals_the_reference(golden, config, dtype, tolerance_db):
    preset, change = CONFIGS[config]
    settings = PRESETS[preset] | change
    waveform = torch.from_numpy(signal(settings["sample_rate"], 1.0).astype(np.float32))[None]
    log_mel = LogMel(**settings, dtype=dtype)(waveform)[0]
    expected = golden[f"{config}_f64"]
    if expected.dtype == np.float32:  # stored rounded: half a unit in the last place of values near 100
        tolerance_db = max(tolerance_db, 4e-6)
    assert len(log_mel) == len(golden[f"{config}_torchlibrosa"])
    assert np.abs(log_mel[: len(expected)].numpy() - expected).max() < tolerance_db
    assert np.abs(log_mel.numpy() - golden[f"{config}_torchlibrosa"]).max() < 1e-3
    assert np.abs(log_mel[:32].numpy() - golden[f"{config}_librosa"]).max() < 1e-3


def test_log_mel_of_a_clean_tone_differs_only_far_below_the_peak(golden):
    """float32 rounding of the transform shows where nothing masks it; float64 does not have it."""
    waveform = torch.from_numpy(signal(44_100, 1.0, clean=True).astype(np.float32))[None]
    exact, single = (LogMel(dtype=dtype)(waveform)[0].numpy() for dtype in (torch.float64, torch.float32))
    expected = golden["A_clean_f64"]
    assert np.abs(exact - expected).max() < 5e-6
    assert np.abs(single - expected)[expected > -40].max() < 1e-3


def test_mel_bank_equals_librosa(golden):
    for config, (preset, change) in CONFIGS.items():
        bank = LogMel(**(PRESETS[preset] | change)).mel_bank
        assert np.abs(bank.T.numpy() - golden[f"{config}_melfb"]).max() < 1e-8


def test_a_batch_is_its_clips_and_silence_is_the_floor():
    waveform = torch.randn(3, 10_000)
    waveform[1] = 0
    log_mel = LogMel()(waveform)
    assert log_mel.shape == (3, LogMel().num_frames(10_000), 64)
    assert torch.equal(log_mel[1], torch.full_like(log_mel[1], -100.0))
    torch.testing.assert_close(LogMel()(waveform[2:])[0], log_mel[2])


@pytest.mark.parametrize(
    ("shape", "message"), [((1000,), r"must be \(B, S\), got \(1000,\)"), ((2, 512), "longer than 512")]
)
def test_log_mel_refuses(shape, message):
    with pytest.raises(ValueError, match=message):
        LogMel()(torch.zeros(shape))


def test_log_mel_is_not_in_a_checkpoint():
    assert not LogMel().state_dict()


def test_spec_augment_masks_stripes_no_wider_than_stated():
    torch.manual_seed(0)
    masked = SpecAugment()(torch.ones(200, 300, 64)) == 0
    frames, bands = masked.all(dim=2).sum(dim=1), masked.all(dim=1).sum(dim=1)
    assert frames.max() <= 2 * 63
    assert bands.max() <= 2 * 7
    assert 40 < frames.float().mean() < 63  # two widths uniform on 0..63, some overlap
    assert 5 < bands.float().mean() < 7
    assert masked.eq(masked.all(dim=2, keepdim=True) | masked.all(dim=1, keepdim=True)).all()


def test_spec_augment_leaves_evaluation_and_short_clips_alone():
    x = torch.randn(2, 10, 64)
    assert SpecAugment().eval()(x) is x
    assert SpecAugment()(torch.ones(50, 3, 64)).any(dim=2).any(dim=1).all()  # never all frames of a 3-frame clip
