"""How fast a training step of the paper's experiment D is on a GPU, beside the same model as the peers run it.

    PYTHONPATH=. python benchmarks/train_step.py
    PYTHONPATH=. python benchmarks/train_step.py --device cpu --tiny    # the same code in seconds; figures say nothing

A step is forward, loss, backward and Adam for 128 pairs: 20 s of sound for CNN14, 10 s for HTSAT, 32 tokens, widths of
recipe paper-d, RoBERTa-base with random weights, all in the device's memory beforehand. Ours runs in bfloat16 autocast
with fused Adam, with the encoders compiled or not and CNN14 in channels-last or not. The rival is the same model in
eager float32, whose front end computes its STFT by convolution, as torchlibrosa does, with PyTorch's default Adam;
once with TF32 off and once with it on, for convolutions and matrix products alike.

First every variant has to be right on a small batch without dropout: the loss, and the direction of every part's
gradient, beside eager float32. Then all are built, warmed up and timed in turn, ``--repeats`` times ``--steps`` steps.
FLOPs are those of convolutions and matrix products (attention's too), counted by PyTorch at full size, backward
included; the card's rate is that of a large bfloat16 matrix product in the same turns. Where the batch does not fit in
memory all variants get half of it; a variant that is wrong or fails, or that ``--minutes`` leave no time for, is left
out; all that is said. It measures and does not judge: it exits 0 whatever the figures are, and 1 where one was wrong
or failed.

Needs torch, torchvision, timm, transformers and numpy, and nothing that reads sound.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import _path  # noqa: F401  # curation.py beside this file has the name of a package
import torch
import torch._dynamo
import torch.nn.functional as F
from _experiment_d import PARTS, TINY, Batch, ConvLogMel, Sizes, Step, Variant, make_batch
from torch.utils.flop_counter import FlopCounterMode

from curation.errors import WavTextError, exit_on_error
from training.features import LogMel

OFF, ON = "rival, TF32 off", "rival, TF32 on"
VARIANTS = (
    Variant(name=OFF, precision="float32", is_rival=True),
    Variant(name=ON, precision="float32", is_rival=True, tf32=True),
    Variant(name="bf16"),
    Variant(name="bf16, channels-last", channels_last=True),
    Variant(name="bf16, channels-last, compiled", channels_last=True, is_compiled=True),
    Variant(name="bf16, compiled", is_compiled=True),
)
"""Those that take long to build come last: time may run out."""
EXACT = Variant(name="eager float32", precision="float32")
BAR_TF32_OFF, BAR_TF32_ON = 4.0, 2.5
BAR_SHARE, HOPED_SHARE = 0.30, 0.40
LIBRARIES = ("torch", "torchvision", "timm", "transformers", "numpy")
CHECKED_PAIRS = 8
MAX_FRONT_END_DB = 0.01
LEAST_COSINE = {"float32": 0.999, "reduced": 0.95}
MOST_OFF = {"float32": 0.001, "reduced": 0.05}
"""Of the loss, in nats."""


class BenchmarkError(WavTextError):
    """A variant that is wrong or fails; the message says which and how."""


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description="Measure a training step of experiment D beside the peers' way.")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="a model and a batch for trying this program")
    parser.add_argument("--pairs", type=int, default=0, help="of a batch (128)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of every variant")
    parser.add_argument("--steps", type=int, default=4, help="steps of a turn, after one that is not timed")
    parser.add_argument("--minutes", type=float, default=7.0, help="no variant is begun later")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    if min(options.repeats, options.steps) < 1 or options.pairs < 0 or options.pairs == 1:
        parser.error("--repeats and --steps must be at least 1, --pairs at least 2")
    sizes = TINY if options.tiny else Sizes()
    sizes = dataclasses.replace(sizes, pairs=options.pairs or sizes.pairs)
    with exit_on_error():
        if options.device != "cpu" and not torch.cuda.is_available():
            raise BenchmarkError("PyTorch finds no GPU here; to try this program: --device cpu --tiny")
        figures = measure(sizes, torch.device(options.device), options)
        if options.tiny:
            figures["notes"].append("made with --tiny: these figures say nothing about the model")
        print(json.dumps(figures, indent=1) if options.json else table(figures))
        if figures["failed"]:
            raise BenchmarkError(f"not all variants were timed: {'; '.join(figures['failed'])}")


def measure(sizes: Sizes, device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    deadline = time.monotonic() + 60 * options.minutes
    torch.backends.cudnn.benchmark = True
    torch._dynamo.config.cache_size_limit = 64  # variants share code, and past the limit it would not be compiled
    notes: list[str] = []
    failed: list[str] = []
    flops = count_flops(sizes, device)
    checks = check_all(sizes, device, deadline, notes, failed)
    variants = [variant for variant in VARIANTS if variant.name in checks]
    while True:
        try:
            timed = time_all(variants, sizes, device, options, deadline, notes, failed)
            break
        except torch.OutOfMemoryError:
            if sizes.pairs < 4:
                raise BenchmarkError(f"{sizes.pairs} pairs do not fit in the memory of this device") from None
        notes.append(f"{sizes.pairs} pairs did not fit in memory: {sizes.pairs // 2} were taken, for all variants")
        say(notes[-1])
        sizes = dataclasses.replace(sizes, pairs=sizes.pairs // 2)
        torch._dynamo.reset()
        release(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "machine": {"device": name, "Python": platform.python_version(), **{each: version(each) for each in LIBRARIES}},
        "sizes": dataclasses.asdict(sizes),
        "steps": options.steps,
        "flops_per_pair": flops,
        "checks": checks,
        "notes": notes,
        "failed": failed,
        **timed,
    }


def count_flops(sizes: Sizes, device: torch.device) -> dict[str, float]:
    """Return the FLOPs of one pair at full size, forward alone and with backward."""
    say("counting FLOPs")
    step = Step(EXACT, sizes, device)
    batch = make_batch(sizes, 2, device)
    with FlopCounterMode(display=False) as forward:
        loss = step.loss(batch)
    with FlopCounterMode(display=False) as backward:
        loss.backward()  # type: ignore[no-untyped-call]
    ahead, back = forward.get_total_flops(), backward.get_total_flops()
    del step, loss
    release(device)
    return {"forward": ahead / 2, "step": (ahead + back) / 2}


def check_all(
    sizes: Sizes, device: torch.device, deadline: float, notes: list[str], failed: list[str]
) -> dict[str, dict[str, float]]:
    """Compare every variant with eager float32 on a small batch, and return how far each is off that is right."""
    short = dataclasses.replace(sizes, seconds=dict.fromkeys(sizes.seconds, sizes.checked_s))
    batch = make_batch(short, CHECKED_PAIRS, device)
    sound, log_mel = batch[0]["cnn14"], LogMel().to(device)
    off_db = (ConvLogMel(log_mel).to(device)(sound) - log_mel(sound)).abs().max().item()
    if not off_db <= MAX_FRONT_END_DB:
        raise BenchmarkError(f"the rival's front end is {off_db:.3f} dB off, more than {MAX_FRONT_END_DB}")
    expected_loss, expected = Step(EXACT, short, device, is_random=False).gradients(batch)
    checks: dict[str, dict[str, float]] = {}
    for variant in in_time(VARIANTS, deadline, notes):
        say(f"checking {variant.name}")
        with left_out_if_it_fails(variant, failed):
            loss, found = Step(variant, short, device, is_random=False).gradients(batch)
            cosines = {name: cosine(found.pop(name), expected[name]) for name in PARTS}
            kind = "reduced" if variant.tf32 or variant.precision == "bfloat16" else "float32"
            off = abs(loss - expected_loss)
            if not (off <= MOST_OFF[kind] and min(cosines.values()) >= LEAST_COSINE[kind]):
                found_cosines = ", ".join(f"{name} {value:.4f}" for name, value in cosines.items())
                raise BenchmarkError(f"loss {loss:.4f}, expected {expected_loss:.4f}; cosines {found_cosines}")
            checks[variant.name] = {"loss_off": off, **cosines}
        torch._dynamo.reset()
        release(device)
    return checks


def time_all(
    variants: list[Variant],
    sizes: Sizes,
    device: torch.device,
    options: argparse.Namespace,
    deadline: float,
    notes: list[str],
    failed: list[str],
) -> dict[str, Any]:
    """Build and warm up all variants, time them in turn, and return pairs a second, peaks and the card's rate."""
    batch = make_batch(sizes, sizes.pairs, device)
    steps: dict[str, Step] = {}
    standing: dict[str, float] = {}
    for variant in in_time(variants, deadline, notes):
        before, begun = allocated(device), time.monotonic()
        with left_out_if_it_fails(variant, failed):
            step = Step(variant, sizes, device)
            turn(step, batch, 3)
            first, _ = turn(step, batch, options.steps)
            say(f"built {variant.name} in {time.monotonic() - begun:.0f} s: {first:.4g} pairs a second at first")
            steps[variant.name] = step
        release(device)
        standing[variant.name] = allocated(device) - before
    pairs_per_s: dict[str, list[float]] = {name: [] for name in steps}
    peak_gib = dict.fromkeys(steps, 0.0)
    matmul: list[float] = []
    for repeat in range(options.repeats):
        if repeat and time.monotonic() > deadline:
            notes.append(f"no time left after {repeat} of {options.repeats} turns")
            break
        say(f"turn {repeat + 1} of {options.repeats}")
        matmul.append(matmul_rate(sizes.matmul, device))
        for name, step in steps.items():
            others = allocated(device) - standing[name]
            turn(step, batch, 1)
            rate, peak = turn(step, batch, options.steps)
            pairs_per_s[name].append(rate)
            peak_gib[name] = max((peak - others) / 2**30, peak_gib[name])
            release(device)
    return {"pairs_per_s": pairs_per_s, "peak_gib": peak_gib, "matmul_flops_per_s": matmul}


