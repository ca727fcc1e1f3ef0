"""What ``wavtext5k-evaluate`` prints of its findings: lines for people, a dictionary for programs, Table 3's layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.checkpoint import read_description
from training.evaluate import DIRECTIONS, table_header
from training.evaluate_job import Request, Result, Scored, ZeroShotResult
from training.leaks import data_of
from training.metrics import METRICS
from training.paper_table import ScoredRow, markdown_table

_PAPER_NAMES = {"audiocaps": "AudioCaps", "clotho": "Clotho"}
"""By a manifest's source: what the paper's Table 3 calls it."""


def as_text(result: Result) -> str:
    """Return the scores as lines for people."""
    request, scored, evaluation = result.request, result.scored, result.scored.evaluation
    lines = [
        f"{request.what or scored.name}: {evaluation.num_clips} clips, {evaluation.num_captions} captions, "
        f"list sha256 {evaluation.list_sha256 or 'unknown (the clips have no names)'}",
        *_about_the_list(result),
        evaluation.table(scored.intervals),
        f"interval: 95 % of {request.resamples} lists of clips drawn again, seed {request.seed}",
        _ties(request, scored),
        *_leakage(scored),
    ]
    if result.other is not None:
        lines += ["", f"{result.other.name}, on the same list:", result.other.evaluation.table(result.other.intervals)]
        lines += [*_leakage(result.other), "", *_comparison(result)]
    return "\n".join(lines)


def as_dict(result: Result) -> dict[str, Any]:
    """Return everything, as JSON takes it; scores under the contract's names."""
    request = result.request
    found = {
        **_scored_dict(request, result.scored),
        "manifests": [str(path) for path in request.manifests],
        "split": request.split or ("test" if request.run and not request.ids else None),
        "ids": request.ids and str(request.ids),
        "missing_ids": list(result.missing_ids),
        "template": result.template if result.num_templated else None,
        "num_templated": result.num_templated,
        "crop_seed": request.crop_seed,
        "ties": request.ties,
    }
    if result.other is not None and result.comparison is not None:
        found["compared"] = _scored_dict(request, result.other)
        found["difference"] = {
            direction: {name: asdict(difference) for name, difference in metrics.items()}
            for direction, metrics in result.comparison.items()
        }
    return found


def as_markdown(result: Result, *, dataset: str | None = None) -> str:
    """Return a Markdown table in the layout of the paper's Table 3, with the paper's rows where they are of this set.

    Args:
        result: The findings.
        dataset: Name of the set; guessed from the clips' ids if not given.
    """
    named = _PAPER_NAMES.get((dataset or "").casefold(), dataset) or _guess(result.scored.clip_ids)
    rows = [_row(scored, named) for scored in (result.scored, result.other) if scored is not None]
    notes = [*_about_the_list(result), _ties(result.request, result.scored)]
    for scored in (result.scored, result.other):
        if scored is not None:
            notes += [f"{scored.name}: {line}" for line in _leakage(scored)]
    return "\n".join([markdown_table(rows), *(f"- {note}" for note in notes), *_markdown_difference(result)])


def zero_shot_text(result: ZeroShotResult) -> str:
    """Return the accuracy as lines for people."""
    found = result.zero_shot
    lines = [
        f"{result.request.what}: {found.num_clips} clips, {found.num_classes} classes, list sha256 {found.list_sha256}",
        *_missing(result.missing_ids),
        *(f"prompt: {prompt}" for prompt in found.prompts),
        found.table(),
    ]
    return "\n".join([*lines, *([f"leakage: {result.leakage.line()}"] if result.leakage else [])])


def zero_shot_dict(result: ZeroShotResult) -> dict[str, Any]:
    """Return everything of a classification, as JSON takes it."""
    request = result.request
    return {
        "name": str(request.run),
        "manifests": [str(path) for path in request.manifests],
        "split": request.split,
        "ids": request.ids and str(request.ids),
        "folds": list(request.folds),
        "missing_ids": list(result.missing_ids),
        "crop_seed": request.crop_seed,
        **result.zero_shot.as_dict(),
        "leakage": result.leakage and result.leakage.as_dict(),
    }


