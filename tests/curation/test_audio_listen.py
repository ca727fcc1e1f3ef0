"""listen: the same bytes whatever the size of blocks, bounded memory, a disk that is full."""

from __future__ import annotations

import errno
import hashlib
import itertools
import math
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from curation import audio, decoding
from curation.audio import UnusableAudioError, listen, load_waveform, resample, write_flac
from curation.filters import DropReason
from tests.curation.hearing import hear
from tests.support.audio import write_noise, write_silence, write_tone, write_waveform

RATES = [1234, 8000, 11_024, 16_000, 22_050, 44_099, 48_000, 96_000, 192_000]

# What a build does to a long file, in a process of its own, which says how much memory it took: its VmHWM, as its
# ru_maxrss begins at that of the process that started it.
HEAR = """
import sys
from pathlib import Path
import numpy as np
from curation.audio import listen
with listen(Path(sys.argv[1])) as sound:
    heard = sum(len(block) for block in sound.blocks() if np.abs(block).max() < 1)
    written = sound.write_flac(Path(sys.argv[2]))
memory = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
print(heard, written.size, memory // 1024)
"""


def in_blocks(waveform, size, rate):
    stream = soxr.ResampleStream(rate, 44_100, 1, "float32", "HQ")
    parts = [stream.resample_chunk(waveform[at : at + size]) for at in range(0, len(waveform), size)]
    return np.concatenate([*parts, stream.resample_chunk(np.empty(0, np.float32), last=True)])


@pytest.mark.parametrize("rate", RATES)
def test_streamed_and_one_shot_resampling_agree_to_the_last_bit(rate):
    waveform = np.random.default_rng(0).uniform(-1, 1, 30_000).astype(np.float32)
    expected = resample(waveform, source_rate=rate)
    for size in (777, 4096, 65_536):
        assert np.array_equal(in_blocks(waveform, size, rate), expected)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.ogg", "a.flac"])
def test_the_same_bytes_come_out_whatever_the_size_of_blocks(tmp_path, monkeypatch, name):
    path = write_noise(tmp_path / name, seconds=2, sample_rate=48_000, channels=2)
    results = set()
    for block, in_memory in itertools.product((2**10, 2**14, 2**20), (0, 2**30)):
        monkeypatch.setattr(decoding, "_BLOCK", block)
        monkeypatch.setattr(audio, "_BLOCK", block)
        monkeypatch.setattr(audio, "_IN_MEMORY", in_memory)
        with listen(path) as sound:
            results.add((sound.write_flac(tmp_path / "out.flac"), sound.pcm_sha256, sound.peak_dbfs))
    assert len(results) == 1


def test_listen_is_decode_mean_resample_and_rounding(tmp_path):
    path = write_noise(tmp_path / "a.wav", seconds=1, sample_rate=32_000, channels=3, subtype="FLOAT")
    expected = resample(hear(path).waveform, source_rate=32_000)
    with listen(path) as sound:
        assert (sound.sample_rate, sound.channels, sound.subtype, sound.missing) == (32_000, 3, "FLOAT", 0.0)
        assert sound.num_samples == len(expected) == 44_100
        assert sound.peak_dbfs == pytest.approx(20 * math.log10(np.abs(expected).max()))
        assert np.array_equal(np.concatenate(list(sound.blocks())), expected)
        written = sound.write_flac(tmp_path / "a.flac")
    pcm = np.rint(expected * 32_768).astype(np.int16)
    assert np.array_equal(soundfile.read(tmp_path / "a.flac", dtype="int16")[0], pcm)
    assert written.sha256 == write_flac(tmp_path / "b.flac", pcm)
    amplitudes = np.abs(pcm / 32_768)
    assert written.peak_dbfs == pytest.approx(20 * math.log10(amplitudes.max()))
    assert written.rms_dbfs == pytest.approx(10 * math.log10(np.mean(amplitudes**2)))
    assert (written.size, written.gain_db) == ((tmp_path / "a.flac").stat().st_size, 0.0)
    assert written.sha256 == hashlib.sha256((tmp_path / "a.flac").read_bytes()).hexdigest()
    assert sound.num_samples == 44_100
    with pytest.raises(ValueError, match="only until its listen block ends"):
        sound.write_flac(tmp_path / "c.flac")
    assert not (tmp_path / "c.flac").exists()


