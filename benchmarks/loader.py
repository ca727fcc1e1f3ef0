"""How fast training batches are read, beside the least that reading the same sound can cost.

    PYTHONPATH=. python benchmarks/loader.py --repeats 9

From the cache of decoded clips the rival takes the same crops as plain slices of numpy's memory map, each copied and
dropped again; from FLAC it is soundfile, which opens, seeks and reads the same samples as 16-bit numbers. Both read in
one process and in two: the loader's workers, or processes that share the rival's crops. They run in turn, in the
opposite order every other repeat, and each ratio is of two runs of the same repeat. Clips are made here, in a temporary
folder: noise under decaying tones, all longer than a crop, so that none goes round. Ratios of processor time, over all
processes of each, stand beside those of time: other programs move them less.

The loader's batches are 16-bit crops of 20 s; those of 10 s are cut from them on the device. The rival drops each crop
before it takes the next, in the processor's cache; the loader has to write to the memory of a batch, so it cannot reach
1. What an H200 consumes is computed, not measured. The figures are not judged: it exits 0 whatever they are, and 1 only
where loader and rival read other samples.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import _path  # noqa: F401  # curation.py beside this file has the name of a package
import numpy as np
import soundfile
import torch
import typer
from _machine import cores, cpu_model, spread, versions

from curation.audio import SAMPLE_RATE, to_pcm, write_flac
from curation.errors import WavTextError, exit_on_error
from training.data import Clip, Pair
from training.loader import make_loader
from training.loading import PairDataset
from training.pcmcache import ensure_cache
from training.sampling import EpochSampler

CLIP_SAMPLES = {"cnn14": 20 * SAMPLE_RATE, "htsat": 10 * SAMPLE_RATE}
CROP_S = 20
H200_PAIRS = 773
"""A second, of experiment D: 30 % of the card's 989 TFLOP/s in bfloat16, at 384 GFLOP a pair. Computed."""
BARS = {"cache": 0.6, "FLAC": 0.8}
WORKERS = (0, 2)

Crop = tuple[int, int, int]
"""Number of the clip, first sample, samples."""
Read = Callable[[Crop], np.ndarray]
Run = Callable[[], None]


class BenchmarkError(WavTextError):
    """Loader and rival that do not read the same samples."""


def main(
    repeats: Annotated[int, typer.Option(min=3, help="Runs of each contestant.")] = 9,
    clips: Annotated[int, typer.Option(min=8, help="To read from, 25 s each.")] = 64,
    batch_size: Annotated[int, typer.Option(min=8, help="From the cache; from FLAC a quarter.")] = 128,
    batches: Annotated[int, typer.Option(min=2, help="Of one run.")] = 8,
    json_: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure the reading of batches on this machine."""
    with exit_on_error(), tempfile.TemporaryDirectory(prefix="wavtext5k-loader-") as folder:
        torch.set_num_threads(1)
        figures = measure(Path(folder), repeats=repeats, clips=clips, batch_size=batch_size, batches=batches)
        print(json.dumps(figures, indent=1) if json_ else table(figures))


def measure(folder: Path, *, repeats: int, clips: int, batch_size: int, batches: int) -> dict[str, Any]:
    """Return all figures."""
    load = os.getloadavg()[0]
    made = [make_clip(folder, number) for number in range(clips)]
    results = []
    for source, rows in (("cache", batch_size), ("FLAC", batch_size // 4)):
        for workers in WORKERS:
            results.append(hold(folder, made, source, workers, rows, batches, repeats))
    return {
        "machine": {
            "cpu": cpu_model(),
            "cores": cores(),
            "load": [load, os.getloadavg()[0]],
            **versions(("torch", "numpy", "soundfile")),
        },
        "repeats": repeats,
        "contests": results,
    }


def make_clip(folder: Path, number: int) -> Clip:
    """Write a clip of 22 to 28 s; returns it as a manifest's row would have it."""
    rng = np.random.default_rng(number)
    samples = SAMPLE_RATE * 22 + int(rng.integers(SAMPLE_RATE * 6))
    t = np.arange(samples) / SAMPLE_RATE
    sound = 0.01 * rng.standard_normal(samples)
    for freq in rng.uniform(80, 6000, 6):
        sound += 0.1 * np.sin(2 * np.pi * freq * t) * np.exp(-((t * rng.uniform(0.2, 1)) % 3))
    pcm, _ = to_pcm(sound.astype(np.float32))
    path = folder / f"{number:03}.flac"
    return Clip(
        clip_id=f"noise-{number:03}",
        path=path,
        sha256=write_flac(path, pcm),
        num_samples=len(pcm),
        sample_rate=SAMPLE_RATE,
        captions=(f"noise {number}",),
        has_human_captions=False,
    )


class Listener:
    """Stands in for a cache: notes what a loader asks for."""

    def __init__(self) -> None:
        self.crops: list[Crop] = []

    def read(self, clip: int, start: int, size: int) -> np.ndarray:
        self.crops.append((clip, start, size))
        return np.zeros(size, np.int16)


def hold(
    folder: Path, clips: list[Clip], source: str, workers: int, batch_size: int, batches: int, repeats: int
) -> dict[str, Any]:
    """Return what loader and rival took in each repeat."""
    title = f"from {source}, {workers or 'no'} workers, {batches} batches of {batch_size} crops"
    print(title, file=sys.stderr, flush=True)
    visits = batches * batch_size
    pairs = [Pair(clip=number % len(clips), captions=(str(number),)) for number in range(visits)]
    settings = {"token_ids": {str(number): [0, 2] for number in range(visits)}, "clip_samples": CLIP_SAMPLES, "seed": 0}
    sampler = EpochSampler(pairs, clips, batch_size=batch_size, seed=0)
    listener: Any = Listener()
    dataset = PairDataset(clips, pairs, **settings, cache=listener)
    for batch in sampler:
        dataset.read(batch, pad_id=1)
    cache = ensure_cache(folder / "cache", clips, workers=cores(), say=partial(print, file=sys.stderr))
    loader = make_loader(
        PairDataset(clips, pairs, **settings, cache=cache if source == "cache" else None),
        sampler,
        pad_id=1,
        workers=workers,
    )
    read = slices(folder, clips) if source == "cache" else partial(decoded, clips)
    expected = iter(listener.crops)
    for batch in loader:
        for row in batch.waveforms["cnn14"].numpy():
            crop = next(expected)
            if not np.array_equal(read(crop), row):
                raise BenchmarkError(f"{title}: clip {crop[0]} from sample {crop[1]} on is not what the rival reads")
    del batch, row  # whoever keeps a batch keeps its memory

    def load() -> None:
        for _ in loader:
            pass

    with shared_out(read, listener.crops, workers) as rival:
        times = turns({"loader": load, "rival": rival}, repeats)
    return {
        "title": title,
        "source": source,
        "processes": max(workers, 1),
        "audio_s": sum(size for _, _, size in listener.crops) / SAMPLE_RATE,
        **times,
    }


def slices(folder: Path, clips: Sequence[Clip]) -> Read:
    """Return what copies a slice out of a memory map of all clips."""
    file = folder / "all.pcm"
    if not file.exists():
        with file.open("wb") as whole:
            for clip in clips:
                soundfile.read(clip.path, dtype="int16")[0].tofile(whole)
    samples = np.memmap(file, dtype=np.int16, mode="r")
    first = np.cumsum([0, *(clip.num_samples for clip in clips)]).tolist()
    return lambda crop: samples[first[crop[0]] + crop[1] : first[crop[0]] + crop[1] + crop[2]].copy()


def decoded(clips: Sequence[Clip], crop: Crop) -> np.ndarray:
    """Return what soundfile decodes of a FLAC file."""
    samples: np.ndarray = soundfile.read(clips[crop[0]].path, start=crop[1], frames=crop[2], dtype="int16")[0]
    return samples


@contextmanager
def shared_out(read: Read, crops: Sequence[Crop], workers: int) -> Iterator[Run]:
    """Give what reads all crops: in this process, or in workers that each take their part of them."""

    def read_part(part: int) -> None:
        for crop in crops[part :: max(workers, 1)]:
            read(crop)

    if not workers:
        yield lambda: read_part(0)
        return
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(workers)]

    def serve(part: int) -> None:
        while pipes[part][1].recv():
            read_part(part)
            pipes[part][1].send(True)

    processes = [context.Process(target=serve, args=(part,), daemon=True) for part in range(workers)]
    for process in processes:
        process.start()

    def run() -> None:
        for ours, _ in pipes:
            ours.send(True)
        for ours, _ in pipes:
            ours.recv()

    yield run
    for ours, _ in pipes:
        ours.send(False)
    for process in processes:
        process.join()


