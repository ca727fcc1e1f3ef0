"""The recipe of CONTRIBUTING.md, "Add a source", tried: a third site is two files and no other change.

The files in ``third_site/`` are put into a copy of the crawler, and all runs in that copy: the product has no such
site, so whatever knows "pebbles" is the copy.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crawler import __file__ as installed
from demo.pages.answers import Answer
from demo.site import Clip, Site, serve
from tests.crawler.conftest import FAST, environment, read_records, read_report

ROOT = Path(__file__).parents[2]
HOME = "https://pebblesounds.example"
MakeClip = Callable[..., Clip]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The crawler with the two files in their places, in a folder that is no checkout."""
    shutil.copytree(ROOT / "crawler", tmp_path / "crawler", ignore=shutil.ignore_patterns("__pycache__"))
    for name, place in (("pages.py", "pages"), ("spider.py", "spiders")):
        target = tmp_path / "crawler" / place / "pebbles.py"
        assert not target.exists(), "the product has a site of this name, so this test proves nothing"
        shutil.copy(Path(__file__).parent / "third_site" / name, target)
    return tmp_path


def run(copy: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in the copy: ``-m crawler.cli`` is the copy's."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env=environment() | {"PYTHONPATH": str(copy)},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def crawl(copy: Path, site: Site, *options: str) -> subprocess.CompletedProcess[str]:
    return run(
        copy, "-m", "crawler.cli", "pebbles", "--base-url", site.base_url, "--raw", str(copy / "raw"), *FAST, *options
    )


def break_pages(site: Site, **names: str) -> None:
    """Let pages show another's content, or none: ``break_pages(site, browse_b="gone")``."""
    answer, other = site.answer, {f"/{name.replace('_', '/')}": f"/{path}" for name, path in names.items()}
    site.answer = lambda method, target: answer(method, other.get(target, target))  # type: ignore[method-assign]


def asked(site: Site) -> list[str]:
    return [path for _, path, _ in site.requests]


def source_id_of(clip: Clip) -> str:
    return f"p-{clip.id:04d}"


def test_the_command_and_its_help_come_by_themselves(copy: Path) -> None:
    files = run(copy, "-c", "import crawler.pages.pebbles as p, crawler.cli as c; print(p.__file__, c.__file__)")
    assert files.stdout.split() == [str(copy / "crawler/pages/pebbles.py"), str(copy / "crawler/cli.py")], files.stderr
    assert Path(installed).parent == ROOT / "crawler"
    shown = run(copy, "-m", "crawler.cli", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "  pebbles       Crawl pebbles into raw records." in shown.stdout.splitlines()
    own = run(copy, "-m", "crawler.cli", "pebbles", "--help")
    assert "Example: wavtext5k-crawl pebbles --limit 20" in own.stdout


def test_every_clip_comes_with_its_text_and_every_fault_with_its_reason(
    copy: Path, audio: Path, make_clip: MakeClip
) -> None:
    good = [
        make_clip(7),
        make_clip(1664, title="Ünïcode “bell”", author="stephan", license="Public Domain"),
        make_clip(31, title="Found by ~ Pebble Sounds", tags=(), license="Sampling Plus 1.0"),
        make_clip(32, fault="busy"),
        make_clip(33, fault="no_description"),
        make_clip(34, audio={"mp3": "hiss.mp3"}, title="<b>Licence</b> 50% / a?b#c"),
        make_clip(35, audio={"wav": "hiss.mp3", "mp3": "noise.mp3"}),
        make_clip(36, title="", author="", license="All rights reserved", audio="rain.flac"),
    ]
    bad = {
        "not_found": make_clip(41, fault="dead"),
        "not_audio": make_clip(42, fault="html"),
        "empty_audio": make_clip(43, fault="empty"),
    }
    reserved = [make_clip(51, fault="tdm_reserved"), make_clip(52, fault="tdm_reserved_meta")]
    # More than one browse page of one letter, and neighbours whose every field is another's.
    padding = [
        make_clip(
            number, title=f"Rain {number}", author="Next Door", tags=("leak",), license="Noncommercial 3.0",
            description="Of another clip.", audio="rain.wav",
        )
        for number in range(100, 130)
    ]  # fmt: skip
    with serve([*good, *bad.values(), *reserved, *padding], audio, layout="pebbles") as site:
        done = crawl(copy, site, "--max-failed", "0.2")
        first = asked(site)
        site.requests.clear()
        again = crawl(copy, site, "--max-failed", "0.2")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr

    records = read_records(copy / "raw", "pebbles")
    assert set(records) == {source_id_of(clip) for clip in [*good, *padding]}
    for clip in [*good, *padding]:
        record = records[source_id_of(clip)]
        assert record["title"] == clip.title
        assert record["description"] == ("" if clip.fault == "no_description" else clip.description)
        assert record["tags"] == list(dict.fromkeys(clip.tags)), "the site itself shows each tag once"
        assert record["author"] == clip.author
        assert record["license_raw"] == clip.license
        assert record["page_url"] == f"{HOME}/sound/{source_id_of(clip)}"
        assert record["audio_url"].startswith(f"{HOME}/files/{source_id_of(clip)}.")
        stored = (copy / "raw/pebbles" / record["audio_file"]).read_bytes()
        assert stored in [(audio / name).read_bytes() for name in clip.files.values()]
        assert set(record["extra"]) <= {"length", "selectors"}
    licences = {number: records[f"p-{number:04d}"]["license"] for number in (7, 1664, 31, 36, 100)}
    assert licences == {
        7: "cc-by-3.0",
        1664: "public-domain",
        31: "cc-sampling-plus-1.0",
        36: "unknown",
        100: "cc-by-nc-3.0",
    }
    kinds = {number: Path(records[f"p-{number:04d}"]["audio_file"]).suffix for number in (7, 34, 35, 36)}
    assert kinds == {7: ".wav", 34: ".mp3", 35: ".mp3", 36: ".flac"}

    report = read_report(copy / "raw", "pebbles")
    assert report["failed"] == dict.fromkeys(bad, 1)
    assert {f["source_id"]: f["reason"] for f in report["failures"]} == {source_id_of(c): r for r, c in bad.items()}
    assert report["left_out"] == {"tdm_reserved": 2}
    assert report["finish_reason"] == "finished"
    assert f"{HOME}/terms" in report["notices"]
    assert len(set(first)) == len(first) - 2, "nothing is asked twice but the busy clip's page and its audio"

    assert again.returncode == 0, again.stderr
    assert read_records(copy / "raw", "pebbles") == records
    listings = {"/", *(path for path in first if path.startswith("/browse"))}
    assert len(listings) > len({path.split("/")[2] for path in listings - {"/"}}) + 1, "no letter has a second page"
    assert set(asked(site)) == {"/robots.txt", "/.well-known/tdmrep.json", "/terms"} | listings


def test_the_manifest_is_built_from_what_it_wrote(copy: Path, audio: Path, make_clip: MakeClip) -> None:
    clips = [make_clip(1), make_clip(2, audio="hiss.wav"), make_clip(3, audio="rain.flac"), make_clip(4, fault="dead")]
    with serve(clips, audio, layout="pebbles") as site:
        assert crawl(copy, site, "--max-failed", "1").returncode == 0
    built = run(copy, "-m", "curation.cli", "build", "--raw", "raw", "--out", "curated", "--workers", "0", "--json")
    assert built.returncode == 0, built.stderr
    counts = json.loads(built.stdout)
    assert [counts[name] for name in ("records", "clips", "dropped")] == [3, 3, {}]


def test_scrapy_runs_it_and_a_dry_run_writes_nothing(copy: Path, audio: Path, make_clip: MakeClip) -> None:
    shutil.copy(ROOT / "scrapy.cfg", copy)
    with serve([make_clip(number) for number in range(1, 31)], audio, layout="pebbles") as site:
        plan = crawl(copy, site, "--dry-run")
        assert plan.returncode == 0, plan.stderr
        assert "lists 30 clips on 4 pages; 0 are stored already" in plan.stdout
        assert not {"GET"} & {method for method, path, _ in site.requests if path.startswith("/files")}
        assert not (copy / "raw").exists()
        site.requests.clear()
        line = ["-m", "scrapy", "crawl", "pebbles", "-a", f"base_url={site.base_url}", "-a", "limit=3"]
        done = run(copy, *line, "-s", "RAW_DIR=data", *FAST)
        assert done.returncode == 0, done.stderr
        assert len(read_records(copy / "data", "pebbles")) == 3
        assert [path for path in asked(site) if path.startswith("/browse")] == ["/browse/n"], "a limit reads no more"


def test_sigkill_and_a_second_run_give_every_clip_once(copy: Path, audio: Path, make_clip: MakeClip) -> None:
    records = copy / "raw/pebbles/records"
    with serve([make_clip(number) for number in range(1, 31)], audio, layout="pebbles") as site:
        line = [sys.executable, "-m", "crawler.cli", "pebbles", "--base-url", site.base_url, "--raw", str(copy / "raw")]
        line += [*FAST, "-s", "DOWNLOAD_DELAY=0.01", "-s", "CONCURRENT_REQUESTS_PER_DOMAIN=2"]
        with subprocess.Popen(
            line, cwd=copy, env=environment() | {"PYTHONPATH": str(copy)}, stderr=subprocess.DEVNULL
        ) as process:
            deadline = time.monotonic() + 60
            while len(list(records.glob("*.json"))) < 5 and time.monotonic() < deadline:
                time.sleep(0.005)
            process.kill()
        assert process.returncode == -signal.SIGKILL, "the crawl ended before it was killed"
        assert 5 <= len(list(records.glob("*.json"))) < 30
        assert crawl(copy, site).returncode == 0
        files = [path for path in asked(site) if path.startswith("/files")]
    assert set(read_records(copy / "raw", "pebbles")) == {f"p-{number:04d}" for number in range(1, 31)}
    assert len(files) <= 30 + 2, "no audio twice but what was in flight, two at a time"


@pytest.mark.parametrize(
    ("broken", "options", "message", "known"),
    [
        ({"browse_b": "gone"}, (), "/browse/b could not be read: HTTP status 404", {"p-0001", "p-0003"}),
        ({"browse_b": "terms"}, (), "/browse/b lists no clip and no letter", {"p-0001", "p-0003"}),
        ({}, ("-s", "LISTING_PAGES_MAX=3"), "/browse/c is left after 3 listing pages", {"p-0001", "p-0002"}),
    ],
)
def test_a_list_that_is_not_whole_is_no_short_catalogue(
    copy: Path,
    audio: Path,
    make_clip: MakeClip,
    broken: dict[str, str],
    options: tuple[str, ...],
    message: str,
    known: set[str],
) -> None:
    clips = [make_clip(number, title=title) for number, title in enumerate(("Ash", "Birch", "Cedar"), start=1)]
    with serve(clips, audio, layout="pebbles") as site:
        break_pages(site, **broken)
        done = crawl(copy, site, *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert set(read_records(copy / "raw", "pebbles")) == known
    assert message in read_report(copy / "raw", "pebbles")["error"]


def test_links_of_other_hosts_are_not_followed_and_other_forms_of_an_address_are_one_page(
    copy: Path, audio: Path, make_clip: MakeClip
) -> None:
    more = """<a href="https://elsewhere.example/browse/z">z</a> <a href="https://www.pebblesounds.example/browse/n">n</a>
    <a href="http://pebblesounds.example/browse/n#top">n</a> <a href="browse/n">n</a></nav>"""
    with serve([make_clip(1)], audio, layout="pebbles") as site:
        answer = site.answer

        def respond(method: str, target: str) -> Answer:
            given = answer(method, target)
            if target != "/":
                return given
            assert isinstance(given.body, bytes)
            return dataclasses.replace(given, body=given.body.replace(b"</nav>", more.encode()))

        site.answer = respond  # type: ignore[method-assign]
        done = crawl(copy, site)
    assert done.returncode == 0, done.stderr
    assert [path for path in asked(site) if path.startswith("/browse")] == ["/browse/n"]


CLIP = f"""<html><head><title>Wrong ~ head ~ Pebble Sounds</title><meta name="description" content="leak">
<meta name="keywords" content="leak, leak"><meta name="author" content="leak"></head><body>
<header><h1>leak</h1><a class="take" href="/files/p-0009.flac">leak</a>
<dl><dt>Found by</dt><dd>leak</dd><dt>Licence</dt><dd>leak</dd></dl></header><main>
<h1>leak</h1><figure><figcaption>leak</figcaption><audio><source src="/files/p-0009.flac"></audio></figure>
<article id="pebble"><h1> Old <i>door</i> </h1><figure><audio><source src="/files/p-0077.mp3"></audio>
<figcaption>Wood &amp; iron.<br>Found by the sea</figcaption></figure>
<dl><dt> Found by </dt><dd>Ada L.</dd><dt>Licence</dt><dd>Attribution 3.0</dd>
<dt>Filed under</dt><dd><a href="/filed/a">a</a></dd><dd> </dd><dd><a href="/filed/b--c">b  c</a></dd>
<dt>Length</dt><dd>0:02</dd></dl><p><a class="take" href="{HOME}/files/p-0077.wav">take</a>
<a href="/files/p-0009.flac">leak</a></p>
<aside><section><h1>leak</h1><figcaption>leak</figcaption><audio><source src="/files/p-0009.wav"></audio>
<a class="take" href="/files/p-0009.wav">leak</a><dl><dt>Found by</dt><dd>leak</dd><dt>Licence</dt><dd>leak</dd>
<dt>Filed under</dt><dd>leak</dd></dl></section></aside>
<footer><dl><dt>Licence</dt><dd>leak</dd></dl></footer></main></body></html>"""
"""The article is not closed, so what follows it is inside it."""

PARSE = """
import dataclasses, json, sys
from crawler.pages import pebbles
from crawler.pages.fields import PageError
html, url = json.load(sys.stdin)
try:
    print(json.dumps(dataclasses.asdict(pebbles.parse_detail(html, url))))
except PageError as error:
    print(json.dumps(str(error)))
print(json.dumps([pebbles.listing_links(html, url), pebbles.browse_links(html, url)]))
"""


def read_page(copy: Path, html: str, path: str = "/sound/p-0077") -> tuple[Any, dict[str, str], list[str]]:
    """Return what the copy's page functions say: the fields or the PageError's text, the clips, the browse pages."""
    done = run(copy, "-c", PARSE, stdin=json.dumps([html, HOME + path]))
    assert done.returncode == 0, done.stderr
    fields, links = map(json.loads, done.stdout.splitlines())
    return fields, *links


def test_a_clip_page_gives_every_field_and_nothing_of_what_stands_around_it(copy: Path) -> None:
    fields, _, _ = read_page(copy, CLIP)
    assert "leak" not in json.dumps(fields)
    assert "p-0009" not in json.dumps(fields)
    assert fields["title"] == "Old door"
    assert fields["description"] == "Wood & iron.\nFound by the sea"
    assert fields["tags"] == ["a", "b  c"]
    assert (fields["author"], fields["license_raw"]) == ("Ada L.", "Attribution 3.0")
    assert fields["extra"] == {"length": "0:02"}
    assert [(link["url"], link["selector"]) for link in fields["audio"]] == [
        (f"{HOME}/files/p-0077.wav", "a.take"),
        (f"{HOME}/files/p-0077.mp3", "audio source"),
    ]


def test_what_a_clip_page_lacks_is_empty_and_not_its_neighbours(copy: Path) -> None:
    bare = '<title>Old door ~ Pebble Sounds</title><article id="pebble"><h1></h1><dl><dt>Found by</dt><dt>Licence</dt>'
    fields, _, _ = read_page(copy, f"{bare}<dd>CC0</dd><dt>Filed under</dt><dt>Length</dt><dd>0:02</dd></dl></article>")
    assert [fields[name] for name in ("title", "author", "license_raw", "tags")] == ["Old door", "", "CC0", []]
    assert (fields["description"], fields["audio"]) == ("", [])
    assert fields["selectors"]["title"] == "head title"
    assert fields["selectors"]["author"] == fields["selectors"]["description"] == "none"


@pytest.mark.parametrize(
    ("html", "path", "message"),
    [
        ("", "/sound/p-0077", "the page has no article#pebble; its title is ''"),
        ("<title>Closed for winter</title><h1>x</h1>", "/sound/p-0077", "its title is 'Closed for winter'"),
        (CLIP, "/browse/b", f"the address names no clip: {HOME}/browse/b"),
    ],
)
def test_a_page_without_a_clip_says_what_it_shows(copy: Path, html: str, path: str, message: str) -> None:
    assert message in read_page(copy, html, path)[0]


def test_a_browse_page_names_its_clips_and_other_browse_pages(copy: Path) -> None:
    html = """<header><a href="/sound/p-0001">leak</a><nav><a href="/browse/c">c</a> <a href="/terms">leak</a></nav>
    </header><ol class="pebbles"><li><a href="/sound/p-0002">x</a> by y</li><li><a href="../sound/p-0003">y</a></li>
    <li><a href="/sound/p-0002/">twice</a></li><li><a href="/sound/p-x">none</a></li><li><a href="http://[">none</a>
    </ol><a rel="next" href="/browse/b/2#top">More</a><a href="/browse/b/2">2</a>
    <aside><a href="/sound/p-0004">leak</a></aside>"""
    _, clips, more = read_page(copy, html, "/browse/b")
    assert clips == {"p-0002": f"{HOME}/sound/p-0002", "p-0003": f"{HOME}/sound/p-0003"}
    assert more == [f"{HOME}/browse/c", f"{HOME}/browse/b/2"]
