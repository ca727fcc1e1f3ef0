"""Draws the curves of runs: loss, scores on data.val, scale, learning rate, speed. Runs in, PNG and SVG bytes out.

One colour a run, small panels on one x axis: steps, or pairs seen where the runs' batches differ in size, since a step
is then not the same work. Of crowded curves the moving mean is drawn, over the curve itself where few runs are shown.
The same runs give the same bytes: one font (DejaVu Sans comes with matplotlib), no dates, none of matplotlib's global
state.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter, StrMethodFormatter

from training.report import METRICS, Run, score

SUFFIXES = ("png", "svg")

_MADE_BY = "Drawn by wavtext5k-train report"
_METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": _MADE_BY},
    "svg": {"Date": None, "Creator": _MADE_BY},
}
_MARKS = (b"tEXtSoftware\0" + _MADE_BY.encode(), b"<dc:title>" + _MADE_BY.encode() + b"</dc:title>")
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "wavtext5k",
    "savefig.dpi": 150,
}
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Told apart whatever eyes one has; with more runs than these, shades of one scale."""
_INK, _GREY = "#222222", "#999999"
_DASHES: dict[str, Any] = {"text_to_audio": "-", "audio_to_text": (0, (3, 1.5))}
_WIDTH, _PANEL, _LINE = 9.0, 1.75, 0.2  # inches, as all lengths here
_NAMES_A_ROW = 4
_LONGEST_NAME = 28  # characters
_CROWDED = 150  # points
_FEW = 40
_STEPS = [1, 2, 2.5, 5, 10]  # between ticks, times a power of ten
_WITH_VAL = [["loss", "map_at_10"], ["recall_at_1", "recall_at_10"], ["scale", "lr"], ["pairs_per_s", "data_wait"]]
_WITHOUT_VAL = [["loss", "loss"], ["scale", "lr"], ["pairs_per_s", "data_wait"]]
_TITLES = {
    "loss": "loss, nats",
    "scale": "scale (1 / temperature)",
    "lr": "learning rate",
    "pairs_per_s": "pairs per second",
    "data_wait": "time spent waiting for data",
    **{key: f"{METRICS[key]} on data.val" for key in ("map_at_10", "recall_at_1", "recall_at_10")},
}


def draw_curves(runs: Sequence[Run]) -> Figure:
    """Return the figure of one or more runs; one that has logged nothing is in the legend alone."""
    mosaic = _WITH_VAL if any(run.val for run in runs) else _WITHOUT_VAL
    colours = dict(zip((run.name for run in runs), _colours(len(runs)), strict=True))
    batch_sizes = {run.settings.get("run.batch_size") for run in runs}
    by_pairs = len(batch_sizes) > 1 and all(isinstance(size, int) for size in batch_sizes)
    with _own_style():
        names = {_in_legend(run): colours[run.name] for run in runs}
        figure, panels = _canvas(runs, names, mosaic)
        for key, axes in panels.items():
            for run in runs:
                factor = run.settings["run.batch_size"] if by_pairs else 1
                if key in METRICS:
                    _draw_scores(axes, run, key, colour=colours[run.name], factor=factor)
                else:
                    is_raw_shown = len(runs) == 1 or (key == "loss" and len(runs) <= _NAMES_A_ROW)
                    _draw_curve(axes, run, key, colour=colours[run.name], factor=factor, is_raw_shown=is_raw_shown)
            _finish(axes, key, runs)
        if mosaic is _WITHOUT_VAL:  # one wide panel, whose steps do not lie above those below it
            panels["loss"].tick_params(labelbottom=True)
        for name in mosaic[-1]:
            panels[name].set_xlabel("pairs seen" if by_pairs else "steps", color=_INK)
            panels[name].tick_params(labelbottom=True)
    return figure


def figure_bytes(figure: Figure) -> dict[str, bytes]:
    """Return a figure's file content by suffix: png, svg."""
    contents = {}
    with _own_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # drawn as a box
        for suffix in SUFFIXES:
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, metadata=_METADATA[suffix])
            contents[suffix] = buffer.getvalue()
    return contents


def is_figure(content: bytes) -> bool:
    """Return whether a file's content came from ``figure_bytes``, by the name in its metadata."""
    return any(mark in content for mark in _MARKS)


