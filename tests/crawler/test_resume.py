"""What a second run makes of what the first left: a site that changed or is gone, files that are not as they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.crawler.conftest import Crawl, read_records, read_report
from tests.crawler.hostile import Reply, audio_reply, detail, listing, serve_replies

FIRST, SECOND = "/free-sound-effects-1.html", "/free-sound-effects-2.html"


@pytest.fixture
def wav(audio: Path) -> bytes:
    return (audio / "noise.wav").read_bytes()


def small_site(wav: bytes, *numbers: int, **more: Any) -> dict[str, Any]:
    return {
        FIRST: listing(*numbers),
        SECOND: listing(*numbers),
        **{f"/{n}-S.html": detail(n) for n in numbers},
        **{f"/grab.php?id={n}&type=wav": audio_reply(wav) for n in numbers},
        **more,
    }


def test_a_site_that_is_down_is_not_taken_for_what_it_was(wav: bytes, crawl: Crawl, tmp_path: Path) -> None:
    replies = small_site(wav, 1, 2)
    replies["/robots.txt"] = Reply(body=b"User-agent: *\nDisallow: /x\n", headers={"ETag": '"1"'})
    with serve_replies(replies) as site:
        assert crawl("soundbible", site.base_url).returncode == 0
        for path in ("/robots.txt", FIRST, SECOND):
            replies[path] = Reply(raw=b"")  # hangs up
        (tmp_path / "raw/soundbible/records/2.json").unlink()
        site.asked.clear()
        done = crawl("soundbible", site.base_url, "-s", "RETRY_TIMES=0")
        assert "/grab.php?id=2&type=wav" not in site.requests
    assert done.returncode == 1
    assert "robots.txt could not be read" in done.stderr


@pytest.mark.parametrize("status", [304, 429, 503])
def test_a_robots_txt_that_is_not_given_now_allows_nothing(
    status: int, wav: bytes, crawl: Crawl, tmp_path: Path
) -> None:
    with serve_replies(small_site(wav, 1) | {"/robots.txt": Reply(status)}) as site:
        done = crawl("soundbible", site.base_url, "-s", "RETRY_TIMES=1")
    assert done.returncode == 1
    assert f"robots.txt could not be read (HTTP status {status})" in done.stderr


def test_a_record_of_another_clip_is_none_of_this_one(wav: bytes, crawl: Crawl, tmp_path: Path) -> None:
    records = tmp_path / "raw/soundbible/records"
    with serve_replies(small_site(wav, 1, 2)) as site:
        assert crawl("soundbible", site.base_url).returncode == 0
        shutil.copy(records / "2.json", records / "1.json")
        assert crawl("soundbible", site.base_url).returncode == 0
    assert read_records(tmp_path / "raw", "soundbible")["1"]["source_id"] == "1"


def test_retry_failed_asks_the_page_as_well(wav: bytes, crawl: Crawl, tmp_path: Path) -> None:
    replies = small_site(wav, 1, 2)
    replies["/1-S.html"] = Reply(body=b"<h1>Back soon</h1>")
    with serve_replies(replies) as site:
        assert crawl("soundbible", site.base_url, "--max-failed", "1").returncode == 0
        assert read_report(tmp_path / "raw", "soundbible")["failed"] == {"no_page": 1}
        replies["/1-S.html"] = detail(1)
        assert crawl("soundbible", site.base_url, "--retry-failed").returncode == 0
    assert set(read_records(tmp_path / "raw", "soundbible")) == {"1", "2"}


@pytest.mark.parametrize(
    "junk",
    [
        [{"source_id": 5, "url": "", "reason": "not_found", "detail": "", "asked_at": "2026-01-01T00:00:00+00:00"}],
        [{"source_id": None}],
        "failures",
        [{"source_id": "2", "url": "", "reason": "not_found", "detail": "", "asked_at": "2099-01-01T00:00:00+00:00"}],
        [{"source_id": "2", "url": "", "reason": "not_found", "detail": "", "asked_at": "2026-01-01T00:00:00"}],
    ],
)
def test_a_report_of_junk_or_of_the_future_keeps_no_clip_from_being_asked(
    junk: Any, wav: bytes, crawl: Crawl, tmp_path: Path
) -> None:
    report = tmp_path / "raw/soundbible/crawl_report.json"
    with serve_replies(small_site(wav, 1, 2)) as site:
        report.parent.mkdir(parents=True)
        report.write_text(json.dumps({"base_url": site.base_url, "failures": junk}), encoding="utf-8")
        done = crawl("soundbible", site.base_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(read_records(tmp_path / "raw", "soundbible")) == {"1", "2"}


def test_a_cache_of_noise_is_said_and_begun_anew(wav: bytes, crawl: Crawl, tmp_path: Path) -> None:
    cache = tmp_path / "raw/soundbible/pages.sqlite"
    numbers = range(1, 21)
    with serve_replies(small_site(wav, *numbers)) as site:
        assert crawl("soundbible", site.base_url).returncode == 0
        whole = cache.read_bytes()
        cache.write_bytes(whole[:4096] + bytes(range(256)) * (len(whole) // 256))
        done = crawl("soundbible", site.base_url)
        assert "pages.sqlite cannot be used (" in done.stdout
        shutil.rmtree(tmp_path / "raw/soundbible/records")
        assert crawl("soundbible", site.base_url).returncode == 0
        shutil.rmtree(tmp_path / "raw/soundbible/records")
        site.asked.clear()
        done = crawl("soundbible", site.base_url)
        assert not [path for path in site.requests if path.endswith("-S.html")], "the pages are kept again"
    assert "cannot be used" not in done.stdout


def test_what_is_in_the_way_is_named_and_other_peoples_files_are_left(wav: bytes, crawl: Crawl, tmp_path: Path) -> None:
    folder = tmp_path / "raw/soundbible"
    (folder / "audio/2.wav").mkdir(parents=True)
    (folder / "mine").mkdir()
    (folder / "mine/song.part").write_bytes(b"mine")
    (folder / "x.part").mkdir()
    with serve_replies(small_site(wav, 1, 2)) as site:
        done = crawl("soundbible", site.base_url)
    assert done.returncode == 1
    assert f"cannot write to {folder}: Is a directory (2.wav" in done.stderr
    assert (folder / "mine/song.part").read_bytes() == b"mine"


def test_an_index_of_notices_that_is_cut_does_not_hide_a_change(wav: bytes, crawl: Crawl, tmp_path: Path) -> None:
    replies = small_site(wav, 1) | {"/robots.txt": Reply(body=b"User-agent: *\nDisallow: /a\n")}
    site_folder = tmp_path / "raw/soundbible/site"
    with serve_replies(replies) as site:
        assert crawl("soundbible", site.base_url).returncode == 0
        (site_folder / "notices.json").write_bytes(b"{")
        replies["/robots.txt"] = Reply(body=b"User-agent: *\nDisallow: /b\n")
        done = crawl("soundbible", site.base_url)
    assert "robots.txt has changed since the last crawl" in done.stdout
    assert b"/b" in (site_folder / "robots.txt").read_bytes()
