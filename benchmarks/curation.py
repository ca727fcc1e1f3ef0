"""How fast a build is beside bare processes that only decode, resample and encode, and what a large manifest takes.

    python benchmarks/curation.py --clips 1000 --repeats 3

Writes synthesised clips of mixed length, rate, channels and format with their records under --work, then lets
``wavtext5k-curate build`` and bare processes (benchmarks/_bare_curation.py) convert the very same files: the bare ones
with 1 process and with as many as --workers says, the build likewise, all in turn in each repeat, and once a repeat the
published script's route in one process. It measures and does not judge: it exits 0 whatever the figures are, and 1 only
where a run fails or they did not write the same samples. Linux only: processor time comes from its kernel.

Start-up is what passes between the start of a process and the moment when work on the first clip begins; everything
else, to the end of the last process, is work. The bare processes say when they begin. A build does not, but the journal
of a clip is written when it is finished: the first one's time, less the mean time of a clip, is when work began.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import _path  # noqa: F401  # before the package that this file has the name of
import numpy as np
import numpy.typing as npt
import soundfile
import typer

from crawler.items import CrawlRecord, record_file
from curation.clips import WORK_FOLDER
from curation.engine import available_cores
from curation.errors import WavTextError, exit_on_error
from curation.manifest import read_manifest

WORK = Path("runs/benchmark-curation")
SOURCE = "made"
BARE = Path(__file__).with_name("_bare_curation.py")
LARGE = Path(__file__).with_name("_million_rows.py")
BAR_RATIO = 1.25
BAR_SPEED_UP = 0.9
BAR_START_S = 3.0
BAR_ROWS_S, BAR_ROWS_GIB = 60.0, 4.0
SHORTEST_S, LONGEST_S = 0.5, 20.0
"""Of a clip; lengths are spread evenly on a logarithmic scale, 5.3 s on average."""
KINDS = (
    (44_100, 2, "wav", "PCM_16"),
    (44_100, 2, "mp3", "MPEG_LAYER_III"),
    (48_000, 2, "wav", "PCM_24"),
    (44_100, 1, "wav", "PCM_16"),
    (22_050, 1, "wav", "PCM_16"),
    (48_000, 2, "mp3", "MPEG_LAYER_III"),
    (96_000, 2, "wav", "PCM_24"),
    (48_000, 1, "flac", "PCM_16"),
)
"""Rate, channels, container and samples of the files, in turn."""
LIBRARIES = ("soundfile", "soxr", "numpy", "pyarrow", "distributed")


class BenchmarkError(WavTextError):
    """A run that does not count; the message says which, and where its log lies."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one conversion of all clips took, all in seconds."""

    start: float
    """From the start of the first process to the beginning of the first clip."""
    work: float
    """From there to the end of the last process."""
    cpu: float
    """Processor time of all processes, their start included."""


