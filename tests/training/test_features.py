"""The front end against torchlibrosa, librosa and float64 reference values; the masking against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
    front_end = LogMel(**(PRESETS[preset] | change), dtype=dtype)
    waveform = torch.from_numpy(signal(front_end.sample_rate, 1.0).astype(np.float32))[None]
    log_mel = front_end(waveform)[0]
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
    waveform = torch.randn(3, 10_000, generator=seeded())
    waveform[1] = 0
    log_mel = LogMel()(waveform)
    assert log_mel.shape == (3, LogMel().num_frames(10_000), 64)
    assert torch.equal(log_mel[1], torch.full_like(log_mel[1], -100.0))
    torch.testing.assert_close(LogMel()(waveform[2:])[0], log_mel[2])


@pytest.mark.parametrize(
    ("clips", "samples", "hop_length"),
    [(12, 5_000, 40), (1, 12_000, 16), (3, 4_080, 16), (2, 4_096, 16), (5, 513, 1024)],  # a part holds 256 frames
)
def test_a_batch_taken_in_parts_is_as_if_whole(clips, samples, hop_length):
    front_end = LogMel(hop_length=hop_length)
    waveform = 0.1 * torch.randn(clips, samples, generator=seeded())
    whole = front_end._decibels(front_end._reflect(waveform, None))
    assert whole.shape == (clips, front_end.num_frames(samples), 64)
    torch.testing.assert_close(front_end(waveform), whole, rtol=0, atol=1e-4)


def test_settings_are_kept():
    for preset in PRESETS.values():
        front_end = LogMel(**preset)
        assert {name: getattr(front_end, name) for name in preset} == preset


@settings(max_examples=60, deadline=None)
@given(preset=st.sampled_from(sorted(PRESETS)), lengths=st.lists(st.integers(513, 6_000), min_size=1, max_size=6))
def test_a_clip_in_a_padded_batch_is_as_if_alone(preset, lengths):
    check_padded_batch(LogMel(**PRESETS[preset]), lengths)


@pytest.mark.parametrize(
    "lengths",
    [
        [513, 10_000],  # as short as can be
        [514, 1_023, 1_024, 1_025, 2_047],
        [3_199, 3_200, 3_201, 3_519, 3_520, 3_521],  # around whole hops
        [4_000, 4_000, 4_000],
        [7_777],
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lengths_at_their_edges(lengths, dtype):
    check_padded_batch(LogMel(dtype=dtype), lengths)


def check_padded_batch(front_end, lengths):
    clips = [0.1 * torch.randn(length, generator=seeded(length)) for length in lengths]
    waveform = torch.full((len(clips), max(lengths)), torch.nan)  # what lies behind a clip is not read
    for row, clip in zip(waveform, clips, strict=True):
        row[: len(clip)] = clip
    num_samples = torch.tensor(lengths)
    log_mel = front_end(waveform, num_samples)
    mask = front_end.frame_mask(num_samples, log_mel.shape[1])
    assert log_mel.shape == (len(clips), front_end.num_frames(max(lengths)), 64)
    for clip, frames, inside in zip(clips, log_mel, mask, strict=True):
        alone = front_end(clip[None])[0]
        count = front_end.num_frames(len(clip))
        assert len(alone) == count
        assert inside.tolist() == [True] * count + [False] * (len(frames) - count)
        # The transform of a frame may round otherwise in another batch: 2e-6 dB seen in float32
        torch.testing.assert_close(frames[:count], alone, rtol=0, atol=1e-4 if alone.dtype == torch.float32 else 1e-9)
        assert frames[count:].eq(-100).all()


def test_a_clip_in_a_padded_batch_equals_the_reference(golden):
    clip = torch.from_numpy(signal(44_100, 1.0).astype(np.float32))
    waveform = torch.ones(2, len(clip) + 9_999)
    waveform[0, : len(clip)] = clip
    log_mel = LogMel(dtype=torch.float64)(waveform, torch.tensor([len(clip), len(clip) + 9_999]))
    expected = golden["A_f64"]
    assert np.abs(log_mel[0, : len(expected)].numpy() - expected).max() < 1e-6


def test_no_gradient_reaches_what_lies_behind_a_clip():
    waveform = torch.randn(2, 3_000, generator=seeded(), requires_grad=True)
    LogMel()(waveform, torch.tensor([3_000, 1_500])).sum().backward()
    assert waveform.grad.isfinite().all()
    assert waveform.grad[0, -1] != 0
    assert waveform.grad[1, 1_499] != 0
    assert waveform.grad[1, 1_500:].eq(0).all()


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(1000), r"must be \(B, S\), got \(1000,\); one waveform is waveform\[None\]"),
        (torch.zeros(1, 2, 1000), r"must be \(B, S\), got \(1, 2, 1000\)"),
        (torch.zeros(0, 1000), "the batch is empty"),
        (torch.zeros(2, 0), r"longer than 512 samples \(n_fft / 2\), got 0"),
        (torch.zeros(2, 512), r"longer than 512 samples \(n_fft / 2\), got 512"),
        (torch.zeros(2, 1000, dtype=torch.int16), r"must hold floats in \[-1, 1\], got torch.int16; divide 16-bit"),
        (torch.zeros(2, 1000, dtype=torch.bool), "must hold floats"),
        (torch.zeros(2, 1000, dtype=torch.complex64), "must hold floats"),
    ],
)
def test_log_mel_refuses(waveform, message):
    with pytest.raises(ValueError, match=message):
        LogMel()(waveform)


def test_log_mel_refuses_arrays():
    with pytest.raises(TypeError, match=r"must be a torch.Tensor \(B, S\), got ndarray"):
        LogMel()(np.zeros((1, 1000), np.float32))
    with pytest.raises(TypeError, match=r"num_samples must be a torch.Tensor \(B,\), got list"):
        LogMel()(torch.zeros(1, 1000), [1000])


@pytest.mark.parametrize(
    ("num_samples", "message"),
    [
        ([1000, 1001], r"num_samples\[1\] is 1001: must be more than 512 \(n_fft / 2\) and at most 1000, the samples"),
        ([512, 1000], r"num_samples\[0\] is 512: must be more than 512"),
        ([-1, 1000], r"num_samples\[0\] is -1"),
        ([1000], r"must be integers \(2,\), one a clip, got torch.int64 \(1,\)"),
        ([[1000, 1000]], r"got torch.int64 \(1, 2\)"),
        ([1000.0, 1000.0], r"must be integers \(2,\), one a clip, got torch.float32 \(2,\)"),
        ([True, True], r"must be integers \(2,\), one a clip, got torch.bool"),
    ],
)
def test_log_mel_refuses_lengths(num_samples, message):
    with pytest.raises(ValueError, match=message):
        LogMel()(torch.zeros(2, 1000), torch.tensor(num_samples))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"f_max": 30_000}, r"f_max=30000 must satisfy 0 <= f_min < f_max <= sample_rate / 2 = 22050.0"),
        ({"f_min": 9_000}, "f_min=9000 and f_max=8000.0 must satisfy"),
        ({"f_min": -1}, "f_min=-1 and"),
        ({"f_min": float("nan")}, "f_min=nan and"),
        ({"hop_length": 0}, "hop_length must be a whole number, at least 1, got 0"),
        ({"hop_length": 1025}, "hop_length=1025 must be at most n_fft=1024: samples in between"),
        ({"n_fft": 1023}, "n_fft must be even, got 1023"),
        ({"n_fft": 1024.0}, "n_fft must be a whole number, at least 1, got 1024.0"),
        ({"n_mels": True}, "n_mels must be a whole number, at least 1, got True"),
        ({"n_mels": 513}, "n_mels=513 must be at most n_fft / 2 = 512"),
        ({"n_mels": 256}, r"n_mels=256: 51 of the bands would always be silent .*the first is band 0.*use fewer bands"),
        ({"sample_rate": -1}, "sample_rate must be a whole number, at least 1, got -1"),
        ({"dtype": torch.bfloat16}, "dtype must be torch.float32 or torch.float64, got torch.bfloat16"),
    ],
)
def test_log_mel_refuses_settings(change, message):
    with pytest.raises(ValueError, match=message):
        LogMel(**change)


def test_log_mel_stays_in_float32():
    waveform = 0.1 * torch.randn(2, 5_000, generator=seeded())
    expected = LogMel()(waveform)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(LogMel()(waveform), expected)
    for halved in (LogMel().half(), LogMel().to(torch.bfloat16), torch.nn.Sequential(LogMel()).half()[0]):
        assert torch.equal(halved(waveform), expected)
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(LogMel()(waveform.to(dtype)), LogMel()(waveform.to(dtype).float()))
    assert LogMel().double()(waveform).dtype == torch.float64


def test_nan_stays_nan_in_the_frames_that_reach_it():
    waveform = torch.randn(2, 5_000, generator=seeded())
    waveform[0, 2_500] = torch.nan
    is_nan = LogMel()(waveform).isnan()
    assert is_nan.all(dim=2)[0].nonzero().flatten().tolist() == [7, 8, 9]  # centres at 2240, 2560, 2880
    assert is_nan.sum() == 3 * 64


@pytest.mark.filterwarnings("ignore:.*deprecated")  # of PyTorch's, within PyTorch
def test_log_mel_can_be_exported_for_any_size():
    batch, samples = torch.export.Dim("batch", min=1, max=1024), torch.export.Dim("samples", min=1025, max=10**7)
    example = (torch.randn(2, 5_000), torch.tensor([5_000, 4_000]))
    shapes = ({0: batch, 1: samples}, {0: batch})
    waveform, num_samples = torch.randn(3, 7_001, generator=seeded()), torch.tensor([7_001, 600, 5_001])
    for count in (1, 2):
        program = torch.export.export(LogMel(), example[:count], dynamic_shapes=shapes[:count])
        inputs = (waveform, num_samples)[:count]
        torch.testing.assert_close(program.module()(*inputs), LogMel()(*inputs))


def test_log_mel_is_not_in_a_checkpoint():
    assert not LogMel().state_dict()


def test_spec_augment_masks_stripes_no_wider_than_stated():
    torch.manual_seed(0)
    masked = SpecAugment()(torch.ones(200, 300, 64)) == 0
    frames, bands = masked.all(dim=2).sum(dim=1), masked.all(dim=1).sum(dim=1)
    assert frames.max() <= 2 * 63
    assert bands.max() <= 2 * 7
    assert masked.eq(masked.all(dim=2, keepdim=True) | masked.all(dim=1, keepdim=True)).all()


@pytest.mark.parametrize(("length", "width"), [(90, 64), (64, 64), (1000, 64)])
def test_one_stripe_is_drawn_as_panns_draws_it(length, width):
    """Width uniform on 0 .. width - 1, then start uniform on 0 .. length - width drawn - 1."""
    torch.manual_seed(0)
    clips = 20_000
    augment = SpecAugment(time_stripes=1, time_width=width, freq_stripes=0)
    masked = augment(torch.ones(clips, length, 1))[:, :, 0] == 0
    widths = masked.sum(dim=1)
    assert_frequencies(torch.bincount(widths, minlength=width), torch.full((width,), 1 / width), clips)
    assert_frequencies(masked.sum(dim=0), chance_of_mask(length, width), clips)
    for w in (1, width // 2, width - 1):
        starts = masked[widths == w].int().argmax(dim=1)
        eighths = torch.arange(length - w) * 8 // (length - w)
        expected = torch.bincount(eighths, minlength=8) / (length - w)
        assert_frequencies(torch.bincount(eighths[starts], minlength=8), expected, len(starts))


def test_stripes_and_clips_are_drawn_independently():
    torch.manual_seed(0)
    clips, frames, bands = 5_000, 80, 12
    masked = SpecAugment()(torch.ones(clips, frames, bands)) == 0
    in_time, in_freq = chance_of_mask(frames, 64), chance_of_mask(bands, 8)
    expected = 1 - (1 - in_time[:, None]) ** 2 * (1 - in_freq) ** 2
    assert_frequencies(masked.sum(dim=0), expected, clips)
    agree = masked[0::2] == masked[1::2]  # of neighbours in the batch: by chance only
    assert_frequencies(agree.sum(dim=0), expected**2 + (1 - expected) ** 2, clips / 2)


def chance_of_mask(length, width):
    """Return how likely each place (length,) is within one stripe, by counting its widths and starts."""
    chance = torch.zeros(length, dtype=torch.float64)
    for w in range(min(width, length)):
        for start in range(length - w):
            chance[start : start + w] += 1 / min(width, length) / (length - w)
    return chance


def assert_frequencies(counts, expected, draws):
    """Check counts against probabilities, to five standard deviations."""
    deviation = (expected * (1 - expected) / draws).sqrt()
    assert ((counts / draws - expected).abs() <= 5 * deviation + 1e-12).all()


def test_spec_augment_leaves_evaluation_and_short_clips_alone():
    torch.manual_seed(0)
    x = torch.randn(2, 10, 64)
    assert SpecAugment().eval()(x) is x
    for frames in (1, 2, 3):
        masked = SpecAugment(freq_stripes=0)(torch.ones(500, frames, 64))[:, :, 0] == 0
        assert not masked[:, -1].any()  # a stripe ends before the last frame
        assert frames == 1 or masked[:, 0].any()


def test_spec_augment_without_stripes_changes_nothing():
    x = torch.randn(2, 10, 64, generator=seeded())
    assert torch.equal(SpecAugment(time_stripes=0, freq_stripes=0)(x), x)
    assert torch.equal(SpecAugment(time_width=0, freq_width=1)(x), x)


def test_spec_augment_refuses():
    with pytest.raises(ValueError, match="time_width must be a whole number, 0 or more, got -1"):
        SpecAugment(time_width=-1)
    with pytest.raises(ValueError, match=r"freq_stripes must be a whole number, 0 or more, got 1.5"):
        SpecAugment(freq_stripes=1.5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)
