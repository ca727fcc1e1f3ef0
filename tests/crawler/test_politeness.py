"""The manners of a crawl, seen from the site: what is asked, when, and what is left alone."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scrapy.settings import Settings

from crawler.items import RecordError, read_opt_outs
from crawler.politeness import slow_down
from crawler.rejections import retry_after_s
from demo.site import Clip, Site, serve
from tests.crawler.conftest import Crawl, environment, read_records, read_report

MakeClip = Callable[..., Clip]


def stamped(site: Site) -> list[tuple[float, str]]:
    """Note when each request of a site comes."""
    seen: list[tuple[float, str]] = []
    answer = site.answer

    def timed(method: str, target: str, *more: Any) -> Any:
        seen.append((time.monotonic(), target))
        return answer(method, target, *more)

    site.answer = timed  # type: ignore[method-assign]
    return seen


def gaps(seen: list[tuple[float, str]]) -> list[float]:
    return [later - earlier for (earlier, _), (later, _) in pairwise(seen)]


def test_crawl_delay_holds_between_any_two_requests(
    audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    robots = "User-agent: *\nCrawl-delay: 0.3\nDisallow: /nothing\n"
    with serve([make_clip(1), make_clip(2)], audio, robots=robots) as site:
        seen = stamped(site)
        assert crawl("soundbible", site.base_url).returncode == 0
    assert len(seen) > 8
    # The delay is kept where requests are sent; a few milliseconds pass until the site notes one.
    assert min(gaps(seen)) > 0.28, "no two requests come closer than the site asks, politeness switched off or not"


def test_the_default_is_one_request_a_second(audio: Path, make_clip: MakeClip, tmp_path: Path) -> None:
    with serve([make_clip(1)], audio, layout="bigsoundbank") as site:
        seen = stamped(site)
        line = [sys.executable, "-m", "crawler.cli", "bigsoundbank", "--base-url", site.base_url]
        line += ["--raw", str(tmp_path / "raw")]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    assert len(seen) >= 5
    assert min(gaps(seen)) > 0.95


@pytest.mark.parametrize("layout", ["soundbible", "bigsoundbank"])
def test_what_the_site_says_of_itself_is_kept_with_the_crawl(
    layout: str, audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    with serve([make_clip(1)], audio, layout=layout, tdmrep='[{"location": "/blog", "tdm-reservation": 1}]') as site:
        assert crawl(layout, site.base_url).returncode == 0
    folder = tmp_path / "raw" / layout / "site"
    terms = {"soundbible": {"about.php.html", "terms.php.html"}, "bigsoundbank": {"licenses.html", "droit.html"}}[
        layout
    ]
    assert {path.name for path in folder.iterdir()} >= {"robots.txt", "tdmrep.json", "notices.json", *terms}
    assert "Disallow" in (folder / "robots.txt").read_text(encoding="utf-8")
    notices = read_report(tmp_path / "raw", layout)["notices"]
    assert all(url.startswith(("https://soundbible.com/", "https://bigsoundbank.com/")) for url in notices)
    assert len(notices) >= 2 + len(terms)


def test_terms_that_change_are_said_and_both_are_kept(
    audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    for robots in ("User-agent: *\nDisallow: /a\n", "User-agent: *\nDisallow: /b\n"):
        with serve([make_clip(1)], audio, robots=robots) as site:
            done = crawl("soundbible", site.base_url)
            assert done.returncode == 0, done.stderr
    assert "warning: https://soundbible.com/robots.txt has changed since the last crawl: read it" in done.stdout
    texts = {path.read_text(encoding="utf-8") for path in (tmp_path / "raw/soundbible/site").glob("robots*.txt")}
    assert len(texts) == 2


def test_a_reservation_of_the_whole_site_ends_the_crawl(
    audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    with serve([make_clip(1)], audio, tdmrep='[{"location": "/", "tdm-reservation": 1}]') as site:
        done = crawl("soundbible", site.base_url)
        assert [path for _, path, _ in site.requests] == ["/robots.txt", "/.well-known/tdmrep.json"]
        allowed = crawl("soundbible", site.base_url, "-s", "TDMREP_OBEY=0")
    assert done.returncode == 1
    assert "tdmrep.json reserves text and data mining of the whole site\n" in done.stderr
    assert allowed.returncode == 0


def test_reserved_clips_are_left_out_and_are_no_failures(
    audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    clips = [
        make_clip(1),
        make_clip(2, fault="tdm_reserved"),
        make_clip(3, fault="tdm_reserved_meta"),
        make_clip(44),
    ]
    with serve(clips, audio, tdmrep='[{"location": "/44-*", "tdm-reservation": 1}]') as site:
        done = crawl("soundbible", site.base_url, "--max-failed", "0")
        assert not [path for _, path, _ in site.requests if "44" in path]
        asked = [path for _, path, _ in site.requests if path.startswith("/grab.php")]
    assert done.returncode == 0, done.stderr
    assert asked == ["/grab.php?id=1&type=wav"]
    report = read_report(tmp_path / "raw", "soundbible")
    assert (report["known"], report["asked"], report["left_out"]) == (4, 1, {"tdm_reserved": 3})
    assert "left out        3  tdm_reserved 3" in done.stdout


def test_opt_outs_by_id_page_old_page_and_audio_address(
    audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    clips = [make_clip(number) for number in range(1, 7)]
    options = ("--max-failed", "0")
    with serve(clips, audio, layout="bigsoundbank") as site:
        assert crawl("bigsoundbank", site.base_url, "--limit", "1", *options).returncode == 0
        (stored,) = read_records(tmp_path / "raw", "bigsoundbank")
        lines = [
            "# asked for by their authors",
            "bigsoundbank-0001",
            "https://bigsoundbank.com/detail-0002-any-old-name.html",
            "http://www.bigsoundbank.com/noise-s0003.html",
            "https://bigsoundbank.com/UPLOAD/mp3/0004.mp3",
            f"bigsoundbank-{stored}",
            "soundbible-5",
            "https://elsewhere.example/detail-0005-x.html",
            "BigSoundBank-0001   # twice, and said why",
        ]
        (tmp_path / "optout.txt").write_text("\n".join(lines), encoding="utf-8")
        site.requests.clear()
        done = crawl("bigsoundbank", site.base_url, "--opt-out", str(tmp_path / "optout.txt"), *options)
        paths = [path for _, path, _ in site.requests if "-s000" in path or "UPLOAD" in path]
    assert done.returncode == 0, done.stderr
    assert not [path for path in paths if any(f"000{number}" in path for number in (1, 2, 3))]
    assert set(read_records(tmp_path / "raw", "bigsoundbank")) == {stored, "0005"}
    report = read_report(tmp_path / "raw", "bigsoundbank")
    assert report["left_out"] == {"opted_out": 5}
    assert (report["known"], report["asked"], report["stored"]) == (6, 1, 1)
    assert f"warning: clip {stored} is stored by an earlier run and now opted_out: delete records/" in done.stdout


def test_an_opt_out_list_that_is_none_is_refused(crawl: Crawl, tmp_path: Path) -> None:
    file = tmp_path / "optout.txt"
    file.write_bytes(b"\xff\xfe\x00")
    done = crawl("soundbible", "http://127.0.0.1:1", "--opt-out", str(file))
    assert done.returncode == 2
    assert f"{file}: not UTF-8 text" in done.stderr
    assert crawl("soundbible", "http://127.0.0.1:1", "--opt-out", str(tmp_path / "gone.txt")).returncode == 2


@pytest.mark.parametrize(
    "line",
    ["10001", "soundbible", "nonsense line", "soundbible-../x", "Sound Bible-3", "https://[not-an-address", "://"],
)
def test_an_opt_out_that_names_nothing_is_refused_by_its_line(line: str, tmp_path: Path) -> None:
    file = tmp_path / "optout.txt"
    file.write_text(f"# asked for\nsoundbible-1\n{line}\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"optout.txt: line 3: .* is neither a clip_id"):
        read_opt_outs(file)


def test_verify_finds_audio_whose_bytes_have_changed(
    audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    file = tmp_path / "raw/soundbible/audio/1.wav"
    with serve([make_clip(1), make_clip(2)], audio) as site:
        assert crawl("soundbible", site.base_url).returncode == 0
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + b"x")
        assert crawl("soundbible", site.base_url).returncode == 0
        assert file.read_bytes() != whole, "size and hash are trusted without reading"
        done = crawl("soundbible", site.base_url, "--verify")
    assert done.returncode == 0, done.stderr
    assert file.read_bytes() == whole
    assert "1 of them by earlier runs, their SHA-256 compared" in done.stdout
    assert "warning: audio/1.wav is not what was stored; it is asked again" in done.stdout


def test_pages_come_from_the_cache_while_they_are_fresh_and_are_then_asked_with_conditions(
    audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    with serve([make_clip(1)], audio) as site:
        assert crawl("soundbible", site.base_url).returncode == 0
        page = next(path for _, path, _ in site.requests if path.startswith("/1-"))
        record = tmp_path / "raw/soundbible/records/1.json"
        for options, expected in (((), []), (("-s", "HTTPCACHE_EXPIRATION_SECS=0"), [304])):
            record.unlink()
            site.requests.clear()
            assert crawl("soundbible", site.base_url, *options).returncode == 0
            assert [status for _, path, status in site.requests if path == page] == expected
            assert json.loads(record.read_text(encoding="utf-8"))["title"] == "Noise & Co. #1"


@pytest.mark.parametrize("damage", ["empty", "junk", "cut", "rows"])
def test_a_damaged_cache_is_begun_anew(
    damage: str, audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    cache = tmp_path / "raw/soundbible/pages.sqlite"
    with serve([make_clip(1)], audio) as site:
        assert crawl("soundbible", site.base_url).returncode == 0
        before = read_records(tmp_path / "raw", "soundbible")
        whole = cache.read_bytes()
        if damage == "rows":
            with closing(sqlite3.connect(cache)) as pages:
                pages.execute("UPDATE pages SET body = 'x', headers = '[]'")
                pages.commit()
        else:
            cache.write_bytes({"empty": b"", "junk": b"junk" * 1_000, "cut": whole[: len(whole) // 2]}[damage])
        (tmp_path / "raw/soundbible/records/1.json").unlink()
        for _ in range(2):
            done = crawl("soundbible", site.base_url)
            assert (done.returncode, done.stderr) == (0, "")
    assert read_records(tmp_path / "raw", "soundbible") == before


def test_a_page_that_changes_after_its_clip_is_stored_changes_nothing(
    audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    with serve([make_clip(1), make_clip(2)], audio) as site:
        assert crawl("soundbible", site.base_url).returncode == 0
        before = read_records(tmp_path / "raw", "soundbible")
        site.replace(make_clip(1, description="Other words."))
        done = crawl("soundbible", site.base_url)
    assert done.returncode == 0, done.stderr
    assert read_records(tmp_path / "raw", "soundbible") == before


def test_drift_shows_as_a_number_that_jumps(audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path) -> None:
    old, new = [make_clip(number) for number in range(1, 22)], [make_clip(number) for number in range(22, 44)]
    with serve(old, audio, layout="soundbible-old") as site:
        done = crawl("soundbible", site.base_url)
        assert "has the site changed" not in done.stdout
    with serve(old + new, audio, layout="soundbible") as site:
        done = crawl("soundbible", site.base_url)
    assert done.returncode == 0, done.stderr
    assert (
        "gave 100% of the stored clips and 0% of this run's 22 pages; has the site changed its layout?" in done.stdout
    )
    assert len(read_records(tmp_path / "raw", "soundbible")) == 43


def test_what_is_gone_stays_known_through_a_shorter_run(
    audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    clips = [*(make_clip(number) for number in range(2, 6)), make_clip(1, fault="dead")]
    with serve(clips, audio) as site:
        assert crawl("soundbible", site.base_url, "--max-failed", "1").returncode == 0
        assert crawl("soundbible", site.base_url, "--limit", "2").returncode == 0
        assert not read_report(tmp_path / "raw", "soundbible")["failures"]
        site.requests.clear()
        assert crawl("soundbible", site.base_url, "--max-failed", "1").returncode == 0
        assert not [path for _, path, _ in site.requests if path.startswith(("/1-", "/grab.php?id=1&"))]
    assert read_report(tmp_path / "raw", "soundbible")["failed"] == {"not_found": 1}


def test_a_slot_that_is_made_anew_keeps_the_pace() -> None:
    crawler = SimpleNamespace(
        engine=SimpleNamespace(downloader=SimpleNamespace(per_slot_settings={}, slots={})),
        spider=SimpleNamespace(name="x"),
        settings=Settings({"DOWNLOAD_DELAY": 1.0}),
        get_extension=lambda kind: None,
    )
    slow_down(crawler, 0.001)  # type: ignore[arg-type]
    assert crawler.engine.downloader.per_slot_settings == {"x": {"delay": 1.0, "jitter": 0.0}}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120.0), (" 0 ", 0.0), ("Wed, 21 Oct 99999 07:28:00 GMT", None), ("soon", None), ("", None), ("-5", None)],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after_s(value) == seconds


def test_retry_after_as_a_date() -> None:
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert (retry_after_s("Wed, 21 Oct 2099 07:28:00 GMT") or 0) > 1e9
