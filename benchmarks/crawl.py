"""How fast the crawler is beside a bare client, how much memory it takes, and how fast it reads pages.

    python benchmarks/crawl.py --clips 2000 --repeats 3 --layout soundbible

Writes a catalogue of synthesised clips under --work, serves it (demo.site, a process of its own) and crawls it with
the spider's politeness off, as a process of its own; then two clients that do nothing else ask for the very same
addresses, as the site logged them: a bare aiohttp client, the rival, and a bare Scrapy spider, the ceiling. It measures
and does not judge: it exits 0 whatever the figures are, and 1 only where a crawl fails or they did not get the same
answers. Linux only: memory and processor time come from /proc.

Three ratios are printed: of whole processes, of the work alone (no start, no imports), and of processor time, which
the load of other programs on the machine moves least. The site needs some processor time too, printed beside them: a
client that takes no longer than the site itself is waiting for it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import _path  # noqa: F401  # curation.py beside this file has the name of a package
import numpy as np
import soundfile
import typer
from _parsing import PARSERS, parsing

from curation.errors import WavTextError, exit_on_error
from demo.effects import FAMILIES
from demo.site import Clip, read_catalogue, write_catalogue
from demo.sounds import AUTHORS, LICENSES

WORK = Path("runs/benchmark-crawl")
CLIENTS = {
    "aiohttp": Path(__file__).with_name("_bare_aiohttp.py"),
    "scrapy": Path(__file__).with_name("_bare_scrapy.py"),
}
CONCURRENCY = 8
IMPOLITE = ("DOWNLOAD_DELAY=0", "AUTOTHROTTLE_ENABLED=0", f"CONCURRENT_REQUESTS_PER_DOMAIN={CONCURRENCY}")
BAR_RATIO = 0.25
BAR_MEMORY_MIB = 350
BAR_PAGES = 500  # detail pages a second on one core
AUDIO_S = (0.7, 1.0, 1.4, 1.9, 2.4, 3.0, 3.7, 4.5)
"""Lengths of the files that the clips share: 16-bit mono WAV at 22.05 kHz, 31 to 198 KB, 103 KB on average."""
SAMPLE_RATE = 22_050
SAMPLE_EVERY_S = 0.2
QUARTERS = (25, 50, 75, 100)
WORDS = {
    "process": "the whole process",
    "work": "without start and imports",
    "cpu": "processor time",
    "site_cpu": "the site's processor time",
}
RATIOS = ("process", "work", "cpu")
LIBRARIES = ("Scrapy", "Twisted", "parsel", "lxml", "beautifulsoup4", "aiohttp")

Sample = tuple[int, float, float]
"""Clips stored so far, MiB that the process holds, and the most that it held until then."""


class BenchmarkError(WavTextError):
    """A run that does not count; the message says which, and where its log lies."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one process took, all in seconds."""

    process: float
    """Wall time from its start to its end."""
    work: float
    """The same, without the start of Python and the imports."""
    cpu: float
    """Processor time of all its threads."""
    site_cpu: float
    """Processor time of the site meanwhile; as much as ``work`` where the site is what was waited for."""