def main(
    clips: Annotated[int, typer.Option(min=20, help="Clips to synthesise.")] = 1_000,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of everything.")] = 3,
    workers: Annotated[int, typer.Option(min=2, help="Processes of the larger run.")] = 2,
    rows: Annotated[int, typer.Option(min=1, help="Of the large manifest.")] = 1_000_000,
    work: Annotated[Path, typer.Option(help="Folder for everything; removed at the end.")] = WORK,
    json_: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure the build beside bare processes, its start, a large manifest, and the published script's route."""
    with exit_on_error():
        if work.exists():
            raise BenchmarkError(f"{work} is there already; remove it, or name another folder with --work")
        figures = measure(clips, repeats, workers, rows, work)
        shutil.rmtree(work)
        print(json.dumps(figures, indent=1) if json_ else table(figures))


def measure(clips: int, repeats: int, workers: int, rows: int, work: Path) -> dict[str, Any]:
    """Return all figures."""
    load = os.getloadavg()[0]
    raw, out = work / "raw", work / "out"
    print(f"{clips} clips", file=sys.stderr, flush=True)
    seconds = make_raw(raw, clips)
    sources = sorted((raw / SOURCE / "audio").iterdir(), key=lambda file: -file.stat().st_size)
    bytes_ = sum(len(source.read_bytes()) for source in sources)  # from now on in memory, for everyone
    plan: dict[str, Callable[[], tuple[Run, int]]] = {
        "bare 1": lambda: bare("flac", sources, out, processes=1),
        "build 1": lambda: build(raw, out, workers=1, clips=clips),
        f"bare {workers}": lambda: bare("flac", sources, out, processes=workers),
        f"build {workers}": lambda: build(raw, out, workers=workers, clips=clips),
        "published": lambda: bare("published", sources, out, processes=1),
    }
    runs: dict[str, list[Run]] = {name: [] for name in plan}
    expected = 0
    for repeat in range(repeats):
        for name, convert in plan.items():
            print(f"repeat {repeat + 1} of {repeats}: {name}", file=sys.stderr, flush=True)
            run, samples = convert()
            shutil.rmtree(out)
            expected = expected or samples
            if abs(samples - expected) > clips:  # a sample a clip: what two ways to round may differ by
                raise BenchmarkError(f"{name} wrote {samples} samples, the others {expected}")
            runs[name].append(run)
    print(f"a manifest of {rows} rows", file=sys.stderr, flush=True)
    large = [large_manifest(rows, work / "large") for _ in range(repeats)]
    return {
        "machine": {
            "cpu": cpu_model(),
            "cores": available_cores(),
            "file_system": file_system(work),
            "load": [load, os.getloadavg()[0]],
            "Python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
        "clips": clips,
        "audio_s": seconds,
        "bytes": bytes_,
        "workers": workers,
        "repeats": repeats,
        "runs": {name: [dataclasses.asdict(run) for run in those] for name, those in runs.items()},
        "rows": rows,
        "large": large,
    }


def make_raw(raw: Path, clips: int) -> float:
    """Write clips with their records, as a crawl leaves them, and return how many seconds they last."""
    rng = np.random.default_rng(0)
    total = 0.0
    for number in range(clips):
        sample_rate, channels, container, subtype = KINDS[number % len(KINDS)]
        seconds = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** ((number * 0.618034) % 1)
        audio = raw / SOURCE / "audio" / f"{number}.{container}"
        audio.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(audio, synthesise(rng, seconds, sample_rate, channels), sample_rate, subtype=subtype)
        content = audio.read_bytes()
        record = CrawlRecord(
            source=SOURCE,
            source_id=str(number),
            page_url=f"https://example.org/{number}",
            audio_url=f"https://example.org/{number}.{container}",
            audio_file=f"audio/{audio.name}",
            title=f"Sound {number}",
            description="A made sound.",
            tags=("made",),
            author="Ann",
            license="cc0-1.0",
            license_raw="CC0",
            license_url="",
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
            content_type="",
            retrieved_at="2026-01-02T03:04:05Z",
        )
        file = record_file(raw, SOURCE, str(number))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(record.to_json(), encoding="utf-8")
        total += seconds
    return total


def synthesise(rng: np.random.Generator, seconds: float, sample_rate: int, channels: int) -> npt.NDArray[np.float32]:
    """Return a struck body over noise (S, C): a few partials that die away, at a level that leaves head room."""
    time_s = np.arange(round(seconds * sample_rate)) / sample_rate
    sound = np.zeros_like(time_s)
    for _ in range(4):
        hertz, amplitude, decay_s = rng.uniform(80, 6000), rng.uniform(0.02, 0.15), rng.uniform(0.1, 3.0)
        sound += amplitude * np.exp(-time_s / decay_s) * np.sin(2 * np.pi * hertz * time_s)
    noise = rng.normal(0, rng.uniform(0.001, 0.05), (len(time_s), channels))
    return (sound[:, None] + noise).astype(np.float32)


def bare(route: str, sources: list[Path], out: Path, *, processes: int) -> tuple[Run, int]:
    """Let bare processes share out the files, large ones first, and return what they took and the samples written."""
    out.mkdir()
    started = time.time()
    running = []
    for number in range(processes):
        files = out / f"list-{number}.txt"
        files.write_text("".join(f"{source}\n" for source in sources[number::processes]), encoding="utf-8")
        command = [sys.executable, "-P", str(BARE), route, str(files), str(out)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    said, cpu = [], 0.0
    for process in running:
        with process:
            said.append(json.loads(process.stdout.read() or "{}"))  # type: ignore[union-attr]
            cpu += wait(process)
    ended = time.time()
    begun = min(each["begun"] for each in said)
    return Run(start=begun - started, work=ended - begun, cpu=cpu), sum(each["samples"] for each in said)


def build(raw: Path, out: Path, *, workers: int, clips: int) -> tuple[Run, int]:
    """Run the command with so many worker processes, and return what it took and how many samples it wrote."""
    command = [sys.executable, "-m", "curation.cli", "build", "--raw", str(raw), "--out", str(out)]
    log = out.with_name("build.log")
    started = time.time()
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--workers", str(workers)], stdout=output, stderr=subprocess.STDOUT)
        cpu = wait(process)
    ended = time.time()
    finished = sorted(file.stat().st_mtime for file in (out / WORK_FOLDER).glob("*.json"))
    num_samples = read_manifest(out)["num_samples"].to_pylist()
    if len(num_samples) != clips or len(finished) != clips:
        raise BenchmarkError(f"{' '.join(command)} kept {len(num_samples)} of {clips} clips; see {log}")
    begun = finished[0] - (finished[-1] - finished[0]) * workers / clips
    return Run(start=begun - started, work=ended - begun, cpu=cpu), sum(num_samples)


def wait(process: subprocess.Popen[Any]) -> float:
    """Wait for a process and return the processor time that it and those that it waited for have had."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchmarkError(f"{' '.join(map(str, process.args))} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def large_manifest(rows: int, folder: Path) -> dict[str, Any]:
    """Write, read, split and count a manifest in a process of its own, and return what each step took."""
    command = [sys.executable, "-P", str(LARGE), str(rows), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)} ended with {done.returncode}")
    shutil.rmtree(folder)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a plain table."""
    machine = dict(figures["machine"])
    load = machine.pop("load")
    many = figures["workers"]
    runs = {name: [Run(**run) for run in those] for name, those in figures["runs"].items()}
    columns = ["build 1", "bare 1", f"build {many}", f"bare {many}", "published"]
    lines = [
        f"{machine.pop('cpu')}, {machine.pop('cores')} cores, load {load[0]:.1f} before and {load[1]:.1f} after, "
        f"files on {machine.pop('file_system')}",
        ", ".join(f"{name} {number}" for name, number in machine.items()),
        f"{figures['clips']} clips, {figures['audio_s'] / 3600:.2f} h, {figures['bytes'] / 1e6:.0f} MB as served; "
        f"median of {figures['repeats']} (least to most)",
        "",
        f"{'':<28}" + "".join(f"{name:>20}" for name in columns),
    ]
    for field, words in {"start": "s, start-up", "work": "s, work", "cpu": "s, processor time"}.items():
        lines.append(f"{words:<28}" + "".join(f"{spread([getattr(r, field) for r in runs[n]]):>20}" for n in columns))
    rates = (figures["clips"] / statistics.median(run.work for run in runs[name]) for name in columns)
    lines.append(f"{'clips a second of work':<28}" + "".join(f"{rate:>20.1f}" for rate in rates))
    lines += ["", f"bar: work at most {BAR_RATIO} of the bare processes'"]
    for number in (1, many):
        each = ratios(runs[f"build {number}"], runs[f"bare {number}"], "work")
        cpu = ratios(runs[f"build {number}"], runs[f"bare {number}"], "cpu")
        lines.append(verdict(f"{number} processes", each, statistics.median(each) <= BAR_RATIO))
        lines.append(f"{'  processor time':<28}{spread(cpu):>24}")
    lines += ["", f"bar: speed-up by {many} workers at least {BAR_SPEED_UP} of that by {many} bare processes"]
    ours = ratios(runs["build 1"], runs[f"build {many}"], "work")
    theirs = ratios(runs["bare 1"], runs[f"bare {many}"], "work")
    each = [one / other for one, other in zip(ours, theirs, strict=True)]
    words = f"{statistics.median(ours):.2f} beside {statistics.median(theirs):.2f}"
    lines.append(verdict(words, each, statistics.median(each) >= BAR_SPEED_UP))
    lines += ["", f"bar: start-up of the build under {BAR_START_S:g} s"]
    for number in (1, many):
        starts = [run.start for run in runs[f"build {number}"]]
        lines.append(verdict(f"{number} workers", starts, statistics.median(starts) < BAR_START_S))
    totals = [sum(large["seconds"].values()) for large in figures["large"]]
    peaks = [large["peak_gib"] for large in figures["large"]]
    lines += ["", f"bar: a manifest of 1 million rows under {BAR_ROWS_S:g} s and {BAR_ROWS_GIB:g} GiB"]
    lines.append(verdict(f"{figures['rows']} rows, s", totals, statistics.median(totals) < BAR_ROWS_S))
    lines.append(verdict("peak, GiB", peaks, statistics.median(peaks) < BAR_ROWS_GIB))
    for step in figures["large"][0]["seconds"]:
        lines.append(f"{'  ' + step + ', s':<28}{spread([large['seconds'][step] for large in figures['large']]):>24}")
    route = ratios(runs[f"build {many}"], runs["published"], "work")
    share = statistics.median(route)
    return "\n".join([*lines, "", f"the build with {many} workers takes {share:.2f} of the published route's time"])


def ratios(ones: list[Run], others: list[Run], field: str) -> list[float]:
    """Return one run's time as a share of the other's, repeat by repeat."""
    return [getattr(one, field) / getattr(other, field) for one, other in zip(ones, others, strict=True)]


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def verdict(words: str, values: list[float], is_met: bool) -> str:
    return f"{words:<28}{spread(values):>24}  {'met' if is_met else 'not met'}"


def cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.M)
    return found[1] if found else platform.machine()


def file_system(folder: Path) -> str:
    """Return the kind of file system that a folder is on."""
    done = subprocess.run(["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    typer.run(main)
