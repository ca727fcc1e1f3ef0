"""How fast the model's parts are on a CPU, beside the peers' own classes and beside what cannot be left out.

    PYTHONPATH=FOLDER python benchmarks/model.py --repeats 15

FOLDER holds the peers (pip install --no-deps --target FOLDER -r benchmarks/peers.txt); those that are missing are said,
and the other figures printed. Every model has the weights of ours, and its output is compared with ours before anything
is timed. The contestants of one table run in turn, once a repeat and in the opposite order every other repeat, and each
ratio is of two runs of the same repeat, so that what else the machine does meets all alike. Sounds are noise. Ratios of
processor time stand beside those of time: other programs move them less, most of all with ``--threads 1``.
It measures and does not judge: it exits 0 whatever the figures are, and 1 only where outputs differ.

LAION's class is measured twice: from the same log-mel spectrogram as ours, which the bar is for, and as it is called,
from the waveform with its own front end. CNN14's convolutions alone are its twelve, each on what it reads in CNN14.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import _path  # noqa: F401  # curation.py beside this file has the name of a package
import numpy as np
import torch
import torch.nn.functional as F
import typer
from _machine import cores, cpu_model, spread, versions
from _peer_models import (
    PeerMissingError,
    laion_embedding,
    laion_htsat,
    torchlibrosa_log_mel,
    transformers_htsat,
)
from torch import Tensor, nn

from curation.errors import WavTextError, exit_on_error
from training.features import PRESETS, LogMel
from training.models.build import build_clap
from training.models.clap import windows
from training.models.cnn14 import Cnn14, fold_batch_norm
from training.models.htsat import Htsat
from training.models.text import roberta_config, text_model
from training.recipe import load_recipe

CLIP_S = 20
WINDOW_S = 10
EMBED_CLIPS = 2
LIBRARIES = ("torch", "timm", "transformers", "torchlibrosa", "laion-clap")
OURS = "ours"
Run = Callable[[], Tensor | None]


class BenchmarkError(WavTextError):
    """Outputs that differ: the contestants did not do the same work."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """A ratio of times: ``one / rival`` where it has a most, else ``rival / one``; with no bound it is only shown."""

    one: str
    rival: str
    least: float | None = None
    most: float | None = None


@dataclasses.dataclass(slots=True)
class Contest:
    """Contestants that do the same work, the bars, and what the outputs may differ by."""

    title: str
    runs: dict[str, Run]
    bars: list[Bar]
    tolerance: float
    units: int = 1
    """Clips, or windows, in one run."""


def main(
    repeats: Annotated[int, typer.Option(min=3, help="Runs of each contestant.")] = 15,
    threads: Annotated[int, typer.Option(min=0, help="Of PyTorch; 0 leaves its own choice.")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure front end, HTSAT, CNN14 and the embedding of whole clips on this machine's CPU."""
    with exit_on_error():
        if threads:
            torch.set_num_threads(threads)
        figures = measure(repeats)
        print(json.dumps(figures, indent=1) if json_ else table(figures))


@torch.inference_mode()
def measure(repeats: int) -> dict[str, Any]:
    """Return all figures."""
    load = os.getloadavg()[0]
    missing: dict[str, None] = {}
    results = []
    for make in (
        partial(front_end, clips=1),
        partial(front_end, clips=8),
        partial(htsat, clips=1),
        partial(htsat, clips=4),
        htsat_from_waveform,
        cnn14,
        embed,
    ):
        torch.manual_seed(0)
        contest, absent = make()
        missing |= dict.fromkeys(absent)
        print(contest.title, file=sys.stderr, flush=True)
        results.append(hold(contest, repeats))
    return {
        "machine": {
            "cpu": cpu_model(),
            "cores": cores(),
            "threads": torch.get_num_threads(),
            "load": [load, os.getloadavg()[0]],
            **versions(LIBRARIES),
        },
        "repeats": repeats,
        "missing": list(missing),
        "contests": results,
    }


def front_end(*, clips: int) -> tuple[Contest, list[str]]:
    """Ours against torchlibrosa's, with the paper's settings."""
    ours = LogMel()
    waveform = noise(clips, CLIP_S * ours.sample_rate)
    runs: dict[str, Run] = {OURS: lambda: ours(waveform)}
    absent = add(runs, "torchlibrosa", lambda: partial(torchlibrosa_log_mel(ours), waveform))
    title = f"front end, {clips} x {CLIP_S} s at 44.1 kHz"
    return Contest(title, runs, [Bar(OURS, "torchlibrosa", least=4.0)], tolerance=1e-3, units=clips), absent


