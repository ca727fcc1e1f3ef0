"""Batches: draws decided by the visit alone, sound as in the files, memory used again only when nobody has it."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from curation.audio import read_clip, resample
from curation.errors import AudioError, ManifestError
from curation.flac import write_blocks
from tests.training.clips import SAMPLE_RATE, tone, write_clips
from training.batchmemory import BatchMemory
from training.config import ManifestConfig
from training.data import Clip, make_pairs, read_clips
from training.loader import make_loader
from training.loading import Batch, PairDataset
from training.pcmcache import ensure_cache
from training.sampling import EpochSampler, Visit
from training.tokenizer import pad

TEMPLATES = ("{title}. {description}", "{title}")
CPU = torch.device("cpu")
SIZES = {"cnn14": SAMPLE_RATE // 2, "htsat": SAMPLE_RATE // 4}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    rows = [
        {"waveform": tone(300, 0.2)},
        {"waveform": tone(400, 1.5)},
        {"waveform": tone(500, 0.6), "captions": ["first words", "second words"]},
        {"waveform": tone(600, 0.5)},
    ]
    return clips_of(write_clips(tmp_path_factory.mktemp("manifest"), rows))


def clips_of(manifest) -> list[Clip]:
    return read_clips([ManifestConfig(manifest=str(manifest))], TEMPLATES)


def dataset(clips, *, captions="each", clip_samples=None, **settings) -> PairDataset:
    pairs = make_pairs(clips, captions)
    ids = {caption: list(range(5, 5 + len(caption))) for pair in pairs for caption in pair.captions}
    return PairDataset(clips, pairs, ids, clip_samples=clip_samples or SIZES, **({"seed": 7} | settings))


def visited(data: PairDataset, *visits: Visit) -> Batch:
    return data.read(visits, pad_id=1).to(CPU)


def every(data: PairDataset, epoch: int = 0) -> list[Visit]:
    return [Visit(epoch, pair) for pair in range(len(data))]


def same(one: Batch, other: Batch) -> bool:
    return (
        one.waveforms.keys() == other.waveforms.keys()
        and all(torch.equal(tensor, other.waveforms[name]) for name, tensor in one.waveforms.items())
        and torch.equal(one.input_ids, other.input_ids)
        and torch.equal(one.attention_mask, other.attention_mask)
        and torch.equal(one.keys, other.keys)
    )


def loader_of(data: PairDataset, *, batch_size: int = 2, workers: int = 0, **options):
    sampler = EpochSampler(data.pairs, data.clips, batch_size=batch_size, seed=3, **options)
    return sampler, make_loader(data, sampler, pad_id=1, workers=workers)


def test_a_visit_depends_on_the_seed_and_itself_alone(clips, tmp_path):
    cache = ensure_cache(tmp_path, clips, workers=0, say=lambda _: None)
    data = dataset(clips, gain_db=6, shift=True)
    whole = visited(data, *every(data, 2))
    for other in (
        data,
        dataset(clips, gain_db=6, shift=True, is_cached=True),
        dataset(clips, gain_db=6, shift=True, cache=cache),
    ):
        for pair in (3, 0, 1):
            alone = visited(other, Visit(2, pair))
            assert all(torch.equal(alone.waveforms[name][0], whole.waveforms[name][pair]) for name in SIZES)
            assert torch.equal(alone.keys[0], whole.keys[pair])
    for visit in (Visit(3, 1), Visit(2, 1, 1)):
        assert not torch.equal(visited(data, visit).waveforms["cnn14"][0], whole.waveforms["cnn14"][1])
    seeds = [visited(dataset(clips, seed=seed), Visit(0, 1)).waveforms["cnn14"] for seed in (7, 2**32 + 7, 2**63 - 1)]
    assert not any(torch.equal(seeds[0], waveform) for waveform in seeds[1:])
    assert {int(key) for epoch in range(9) for key in visited(data, Visit(epoch, 0)).keys[:, 1]} == {0, 1}


@pytest.mark.parametrize("is_coupled", [True, False])
def test_sound_is_what_the_file_has_in_float32(clips, is_coupled):
    data = dataset(clips, is_coupled=is_coupled)
    whole = read_clip(clips[1].path)
    starts = []
    for epoch in range(12):
        crops = {name: rows[0].numpy() for name, rows in visited(data, Visit(epoch, 1)).waveforms.items()}
        assert {name: len(crop) for name, crop in crops.items()} == SIZES
        assert {crop.dtype for crop in crops.values()} == {np.dtype(np.float32)}
        starts.append([places(crops[name], whole)[0] for name in SIZES])
    assert len({first for first, _ in starts}) > 6
    assert len({second - first for first, second in starts}) > 6
    is_inside = [first <= second <= first + SIZES["cnn14"] - SIZES["htsat"] for first, second in starts]
    assert all(is_inside) == is_coupled


def places(crop: np.ndarray, whole: np.ndarray) -> list[int]:
    near = np.flatnonzero(whole == crop[0])
    return [int(start) for start in near if np.array_equal(whole[start : start + len(crop)], crop)]


def test_short_clips_go_round(clips):
    short = read_clip(clips[0].path)
    crop = visited(dataset(clips), Visit(0, 0)).waveforms["cnn14"][0].numpy()
    assert np.array_equal(crop, np.concatenate([short, short, short])[: len(crop)])
    shifted = visited(dataset(clips, shift=True), Visit(0, 0)).waveforms["cnn14"][0].numpy()
    assert not np.array_equal(shifted, crop)
    assert len(places(shifted, np.concatenate([short] * 4))) == 1
    exact = visited(dataset(clips), Visit(0, 4)).waveforms["cnn14"][0].numpy()
    assert np.array_equal(exact, read_clip(clips[3].path))


def test_gain_is_drawn_within_its_range_and_exact(clips):
    plain, loud = dataset(clips), dataset(clips, gain_db=6)
    gains = []
    for epoch in range(20):
        a, b = (visited(data, Visit(epoch, 0)).waveforms["cnn14"][0].numpy() for data in (plain, loud))
        gain = loud.read([Visit(epoch, 0)], pad_id=1).gains.numpy()[0]
        assert np.array_equal(b, a * gain)
        gains.append(20 * np.log10(gain))
    assert -6 <= min(gains) < -2
    assert 2 < max(gains) <= 6
    assert plain.read([Visit(0, 0)], pad_id=1).gains is None


def test_captions_are_padded_and_numbered(clips):
    data = dataset(clips)
    batch = visited(data, *every(data))
    captions = sorted({caption for pair in data.pairs for caption in pair.captions})
    ids = [list(range(5, 5 + len(captions[number]))) for number in batch.keys[:, 1].tolist()]
    expected, mask = pad(ids, pad_id=1)
    assert torch.equal(batch.input_ids, expected)
    assert torch.equal(batch.attention_mask, mask)
    assert batch.keys[:, 0].tolist() == [pair.clip for pair in data.pairs]
    assert [captions[number] for number in batch.keys[2:4, 1].tolist()] == ["first words", "second words"]


def test_a_bucket_bounds_what_encoders_read(clips):
    data = dataset(clips)
    crops = visited(data, Visit(0, 1, 0, 0.3), Visit(0, 0, 0, 0.3)).waveforms
    assert {name: tuple(crop.shape) for name, crop in crops.items()} == {"cnn14": (2, 13_230), "htsat": (2, 11_025)}
    crops = visited(data, Visit(0, 1, 0, 0.1)).waveforms
    assert {name: tuple(crop.shape) for name, crop in crops.items()} == {"cnn14": (1, 4410), "htsat": (1, 4410)}
    assert crops["cnn14"] is crops["htsat"]


def test_an_encoder_of_another_rate_reads_the_same_crop_resampled(clips):
    sizes = {"cnn14": 17_640, "htsat": 9_600, "other": 9_600}
    plain = dataset(clips, clip_samples={"cnn14": 17_640, "htsat": 13_230, "other": 13_230})
    mixed = dataset(clips, clip_samples=sizes, sample_rates={"htsat": 32_000, "other": 32_000})
    expected, crops = visited(plain, *every(plain, 1)).waveforms, visited(mixed, *every(mixed, 1)).waveforms
    assert {name: tuple(crop.shape) for name, crop in crops.items()} == {
        name: (5, size) for name, size in sizes.items()
    }
    assert torch.equal(crops["cnn14"], expected["cnn14"])
    for name in ("htsat", "other"):
        for row, crop in zip(expected[name].numpy(), crops[name].numpy(), strict=True):
            made = resample(row, source_rate=44_100, target_rate=32_000)
            np.testing.assert_allclose(crop, made[:9_600], atol=1e-6)
    equal = dataset(
        clips, clip_samples={"cnn14": 9_600, "htsat": 9_600}, sample_rates={"cnn14": 32_000, "htsat": 32_000}
    )
    shared = visited(equal, Visit(0, 1)).waveforms
    assert shared["cnn14"] is shared["htsat"]


def test_24_bits_are_rounded_to_16_however_they_are_read(tmp_path):
    fine = (np.arange(-5000, 5000) / 2**23 * 100).astype(np.float32)
    folder = write_clips(tmp_path, [{"waveform": fine}])
    file = folder / "audio" / "test-000.flac"
    written = write_blocks(file, [fine], highest=float(fine.max()), lowest=float(fine.min()), bits=24)
    (clip,) = clips_of(folder)
    clip = Clip(**{name: getattr(clip, name) for name in Clip.__slots__} | {"sha256": written.sha256})
    expected = np.rint(read_clip(file) * 32_768) / 32_768
    assert not np.array_equal(expected, read_clip(file))
    cache = ensure_cache(tmp_path / "cache", [clip], workers=0, say=lambda _: None)
    for settings in ({}, {"is_cached": True}, {"cache": cache}):
        data = dataset([clip], clip_samples={"cnn14": len(fine)}, **settings)
        assert np.array_equal(visited(data, Visit(0, 0)).waveforms["cnn14"][0].numpy(), expected.astype(np.float32))


@pytest.mark.parametrize("settings", [{}, {"is_coupled": False, "gain_db": 3}, {"sample_rates": {"htsat": 32_000}}])
def test_batches_are_the_same_with_reading_processes(clips, settings):
    data = dataset(clips, **settings)
    loaders = {workers: loader_of(data, workers=workers, buckets_s=(0.7,)) for workers in (0, 2)}
    for epoch, first in ((0, 0), (1, 0), (1, 2), (4, 1)):
        batches = {}
        for workers, (sampler, loader) in loaders.items():
            sampler.epoch, sampler.first_batch = epoch, first
            batches[workers] = [batch.to(CPU) for batch in loader]
        expected = [visited(data, *visits) for visits in loaders[0][0]]
        assert len(expected) == loaders[0][0].steps_per_epoch - first
        for workers in (0, 2):
            assert all(same(*both) for both in zip(batches[workers], expected, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_whoever_keeps_batches_keeps_their_sound(clips, workers):
    data = dataset(clips)
    sampler, loader = loader_of(data, workers=workers)
    kept = []
    for epoch in range(4):  # more batches than there are places
        sampler.epoch = epoch
        kept += list(loader)
    visits = []
    for epoch in range(4):
        sampler.epoch = epoch
        visits += list(sampler)
    assert len(kept) == 12
    for batch, expected in zip(kept, visits, strict=True):
        assert same(batch.to(CPU), visited(data, *expected))
    del kept, batch
    (first, *_) = loader
    assert same(first.to(CPU), visited(data, *visits[-3]))


def test_memory_is_free_when_no_tensor_uses_it():
    memory = BatchMemory(workers=2, places=2, size=1000)
    place = memory.take(1, is_lent=False)
    numbers = place.new(3, 20, torch.int16).copy_(torch.arange(60).view(3, 20))
    values = place.new(2, 5, torch.float32).fill_(0.5)
    assert memory.take(1, is_lent=False) is not None
    assert memory.take(1, is_lent=False) is None
    assert memory.take(0, is_lent=False).number == 0
    with pytest.raises(ValueError, match="do not fit"):
        place.new(1, 500, torch.int16)
    sent = pickle.loads(pickle.dumps(place.sent({"a": numbers, "b": values, "c": numbers})))
    received = sent.received()
    assert received["a"] is received["c"]
    assert torch.equal(received["a"], numbers)
    assert torch.equal(received["b"], values)
    row = received["a"][1]
    del received
    assert memory.take(1, is_lent=False) is None  # a row is still somebody's
    assert row.tolist() == list(range(20, 40))
    del row
    assert memory.take(1, is_lent=False).number == place.number


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_while_training_is_named(tmp_path, workers):
    broken = clips_of(write_clips(tmp_path, [{"waveform": tone(300, 2.0)} for _ in range(4)]))
    data = dataset(broken)
    _, loader = loader_of(data, workers=workers)
    assert len(list(loader)) == 2
    broken[2].path.write_bytes(broken[2].path.read_bytes()[:2000])
    with pytest.raises((AudioError, ManifestError), match=r"test-002.flac: [^\n]*$"):
        list(loader)


def test_pinned_batches_are_the_same(clips, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)  # which needs a GPU
    for settings in ({"gain_db": 3}, {"clip_samples": dict.fromkeys(SIZES, 5000)}):
        data = dataset(clips, **settings)
        batch = data.read(every(data), pad_id=1)
        pinned = batch.pin_memory()
        assert same(pinned.to(CPU), batch.to(CPU))
        assert not {id(tensor) for tensor in batch.waveforms.values()} & {id(t) for t in pinned.waveforms.values()}
        assert len({id(tensor) for tensor in pinned.waveforms.values()}) == 1


def test_audio_that_ends_early_is_named(tmp_path):
    folder = write_clips(tmp_path, [{"num_samples": 50_000, "duration_s": 50_000 / SAMPLE_RATE}])
    short = clips_of(folder)
    message = r"test-000.flac: ends before its manifest says \(50000 samples\)"
    for is_cached in (False, True):
        for size in (60_000, 20_000):
            data = dataset(short, clip_samples={"cnn14": size}, is_cached=is_cached)
            with pytest.raises(ManifestError, match=message):
                visited(data, *(Visit(epoch, 0) for epoch in range(9)))
    with pytest.raises(ManifestError, match=message):
        ensure_cache(tmp_path / "cache", short, workers=0, say=lambda _: None)


def test_python_ends_though_somebody_still_has_a_loader_with_workers(tmp_path):
    write_clips(tmp_path, [{} for _ in range(4)])
    code = (
        "from pathlib import Path\n"
        "from training.config import ManifestConfig\n"
        "from training.data import make_pairs, read_clips\n"
        "from training.loader import make_loader\n"
        "from training.loading import PairDataset\n"
        "from training.sampling import EpochSampler\n"
        f"clips = read_clips([ManifestConfig(manifest={str(tmp_path)!r})], ['{{title}}'])\n"
        "pairs = make_pairs(clips, 'each')\n"
        "ids = {caption: [0, 2] for pair in pairs for caption in pair.captions}\n"
        "dataset = PairDataset(clips, pairs, ids, clip_samples={'cnn14': 4410}, seed=0)\n"
        "loader = make_loader(dataset, EpochSampler(pairs, clips, batch_size=2, seed=0), pad_id=1, workers=2)\n"
        "print(len(next(iter(loader)).keys))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "2\n"