def _draw_curve(axes: Axes, run: Run, key: str, *, colour: Any, factor: int, is_raw_shown: bool) -> None:
    points = [(line["step"] * factor, line[key]) for line in run.train if _is_number(line.get(key))]
    if not points:
        return
    x, y = np.array(points, np.float64).T
    if len(points) > _CROWDED and key not in ("lr", "scale"):
        if is_raw_shown:
            axes.plot(x, y, color=colour, linewidth=0.5, alpha=0.3)
        y = _moving_mean(y, len(y) // 40)
    axes.plot(x, y, color=colour, linewidth=1.4, marker="o" if len(points) == 1 else None, markersize=3)


def _draw_scores(axes: Axes, run: Run, metric: str, *, colour: Any, factor: int) -> None:
    for direction, dashes in _DASHES.items():
        scores = [(line["step"] * factor, score(line, direction, metric)) for line in run.val]
        points = [(x, y) for x, y in scores if y is not None]
        marker = "o" if len(points) <= _FEW else None
        axes.plot(
            *zip(*points, strict=True), color=colour, linestyle=dashes, linewidth=1.4, marker=marker, markersize=3
        )
        best = None if run.best is None else score(run.best, direction, metric)
        if run.best is not None and best is not None:
            axes.plot(run.best["step"] * factor, best, "o", color=colour, markersize=7, fillstyle="none")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _moving_mean(values: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    """Return the mean of the values up to ``width // 2`` before and after each; of fewer at both ends."""
    sums, half = np.concatenate([[0.0], np.cumsum(values)]), width // 2
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    means: np.ndarray[Any, Any] = (sums[high] - sums[low]) / (high - low)
    return means


def _finish(axes: Axes, key: str, runs: Sequence[Run]) -> None:
    """Give a panel its title and scales."""
    axes.set_title(_TITLES[key], loc="left", fontsize=9, color=_INK)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlim(left=0)
    is_stepped = {run.settings.get("schedule.name") for run in runs} == {"step"}
    if key == "lr" and is_stepped and any(run.train for run in runs):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:.0e}".replace("e-0", "e-")))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    if key == "data_wait":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    if key in (*METRICS, "pairs_per_s", "data_wait"):
        axes.set_ylim(0, 1.1 * axes.dataLim.y1 if axes.dataLim.y1 > 0 else 1)


def _in_legend(run: Run) -> str:
    return _short(run.name, _LONGEST_NAME) + ("" if run.train or run.val else " (nothing logged)")


def _canvas(runs: Sequence[Run], names: dict[str, Any], mosaic: list[list[str]]) -> tuple[Figure, dict[str, Axes]]:
    """Return an empty figure with its title and legend, and its panels by name."""
    rows = -(-len(names) // _NAMES_A_ROW)
    head = 0.42 + _LINE * (rows + (mosaic is _WITH_VAL))
    height = head + _PANEL * len(mosaic) + 0.2
    layout = ConstrainedLayoutEngine(rect=(0.01, 0.01, 0.98, 0.99 - head / height), hspace=0.06, wspace=0.05)
    figure = Figure(figsize=(_WIDTH, height), layout=layout)
    FigureCanvasAgg(figure)
    title = f"Training of {runs[0].name}" if len(runs) == 1 else f"Training of {len(runs)} runs"
    figure.text(0.013, 1 - 0.08 / height, _short(title, 70), va="top", fontsize=12, fontweight="bold", color=_INK)
    entries = [(name, Line2D([], [], color=colour, linewidth=3)) for name, colour in names.items()]
    _legend(figure, entries, top=1 - 0.32 / height)
    if mosaic is _WITH_VAL:
        words = {"text_to_audio": "text to audio (T-A)", "audio_to_text": "audio to text (A-T)"}
        entries = [
            (words[direction], Line2D([], [], color=_INK, linestyle=dashes, linewidth=1.4))
            for direction, dashes in _DASHES.items()
        ]
        entries.append(
            ("best epoch", Line2D([], [], color=_INK, linestyle="", marker="o", fillstyle="none", markersize=7))
        )
        _legend(figure, entries, top=1 - (0.32 + _LINE * rows) / height)
    panels: dict[str, Axes] = figure.subplot_mosaic(mosaic, sharex=True)  # type: ignore[arg-type]
    for axes in panels.values():
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_GREY)
        axes.tick_params(colors=_INK, length=2.5, labelbottom=False)
        axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, panels


def _legend(figure: Figure, entries: Sequence[tuple[str, Line2D]], *, top: float) -> None:
    names, lines = zip(*entries, strict=True)
    figure.legend(
        lines,
        names,
        loc="upper left",
        bbox_to_anchor=(0.007, top),
        ncols=_NAMES_A_ROW,
        frameon=False,
        borderpad=0,
        labelspacing=0.3,
        handlelength=2.2,
        fontsize=9,
        labelcolor=_INK,
    )


def _colours(count: int) -> list[Any]:
    if count <= len(_COLOURS):
        return list(_COLOURS[:count])
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 0.95, count)))


def _short(text: str, longest: int) -> str:
    text = "".join(sign for sign in text if sign.isprintable())
    return text if len(text) <= longest else f"…{text[1 - longest :]}"


@contextmanager
def _own_style() -> Iterator[None]:
    """Draw in this module's style whatever matplotlib was told before, and leave that as it was."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield
