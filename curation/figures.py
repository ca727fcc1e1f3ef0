"""Draws what a data set holds: its most frequent words (the paper's Figure 1), durations, sample rates, licences, text
lengths, drops and splits. Data frames in, PNG and SVG bytes out; writes nothing.

The same data gives the same bytes: one font (DejaVu Sans comes with matplotlib), no dates, no random names, and none
of matplotlib's global state. A sign that the font lacks is a box in the PNG; in the SVG text is text, and whoever
shows it brings the font.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from curation.card_counts import counted
from curation.tables import captions_of
from curation.text import LICENSE_NAMES
from curation.words import STOP_WORDS, frequent_words, word_counts

COLUMNS = ("license", "source_sample_rate", "split")
"""Of the manifest, beside those of ``curation.tables``."""

NAMES = ("words", "text_lengths", "durations", "sample_rates", "licences", "splits", "dropped")
"""Of all figures that there may be."""

SUFFIXES = ("png", "svg")

_MADE_BY = "Drawn by wavtext5k-curate figures"
_METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": _MADE_BY},
    "svg": {"Date": None, "Creator": _MADE_BY},
}
_MARKS = (b"tEXtSoftware\0" + _MADE_BY.encode(), b"<dc:title>" + _MADE_BY.encode() + b"</dc:title>")
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "wavtext5k",
    "savefig.dpi": 150,
}
_BLUE, _ORANGE, _GREY, _INK = "#0072B2", "#D55E00", "#999999", "#222222"  # told apart whatever eyes one has
_WIDTH = 7.5  # inches, as all lengths here
_HEAD = 0.6  # the two lines at the top
_BAR = 0.23  # what a bar takes
_MOST_BARS = 15
_LONGEST_LABEL = 32  # characters
_STEPS = [1, 2, 5, 10]  # between ticks, times a power of ten
_THOUSANDS = StrMethodFormatter("{x:,.0f}")


def draw_figures(name: str, clips: pd.DataFrame, dropped: pd.DataFrame | None = None) -> dict[str, Figure]:
    """Return the figures that a data set's columns permit, by file name; of text alone, words and text lengths.

    Args:
        name: Of the data set, for the titles.
        clips: With the columns of ``curation.tables``, and those of a manifest if it is one.
        dropped: Its drop table.
    """
    name = _short("".join(sign for sign in name if sign.isprintable()), 30)
    with _own_style():
        figures = {"words": draw_words(name, clips), "text_lengths": draw_text_lengths(name, clips)}
        if "license" in clips:
            figures["durations"] = draw_durations(name, clips["duration_s"].to_numpy(dtype=np.float64))
            figures["sample_rates"] = draw_sample_rates(name, clips["source_sample_rate"])
            figures["licences"] = draw_licences(name, clips["license"])
            figures["splits"] = draw_splits(name, clips)
        if dropped is not None:
            figures["dropped"] = draw_dropped(name, dropped["reason"], kept=len(clips))
    return figures


def draw_words(name: str, clips: pd.DataFrame, *, most: int = 30) -> Figure:
    """Return the paper's Figure 1: the most frequent words of descriptions, or of captions where there are any."""
    captions = captions_of(clips)["caption"]
    what = "captions" if (clips["captions"].map(len) > 0).any() else "descriptions"
    words = frequent_words(captions, most=most)
    note = (
        f"{len(captions):,} {what} of {_clips(len(clips))}; punctuation and our {len(STOP_WORDS)} stop words left out"
    )
    return _bars(f"{name}: most frequent words in {what}", note, dict(words))


def draw_durations(name: str, seconds: np.ndarray[Any, Any]) -> Figure:
    """Return the histogram of durations on a logarithmic axis."""
    figure, [axes] = _canvas(f"{name}: how long the clips last", _durations_note(seconds), height=3.4)
    axes.set_axis_off()
    if len(seconds):
        axes.set_axis_on()
        low, high = (np.floor(np.log10(seconds.min()) * 8), np.ceil(np.log10(seconds.max()) * 8))
        edges = 10 ** (np.arange(low, max(high, low + 1) + 1) / 8)
        edges[0], edges[-1] = min(edges[0], seconds.min()), max(edges[-1], seconds.max())
        axes.hist(seconds, edges.tolist(), color=_BLUE, edgecolor="white", linewidth=0.5)
        axes.set_xscale("log")
        ticks = {0.1: "0.1 s", 1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36_000: "10 h"}
        shown = {at: label for at, label in ticks.items() if edges[0] / 1.3 <= at <= edges[-1] * 1.3}
        axes.set_xticks(list(shown), list(shown.values()))
        axes.minorticks_off()
        axes.set_xlim(edges[0] / 1.5, edges[-1] * 1.5)
        axes.set_ylabel("clips")
        _whole_numbers(axes)
        _mark_median(axes, float(np.median(seconds)))
    return figure


def draw_sample_rates(name: str, rates: pd.Series[int]) -> Figure:
    """Return how many clips were served at each sample rate."""
    counts = {f"{rate / 1000:g} kHz": count for rate, count in counted(rates.tolist()).items()}
    return _bars(f"{name}: sample rates as served", _clips(len(rates)), counts, total=len(rates))


def draw_licences(name: str, licences: pd.Series[str]) -> Figure:
    """Return how many clips are under each licence."""
    counts = {LICENSE_NAMES.get(licence, licence): count for licence, count in counted(licences).items()}
    return _bars(f"{name}: licences", _clips(len(licences)), counts, total=len(licences))