def _scored_dict(request: Request, scored: Scored) -> dict[str, Any]:
    return {
        "name": scored.name,
        "model_sha256": scored.model_sha256,
        **scored.evaluation.as_dict(),
        "intervals": {
            "confidence": 0.95,
            "resamples": request.resamples,
            "seed": request.seed,
            **{
                direction: {name: list(bounds) for name, bounds in metrics.items()}
                for direction, metrics in scored.intervals.items()
            },
        },
        "leakage": scored.leakage and scored.leakage.as_dict(),
    }


def _about_the_list(result: Result) -> list[str]:
    lines = _missing(result.missing_ids)
    if result.num_templated:
        lines.append(f"captions of {result.num_templated} clips are made by the template {result.template!r}")
    if result.request.crop_seed is not None:
        lines.append(f"one random piece of each long clip was read (seed {result.request.crop_seed})")
    return lines


def _missing(ids: Sequence[str]) -> list[str]:
    return [f"{len(ids)} ids of the list were not found and are left out, the first is {ids[0]!r}"] if ids else []


def _ties(request: Request, scored: Scored) -> str:
    tied = [ranks.num_tied for ranks in scored.evaluation.ranks]
    return f"tied queries: {tied[0]} text to audio, {tied[1]} audio to text (--ties {request.ties})"


def _leakage(scored: Scored) -> list[str]:
    return [f"leakage: {scored.leakage.line()}"] if scored.leakage else []


def _comparison(result: Result) -> list[str]:
    """Return the differences as a table, in points of percent (ranks as they are)."""
    assert result.other is not None
    assert result.comparison is not None
    lines = [
        f"{result.other.name} minus {result.scored.name}, on the same lists of clips drawn again:",
        table_header(),
    ]
    for direction in DIRECTIONS:
        metrics = result.comparison[direction]
        rows: dict[str, list[str]] = {direction: [], "  interval": [], "  p": []}
        for name in METRICS:
            each, unit = metrics[name], 1 if name == "median_rank" else 100
            rows[direction].append(f"{unit * each.difference:+.2f}")
            rows["  interval"].append(f"{unit * each.low:+.1f}:{unit * each.high:+.1f}")
            rows["  p"].append(f"{each.p_value:.3f}")
        lines += [f"{label:16}" + "".join(f"{cell:>12}" for cell in cells) for label, cells in rows.items()]
    return lines


def _markdown_difference(result: Result) -> list[str]:
    return ["", "```", *_comparison(result), "```"] if result.other is not None else []


def _row(scored: Scored, dataset: str) -> ScoredRow:
    return ScoredRow(
        experiment=scored.name,
        dataset=dataset,
        scores=scored.evaluation.metrics.as_dict(),
        chance=scored.evaluation.chance.as_dict(),
        num_clips=scored.evaluation.num_clips,
        num_captions=scored.evaluation.num_captions,
        list_sha256=scored.evaluation.list_sha256 or "unknown",
        intervals=scored.intervals,
        training=_training(Path(scored.name)),
    )


def _training(run: Path) -> str:
    """Return the names of the manifests that a run was trained on."""
    if not run.is_dir():
        return "-"
    places = [Path(entry["manifest"]) for entry in data_of(read_description(run)) if entry["role"] == "train"]
    names = [(place.parent if place.suffix == ".parquet" else place).name for place in places]
    return ", ".join(dict.fromkeys(names)) or "-"


def _guess(clip_ids: Sequence[str]) -> str:
    """Return the set that clips are of: a clip_id begins with its source."""
    sources = dict.fromkeys(clip_id.partition("-")[0] for clip_id in clip_ids)
    return "+".join(_PAPER_NAMES.get(source, source) for source in sources) or "-"