def htsat(*, clips: int) -> tuple[Contest, list[str]]:
    """Ours against LAION's class and transformers', from one log-mel spectrogram."""
    ours = perturbed(Htsat()).eval()
    features = LogMel(**PRESETS["laion-48k"])
    log_mel = features(noise(clips, WINDOW_S * features.sample_rate))
    short = torch.zeros(clips, 1, dtype=torch.bool)
    runs: dict[str, Run] = {OURS: lambda: ours(log_mel)}
    absent = add(runs, "LAION", lambda: partial(laion_embedding, laion_htsat(ours, features), log_mel))
    theirs = transformers_htsat(ours)
    runs["transformers"] = lambda: theirs(input_features=log_mel[:, None], is_longer=short).pooler_output
    bars = [Bar(OURS, "LAION", least=1.3), Bar(OURS, "transformers", least=1.0)]
    title = f"HTSAT, {clips} x {WINDOW_S} s ({log_mel.shape[1]} frames) from log-mel"
    return Contest(title, runs, bars, tolerance=1e-4, units=clips), absent


def htsat_from_waveform() -> tuple[Contest, list[str]]:
    """Ours with its front end against LAION's class as it is called."""
    ours = perturbed(Htsat()).eval()
    features = LogMel(**PRESETS["laion-48k"])
    waveform = noise(1, WINDOW_S * features.sample_rate)
    runs: dict[str, Run] = {OURS: lambda: ours(features(waveform))}

    def laion() -> Run:
        model = laion_htsat(ours, features)
        return lambda: model({"waveform": waveform})["embedding"]

    absent = add(runs, "LAION", laion)
    return Contest(f"HTSAT, 1 x {WINDOW_S} s from the waveform", runs, [Bar(OURS, "LAION")], tolerance=1e-4), absent


def cnn14() -> tuple[Contest, list[str]]:
    """Ours, plain and with batch norm folded, against its convolutions."""
    ours = perturbed(Cnn14()).eval()
    features = LogMel()
    log_mel = features(noise(1, CLIP_S * features.sample_rate))
    folded = fold_batch_norm(ours)
    alone = convolutions(ours, log_mel)

    def convolve() -> None:
        for convolution, x in alone:
            convolution(x)

    runs: dict[str, Run] = {OURS: lambda: ours(log_mel), "folded": lambda: folded(log_mel), "convolutions": convolve}
    bars = [Bar(OURS, "convolutions", most=1.2), Bar("folded", "convolutions", most=1.12)]
    title = f"CNN14, 1 x {CLIP_S} s ({log_mel.shape[1]} frames) from log-mel"
    return Contest(title, runs, bars, tolerance=1e-4), []


def embed() -> tuple[Contest, list[str]]:
    """The embedding call of a model as wide as the paper's, against its encoders on windows that are ready."""
    config = load_recipe("paper-d")
    sizes = {"vocab_size": 300, "hidden_size": 64, "num_layers": 1, "num_heads": 2, "ffn_size": 128}  # not used
    text = text_model(roberta_config(**sizes, max_tokens=config.model.text.max_tokens, dropout=0.0))
    model = build_clap(config.model, config.features, text=text, tokenizer=None).eval()
    clips = list(noise(EMBED_CLIPS, CLIP_S * model.sample_rate).numpy())
    ready = {
        name: torch.from_numpy(np.stack([cut for clip in clips for cut in windows(clip, size)]))
        for name, size in model.audio.clip_samples.items()
    }

    def encode() -> Tensor:
        means = []
        for name, batch in ready.items():
            outputs = model.audio.encoders[name](model.audio.features[name](batch))
            means.append(outputs.reshape(EMBED_CLIPS, -1, outputs.shape[1]).mean(dim=1))
        return F.normalize(model.audio_projection(torch.cat(means, dim=1)), dim=1)

    runs: dict[str, Run] = {OURS: lambda: torch.from_numpy(model.embed_audio(clips)), "encoders alone": encode}
    count = sum(len(batch) for batch in ready.values())
    title = f"Clap.embed_audio of recipe paper-d, {EMBED_CLIPS} x {CLIP_S} s: {count} windows"
    return Contest(title, runs, [Bar(OURS, "encoders alone")], tolerance=1e-5, units=count), []


def convolutions(model: nn.Module, x: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """Return the convolutions of a model with what each reads, in its own memory format."""
    alone: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, args: alone.append((module, args[0].clone())))
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    return alone


