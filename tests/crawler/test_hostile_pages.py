"""Pages that do not come, lie, or hold odd text and odd names: a record or a named failure each, all in one crawl."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crawler.hostile import (
    Crawled,
    HostileSite,
    Reply,
    audio_reply,
    crawl_hostile,
    detail,
    drip,
    flood,
    listing,
    serve_replies,
    stall,
)
from tests.crawler.test_hostile import bombs

OPTIONS = ("-s", "PAGE_MAXSIZE=100000", "-s", "RETRY_TIMES=0", "-s", "DOWNLOAD_TIMEOUT=2", "--max-failed", "1")
SLOW = ("-s", "DOWNLOAD_MIN_RATE_AFTER=1")

COURSE = "<div id='course-details'>{}</div>"


def html(text: str, charset: str = "utf-8", *, content_type: str = "text/html; charset=utf-8") -> Reply:
    """Return a page in one charset that may claim another."""
    return Reply(body=text.encode(charset), headers={"Content-Type": content_type})


@dataclass(frozen=True)
class Run:
    """One crawl, and the site as it was asked."""

    crawled: Crawled
    site: HostileSite


BAD_PAGES: dict[str, tuple[str, Reply]] = {
    "empty": ("no_page", Reply()),
    "nothing of a sound": ("no_page", Reply(body=b"<h1>Back soon</h1>")),
    "the home page": ("no_page", Reply(301, headers={"Location": "/"})),
    "another sound's page": ("no_page", Reply(301, headers={"Location": "/900-S.html"})),
    "a sound itself": ("no_page", audio_reply(b"RIFF\0\0\0\0WAVE" + bytes(400))),
    "zeros": ("no_page", Reply(body=bytes(5_000))),
    "gone": ("not_found", Reply(410, b"gone")),
    "forbidden": ("forbidden", Reply(403, b"no")),
    "broken": ("http_error", Reply(500, b"oops")),
    "no content": ("http_error|no_page", Reply(204)),
    "leads away": ("http_error", Reply(302, headers={"Location": "http://169.254.169.254/latest/"})),
    "leads to a file": ("http_error", Reply(302, headers={"Location": "file:///etc/passwd"})),
    "leads to itself": ("http_error", Reply(302, headers={"Location": "/12-S.html"})),
    "hangs up": ("network", Reply(raw=b"")),
    "less than its length": ("truncated", Reply(body=b"<h1>S</h1>", length=900)),
    "no last chunk": ("truncated", Reply(body=b"<h1>S</h1>", framing="cut chunks")),
    "drips": ("network", Reply(body=drip(b"<h1>S</h1>" * 90, 0.2), framing="close")),
    "stalls": ("network", Reply(body=stall(b"<h1>S</h1>"), framing="close")),
    "never answers": ("network", Reply(wait_s=60)),
    "without end": ("too_large", Reply(body=flood(b"<h1>S</h1>", 300), framing="close")),
    "claims too much": ("too_large", Reply(body=stall(b"<h1>S</h1>"), length=400_000_000)),
    **{f"a {coding} bomb": ("too_large", reply) for coding, reply in bombs().items()},
    "says gzip, is none": ("network", Reply(body=b"<h1>S</h1>", headers={"Content-Encoding": "gzip"})),
}

# What the page sends -> the title that is recorded. "" asks for a page without one: the address tells it then.
TITLES: dict[str, tuple[Reply, str]] = {
    "entities": (
        html(COURSE.format("<h3>Cats &amp; &quot;dogs&quot; &eacute; &#8364; &lt;i&gt;</h3>")),
        'Cats & "dogs" é € <i>',
    ),
    "entities twice": (html(COURSE.format("<h3>Rock &amp;amp; roll</h3>")), "Rock &amp; roll"),
    "entities that are none": (html(COURSE.format("<h3>A &nosuch; &#0; &#x110000; B</h3>")), "*"),
    "half a surrogate": (html(COURSE.format("<h3>A &#xD800; B</h3>")), "*"),
    "mojibake": (html(COURSE.format("<h3>CafÃ©</h3>")), "CafÃ©"),
    "line ends": (html(COURSE.format("<h3> a\nb\r\n\tc </h3>")), "*"),
    "zero width": (html(COURSE.format("<h3>Bell\u200b</h3>")), "*"),
    "NUL": (html(COURSE.format("<h3>Be\0ll</h3>")), "*"),
    "other scripts": (html(COURSE.format("<h3>Звонок 鐘 جرس 🔔</h3>")), "Звонок 鐘 جرس 🔔"),
    "no charset said, UTF-8": (html(COURSE.format("<h3>Café</h3>"), content_type="text/html"), "Café"),
    "no charset said, Latin": (html(COURSE.format("<h3>Café €</h3>"), "cp1252", content_type="text/html"), "Café €"),
    "UTF-8 said, Latin": (html(COURSE.format("<h3>Café €</h3>"), "cp1252"), "Café €"),
    "Latin said, UTF-8": (html(COURSE.format("<h3>Café</h3>"), content_type="text/html; charset=iso-8859-1"), "Café"),
    "Cyrillic": (
        html(COURSE.format("<h3>Звонок</h3>"), "cp1251", content_type="text/html; charset=windows-1251"),
        "Звонок",
    ),
    "a charset of no name": (html(COURSE.format("<h3>Café</h3>"), content_type="text/html; charset=utf-99"), "Café"),
    "a charset that is no text": (html(COURSE.format("<h3>Cafe</h3>"), content_type="text/html; charset=zlib"), "Cafe"),
    "one bad byte": (Reply(body=b"<div id='course-details'><h3>A \xff B</h3><p>T</p></div>"), "*"),
    "no title": (html(COURSE.format("<a href='/grab.php?id=118&type=wav'>wav</a>")), "S"),
    "a title of blanks": (html(COURSE.format("<h3> \u200b\n</h3><p>Text</p>")), "*"),
    "10,000 signs": (html(COURSE.format(f"<h3>{'a' * 10_000}</h3>")), "a" * 10_000),
    "never closed": (html("<div id='course-details'><h3>Open" + "<div>" * 5_000), "Open"),
    "markup in the title": (html(COURSE.format("<h3><b>Bo</b>ld <script>alert(1)</script></h3>")), "*"),
    "compressed": (
        Reply(body=gzip.compress(COURSE.format("<h3>Packed</h3>").encode()), headers={"Content-Encoding": "gzip"}),
        "Packed",
    ),
    "no last byte": (Reply(body=COURSE.format("<h3>To the end</h3>").encode(), framing="close"), "To the end"),
}

PLAYERS = (
    "mp3/a b.mp3",
    "mp3/100% #1? & +.mp3",
    "mp3/звонок 鐘.mp3",
    f"mp3/{'x' * 300}.mp3",
    f"mp3/{'ж' * 300}.mp3",
    "mp3/../../../../etc/passwd",
    "mp3/..%2f..%2f..%2fetc%2fpasswd",
    "mp3/a%2Fb%5Cc.mp3",
    "mp3/..\\..\\c.mp3",
    "mp3/%00.mp3",
    "mp3/a\nb.mp3",
    "/etc/passwd",
    "file:///etc/passwd",
    "//127.0.0.2/x.mp3",
    "http://169.254.169.254/x.mp3",
    "http://[/x.mp3",
    "javascript:alert(1)",
    "",
)
"""What a page's player names as its file; its downloads are gone."""

