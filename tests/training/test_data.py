"""Pairs and batches: every clip seen once an epoch, draws decided by (seed, epoch, index) alone, bad data named."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from curation.audio import read_clip, resample
from curation.errors import ConfigError, ManifestError
from tests.training.clips import SAMPLE_RATE, tone, write_clips
from training.config import ManifestConfig
from training.data import EpochSampler, PairDataset, make_loader, make_pairs, read_clips
from training.tokenizer import pad

TEMPLATES = ("{title}. {description}", "{title}")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    rows = [
        {"waveform": tone(300, 0.2)},
        {"waveform": tone(400, 1.5)},
        {"waveform": tone(500, 0.6), "captions": ["first words", "second words", " "]},
        {"split": "val"},
        {"title": "", "description": "Only this."},
    ]
    return write_clips(tmp_path_factory.mktemp("manifest"), rows)


@pytest.fixture(scope="module")
def clips(manifest):
    return read_clips([ManifestConfig(manifest=str(manifest))], TEMPLATES)


def dataset(clips, *, captions="each", clip_samples=None, **settings) -> PairDataset:
    pairs = make_pairs(clips, captions)
    ids = {caption: [0, 5 + len(caption), 2] for pair in pairs for caption in pair.captions}
    sizes = clip_samples or {"cnn14": SAMPLE_RATE // 2, "htsat": SAMPLE_RATE // 4}
    return PairDataset(clips, pairs, ids, clip_samples=sizes, seed=7, **settings)


def test_captions_are_human_or_rendered(clips):
    assert [clip.captions for clip in clips] == [
        ("Tone 0. A steady tone, number 0.", "Tone 0"),
        ("Tone 1. A steady tone, number 1.", "Tone 1"),
        ("first words", "second words"),
        ("Only this.", "Only this."),
    ]
    each, one = make_pairs(clips, "each"), make_pairs(clips, "one")
    assert [(pair.clip, len(pair.captions)) for pair in each] == [(0, 2), (1, 2), (2, 1), (2, 1), (3, 2)]
    assert [(pair.clip, len(pair.captions)) for pair in one] == [(0, 2), (1, 2), (2, 2), (3, 2)]


def test_a_visit_depends_on_seed_epoch_and_index_alone(clips):
    data, other = dataset(clips, gain_db=6, shift=True), dataset(clips, gain_db=6, shift=True, is_cached=True)
    visits = [data[epoch, index] for epoch in range(3) for index in range(len(data))]
    for (crops, ids, caption, clip), (epoch, index) in zip(
        visits, [(e, i) for e in range(3) for i in range(len(data))], strict=True
    ):
        again = other[epoch, index]
        assert (again[1], again[2], again[3]) == (ids, caption, clip)
        assert all(np.array_equal(again[0][name], crop) for name, crop in crops.items())
    assert {visits[i][2] for i in (0, 5, 10)} <= set(clips[0].captions)
    assert not np.array_equal(visits[1][0]["cnn14"], visits[6][0]["cnn14"])


def test_crops_lie_in_the_clip_and_the_shorter_in_the_longer(clips):
    data = dataset(clips)
    whole = read_clip(clips[1].path)
    starts = set()
    for epoch in range(8):
        crops = data[epoch, 1][0]
        assert {name: len(crop) for name, crop in crops.items()} == {"cnn14": 22_050, "htsat": 11_025}
        place = np.flatnonzero(np.isclose(whole, crops["cnn14"][0], atol=1e-7))
        starts |= {int(p) for p in place if np.array_equal(whole[p : p + 22_050], crops["cnn14"])}
        inside = np.lib.stride_tricks.sliding_window_view(crops["cnn14"], 11_025)
        assert (inside[:, :50] == crops["htsat"][:50]).all(axis=1).any()
    assert len(starts) > 4


def test_independent_crops_leave_each_other_alone(clips):
    data = dataset(clips, is_coupled=False)
    crops = [data[epoch, 1][0] for epoch in range(10)]
    assert not all(np.isin(crop["htsat"][:1], crop["cnn14"]).all() for crop in crops)


def test_short_clips_go_round(clips):
    crop = dataset(clips)[0, 0][0]["cnn14"]
    short = read_clip(clips[0].path)
    assert np.array_equal(crop, np.concatenate([short, short, short])[: len(crop)])
    shifted = dataset(clips, shift=True)[0, 0][0]["cnn14"]
    assert not np.array_equal(shifted, crop)
    np.testing.assert_array_equal(np.sort(shifted[: len(short)]), np.sort(short))


def test_gain_is_drawn_within_its_range(clips):
    plain, loud = dataset(clips), dataset(clips, gain_db=6)
    gains = []
    for epoch in range(20):
        a, b = (np.abs(data[epoch, 0][0]["cnn14"]).max() for data in (plain, loud))
        gains.append(20 * np.log10(b / a))
    assert -6 <= min(gains) < -2
    assert 2 < max(gains) <= 6


def test_an_epoch_sees_every_pair_once_in_a_new_order_and_resumes_anywhere():
    sampler = EpochSampler(103, 10, seed=1)
    first = list(sampler)
    assert (len(first), len(sampler)) == (10, 10)
    seen = [index for batch in first for _, index in batch]
    assert len(set(seen)) == 100
    assert {epoch for batch in first for epoch, _ in batch} == {0}
    sampler.first_batch = 4
    assert list(sampler) == first[4:]
    assert len(sampler) == 6
    sampler.first_batch, sampler.epoch = 0, 1
    assert [index for batch in sampler for _, index in batch] != seen


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_with_reading_processes(clips, workers):
    sampler = EpochSampler(5, 2, seed=3)
    data = dataset(clips, clip_samples={"cnn14": 5000, "htsat": 5000})
    loader = make_loader(data, sampler, pad_id=1, workers=workers)
    for epoch in (0, 1):
        sampler.epoch = epoch
        batches = list(loader)
        assert len(batches) == 2
        for batch, keys in zip(batches, sampler, strict=True):
            visits = [data[key] for key in keys]
            assert np.array_equal(batch.waveforms["cnn14"], np.stack([crops["cnn14"] for crops, _, _, _ in visits]))
            assert batch.waveforms["htsat"] is batch.waveforms["cnn14"]
            moved = batch.to(torch.device("cpu"))
            assert moved.waveforms["htsat"] is moved.waveforms["cnn14"]
            ids, mask = pad([ids for _, ids, _, _ in visits], pad_id=1)
            assert torch.equal(batch.input_ids, ids)
            assert torch.equal(batch.attention_mask, mask)


def test_pairs_of_one_clip_or_one_caption_are_marked(tmp_path):
    rows = [
        {"captions": ["a", "b"]},
        {"captions": ["c"]},
        {"captions": ["c"]},
    ]
    clips = read_clips([ManifestConfig(manifest=str(write_clips(tmp_path, rows)))], TEMPLATES)
    batch = next(iter(make_loader(dataset(clips), _InOrder(4, 4, seed=0), pad_id=1, workers=0)))
    assert batch.same_clip.int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]


class _InOrder(EpochSampler):
    def __iter__(self):
        yield [(0, index) for index in range(self.num_pairs)]


def test_what_cannot_be_read_is_named(tmp_path, manifest):
    def read(folder, *splits: str, templates=TEMPLATES):
        source = ManifestConfig(manifest=str(folder), splits=splits or ("train",))
        return read_clips([source], templates)

    with pytest.raises(ManifestError, match=re.escape(str(tmp_path / "none"))):
        read(tmp_path / "none")
    with pytest.raises(ManifestError, match="the manifest has no clips"):
        read(write_clips(tmp_path / "empty", []))
    with pytest.raises(ConfigError, match=r"split 'test' has no clips \(there are train, val\)"):
        read(manifest, "train", "test")
    with pytest.raises(ConfigError, match=r"data.templates: .*\{name\}"):
        read(manifest, templates=("{name}",))
    folder = write_clips(tmp_path / "gone", [{}, {}, {}])
    for name in ("test-001", "test-002"):
        (folder / "audio" / f"{name}.flac").unlink()
    with pytest.raises(ManifestError, match=r"2 audio files are missing, the first is .*test-001.flac"):
        read(folder)
    source = ManifestConfig(manifest=str(manifest))
    assert len(read_clips([source, source], TEMPLATES)) == 4
    copy = ManifestConfig(manifest=str(write_clips(tmp_path / "copy", [{}])))
    with pytest.raises(ConfigError, match=r"clip 'test-000' is in .*copy and in another manifest"):
        read_clips([source, copy], TEMPLATES)


def test_an_encoder_of_another_rate_reads_the_same_crop_resampled(clips):
    sizes = {"cnn14": 17_640, "htsat": 9_600, "other": 9_600}
    plain = dataset(clips, clip_samples={"cnn14": 17_640, "htsat": 13_230})
    mixed = dataset(clips, clip_samples=sizes, sample_rates={"htsat": 32_000, "other": 32_000})
    for index in range(len(plain)):
        expected, crops = plain[1, index][0], mixed[1, index][0]
        assert {name: len(crop) for name, crop in crops.items()} == sizes
        assert np.array_equal(crops["cnn14"], expected["cnn14"])
        made = resample(expected["htsat"].astype(np.float32), source_rate=44_100, target_rate=32_000)
        np.testing.assert_allclose(crops["htsat"], made[:9_600], atol=1e-6)
    assert mixed[1, 0][0]["htsat"].dtype == np.float32


def test_audio_that_ends_early_is_named(tmp_path, clips):
    folder = write_clips(tmp_path, [{"num_samples": 50_000, "duration_s": 50_000 / SAMPLE_RATE}])
    short = read_clips([ManifestConfig(manifest=str(folder))], TEMPLATES)
    for is_cached in (False, True):
        with pytest.raises(ManifestError, match=r"test-000.flac: ends before its manifest says \(50000 samples\)"):
            dataset(short, clip_samples={"cnn14": 60_000}, is_cached=is_cached)[0, 0]
