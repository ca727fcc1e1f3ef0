from __future__ import annotations

import hashlib
import math
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

from curation.audio import (
    UnusableAudioError,
    decoder_notes_off,
    listen,
    load_waveform,
    read_clip,
    resample,
    to_pcm,
    write_flac,
)
from curation.errors import AudioError
from curation.filters import DropReason
from tests.curation.hearing import hear
from tests.support.audio import patch, truncate, write_html, write_noise, write_silence, write_tone, write_waveform


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_U8", 1 / 127),
        ("a.wav", "PCM_16", 1 / 32_000),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "PCM_32", 1e-6),
        ("a.wav", "FLOAT", 1e-7),
        ("a.wav", "DOUBLE", 1e-7),
        ("a.wav", "ULAW", 0.02),
        ("a.wav", "IMA_ADPCM", 0.05),
        ("a.rf64", "PCM_16", 1 / 32_000),
        ("a.aiff", "PCM_16", 1 / 32_000),
        ("a.flac", "PCM_16", 1 / 32_000),
        ("a.ogg", "VORBIS", 0.1),
        ("a.mp3", "MPEG_LAYER_III", 0.1),
    ],
)
def test_decode_gives_the_samples_of_every_format(tmp_path, name, subtype, tolerance):
    path = write_tone(tmp_path / name, seconds=0.3, freq=1000, subtype=subtype)
    heard = hear(path)
    assert (heard.sound.sample_rate, heard.sound.channels, heard.sound.subtype) == (44_100, 1, subtype)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(13_230) / 44_100)
    assert heard.waveform.dtype == np.float32
    assert np.abs(heard.waveform[2000:11_000] - expected[2000:11_000]).max() < tolerance


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_decode_mixes_channels_by_their_mean(tmp_path, channels):
    levels = np.arange(1, channels + 1) / 16
    path = write_waveform(tmp_path / "a.wav", np.tile(levels, (500, 1)), subtype="FLOAT")
    heard = hear(path)
    assert heard.sound.channels == channels
    assert heard.waveform == pytest.approx(levels.mean())


def test_decode_reads_by_content_not_by_name(tmp_path):
    path = write_tone(tmp_path / "a.mp3").rename(tmp_path / "b.wav")
    assert hear(path).sound.subtype == "MPEG_LAYER_III"


def test_decode_hashes_samples_not_containers(tmp_path):
    pcm = np.random.default_rng(0).integers(-9000, 9000, (44_100, 2)).astype(np.int16)
    hashes = set()
    for name in ("a.wav", "a.flac", "a.aiff", "a.au", "a.caf", "a.w64"):
        soundfile.write(tmp_path / name, pcm, 44_100, subtype="PCM_16")
        hashes.add(hear(tmp_path / name).sound.pcm_sha256)
    assert len(hashes) == 1
    soundfile.write(tmp_path / "rate.wav", pcm, 48_000)
    soundfile.write(tmp_path / "other.wav", pcm[::-1], 44_100)
    soundfile.write(tmp_path / "mono.wav", pcm.reshape(-1), 44_100)
    others = {hear(tmp_path / name).sound.pcm_sha256 for name in ("rate.wav", "other.wav", "mono.wav")}
    assert len(hashes | others) == 4


def test_the_pcm_hash_is_what_its_docstring_says(tmp_path):
    path = write_noise(tmp_path / "a.wav", channels=2, seconds=2)
    samples, rate = soundfile.read(path, dtype="float32")
    assert (
        hear(path).sound.pcm_sha256
        == hashlib.sha256(struct.pack("<II", rate, 2) + samples.astype("<f4").tobytes()).hexdigest()
    )


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        (b"", DropReason.EMPTY_AUDIO, "empty: 0 bytes"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            DropReason.NOT_AUDIO,
            "a Git LFS pointer; .*'version https://'",
        ),
        (b'{"error": "not found"}', DropReason.NOT_AUDIO, 'the first bytes are \'{"error": "not f\''),
        ("déjà vu".encode(), DropReason.NOT_AUDIO, "not audio"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), DropReason.NOT_AUDIO, "first bytes are '.x89PNG"),
        (b"PK\x03\x04" + bytes(60), DropReason.NOT_AUDIO, "not audio"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", DropReason.UNDECODABLE, "undecodable: "),
        (b"\xff\xfb\x90" + bytes(300), DropReason.UNDECODABLE, "undecodable: "),
        (b"fLaC" + bytes(300), DropReason.UNDECODABLE, "undecodable"),
    ],
)
def test_decode_says_what_a_file_is_instead(tmp_path, content, reason, message):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with decoder_notes_off(), pytest.raises(UnusableAudioError, match=rf"a\.wav: .*{message}") as caught:
        hear(path)
    assert caught.value.reason is reason


