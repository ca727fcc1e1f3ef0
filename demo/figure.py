"""The demo's figure: how training went, what came of it beside chance, and what the best answers sound like."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from crawler.items import open_whole
from curation.audio import read_clip

RATE = 44_100
MODEL, CHANCE = "#3b6ea8", "#c9c9c9"


def draw_report(report: dict[str, Any], out: Path) -> None:
    """Write ``report.png`` beside the report: loss, recall against chance, and the best clip of each query."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    _draw_loss(axes[0, 0], out / "run" / "metrics.jsonl")
    ways = (("text_to_audio", "text to audio"), ("audio_to_text", "audio to text"))
    for axis, (way, title) in zip(axes[0, 1:], ways, strict=True):
        _draw_scores(axis, report, way, title)
    for axis, query in zip(axes[1], report["queries"], strict=True):
        _draw_clip(axis, query, out / "curated" / "audio")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    with open_whole(out / "report.png") as file:
        file.write(buffer.getvalue())


def _draw_loss(axis: Any, metrics: Path) -> None:
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    steps = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    axis.plot(*zip(*steps, strict=True), color=MODEL, linewidth=1)
    axis.set(title="training loss", xlabel="step", ylabel="nats", ylim=(0, None))
    axis.grid(alpha=0.3)


def _draw_scores(axis: Any, report: dict[str, Any], way: str, title: str) -> None:
    names = {"recall_at_1": "R@1", "recall_at_5": "R@5", "recall_at_10": "R@10", "map_at_10": "mAP@10"}
    at = np.arange(len(names))
    for offset, values, color, label in (
        (-0.2, report[way], MODEL, "model"),
        (0.2, report["chance"][way], CHANCE, "chance"),
    ):
        heights = [100 * values[name] for name in names]
        bars = axis.bar(at + offset, heights, 0.38, color=color, label=label)
        axis.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)
    axis.set(title=f"{title}, {report['held_out_clips']} held-out clips", ylabel="%", ylim=(0, 122))
    axis.set_xticks(at, list(names.values()))
    axis.set_yticks(range(0, 101, 20))
    axis.legend(loc="upper left", ncol=2, frameon=False)


def _draw_clip(axis: Any, query: dict[str, Any], folder: Path) -> None:
    best = query["best"][0]
    waveform = read_clip(folder / f"{best['clip_id']}.flac")
    noise_floor = np.random.default_rng(0).normal(0, 1e-6, len(waveform))  # digital silence has no logarithm
    axis.specgram(waveform + noise_floor, NFFT=1024, Fs=RATE, noverlap=704, cmap="magma", vmin=-140, vmax=-30)
    axis.set(title=f"“{query['text']}”\nbest: {best['title']}", xlabel="s", ylabel="kHz", ylim=(0, 10_000))
    axis.set_yticks([0, 2500, 5000, 7500, 10_000], ["0", "2.5", "5", "7.5", "10"])
