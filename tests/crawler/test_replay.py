"""A published list brought back from real sites on this machine: alive, healed, gone, hostile, killed."""

from __future__ import annotations

import csv
import gzip
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from crawler.published import PublishedRow
from crawler.replay import Job, Progress, replay
from crawler.replay_check import Table, TableError
from crawler.replay_client import Manners
from crawler.replay_command import replay as command
from crawler.report import CrawlReport
from demo.site import Clip, serve
from tests.crawler.conftest import environment, read_records, read_report
from tests.crawler.hostile import Reply, drip, flood, serve_replies, stall

COLUMNS = ("view_link", "download_link", "title", "description", "fname", "tags")
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(command)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a proxy from coming between."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def soundbible(number: int, **changes: str) -> dict[str, str]:
    return {
        "view_link": f"https://soundbible.com/{number}-S.html",
        "download_link": f"https://soundbible.com/grab.php?id={number}&type=wav",
        "title": f"CSV {number}",
        "description": f" As published {number}.",
        "fname": f"csv {number}_0.wav",
        "tags": "['wind', 'wind', ' ']",
        **changes,
    }


def bigsoundbank(number: int, **changes: str) -> dict[str, str]:
    return {
        "view_link": f"https://bigsoundbank.com/detail-{number:04}-s.html",
        "download_link": f"https://bigsoundbank.com/UPLOAD/wav/{number:04}.wav",
        "title": f"CSV {number}",
        "description": "",
        "fname": f"{number:04}.wav",
        "tags": "",
        **changes,
    }