@pytest.mark.parametrize("in_memory", [0, 10_000, 2**30])
def test_blocks_can_be_read_again_and_at_the_same_time(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(audio, "_IN_MEMORY", in_memory)
    path = write_noise(tmp_path / "a.wav", seconds=3)
    with listen(path) as sound:
        first = np.concatenate(list(sound.blocks()))
        for one, other in zip(sound.blocks(), sound.blocks(), strict=True):
            assert np.array_equal(one, other)
        assert np.array_equal(np.concatenate(list(sound.blocks())), first)
    assert np.array_equal(first, hear(path).waveform)


def test_24_bits_keep_what_16_bits_round_away(tmp_path):
    pcm = np.random.default_rng(0).integers(-(2**23), 2**23, 44_100).astype(np.int32)
    pcm[:2] = [-(2**23), 2**23 - 1]
    soundfile.write(tmp_path / "a.wav", pcm << 8, 44_100, subtype="PCM_24")
    with listen(tmp_path / "a.wav") as sound:
        written = sound.write_flac(tmp_path / "a.flac", bits=24)
        assert written.size > 1.4 * sound.write_flac(tmp_path / "b.flac").size
    assert soundfile.info(tmp_path / "a.flac").subtype == "PCM_24"
    assert np.array_equal(soundfile.read(tmp_path / "a.flac", dtype="int32")[0] >> 8, pcm)
    assert written.peak_dbfs == 0.0
    assert written.rms_dbfs == pytest.approx(20 * math.log10(np.sqrt(np.mean((pcm / 2**23) ** 2))))


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("peak", [1.00001, 1.2, 40.0, 3e4, 2e9])
def test_sound_above_full_scale_is_scaled_to_fit(tmp_path, peak, bits):
    waveform = peak * np.sin(np.linspace(0, 60, 5000))
    waveform[2500] = -peak
    with listen(write_waveform(tmp_path / "a.wav", waveform, subtype="FLOAT")) as sound:
        written = sound.write_flac(tmp_path / "a.flac", bits=bits)
    stored = soundfile.read(tmp_path / "a.flac")[0]
    largest = 1 - 2.0 ** (1 - bits)
    expected = largest / peak
    assert written.gain_db == pytest.approx(20 * math.log10(expected), abs=1e-6)
    assert np.abs(stored - waveform * expected).max() < 2.0 ** (1 - bits) + 1e-7
    assert np.abs(stored).max() == largest


def test_resampling_that_overshoots_is_scaled_too(tmp_path):
    square = np.sign(np.sin(2 * np.pi * 50 * (np.arange(8000) + 0.5) / 8000)).astype(np.float32)
    with listen(write_waveform(tmp_path / "a.wav", square, sample_rate=8000, subtype="FLOAT")) as sound:
        assert sound.peak_dbfs > 0.5
        assert sound.write_flac(tmp_path / "a.flac").gain_db == pytest.approx(-sound.peak_dbfs, abs=0.001)


def test_an_offset_and_silence_at_the_ends_are_kept(tmp_path):
    waveform = np.concatenate([np.zeros(20_000), np.full(20_000, 0.25), np.zeros(20_000)])
    with listen(write_waveform(tmp_path / "a.wav", waveform)) as sound:
        sound.write_flac(tmp_path / "a.flac")
    assert np.array_equal(soundfile.read(tmp_path / "a.flac")[0], waveform)


@pytest.mark.parametrize(
    ("channels", "downmix"),
    [
        ([1.0], ""),
        ([1.0, 1.0], "mean of 2 channels"),
        ([1.0, 0.0], "mean of 2 channels"),
        ([1.0, -0.9], "mean of 2 channels"),
        ([0.0] * 7 + [1.0], "mean of 8 channels"),
        ([0.0, 0.0], "mean of 2 channels"),
        (
            [1.0, -1.0],
            "mean of 2 channels, which cancel each other (opposite phase): "
            "the loudest peaks at -6.0 dBFS, the mean at -200.0 dBFS",
        ),
        (
            [1.0, -0.98],
            "mean of 2 channels, which cancel each other (opposite phase): "
            "the loudest peaks at -6.0 dBFS, the mean at -46.0 dBFS",
        ),
        (
            [1.0, -1.0, 0.5, -0.5],
            "mean of 4 channels, which cancel each other (opposite phase): "
            "the loudest peaks at -6.0 dBFS, the mean at -200.0 dBFS",
        ),
    ],
)
def test_the_mix_says_so_where_channels_cancel(tmp_path, channels, downmix):
    tone = 0.5 * np.sin(2 * np.pi * 441 * np.arange(22_050) / 44_100)
    with listen(write_waveform(tmp_path / "a.wav", np.outer(tone, channels), subtype="FLOAT")) as sound:
        assert sound.downmix == downmix


@pytest.mark.parametrize("samples", [[1e35, 1e35], [-3e38, 3e38], [np.inf, 0.0], [0.0, np.nan], [-np.inf, np.inf]])
def test_samples_that_cannot_be_added_up_are_refused(tmp_path, samples):
    waveform = np.zeros((300_000, 2))
    waveform[222_222] = samples
    with (
        pytest.raises(UnusableAudioError, match="the first is sample 222222") as caught,
        listen(write_waveform(tmp_path / "a.wav", waveform, subtype="FLOAT")),
    ):
        pass
    assert caught.value.reason is DropReason.NOT_FINITE


def test_load_waveform_of_a_sound_that_resampling_leaves_nothing_of(tmp_path):
    path = write_silence(tmp_path / "a.wav", seconds=1 / 96_000, sample_rate=96_000)
    assert load_waveform(path).shape == (0,)
    with listen(path) as sound:
        assert sound.write_flac(tmp_path / "a.flac").peak_dbfs == -200.0


def test_a_full_disk_is_an_oserror_and_leaves_no_file(tmp_path):
    path = write_noise(tmp_path / "a.wav", seconds=3)
    (tmp_path / "b.flac.part").symlink_to("/dev/full")  # what the file is called until it is whole
    with listen(path) as sound, pytest.raises(OSError, match="No space left") as caught:
        sound.write_flac(tmp_path / "b.flac")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "b.flac"))
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("limit", [100, 5000, 100_000])
def test_a_disk_that_fills_up_leaves_the_file_of_before(tmp_path, capfd, limit):
    path = write_noise(tmp_path / "a.wav", seconds=3)
    (tmp_path / "b.flac").write_bytes(b"of before")
    with listen(path) as sound, file_size_limit(limit), pytest.raises(OSError, match="File too large"):
        sound.write_flac(tmp_path / "b.flac")
    assert (tmp_path / "b.flac").read_bytes() == b"of before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.wav", "b.flac"]
    assert capfd.readouterr().err == ""


