"""What each kind of file comes to: whole sound, or a reason that a person understands. All files are made here."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from curation import decoding
from curation.audio import UnusableAudioError, decoder_notes_off, listen
from curation.decoding import decode_into
from curation.filters import DropReason
from tests.curation.hearing import hear
from tests.support.audio import (
    patch,
    truncate,
    wav_format,
    write_noise,
    write_riff,
    write_silence,
    write_tone,
    write_waveform,
)

NOISE = np.random.default_rng(0).bytes(4000)
FLAC_TOTAL = 18  # where a FLAC file holds rate, channels, bits and, in the last 36 bits of 8 bytes, its length


@pytest.fixture
def without_av(monkeypatch):
    monkeypatch.setattr(decoding, "av_version", lambda: "")


def verdict(path):
    """Return the reason and what was found, or "" and the number of samples."""
    try:
        with decoder_notes_off():
            return "", len(hear(path, max_duration_s=3600).waveform)
    except UnusableAudioError as error:
        return str(error.reason), error.problem


def data_size_at(path):
    return path.read_bytes().index(b"data") + 4


def set_flac_total(path, total):
    (head,) = struct.unpack_from(">Q", path.read_bytes(), FLAC_TOTAL)
    return patch(path, FLAC_TOTAL, ">Q", head >> 36 << 36 | total)


def xing_at(path):
    content = path.read_bytes()
    return max(content.find(b"Xing"), content.find(b"Info"))


def without_xing(path):
    """Return an MP3 without its first frame, which tells the length of the rest."""
    content = path.read_bytes()
    return content[content.index(content[:2], 4) :]


def write_mp3(path, level, seconds):
    tone = 0.5 * np.sin(np.arange(seconds * 44_100) / 7)
    with soundfile.SoundFile(
        path, "w", 44_100, 1, "MPEG_LAYER_III", format="MP3", bitrate_mode="CONSTANT", compression_level=level
    ) as file:
        file.write(tone)
    return path


@pytest.mark.parametrize(
    ("name", "subtype", "channels", "rate"),
    [
        ("a.wav", "PCM_U8", 2, 11_025),
        ("a.wav", "PCM_24", 6, 48_000),
        ("a.wav", "PCM_32", 1, 1234),
        ("a.wav", "DOUBLE", 2, 192_000),
        ("a.wav", "ALAW", 1, 8000),
        ("a.wav", "MS_ADPCM", 2, 22_050),
        ("a.wav", "GSM610", 1, 8000),
        ("a.wavex", "PCM_24", 8, 96_000),
        ("a.rf64", "PCM_16", 2, 44_100),
        ("a.w64", "PCM_16", 2, 44_100),
        ("a.aiff", "PCM_S8", 1, 44_100),
        ("a.aiff", "ULAW", 2, 11_025),
        ("a.au", "FLOAT", 3, 44_100),
        ("a.caf", "ALAC_16", 2, 44_100),
        ("a.ogg", "OPUS", 2, 48_000),
        ("a.mp3", "MPEG_LAYER_III", 2, 12_000),
        ("a.mp3", "MPEG_LAYER_III", 2, 22_050),
        ("a.flac", "PCM_24", 8, 44_100),
    ],
)
def test_every_encoding_gives_whole_sound(tmp_path, name, subtype, channels, rate):
    path = tmp_path / name
    file_format = "WAVEX" if name.endswith("wavex") else None
    tone = 0.5 * np.sin(2 * np.pi * 100 * np.arange(rate) / rate)
    soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate, subtype, format=file_format)
    with listen(path) as sound:
        assert (sound.sample_rate, sound.channels, sound.subtype, sound.missing) == (rate, channels, subtype, 0.0)
        assert sound.num_samples == pytest.approx(44_100, abs=2000)  # some codecs fill their last block
        assert np.std(np.concatenate(list(sound.blocks()))) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("bits", [5, 8, 12, 16, 20, 24, 32])
@pytest.mark.parametrize("magic", [b"RIFF", b"RIFX"])
def test_any_number_of_bits_is_read_from_the_top(tmp_path, bits, magic):
    width, order = (bits + 7) // 8, "big" if magic == b"RIFX" else "little"
    steps = [0, 1, -1, 2 ** (bits - 2)]
    values = [step << (8 * width - bits) for step in steps]
    offset = 128 if width == 1 else 0  # 8 bits and fewer have no sign
    content = b"".join((value + offset).to_bytes(width, order, signed=width > 1) for value in values)
    fmt = wav_format(bits=bits, order=">" if magic == b"RIFX" else "<")
    heard = hear(write_riff(tmp_path / "a.wav", [(b"fmt ", fmt), (b"data", content)], magic=magic))
    assert heard.waveform == pytest.approx([step / 2 ** (bits - 1) for step in steps], abs=1e-7)


@pytest.mark.parametrize(
    "extra",
    [
        (b"bext", b"A bell" + bytes(596)),
        (b"LIST", b"INFOINAM\x04\0\0\0bell"),
        (b"id3 ", b"ID3\x03" + bytes(20)),
        (b"JUNK", b"odd"),
    ],
    ids=["BWF", "INFO", "ID3", "an odd number of bytes"],
)
@pytest.mark.parametrize("place", [1, 2])
def test_chunks_of_text_are_no_sound(tmp_path, extra, place):
    chunks = [(b"fmt ", wav_format()), (b"data", NOISE)]
    chunks.insert(place, extra)
    assert verdict(write_riff(tmp_path / "a.wav", chunks)) == ("", 2000)


@pytest.mark.parametrize("declared", [0xFFFFFFFF, 0x7FFFF000, 0x80000000, 0x7FFFFFFF])
def test_a_size_that_the_writer_could_not_know_is_no_loss(tmp_path, declared):
    path = write_noise(tmp_path / "a.wav", seconds=1)
    assert verdict(patch(path, data_size_at(path), "<I", declared)) == ("", 44_100)


@pytest.mark.parametrize("riff_size", [0, 36, 88_236])
@pytest.mark.parametrize("magic", [b"RIFF", b"RIFX"])
@pytest.mark.usefixtures("without_av")
def test_a_recorder_that_never_wrote_the_size_loses_nothing(tmp_path, riff_size, magic):
    order = ">" if magic == b"RIFX" else "<"
    sound = np.random.default_rng(0).bytes(88_200)
    path = write_riff(tmp_path / "a.wav", [(b"fmt ", wav_format(order=order)), (b"data", sound)], magic=magic)
    expected = hear(path).sound.pcm_sha256
    patch(patch(path, 4, f"{order}I", riff_size), data_size_at(path), f"{order}I", 0)
    assert hear(path).sound.pcm_sha256 == expected


@pytest.mark.parametrize("text", [b"", b"INFO" + NOISE * 10])
def test_text_after_a_sound_of_no_length_is_not_heard(tmp_path, text):
    chunks = [(b"fmt ", wav_format()), (b"data", b""), *([(b"LIST", text)] if text else [])]
    assert verdict(write_riff(tmp_path / "a.wav", chunks)) == ("empty_audio", "empty: no samples in it")


def test_what_follows_the_declared_sound_is_left_out(tmp_path):
    path = write_noise(tmp_path / "a.wav", seconds=1)
    assert verdict(patch(path, data_size_at(path), "<I", 1001)) == ("", 500)


def test_a_wav_that_declares_100_million_frames_is_truncated(tmp_path):
    path = write_noise(tmp_path / "a.wav", seconds=1)
    patch(path, data_size_at(path), "<I", 200_000_000)
    assert verdict(path) == ("truncated", "truncated: 0.04% of the declared data is there")


@pytest.mark.parametrize(
    ("offset", "times", "expected"),
    [
        (8, 30, ("", pytest.approx(22_050, abs=1500))),  # frames: a lie, for the bytes are right
        (12, 100, ("truncated", "truncated: 1.00% of the declared data is there")),  # bytes
        (12, 0, ("", 22_050)),
    ],
)
def test_an_mp3_is_as_long_as_its_bytes_say(tmp_path, offset, times, expected):
    path = write_tone(tmp_path / "a.mp3", seconds=0.5)
    assert verdict(patch(path, xing_at(path) + offset, ">I", times * path.stat().st_size)) == expected


@pytest.mark.parametrize("tag", [b"", b"ID3\x03\0\0\0\0\x02\0" + bytes(256)])
def test_a_cut_mp3_is_truncated_if_its_header_tells_the_length(tmp_path, tag):
    path = write_tone(tmp_path / "a.mp3", seconds=3, channels=2)
    path.write_bytes(tag + path.read_bytes())
    assert verdict(path) == ("", 132_300)
    reason, found = verdict(truncate(path, 0.5))
    assert (reason, found[:13]) == ("truncated", "truncated: 49" if tag else "truncated: 50")


def test_a_vbri_header_tells_the_length_too(tmp_path):
    path = write_tone(tmp_path / "a.mp3", seconds=1)
    frames = without_xing(path)
    size = len(path.read_bytes()) - len(frames)
    for declared, expected in ((len(frames) + size, ""), (10 * len(frames), "truncated")):
        vbri = frames[:4] + bytes(32) + b"VBRI" + struct.pack(">HHHII", 1, 0, 75, declared, 40)
        path.write_bytes(vbri.ljust(size, b"\0") + frames)
        assert verdict(path)[0] == expected


def understated_mp3(tmp_path):
    path = write_tone(tmp_path / "a.mp3", seconds=5)
    return patch(path, xing_at(path) + 8, ">I", 10), 220_500


def mp3_of_growing_frames(tmp_path):
    """A bit rate that changes, and no header that tells the length: libsndfile estimates it from the first frame."""
    loud, soft = write_mp3(tmp_path / "b.mp3", 0.0, 1), write_mp3(tmp_path / "c.mp3", 0.95, 10)
    (tmp_path / "a.mp3").write_bytes(without_xing(loud) + without_xing(soft))
    return tmp_path / "a.mp3", 485_100


def two_mp3s(tmp_path):
    one, two = write_tone(tmp_path / "b.mp3", seconds=1), write_tone(tmp_path / "c.mp3", seconds=2, freq=880)
    (tmp_path / "a.mp3").write_bytes(one.read_bytes() + two.read_bytes())
    return tmp_path / "a.mp3", 132_300


def two_oggs(tmp_path):
    one, two = write_tone(tmp_path / "b.ogg", seconds=1), write_tone(tmp_path / "c.ogg", seconds=2, freq=880)
    (tmp_path / "a.ogg").write_bytes(one.read_bytes() + two.read_bytes())
    return tmp_path / "a.ogg", 132_300


def understated_flac(tmp_path):
    return set_flac_total(write_noise(tmp_path / "a.flac", seconds=4), 50_000), 176_400


GOES_ON = [understated_mp3, mp3_of_growing_frames, two_mp3s, two_oggs, understated_flac]


@pytest.mark.parametrize("make", GOES_ON)
def test_sound_beyond_where_libsndfile_stops_is_not_lost(tmp_path, make):
    pytest.importorskip("av", reason="PyAV is not installed (extra av)")
    path, num_samples = make(tmp_path)
    assert verdict(path) == ("", pytest.approx(num_samples, abs=4000))  # the second has its own lead-in


@pytest.mark.parametrize("make", GOES_ON)
@pytest.mark.usefixtures("without_av")
def test_sound_beyond_where_libsndfile_stops_is_not_lost_in_silence(tmp_path, make):
    reason, found = verdict(make(tmp_path)[0])
    assert reason == "undecodable"
    assert 'though sound follows; PyAV may decode it: pip install "wavtext5k[av]"' in found


@pytest.mark.parametrize("tail", [b"TAG" + bytes(125), b"APETAGEX" + bytes(3000), b"\0" * 9000, b"\xff\xfb" * 3])
def test_tags_after_an_mp3_are_no_sound(tmp_path, tail):
    path = write_tone(tmp_path / "a.mp3", seconds=1)
    path.write_bytes(path.read_bytes() + tail)
    assert verdict(path) == ("", 44_100)


@pytest.mark.parametrize("head", [bytes(417), bytes(3000), NOISE[:1000]])
@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a"])
@pytest.mark.usefixtures("without_av")
def test_an_mp3_may_begin_with_zeros_or_inside_a_frame(tmp_path, head, name):
    whole = write_tone(tmp_path / "b.mp3", seconds=2)
    (tmp_path / name).write_bytes(head + whole.read_bytes())
    assert hear(tmp_path / name).sound.pcm_sha256 == hear(whole).sound.pcm_sha256


def test_a_flac_that_was_written_to_a_pipe_is_whole(tmp_path):
    path = write_noise(tmp_path / "a.flac", seconds=3, channels=2)
    expected = hear(path).sound.pcm_sha256
    assert hear(set_flac_total(path, 0)).sound.pcm_sha256 == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda path: set_flac_total(path, 10**8), ("truncated", "132300 of the declared 100000000 samples are there")),
        (lambda path: truncate(path, 0.5), ("truncated", "decoding stops after sample")),
        (lambda path: truncate(set_flac_total(path, 0), 0.5), ("truncated", "of an undeclared number")),
        (lambda path: patch(path, path.stat().st_size // 2, "8x"), ("undecodable", "decoding stops after sample")),
    ],
    ids=["declares too much", "cut", "cut, of undeclared length", "damaged"],
)
def test_a_broken_flac_is_not_taken_for_a_shorter_one(tmp_path, change, expected):
    path = write_noise(tmp_path / "a.flac", seconds=3)
    reason, found = verdict(change(path))
    assert reason == expected[0]
    assert expected[1] in found


def test_an_ogg_that_lacks_a_page_in_the_middle_is_not_taken_for_a_shorter_one(tmp_path):
    path = write_noise(tmp_path / "a.ogg", seconds=10)
    content = path.read_bytes()
    pages = [at for at in range(len(content)) if content.startswith(b"OggS", at)]
    middle = len(pages) // 2
    path.write_bytes(content[: pages[middle]] + content[pages[middle + 1] :])
    assert verdict(path)[0] == "truncated"


@pytest.mark.parametrize(
    ("rate", "found"),
    [
        (0, "the header gives no sample rate"),
        (1, "the header says 1 Hz; sound has 1000 to 768000"),
        (999, "the header says 999 Hz"),
        (768_001, "the header says 768001 Hz"),
        (10_000_000, "the header says 10000000 Hz"),
    ],
)
def test_a_rate_that_no_sound_has_is_refused(tmp_path, rate, found):
    path = write_riff(tmp_path / "a.wav", [(b"fmt ", wav_format(rate)), (b"data", NOISE)])
    reason, problem = verdict(path)
    assert reason == "undecodable"
    assert found in problem


@pytest.mark.parametrize("rate", [1000, 768_000])
def test_the_lowest_and_the_highest_rate_are_heard(tmp_path, rate):
    with listen(write_tone(tmp_path / "a.wav", sample_rate=rate, freq=100)) as sound:
        assert sound.num_samples == 22_050


def test_a_thousand_channels_take_no_more_memory_than_one(tmp_path):
    path = write_waveform(tmp_path / "a.wav", np.full((300, 1024), 0.25))
    heard = hear(path)
    assert (heard.sound.channels, len(heard.waveform)) == (1024, 300)
    assert np.all(heard.waveform == 0.25)


def caf(channels, rate=44_100.0):
    description = struct.pack(">d4sIIIII", rate, b"lpcm", 0, 2 * channels & 0xFFFFFFFF, 1, channels, 16)
    chunks = b"desc" + struct.pack(">q", 32) + description + b"data" + struct.pack(">qI", 4 + len(NOISE), 0)
    return b"caff\0\1\0\0" + chunks + NOISE


# A few kilobytes each, that declare gigabytes.
BOMBS = {
    "au.au": b".snd" + struct.pack(">IIIII", 24, 0xFFFFFFFF, 3, 44_100, 2**31 - 1) + NOISE,
    "offset.au": b".snd" + struct.pack(">IIIII", 2**31 - 1, 0xFFFFFFFF, 3, 44_100, 1) + NOISE,
    "channels.caf": caf(2**31 - 1),
    "rate.caf": caf(2, float("nan")),
    "list.wav": b"RIFF\xff\xff\xff\x7fWAVELIST\x00\x00\x00\x80INFOINAM\x00\xff\xff\x7f" + NOISE,
    "fmt.wav": b"RIFF\xff\xff\xff\x7fWAVEfmt \xf0\xff\xff\x7f" + wav_format() + NOISE,
    "channels.wav": b"RIFF\xff\xff\0\0WAVEfmt \x10\0\0\0" + wav_format(channels=65_535) + b"data\xa0\x0f\0\0" + NOISE,
    "id3.mp3": b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + NOISE,
    "meta.flac": b"fLaC\x04\xff\xff\xff" + NOISE,
    "table.m4a": struct.pack(
        ">I4s4sII4sI4sIII", 16, b"ftyp", b"M4A ", 0, 2**31 - 1, b"moov", 2**31 - 16, b"stsz", 0, 0, 2**31 - 1
    )
    + NOISE,
    "segment.webm": b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe" + NOISE,
    "pages.ogg": b"OggS\0\2" + bytes(8) + b"\1\0\0\0" + bytes(8) + b"\xff" + b"\xff" * 255 + NOISE,
}

TRY = """
import sys
from pathlib import Path
from curation.audio import UnusableAudioError, listen
for name in sys.argv[1:]:
    try:
        with listen(Path(name)):
            print(name, "was heard")
    except UnusableAudioError:
        pass