def write_list(path: Path, *rows: Mapping[str, str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def run(*arguments: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["--delay", "0", *map(str, arguments)])


def in_process(*arguments: str | Path) -> list[str]:
    """Return the command line of a process of its own."""
    return [sys.executable, "-m", "crawler.cli", "replay", "--delay", "0", *map(str, arguments)]


# Both sites, as they stand.


@pytest.fixture
def clips(make_clip: Callable[..., Clip]) -> list[Clip]:
    mp3 = {"mp3": "noise.mp3"}
    return [
        make_clip(1),
        make_clip(2, fault="busy"),
        make_clip(3, audio=mp3),
        make_clip(4, fault="html"),
        make_clip(5, fault="dead"),
        make_clip(6, fault="empty"),
    ]


def test_rows_are_alive_healed_or_gone_and_a_second_run_asks_for_nothing(
    audio: Path, clips: list[Clip], tmp_path: Path
) -> None:
    rows = [make(number) for make in (bigsoundbank, soundbible) for number in range(1, 8)]
    path, raw = write_list(tmp_path / "list.csv", *rows), tmp_path / "raw"
    with serve(clips, audio) as first, serve(clips, audio, layout="bigsoundbank") as second:
        urls = ("--base-url", f"soundbible={first.base_url}", "--base-url", f"bigsoundbank={second.base_url}")
        done = run(path, "--raw", raw, *urls, "--max-failed", "1")
        assert done.exit_code == 0, done.output
        asked = [len(first.requests), len(second.requests)]
        again = run(path, "--raw", raw, *urls, "--max-failed", "0.5")
        assert [len(first.requests), len(second.requests)] == asked  # what is gone was asked lately
        assert again.exit_code == 1
        assert "4 of 7 clips failed (not_found 2, " in again.stderr
        run(path, "--raw", raw, *urls, "--retry-failed")
        assert len(first.requests) > asked[0]
        assert not [path for _, path, _ in second.requests if "download.php" in path or "modules" in path]
    wind = read_records(raw, "soundbible")
    assert {name: (record["audio_file"], record["extra"]["replay"]) for name, record in wind.items()} == {
        "1": ("audio/1.wav", "alive"),
        "2": ("audio/2.wav", "alive"),
        "3": ("audio/3.mp3", "healed"),
    }
    healed = wind["3"]
    assert (healed["title"], healed["description"], healed["tags"]) == ("CSV 3", "As published 3.", ["wind", "wind"])
    assert (healed["author"], healed["license"]) == ("Zoë O'Neil", "cc-by-3.0")
    assert healed["extra"]["dead_link"] == "https://soundbible.com/grab.php?id=3&type=wav"
    assert healed["extra"]["audio_not_used"] == {"https://soundbible.com/grab.php?id=3&type=wav": "not_found"}
    selectors = {
        "title": "csv",
        "description": "csv",
        "tags": "csv",
        "author": "icofont-user + a",
        "audio": "grab.php mp3",
    }
    assert selectors.items() <= healed["extra"]["selectors"].items()
    assert wind["1"]["extra"]["selectors"]["audio"] == "csv download_link"
    # /UPLOAD/wav/ leads to the page: it is read from that answer, and the best of its media is taken.
    bank = read_records(raw, "bigsoundbank")
    assert {name: (record["audio_file"], record["extra"]["replay"]) for name, record in bank.items()} == {
        "0001": ("audio/0001.flac", "healed"),
        "0002": ("audio/0002.flac", "healed"),
        "0003": ("audio/0003.mp3", "healed"),
    }
    assert (bank["0001"]["title"], bank["0001"]["tags"], bank["0001"]["author"]) == ("CSV 1", [], "Zoë O'Neil")
    report = read_report(raw, "bigsoundbank")
    assert (report["finish_reason"], report["known"], report["asked"], report["already"]) == ("finished", 7, 7, 3)
    assert {f["source_id"]: f["reason"] for f in report["failures"]} == {
        "0004": "not_audio",
        "0005": "not_audio",
        "0006": "not_audio",
        "0007": "not_found",
    }
    assert (raw / "bigsoundbank" / "site" / "robots.txt").is_file()
    assert report["notices"] == ["https://bigsoundbank.com/robots.txt"]  # its tdmrep.json answers 404


def test_the_check_writes_a_table_and_goes_on_with_it(audio: Path, clips: list[Clip], tmp_path: Path) -> None:
    rows = [make(number) for make in (bigsoundbank, soundbible) for number in range(1, 8)]
    path, table = write_list(tmp_path / "list.csv", *rows), tmp_path / "t" / "table.csv"
    with serve(clips, audio) as first, serve(clips, audio, layout="bigsoundbank") as second:
        urls = ("--base-url", f"soundbible={first.base_url}", "--base-url", f"bigsoundbank={second.base_url}")
        options = (path, "--raw", tmp_path / "raw", "--check", "--out", table, *urls)
        done = run(*options)
        assert done.exit_code == 1
        assert "8 of 14 rows are gone or unknown, more than --max-failed 0.1" in done.stderr
        assert {method for method, path, _ in first.requests if "grab" in path} == {"HEAD"}
        whole = sorted(table.read_text().splitlines())
        asked = len(first.requests)
        # A kill may leave half a line; a row whose answer was unclear is asked again.
        lines = table.read_text().splitlines(keepends=True)
        table.write_text("".join(lines[:5]) + lines[5][:-9])
        planned = run(*options, "--dry-run", "--json")
        assert sum(site["missing"] for site in json.loads(planned.stdout)["sites"].values()) == 10
        assert len(first.requests) == asked
        done = run(*options, "--json", "--max-failed", "1")
        assert done.exit_code == 0, done.output
        assert sorted(table.read_text().splitlines()) == whole
        done = run(*options, "--again", "--max-failed", "1")
        assert len(first.requests) > 2 * asked - 5
    assert "soundbible            2        1        4        0" in done.stdout
    assert not (tmp_path / "raw").exists()
    with table.open(newline="") as file:
        found = {(row["source"], row["source_id"]): row for row in csv.DictReader(file)}
    states = {key: row["state"] for key, row in found.items()}
    assert [states["soundbible", str(n)] for n in range(1, 8)] == ["alive"] * 2 + ["healed"] + ["gone"] * 4
    assert [states["bigsoundbank", f"{n:04}"] for n in range(1, 8)] == ["healed"] * 3 + ["gone"] * 4
    row = found["bigsoundbank", "0001"]
    assert (row["content_type"], row["url"]) == ("audio/flac", "https://bigsoundbank.com/UPLOAD/flac/0001.flac")
    assert row["bytes"] == str((audio / "noise.flac").stat().st_size)
    assert row["detail"] == "https://bigsoundbank.com/UPLOAD/wav/0001.wav: text/html instead of audio"


def test_what_a_crawl_has_stored_stays(audio: Path, make_clip: Callable[..., Clip], tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    path = write_list(tmp_path / "list.csv", soundbible(1), soundbible(2))
    with serve([make_clip(1), make_clip(2)], audio) as site:
        run(path, "--raw", raw, "--base-url", site.base_url, "--limit", "1")
        record = raw / "soundbible" / "records" / "1.json"
        before = record.read_text().replace("CSV 1", "Crawled")
        record.write_text(before)
        site.requests.clear()
        done = run(path, "--raw", raw, "--base-url", site.base_url)
        assert not [target for _, target, _ in site.requests if "id=1" in target or "/1-" in target]
    assert done.exit_code == 0, done.output
    assert "1 of them by earlier runs" in done.stdout
    assert record.read_text() == before
    assert set(read_records(raw, "soundbible")) == {"1", "2"}


def test_pages_may_be_skipped_and_a_dry_run_asks_nothing(
    audio: Path, make_clip: Callable[..., Clip], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    path = write_list(tmp_path / "list.csv", soundbible(1), soundbible(2))
    clips = [make_clip(1), make_clip(2, audio={"mp3": "noise.mp3"})]
    with serve(clips, audio) as site:
        planned = run(path, "--raw", raw, "--base-url", site.base_url, "--dry-run", "--delay", "1")
        words = "soundbible: 2 rows: 2 missing: about 8 requests, 0 minutes at 1 s between two\n"
        assert planned.stdout == words  # 2 x (page, link, where it leads), robots.txt, tdmrep.json
        assert not site.requests
        assert not raw.exists()
        done = run(path, "--raw", raw, "--base-url", site.base_url, "--no-pages")
        pages = [target for _, target, _ in site.requests if target.endswith(".html")]
    assert done.exit_code == 0, done.output
    assert pages == ["/2-S.html"]  # a dead link is healed through the page all the same
    records = read_records(raw, "soundbible")
    assert [records[number]["license"] for number in ("1", "2")] == ["unknown", "cc-by-3.0"]
    assert records["1"]["title"] == "CSV 1"


def test_an_opt_out_list_is_kept_to(audio: Path, make_clip: Callable[..., Clip], tmp_path: Path) -> None:
    other = soundbible(3, download_link="http://www.soundbible.com/grab.php?id=3&type=wav")
    path = write_list(tmp_path / "list.csv", soundbible(1), soundbible(2), other, soundbible(4), soundbible(5))
    opt_out = tmp_path / "no.txt"
    lines = ("# asked by mail", "soundbible-1", "https://soundbible.com/2-Another-Name.html")
    lines += (
        "https://soundbible.com/grab.php?id=3&type=wav",
        "https://soundbible.com/grab.php?id=4&type=mp3",
        "bigsoundbank-5",
    )
    opt_out.write_text("\n".join(lines))
    with serve([make_clip(number) for number in range(1, 6)], audio) as site:
        options = (path, "--base-url", site.base_url, "--opt-out", opt_out, "--raw", tmp_path / "raw")
        planned = [run(*options, *check, "--dry-run").stdout for check in ([], ["--check"])]
        assert planned[0].startswith("soundbible: 5 rows: 3 left out (opted_out), 2 missing: about 8 requests, ")
        assert planned[1].startswith("soundbible: 5 rows: 3 left out (opted_out), 2 missing: about 6 requests, ")
        assert not site.requests
        checked = run(*options, "--check", "--json")
        assert json.loads(checked.stdout)["left_out"] == {"soundbible": 3}
        site.requests.clear()
        done = run(*options)
        names = ("id=1", "id=2", "id=3", "id=4")  # 4 is named by an address that only its page tells
        assert not [target for _, target, _ in site.requests if any(name in target for name in names)]
        assert "3 left out (opted_out), 1 missing" in run(*options, "--dry-run").stdout
        planned_json = json.loads(run(*options, "--dry-run", "--json").stdout)
        counts = {"rows": 5, "stored": 1, "left_out": 3, "failed": 0, "missing": 1, "requests": 5, "seconds": 0.0}
        assert planned_json == {"refused": [], "sites": {"soundbible": counts}}
    assert done.exit_code == 0, done.output
    report = read_report(tmp_path / "raw", "soundbible")
    assert (report["left_out"], report["stored"], report["known"]) == ({"opted_out": 4}, 1, 5)
    assert set(read_records(tmp_path / "raw", "soundbible")) == {"5"}


def test_a_row_that_is_opted_out_after_its_check_is_counted_once(
    audio: Path, make_clip: Callable[..., Clip], tmp_path: Path
) -> None:
    path = write_list(tmp_path / "list.csv", *map(soundbible, range(1, 5)))
    opt_out = tmp_path / "no.txt"
    opt_out.write_text("soundbible-1\nsoundbible-4\n")  # one of them alive, one gone
    with serve([make_clip(1), make_clip(2)], audio) as site:
        options = (path, "--base-url", site.base_url, "--raw", tmp_path / "raw", "--check")
        assert run(*options, "--max-failed", "1").exit_code == 0
        done = run(*options, "--opt-out", opt_out)
        result = json.loads(run(*options, "--opt-out", opt_out, "--json").stdout)
        planned = run(*options, "--opt-out", opt_out, "--dry-run").stdout
    (line,) = [line.split()[1:-1] for line in done.stdout.splitlines() if line.startswith("soundbible")]
    assert line == ["1", "0", "1", "0", "2", "0"]
    assert "error: 1 of 2 rows are gone or unknown, " in done.stderr
    assert (result["states"], result["left_out"]) == ({"soundbible": {"alive": 1, "gone": 1}}, {"soundbible": 2})
    assert "4 rows: 2 checked, 2 left out (opted_out), 0 missing: about 0 requests" in planned


def test_a_check_that_is_cut_short_says_what_it_did_not_ask(tmp_path: Path) -> None:
    path = write_list(tmp_path / "list.csv", *map(soundbible, range(1, 4)))
    with serve_replies({"/robots.txt": Reply(500)}) as site:
        done = run(path, "--base-url", site.base_url, "--raw", tmp_path / "raw", "--check")
    (line,) = [line.split()[1:-1] for line in done.stdout.splitlines() if line.startswith("soundbible")]
    assert (done.exit_code, line) == (1, ["0", "0", "0", "0", "0", "3"])


@pytest.mark.parametrize(
    ("source", "check", "no_pages"),
    [
        ("soundbible", False, False),
        ("soundbible", False, True),
        ("soundbible", True, False),
        ("bigsoundbank", False, False),
        ("bigsoundbank", False, True),
        ("bigsoundbank", True, False),
    ],
)
def test_a_plan_tells_the_requests_that_are_made(
    source: str, check: bool, no_pages: bool, audio: Path, make_clip: Callable[..., Clip], tmp_path: Path
) -> None:
    make = {"soundbible": soundbible, "bigsoundbank": bigsoundbank}[source]
    path = write_list(tmp_path / "list.csv", *map(make, range(1, 4)))
    options = [path, "--raw", tmp_path / "raw", "--json"] + ["--check"] * check + ["--no-pages"] * no_pages
    clips = [make_clip(number, audio={"wav": "noise.wav"}) for number in range(1, 4)]  # as most are: no FLAC
    with serve(clips, audio, layout=source) as site:
        planned = run(*options, "--dry-run", "--base-url", site.base_url)
        done = run(*options, "--base-url", site.base_url)
        assert done.exit_code == 0, done.output
        assert json.loads(planned.stdout)["sites"][source]["requests"] == len(site.requests)


def test_a_dry_run_tells_what_is_stored_from_what_failed(
    audio: Path, make_clip: Callable[..., Clip], tmp_path: Path
) -> None:
    path, opt_out = write_list(tmp_path / "list.csv", *map(soundbible, range(1, 5))), tmp_path / "no.txt"
    opt_out.write_text("soundbible-2\n")
    with serve([make_clip(1), make_clip(2)], audio) as site:
        options = (path, "--raw", tmp_path / "raw", "--base-url", site.base_url)
        run(*options, "--limit", "3")
        planned = run(*options, "--opt-out", opt_out, "--dry-run")
    words = "4 rows: 1 stored, 1 left out (opted_out), 1 failed for good lately, 1 missing: about 5 requests"
    assert words in planned.stdout


# Hostile and broken servers.


def detail(number: int, head: str = "") -> Reply:
    """Return SoundBible's page of a sound; its addresses are those that the site always has."""
    return Reply(body=f"{head}<div id='course-details'><h3>S</h3><p>Text {number}.</p></div>".encode())


def replay_site(
    base_url: str, raw: Path, numbers: Sequence[int], *, delay_s: float = 0.0, **changes: Any
) -> CrawlReport:
    manners = {"agent": "test", "delay_s": delay_s, "retries": 1, "timeout_s": 0.6, "max_bytes": 50_000} | changes
    job = Job(raw=raw, manners=Manners(**manners), base_urls={"soundbible": base_url})
    rows = [row_of(number) for number in numbers]
    return replay({"soundbible": rows}, job)["soundbible"]


def row_of(number: int) -> PublishedRow:
    link = f"https://soundbible.com/grab.php?id={number}&type=wav"
    return PublishedRow(
        line=number,
        source="soundbible",
        source_id=str(number),
        page_url=f"https://soundbible.com/{number}-S.html",
        audio_url=link,
        title="T",
        description="",
        tags=(),
    )


def link(number: int, kind: str = "wav") -> str:
    return f"/grab.php?id={number}&type={kind}"


def test_every_bad_answer_is_healed_or_named(audio: Path, tmp_path: Path) -> None:
    wav, mp3 = (audio / "noise.wav").read_bytes(), (audio / "noise.mp3").read_bytes()
    sound = {"Content-Type": "audio/x-wav"}
    bad = {
        1: Reply(body=b"<html>wait</html>", headers=sound),
        2: Reply(body=b"", headers=sound),
        3: Reply(body=wav, length=len(wav) + 500, headers=sound),
        4: Reply(302, headers={"Location": "http://localhost:9/secret"}),
        5: Reply(body=wav[:44]),
        6: Reply(body=wav),  # robots.txt forbids it
        7: Reply(body=wav[:44] + bytes(60_000)),
        8: Reply(body=flood(wav[:44], 500), framing="close"),
        9: Reply(302, headers={"Location": link(9)}),
        12: Reply(body=drip(wav, 0.05), length=len(wav)),
        13: Reply(body=stall(wav[:2_000]), length=len(wav)),
        14: Reply(raw=b""),
        20: Reply(body=gzip.compress(wav + bytes(30_000_000)), headers={"Content-Encoding": "gzip"}),
        21: Reply(body=wav, framing="cut chunks"),
        22: Reply(body=b"this is no gzip", headers={"Content-Encoding": "gzip"}),
        23: Reply(302, headers={"Location": "http://["}),
        24: Reply(raw=b"SSH-2.0-OpenSSH_9.6\r\n"),
        25: Reply(416, b"no"),
        26: Reply(302, headers={"Location": "file:///etc/passwd"}),
        27: Reply(302, body=flood(b"", 500), framing="close", headers={"Location": "/27-S.html"}),
    }
    replies: dict[str, Any] = {
        "/robots.txt": Reply(body=b"User-agent: *\nDisallow: /grab.php?id=6&type=wav\n"),
        **{link(number): reply for number, reply in bad.items()},
        **{link(number, "mp3"): Reply(body=mp3) for number in bad},
        **{f"/{number}-S.html": detail(number) for number in (*bad, 30, 31, 32, 33, 35)},
        # Alive.
        link(30): Reply(body=wav, headers={"Content-Encoding": "identity"}),
        link(31): Reply(body=wav, headers={"Content-Type": "text/html"}),
        link(32): Reply(302, headers={"Location": "http://www.soundbible.com/wav/32%20x.wav"}),
        "/wav/32%20x.wav": Reply(body=wav, framing="chunked"),
        link(33): [Reply(429, headers={"Retry-After": "1"}), Reply(body=wav)],
        link(34): Reply(body=wav),  # and its page is gone
        # Not to be had.
        link(40): Reply(404),
        "/40-S.html": Reply(410),
        "/41-S.html": Reply(body=b"<h1>Home</h1>"),
        "/42-S.html": Reply(301, headers={"Location": "/43-S.html"}),
        "/43-S.html": detail(43),
        link(43): Reply(403),
        link(43, "mp3"): Reply(403),
        link(44): Reply(body=wav),
        "/44-S.html": Reply(500),  # the licence may be had another time
        # Reserved.
        link(50): Reply(body=wav),
        "/50-S.html": detail(50, "<meta name='tdm-reservation' content='1'>"),
        link(51): Reply(body=wav, headers={"tdm-reservation": "1"}),
        "/.well-known/tdmrep.json": Reply(body=b'[{"location": "/52-*", "tdm-reservation": 1}]'),
        link(52): Reply(body=wav),
        "/52-S.html": detail(52),
    }
    alive, lost, reserved = [30, 31, 32, 33, 34], [40, 41, 42, 43, 44], [50, 51, 52]
    with serve_replies(replies) as site:
        numbers = [number for pair in zip(bad, [*alive, *lost, *reserved] * 2, strict=False) for number in pair]
        numbers = list(dict.fromkeys([*numbers, *bad]))  # mixed: ten in a row would be a site that is down
        report = replay_site(site.base_url, tmp_path, numbers, min_rate_after_s=0.5)
        waited_s = [
            later - earlier for earlier, later in zip(site.times(link(33)), site.times(link(33))[1:], strict=False)
        ]
        assert site.sent(link(8)) + site.sent(link(27)) < 400 * 2**20
        assert link(6) not in site.requests
        assert site.requests.count(link(13)) == 2  # a stall is tried once more
    assert report.finish_reason == "finished", report.error
    records = read_records(tmp_path, "soundbible")
    assert {int(number) for number, record in records.items() if record["extra"]["replay"] == "healed"} == set(bad)
    assert {int(number) for number, record in records.items() if record["extra"]["replay"] == "alive"} == set(alive)
    why = {
        int(n): next(iter(record["extra"]["audio_not_used"].values())) for n, record in records.items() if int(n) in bad
    }
    assert why == {
        **dict.fromkeys(bad, "network"),
        1: "not_audio",
        2: "empty_audio",
        3: "truncated",
        4: "http_error",
        5: "empty_audio",
        6: "robots",
        7: "too_large",
        8: "too_large",
        9: "http_error",
        20: "http_error",
        21: "truncated",
        22: "http_error",
        23: "http_error",
        25: "http_error",
        26: "http_error",
        27: "not_audio",
    }
    assert waited_s[0] >= 1.0
    assert records["34"]["extra"]["page"] == "not_found: HTTP status 404"
    assert records["34"]["license"] == "unknown"
    for record in records.values():
        assert (tmp_path / "soundbible" / record["audio_file"]).stat().st_size == record["bytes"]
    failures = {int(number): (str(failure.reason), failure.detail) for number, failure in report.failures.items()}
    assert {number: reason for number, (reason, _) in failures.items()} == {
        40: "not_found",
        41: "no_page",
        42: "no_page",
        43: "forbidden",
        44: "http_error",
    }
    dead = "https://soundbible.com/grab.php?id=40&type=wav: HTTP status 404"
    assert failures[40][1] == f"{dead}; its page: HTTP status 410"
    assert failures[44][1] == "its page: HTTP status 500"
    assert failures[42][1].endswith("; its page: the site answers with clip 43")
    assert failures[43][1].count("HTTP status 403") == 2
    assert {int(number): str(why) for number, why in report.left_out.items()} == dict.fromkeys(reserved, "tdm_reserved")


@pytest.mark.parametrize(
    ("robots", "error"),
    [
        (Reply(500), "robots.txt could not be read (HTTP status 500), so nothing may be asked"),
        (Reply(raw=b""), "robots.txt could not be read (no connection), so nothing may be asked"),
        (
            Reply(302, headers={"Location": "http://localhost:9/"}),
            "(leads away from the site, to http://localhost:9/), so",
        ),
    ],
)
def test_a_robots_txt_that_cannot_be_read_allows_nothing(robots: Reply, error: str, tmp_path: Path) -> None:
    with serve_replies({"/robots.txt": robots}) as site:
        report = replay_site(site.base_url, tmp_path, [1])
        assert set(site.requests) == {"/robots.txt"}
    assert error in report.error
    assert (report.finish_reason, report.asked) == ("unreachable", 0)
    assert read_report(tmp_path, "soundbible")["error"] == report.error


def test_what_robots_txt_says_holds(audio: Path, tmp_path: Path) -> None:
    replies = {
        "/robots.txt": Reply(body=b"User-agent: wavtext5k-crawl\nDisallow: /\nCrawl-delay: 0.3\n"),
        "/.well-known/tdmrep.json": Reply(body=b"nonsense"),
    }
    with serve_replies(replies) as site:
        report = replay_site(site.base_url, tmp_path, [1, 2])
        assert set(site.requests) == {"/robots.txt"}
    assert report.failed == {"robots": 2}
    with serve_replies({"/robots.txt": Reply(body=b"<html>Sorry</html>"), link(1): Reply(body=b"RIFF")}) as site:
        report = replay_site(site.base_url, tmp_path, [1])
    assert report.failed == {"not_found": 1}
    assert "robots.txt answers with a web page: taken for no rules" in report.warnings


def test_requests_stand_apart_as_robots_txt_asks_and_carry_nothing_private(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wav = (audio / "noise.wav").read_bytes()
    replies = {
        "/robots.txt": Reply(body=b"User-agent: *\nCrawl-delay: 0.25\n", headers={"Set-Cookie": "a=b"}),
        **{link(number): Reply(body=wav) for number in (1, 2)},
        **{f"/{number}-S.html": detail(number) for number in (1, 2)},
    }
    with serve_replies(replies) as site:
        report = replay_site(site.base_url, tmp_path, [1, 2], delay_s=0.05)
        times = [asked.time_s for asked in site.asked]
        assert {asked.headers["user-agent"] for asked in site.asked} == {"test"}
        assert not [asked for asked in site.asked if "cookie" in asked.headers or "authorization" in asked.headers]
    assert (len(report.stored), report.delay_s) == (2, 0.25)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps[1:]) >= 0.24


def test_a_site_that_reserves_everything_is_left_alone(tmp_path: Path) -> None:
    reserved = Reply(body=b'[{"location": "/", "tdm-reservation": 1}]')
    with serve_replies({"/.well-known/tdmrep.json": reserved}) as site:
        report = replay_site(site.base_url, tmp_path, [1])
        assert len(site.requests) == 2
    assert "reserves text and data mining for the whole site" in report.error


def test_a_site_that_asks_for_a_day_of_rest_gets_it(tmp_path: Path) -> None:
    with serve_replies({link(1): Reply(503, headers={"Retry-After": "86400"})}) as site:
        report = replay_site(site.base_url, tmp_path, [1, 2])
        assert site.requests[2:] == ["/1-S.html", link(1)]
    assert "is busy and says Retry-After: 86400; run the same command again then" in report.error
    assert report.finish_reason == "told_to_wait"


def test_a_page_is_read_before_its_audio(audio: Path, tmp_path: Path) -> None:
    wav = Reply(body=(audio / "noise.wav").read_bytes())
    reserved = "<meta name='tdm-reservation' content='1'>"
    replies = {
        **{link(number): wav for number in (1, 2, 3, 4)},
        "/1-S.html": detail(1),
        "/2-S.html": detail(2, reserved),
        "/3-S.html": Reply(500),
        "/4-S.html": Reply(404),
        link(5): Reply(500),
        "/5-S.html": Reply(404),
    }
    with serve_replies(replies) as site:
        report = replay_site(site.base_url, tmp_path, range(1, 6), retries=0)
        asked = site.requests[2:]
    assert asked == [
        "/1-S.html",
        link(1),
        "/2-S.html",
        "/3-S.html",  # its licence may be had another time
        "/4-S.html",
        link(4),
        "/5-S.html",
        link(5),
    ]
    assert report.stored == {"1", "4"}
    assert report.left_out == {"2": "tdm_reserved"}
    # A link that was busy may be alive tomorrow, whatever its page says.
    assert {number: failure.reason for number, failure in report.failures.items()} == dict.fromkeys("35", "http_error")


@pytest.mark.parametrize("is_reserved", [False, True])
def test_a_link_that_leads_to_its_page_is_asked_first(audio: Path, tmp_path: Path, is_reserved: bool) -> None:
    """Should such a link give audio again, a reservation inside the page still holds."""
    wav = Reply(body=(audio / "noise.wav").read_bytes())
    head = "<meta name='tdm-reservation' content='1'>" if is_reserved else ""
    path = write_list(tmp_path / "list.csv", bigsoundbank(1))
    replies = {"/UPLOAD/wav/0001.wav": wav, "/detail-0001-s.html": Reply(body=f"{head}<h1>S</h1>".encode())}
    with serve_replies(replies) as site:
        run(path, "--raw", tmp_path / "raw", "--base-url", site.base_url, "--max-failed", "1")
        assert site.requests[2:] == ["/UPLOAD/wav/0001.wav", "/detail-0001-s.html"]
    report = read_report(tmp_path / "raw", "bigsoundbank")
    assert (report["stored"], report["left_out"]) == ((0, {"tdm_reserved": 1}) if is_reserved else (1, {}))
    assert len(list((tmp_path / "raw").rglob("*.wav"))) == report["stored"]


def test_a_contact_may_hold_any_characters(audio: Path, tmp_path: Path) -> None:
    path = write_list(tmp_path / "list.csv", soundbible(1))
    replies = {link(1): Reply(body=(audio / "noise.wav").read_bytes()), "/1-S.html": detail(1)}
    with serve_replies(replies) as site:
        options = ("--raw", tmp_path / "raw", "--base-url", site.base_url)
        done = run(path, *options, "--contact", "mailto:łukasz@example.org\r\nX-Other: 1")
        assert done.exit_code == 0, done.output
        agents = {asked.headers["user-agent"].encode("latin-1").decode() for asked in site.asked}
        assert not [asked for asked in site.asked if "x-other" in asked.headers]
    (agent,) = agents
    assert agent.endswith(" (+mailto:łukasz@example.org X-Other: 1)")


@pytest.mark.parametrize(("seconds", "words"), [(100, "0.6 clips/min"), (0.25, "4.0 clips/s")])
def test_progress_is_told_in_a_unit_that_shows_it(
    seconds: float, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [1_000.0]
    monkeypatch.setattr("crawler.replay.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("crawler.settings.PROGRESS_SECONDS", 0.1)
    progress = Progress("soundbible", 4)
    now[0] += seconds
    progress.show()
    assert f"soundbible: 1 of 4 clips, 0 failed, {words}, " in capsys.readouterr().err


def test_a_table_is_closed_whatever_happens(tmp_path: Path) -> None:
    table = Table(tmp_path / "table.csv", again=False)
    with pytest.raises(TableError, match="another check is at work on it"):
        Table(tmp_path / "table.csv", again=False)
    with pytest.raises(ZeroDivisionError), table:
        raise ZeroDivisionError
    with Table(tmp_path / "table.csv", again=False) as another:
        assert another.done == {}


def test_a_site_that_is_down_is_not_beaten(tmp_path: Path) -> None:
    with serve_replies(
        {}, otherwise=lambda path: Reply(503) if "grab" in path or "S.html" in path else Reply(404)
    ) as site:
        report = replay_site(site.base_url, tmp_path, range(1, 100))
        assert len(site.requests) < 30
    assert "was down 10 times in a row, last: HTTP status 503" in report.error
    assert report.finish_reason == "unreachable"


def test_a_check_asks_with_get_where_head_is_refused_and_reads_no_body(tmp_path: Path, audio: Path) -> None:
    table = tmp_path / "table.csv"
    path = write_list(tmp_path / "list.csv", soundbible(1), soundbible(2), soundbible(3))
    big = Reply(body=flood(b"RIFF", 200), framing="close", headers={"Content-Type": "audio/x-wav"})
    refused = Reply(405)
    replies = {
        link(1): [refused, big],
        link(2): Reply(500),
        link(2, "mp3"): Reply(404),
        link(3): Reply(body=b"x" * 44, headers={"Content-Type": "audio/x-wav"}),
    }
    with serve_replies(replies) as site:
        done = run(path, "--check", "--out", table, "--base-url", site.base_url, "--max-failed", "1")
        methods = [asked.method for asked in site.asked if asked.path == link(1)]
        assert site.sent(link(1)) < 100 * 2**20
        assert done.exit_code == 0, done.output
        lines = table.read_text().splitlines()
        assert methods == ["HEAD", "GET"]
        assert [line.split(",")[2] for line in lines[1:]] == ["alive", "unknown", "gone"]
        assert "HTTP status 500" in lines[2]
        site.asked.clear()
        run(path, "--check", "--out", table, "--base-url", site.base_url)
        assert {asked.path for asked in site.asked if "grab" in asked.path} == {link(2), link(2, "mp3")}
    assert len(table.read_text().splitlines()) == 4


# Usage, disks and kills.


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--base-url", "nonsense"], 2, "base_url must be like http://127.0.0.1:8000"),
        (["--base-url", "freesound=http://127.0.0.1:1"], 2, "base_url must be like"),
        (["--base-url", "http://127.0.0.1:1", "--base-url", "http://127.0.0.1:2"], 2, "both sites named twice"),
        (["--again"], 2, "is of --check alone"),
        (["--delay", "inf"], 2, "must be a number of seconds"),
        (["--delay", "-1"], 2, "delay"),
        (["--opt-out", "no-such-file"], 2, "'no-such-file' does not exist"),
        (["--check", "--no-pages"], 2, "Invalid value for --no-pages: is of a replay alone, not of --check"),
        (["--check", "--retry-failed"], 2, "Invalid value for --retry-failed: is of a replay alone"),
        (["--check", "--out", "{list}"], 1, "not the table of a check: it begins 'view_link"),
    ],
)
def test_wrong_usage(options: list[str], code: int, message: str, tmp_path: Path) -> None:
    path = write_list(tmp_path / "list.csv", soundbible(1))
    before = path.read_bytes()
    done = run(path, "--raw", tmp_path / "raw", *(option.format(list=path) for option in options))
    assert (done.exit_code, path.read_bytes()) == (code, before)
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_the_help_tells_what_an_option_costs() -> None:
    text = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout.replace("│", " ").split())
    assert "its licence stays unknown until its record is deleted" in text
    assert "Reservations inside pages are not seen" in text


def test_refused_rows_are_named_and_count_as_failed(
    audio: Path, make_clip: Callable[..., Clip], tmp_path: Path
) -> None:
    path = write_list(tmp_path / "list.csv", soundbible(1), soundbible(2, view_link="https://example.org/2-S.html"))
    with serve([make_clip(1)], audio) as site:
        done = run(path, "--raw", tmp_path / "raw", "--base-url", site.base_url, "--json")
    assert done.exit_code == 1
    assert (
        f"refused: {path}: line 3: column 'view_link': 'https://example.org/2-S.html' is of no known site"
        in done.stderr
    )
    assert done.stderr.endswith("error: 1 of 2 rows were refused (named above), more than --max-failed 0.1\n")
    result = json.loads(done.stdout)
    assert (result["sites"]["soundbible"]["stored"], len(result["refused"])) == (1, 1)


def test_an_empty_list_and_a_damaged_one_fail(tmp_path: Path) -> None:
    assert "error: the list has no row" in run(write_list(tmp_path / "list.csv")).stderr
    (tmp_path / "list.csv").write_text("<html>")
    done = run(tmp_path / "list.csv")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)


def test_a_full_disk_stops_the_replay_and_leaves_nothing_half(
    audio: Path, make_clip: Callable[..., Clip], tmp_path: Path
) -> None:
    path, raw = write_list(tmp_path / "list.csv", soundbible(1), soundbible(2)), tmp_path / "raw"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))

    with serve([make_clip(1), make_clip(2)], audio) as site:
        line = in_process(path, "--raw", raw, "--base-url", site.base_url)
        full = subprocess.run(line, capture_output=True, text=True, preexec_fn=limit, env=environment(), check=False)
        assert full.returncode == 1
        assert f"cannot write to {raw / 'soundbible'}: no space left on the disk; mend that and run" in full.stderr
        assert "Traceback" not in full.stderr
        assert not list(raw.rglob("*.part")) + list(raw.rglob("*.wav")) + list(raw.rglob("records/*"))
        done = subprocess.run(line, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert set(read_records(raw, "soundbible")) == {"1", "2"}


def test_a_full_disk_stops_the_check_and_costs_no_line(
    audio: Path, make_clip: Callable[..., Clip], tmp_path: Path
) -> None:
    rows = [make(number) for number in range(1, 6) for make in (soundbible, bigsoundbank)]
    path, table = write_list(tmp_path / "list.csv", *rows), tmp_path / "table.csv"
    clips = [make_clip(number) for number in range(1, 6)]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))

    with serve(clips, audio) as first, serve(clips, audio, layout="bigsoundbank") as second:
        urls = ("--base-url", f"soundbible={first.base_url}", "--base-url", f"bigsoundbank={second.base_url}")
        line = in_process(path, "--check", "--out", table, *urls)
        full = subprocess.run(line, capture_output=True, text=True, preexec_fn=limit, env=environment(), check=False)
        assert full.returncode == 1
        assert f"cannot write to {table}: no space left on the disk; mend that and run the same" in full.stderr
        assert table.stat().st_size == 400
        done = run(path, "--check", "--out", table, *urls)
    assert done.exit_code == 0, done.output
    assert sorted(line.split(",")[1] for line in table.read_text().splitlines()[1:]) == [
        "0001", "0002", "0003", "0004", "0005", "1", "2", "3", "4", "5",
    ]  # fmt: skip


