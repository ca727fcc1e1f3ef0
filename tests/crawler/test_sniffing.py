from __future__ import annotations

from pathlib import Path

import pytest

from crawler.sniffing import audio_extension


@pytest.mark.parametrize(
    ("body", "extension"),
    [
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "wav"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "wav"),
        (b"RIFF\x24\x00\x00\x00AVI LIST", None),
        (b"fLaC\x00\x00\x00\x22", "flac"),
        (b"OggS\x00\x02", "ogg"),
        (b"ID3\x04\x00\x00", "mp3"),
        (b"\xff\xfb\x90\x64", "mp3"),
        (b"\xff\xf3\x80\x44", "mp3"),
        (b"\x00" * 417 + b"\xff\xfb\x90\x00", "mp3"),
        (b"\xff\xf1\x50\x80", "aac"),
        (b"FORM\x00\x00\x10\x00AIFFCOMM", "aiff"),
        (b"FORM\x00\x00\x10\x00AIFCCOMM", "aiff"),
        (b"\x00\x00\x00\x20ftypM4A ", "m4a"),
        (b"caff\x00\x01", "caf"),
        (b"<!DOCTYPE html><html>", None),
        (b"\xff\xfe<\x00h\x00t\x00m\x00l\x00", None),  # UTF-16 page: its byte order mark looks like MPEG sync
        (b"\xff\xfe\xff\xfe\xff\xfe", None),
        (b"\x00" * 4096, None),
        (b"\xff\xfb", None),
        (b"", None),
        (b"PK\x03\x04", None),
    ],
)
def test_audio_extension_reads_the_first_bytes(body: bytes, extension: str | None) -> None:
    assert audio_extension(body) == extension


@pytest.mark.parametrize("extension", ["wav", "flac", "mp3"])
def test_audio_extension_knows_files_that_libsndfile_wrote(audio: Path, extension: str) -> None:
    assert audio_extension((audio / f"noise.{extension}").read_bytes()) == extension
