"""Both spiders against the stand-in site, as a user runs them: real HTTP, a process of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from crawler.items import CrawlRecord
from crawler.spiders.soundbible import SoundBibleSpider
from curation.records import read_records as curated_records
from demo.site import Clip, Site, serve
from tests.crawler.conftest import Crawl, command, environment, read_records, read_report

LAYOUTS = ("soundbible", "soundbible-old", "bigsoundbank")
MakeClip = Callable[..., Clip]


def spider_of(layout: str) -> str:
    return layout.partition("-")[0]


def source_id_of(clip: Clip, layout: str) -> str:
    return f"{clip.id:04d}" if layout == "bigsoundbank" else str(clip.id)


def asked_paths(site: Site) -> list[str]:
    return [path for _, path, _ in site.requests]


def audio_paths(site: Site) -> list[str]:
    return [path for path in asked_paths(site) if path.startswith(("/grab.php", "/UPLOAD"))]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_clip_comes_with_its_text_and_every_fault_with_its_reason(
    layout: str, audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    good = [
        make_clip(7),
        make_clip(1664, title="Ünïcode “bell”", author="stephan", license="Public Domain"),
        make_clip(31, tags=(), license="Sampling Plus 1.0" if layout != "bigsoundbank" else "CC0"),
        make_clip(32, fault="busy"),
        make_clip(33, fault="no_description"),
        make_clip(34, audio={"mp3": "hiss.mp3"}, title='Sound 1000 Hz: 50% / a?b#c "d"'),
        make_clip(35, audio={"wav": "hiss.mp3", "mp3": "noise.mp3"}),
    ]
    bad = {
        "not_found": make_clip(41, fault="dead"),
        "not_audio": make_clip(42, fault="html"),
        "empty_audio": make_clip(43, fault="empty"),
    }
    padding = [make_clip(number, audio={"wav": "rain.wav", "mp3": "rain.mp3"}) for number in range(100, 112)]
    with serve([*good, *bad.values(), *padding], audio, layout=layout) as site:
        done = crawl(spider_of(layout), site.base_url, "--max-failed", "0.2")
    assert done.returncode == 0, done.stderr
    raw, source = tmp_path / "raw", spider_of(layout)
    assert done.stdout.splitlines()[-1].split() == ["wrote", str(raw / source)]

    records = read_records(raw, source)
    assert set(records) == {source_id_of(clip, layout) for clip in [*good, *padding]}
    for clip in good:
        record = records[source_id_of(clip, layout)]
        assert record["title"] == clip.title
        assert record["description"] == ("" if clip.fault == "no_description" else clip.description)
        assert record["tags"] == list(clip.tags)
        assert record["author"] == clip.author
        stored = (raw / source / record["audio_file"]).read_bytes()
        names = [name for name in set(clip.files.values()) if (audio / name).read_bytes() == stored]
        assert names, record["audio_file"]
        assert record["audio_file"].endswith(Path(names[0]).suffix)
        assert record["page_url"].startswith(("https://soundbible.com/", "https://bigsoundbank.com/"))
        assert record["audio_url"].startswith(("https://soundbible.com/", "https://bigsoundbank.com/"))
        assert "none" not in [value for name, value in record["extra"]["selectors"].items() if name == "title"]
    licences = {number: records[source_id_of(make_clip(number), layout)]["license"] for number in (7, 1664, 31)}
    assert licences[7] == "cc-by-3.0"
    assert licences[1664] == ("cc0-1.0" if layout == "bigsoundbank" else "public-domain")
    assert licences[31] == ("cc0-1.0" if layout == "bigsoundbank" else "cc-sampling-plus-1.0")
    best = records[source_id_of(make_clip(7), layout)]
    assert best["audio_file"].endswith(".flac" if layout == "bigsoundbank" else ".wav")

    report = read_report(raw, source)
    assert report["failed"] == dict.fromkeys(bad, 1)
    assert {f["source_id"]: f["reason"] for f in report["failures"]} == {
        source_id_of(clip, layout): reason for reason, clip in bad.items()
    }
    assert (report["asked"], report["stored"], report["already"]) == (22, 19, 0)
    assert report["requests"]["503"] == 2
    assert sum(report["selectors"]["title"].values()) == 22
    assert report["finish_reason"] == "finished"
    assert not list((raw / source).glob("**/*.part"))


NOTICES = {"/robots.txt", "/.well-known/tdmrep.json"}
LISTINGS = {
    "soundbible": {"/about.php", "/terms.php", *(f"/free-sound-effects-{number}.html" for number in (1, 2, 3, 4))},
    "bigsoundbank": {"/licenses.html", "/droit.html", "/sitemap_bsb.xml"},
}


@pytest.mark.parametrize("layout", LISTINGS)
def test_a_second_run_asks_for_notices_and_listings_only_and_only_whether_they_changed(
    layout: str, audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    faulty = [make_clip(21, fault="dead"), make_clip(22, fault="html"), make_clip(23, fault="empty")]
    clips = [*(make_clip(number) for number in range(1, 21)), *faulty]
    source = spider_of(layout)
    with serve(clips, audio, layout=layout) as site:
        assert crawl(source, site.base_url, "--max-failed", "0.2").returncode == 0
        before = read_records(tmp_path / "raw", source)
        first = read_report(tmp_path / "raw", source)
        site.requests.clear()
        done = crawl(source, site.base_url, "--max-failed", "0.2")
        assert done.returncode == 0, done.stderr
        asked = asked_paths(site)
        assert set(asked) == NOTICES | LISTINGS[layout]
        assert len(asked) == len(set(asked))
        assert {status for _, _, status in site.requests} == {304, 404}, "404: the stand-in has no tdmrep.json"
        second = read_report(tmp_path / "raw", source)
        again = crawl(source, site.base_url, "--max-failed", "0.2", "--retry-failed")
        assert len(audio_paths(site)) >= 3
    assert (second["asked"], second["stored"], second["already"]) == (23, 20, 20)
    assert second["failures"] == first["failures"], "what is gone is remembered, with the day it was asked"
    assert "empty_audio 1, not_audio 1, not_found 1; 3 of them by earlier runs, not asked again yet" in done.stdout
    assert "by earlier runs, not asked" not in again.stdout
    assert second["requests"] == {"304": len(asked) - 1, "404": 1}
    assert read_records(tmp_path / "raw", source) == before


def test_a_damaged_record_and_audio_that_is_cut_or_gone_are_asked_again_and_nothing_else_is(
    audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    folder = tmp_path / "raw" / "soundbible"
    with serve([make_clip(number) for number in range(1, 10)], audio) as site:
        assert crawl("soundbible", site.base_url).returncode == 0
        before = read_records(tmp_path / "raw", "soundbible")
        (folder / "records/1.json").write_text("[" * 100_000, encoding="utf-8")
        (folder / "audio/2.wav").unlink()
        (folder / "audio/3.wav").write_bytes(b"RIFF")
        (folder / "audio/4.wav.part").write_bytes(b"RIFF")
        (folder / "audio/1.mp3").write_bytes(b"of an earlier crawl")
        site.requests.clear()
        assert crawl("soundbible", site.base_url).returncode == 0
    assert sorted(audio_paths(site)) == [f"/grab.php?id={number}&type=wav" for number in (1, 2, 3)]
    assert read_records(tmp_path / "raw", "soundbible") == before
    assert {path.name for path in (folder / "audio").iterdir()} == {f"{number}.wav" for number in range(1, 10)}


def test_sigkill_and_a_second_run_give_what_one_run_gives(
    audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    clips = [make_clip(number) for number in range(1, 31)]
    with serve(clips, audio) as site:
        assert crawl("soundbible", site.base_url, raw=tmp_path / "whole").returncode == 0
        site.requests.clear()
        slow = ("-s", "DOWNLOAD_DELAY=0.01", "-s", "CONCURRENT_REQUESTS_PER_DOMAIN=2")
        records = tmp_path / "raw" / "soundbible" / "records"
        for wanted in (2, 12):
            with subprocess.Popen(
                command("soundbible", site.base_url, tmp_path / "raw", *slow), stderr=subprocess.PIPE, env=environment()
            ) as process:
                deadline = time.monotonic() + 60
                while len(list(records.glob("*.json"))) < wanted and time.monotonic() < deadline:
                    time.sleep(0.005)
                process.kill()
                process.communicate()
                assert process.returncode == -signal.SIGKILL, "the crawl ended before it was killed"
            assert read_report(tmp_path / "raw", "soundbible")["finish_reason"] == "running"
        killed = Counter(audio_paths(site))
        assert crawl("soundbible", site.base_url).returncode == 0
        times = Counter(audio_paths(site))
    assert 12 <= len(killed) < 30
    assert sum(times.values()) <= 30 + 2 * 2, "no audio twice except what was in flight, two at a time"
    assert read_records(tmp_path / "raw", "soundbible") == read_records(tmp_path / "whole", "soundbible")
    files = {path.name: path.read_bytes() for path in (tmp_path / "raw/soundbible/audio").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "whole/soundbible/audio").iterdir()}


def test_ctrl_c_ends_the_crawl_in_order(audio: Path, make_clip: MakeClip, tmp_path: Path) -> None:
    with serve([make_clip(number) for number in range(1, 31)], audio) as site:
        line = command("soundbible", site.base_url, tmp_path / "raw", "-s", "DOWNLOAD_DELAY=0.05")
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=environment()) as process:
            records, deadline = tmp_path / "raw/soundbible/records", time.monotonic() + 60
            while len(list(records.glob("*.json"))) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            stderr = process.communicate(timeout=60)[1]
    report = read_report(tmp_path / "raw", "soundbible")
    assert process.returncode == 1
    assert "the crawl did not finish (shutdown); run the same command again to go on" in stderr
    assert report["asked"] == report["stored"] == len(read_records(tmp_path / "raw", "soundbible")) < 30


@pytest.mark.parametrize("layout", ["soundbible", "bigsoundbank"])
def test_limit_counts_clips_newest_first(
    layout: str, audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    clips = [make_clip(number) for number in range(1, 31)]
    source = spider_of(layout)
    with serve(clips, audio, layout=layout) as site:
        done = crawl(source, site.base_url, "--limit", "11", "--json")
    assert set(read_records(tmp_path / "raw", source)) == {source_id_of(clip, layout) for clip in clips[-11:]}
    report = read_report(tmp_path / "raw", source)
    assert json.loads(done.stdout)["stored"] == report["stored"] == report["known"] == 11


def test_a_dry_run_counts_and_writes_nothing(audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path) -> None:
    with serve([make_clip(number) for number in range(1, 31)], audio) as site:
        plan = crawl("soundbible", site.base_url, "--dry-run")
        assert plan.returncode == 0, plan.stderr
        assert "lists 30 clips on 5 pages; 0 are stored already" in plan.stdout
        assert "30 pages and 30 audio files: about 90 requests" in plan.stdout, "grab.php redirects to the file"
        size = (audio / "noise.wav").stat().st_size / 2**10
        assert f"about {30 * size:.0f} KiB of audio, judged by 8 clips of {size:.0f} KiB to {size:.0f}" in plan.stdout
        assert {method for method, path, _ in site.requests if path in set(audio_paths(site))} == {"HEAD"}
        assert not (tmp_path / "raw").exists()
        assert crawl("soundbible", site.base_url, "--limit", "2").returncode == 0
        assert "2 are stored already" in crawl("soundbible", site.base_url, "--dry-run").stdout


def test_without_a_sitemap_the_category_pages_are_read_and_the_report_says_so(
    audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    robots = "User-agent: *\nDisallow: /nothing\n"
    with serve([make_clip(n) for n in (1, 2, 3)], audio, layout="bigsoundbank", robots=robots) as site:
        answer = site.answer
        site.answer = lambda method, target: answer(method, "/gone" if "sitemap" in target else target)  # type: ignore[method-assign]
        done = crawl("bigsoundbank", site.base_url)
    assert done.returncode == 0, done.stderr
    assert set(read_records(tmp_path / "raw", "bigsoundbank")) == {"0001", "0002", "0003"}
    assert "sitemap_bsb.xml cannot be used (HTTP status 404)" in done.stdout


def test_robots_txt_is_obeyed(audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path) -> None:
    robots = "User-agent: *\nDisallow: /grab.php\nDisallow: /mp3/\nDisallow: /wav/\n"
    with serve([make_clip(1), make_clip(2)], audio, robots=robots) as site:
        done = crawl("soundbible", site.base_url)
        assert not [path for path in asked_paths(site) if path.startswith(("/grab.php", "/mp3", "/wav"))]
    assert done.returncode == 1
    assert read_report(tmp_path / "raw", "soundbible")["failed"] == {"robots": 2}
    with serve([make_clip(1)], audio, robots="User-agent: wavtext5k-crawl\nDisallow: /\n") as site:
        done = crawl("soundbible", site.base_url, raw=tmp_path / "closed")
        assert asked_paths(site) == ["/robots.txt"]
    assert done.returncode == 1
    assert "could not be read: forbidden by robots.txt; no clip is known" in done.stderr


@pytest.mark.parametrize("spider", ["soundbible", "bigsoundbank"])
def test_a_site_that_does_not_answer_is_named(spider: str, crawl: Crawl, tmp_path: Path) -> None:
    done = crawl(spider, "http://127.0.0.1:1", "-s", "RETRY_TIMES=0")
    assert done.returncode == 1
    assert "error: http://127.0.0.1:1/" in done.stderr
    assert "robots.txt could not be read (connection refused), so nothing may be asked; no clip is known" in done.stderr
    assert "Traceback" not in done.stderr
    report = read_report(tmp_path / "raw", spider)
    assert (report["asked"], report["finish_reason"]) == (0, "unreachable")


def test_a_full_disk_stops_the_crawl_and_leaves_nothing_half_written(
    audio: Path, make_clip: MakeClip, tmp_path: Path
) -> None:
    clips = [make_clip(number, audio={"mp3": "noise.mp3"}) for number in range(3, 40)] + [make_clip(1000)]
    limit = (audio / "noise.wav").stat().st_size - 1000
    assert (audio / "noise.mp3").stat().st_size < limit
    with serve(clips, audio) as site:
        line = command("soundbible", site.base_url, tmp_path / "raw", "-s", "CONCURRENT_REQUESTS_PER_DOMAIN=1")
        # A file that would pass this limit fails as on a full disk, half-way through.
        code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n" + RUN_CLI
        done = subprocess.run(
            [sys.executable, "-c", code, *line[3:]],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment(),
        )
    assert done.returncode == 1
    assert "no space left on the disk; mend that and run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    folder = tmp_path / "raw/soundbible"
    report = read_report(tmp_path / "raw", "soundbible")
    assert report["finish_reason"] == "no_space"
    assert report["failed"] == {"io_error": 1}
    assert report["asked"] < 38
    assert not list(folder.glob("**/*.part"))
    assert not (folder / "audio/1000.wav").exists()
    for path in (folder / "records").iterdir() if (folder / "records").exists() else ():
        record = CrawlRecord.from_json(path.read_text(encoding="utf-8"))
        assert (folder / record.audio_file).stat().st_size == record.bytes


RUN_CLI = "from crawler.cli import main\nmain()"


def test_scrapy_crawl_runs_the_same_spider(audio: Path, make_clip: MakeClip, tmp_path: Path) -> None:
    (tmp_path / "scrapy.cfg").write_text("[settings]\ndefault = crawler.settings\n", encoding="utf-8")
    with serve([make_clip(5)], audio) as site:
        line = [sys.executable, "-m", "scrapy", "crawl", "soundbible", "-a", f"base_url={site.base_url}"]
        line += ["-a", "limit=1", "-s", "RAW_DIR=data", "-s", "DOWNLOAD_DELAY=0", "-s", "CONTACT=mailto:me@example.org"]
        line += ["-s", "LOG_LEVEL=INFO"]
        done = subprocess.run(
            line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env=environment()
        )
    assert done.returncode == 0, done.stderr
    assert list(read_records(tmp_path / "data", "soundbible")) == ["5"]
    assert "(+mailto:me@example.org)" in done.stderr  # the user agent, among the settings that Scrapy logs
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["soundbible"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("limit=abc", "error: limit must be a whole number, 1 or more, got 'abc'"),
        ("limt=3", "error: no argument is called 'limt'; did you mean 'limit'?"),
    ],
)
def test_scrapy_crawl_refuses_a_wrong_argument_in_one_line(argument: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "scrapy.cfg").write_text("[settings]\ndefault = crawler.settings\n", encoding="utf-8")
    line = [sys.executable, "-m", "scrapy", "crawl", "soundbible", "-a", argument, "-L", "WARNING"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, f"{message}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_url": "junk"}, "base_url must be like"),
        ({"dry_run": "maybe"}, "dry_run must be 1 or 0, got 'maybe'"),
        ({"zzz": "1"}, "no argument is called 'zzz'; there are base_url, limit, dry_run"),
    ],
)
def test_a_spider_refuses_wrong_arguments(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoundBibleSpider(**arguments)


def test_a_disk_that_is_full_from_the_start_is_named(tmp_path: Path) -> None:
    line = command("soundbible", "http://127.0.0.1:1", tmp_path / "raw")
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n" + RUN_CLI
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, *line[3:]], capture_output=True, text=True, timeout=60, check=False
    )
    message = f"cannot write to {tmp_path / 'raw/soundbible'}: no space left on the disk; mend that and run the same"
    assert (done.returncode, done.stderr) == (1, f"error: {message} command again\n")


def test_a_second_crawl_into_one_folder_is_refused_until_the_first_is_gone(
    audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    folder = tmp_path / "raw/soundbible"
    with serve([make_clip(number) for number in range(1, 9)], audio) as site:
        slow = command("soundbible", site.base_url, tmp_path / "raw", "-s", "DOWNLOAD_DELAY=1")
        with subprocess.Popen(slow, stderr=subprocess.DEVNULL, env=environment()) as first:
            try:
                deadline = time.monotonic() + 60
                while not (folder / "crawl_report.json").exists() and time.monotonic() < deadline:
                    time.sleep(0.01)
                (folder / "audio").mkdir(exist_ok=True)
                (folder / "audio/8.wav.part").write_bytes(b"RIFF")  # what the first is writing
                before = (folder / "crawl_report.json").read_bytes()
                done = crawl("soundbible", site.base_url)
                plan = crawl("soundbible", site.base_url, "--dry-run")
                assert first.poll() is None, "the first crawl ended too early for this test"
                assert (folder / "crawl_report.json").read_bytes() == before
                assert (folder / "audio/8.wav.part").exists()
            finally:
                first.kill()
        assert done.returncode == 1
        assert done.stderr == f"error: another crawl is at work in {folder}; wait for it to end\n"
        assert done.stdout == ""
        assert plan.returncode == 0, plan.stderr
        assert crawl("soundbible", site.base_url).returncode == 0
    assert len(read_records(tmp_path / "raw", "soundbible")) == 8
    assert not list(folder.glob("*/*.part"))
    assert len(curated_records(tmp_path / "raw")) == 8  # the lock's file is no record


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_output_that_cannot_be_written_is_one_line(audio: Path, make_clip: MakeClip, tmp_path: Path) -> None:
    with serve([make_clip(1)], audio) as site, Path("/dev/full").open("w") as full:
        line = command("soundbible", site.base_url, tmp_path / "raw")
        done = subprocess.run(
            line, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False, env=environment()
        )
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")
    assert len(read_records(tmp_path / "raw", "soundbible")) == 1


def test_a_terminal_of_ascii_shows_other_names_with_escapes(audio: Path, make_clip: MakeClip, tmp_path: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    with serve([make_clip(1, title="Ünï")], audio) as site:
        for options in ((), ("--json", "--max-failed", "1")):
            line = command("soundbible", site.base_url, tmp_path / "rö", *options)
            done = subprocess.run(line, capture_output=True, timeout=60, check=False, env=environment() | ascii_only)
            assert done.returncode == 0, done.stderr
            assert done.stdout.isascii()
            if options:
                assert json.loads(done.stdout)["stored"] == 1
            else:
                assert done.stdout.splitlines()[-1].endswith(b"/soundbible")
                assert b"\\udcc3\\udcb6/soundbible" in done.stdout
        (tmp_path / "rö/soundbible/records/1.json").unlink()
        (tmp_path / "rö/soundbible/audio/1.wav").unlink()
        (tmp_path / "rö/soundbible/audio").rmdir()
        (tmp_path / "rö/soundbible/audio").write_text("in the way", encoding="utf-8")
        done = subprocess.run(line[:-3], capture_output=True, timeout=60, check=False, env=environment() | ascii_only)
    assert done.returncode == 1
    assert b"error: cannot write to " in done.stderr
    assert read_report(tmp_path / "rö", "soundbible")["failed"] == {"io_error": 1}