def main(
    layout: Annotated[str, typer.Option(help=f"Whose pages: {', '.join(PARSERS)}.")] = "soundbible",
    clips: Annotated[int, typer.Option(min=20, help="Clips of the stand-in site.")] = 2_000,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of the crawl and of each bare client.")] = 3,
    work: Annotated[Path, typer.Option(help="Folder for the site and the crawls; removed at the end.")] = WORK,
    json_: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure the crawl of the stand-in site beside a bare client, its memory, and the parsing of pages."""
    if layout not in PARSERS:
        raise typer.BadParameter(f"{layout!r} is not one of {', '.join(PARSERS)}", param_hint="--layout")
    with exit_on_error():
        if work.exists():
            raise BenchmarkError(f"{work} is there already; remove it, or name another folder with --work")
        figures = measure(layout, clips, repeats, work)
        shutil.rmtree(work)
        print(json.dumps(figures, indent=1) if json_ else table(figures))


def measure(layout: str, clips: int, repeats: int, work: Path) -> dict[str, Any]:
    """Return every figure. ``work`` stays as it is where a run fails."""
    load_before = os.getloadavg()[0]
    catalogue = make_site(work / "site", clips)
    addresses, answers = list_addresses(layout, catalogue, work)
    names = ("crawl", *CLIENTS)
    runs: dict[str, list[Run]] = {name: [] for name in names}
    memory: list[dict[str, float]] = []
    with site(layout, catalogue) as (base_url, site_pid):
        for repeat in range(repeats):
            for name in names[:: 1 if repeat % 2 == 0 else -1]:
                out = work / name
                shutil.rmtree(out, ignore_errors=True)
                os.sync()  # what the run before left for the disk to do is not this run's
                print(f"{name} {repeat + 1} of {repeats}", file=sys.stderr, flush=True)
                if name == "crawl":
                    run, report, samples = crawl(layout, base_url, out, clips, site_pid=site_pid)
                    memory.append(memory_of(samples, clips))
                else:
                    run = fetch(CLIENTS[name], base_url, addresses, answers, out, site_pid=site_pid)
                runs[name].append(run)
        again, report_again, _ = crawl(layout, base_url, work / "crawl", clips, site_pid=site_pid)
    pages = clips + report["listing_pages"]
    return {
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "load": [load_before, os.getloadavg()[0]],
            "file_system": subprocess.check_output(["stat", "-f", "-c", "%T", str(work)], text=True).strip(),
            "python": platform.python_version(),
            **{name.lower(): version(name) for name in LIBRARIES},
        },
        "layout": layout,
        "clips": clips,
        "pages": pages,
        "requests": sum(answers.values()),
        "repeats": repeats,
        "runs": {name: [dataclasses.asdict(run) for run in those] for name, those in runs.items()},
        "ratio": {field: ratios(runs["aiohttp"], runs["crawl"], field) for field in RATIOS},
        "ceiling": {field: ratios(runs["aiohttp"], runs["scrapy"], field) for field in RATIOS},
        "memory_mib": memory,
        "again": {**dataclasses.asdict(again), "requests": sum(report_again["requests"].values())},
        "parsing": parsing(catalogue, repeats),
    }


def make_site(folder: Path, clips: int) -> Path:
    """Write the audio and a catalogue of clips that share it, and return the catalogue's path."""
    audio = folder / "audio"
    audio.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, seconds in enumerate(AUDIO_S):
        noise = rng.normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)
        soundfile.write(audio / f"{number}.wav", noise, SAMPLE_RATE, subtype="PCM_16")
    listed = []
    for number in range(clips):
        family = FAMILIES[number % len(FAMILIES)]
        choices = family.choices()
        choice = choices[number // len(FAMILIES) % len(choices)]
        listed.append(
            Clip(
                id=number + 1001,
                title=family.title_of(choice),
                description=family.describe(choice, rng),
                tags=family.tags_of(choice),
                author=AUTHORS[number % len(AUTHORS)],
                license=list(LICENSES)[number % len(LICENSES)],
                audio=f"{number % len(AUDIO_S)}.wav",
            )
        )
    write_catalogue(folder / "catalogue.jsonl", listed)
    return folder / "catalogue.jsonl"


@contextmanager
def site(layout: str, catalogue: Path, log: Path = Path(os.devnull)) -> Iterator[tuple[str, int]]:
    """Serve a catalogue from a process of its own and yield its address and its process id."""
    audio = catalogue.parent / "audio"
    command = [sys.executable, "-m", "demo.site", "--catalogue", str(catalogue), "--audio", str(audio), "--port", "0"]
    command += ["--layout", layout, *(["--verbose"] if log != Path(os.devnull) else [])]
    with log.open("wb") as err, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True) as server:
        try:
            base_url = server.stdout.readline().partition(" ")[0]  # type: ignore[union-attr]
            if not base_url:
                raise BenchmarkError(f"the stand-in site did not start: {' '.join(command)}")
            yield base_url, server.pid
        finally:
            server.terminate()


