"""What runs came to: reads run folders, gives a comparison in Markdown and as plain values.

Reads metrics.jsonl and config.yaml alone, so a run may be training meanwhile, and neither its model nor PyTorch is
loaded. The best epoch is found as training finds it: the first with the highest mean of both directions' mAP@10 on
data.val. Settings are compared as they stand in config.yaml, so runs of an older version can be compared too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from curation.errors import ConfigError
from training.recipe import flatten
from training.runlog import read_log

MARK = "<!-- written by wavtext5k-train report -->"
"""The last line of a report's Markdown file."""

DIRECTIONS = {"text_to_audio": "T-A", "audio_to_text": "A-T"}
"""As metrics.jsonl has them, and as the paper's Table 3 does."""

METRICS = {
    "map_at_10": "mAP@10",
    "recall_at_1": "R@1",
    "recall_at_5": "R@5",
    "recall_at_10": "R@10",
    "recall_at_50": "R@50",
}
"""In the order of the paper's Table 3."""

_NAMES = {"run.name", "run.folder"}
"""Settings that differ between any two runs."""

_NONE = "-"
_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run folder says."""

    name: str
    """Of the folder; the whole path where several runs have one name."""
    folder: Path
    settings: dict[str, Any]
    """Of config.yaml, keys dotted; empty without one."""
    train: list[dict[str, Any]]
    val: list[dict[str, Any]]
    """Lines of metrics.jsonl."""

    @property
    def steps(self) -> int:
        """Steps logged so far."""
        return max((line["step"] for line in (*self.train, *self.val)), default=0)

    @property
    def epoch(self) -> int:
        """The one that it is in, or ended with."""
        return max((line["epoch"] for line in (*self.train, *self.val)), default=0)

    @property
    def best(self) -> dict[str, Any] | None:
        """The line of the best evaluation, None if there was none."""
        return max(self.val, key=_score, default=None)

    def as_dict(self) -> dict[str, Any]:
        """Return what a program may want of it."""
        best = self.best
        return {
            "name": self.name,
            "folder": str(self.folder),
            "steps": self.steps,
            "epoch": self.epoch,
            "epochs": self.settings.get("run.epochs"),
            "batch_size": self.settings.get("run.batch_size"),
            "last_loss": self.train[-1].get("loss") if self.train else None,
            "pairs_per_s": _middle(self, "pairs_per_s"),
            "data_wait": _middle(self, "data_wait"),
            "best": None if best is None else {key: value for key, value in best.items() if key != "kind"},
            "settings": self.settings,
        }


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Return the runs in folders, each once, in the order given.

    Raises:
        ConfigError: If a folder is no run's, or its config.yaml is damaged.
    """
    unique = list({folder.resolve(): folder for folder in folders}.values())
    names = [folder.resolve().name for folder in unique]
    return [
        _read(folder, name if names.count(name) == 1 else str(folder))
        for folder, name in zip(unique, names, strict=True)
    ]


def markdown(runs: Sequence[Run]) -> str:
    """Return the comparison: what was trained, how it scores on data.val, and in which settings the runs differ."""
    blocks = [_table(*_runs_table(runs))]
    if empty := [run.name for run in runs if not run.train and not run.val]:
        blocks.append(f"Nothing logged yet: {', '.join(empty)}.")
    if any(run.best for run in runs):
        blocks.append(
            "Scores on data.val in the best epoch: the highest mean of both directions' mAP@10. They choose the epoch, "
            "so they flatter it; what a run is worth is for wavtext5k-evaluate to say, on clips held out from this."
        )
        blocks.append(_table(*_scores_table(runs)))
    if len(runs) > 1:
        different, unknown = compare_settings(runs)
        if different:
            blocks.append("Settings that differ:")
            rows = [[f"`{key}`", *(_setting(key, value) for value in values)] for key, values in different.items()]
            blocks.append(_table(["setting", *(run.name for run in runs)], rows))
        else:
            blocks.append("No setting differs but the names.")
        if unknown:
            blocks.append(f"Not compared, since runs of another version do not state them: {', '.join(unknown)}.")
    return "\n\n".join(blocks) + "\n"


def compare_settings(runs: Sequence[Run]) -> tuple[dict[str, list[Any]], list[str]]:
    """Return the settings that differ, with each run's value; and those that some runs do not state.

    Of a section that a run has switched off (model.spec_augment: null) each setting is None. Runs without config.yaml
    have None everywhere, and do not count.
    """
    stated = {key for run in runs for key in run.settings} - _NAMES
    keys = sorted(key for key in stated if not any(other.startswith(f"{key}.") for other in stated))
    different, unknown = {}, []
    for key in keys:
        values = [_stated(run.settings, key) for run in runs]
        known = [value for run, value in zip(runs, values, strict=True) if run.settings]
        if _ABSENT in known:
            unknown.append(key)
        elif any(value != known[0] for value in known):
            different[key] = [None if value is _ABSENT else value for value in values]
    return different, unknown