def test_a_full_disk_for_temporary_files_is_not_the_files_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "_IN_MEMORY", 0)
    path = write_noise(tmp_path / "a.wav", seconds=3)
    with file_size_limit(100_000), pytest.raises(OSError, match="File too large") as caught, listen(path):
        pass
    assert caught.value.filename == tempfile.gettempdir()


def test_no_temporary_file_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "_IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    path = write_tone(tmp_path / "a.wav", seconds=1)
    with listen(path) as sound:
        sound.write_flac(tmp_path / "a.flac")
        assert list((tmp_path / "tmp").iterdir()) == []  # it has no name even while it is used


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/status is Linux's")
@pytest.mark.parametrize(
    ("seconds", "sample_rate", "channels"),
    [(420, 8000, 1), pytest.param(2700, 96_000, 2, marks=pytest.mark.long)],
    ids=["7 min", "45 min at 96 kHz"],
)
def test_long_sound_takes_little_memory(tmp_path, seconds, sample_rate, channels):
    block = np.random.default_rng(0).uniform(-0.5, 0.5, (sample_rate * 30, channels)).astype(np.float32)
    with soundfile.SoundFile(tmp_path / "a.wav", "w", sample_rate, channels, "PCM_16") as file:
        for _ in range(seconds // 30):
            file.write(block)
    command = [sys.executable, "-c", HEAR, tmp_path / "a.wav", tmp_path / "a.flac"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    heard, size, mebibytes = map(int, run.stdout.split())
    assert heard == seconds * 44_100
    assert size == (tmp_path / "a.flac").stat().st_size
    assert soundfile.info(tmp_path / "a.flac").frames == heard
    assert mebibytes < 400


class file_size_limit:  # noqa: N801, reads as a statement
    """No file grows beyond so many bytes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)