def list_addresses(layout: str, catalogue: Path, work: Path) -> tuple[Path, Counter[str]]:
    """Crawl once, unmeasured, and return a file of what the site was asked, and its answers by status."""
    log = work / "site.log"
    with site(layout, catalogue, log) as (base_url, site_pid):
        print("unmeasured crawl, for its addresses", file=sys.stderr, flush=True)
        crawl(layout, base_url, work / "crawl", len(read_catalogue(catalogue)), site_pid=site_pid)
    lines = re.findall(r'"([A-Z]+) (\S+) HTTP/1\.[01]" (\d{3})', log.read_text(encoding="utf-8"))
    addresses = work / "addresses.txt"
    addresses.write_text("".join(f"{method} {path}\n" for method, path, _ in lines), encoding="ascii")
    return addresses, Counter(status for _, _, status in lines)


def crawl(
    layout: str, base_url: str, raw: Path, clips: int, *, site_pid: int
) -> tuple[Run, dict[str, Any], list[Sample]]:
    """Crawl the site and return what it took, its report, and its memory as sampled meanwhile."""
    spider = layout.partition("-")[0]  # one spider reads both of SoundBible's layouts
    records = raw / spider / "records"
    samples: list[Sample] = []

    def sample(pid: int) -> None:
        stored = sum(1 for _ in records.glob("*.json")) if records.exists() else 0
        if resident := resident_mib(pid):
            samples.append((stored, *resident))

    command = [sys.executable, "-m", "crawler.cli", spider, "--base-url", base_url, "--raw", str(raw)]
    command += [part for setting in IMPOLITE for part in ("-s", setting)]
    log = raw.with_name("crawl.log")
    wall, cpu, site_cpu = timed(command, log, site_pid=site_pid, sample=sample)
    report = json.loads((raw / spider / "crawl_report.json").read_text(encoding="utf-8"))
    if (stored := report["stored"]) != clips:
        raise BenchmarkError(f"the crawl stored {stored} of {clips} clips, failed {report['failed']}; see {log}")
    return Run(process=wall, work=report["seconds"], cpu=cpu, site_cpu=site_cpu), report, samples


def fetch(client: Path, base_url: str, addresses: Path, answers: Counter[str], out: Path, *, site_pid: int) -> Run:
    """Let a client ask for the addresses, and return what it took."""
    out.mkdir()
    log = out.with_name(f"{out.name}.log")
    command = [sys.executable, str(client), base_url, str(addresses), str(out), str(CONCURRENCY)]
    wall, cpu, site_cpu = timed(command, log, site_pid=site_pid, sample=resident_mib)
    result = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    if result["statuses"] != answers:
        raise BenchmarkError(f"{client.stem} got the answers {result['statuses']}, the crawl {dict(answers)}")
    return Run(process=wall, work=result["seconds"], cpu=cpu, site_cpu=site_cpu)