def _stated(settings: Mapping[str, Any], key: str) -> Any:
    """Return a setting, or what stands in place of its section."""
    while key not in settings and "." in key:
        key = key.rpartition(".")[0]
    return settings.get(key, _ABSENT)


def _read(folder: Path, name: str) -> Run:
    log, config = folder / "metrics.jsonl", folder / "config.yaml"
    if not log.is_file() and not config.is_file():
        raise ConfigError(_no_run(folder))
    lines = read_log(log) if log.is_file() else []
    return Run(
        name=name,
        folder=folder,
        settings=_settings(config) if config.is_file() else {},
        train=[line for line in lines if line["kind"] == "train"],
        val=[line for line in lines if line["kind"] == "val"],
    )


def _no_run(folder: Path) -> str:
    if not folder.exists():
        return f"{folder}: no such run; name a folder such as runs/tiny"
    if not folder.is_dir():
        return f"{folder}: is a file; name the folder of a run"
    inside = sorted(file.parent.name for file in folder.glob("*/config.yaml"))
    hint = f"it holds runs: {', '.join(str(folder / name) for name in inside[:3])}" if inside else "name another"
    return f"{folder}: not a run folder (it has neither config.yaml nor metrics.jsonl); {hint}"


def _settings(config: Path) -> dict[str, Any]:
    from yaml import YAMLError, safe_load

    try:
        values = safe_load(config.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{config}: damaged ({' '.join(str(error).split())})") from error
    if not isinstance(values, Mapping):
        raise ConfigError(f"{config}: damaged (it holds no settings); train the run once more, or leave it out")
    return flatten(values)


def _score(line: Mapping[str, Any]) -> float:
    return sum(score(line, direction, "map_at_10") or 0.0 for direction in DIRECTIONS)


def score(line: Mapping[str, Any], direction: str, metric: str) -> float | None:
    """Return a metric of a val line, None if there is no such number."""
    values = line.get(direction)
    value = values.get(metric) if isinstance(values, Mapping) else None
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _middle(run: Run, key: str) -> float | None:
    values = [line[key] for line in run.train if isinstance(line.get(key), int | float)]
    return median(values) if values else None


def _runs_table(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    head = ["run", "data", "batch", "epoch", "steps", "loss", "pairs/s", "waiting for data"]
    rows = []
    for run in runs:
        wait = _middle(run, "data_wait")
        rows.append(
            [
                run.name,
                _setting("data.train", run.settings["data.train"]) if "data.train" in run.settings else _NONE,
                _number(run.settings.get("run.batch_size")),
                f"{run.epoch} of {run.settings.get('run.epochs', '?')}",
                f"{run.steps:,}",
                _number(run.train[-1].get("loss") if run.train else None, "{:.3f}"),
                _number(_middle(run, "pairs_per_s"), "{:,.0f}"),
                _NONE if wait is None else f"{wait:.0%}",
            ]
        )
    return head, rows


def _scores_table(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    head = ["run", "val clips", "best epoch"]
    head += [f"{short} {metric}" for short in DIRECTIONS.values() for metric in METRICS.values()]
    rows = []
    for run in runs:
        best = run.best or {}
        scores = [score(best, direction, metric) for direction in DIRECTIONS for metric in METRICS]
        numbers = [_number(value, "{:.3f}") for value in scores]
        rows.append([run.name, _number(best.get("clips")), _number(best.get("epoch")), *numbers])
    return head, rows


def _number(value: Any, shape: str = "{:,}") -> str:
    return shape.format(value) if isinstance(value, int | float) else _NONE


def _setting(key: str, value: Any) -> str:
    """Return a setting's value as a person reads it."""
    if value is None:
        return "none"
    if key in ("data.train", "data.val") and isinstance(value, list):
        return " + ".join(_source(source) for source in value) or "none"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)


def _source(source: Any) -> str:
    """Return one manifest of a recipe: clotho (train, val) x 2."""
    if not isinstance(source, Mapping):
        return json.dumps(source, default=str)
    weight = source.get("weight", 1)
    splits = ", ".join(map(str, source.get("splits") or ["train"]))
    return f"{Path(str(source.get('manifest'))).name} ({splits})" + (f" x {weight:g}" if weight != 1 else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
