"""SIGKILL at any moment, then the same command again: the folder is that of a crawl nobody killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from demo.site import Clip, Site, serve
from tests.crawler.conftest import command, environment, read_records, read_report

ONE = ("-s", "CONCURRENT_REQUESTS_PER_DOMAIN=1", "-s", "DOWNLOAD_DELAY=0.001")
"""One request at a time. Without a delay Scrapy 2.19 lets a whole queue go at once, whatever the concurrency."""
CLIPS_A_KILL = 10
"""So that no crawl ends before its last kill: each may run for the requests of so many clips, less a few."""

BETWEEN_CLIPS = re.compile(r"/robots\.txt|/\.well-known/tdmrep\.json|/sitemap_bsb\.xml|/free-sound-effects-\d+\.html")
AUDIO = ("/grab.php", "/UPLOAD/")


def spider_of(layout: str) -> str:
    return layout.partition("-")[0]


def start(spider: str, site: Site, raw: Path, more: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a crawl that has one request in flight."""
    line = command(spider, site.base_url, raw, *ONE)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, env=environment() | (more or {}), **streams)  # type: ignore[call-overload, no-any-return]


def finish(spider: str, site: Site, raw: Path) -> list[str]:
    """Crawl to the end and return the paths that were asked."""
    before = len(site.requests)
    with start(spider, site, raw) as process:
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    return [path for _, path, _ in site.requests[before:]]


def kill_after(process: subprocess.Popen[str], site: Site, requests: int, then_s: float) -> None:
    """Kill a crawl some time after the site has had a number of requests."""
    deadline = time.monotonic() + 60
    while len(site.requests) < requests and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.000_5)
    time.sleep(then_s)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the crawl ended before it was killed"


def phase_of(folder: Path, site: Site) -> str:
    """Return what a kill came into: a file half-written, a clip without its record, or a request."""
    parts = [path.relative_to(folder) for path in folder.glob("**/*.part")]
    if parts:
        place = parts[0].parts[0]
        return f"writing {place.removesuffix('.part')}"
    records = {path.stem for path in (folder / "records").glob("*.json")}
    if {path.stem for path in (folder / "audio").glob("*")} - records:
        return "between audio and record"
    path = site.requests[-1][1]
    if path.startswith((*AUDIO, "/mp3/", "/wav/")):
        return "asking audio"
    return "asking listings" if BETWEEN_CLIPS.fullmatch(path) else "asking pages"


def check_nothing_half(folder: Path) -> None:
    """Check that what stands under its own name after a kill is whole."""
    for path in (folder / "records").glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        body = (folder / record["audio_file"]).read_bytes()
        assert (len(body), hashlib.sha256(body).hexdigest()) == (record["bytes"], record["sha256"]), path
    for path in (folder / "crawl_report.json", folder / "site/notices.json"):
        if path.exists():
            assert json.loads(path.read_text(encoding="utf-8")), path
    with tempfile.TemporaryDirectory() as copy:  # looked at elsewhere: to open a database is to repair it
        for path in folder.glob("pages.sqlite*"):
            shutil.copy(path, copy)
        with closing(sqlite3.connect(f"{copy}/pages.sqlite")) as pages:
            assert pages.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def check_equal(raw: Path, whole: Path, source: str) -> None:
    """Check that two crawls left the same records, dates apart, and the same audio."""
    assert read_records(raw, source) == read_records(whole, source)
    audio = [{path.name: path.read_bytes() for path in (one / source / "audio").iterdir()} for one in (raw, whole)]
    assert audio[0] == audio[1]
    assert not list((raw / source).glob("**/*.part"))


def check_asked(asked: list[str], kills: int) -> None:
    """Check that no audio came twice but what was in flight, and no page but that and the one not yet in the cache."""
    audio = Counter(path for path in asked if path.startswith(AUDIO))
    pages = Counter(path for path in asked if re.search(r"/\d+-[^/]*\.html$|-s\d+\.html$", urlsplit(path).path))
    for times, at_most in ((audio, kills), (pages, 2 * kills)):
        assert times
        assert sum(times.values()) - len(times) <= at_most, times.most_common(at_most + 1)


def check_rerun(spider: str, site: Site, raw: Path) -> None:
    """Check that a finished crawl, run again, asks for rules, terms and listings only, and changes no record."""
    before = read_records(raw, spider)
    asked = finish(spider, site, raw)
    report = read_report(raw, spider)
    terms = {urlsplit(url).path for url in report["notices"]}
    assert {path for path in asked if not BETWEEN_CLIPS.fullmatch(path)} <= terms
    assert max(Counter(asked).values()) == 1
    assert report["stored"] == report["already"] == report["known"] == len(before)
    assert read_records(raw, spider) == before


