"""What only PyAV decodes, and what becomes of it where PyAV is not installed."""

from __future__ import annotations

import os

import numpy as np
import pytest

from curation import decoding, headers
from curation.audio import AUDIO_VERSION, UnusableAudioError, listen, load_waveform
from curation.errors import AudioError
from tests.curation.hearing import hear
from tests.support.audio import truncate, write_riff, write_tone, write_with_ffmpeg

av = pytest.importorskip("av", reason="PyAV is not installed (extra av)")

FIRST = {"movflags": "faststart"}  # the table of contents before the sound, as on the web
FORMATS = [
    ("a.m4a", "aac", {}),
    ("a.m4a", "alac", FIRST),
    ("a.aac", "aac", {}),
    ("a.webm", "libopus", {}),
    ("a.mka", "flac", {}),
    ("a.ac3", "ac3", {}),
    ("a.wv", "wavpack", {}),
    ("a.wav", "adpcm_yamaha", {}),
    ("a.wav", "pcm_s64le", {}),
    ("a.caf", "adpcm_ima_qt", {}),
]
LOSSLESS = {"alac": 2**-15, "flac": 2**-15, "wavpack": 2**-8, "pcm_s64le": 2**-23}


def failure_of(path):
    with pytest.raises(UnusableAudioError) as caught, listen(path):
        pass
    return str(caught.value.reason), caught.value.problem


@pytest.mark.parametrize(("name", "codec", "options"), FORMATS, ids=[f"{row[1]} in {row[0]}" for row in FORMATS])
@pytest.mark.parametrize("channels", [1, 2])
def test_pyav_decodes_what_libsndfile_cannot(tmp_path, name, codec, options, channels):
    path = tmp_path / name
    noise = write_with_ffmpeg(path, codec, channels=channels, sample_rate=48_000, options=options)
    heard = hear(path)
    assert (heard.sound.sample_rate, heard.sound.channels) == (48_000, channels)
    assert heard.sound.subtype.lower().removesuffix("float") == codec.removeprefix("lib")
    assert len(heard.waveform) == pytest.approx(48_000, abs=3000)
    if codec in LOSSLESS:
        assert np.abs(heard.waveform[:48_000] - noise.mean(axis=1)).max() <= LOSSLESS[codec]
    else:
        assert np.std(heard.waveform) == pytest.approx(np.std(noise.mean(axis=1)), rel=0.25)


@pytest.mark.parametrize(("name", "codec", "options"), FORMATS, ids=[f"{row[1]} in {row[0]}" for row in FORMATS])
def test_without_pyav_the_reason_names_the_extra(tmp_path, monkeypatch, name, codec, options):
    monkeypatch.setattr(decoding, "av_version", lambda: "")
    write_with_ffmpeg(tmp_path / name, codec, seconds=0.2, sample_rate=48_000, options=options)
    reason, found = failure_of(tmp_path / name)
    assert reason == "undecodable"
    assert found.startswith("undecodable: ")
    assert found.endswith('; PyAV may decode it: pip install "wavtext5k[av]"')
    with pytest.raises(AudioError, match=rf"{name}: undecodable: .*pip install"):
        load_waveform(tmp_path / name)


def test_the_version_names_the_decoder():
    assert AUDIO_VERSION.endswith(f" av {av.__version__}")


@pytest.mark.parametrize(
    ("name", "codec", "options", "keep"),
    [
        ("a.m4a", "aac", FIRST, 0.5),
        ("a.m4a", "alac", FIRST, 0.95),
        ("a.mp4", "aac", {"movflags": "frag_keyframe+empty_moov"}, 0.5),
        ("a.aac", "aac", {}, 0.5),
        ("a.webm", "libopus", {}, 0.5),
        ("a.webm", "libopus", {}, 0.9),
        ("a.mka", "flac", {}, 0.95),
        ("a.wv", "wavpack", {}, 0.7),
        ("a.wav", "pcm_s64le", {}, 0.7),
    ],
)
def test_a_cut_file_is_truncated(tmp_path, name, codec, options, keep):
    write_with_ffmpeg(tmp_path / name, codec, seconds=3, sample_rate=48_000, options=options)
    reason, found = failure_of(truncate(tmp_path / name, keep))
    assert reason == "truncated"
    assert found.startswith("truncated: ")


def test_a_cut_mp4_without_its_table_is_undecodable(tmp_path):
    write_with_ffmpeg(tmp_path / "a.m4a", "aac", seconds=3)
    reason, found = failure_of(truncate(tmp_path / "a.m4a"))
    assert (reason, found[:21]) == ("undecodable", "undecodable: Format n")
    assert "; FFmpeg: " in found


def test_sound_that_changes_its_rate_is_refused(tmp_path):
    for name, rate, channels in (("b.aac", 44_100, 1), ("c.aac", 22_050, 2)):
        write_with_ffmpeg(tmp_path / name, "aac", sample_rate=rate, channels=channels)
    (tmp_path / "a.aac").write_bytes((tmp_path / "b.aac").read_bytes() + (tmp_path / "c.aac").read_bytes())
    expected = "undecodable: 44100 Hz, 1 channels become 22050 Hz, 2 channels"
    assert failure_of(tmp_path / "a.aac") == ("undecodable", expected)


def test_a_film_without_sound_is_not_audio(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(24):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    assert failure_of(tmp_path / "a.mp4") == ("not_audio", "not audio: no audio stream in it")


def test_sound_shorter_than_its_film_is_whole(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        video, audio = container.add_stream("mpeg4", rate=24), container.add_stream("aac", rate=44_100, layout="mono")
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        for _ in range(48):
            container.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44_100
        for number in range(43):
            frame.pts = number * 1024
            container.mux(audio.encode(frame))
        container.mux([*audio.encode(None), *video.encode(None)])
    assert len(hear(tmp_path / "a.mp4").waveform) == pytest.approx(44_100, abs=2100)


def test_names_and_titles_may_be_no_utf8(tmp_path):
    write_with_ffmpeg(tmp_path / "b.m4a", "alac", options={"movflags": "faststart"})
    content = (tmp_path / "b.m4a").read_bytes()
    assert b"Lavf" in content  # in a text field
    path = tmp_path / os.fsdecode(b"sonn\xe9.m4a")
    path.write_bytes(content.replace(b"Lavf", b"\xff\xfe\xe9\x80"))
    assert len(hear(path).waveform) == 44_100


def test_the_text_after_a_wav_that_nothing_decodes_is_no_sound(tmp_path):
    text = np.random.default_rng(0).bytes(40_000)
    path = write_riff(tmp_path / "a.wav", [(b"fmt ", bytes(16)), (b"data", b""), (b"LIST", b"INFO" + text)])
    assert failure_of(path)[0] == "undecodable"


def test_a_list_of_files_opens_none(tmp_path, monkeypatch):
    """FFmpeg reads a text that names other files, and gives their sound. Text is refused before FFmpeg sees it; what
    gets past that finds no such reader."""
    monkeypatch.chdir(tmp_path)
    write_tone(tmp_path / "secret.wav")
    (tmp_path / "a.mp3").write_text("ffconcat version 1.0\nfile secret.wav\n")
    with av.open(str(tmp_path / "a.mp3")) as container:
        assert container.format.name == "concat"
    assert failure_of(tmp_path / "a.mp3")[0] == "not_audio"
    monkeypatch.setattr(headers, "why_not_audio", lambda head: None)
    monkeypatch.setattr(headers, "begins_like_audio", lambda head: True)
    assert failure_of(tmp_path / "a.mp3")[0] == "undecodable"