BAD, TITLED, NAMED = 1, 101, 201


@pytest.fixture(scope="module")
def run(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Crawl a site on which every clip's page is another case."""
    wav, mp3 = (audio / "noise.wav").read_bytes(), (audio / "noise.mp3").read_bytes()
    replies: dict[str, Reply] = {"/": Reply(body=b"<h1>Home</h1>"), "/900-S.html": detail(900)}
    for number, (_, reply) in enumerate(BAD_PAGES.values(), start=BAD):
        here = reply.headers.get("Location") == "/12-S.html"
        replies[f"/{number}-S.html"] = Reply(302, headers={"Location": f"/{number}-S.html"}) if here else reply
    for number, (reply, _) in enumerate(TITLES.values(), start=TITLED):
        replies[f"/{number}-S.html"] = reply
        replies[f"/grab.php?id={number}&type=wav"] = audio_reply(wav)
    for number, name in enumerate(PLAYERS, start=NAMED):
        replies[f"/{number}-S.html"] = detail(number, more=f'<div data-source="{name}"></div>')
    numbers = [int(path[1:].partition("-")[0]) for path in replies if path.endswith("-S.html") and "900" not in path]
    replies["/free-sound-effects-1.html"] = replies["/free-sound-effects-2.html"] = listing(*numbers)

    def mp3_of_any_name(path: str) -> Reply:
        return audio_reply(mp3) if path.startswith("/mp3/") else Reply(404, b"gone")

    with serve_replies(replies, mp3_of_any_name) as site:
        return Run(crawl_hostile(tmp_path_factory.mktemp("run"), site.base_url, *OPTIONS, *SLOW), site)


def test_each_bad_page_is_a_named_failure_of_its_clip(run: Run) -> None:
    wrong = []
    for number, (name, (reasons, _)) in enumerate(BAD_PAGES.items(), start=BAD):
        if run.crawled.reasons.get(number) not in reasons.split("|"):
            wrong.append((number, name, reasons, run.crawled.reasons.get(number), run.crawled.details.get(number)))
    assert not wrong, "\n".join(map(str, wrong))


def test_each_title_is_recorded_as_the_page_means_it(run: Run) -> None:
    wrong = []
    for number, (name, (_, title)) in enumerate(TITLES.items(), start=TITLED):
        found = run.crawled.records.get(number, {}).get("title")
        if found is None or (title != "*" and found != title):
            wrong.append((number, name, title, found, run.crawled.details.get(number)))
    assert not wrong, "\n".join(map(str, wrong))


def test_a_missing_text_is_an_empty_one(run: Run) -> None:
    numbers = dict(zip(TITLES, range(TITLED, TITLED + len(TITLES)), strict=True))
    assert numbers["no title"] == 118, "the page's link names this number"
    record = run.crawled.records[118]
    assert (record["description"], record["tags"], record["author"]) == ("", [], "")
    assert record["extra"]["selectors"]["title"] == "slug"


def test_a_file_name_on_the_site_is_never_one_on_the_disk(run: Run) -> None:
    wrong: list[tuple[object, ...]] = []
    for number, name in enumerate(PLAYERS, start=NAMED):
        record = run.crawled.records.get(number)
        is_named = name.startswith("mp3/") and "/etc" not in name
        if is_named and (record is None or record["audio_file"] != f"audio/{number}.mp3"):
            wrong.append((number, name[:40], run.crawled.details.get(number)))
        if not is_named and (record or run.crawled.reasons.get(number) not in ("not_found", "http_error", "network")):
            wrong.append((number, name[:40], record, run.crawled.details.get(number)))
    assert not wrong, "\n".join(map(str, wrong))


def test_every_clip_has_one_outcome(run: Run) -> None:
    clips = len(BAD_PAGES) + len(TITLES) + len(PLAYERS)
    assert run.crawled.report["known"] == run.crawled.report["asked"] == clips
    assert "crawler_error" not in run.crawled.report["failed"]
    assert run.crawled.returncode == 0, run.crawled.stderr