def run_of_kills(layout: str, kills: int, audio: Path, make_clip: Callable[..., Clip], tmp_path: Path) -> Counter[str]:
    """Kill a crawl at random moments, run it to its end, compare; return how often each phase was hit."""
    spider, dice = spider_of(layout), random.Random(f"{layout} {kills}")
    raw, whole = tmp_path / "raw", tmp_path / "whole"
    phases: Counter[str] = Counter()
    with serve([make_clip(number) for number in range(100, 100 + CLIPS_A_KILL * kills)], audio, layout=layout) as site:
        listings = [path for path in finish(spider, site, whole) if not path.startswith(AUDIO)]
        start_up = sum(bool(BETWEEN_CLIPS.fullmatch(path)) for path in listings)
        site.requests.clear()
        for _ in range(kills):
            asked = len(site.requests)
            with start(spider, site, raw) as process:
                budget = start_up + 2 * CLIPS_A_KILL - 6
                kill_after(process, site, asked + dice.randint(1, budget), dice.uniform(0, 0.02))
            phases[phase_of(raw / spider, site)] += 1
            check_nothing_half(raw / spider)
        assert len(list((raw / spider).glob("records/*.json"))) < CLIPS_A_KILL * kills
        finish(spider, site, raw)
        check_equal(raw, whole, spider)
        check_asked([path for _, path, _ in site.requests], kills)
        check_rerun(spider, site, raw)
    print(f"{layout}: {kills} kills: {', '.join(f'{phase} {count}' for phase, count in phases.most_common())}")
    return phases


@pytest.mark.parametrize("layout", ["soundbible", "bigsoundbank"])
def test_three_kills_and_another_run_give_what_one_run_gives(
    layout: str, audio: Path, make_clip: Callable[..., Clip], tmp_path: Path
) -> None:
    assert run_of_kills(layout, 3, audio, make_clip, tmp_path).total() == 3


@pytest.mark.long
@pytest.mark.parametrize("layout", ["soundbible", "soundbible-old", "bigsoundbank"])
def test_twenty_kills_and_another_run_give_what_one_run_gives(
    layout: str, audio: Path, make_clip: Callable[..., Clip], tmp_path: Path
) -> None:
    assert run_of_kills(layout, 20, audio, make_clip, tmp_path).total() == 20


KILL_AT_WRITE = """
import os, pathlib, signal
steps = 0
def step(name, half):
    def count(*arguments, **more):
        global steps
        steps += 1
        if steps == int(os.environ["KILL_AT_WRITE"]):
            half(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return name(*arguments, **more)
    return count
def cut(file):
    os.ftruncate(file, os.fstat(file).st_size // 2)
os.fsync = step(os.fsync, cut)
pathlib.Path.replace = step(pathlib.Path.replace, lambda *names: None)
"""
"""Kills the crawl inside its N-th step of writing: with half the bytes on disk, or whole and not yet named."""


def run_of_kills_in_writes(
    places: list[int], audio: Path, make_clip: Callable[..., Clip], tmp_path: Path
) -> Counter[str]:
    """Kill a crawl in the midst of writes, run it to its end, compare; return how often each kind of file was hit."""
    raw, whole = tmp_path / "raw", tmp_path / "whole"
    (tmp_path / "sitecustomize.py").write_text(KILL_AT_WRITE, encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    phases: Counter[str] = Counter()
    with serve([make_clip(number) for number in range(100, 100 + 3 * len(places))], audio) as site:
        finish("soundbible", site, whole)
        site.requests.clear()
        for place in places:
            more = {"PYTHONPATH": path, "KILL_AT_WRITE": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
            with start("soundbible", site, raw, more) as process:
                process.communicate(timeout=60)
            assert process.returncode == -signal.SIGKILL, "the crawl ended before it was killed"
            assert list((raw / "soundbible").glob("**/*.part")), "nothing was being written"
            phases[phase_of(raw / "soundbible", site)] += 1
            check_nothing_half(raw / "soundbible")
        finish("soundbible", site, raw)
        check_equal(raw, whole, "soundbible")
        check_asked([path for _, path, _ in site.requests], len(places))
        check_rerun("soundbible", site, raw)
    print(f"{len(places)} kills in writes: {', '.join(f'{phase} {count}' for phase, count in phases.most_common())}")
    return phases


def test_kills_in_the_midst_of_writes(audio: Path, make_clip: Callable[..., Clip], tmp_path: Path) -> None:
    phases = run_of_kills_in_writes([1, 21, 27], audio, make_clip, tmp_path)
    assert phases["writing crawl_report.json"] == 1


@pytest.mark.long
def test_kills_in_each_of_the_first_twenty_writes(audio: Path, make_clip: Callable[..., Clip], tmp_path: Path) -> None:
    phases = run_of_kills_in_writes(list(range(1, 21)), audio, make_clip, tmp_path)
    assert {f"writing {name}" for name in ("crawl_report.json", "audio", "records", "site")} <= set(phases)