print(int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/status is Linux's")
@pytest.mark.filterwarnings("default")
def test_headers_that_declare_gigabytes_take_none(tmp_path):
    for name, content in BOMBS.items():
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-c", TRY, *(tmp_path / name for name in BOMBS)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[2])
    assert int(run.stdout) < 200


@pytest.mark.parametrize(
    "content",
    [
        "<!DOCTYPE html>\n<html>\n".encode("utf-16"),
        "<!DOCTYPE html>".encode("utf-16-be"),
        "<!DOCTYPE html>\r\n".encode("utf-16-le"),
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + NOISE,
        b"\x1f\x8b\x08" + NOISE,
        b"PK\x03\x04" + NOISE * 20,
        b"\x89PNG\r\n\x1a\n" + NOISE * 20,
        bytes(5000),
        b"R",
        NOISE * 50,
        np.random.default_rng(4).normal(0, 30, 100_000).astype("<i2").tobytes(),  # 0xFF 0xFB all over
    ],
    ids=[
        "UTF-16",
        "UTF-16 big",
        "UTF-16 unmarked",
        "PDF",
        "gzip",
        "zip",
        "PNG",
        "zeros",
        "one byte",
        "noise",
        "raw PCM",
    ],
)
@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.vox", "a.snd"])
def test_what_is_no_audio_is_called_so_whatever_its_name(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    reason, found = verdict(tmp_path / name)
    assert reason == "not_audio"
    assert found.startswith("not audio: the first bytes are ")


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: None, "no such file or directory"),
        (lambda path: path.mkdir(), "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to(path), "too many levels of symbolic links"),
    ],
    ids=["none", "folder", "pipe", "loop"],
)
def test_what_cannot_be_read_is_missing(tmp_path, make, found):
    make(tmp_path / "a.wav")
    assert verdict(tmp_path / "a.wav") == ("missing_audio", found)


