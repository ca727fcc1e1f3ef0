"""The raw layout: a record is whole and right, or its error says why; a file is whole or not there."""

from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path

import pytest

from crawler.items import CrawlRecord, RecordError, open_whole, take_lock

RECORD = CrawlRecord(
    source="soundbible",
    source_id="2083",
    page_url="https://soundbible.com/2083-Bell.html",
    audio_url="https://soundbible.com/grab.php?id=2083&type=wav",
    audio_file="audio/2083.wav",
    title="Bell",
    description="Ünïcode 鐘",
    tags=("bell", "Metal"),
    author="Ann",
    license="cc-by-3.0",
    license_raw="Attribution 3.0",
    license_url="",
    extra={"selectors": {"title": "h3"}},
    sha256="0" * 64,
    bytes=12,
    content_type="audio/wav",
    retrieved_at="2026-01-02T03:04:05+00:00",
)


def test_a_record_comes_back_from_its_file() -> None:
    assert CrawlRecord.from_json(RECORD.to_json()) == RECORD
    assert "鐘" in RECORD.to_json()
    odd = dataclasses.replace(RECORD, title="half \ud83d of a pair")
    assert CrawlRecord.from_json(odd.to_json().encode().decode()) == odd


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": None}, "title must be a string, got None"),
        ({"source": "Sound Bible"}, "source 'Sound Bible' must match"),
        ({"source_id": "../9"}, "source_id '../9' must match"),
        ({"tags": "bell"}, "tags must be a list"),
        ({"tags": [1]}, "tags must be strings"),
        ({"license": "free"}, "license 'free' is not one of cc0-1.0"),
        ({"bytes": -1}, "bytes must be a whole number"),
        ({"bytes": True}, "bytes must be a whole number"),
        ({"extra": []}, "extra must be an object"),
        ({"audio_file": "audio/../../x.wav"}, "must be a file in audio/"),
        ({"audio_file": "audio/a\0.wav"}, "must be a file in audio/"),
        ({"audio_file": "audio/\ud800.wav"}, "must be a file in audio/"),
        ({"colour": "red"}, "unknown: colour"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], message: str) -> None:
    text = json.dumps(json.loads(RECORD.to_json()) | change)
    with pytest.raises(RecordError, match=message):
        CrawlRecord.from_json(text)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"bytes": ' + "9" * 5000 + "}"])
def test_what_is_not_json_is_a_record_error(text: str) -> None:
    with pytest.raises(RecordError, match="not JSON"):
        CrawlRecord.from_json(text)
    with pytest.raises(RecordError, match="must be a JSON object, got list"):
        CrawlRecord.from_json("[]")
    with pytest.raises(RecordError, match="missing: audio_file, audio_url"):
        CrawlRecord.from_json("{}")


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with open_whole(path, "w") as file:
        file.write("one\r\ntwo ü")
        assert not path.exists()
    assert path.read_bytes() == "one\r\ntwo ü".encode()

    def stop_half_way() -> None:
        with open_whole(path) as file:
            file.write(b"half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop_half_way()
    assert path.read_bytes().startswith(b"one")
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"

    def full() -> None:
        with open_whole(path):
            raise OSError(errno.ENOSPC, "No space left on device")  # as write() says it

    with pytest.raises(OSError, match=r"No space left on device: .*a\.bin"):
        full()
    assert not list(tmp_path.iterdir())


def test_a_lock_is_held_by_one_until_it_is_closed(tmp_path: Path) -> None:
    with take_lock(tmp_path / ".lock"), pytest.raises(BlockingIOError):
        take_lock(tmp_path / ".lock")
    take_lock(tmp_path / ".lock").close()
