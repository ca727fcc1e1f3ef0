"""The numbers of the paper's Tables 3 and 4, and our scores in the layout of Table 3 with the paper's beside them.

Source: "Audio Retrieval with WavText5K and CLAP Training", arXiv 2209.14275; its rows "Benchmark [11]" are from "On
metric learning for audio-text cross-modal retrieval", arXiv 2203.15537. The paper's numbers are decimals, in percent,
with the digits that are printed; ours are fractions, and are printed in percent.

The paper does not say how many clips it scored. Its recalls do: those of audio to text are whole multiples of 1/742 on
AudioCaps and of 1/1045 on Clotho, and of no other number between 500 and 1,100. Others have scored up to 975 clips
under the name "AudioCaps test" ([11]: 957), and fewer clips are easier: hence the number of clips and the hash of the
list under every table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal

import numpy as np

from training.metrics import chance_level

__all__ = ["PAPER_POOLS", "TABLE_3", "TABLE_4", "PaperRow", "PaperScores", "ScoredRow", "markdown_table"]

Scores = Mapping[str, Mapping[str, float]]
Intervals = Mapping[str, Mapping[str, Sequence[float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperScores:
    """One direction's scores in percent, as printed; None where the paper prints none."""

    map_at_10: Decimal | None = None
    recall_at_1: Decimal | None = None
    recall_at_5: Decimal | None = None
    recall_at_10: Decimal | None = None
    recall_at_50: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """A row of a table of the paper."""

    experiment: str
    training: str
    dataset: str
    text_to_audio: PaperScores
    audio_to_text: PaperScores


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRow:
    """A model's scores on a list of clips."""

    experiment: str
    dataset: str
    """Of retrieval. The paper's rows are shown for AudioCaps and Clotho, in upper or lower case."""
    scores: Scores
    """Fractions, as direction -> metric -> score: RetrievalReport.as_dict()."""
    chance: Scores
    """The same of chance_level."""
    num_clips: int
    num_captions: int
    list_sha256: str
    intervals: Intervals | None = None
    """Fractions, as direction -> metric -> (low, high), of 95 %: training.intervals.bootstrap."""
    training: str = "-"


def _scores(*printed: str) -> PaperScores:
    values = [None if text == "-" else Decimal(text) for text in printed]
    names = [field.name for field in fields(PaperScores)]
    return PaperScores(**dict(zip(names, values, strict=False)))


def _row(experiment: str, training: str, dataset: str, text_to_audio: str, audio_to_text: str) -> PaperRow:
    return PaperRow(
        experiment=experiment,
        training=training,
        dataset=dataset,
        text_to_audio=_scores(*text_to_audio.split()),
        audio_to_text=_scores(*audio_to_text.split()),
    )


_BASE, _WITH_WT5K = "AC, Cl", "AC, Cl, WT5K"

TABLE_3 = (
    _row("Benchmark [11]", "AudioCaps", "AudioCaps", "- 33.9 69.7 82.6 -", "- 39.4 72.0 83.9 -"),
    _row("A - CNN", _BASE, "AudioCaps", "45.28 33.07 67.30 80.30 95.74", "25.65 39.76 73.72 84.64 97.04"),
    _row("B - CNN", _WITH_WT5K, "AudioCaps", "46.57 33.42 68.00 79.95 96.42", "26.30 38.68 70.35 84.1 97.44"),
    _row("C - HTSAT", _WITH_WT5K, "AudioCaps", "46.33 34.07 66.90 79.81 95.36", "26.71 40.84 72.77 84.36 97.3"),
    _row("D - CNN-HTSAT", _WITH_WT5K, "AudioCaps", "49.45 34.69 70.22 82.0 97.28", "30.81 41.91 73.18 84.64 97.71"),
    _row("Benchmark [11]", "Clotho", "Clotho", "- 14.4 36.6 49.9 -", "- 16.2 37.5 50.2 -"),
    _row("A - CNN", _BASE, "Clotho", "24.74 15.79 36.78 49.93 80.75", "12.41 17.42 40.57 54.26 82.68"),
    _row("B - CNN", _WITH_WT5K, "Clotho", "25.85 16.48 39.58 52.46 82.0", "12.87 18.47 44.02 57.51 86.03"),
    _row("C - HTSAT", _WITH_WT5K, "Clotho", "22.62 14.24 36.11 49.29 82.47", "10.15 16.36 38.37 50.43 81.15"),
    _row("D - CNN+HTSAT", _WITH_WT5K, "Clotho", "27.12 16.75 41.09 54.07 83.79", "13.65 20.0 44.88 58.66 87.65"),
)
"""Retrieval with every audio encoder and training set; experiment D is written two ways there."""

