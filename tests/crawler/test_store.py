from __future__ import annotations

import json
from pathlib import Path

import pytest

from crawler.items import CrawlRecord, RecordError
from crawler.pages.fields import AudioLink, PageFields
from crawler.rejections import RejectionError, check_audio, telling
from crawler.report import FailureReason
from crawler.store import record_of, stored_record, write_clip

WAV = b"RIFF\x00\x00\x00\x00WAVE" + bytes(100)


def record(extension: str = "wav", body: bytes = WAV) -> CrawlRecord:
    fields = PageFields(
        source_id="7",
        page_url="https://a.example/7",
        title="T",
        description="",
        tags=("a",),
        author="",
        license_raw="Attribution 3.0",
        license_url="",
        audio=(),
        extra={"size": "1"},
        selectors={"title": "h1"},
    )
    rejected = [(AudioLink("https://a.example/7.flac", "a"), RejectionError(FailureReason.NOT_FOUND, "x"))]
    link = AudioLink("https://a.example/7.wav", "player")
    return record_of("a", fields, link, body=body, extension=extension, content_type="audio/wav", rejected=rejected)


def test_a_record_says_where_its_audio_came_from_and_what_was_tried() -> None:
    made = record()
    assert (made.license, made.license_url) == ("cc-by-3.0", "https://creativecommons.org/licenses/by/3.0/")
    assert made.extra == {
        "size": "1",
        "selectors": {"title": "h1", "audio": "player"},
        "audio_not_used": {"https://a.example/7.flac": "not_found"},
    }


def test_what_is_written_is_found_and_an_older_format_is_removed(tmp_path: Path) -> None:
    write_clip(tmp_path, record("mp3", b"ID3" + bytes(100)), b"ID3" + bytes(100))
    write_clip(tmp_path, record(), WAV)
    assert stored_record(tmp_path, "a", "7", verify=True) == record_with_date(tmp_path)
    assert [path.name for path in (tmp_path / "a/audio").iterdir()] == ["7.wav"]


def record_with_date(raw: Path) -> CrawlRecord:
    return CrawlRecord.from_json((raw / "a/records/7.json").read_text(encoding="utf-8"))


def test_audio_of_the_right_size_and_other_bytes_is_found_only_by_reading(tmp_path: Path) -> None:
    write_clip(tmp_path, record(), WAV)
    (tmp_path / "a/audio/7.wav").write_bytes(WAV[:-1] + b"x")
    assert stored_record(tmp_path, "a", "7") is not None
    assert stored_record(tmp_path, "a", "7", verify=True) is None
    (tmp_path / "a/audio/7.wav").write_bytes(WAV[:-1])
    assert stored_record(tmp_path, "a", "7") is None


def test_a_record_of_a_newer_version_counts_as_stored(tmp_path: Path) -> None:
    write_clip(tmp_path, record(), WAV)
    file = tmp_path / "a/records/7.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"format": 2}), encoding="utf-8")
    stored = stored_record(tmp_path, "a", "7")
    assert stored is not None
    assert stored.sha256 == record().sha256
    with pytest.raises(RecordError, match="unknown: format"):
        CrawlRecord.from_json(file.read_text(encoding="utf-8"))


def test_a_record_that_cannot_be_written_leaves_no_audio(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/records").write_text("in the way", encoding="utf-8")
    with pytest.raises(OSError, match="records"):
        write_clip(tmp_path, record(), WAV)
    assert not list((tmp_path / "a/audio").iterdir())


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (404, WAV, "not_found"),
        (410, WAV, "not_found"),
        (403, WAV, "forbidden"),
        (451, WAV, "forbidden"),
        (500, WAV, "http_error"),
        (206, WAV, "http_error"),
        (200, b"", "empty_audio"),
        (200, WAV[:44], "empty_audio"),
        (200, b"<html>", "not_audio"),
    ],
)
def test_what_is_no_audio_has_a_reason(status: int, body: bytes, reason: str) -> None:
    with pytest.raises(RejectionError) as caught:
        check_audio(status, body)
    assert caught.value.reason == reason


def test_what_may_come_tomorrow_goes_before_what_is_gone_for_good() -> None:
    gone = RejectionError(FailureReason.NOT_AUDIO, "a page")
    busy = RejectionError(FailureReason.FORBIDDEN, "403")
    assert telling([gone, busy]) is busy
    assert telling([gone]) is gone


def test_audio_has_the_extension_of_its_content() -> None:
    assert check_audio(200, WAV) == "wav"
