"""Scores for a model card, as ``wavtext5k-evaluate RUN --manifest M --json`` prints them, and whose they are.

The file is written by another program, perhaps on another machine, and goes into a card that is published: what a card
states is checked here, number by number, and scores of another model are refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.exports.folder import ExportError
from training.checkpoint import model_hash
from training.metrics import METRICS

DIRECTIONS = ("text_to_audio", "audio_to_text")
CONFIDENCE = 0.95
_AGAIN = "write it with: wavtext5k-evaluate RUN --manifest MANIFEST --json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One metric: a fraction, or a rank from 1 on.

    Attributes:
        low: Lower end of its interval.
        high: Upper end.
        chance: What guessing gives.
    """

    value: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a card says of a model's scores.

    Attributes:
        by_direction: text_to_audio and audio_to_text, each metric of training.metrics.METRICS by name.
        resamples: Lists of clips drawn for the intervals.
        list_sha256: Of the list of clips; "" if they have no names.
        manifests: Names of the manifests' folders.
        split: Of them; "" if the clips were named one by one.
        leaked: How many of the clips were found in training; None: not looked for.
        num_val: How many of the clips chose the checkpoint.
        notes: What else bears on the scores, one sentence each.
    """

    by_direction: dict[str, dict[str, Score]]
    resamples: int
    num_clips: int
    num_captions: int
    list_sha256: str
    manifests: tuple[str, ...]
    split: str
    leaked: int | None
    num_val: int
    notes: tuple[str, ...]


def read_scores(file: Path, *, run: Path) -> Scores:
    """Return the scores in a file.

    Args:
        file: JSON that wavtext5k-evaluate printed.
        run: The run, or model folder, whose they should be.

    Raises:
        ExportError: If the file is something else, a number cannot be, or the scores are another model's.
    """
    values = _read(file)
    _check_model(values, file, run)
    try:
        return _scores(values)
    except (KeyError, TypeError, AttributeError) as error:
        lacks = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ExportError(f"{file}: not the scores of a retrieval ({lacks}); {_AGAIN}") from error
    except (ValueError, OverflowError) as error:
        raise ExportError(f"{file}: {error}; {_AGAIN}") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ExportError(f"{file}: no such file; {_AGAIN}") from error
    except IsADirectoryError as error:
        raise ExportError(f"{file}: is a folder; {_AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{file}: not JSON ({error}); {_AGAIN}") from error
    if not isinstance(values, dict) or not isinstance(values.get("name"), str):
        raise ExportError(f"{file}: not what wavtext5k-evaluate prints; {_AGAIN}")
    if "zero_shot" in values or "accuracy" in values:
        raise ExportError(f"{file}: holds scores of a classification (--zero-shot); {_AGAIN}")
    return values


def _check_model(values: Mapping[str, Any], file: Path, run: Path) -> None:
    """Check that scores are a model's own.

    Raises:
        ExportError: If they are another model's, or say of none.
    """
    stated, expected = values.get("model_sha256"), model_hash(run)
    if not stated:
        raise ExportError(f"{file}: does not say which model's scores it holds (no model_sha256); {_AGAIN}")
    if stated != expected:
        raise ExportError(
            f"{file}: scores of another model: {values['name']} (SHA-256 {str(stated)[:12]}), not {run} "
            f"({expected[:12]}); evaluate this one"
        )


def _scores(values: Mapping[str, Any]) -> Scores:
    """Return the checked scores; KeyError, TypeError, ValueError and OverflowError say what is amiss."""
    intervals, leakage = values["intervals"], values["leakage"]
    if intervals["confidence"] != CONFIDENCE:
        raise ValueError(f"intervals.confidence is {intervals['confidence']!r}, not {CONFIDENCE}")
    by_direction = {
        direction: {
            name: _score(
                f"{direction}.{name}",
                values[direction][name],
                interval=intervals[direction][name],
                chance=values["chance"][direction][name],
            )
            for name in METRICS
        }
        for direction in DIRECTIONS
    }
    return Scores(
        by_direction=by_direction,
        resamples=_count("intervals.resamples", intervals["resamples"], least=1),
        num_clips=_count("num_clips", values["num_clips"], least=1),
        num_captions=_count("num_captions", values["num_captions"], least=1),
        list_sha256=str(values["list_sha256"] or ""),
        manifests=tuple(folder_name(str(place)) for place in values["manifests"]),
        split=str(values["split"] or ""),
        leaked=None if leakage is None else _count("leakage.leaked", leakage["leaked"]),
        num_val=0 if leakage is None else _count("leakage.val", leakage["val"]),
        notes=tuple(_notes(values)),
    )


def _notes(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what else bears on scores; paths by their last part, the others are somebody's own business."""
    if number := _count("num_templated", values["num_templated"]):
        yield f"the captions of {number} clips are made by the template {values['template']!r} from their texts"
    if values["crop_seed"] is not None:
        yield "one random piece of each long clip was read, not the whole clip as this model does"
    if missing := len(values["missing_ids"]):
        yield f"{missing} clips of the list were not found and are left out"
    for sentence in (values["leakage"] or {}).get("not_checked", ()):
        yield "overlap with training was not checked: " + re.sub(r"[^\s(]*/(?=[^\s/])", "", str(sentence))


def _score(name: str, value: Any, *, interval: Any, chance: Any) -> Score:
    is_rank = name.endswith("median_rank")
    least, most = (1, math.inf) if is_rank else (0, 1)
    if not isinstance(interval, list) or len(interval) != 2:
        raise ValueError(f"the interval of {name} is {interval!r}, not two numbers")
    low, high = (_number(f"the interval of {name}", end, least=least, most=most) for end in interval)
    if low > high:
        raise ValueError(f"the interval of {name} ends before it begins: {interval!r}")
    value = _number(name, value, least=least, most=most)
    return Score(value=value, low=low, high=high, chance=_number(f"chance of {name}", chance, least=least, most=most))


def _number(name: str, value: Any, *, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, not a number")
    if not least <= value <= most:
        raise ValueError(f"{name} is {value!r}, must be between {least:g} and {most:g}")
    return float(value)


def _count(name: str, value: Any, *, least: int = 0) -> int:
    if type(value) is not int or value < least:
        raise ValueError(f"{name} is {value!r}, must be a whole number, {least} or more")
    return value


def folder_name(place: str) -> str:
    """Return the name of a manifest: the last folder of its path, whose others are this machine's own business."""
    path = Path(place)
    return (path.parent if path.suffix == ".parquet" else path).name