def draw_splits(name: str, clips: pd.DataFrame) -> Figure:
    """Return how many clips each split has."""
    hours = clips["duration_s"].sum() / 3600
    counts = counted(clips["split"])
    return _bars(f"{name}: splits", f"{_clips(len(clips))}, {hours:,.2f} h", counts, total=len(clips))


def draw_dropped(name: str, reasons: pd.Series[str], *, kept: int) -> Figure:
    """Return how many records were dropped for each reason."""
    records = len(reasons) + kept
    note = f"{len(reasons):,} of {records:,} records dropped; {kept:,} kept"
    return _bars(f"{name}: records dropped, by reason", note, counted(reasons), total=records)


def draw_text_lengths(name: str, clips: pd.DataFrame) -> Figure:
    """Return the histograms of words in titles, descriptions and captions, one above the other on one axis."""
    texts = {
        "titles": clips["title"][clips["title"] != ""],
        "descriptions": clips["description"][clips["description"] != ""],
        "captions": clips["captions"].explode().dropna(),
    }
    lengths = {what: word_counts(column.tolist()) for what, column in texts.items() if len(column)}
    figure, panels = _canvas(
        f"{name}: how many words the texts have",
        f"{_clips(len(clips))}; empty texts are not counted; words are what white space separates",
        height=0.9 + 1.5 * max(len(lengths), 1),
        panels=max(len(lengths), 1),
    )
    most = max([10, *(int(np.percentile(words, 99)) for words in lengths.values())])
    for axes in panels[len(lengths) :]:
        axes.set_axis_off()
    for axes, (what, words) in zip(panels, lengths.items(), strict=False):
        beyond = int((words > most).sum())
        axes.bar(*np.unique(words[words <= most], return_counts=True), color=_BLUE, width=0.92)
        axes.bar(most + 2, beyond, color=_GREY, width=0.92)
        more = f"; {beyond:,} (grey) have more than {most}, up to {words.max()}" if beyond else f", most {words.max()}"
        said = f"{len(words):,} {what}: median {np.median(words):g}, mean {words.mean():.1f}{more}"
        axes.set_title(said, loc="left", fontsize=9, color=_INK)
        _whole_numbers(axes)
    ticks = [round(tick) for tick in MaxNLocator(8, steps=_STEPS).tick_values(0, most) if tick <= 0.94 * most + 2]
    panels[-1].set_xticks([*ticks, most + 2], [*map(str, ticks), f">{most}"])
    panels[-1].set_xlim(-1, most + 3)
    panels[-1].set_xlabel("words")
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


def _bars(title: str, note: str, counts: Mapping[str, int], *, total: int | None = None) -> Figure:
    """Return horizontal bars, the longest first, each with its number; of a total, with its share."""
    bars = list(counts.items())
    rest = bars[_MOST_BARS - 1 :] if total is not None and len(bars) > _MOST_BARS else []
    if rest:
        bars = [*bars[: _MOST_BARS - 1], (f"{len(rest)} others", sum(count for _, count in rest))]
    figure, [axes] = _canvas(title, note, height=0.25 + _BAR * max(len(bars), 1))
    axes.spines["bottom"].set_visible(False)
    numbers = [count for _, count in bars]
    drawn = axes.barh(range(len(bars)), numbers, color=_BLUE, height=0.75)
    if rest:
        drawn[-1].set_color(_GREY)
    axes.set_yticks(range(len(bars)), [_short(label) for label, _ in bars])
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, max(numbers, default=1) * 1.15)
    for at, count in enumerate(numbers):
        share = f" ({count / total:.1%})" if total else ""
        axes.annotate(
            f"{count:,}{share}", (count, at), (4, 0), textcoords="offset points", va="center", fontsize=9, color=_INK
        )
    return figure


def _canvas(title: str, note: str, *, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure with its title, and its axes, one above the other on one x axis; height is theirs."""
    height += _HEAD
    layout = ConstrainedLayoutEngine(rect=(0.01, 0.01, 0.97, 0.99 - _HEAD / height), hspace=0.08)
    figure = Figure(figsize=(_WIDTH, height), layout=layout)
    FigureCanvasAgg(figure)
    figure.text(0.015, 1 - 0.10 / height, _short(title, 80), va="top", fontsize=12, fontweight="bold", color=_INK)
    figure.text(0.015, 1 - 0.36 / height, note, va="top", fontsize=9, color="#555555")
    all_axes = list(figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])
    for axes in all_axes:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0, colors=_INK)
    return figure, all_axes


def _whole_numbers(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(_THOUSANDS)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=_STEPS, integer=True))


def _mark_median(axes: Axes, at: float) -> None:
    axes.margins(y=0.15)  # room for the label above the bars
    axes.axvline(at, color=_ORANGE, linewidth=1.5)
    axes.annotate(
        f"median {_duration(at)}",
        (at, 1),
        (4, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        color=_ORANGE,
    )


def _durations_note(seconds: np.ndarray[Any, Any]) -> str:
    if not len(seconds):
        return _clips(0)
    total = f"{_clips(len(seconds))}, {seconds.sum() / 3600:,.2f} h"
    return f"{total}; mean {_duration(float(seconds.mean()))}, longest {_duration(float(seconds.max()))}"


def _clips(number: int) -> str:
    return f"{number:,} clip{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _short(text: str, longest: int = _LONGEST_LABEL) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


@contextmanager
def _own_style() -> Iterator[None]:
    """Draw in this module's style whatever matplotlib was told before, and leave that as it was."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield
