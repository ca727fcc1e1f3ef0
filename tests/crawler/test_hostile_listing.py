"""Listings and sitemaps that never end, repeat, lie or break, and pages that change between two runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crawler.conftest import Crawl, read_records, read_report
from tests.crawler.hostile import (
    GONE,
    Reply,
    audio_reply,
    crawl_each,
    crawl_hostile,
    detail,
    drip,
    flood,
    listing,
    serve_replies,
    stall,
)
from tests.crawler.test_hostile import bombs

FIRST = "/free-sound-effects-1.html"
SECOND = "/free-sound-effects-2.html"
QUICK = (
    "-s",
    "RETRY_TIMES=0",
    "-s",
    "DOWNLOAD_TIMEOUT=2",
    "-s",
    "PAGE_MAXSIZE=100000",
    "-s",
    "DOWNLOAD_MIN_RATE_AFTER=1",
)


@pytest.fixture
def wav(audio: Path) -> bytes:
    return (audio / "noise.wav").read_bytes()


def any_clip(wav: bytes) -> Callable[[str], Reply]:
    """Return a site on which every clip is well, whatever its number."""

    def answer(path: str) -> Reply:
        if path.endswith("-S.html"):
            return detail(int(path[1:].partition("-")[0]))
        return audio_reply(wav) if path.endswith("type=wav") else GONE

    return answer


def test_a_listing_that_always_brings_new_clips_ends_at_the_cap(wav: bytes, tmp_path: Path) -> None:
    clip = any_clip(wav)

    def answer(path: str) -> Reply:
        if not path.startswith("/free-sound-effects-"):
            return clip(path)
        page = int(path.rpartition("-")[2].removesuffix(".html"))
        return listing(2 * page, 2 * page + 1)

    with serve_replies({}, answer) as site:
        crawled = crawl_hostile(tmp_path, site.base_url, "-s", "LISTING_PAGES_MAX=4")
    assert len([path for path in site.requests if path.startswith("/free")]) == 4
    assert crawled.returncode == 1
    assert "LISTING_PAGES_MAX" in crawled.stderr.splitlines()[-1]
    assert crawled.report["finish_reason"] == "listing_incomplete"
    assert set(crawled.records) == set(range(2, 10))


def test_a_listing_that_repeats_ends_when_nothing_new_comes(crawl: Crawl) -> None:
    replies = {f"/free-sound-effects-{n}.html": listing(min(n, 5)) for n in range(1, 50)}
    with serve_replies(replies) as site:
        done = crawl("soundbible", site.base_url, "--dry-run")
    assert "lists 5 clips on 6 pages" in done.stdout
    assert len([path for path in site.requests if path.startswith("/free")]) == 6


def test_one_id_on_two_pages_is_one_clip_and_one_audio_of_two_clips_is_fetched_once(
    audio: Path, wav: bytes, tmp_path: Path
) -> None:
    player = '<div data-source="mp3/shared.mp3"></div>'
    links = (
        b"<h3><a href='/3-S.html'>S</a></h3><h3><a href='/3-Again.html'>S</a></h3><h3><a href='/03-S.html'>S</a></h3>"
    )
    replies = {
        FIRST: listing(1, 2, 1),
        SECOND: Reply(body=links + listing(1, 2).body),  # type: ignore[operator]
        "/1-S.html": detail(1, more=player),
        "/2-S.html": detail(2, more=player),
        "/mp3/shared.mp3": audio_reply((audio / "noise.mp3").read_bytes()),
        "/3-S.html": detail(3),
        "/grab.php?id=3&type=wav": audio_reply(wav),
    }
    with serve_replies(replies) as site:
        crawled = crawl_hostile(tmp_path, site.base_url)
    assert crawled.returncode == 0, crawled.stderr
    assert set(crawled.records) == {1, 2, 3}
    assert [path for path in site.requests if "3-" in path] == ["/3-S.html"]
    assert site.requests.count("/1-S.html") == 1
    assert site.requests.count("/mp3/shared.mp3") == 1
    assert crawled.records[1]["sha256"] == crawled.records[2]["sha256"]
    assert {crawled.records[n]["audio_file"] for n in (1, 2)} == {"audio/1.mp3", "audio/2.mp3"}


URLLENGTH = (
    "-s",
    'SPIDER_MIDDLEWARES={"scrapy.spidermiddlewares.urllength.UrlLengthMiddleware": 860}',
    "-s",
    "URLLENGTH_LIMIT=2083",
)
"""A middleware that drops a request without a word; it is switched off by default."""

BROKEN: dict[str, tuple[Reply, str]] = {
    "broken": (Reply(500, b"oops"), "HTTP status 500"),
    "forbidden": (Reply(403, b"no"), "HTTP status 403"),
    "hangs up": (Reply(raw=b""), ""),
    "cut": (Reply(body=listing(3).body, length=9_000), "the connection closed before the whole answer came"),
    "drips": (Reply(body=drip(b"<h3>" * 500, 0.1), framing="close"), ""),
    "stalls": (Reply(body=stall(b"<h3>"), framing="close"), "too slow|no byte for"),
    "without end": (Reply(body=flood(b"<h3>", 300), framing="close"), "MAXSIZE|too large|larger than|more than"),
    "a bomb": (bombs()["gzip"], ""),
    "leads to itself": (Reply(302, headers={"Location": SECOND}), "max redirections reached"),
    "leads away": (Reply(302, headers={"Location": "http://10.0.0.1/"}), "leads away from the site"),
}


def test_a_listing_that_breaks_off_keeps_its_clips_and_fails_the_verdict(wav: bytes, tmp_path: Path) -> None:
    sites = {name: {FIRST: listing(1, 2), SECOND: reply} for name, (reply, _) in BROKEN.items()}
    for name, (crawled, _) in crawl_each(tmp_path, sites, *QUICK, otherwise=any_clip(wav)).items():
        assert crawled.stderr.startswith("error: http://"), name
        assert " could not be read: " in crawled.stderr, name
        assert any(part in crawled.stderr for part in BROKEN[name][1].split("|")), (name, crawled.stderr)
        assert crawled.stderr.endswith("; only 2 clips are known"), name
        assert (crawled.report["finish_reason"], crawled.report["stored"]) == ("listing_incomplete", 2), name
        assert set(crawled.records) == {1, 2}, name


@pytest.mark.parametrize("reply", [Reply(404, b"gone"), Reply(500, b"oops"), listing(1)])
def test_a_gap_in_the_listing_is_said_and_what_lies_behind_it_is_read(reply: Reply, wav: bytes, tmp_path: Path) -> None:
    links = b"".join(b"<a href='/free-sound-effects-%d.html'>x</a>" % number for number in (1, 2, 3, 4))
    pages = {1: listing(1), 2: reply, 3: listing(3), 4: listing(4)}
    replies: dict[str, Any] = {
        f"/free-sound-effects-{number}.html": Reply(page.status, page.body + links)  # type: ignore[operator]
        for number, page in pages.items()
    }
    replies |= {f"/{n}-S.html": detail(n) for n in (1, 3, 4)}
    replies |= {f"/grab.php?id={n}&type=wav": audio_reply(wav) for n in (1, 3, 4)}
    with serve_replies(replies) as site:
        crawled = crawl_hostile(tmp_path, site.base_url, "-s", "RETRY_TIMES=0")
    assert crawled.returncode == 1
    assert f"{site.base_url}/free-sound-effects-2.html " in crawled.stderr
    assert "; only 3 clips are known" in crawled.stderr
    assert set(crawled.records) == {1, 3, 4}
    assert crawled.report["finish_reason"] == "listing_incomplete"


def test_a_site_of_other_pages_lists_no_clip(tmp_path: Path) -> None:
    with serve_replies({FIRST: Reply(body=b"<h1>Domain for sale</h1>")}) as site:
        crawled = crawl_hostile(tmp_path, site.base_url)
    assert crawled.returncode == 1
    assert f"error: {site.base_url} lists no clip" in crawled.stderr


def test_a_listing_of_odd_links_gives_its_sounds_and_no_other(wav: bytes, tmp_path: Path) -> None:
    odd = [
        *(
            "http://[::1/4-S.html",
            "http://169.254.169.254/5-S.html",
            "file:///6-S.html",
            "javascript:7-S.html",
            "../../8-S.html",
        ),
        *(
            f"/{'9' * 5_000}-S.html",
            "/-S.html",
            "/0x10-S.html",
            "/12\n-S.html",
            "/\uff11\uff13-S.html",
            f"/free-sound-effects-{'9' * 5_000}.html",
        ),
        *(
            "//127.0.0.2/14-S.html",
            "/15-" + "x" * 3_000 + ".html",
            "/../etc/16-S.html",
            "/17-S.html?x=1#y",
            "/18-%2e%2e%2fS.html",
        ),
    ]
    body = "".join(f"<h3><a href='{link}'>S</a></h3>" for link in ["/1-S.html", *odd])
    clip = any_clip(wav)

    def answer(path: str) -> Reply:
        number = path[1:].partition("-")[0]
        return detail(int(number)) if ".html" in path and number.isdigit() and "free" not in path else clip(path)

    with serve_replies({FIRST: Reply(body=body.encode())}, answer) as site:
        crawled = crawl_hostile(tmp_path, site.base_url, "--max-failed", "1")
    assert {1, 8, 15, 17, 18} <= set(crawled.records)
    assert not {5, 6, 7, 14} & set(crawled.records)
    assert crawled.report["known"] == crawled.report["asked"] < 15
    assert set(crawled.report["failed"]) <= {"http_error", "not_found", "network"}


def test_a_page_that_changes_between_runs(wav: bytes, tmp_path: Path) -> None:
    def tagged(number: int, title: str) -> Reply:
        page = detail(number, title)
        return Reply(body=page.body, headers={**page.headers, "ETag": f'"{number} {title}"'})

    replies: dict[str, Reply | list[Reply]] = {
        FIRST: [listing(1, 2), listing(3, 1)],  # 3 is new on the second day, 2 is not listed any more
        SECOND: GONE,
        "/1-S.html": [tagged(1, "Old"), tagged(1, "New")],
        "/2-S.html": tagged(2, "Old"),
        "/3-S.html": [tagged(3, "Old"), tagged(3, "New")],
        **{f"/grab.php?id={n}&type=wav": audio_reply(wav) for n in (1, 2)},
        "/grab.php?id=3&type=wav": [GONE, audio_reply(wav)],
    }
    expired = ("-s", "HTTPCACHE_EXPIRATION_SECS=1e-9", "--max-failed", "1")
    with serve_replies(replies) as site:
        first = crawl_hostile(tmp_path, site.base_url)
        assert {number: record["title"] for number, record in first.records.items()} == {1: "Old", 2: "Old"}
        site.asked.clear()
        second = crawl_hostile(tmp_path, site.base_url, *expired)
        assert site.requests.count("/1-S.html") == 0, "what is stored is not asked again, whatever its page says now"
        third = crawl_hostile(tmp_path, site.base_url, *expired, "--retry-failed")
    assert second.reasons == {3: "not_found"}
    assert second.records[2] == first.records[2], "a clip that is no longer listed stays"
    assert third.records[3]["title"] == "New"
    conditions = [asked.headers.get("if-none-match") for asked in site.asked if asked.path == "/3-S.html"]
    assert conditions == [None, '"3 Old"']
    assert third.records[1]["title"] == "Old"


def sound(number: int, ld: str, more: str = "") -> Reply:
    """Return a page of BigSoundBank with a JSON-LD block that need not be one."""
    return Reply(body=f'<script type="application/ld+json">{ld}</script><h1>Sound {number}</h1>{more}'.encode())


def test_a_hostile_sitemap_and_hostile_facts_cost_no_other_clip(audio: Path, wav: bytes, tmp_path: Path) -> None:
    flac = (audio / "noise.flac").read_bytes()
    urls = [f"https://bigsoundbank.com/s-s{number:04d}.html" for number in range(1, 13)]
    odd = ["http://169.254.169.254/s-s0020.html", "file:///s-s0021.html", "http://[/s-s0022.html", "", "&xxe;"]
    entity = '<!DOCTYPE urlset [<!ENTITY xxe SYSTEM "file:///etc/passwd">]>'
    sitemap = f"{entity}<urlset>{''.join(f'<url><loc>{url}</loc></url>' for url in urls + odd)}</urlset>"
    away = {"@type": "AudioObject", "name": "Bell", "contentUrl": "http://169.254.169.254/UPLOAD/flac/0003.flac"}
    other = {"@type": "AudioObject", "name": "Bell", "contentUrl": "/UPLOAD/flac/0005.flac"}
    pages = {
        1: sound(1, json.dumps({"@type": "AudioObject", "name": "Bell", "contentUrl": "/UPLOAD/flac/0001.flac"})),
        2: sound(2, "[" * 100_000),
        3: sound(3, json.dumps(away)),
        4: sound(4, json.dumps(other)),
        5: sound(5, '{"@type": "AudioObject", "name": {"a": [1e999, NaN, null]}, "duration": "PT%sS"}' % ("9" * 5_000)),
        6: sound(6, "{}", f"<body>Sound number: {'9' * 5_000}"),
        7: sound(7, "{}", "<body>Sound number: 8"),
        8: sound(8, "{}", "<body>Sound number: 0,008 <p>Author: " + "x" * 100_000),
        9: sound(9, '{"@type": "AudioObject", "keywords": {"a": 1}, "license": ["http://x"], "author": [[["A"]]]}'),
        10: sound(10, json.dumps([{"@graph": [{"@type": ["AudioObject"], "name": "Deep"}]}])),
        11: sound(11, "{}", '<a href="/UPLOAD/../../etc/0011.wav">x</a><a href="/UPLOAD/wav/0011.wav">y</a>'),
        12: Reply(302, headers={"Location": "/"}),
    }
    replies = {"/sitemap_bsb.xml": Reply(body=sitemap.encode(), headers={"Content-Type": "application/xml"})}
    replies |= {f"/s-s{number:04d}.html": page for number, page in pages.items()}
    replies |= {f"/UPLOAD/flac/{number:04d}.flac": audio_reply(flac) for number in pages if number != 11}
    replies["/UPLOAD/wav/0011.wav"] = audio_reply(wav)
    with serve_replies(replies) as site:
        crawled = crawl_hostile(tmp_path, site.base_url, "--max-failed", "1", spider="bigsoundbank")
    assert crawled.returncode == 0, crawled.stderr
    assert {number: crawled.reasons.get(number) for number in (3, 6, 7, 12)} == {
        3: "http_error",
        6: "no_page",
        7: "no_page",
        12: "not_found",  # led to the home page, as the site does with a number it has not
    }
    assert set(crawled.records) == {1, 2, 4, 5, 8, 9, 10, 11}
    assert "crawler_error" not in crawled.report["failed"]
    assert not [path for path in site.requests if path == "/UPLOAD/flac/0005.flac" and site.requests.count(path) > 1]


def test_without_a_sitemap_that_can_be_read_the_categories_are_or_the_crawl_says_so(
    audio: Path, tmp_path: Path
) -> None:
    replies = {
        "/categories.html": Reply(body=b"<a href='/s-s0001.html'>1</a><a href='/categories.html?p=2'>2</a>"),
        "/s-s0001.html": sound(1, "{}"),
        "/UPLOAD/flac/0001.flac": audio_reply((audio / "noise.flac").read_bytes()),
    }
    sites = {name: {"/sitemap_bsb.xml": reply, **replies} for name, (reply, _) in BROKEN.items()}
    for name, (crawled, _) in crawl_each(tmp_path, sites, *QUICK, spider="bigsoundbank").items():
        said = crawled.stdout + crawled.stderr
        assert "could not be read" in said or "cannot be used" in said, name
        is_gone = name in ("forbidden", "leads to itself")  # that is no page of this site: 404
        assert (set(crawled.records), crawled.returncode) == (({1}, 0) if is_gone else (set(), 1)), name


def test_a_bug_on_a_listing_page_fails_the_verdict_and_keeps_its_clips(
    wav: bytes, crawl: Crawl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A parser that raises stands for whatever a page may hold that ours does not expect.
    bug = "import crawler.pages.soundbible as p\ndef bug(*a): raise KeyError('x')\np.last_listing_page = bug\n"
    (tmp_path / "sitecustomize.py").write_text(bug, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with serve_replies({FIRST: listing(1)}, any_clip(wav)) as site:
        done = crawl("soundbible", site.base_url)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {site.base_url}{FIRST} could not be read: KeyError: ")
    assert read_report(tmp_path / "raw", "soundbible")["finish_reason"] == "listing_incomplete"
    assert set(read_records(tmp_path / "raw", "soundbible")) == {"1"}


def long_title(wav: bytes) -> dict[str, Reply]:
    """Return a site of two clips, one with an address of 3,000 characters."""
    long = f"/2-{'x' * 3000}.html"
    links = f"<h3><a href='/1-S.html'>S</a></h3><h3><a href='{long}'>S</a></h3>"
    sounds = {f"/grab.php?id={n}&type=wav": audio_reply(wav) for n in (1, 2)}
    return {FIRST: Reply(body=links.encode()), "/1-S.html": detail(1), long: detail(2), **sounds}


def test_a_clip_that_vanishes_inside_scrapy_is_a_failure(wav: bytes, tmp_path: Path) -> None:
    with serve_replies(long_title(wav)) as site:
        crawled = crawl_hostile(tmp_path, site.base_url, *URLLENGTH)
    assert crawled.returncode == 1
    assert (crawled.report["known"], crawled.reasons) == (2, {2: "crawler_error"})
    assert crawled.details[2] == "no outcome"


def test_nothing_stored_is_nothing_written(crawl: Crawl, tmp_path: Path) -> None:
    with serve_replies({FIRST: listing(1)}) as site:
        done = crawl("soundbible", site.base_url)
    assert done.returncode == 1
    assert "not_found 1" in done.stdout
    assert "wrote" not in done.stdout
    assert read_records(tmp_path / "raw", "soundbible") == {}
    assert read_report(tmp_path / "raw", "soundbible")["stored"] == 0