def test_two_at_a_time_in_one_folder_are_refused(audio: Path, make_clip: Callable[..., Clip], tmp_path: Path) -> None:
    from crawler.items import take_lock

    raw = tmp_path / "raw"
    (raw / "soundbible").mkdir(parents=True)
    path = write_list(tmp_path / "list.csv", soundbible(1))
    with take_lock(raw / "soundbible" / ".lock"), take_lock(raw / ".replay_check.csv.lock"):
        done = run(path, "--raw", raw, "--base-url", "http://127.0.0.1:9")
        checked = run(path, "--raw", raw, "--base-url", "http://127.0.0.1:9", "--check")
    assert done.stderr.endswith(f"another crawl is at work in {raw / 'soundbible'}; wait for it to end\n")
    assert checked.stderr.endswith("another check is at work on it; wait for it to end\n")
    assert (done.exit_code, checked.exit_code) == (1, 1)


def kill_and_resume(audio: Path, clips: list[Clip], folder: Path, *, signals: Sequence[int]) -> None:
    """Kill a replay and a check time and again, and compare what the last run leaves with an uninterrupted one."""
    rows = [make(clip.id) for clip in clips for make in (soundbible, bigsoundbank)]
    path = write_list(folder / "list.csv", *rows)
    with serve(clips, audio) as first, serve(clips, audio, layout="bigsoundbank") as second:
        urls = ("--base-url", f"soundbible={first.base_url}", "--base-url", f"bigsoundbank={second.base_url}")
        run(path, "--raw", folder / "whole", *urls)
        run(path, "--raw", folder / "whole", *urls, "--check")
        for options in ([], ["--check"]):
            line = in_process(path, "--raw", folder / "raw", *urls, *options)
            first.requests.clear()
            second.requests.clear()
            hit = 0
            step = (2 if options else 3) * len(clips) // (len(signals) + 1)  # requests a clip: the last is hit as well
            for sent in signals:
                before = len(first.requests)
                process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
                until = time.monotonic() + 30
                while len(first.requests) < before + step and process.poll() is None and time.monotonic() < until:
                    time.sleep(0.005)
                process.send_signal(sent)
                _, stderr = process.communicate(timeout=30)
                assert b"Traceback" not in stderr
                hit += process.returncode != 0
                if sent == signal.SIGINT and process.returncode != 0:
                    assert b"run the same command again to go on" in stderr
            done = subprocess.run(line, capture_output=True, text=True, env=environment(), check=False)
            assert done.returncode == 0, done.stderr
            sent_audio = [
                target for _, target, status in first.requests if target.startswith("/wav/") and status == 200
            ]
            assert hit >= 0.8 * len(signals)
            if not options:
                assert len(sent_audio) - len(set(sent_audio)) <= len(signals)  # only what was on its way
    for source in ("soundbible", "bigsoundbank"):
        assert read_records(folder / "raw", source) == read_records(folder / "whole", source)
        assert not list((folder / "raw").rglob("*.part"))
    tables = [sorted((folder / name / "replay_check.csv").read_text().splitlines()) for name in ("raw", "whole")]
    assert tables[0] == tables[1]


def test_a_killed_replay_goes_on(audio: Path, make_clip: Callable[..., Clip], tmp_path: Path) -> None:
    clips = [make_clip(number) for number in range(1, 31)]
    kill_and_resume(audio, clips, tmp_path, signals=[signal.SIGKILL, signal.SIGINT])


@pytest.mark.long
def test_a_replay_killed_twenty_times_goes_on(audio: Path, make_clip: Callable[..., Clip], tmp_path: Path) -> None:
    clips = [make_clip(number) for number in range(1, 151)]
    kill_and_resume(audio, clips, tmp_path, signals=[signal.SIGKILL] * 20)


def test_the_import_is_light() -> None:
    code = "import sys, crawler.replay, crawler.replay_check; print('scrapy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