def timed(
    command: list[str], log: Path, *, site_pid: int, sample: Callable[[int], object]
) -> tuple[float, float, float]:
    """Run a process and return its wall time, its processor time, and the site's meanwhile; ``sample`` gets its id."""
    site_before = cpu_seconds(site_pid)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_EVERY_S):
            sample(process.pid)

    watcher = threading.Thread(target=watch)
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        watcher.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - started
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            ended.set()
            watcher.join()
    if process.returncode:
        raise BenchmarkError(f"{' '.join(command)} ended with {process.returncode}; its output is in {log}")
    return wall, usage.ru_utime + usage.ru_stime, cpu_seconds(site_pid) - site_before


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> tuple[float, float] | None:
    """Return how much memory a process holds and the most it ever held; None if it has ended."""
    try:
        found = dict(re.findall(r"^(VmRSS|VmHWM):\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text("utf-8"), re.M))
        return int(found["VmRSS"]) / 1024, int(found["VmHWM"]) / 1024
    except (OSError, KeyError):
        return None


def memory_of(samples: list[Sample], clips: int) -> dict[str, float]:
    """Return MiB at each quarter of the clips, and the most there was."""
    last = samples[-1]
    at = {part: next((mib for stored, mib, _ in samples if stored * 100 >= part * clips), last[1]) for part in QUARTERS}
    return {**{str(part): mib for part, mib in at.items()}, "most": max(last[2], *at.values())}


def ratios(rivals: list[Run], crawls: list[Run], field: str) -> dict[str, float]:
    """Return the rival's time as a share of the crawl's: of the medians, and the least and most of one repeat."""
    each = [getattr(rival, field) / getattr(crawl, field) for rival, crawl in zip(rivals, crawls, strict=True)]
    of_medians = median_of(rivals, field) / median_of(crawls, field)
    return {"median": of_medians, "least": min(each), "most": max(each)}


def median_of(runs: list[Run], field: str) -> float:
    return float(statistics.median(getattr(run, field) for run in runs))


def cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.M)
    return found[1] if found else platform.machine()


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a plain table."""
    machine = dict(figures["machine"])
    load = machine.pop("load")
    runs = {name: [Run(**run) for run in those] for name, those in figures["runs"].items()}
    lines = [
        f"{machine.pop('cpu')}, {machine.pop('cores')} cores, load {load[0]:.1f} before and {load[1]:.1f} after, "
        f"files on {machine.pop('file_system')}",
        ", ".join(f"{name} {number}" for name, number in machine.items()),
        f"{figures['layout']}: {figures['clips']} clips, {figures['pages']} pages, {figures['requests']} requests, "
        f"{CONCURRENCY} at a time; median of {figures['repeats']} (least to most)",
        "",
        f"{'':<28}{'crawl':>20}{'bare aiohttp':>20}{'bare Scrapy':>20}",
    ]
    for field, words in WORDS.items():
        lines.append(f"{'s, ' + words:<28}" + "".join(f"{spread(those, field):>20}" for those in runs.values()))
    for name in ("requests", "pages", "clips"):
        per_s = (figures[name] / median_of(those, "work") for those in runs.values())
        lines.append(f"{name + ' a second of work':<28}" + "".join(f"{rate:>20.1f}" for rate in per_s))
    lines += ["", f"bar: {BAR_RATIO} of the bare client's speed or more"]
    for field in RATIOS:
        ours, ceiling = figures["ratio"][field], figures["ceiling"][field]["median"]
        values = f"{ours['median']:.3f} ({ours['least']:.3f} to {ours['most']:.3f})"
        verdict = f"{met(ours['median'] >= BAR_RATIO)}; a bare Scrapy spider: {ceiling:.3f}"
        lines.append(f"{WORDS[field]:<28}{values:>24}  {verdict}")
    lines += ["", f"bar: less than {BAR_MEMORY_MIB} MiB, and flat"]
    for memory in figures["memory_mib"]:
        at = "  ".join(f"{part} % {memory[str(part)]:.1f}" for part in QUARTERS)
        growth = memory["100"] - memory["25"]
        grew = f"{growth:+.1f} from 25 % on, {growth * 1024 / (0.75 * figures['clips']):+.2f} KiB a clip"
        lines.append(f"MiB at {at}  most {memory['most']:.1f}  {met(memory['most'] < BAR_MEMORY_MIB)}; {grew}")
    lines += ["", f"bar: {BAR_PAGES} detail pages a second on one core"]
    for name, rate in figures["parsing"].items():
        values = f"{rate['pages_per_s']:.0f} ({rate['least']:.0f} to {rate['most']:.0f})"
        lines.append(f"{name:<28}{values:>24}  {met(rate['pages_per_s'] >= BAR_PAGES)}; {rate['kib']:.1f} KiB a page")
    again = "the same crawl once more: {requests} requests, {process:.1f} s".format(**figures["again"])
    return "\n".join([*lines, "", again])


def spread(runs: list[Run], field: str) -> str:
    values = [getattr(run, field) for run in runs]
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def met(is_met: bool) -> str:
    return "met" if is_met else "not met"


if __name__ == "__main__":
    typer.run(main)
