"""The 124 odd, broken and mislabelled files of the data folder (WAVTEXT5K_DATA), each with what it must come to."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import pytest

from curation import decoding
from curation.audio import UnusableAudioError, decoder_notes_off, listen

pytestmark = pytest.mark.skipif("WAVTEXT5K_DATA" not in os.environ, reason="WAVTEXT5K_DATA is not set")

FOLDER = Path(os.environ.get("WAVTEXT5K_DATA", ".")) / "hard-audio"
NOTHING = r"undecodable: .*(marker|chunk|format|recognised|frames found)"

# What gives no sound, and what is said of it; all others are heard. Of the MP3s among the truncated ones the manifest
# says "header promises more", or a length of half an hour: they are the first kilobytes of songs.
REASONS = {
    "hound__crash-24728523ef4be15c838293b676f6853e73723bf4.wav": NOTHING,
    "hound__crash-b8447179832529c48f9c6bf17feab6337bbc78ea.wav": NOTHING,
    "hound__oom-48ae4cd061ff8578ad3f23dc87624bd365cf5216.wav": NOTHING,
    "mutagen__106-invalid-streaminfo.flac": NOTHING,
    "mutagen__bad-xing.mp3": r"truncated: 0\.09% of the declared data is there",
    "mutagen__ooming-header.flac": "empty: no samples",
    "taglib__excessive_alloc.aif": NOTHING,
    "taglib__excessive_alloc.mp3": NOTHING,
    "taglib__garbage.mp3": r"truncated: 0\.04% of the declared data is there",
    "taglib__invalid-chunk.wav": NOTHING,
    "taglib__segfault.wav": NOTHING,
    "mutagen__vbri.mp3": r"truncated: 0\.11% of the declared data is there",
    "taglib__mpeg2.mp3": r"truncated: 0\.10% of the declared data is there",
    "Cow-SoundBible.com-868293659.wav": "not audio: a Git LFS pointer",
    "Evil Laugh-SoundBible.com-1289174159.mp3": "not audio: a Git LFS pointer",
    "Frog Croaking-SoundBible.com-1053984354.wav": "not audio: a Git LFS pointer",
    "scipy__test-8000Hz-le-3ch-5S-36bit.wav": "undecodable: .*FFmpeg: Decoder not found",
    "scipy__test-8000Hz-le-3ch-5S-45bit.wav": "undecodable: .*FFmpeg: Decoder not found",
    "scipy__test-8000Hz-le-3ch-5S-53bit.wav": "undecodable: .*FFmpeg: Decoder not found",
    "taglib__compressed_id3_frame_invalid.mp3": NOTHING,
    "mutagen__too-short.mp3": NOTHING,
    "mutagen__truncated-64bit.mp4": NOTHING,
    "scipy__test-44100Hz-le-1ch-4bytes-early-eof-no-data.wav": NOTHING,
    "scipy__test-44100Hz-le-1ch-4bytes-early-eof.wav": r"truncated: 5\.35% of the declared data is there",
    "scipy__test-44100Hz-le-1ch-4bytes-incomplete-chunk.wav": NOTHING,
    "taglib__extended-header.mp3": NOTHING,
    "taglib__lame_vbr.mp3": r"truncated: 0\.01% of the declared data is there",
    "mutagen__emptyfile.mp3": "empty: 0 bytes",
}
# What only PyAV decodes: name of the codec, seconds.
ONLY_AV = {
    "m4a-data-named.mp3": ("AAC", 3.692),
    "mutagen__alac.m4a": ("ALAC", 3.685),
    "mutagen__empty.aac": ("AAC", 3.692),
    "mutagen__multiplexed.spx": ("SPEEX", 3.701),
    "mutagen__silence-1.wma": ("WMAV2", 3.712),
    "taglib__zero-length-mdat.m4a": ("AAC", 1.115),
    "scipy__test-8000Hz-le-3ch-5S-64bit.wav": ("PCM_S64LE", 0.0006),
    "hound__crash-e5471f5b58397287b509db7d026e95f1724454f5.wav": ("PCM_F32LE", 0.0001),
}


def files():
    if not FOLDER.is_dir():
        return []
    with next(FOLDER.glob("*.csv")).open(encoding="utf-8", newline="") as table:
        return [pytest.param(line, id=f"{line['category']}: {line['file']}") for line in csv.DictReader(table)]


def hear(path):
    with decoder_notes_off(), listen(path, max_duration_s=3600, sample_rate=None) as sound:
        return sound


@pytest.mark.parametrize("line", files())
def test_each_file_comes_to_what_it_is(line):
    pytest.importorskip("av", reason="PyAV is not installed (extra av)")
    name = line["file"]
    if name in REASONS:
        with pytest.raises(UnusableAudioError, match=REASONS[name]):
            hear(FOLDER / name)
        return
    sound = hear(FOLDER / name)
    if name in ONLY_AV:
        codec, seconds = ONLY_AV[name]
        assert sound.subtype == codec
        assert sound.num_samples / sound.sample_rate == pytest.approx(seconds, abs=1e-3)
        return
    samples, rate, channels, subtype = re.match(
        r"ok (\d+) frames (\d+) Hz (\d+) ch \w+/(\w+)", line["soundfile_result"]
    ).groups()
    assert (sound.sample_rate, sound.channels, sound.subtype) == (int(rate), int(channels), subtype)
    # Where nothing declares the length of an MP3, libsndfile estimates it, and may cut the last frame short.
    assert sound.num_samples == pytest.approx(int(samples), abs=20)
    assert sound.missing == 0


@pytest.mark.parametrize("line", files())
def test_without_pyav_each_file_comes_to_the_same_or_names_the_extra(line, monkeypatch):
    monkeypatch.setattr(decoding, "av_version", lambda: "")
    name = line["file"]
    if name in ONLY_AV:
        with pytest.raises(UnusableAudioError, match=r"undecodable: .*pip install"):
            hear(FOLDER / name)
    elif name in REASONS:
        pattern = REASONS[name].replace("FFmpeg: Decoder not found", "pip install")
        with pytest.raises(UnusableAudioError, match=f"{pattern}|undecodable: .*pip install"):
            hear(FOLDER / name)
    else:
        hear(FOLDER / name)


def test_the_folder_holds_what_the_tables_name():
    assert len(files()) == 124
    assert REASONS.keys() | ONLY_AV.keys() <= {line.values[0]["file"] for line in files()}