def test_decode_names_the_first_bytes_of_a_web_page(tmp_path):
    path = write_html(tmp_path / "a.wav")
    with pytest.raises(AudioError, match=r"a\.wav: not audio: the first bytes are '<!DOCTYPE html>"):
        hear(path)


def test_a_file_without_samples_is_empty(tmp_path):
    with pytest.raises(UnusableAudioError, match="no samples") as caught:
        hear(write_silence(tmp_path / "a.wav", seconds=0))
    assert caught.value.reason is DropReason.EMPTY_AUDIO


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.flac", "a.ogg", "a.au", "a.w64", "a.rf64"])
def test_a_file_cut_in_half_is_truncated(tmp_path, name):
    path = truncate(write_noise(tmp_path / name, seconds=2))
    with pytest.raises(UnusableAudioError, match="truncated: ") as caught:
        hear(path)
    assert caught.value.reason is DropReason.TRUNCATED


def test_a_wav_that_lacks_a_hair_is_kept_and_says_so(tmp_path):
    path = truncate(write_noise(tmp_path / "a.wav", seconds=1), keep=0.995)
    heard = hear(path)
    assert heard.sound.missing == pytest.approx(0.005, abs=0.0005)
    assert len(heard.waveform) == pytest.approx(0.995 * 44_100, abs=50)


def test_a_wav_written_to_a_pipe_is_not_truncated(tmp_path):
    path = write_noise(tmp_path / "a.wav", seconds=0.5)
    offset = path.read_bytes().index(b"data") + 4
    patch(patch(path, offset, "<I", 0xFFFFFFFF), 4, "<I", 0xFFFFFFFF)
    assert len(hear(path).waveform) == 22_050


def test_a_header_that_declares_hours_costs_no_memory(tmp_path):
    path = write_tone(tmp_path / "a.mp3", seconds=0.5)
    content = bytearray(path.read_bytes())
    at = max(content.find(b"Xing"), content.find(b"Info"))
    assert at > 0
    struct.pack_into(">I", content, at + 8, 100_000)  # frames of 1152 samples: 43 minutes
    path.write_bytes(content)
    with decoder_notes_off():
        claimed = soundfile.info(path).frames
        heard = hear(path)
    assert claimed > 50_000_000
    assert len(heard.waveform) == pytest.approx(22_050, abs=3000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path, value):
    waveform = np.zeros((1000, 2))
    waveform[700, 1] = value
    with pytest.raises(
        UnusableAudioError, match="NaN, infinite or absurdly large samples, the first is sample 700"
    ) as caught:
        hear(write_waveform(tmp_path / "a.wav", waveform, subtype="FLOAT"))
    assert caught.value.reason is DropReason.NOT_FINITE


def test_decoding_stops_at_the_longest_duration(tmp_path):
    path = write_silence(tmp_path / "a.wav", seconds=3)
    assert len(hear(path, max_duration_s=3).waveform) == 3 * 44_100
    with pytest.raises(UnusableAudioError, match=r"too long: more than 2\.5 s") as caught:
        hear(path, max_duration_s=2.5)
    assert caught.value.reason is DropReason.TOO_LONG


