"""Where metrics go beside metrics.jsonl: TensorBoard, or a class of your own.

run.trackers names them. "tensorboard" writes event files to the run's folder tensorboard/; "module:Class" is any class
that Python can import and that keeps to ``Tracker``, which takes about ten lines:

    class Wandb:
        def __init__(self, folder, *, step):
            import wandb
            self.run = wandb.init(project="wavtext5k", name=folder.name, id=folder.name, resume="allow")

        def write(self, kind, *, step, epoch, **values):
            self.run.log({"epoch": epoch, **scalars(kind, values)}, step=step)

        def close(self):
            self.run.finish()

metrics.jsonl stays the record of a run: a tracker that fails is said and left out, and the training goes on.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from curation.errors import ConfigError

TENSORBOARD_FOLDER = "tensorboard"
"""Of a run's folder."""


class Tracker(Protocol):
    """What takes in the lines of metrics.jsonl as they come; made with a run's folder and ``step=``, see there."""

    def write(self, kind: str, *, step: int, epoch: int, **values: Any) -> None:
        """Take in one line: "train" or "val", the step and epoch it is of, counted from 1, and what it holds."""

    def close(self) -> None:
        """End; called once, unless the run is killed."""


class TensorBoardTracker:
    """Event files for TensorBoard: train/loss, val/text_to_audio/recall_at_1, ..."""

    def __init__(self, folder: Path, *, step: int) -> None:
        """Write into a run's folder; what an earlier process wrote of steps after ``step`` is shown no longer."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(folder / TENSORBOARD_FOLDER, purge_step=step + 1)

    def write(self, kind: str, *, step: int, epoch: int, **values: Any) -> None:
        """Write one line's numbers, to the disk at once: a killed run loses none that metrics.jsonl holds."""
        for name, value in {**scalars(kind, values), f"{kind}/epoch": epoch}.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that cannot be made, before anything else is done.

    Raises:
        ConfigError: If one cannot be imported; names the extra to install, or the setting.
    """
    for name in names:
        _class_of(name)


def open_trackers(names: Sequence[str], folder: Path, *, step: int) -> list[Tracker]:
    """Return a run's trackers, ready for the lines after ``step``.

    Args:
        names: run.trackers.
        folder: The run's.
        step: Of the checkpoint that the run goes on from; lines of later steps will come again.

    Raises:
        ConfigError: If one cannot be made.
    """
    trackers: list[Tracker] = []
    for name in names:
        try:
            trackers.append(_class_of(name)(folder, step=step))
        except ConfigError:
            raise
        except Exception as error:  # whatever others' code raises
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(f"run.trackers: {name!r} could not be opened ({reason}); leave it out") from error
    return trackers


def scalars(kind: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line under names such as val/text_to_audio/recall_at_1; what is no number is left out."""
    return dict(_flat(kind, values))


def _flat(place: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{place}/{key}", value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{place}/{key}", value


def _class_of(name: str) -> Any:
    """Return what makes a tracker of this name."""
    if name == "tensorboard":
        try:
            importlib.import_module("torch.utils.tensorboard")
        except ImportError as error:
            raise ConfigError(
                f"run.trackers=[tensorboard] needs the tensorboard extra ({error}): pip install "
                "'wavtext5k[tensorboard]', or set run.trackers=[]"
            ) from error
        return TensorBoardTracker
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever others' code raises when it is imported
        raise ConfigError(
            f"run.trackers: {name!r} could not be imported ({error}); it must be tensorboard, or module:Class of a "
            "module that Python finds (set PYTHONPATH to its folder)"
        ) from error
