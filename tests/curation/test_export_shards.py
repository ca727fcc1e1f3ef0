from __future__ import annotations

import hashlib

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import ManifestError
from curation.exports import shards
from curation.exports.resampling import resample_flac
from curation.exports.shards import GROUP_CLIPS, audio_sizes, groups, numbered, read_clips, share_out
from curation.exports.tars import key_of, shuffled, split_folder
from tests.curation.curated import add_clip
from tests.support.audio import write_tone, write_waveform

SIZES = st.lists(st.integers(0, 1000), min_size=1, max_size=60)


@given(sizes=SIZES, shard_bytes=st.integers(1, 5000))
def test_shards_hold_every_clip_once_in_order_and_are_nearly_equal(sizes, shard_bytes):
    parts = share_out(range(len(sizes)), dict(enumerate(sizes)), shard_bytes=shard_bytes)
    assert [row for part in parts for row in part] == list(range(len(sizes)))
    assert all(parts)
    assert all(sum(sizes[row] for row in part) <= shard_bytes + max(sizes) for part in parts)
    assert len(parts) <= max(1, -(-sum(sizes) // shard_bytes))


def test_shards_of_equal_clips_are_equal():
    parts = share_out(range(100), dict.fromkeys(range(100), 10), shard_bytes=300)
    assert [len(part) for part in parts] == [25, 25, 25, 25]  # not 30, 30, 30, 10


@given(sizes=SIZES)
def test_a_group_is_bounded_by_bytes_unless_one_clip_is_larger(sizes):
    shards_bytes, shards.GROUP_BYTES = shards.GROUP_BYTES, 500
    try:
        found = list(groups(range(len(sizes)), dict(enumerate(sizes))))
    finally:
        shards.GROUP_BYTES = shards_bytes
    assert [row for group in found for row in group] == list(range(len(sizes)))
    assert all(len(group) == 1 or sum(sizes[row] for row in group) <= 500 for group in found)


def test_a_group_is_bounded_by_clips():
    found = list(groups(range(250), dict.fromkeys(range(250), 1)))
    assert [len(group) for group in found] == [GROUP_CLIPS, GROUP_CLIPS, 50]


def test_more_shards_than_names_can_count_are_refused():
    with pytest.raises(ManifestError, match="split train: 100000 shards, at most 99999; name a larger --shard-size"):
        numbered([[0]] * 100_000, "train", "{split}-{number:05d}-of-{count:05d}")


@pytest.mark.parametrize(
    ("clip_id", "key"),
    [("soundbible-1", "soundbible-1"), ("clotho-a.b.wav-1", "clotho-a%2Eb%2Ewav-1"), ("x-..", "x-%2E%2E")],
)
def test_a_key_has_no_dot(clip_id, key):
    assert key_of(clip_id) == key


def test_the_validation_split_is_called_as_laion_clap_looks_for_it():
    assert [split_folder(split, ["train", "val", "test"]) for split in ("train", "val", "test")] == [
        "train",
        "valid",
        "test",
    ]
    assert split_folder("val", ["val", "valid"]) == "val"


def test_the_order_of_clips_does_not_change_when_others_are_added():
    names = [f"a-{number}" for number in range(50)]
    few = [names[row] for row in shuffled(range(10), names)]
    many = [names[row] for row in shuffled(range(50), names)]
    assert [name for name in many if name in few] == few != sorted(few)


def test_audio_that_is_not_there_is_counted_and_named(tmp_path):
    add_clip(tmp_path, 1)
    paths = ["audio/gone.flac", "audio/soundbible-1.flac", "audio/soundbible-1.flac/x.flac"]
    with pytest.raises(ManifestError, match=r"gone\.flac: no such file; build it again .*\(and 1 more clips\)"):
        audio_sizes(tmp_path, paths)
    assert audio_sizes(tmp_path, paths[1:2]) == [(tmp_path / paths[1]).stat().st_size]


def read(folder, made, **options):
    options = {"template": "{title}", "sample_rate": 44_100, "silent": frozenset()} | options
    return read_clips(folder, [made], **options)[0]


def test_a_clip_is_read_as_it_is_and_checked(tmp_path):
    made = add_clip(tmp_path, 1)
    file = tmp_path / made["audio_path"]
    clip = read(tmp_path, made)
    assert (clip.audio, clip.texts, clip.row) == (file.read_bytes(), ["Bell"], made)
    assert read(tmp_path, made, silent=frozenset({"soundbible-1"})).audio is None
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ManifestError, match=r"soundbible-1\.flac: not the file of the manifest \(sha256 [0-9a-f]{64}"):
        read(tmp_path, made)
    file.unlink()
    with pytest.raises(ManifestError, match=r"soundbible-1\.flac: gone since the export began"):
        read(tmp_path, made)


def test_a_clip_at_another_rate_says_so_in_its_row(tmp_path):
    made = add_clip(tmp_path, 1, seconds=0.5)
    clip = read(tmp_path, made, sample_rate=48_000)
    assert clip.row["sample_rate"] == 48_000
    assert clip.row["num_samples"] == 24_000
    assert clip.row["duration_s"] == 0.5
    assert clip.row["sha256"] == hashlib.sha256(clip.audio).hexdigest() != made["sha256"]
    assert clip.row["modifications"] == [*made["modifications"], "resampled: 44100 to 48000 Hz"]
    assert clip.row["rms_dbfs"] <= clip.row["peak_dbfs"] <= 0


def test_a_file_that_is_no_flac_is_named_when_it_is_resampled(tmp_path):
    made = add_clip(tmp_path, 1)
    file = tmp_path / made["audio_path"]
    file.write_bytes(b"<!DOCTYPE html>")
    made["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(ManifestError, match=r"soundbible-1\.flac: cannot be decoded"):
        read(tmp_path, made, sample_rate=48_000)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("seconds", [0.001, 1.0, 13.0])  # under, and twice over, one block of soxr's and of ours
def test_resampling_keeps_pitch_length_and_bits(tmp_path, subtype, seconds):
    file = write_tone(tmp_path / "a.flac", seconds=seconds, freq=1000.0, subtype=subtype)
    found = resample_flac(file.read_bytes(), sample_rate=48_000)
    (tmp_path / "b.flac").write_bytes(found.content)
    info = soundfile.info(tmp_path / "b.flac")
    assert (info.samplerate, info.channels, info.subtype) == (48_000, 1, subtype)
    assert info.frames == found.num_samples == pytest.approx(seconds * 48_000, abs=1)
    if seconds >= 1:
        waveform, _ = soundfile.read(tmp_path / "b.flac")
        spectrum = np.abs(np.fft.rfft(waveform[:48_000]))
        assert spectrum.argmax() == 1000
        assert found.peak_dbfs == pytest.approx(20 * np.log10(0.5), abs=0.1)
        assert found.gain_db == 0.0


@pytest.mark.parametrize("num_samples", range(1, 8))
@pytest.mark.parametrize("sample_rate", [8_000, 48_000])
def test_a_clip_of_a_few_samples_stays_a_clip(tmp_path, num_samples, sample_rate):
    file = write_waveform(tmp_path / "a.flac", np.full(num_samples, 0.5))
    found = resample_flac(file.read_bytes(), sample_rate=sample_rate)
    (tmp_path / "b.flac").write_bytes(found.content)
    assert soundfile.info(tmp_path / "b.flac").frames == found.num_samples >= 1
    assert -60 < found.rms_dbfs <= found.peak_dbfs <= 0


def test_sound_that_resampling_lifts_above_full_scale_is_scaled(tmp_path):
    square = np.sign(np.sin(2 * np.pi * 1000 * np.arange(44_100) / 44_100 + 0.1)) * 32_767 / 32_768
    file = write_waveform(tmp_path / "a.flac", square)
    found = resample_flac(file.read_bytes(), sample_rate=48_000)
    (tmp_path / "b.flac").write_bytes(found.content)
    waveform, _ = soundfile.read(tmp_path / "b.flac")
    assert found.gain_db < -0.5
    whole = soxr.resample(soundfile.read(file, dtype="float32")[0], 44_100, 48_000, "HQ")
    assert np.abs(waveform - whole * 10 ** (found.gain_db / 20)).max() < 1e-4  # scaled, not clipped