def turns(runs: dict[str, Run], repeats: int) -> dict[str, dict[str, list[float]]]:
    """Return seconds, and seconds of processor time, of each run in each repeat."""
    times: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in runs} for kind in ("seconds", "cpu")}
    for repeat in range(-1, repeats):  # one more to warm up
        for name in list(runs)[:: 1 if repeat % 2 else -1]:
            started, started_cpu = time.perf_counter(), cpu_s()
            runs[name]()
            if repeat >= 0:
                times["seconds"][name].append(time.perf_counter() - started)
                times["cpu"][name].append(cpu_s() - started_cpu)
    return times


def cpu_s() -> float:
    """Return the processor time so far of this process and those that it has started, in seconds."""
    files = [
        file
        for pid in (os.getpid(), *(child.pid for child in multiprocessing.active_children()))
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat")
    ]
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def table(figures: dict[str, Any]) -> str:
    """Return the figures as plain lines."""
    machine = dict(figures["machine"])
    load = machine.pop("load")
    needed = H200_PAIRS * CROP_S
    lines = [
        f"{machine.pop('cpu')}, {machine.pop('cores')} cores, load {load[0]:.1f} before and {load[1]:.1f} after",
        ", ".join(f"{name} {number}" for name, number in machine.items()),
        f"median of {figures['repeats']} (least to most); crops of {CROP_S} s",
        f"an H200 consumes {H200_PAIRS} of them a second, {needed:,} s of sound (computed, not measured)",
    ]
    for contest in figures["contests"]:
        seconds, bar = contest["seconds"], BARS[contest["source"]]
        lines += ["", contest["title"]]
        for name, values in seconds.items():
            speed = contest["audio_s"] / statistics.median(values) / contest["processes"]
            lines.append(
                f"  {name:<8}{spread(values, 3):>22} s; {speed:>9,.0f} s of sound a second and reading process, "
                f"{needed / speed:.1f} feed an H200"
            )
        ratios, cpu_ratios = (
            [rival / ours for ours, rival in zip(contest[kind]["loader"], contest[kind]["rival"], strict=True)]
            for kind in ("seconds", "cpu")
        )
        verdict = "met" if statistics.median(ratios) >= bar else "not met"
        lines.append(
            f"  share of the rival's speed, at least {bar:g}: {spread(ratios)}  {verdict}; by processor time "
            f"{spread(cpu_ratios)}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