def add(runs: dict[str, Run], name: str, make: Callable[[], Run]) -> list[str]:
    """Add a peer, and return what to say where it is missing."""
    try:
        runs[name] = make()
    except PeerMissingError as error:
        return [str(error)]
    return []


def hold(contest: Contest, repeats: int) -> dict[str, Any]:
    """Return what each contestant took in each repeat, and by how much its output differs from ours."""
    outputs = {name: run() for name, run in contest.runs.items()}
    differences = {}
    for name, output in outputs.items():
        if name != OURS and output is not None:
            differences[name] = (output - outputs[OURS]).abs().max().item()
            if not differences[name] <= contest.tolerance:
                raise BenchmarkError(
                    f"{contest.title}: {name} differs from ours by {differences[name]:.2g}, "
                    f"more than {contest.tolerance:g}"
                )
    seconds: dict[str, list[float]] = {name: [] for name in contest.runs}
    cpu: dict[str, list[float]] = {name: [] for name in contest.runs}
    for repeat in range(-1, repeats):  # one more to warm up
        order = list(contest.runs)[:: 1 if repeat % 2 else -1]
        for name in order:
            started, started_cpu = time.perf_counter(), time.process_time()
            contest.runs[name]()
            if repeat >= 0:
                seconds[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - started_cpu)
    return {
        "title": contest.title,
        "units": contest.units,
        "seconds": seconds,
        "cpu": cpu,
        "differences": differences,
        "bars": [dataclasses.asdict(bar) for bar in contest.bars],
    }


def noise(clips: int, samples: int) -> Tensor:
    return 0.1 * torch.randn(clips, samples)


def perturbed(model: nn.Module) -> nn.Module:
    """Return a model whose biases and batch statistics are not zeros and ones, as in a trained one."""
    for name, tensor in model.state_dict().items():
        if name == "bn0.running_mean":
            tensor.fill_(-20.0)
        elif name == "bn0.running_var":
            tensor.fill_(400.0)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.ndim == 1:
            tensor.add_(0.1 * torch.randn_like(tensor))
    return model


def table(figures: dict[str, Any]) -> str:
    """Return the figures as plain tables."""
    machine = dict(figures["machine"])
    load = machine.pop("load")
    lines = [
        f"{machine.pop('cpu')}, {machine.pop('cores')} cores, {machine.pop('threads')} threads, "
        f"load {load[0]:.1f} before and {load[1]:.1f} after",
        ", ".join(f"{name} {number}" for name, number in machine.items()),
        f"median of {figures['repeats']} (least to most)",
    ]
    lines += [f"missing: {message}" for message in figures["missing"]]
    for contest in figures["contests"]:
        seconds = contest["seconds"]
        lines += ["", contest["title"]]
        for name, values in seconds.items():
            difference = contest["differences"].get(name)
            words = "" if difference is None else f"  differs from ours by {difference:.1g}"
            each_ms = [1000 * value / contest["units"] for value in values]
            rate = 1000 / statistics.median(each_ms)
            lines.append(f"  {name:<16}{spread(each_ms, 1):>26} ms each, {rate:.1f} a second{words}")
        lines += [ratio_line(Bar(**bar), seconds, contest["cpu"]) for bar in contest["bars"] if bar["rival"] in seconds]
    return "\n".join(lines)


def ratio_line(bar: Bar, seconds: dict[str, list[float]], cpu: dict[str, list[float]]) -> str:
    """Return a ratio with its bar's verdict, and that of processor times."""
    ratios, cpu_ratios = ratios_of(bar, seconds), ratios_of(bar, cpu)
    median = statistics.median(ratios)
    if bar.most is not None:
        words, verdict = f"{bar.one} / {bar.rival}, at most {bar.most:g}", "met" if median <= bar.most else "not met"
    elif bar.least is not None:
        words, verdict = f"{bar.rival} / {bar.one}, at least {bar.least:g}", "met" if median >= bar.least else "not met"
    else:
        words, verdict = f"{bar.rival} / {bar.one}", ""
    return f"  {words:<36}{spread(ratios):>18}  {verdict:<8} processor time {spread(cpu_ratios)}"


def ratios_of(bar: Bar, times: dict[str, list[float]]) -> list[float]:
    """Return the ratio of each repeat."""
    pairs = zip(times[bar.one], times[bar.rival], strict=True)
    return [one / rival if bar.most is not None else rival / one for one, rival in pairs]


if __name__ == "__main__":
    typer.run(main)