class Meddler:
    """A receiver that does something to the file when the first block comes."""

    def __init__(self, act):
        self.act, self.num_samples = act, 0

    def begin(self, sample_rate, channels):
        pass

    def add(self, block):
        if not self.num_samples:
            self.act()
        self.num_samples += len(block)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3"])
@pytest.mark.parametrize(
    "act",
    [
        lambda path: truncate(path, 0.8),
        lambda path: path.write_bytes(path.read_bytes() + bytes(1000)),
        lambda path: patch(path, path.stat().st_size - 2000, "1000x"),
    ],
    ids=["cut", "grown", "overwritten"],
)
def test_a_file_that_changes_while_it_is_read_is_not_used(tmp_path, name, act):
    path = write_noise(tmp_path / name, seconds=8)
    os.utime(path, ns=(0, 0))
    with pytest.raises(UnusableAudioError, match="changed while it was being read; run again") as caught:
        decode_into(Meddler(lambda: act(path)), path)
    assert caught.value.reason is DropReason.MISSING_AUDIO


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3"])
def test_a_file_that_vanishes_while_it_is_read_is_read_to_its_end(tmp_path, name):
    path = write_noise(tmp_path / name, seconds=8)
    meddler = Meddler(path.unlink)
    decode_into(meddler, path)
    assert meddler.num_samples == 8 * 44_100


def test_a_disk_that_fails_is_not_taken_for_the_end_of_the_file(tmp_path, monkeypatch):
    """A broken disk cannot be made; this stands where its error comes from."""
    path = write_noise(tmp_path / "a.wav", seconds=3)
    real = decoding._SourceFile.readinto

    class Failing(decoding._SourceFile):
        def readinto(self, buffer):
            if self.tell() > 100_000:
                self.error = OSError(5, "Input/output error")
                return 0
            return real(self, buffer)

    monkeypatch.setattr(decoding, "_SourceFile", Failing)
    assert verdict(path) == ("missing_audio", "cannot be read: Input/output error")


def test_digital_silence_is_heard_as_such(tmp_path):
    with listen(write_silence(tmp_path / "a.wav", channels=2)) as sound:
        assert sound.peak_dbfs == -200.0
        assert sound.downmix == "mean of 2 channels"
