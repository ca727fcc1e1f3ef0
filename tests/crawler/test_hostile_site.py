"""A site that is busy, or whose robots.txt and tdmrep.json are missing, odd, endless or elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from tests.crawler.hostile import (
    GONE,
    Crawled,
    HostileSite,
    Replies,
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

TEXT = {"Content-Type": "text/plain"}
QUICK = (
    "-s",
    "RETRY_TIMES=0",
    "-s",
    "DOWNLOAD_TIMEOUT=2",
    "-s",
    "DOWNLOAD_MIN_RATE_AFTER=1",
    "-s",
    "PAGE_MAXSIZE=1000000",
)


def small_site(audio: Path, **changes: Reply | list[Reply]) -> dict[str, Reply | list[Reply]]:
    """Return a site of two clips; the changes name a path by a word."""
    wav = wav_of(audio)
    replies: dict[str, Reply | list[Reply]] = {
        "/free-sound-effects-1.html": listing(1, 2),
        "/free-sound-effects-2.html": listing(1, 2),
        **{f"/{n}-S.html": detail(n) for n in (1, 2)},
        **{f"/grab.php?id={n}&type=wav": wav for n in (1, 2)},
    }
    return replies | {PATHS[name]: reply for name, reply in changes.items()}


PATHS = {
    "robots": "/robots.txt",
    "tdmrep": "/.well-known/tdmrep.json",
    "listing": "/free-sound-effects-1.html",
    "page": "/1-S.html",
    "wav": "/grab.php?id=1&type=wav",
}


@dataclass(frozen=True)
class Case:
    """What a file of the site answers, whether the clips are taken then, and words that the crawl says of it."""

    reply: Reply
    is_open: bool
    words: str = ""


ROBOTS = {
    "missing": Case(GONE, True),
    "gone": Case(Reply(410, b"gone"), True),
    "forbidden": Case(Reply(403, b"no"), True, "HTTP status 403"),
    "empty": Case(Reply(headers=TEXT), True),
    "forbids all": Case(Reply(body=b"User-agent: *\nDisallow: /\n", headers=TEXT), False, "forbidden by robots.txt"),
    "forbids us": Case(Reply(body=b"User-agent: WavText5K-Crawl\nDisallow: /\n", headers=TEXT), False, "forbidden"),
    "with a mark": Case(Reply(body=b"\xef\xbb\xbfUser-agent: *\r\nDisallow: /\r\n", headers=TEXT), False, "forbidden"),
    "broken": Case(Reply(500, b"oops"), False, "HTTP status 500"),
    "hangs up": Case(Reply(raw=b""), False, "robots.txt could not be read"),
    "a page": Case(Reply(body=b"<!DOCTYPE html><h1>Disallow: /</h1>"), True, "answers with a web page"),
    "no text": Case(Reply(body=bytes(range(256)) * 4, headers=TEXT), True),
    "stalls": Case(Reply(body=stall(b"User-agent: *\n"), framing="close"), False, "robots.txt could not be read"),
    "drips": Case(
        Reply(body=drip(b"User-agent: *\n" * 99, 0.1), framing="close"), False, "robots.txt could not be read"
    ),
    "cut": Case(Reply(body=b"User-agent: *\n", length=900), False, "robots.txt could not be read"),
    "leads away": Case(Reply(301, headers={"Location": "http://10.0.0.1/robots.txt"}), False, "leads away"),
    "leads to itself": Case(Reply(301, headers={"Location": "/robots.txt"}), False, "robots.txt"),
}


def test_a_robots_txt_of_every_kind_opens_the_site_or_closes_it_and_the_crawl_says_which(
    audio: Path, tmp_path: Path
) -> None:
    sites = {name: small_site(audio, robots=case.reply) for name, case in ROBOTS.items()}
    check_each(ROBOTS, crawl_each(tmp_path, sites, *QUICK))


def check_each(cases: dict[str, Case], results: dict[str, tuple[Crawled, HostileSite]]) -> None:
    """Check every case and say which are wrong, not the first alone."""
    wrong = []
    for name, case in cases.items():
        crawled, site = results[name]
        try:
            expect_open(crawled, site, is_open=case.is_open)
            assert case.words in crawled.stdout + crawled.stderr
        except AssertionError as error:
            wrong.append(f"{name}: {crawled.stderr} {crawled.stdout} {error}")
    assert not wrong, "\n".join(wrong)


def expect_open(crawled: Crawled, site: HostileSite, *, is_open: bool) -> None:
    """Check that the clips were taken, or that nothing at all was asked of the site but its rules."""
    if is_open:
        assert crawled.returncode == 0, crawled.stderr
        assert set(crawled.records) == {1, 2}
    else:
        assert crawled.returncode == 1
        assert crawled.stderr.splitlines()[-1].startswith("error: ")
        assert set(site.requests) <= {PATHS["robots"], PATHS["tdmrep"]}
        assert crawled.records == {}


def test_a_robots_txt_of_more_bytes_than_a_page_may_have_does_not_hold_the_crawl(audio: Path, tmp_path: Path) -> None:
    endless = Reply(body=flood(b"User-agent: *\nDisallow: /1-\n", 300), framing="close", headers=TEXT)
    bomb = bombs()["gzip"]
    sites = {"endless": small_site(audio, robots=endless), "a bomb": small_site(audio, robots=bomb)}
    for crawled, site in crawl_each(tmp_path, sites, *QUICK).values():
        assert site.sent("/robots.txt") < 100 * 2**20
        assert "robots.txt" in crawled.stdout + crawled.stderr
        assert 1 not in crawled.records, "what robots.txt forbids in its first lines is forbidden"


def test_rules_that_are_slow_to_match_do_not_hold_the_crawl(audio: Path, tmp_path: Path) -> None:
    stars = "/" + "*a" * 30 + "*b$"
    long = "/1-" + "a" * 2_000 + ".html"
    replies = small_site(
        audio,
        robots=Reply(body=f"User-agent: *\nDisallow: {stars}\n".encode(), headers=TEXT),
        tdmrep=Reply(body=f'[{{"location": "{stars}", "tdm-reservation": 1}}]'.encode()),
        listing=Reply(body=f"<h3><a href='{long}'>A</a><a href='/2-S.html'>S</a></h3>".encode()),
    )
    replies[long] = detail(1)
    with serve_replies(replies) as site:
        crawled = crawl_hostile(tmp_path, site.base_url, *QUICK)
    assert set(crawled.records) == {1, 2}


def test_a_crawl_delay_of_no_sense_does_not_hold_the_crawl(audio: Path, tmp_path: Path) -> None:
    delays = ("1e99", "inf", "nan", "-5", "1000000", "soon")
    robots = {delay: Reply(body=f"User-agent: *\nCrawl-delay: {delay}\n".encode(), headers=TEXT) for delay in delays}
    sites = {delay: small_site(audio, robots=reply) for delay, reply in robots.items()}
    for crawled, _ in crawl_each(tmp_path, sites, *QUICK).values():
        if set(crawled.records) != {1, 2}:
            assert crawled.returncode == 1
            assert "Crawl-delay" in crawled.stderr


TDMREP = {
    "missing": Case(GONE, True),
    "reserves": Case(Reply(body=b'[{"location": "/", "tdm-reservation": 1}]'), False, "tdm"),
    "broken": Case(Reply(500, b"oops"), True),
    "a page": Case(Reply(body=b"<!DOCTYPE html><h1>tdm-reservation</h1>"), True, "not JSON"),
    "nested": Case(Reply(body=b"[" * 100_000), True, "not JSON"),
    "no list": Case(Reply(body=b'{"location": 5}'), True, "not a list"),
    "hangs up": Case(Reply(raw=b""), True),
    "stalls": Case(Reply(body=stall(b"["), framing="close"), True),
    "endless": Case(Reply(body=flood(b"[", 300), framing="close"), True),
    "leads away": Case(Reply(302, headers={"Location": "http://10.0.0.1/"}), True),
}


def test_a_tdmrep_json_of_every_kind_reserves_the_site_or_does_not(audio: Path, tmp_path: Path) -> None:
    sites = {name: small_site(audio, tdmrep=case.reply) for name, case in TDMREP.items()}
    check_each(TDMREP, crawl_each(tmp_path, sites, *QUICK))


def test_a_busy_site_rests_as_long_as_it_asks(audio: Path, tmp_path: Path) -> None:
    # A date has whole seconds: this one is two to three seconds away.
    asks: dict[str, str | Callable[[], str]] = {
        "seconds": "2",
        "date": lambda: formatdate(int(time.time()) + 3, usegmt=True),
    }
    replies = {
        f"{status} {kind}": small_site(audio, wav=[Reply(status, b"busy", {"Retry-After": ask}), wav_of(audio)])
        for status in (429, 503)
        for kind, ask in asks.items()
    }
    results = crawl_each(tmp_path, replies, "-s", "CONCURRENT_REQUESTS_PER_DOMAIN=1", "-s", "DOWNLOAD_DELAY=0.001")
    for name, (crawled, site) in results.items():
        assert set(crawled.records) == {1, 2}, name
        first = site.times(PATHS["wav"])[0]
        next_one = min(asked.time_s for asked in site.asked if asked.time_s > first)
        assert next_one - first >= 1.9, f"{name}: the whole site rests, not one address"
        assert crawled.report["requests"][name.partition(" ")[0]] == 1


def test_what_fails_once_is_asked_once_more(audio: Path, tmp_path: Path) -> None:
    sites = {}
    for name in ("listing", "page", "wav", "robots"):
        well = small_site(audio).get(PATHS[name], Reply(headers=TEXT))
        assert isinstance(well, Reply)
        for way, bad in {"500": Reply(500), "503": Reply(503), "hangs up": Reply(raw=b"")}.items():
            sites[f"{name} {way}"] = small_site(audio, **{name: [bad, well]})
    for name, (crawled, site) in crawl_each(tmp_path, sites).items():
        assert set(crawled.records) == {1, 2}, f"{name}: {crawled.stderr}"
        assert len(site.times(PATHS[name.partition(" ")[0]])) == 2


def test_a_retry_after_of_no_sense_is_none(audio: Path, tmp_path: Path) -> None:
    asks = (
        "soon",
        "-5",
        "",
        "Fri, 31 Dec 1999 23:59:59 GMT",
        "1e3",
        "9" * 5_000 + "x",
        "\xff",
        "Fri, 99 Foo 1 1:1 GMT",
    )
    sites = {ask: small_site(audio, wav=[Reply(503, b"busy", {"Retry-After": ask}), wav_of(audio)]) for ask in asks}
    for ask, (crawled, _) in crawl_each(tmp_path, sites).items():
        assert set(crawled.records) == {1, 2}, f"{ask[:40]}: {crawled.stderr}"


def test_a_site_that_asks_for_years_ends_the_crawl_which_says_so(audio: Path, tmp_path: Path) -> None:
    asks = ("999999999", "9" * 400, "Fri, 31 Dec 2999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 -2359")
    sites = {ask: small_site(audio, page=Reply(429, b"busy", {"Retry-After": ask})) for ask in asks}
    one = ("-s", "CONCURRENT_REQUESTS_PER_DOMAIN=1", "-s", "DOWNLOAD_DELAY=0.001")
    for crawled, site in crawl_each(tmp_path, sites, *one).values():
        assert crawled.returncode == 1
        assert crawled.stderr.startswith(f"error: {site.base_url} is busy (HTTP status 429) and asks to wait ")
        assert crawled.stderr.endswith("; run the same command again then")
        assert len(site.times("/1-S.html")) == 1


def test_a_site_that_stays_busy_fails_its_clips_and_no_more(audio: Path, tmp_path: Path) -> None:
    busy: Replies = small_site(audio, wav=Reply(503, b"busy"), page=Reply(429, b"busy", {"Retry-After": "0"}))
    with serve_replies(busy) as site:
        crawled = crawl_hostile(tmp_path, site.base_url, "-s", "RETRY_TIMES=2", "--max-failed", "1")
    assert crawled.returncode == 0, crawled.stderr
    assert crawled.reasons == {1: "http_error"}
    assert len(site.times("/1-S.html")) == 3
    assert set(crawled.records) == {2}


def wav_of(audio: Path) -> Reply:
    return audio_reply((audio / "noise.wav").read_bytes())