def in_time(variants: Iterable[Variant], deadline: float, notes: list[str]) -> Iterator[Variant]:
    """Give variants until the deadline, and note the rest."""
    for variant in variants:
        if time.monotonic() <= deadline:
            yield variant
        else:
            notes.append(f"no time left for: {variant.name}")


@contextmanager
def left_out_if_it_fails(variant: Variant, failed: list[str]) -> Iterator[None]:
    """Keep a variant's failure for the end: the others' figures are worth having. Too little memory is not one."""
    try:
        yield
    except (BenchmarkError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        failed.append(f"{variant.name}: {str(error).strip().splitlines()[0]}")
        say(failed[-1])


def turn(step: Step, batch: Batch, count: int) -> tuple[float, float]:
    """Return pairs a second of so many steps, and the most bytes that were in use meanwhile (0 on a CPU)."""
    if step.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(step.device)
    with stopwatch(step.device) as seconds:
        for _ in range(count):
            loss = step(batch)
    if not loss.isfinite():
        raise BenchmarkError(f"the loss became {loss.item()}")
    peak = torch.cuda.max_memory_allocated(step.device) if step.device.type == "cuda" else 0
    return count * len(batch[1]) / seconds(), float(peak)


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the cosine of two gradients, in float64: they have up to 124 million entries."""
    return F.cosine_similarity(one.double(), other.double(), dim=0).item()


def matmul_rate(side: int, device: torch.device) -> float:
    """Return FLOPs per second of a square bfloat16 matrix product."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        torch.matmul(a, b)
    with stopwatch(device) as seconds:
        for _ in range(50):
            torch.matmul(a, b)
    return 50 * 2 * side**3 / seconds()


@contextmanager
def stopwatch(device: torch.device) -> Iterator[Callable[[], float]]:
    """Time a block, the device's own work with it; what it gives tells the seconds afterwards."""
    synchronize(device)
    begun, ended = time.perf_counter(), math.nan
    yield lambda: ended - begun
    synchronize(device)
    ended = time.perf_counter()


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def allocated(device: torch.device) -> float:
    return float(torch.cuda.memory_allocated(device)) if device.type == "cuda" else 0.0


def release(device: torch.device) -> None:
    """Give unused memory back, so that one variant's leftovers are not the next one's shortage."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a plain table."""
    machine, sizes, flops = dict(figures["machine"]), figures["sizes"], figures["flops_per_pair"]
    rates, runs = figures["matmul_flops_per_s"], figures["pairs_per_s"]
    shares = {
        name: [flops["step"] * each / rate for each, rate in zip(those, rates, strict=True)]
        for name, those in runs.items()
    }
    columns = f"{'pairs a second':>26}{'peak, GiB':>11}{'share of matrix rate':>32}{'loss off':>10}{'cosine':>9}"
    lines = [
        f"{machine.pop('device')}; " + ", ".join(f"{name} {number}" for name, number in machine.items()),
        f"{sizes['pairs']} pairs a step; "
        + ", ".join(f"{seconds:g} s for {name}" for name, seconds in sizes["seconds"].items())
        + f", {sizes['tokens']} tokens; median of {len(rates)} turns of {figures['steps']} steps (least to most)",
        f"GFLOP a pair: {flops['forward'] / 1e9:.4g} forward, {flops['step'] / 1e9:.4g} with backward; "
        f"bf16 matrix product, TFLOP/s: {spread([rate / 1e12 for rate in rates])}",
        *figures["notes"],
        "",
        f"{'':<31}{columns}",
    ]
    for name, those in runs.items():
        check = dict(figures["checks"][name])
        memory = f"{figures['peak_gib'][name]:.1f}" if figures["peak_gib"][name] else "-"
        lines.append(
            f"{name:<31}{spread(those):>26}{memory:>11}{spread(shares[name]):>32}"
            f"{check.pop('loss_off'):>10.4f}{min(check.values()):>9.4f}"
        )
    ours = [variant.name for variant in VARIANTS if not variant.is_rival and variant.name in runs]
    if not ours:
        return "\n".join([*lines, "", "none of ours was timed"])
    best = max(ours, key=lambda name: statistics.median(runs[name]))
    lines += ["", f"the fastest of ours: {best}"]
    for rival, bar in ((OFF, BAR_TF32_OFF), (ON, BAR_TF32_ON)):
        if rival in runs:
            ratios = [one / other for one, other in zip(runs[best], runs[rival], strict=True)]
            lines.append(verdict(f"times the {rival}, bar {bar:g}", ratios, bar))
    lines.append(verdict(f"share of the matrix rate, bar {BAR_SHARE:g}", shares[best], BAR_SHARE))
    lines.append(verdict(f"the same, hoped for {HOPED_SHARE:g}", shares[best], HOPED_SHARE))
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def verdict(words: str, values: list[float], bar: float) -> str:
    return f"{words:<40}{spread(values):>24}  {'met' if statistics.median(values) >= bar else 'not met'}"


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