@pytest.mark.parametrize("rate", [1234, 8000, 11_024, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_resampling_keeps_duration_and_tone(rate):
    waveform = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    resampled = resample(waveform, source_rate=rate)
    assert abs(len(resampled) - 44_100) <= 1
    expected = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    middle = slice(8000, 36_000)
    assert np.abs(resampled[middle] - expected[middle]).max() < 1e-3


def test_resampling_removes_what_the_target_rate_cannot_hold():
    above = np.sin(2 * np.pi * 23_500 * np.arange(48_000) / 48_000).astype(np.float32)
    assert np.abs(resample(above, source_rate=48_000)[4000:-4000]).max() < 10 ** (-100 / 20)


def test_16_bit_sound_comes_through_bit_for_bit(tmp_path):
    pcm = np.random.default_rng(0).integers(-32_768, 32_768, 44_100).astype(np.int16)
    pcm[:4] = [-32_768, 32_767, 0, -1]
    soundfile.write(tmp_path / "a.wav", pcm, 44_100)
    kept, gain_db = to_pcm(hear(tmp_path / "a.wav").waveform)
    write_flac(tmp_path / "b.flac", kept)
    assert gain_db == 0.0
    assert np.array_equal(soundfile.read(tmp_path / "b.flac", dtype="int16")[0], pcm)
    assert np.array_equal(read_clip(tmp_path / "b.flac"), pcm.astype(np.float32) / 32_768)


@pytest.mark.parametrize("peak", [1.0, 1.2, 40.0])
def test_sound_above_full_scale_is_scaled_not_clipped(peak):
    waveform = (peak * np.sin(np.linspace(0, 60, 5000))).astype(np.float32)
    pcm, gain_db = to_pcm(waveform)
    assert np.abs(pcm.astype(int)).max() == 32_767
    assert gain_db == pytest.approx(20 * math.log10(32_767 / 32_768 / np.abs(waveform).max()))
    assert np.corrcoef(pcm, waveform)[0, 1] > 0.9999999


@pytest.mark.parametrize(
    ("samples", "peak_dbfs", "rms_dbfs"),
    [([0.5, -0.5] * 100, -6.0206, -6.0206), ([-1.0, 0.0], 0.0, -3.0103), ([0.0] * 5, -200.0, -200.0)],
)
def test_levels_are_relative_to_full_scale(tmp_path, samples, peak_dbfs, rms_dbfs):
    with listen(write_waveform(tmp_path / "a.wav", np.array(samples))) as sound:
        written = sound.write_flac(tmp_path / "a.flac")
    assert (written.peak_dbfs, written.rms_dbfs) == pytest.approx((peak_dbfs, rms_dbfs), abs=1e-4)


def test_flac_bytes_are_the_same_every_time(tmp_path):
    pcm = np.arange(-5000, 5000, dtype=np.int16)
    digests = {write_flac(tmp_path / name, pcm) for name in ("a.flac", "b.flac")}
    assert digests == {hashlib.sha256((tmp_path / "a.flac").read_bytes()).hexdigest()}


def test_read_clip_reads_a_part(tmp_path):
    pcm = np.arange(10_000, dtype=np.int16)
    write_flac(tmp_path / "a.flac", pcm)
    assert np.array_equal(read_clip(tmp_path / "a.flac", start=9000, num_samples=500) * 32_768, pcm[9000:9500])
    assert len(read_clip(tmp_path / "a.flac", start=9900, num_samples=500)) == 100
    assert len(read_clip(tmp_path / "a.flac", start=10_000)) == 0
    with pytest.raises(ValueError, match="start must be between 0 and the clip's 10000 samples, got 10001"):
        read_clip(tmp_path / "a.flac", start=10_001)


def test_read_clip_refuses_what_is_no_clip(tmp_path):
    with pytest.raises(AudioError, match=r"a\.wav: 48000 Hz, 2 channels; a clip has 44100 Hz and 1"):
        read_clip(write_tone(tmp_path / "a.wav", sample_rate=48_000, channels=2))
    with pytest.raises(AudioError, match=r"none\.flac: no such file"):
        read_clip(tmp_path / "none.flac")


def test_load_waveform_takes_any_file(tmp_path):
    path = write_tone(tmp_path / "a.ogg", seconds=1, sample_rate=48_000, channels=2)
    waveform = load_waveform(path)
    assert (waveform.dtype, waveform.shape) == (np.float32, (44_100,))
    assert load_waveform(path, sample_rate=32_000).shape == (32_000,)
    loud = write_waveform(tmp_path / "b.wav", 3 * np.ones(100), subtype="FLOAT")
    assert np.abs(load_waveform(loud)).max() == pytest.approx(1)


@pytest.mark.parametrize("make", [lambda path: None, write_html, lambda path: path.mkdir()])
def test_load_waveform_names_a_file_that_gives_no_sound(tmp_path, make):
    make(tmp_path / "a.wav")
    with pytest.raises(AudioError, match=r"a\.wav: "):
        load_waveform(tmp_path / "a.wav")


def test_the_decoders_notes_stay_out_of_stderr(tmp_path, capfd):
    (tmp_path / "a.mp3").write_bytes(bytes(100) + b"\xff\xfb\x90" + bytes(5000))
    with decoder_notes_off(), pytest.raises(AudioError):
        hear(tmp_path / "a.mp3")
    assert capfd.readouterr().err == ""


def test_stderr_is_away_until_the_last_thread_is_done_and_then_comes_back(tmp_path, capfd):
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def first():
        with decoder_notes_off():
            first_in.set()
            assert second_in.wait(20)
        first_out.set()

    def second():
        assert first_in.wait(20)
        with decoder_notes_off():
            second_in.set()
            assert first_out.wait(20)
            os.write(2, b"a note of the decoder\n")

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(first), threads.submit(second)]:
            done.result()
    os.write(2, b"back\n")
    assert capfd.readouterr().err == "back\n"


def test_many_threads_hear_odd_files_and_leave_stderr_as_it_was(tmp_path, capfd):
    (tmp_path / "a.mp3").write_bytes(bytes(100) + b"\xff\xfb\x90" + bytes(5000))

    def try_it(_):
        with decoder_notes_off(), pytest.raises(AudioError):
            hear(tmp_path / "a.mp3")

    def lowest_free():
        os.close(descriptor := os.dup(2))
        return descriptor

    before = lowest_free()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(try_it, range(200)))
    os.write(2, b"back\n")
    assert capfd.readouterr().err == "back\n"
    assert lowest_free() == before