TABLE_4 = (
    _row("D, Desc.", _WITH_WT5K, "AudioCaps", "49.54 34.77", "30.48 40.16"),
    _row("D, Desc. + Title", _WITH_WT5K, "AudioCaps", "49.45 34.69", "30.81 41.91"),
    _row("D, Desc.", _WITH_WT5K, "Clotho", "26.15 16.19", "12.77 19.14"),
    _row("D, Desc. + Title", _WITH_WT5K, "Clotho", "27.12 16.75", "13.65 20.0"),
)
"""How WavText5K's captions are made. Its rows with the title are experiment D of Table 3."""

PAPER_POOLS = {"AudioCaps": (742, 3710), "Clotho": (1045, 5225)}
"""Clips that the paper scored, as its recalls show, and captions, of which both sets have five a clip."""

_COLUMNS = {
    "map_at_10": "mAP@10",
    "recall_at_1": "R@1",
    "recall_at_5": "R@5",
    "recall_at_10": "R@10",
    "recall_at_50": "R@50",
}
_DIRECTIONS = {"text_to_audio": "T-A", "audio_to_text": "A-T"}


def markdown_table(rows: Sequence[ScoredRow], *, paper_rows: Sequence[PaperRow] = TABLE_3) -> str:
    """Return a Markdown table in the layout of Table 3: for each data set the paper's rows, ours, and chance.

    Args:
        rows: Our scores, in the order to print them.
        paper_rows: TABLE_3 or TABLE_4; those on data sets of ``rows`` are printed. Empty: none.

    Returns:
        The table and, below it, what was measured on how many clips and captions of which list.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError("there is no row to print")
    titles = [f"{short} {title}" for short in _DIRECTIONS.values() for title in _COLUMNS.values()]
    lines = [_line(["Experiment", "Training", "Retrieval", *titles]), "|---|---|---|" + "---:|" * len(titles)]
    notes: list[str] = []
    for dataset in dict.fromkeys(row.dataset.casefold() for row in rows):
        ours = [row for row in rows if row.dataset.casefold() == dataset]
        paper = [row for row in paper_rows if row.dataset.casefold() == dataset]
        lines += [_paper_line(row) for row in paper]
        if paper:
            lines.append(_chance_of_paper(paper[0].dataset))
        for row in ours:
            lines.append(_line([row.experiment, row.training, row.dataset, *_percent(row.scores)]))
            if row.intervals is not None:
                lines.append(_line(["95 % interval", "", "", *_ranges(row.intervals)]))
        for row in {(row.list_sha256, row.num_captions): row for row in ours}.values():
            lines.append(_line([f"chance, {row.num_clips:,} clips", "-", row.dataset, *_percent(row.chance)]))
        notes += _notes(ours, paper)
    return "\n".join([*lines, "", *notes]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |"


def _paper_line(row: PaperRow) -> str:
    printed = [getattr(scores, name) for scores in (row.text_to_audio, row.audio_to_text) for name in _COLUMNS]
    cells = ["-" if value is None else str(value) for value in printed]
    return _line([f"paper: {row.experiment}", row.training, row.dataset, *cells])


def _chance_of_paper(dataset: str) -> str:
    clips, captions = PAPER_POOLS[dataset]
    chance = chance_level(np.repeat(np.arange(clips), captions // clips), num_clips=clips)
    return _line([f"paper: chance, {clips:,} clips", "-", dataset, *_percent(chance.as_dict())])


def _percent(scores: Scores) -> list[str]:
    return [f"{100 * scores[direction][name]:.2f}" for direction in _DIRECTIONS for name in _COLUMNS]


def _ranges(intervals: Intervals) -> list[str]:
    pairs = [intervals[direction][name] for direction in _DIRECTIONS for name in _COLUMNS]
    return [f"{100 * low:.1f} to {100 * high:.1f}" for low, high in pairs]


def _notes(ours: Sequence[ScoredRow], paper: Sequence[PaperRow]) -> list[str]:
    """Return what a reader must know before comparing two rows."""
    notes = [
        f"- {row.experiment} on {row.dataset}: {row.num_clips:,} clips, {row.num_captions:,} captions, "
        f"list {row.list_sha256}"
        for row in ours
    ]
    if len({row.list_sha256 for row in ours}) > 1:
        notes.append(f"- {ours[0].dataset}: the lists differ: only rows of one list can be compared")
    if paper:
        dataset = paper[0].dataset
        clips, captions = PAPER_POOLS[dataset]
        notes.append(f"- {dataset} in the paper: {clips:,} clips, {captions:,} captions, as its recalls show")
        if any((row.num_clips, row.num_captions) != (clips, captions) for row in ours):
            notes.append(f"- {dataset}: not the paper's pool: the fewer the clips, the higher every score")
    return notes
