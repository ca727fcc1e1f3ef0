"""Each way to fail ends as a named failure of its clip, and none stops the crawl."""

from __future__ import annotations

import gzip
from pathlib import Path
from urllib.parse import urlsplit

from tests.crawler.conftest import Crawl, read_records, read_report
from tests.crawler.hostile import Reply, serve_replies


def listing(*numbers: int) -> Reply:
    return Reply(body="".join(f"<h3><a href='/{n}-S.html'>S</a></h3>" for n in numbers).encode())


def detail(number: int, title: str = "S", charset: str = "utf-8") -> Reply:
    body = f"<div id='course-details'><h3>{title}</h3><p>Text {number}.</p></div>"
    return Reply(body=body.encode(charset), headers={"Content-Type": f"text/html; charset={charset}"})


def test_every_way_to_fail_is_named_and_none_stops_the_crawl(audio: Path, crawl: Crawl, tmp_path: Path) -> None:
    wav, mp3 = (audio / "noise.wav").read_bytes(), (audio / "noise.mp3").read_bytes()
    expected = {
        1: "truncated",
        2: "too_large",
        3: "forbidden",
        4: "http_error",  # redirects without end
        5: "http_error",  # a redirect to another host
        6: "robots",
        7: "no_page",  # 200, but a page of no sound
        8: "not_found",  # the page
        9: "network",
        10: "no_page",  # led to the home page
        11: "no_page",  # so is this one
        12: "empty_audio",
        13: "not_audio",
        14: "http_error",  # the page, 500
    }
    big = wav[:44] + bytes(60_000)
    replies: dict[str, Reply] = {
        "/robots.txt": Reply(body=b"User-agent: *\nDisallow: /grab.php?id=6\n", headers={"Content-Type": "text/plain"}),
        "/free-sound-effects-1.html": listing(*expected, 20, 21),
        "/free-sound-effects-2.html": listing(20, 22, 23),
        "/free-sound-effects-3.html": listing(*expected),
        "/": Reply(body=b"<h1>Home</h1>"),
        "/7-S.html": Reply(body=b"<h1>Back soon</h1>"),
        "/8-S.html": Reply(410, b"gone"),
        "/10-S.html": Reply(301, headers={"Location": "/"}),
        "/11-S.html": Reply(301, headers={"Location": "/"}),
        "/14-S.html": Reply(500, b"oops"),
        "/grab.php?id=1&type=wav": Reply(body=wav, length=len(wav) + 500),
        "/grab.php?id=1&type=mp3": Reply(body=mp3[: len(mp3) // 2], length=len(mp3)),
        "/grab.php?id=2&type=wav": Reply(body=big),
        "/grab.php?id=3&type=wav": Reply(403, b"no"),
        "/grab.php?id=4&type=wav": Reply(302, headers={"Location": "/grab.php?id=4&type=wav"}),
        "/grab.php?id=5&type=wav": Reply(302, headers={"Location": "http://localhost:9/secret"}),
        "/grab.php?id=6&type=wav": Reply(body=wav),
        "/grab.php?id=9&type=wav": Reply(hang_up=True),
        "/grab.php?id=12&type=wav": Reply(body=wav[:44]),
        "/grab.php?id=13&type=wav": Reply(body=b"<html>wait</html>", headers={"Content-Type": "audio/x-wav"}),
        # Those that come in: too large as WAV, so the MP3 is taken; compressed; a byte that is not UTF-8; nothing odd.
        "/grab.php?id=20&type=wav": Reply(body=big),
        "/grab.php?id=20&type=mp3": Reply(body=mp3),
        "/grab.php?id=21&type=wav": Reply(body=gzip.compress(wav), headers={"Content-Encoding": "gzip"}),
        "/21-S.html": detail(21, "Caf\xe9 \u20ac", "cp1252"),
        "/grab.php?id=22&type=wav": Reply(body=wav, headers={"Content-Type": "text/html"}),
        "/22-S.html": detail(22, "a\nb &lt;i&gt; \u200b"),
        "/grab.php?id=23&type=wav": Reply(302, headers={"Location": "http://soundbible.com/wav/23%20x.wav"}),
        "/wav/23%20x.wav": Reply(body=wav),
    }
    for number in (*expected, 20, 23):
        replies.setdefault(f"/{number}-S.html", detail(number))
    with serve_replies(replies) as site:
        options = ("-s", "DOWNLOAD_MAXSIZE=50000", "-s", "RETRY_TIMES=1", "--max-failed", "1")
        done = crawl("soundbible", site.base_url, *options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    report = read_report(tmp_path / "raw", "soundbible")
    assert {int(f["source_id"]): f["reason"] for f in report["failures"]} == expected
    assert report["asked"] == report["known"] == len(expected) + 4
    details = {int(f["source_id"]): f["detail"] for f in report["failures"]}
    assert "leads away from the site, to http://localhost:9/secret" in details[5]
    assert "max redirections reached" in details[4]
    assert "the first bytes are '<html>wait</html>'" in details[13]
    assert "its page: HTTP status 410" in details[8]

    records = read_records(tmp_path / "raw", "soundbible")
    assert {number: record["audio_file"] for number, record in records.items()} == {
        "20": "audio/20.mp3",
        "21": "audio/21.wav",
        "22": "audio/22.wav",
        "23": "audio/23.wav",
    }
    assert records["20"]["extra"]["audio_not_used"] == {"https://soundbible.com/grab.php?id=20&type=wav": "too_large"}
    assert records["21"]["title"] == "Caf\xe9 \u20ac"
    assert records["22"]["title"] == "a\nb <i> \u200b"
    assert records["21"]["bytes"] == len(wav)
    stored = {path.name for path in (tmp_path / "raw/soundbible/audio").iterdir()}
    assert stored == {"20.mp3", "21.wav", "22.wav", "23.wav"}


def test_a_listing_that_breaks_off_keeps_its_clips_and_fails_the_verdict(
    audio: Path, crawl: Crawl, tmp_path: Path
) -> None:
    replies = {
        "/free-sound-effects-1.html": listing(1, 2),
        "/free-sound-effects-2.html": Reply(500, b"oops"),
        **{f"/{n}-S.html": detail(n) for n in (1, 2)},
        **{f"/grab.php?id={n}&type=wav": Reply(body=(audio / "noise.wav").read_bytes()) for n in (1, 2)},
    }
    with serve_replies(replies) as site:
        done = crawl("soundbible", site.base_url, "-s", "RETRY_TIMES=0")
        path = urlsplit(site.base_url).netloc
    assert done.returncode == 1
    message = f"http://{path}/free-sound-effects-2.html could not be read: HTTP status 500; only 2 clips are known"
    assert message in done.stderr
    report = read_report(tmp_path / "raw", "soundbible")
    assert (report["finish_reason"], report["stored"]) == ("listing_incomplete", 2)


def test_a_listing_without_end_ends_when_nothing_new_comes(crawl: Crawl, tmp_path: Path) -> None:
    replies = {f"/free-sound-effects-{n}.html": listing(min(n, 5)) for n in range(1, 50)}
    with serve_replies(replies) as site:
        done = crawl("soundbible", site.base_url, "--dry-run")
        pages = [path for path in site.requests if path.startswith("/free")]
    assert "lists 5 clips on 6 pages" in done.stdout
    assert len(pages) == 6


def test_a_site_of_other_pages_lists_no_clip(crawl: Crawl, tmp_path: Path) -> None:
    with serve_replies({"/free-sound-effects-1.html": Reply(body=b"<h1>Domain for sale</h1>")}) as site:
        done = crawl("soundbible", site.base_url)
    assert done.returncode == 1
    assert f"error: {site.base_url} lists no clip" in done.stderr


def test_a_bug_on_a_listing_page_fails_the_verdict(audio: Path, crawl: Crawl, tmp_path: Path) -> None:
    wav = (audio / "noise.wav").read_bytes()
    # A number that int() refuses stands for whatever a page may hold that its parser does not expect.
    link = f"<a href='/free-sound-effects-{'9' * 5000}.html'>last</a>"
    replies = {
        "/free-sound-effects-1.html": Reply(body=listing(1).body + link.encode()),
        "/1-S.html": detail(1),
        "/grab.php?id=1&type=wav": Reply(body=wav),
    }
    with serve_replies(replies) as site:
        done = crawl("soundbible", site.base_url)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {site.base_url}/free-sound-effects-1.html could not be read: ValueError: ")
    assert last.endswith("; only 1 clip is known")
    report = read_report(tmp_path / "raw", "soundbible")
    assert (report["finish_reason"], report["listing_pages"], report["stored"]) == ("listing_incomplete", 1, 1)


def long_title(audio: Path) -> dict[str, Reply]:
    """Return a site of two clips, one with an address of 3,000 characters."""
    long = f"/2-{'x' * 3000}.html"
    links = f"<h3><a href='/1-S.html'>S</a></h3><h3><a href='{long}'>S</a></h3>"
    wav = Reply(body=(audio / "noise.wav").read_bytes())
    sounds = {f"/grab.php?id={n}&type=wav": wav for n in (1, 2)}
    return {"/free-sound-effects-1.html": Reply(body=links.encode()), "/1-S.html": detail(1), long: detail(2), **sounds}


def test_a_long_title_does_not_cost_a_clip(audio: Path, crawl: Crawl, tmp_path: Path) -> None:
    with serve_replies(long_title(audio)) as site:
        done = crawl("soundbible", site.base_url)
    assert done.returncode == 0, done.stderr
    assert set(read_records(tmp_path / "raw", "soundbible")) == {"1", "2"}


def test_a_clip_that_vanishes_inside_scrapy_is_a_failure(audio: Path, crawl: Crawl, tmp_path: Path) -> None:
    with serve_replies(long_title(audio)) as site:
        done = crawl("soundbible", site.base_url, "-s", "URLLENGTH_LIMIT=2083")
    assert done.returncode == 1
    report = read_report(tmp_path / "raw", "soundbible")
    assert (report["known"], report["asked"], report["failed"]) == (2, 2, {"crawler_error": 1})
    assert report["failures"][0]["source_id"] == "2"
    assert report["failures"][0]["detail"] == "no outcome"


def test_nothing_stored_is_nothing_written(crawl: Crawl, tmp_path: Path) -> None:
    with serve_replies({"/free-sound-effects-1.html": listing(1)}) as site:
        done = crawl("soundbible", site.base_url)
    assert done.returncode == 1
    assert "not_found 1" in done.stdout
    assert "wrote" not in done.stdout
