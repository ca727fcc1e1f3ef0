"""The loader: visits in, batches out, read by this process or by workers.

A worker writes sound into memory that the training process has too, and sends where it lies (training.batchmemory).
"""

from __future__ import annotations

import signal
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from curation.errors import AudioError, WavTextError
from training.batchmemory import BatchMemory, SentTensors
from training.loading import Batch, PairDataset
from training.sampling import EpochSampler, Numbers, Visit

_PLACES = 4
"""Batches of a worker that are there at once: one in use, one ready, one being read, and one that somebody keeps."""


class _Reader(Dataset[Batch]):
    """What a loader asks for batches: in its own process, or a copy in each worker."""

    def __init__(self, dataset: PairDataset, memory: BatchMemory, pad_id: int) -> None:
        self.dataset, self.memory, self.pad_id = dataset, memory, pad_id

    def __getitems__(self, visits: Sequence[Visit]) -> Batch | _Sent | _Failed:
        worker = get_worker_info()
        place = self.memory.take(worker.id if worker else 0, is_lent=worker is None)
        try:
            batch = self.dataset.read(visits, pad_id=self.pad_id, new=place.new if place else None)
        except WavTextError as error:
            failed = _Failed.of(error)
            if worker is None:
                raise failed.error() from error
            return failed
        if place is None or worker is None:
            return batch
        return _Sent(batch, place.sent(batch.waveforms))


@dataclass(frozen=True, slots=True)
class _Failed:
    """An error on its way from a worker: as an exception it would arrive with the worker's traceback in its words."""

    kind: type[WavTextError]
    message: str

    @classmethod
    def of(cls, error: WavTextError) -> _Failed:
        kind = next(kind for kind in type(error).__mro__ if "__init__" not in vars(kind))  # one that takes a message
        advice = "; bring the file back, and see what else is damaged: wavtext5k-curate validate MANIFEST --audio"
        return cls(kind, f"{error}{advice if isinstance(error, AudioError) else ''}")

    def error(self) -> WavTextError:
        return self.kind(self.message)


class _Sent:
    """A batch on its way from a worker, which arrives as a Batch.

    What is small goes as numpy arrays: for every tensor the training process would have to ask the worker for a file.
    """

    def __init__(self, batch: Batch, waveforms: SentTensors) -> None:
        small = {name: getattr(batch, name) for name in ("input_ids", "attention_mask", "keys", "gains")}
        self._waveforms = waveforms
        self._small = {name: tensor.numpy() for name, tensor in small.items() if tensor is not None}
        self._cuts = {name: (starts.numpy(), size) for name, (starts, size) in batch.cuts.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self._waveforms, self._small, self._cuts)


def _received(
    waveforms: SentTensors, small: Mapping[str, npt.NDArray[Any]], cuts: Mapping[str, tuple[Numbers, int]]
) -> Batch:
    tensors: dict[str, Any] = {name: torch.from_numpy(array) for name, array in small.items()}
    starts = {name: (torch.from_numpy(array), size) for name, (array, size) in cuts.items()}
    return Batch(waveforms=waveforms.received(), cuts=starts, **tensors)


def _as_it_is(batch: Any) -> Any:
    return batch


class _Loader(DataLoader[Any]):
    """Yields batches; an error of a worker is raised as if this process had read."""

    def __iter__(self) -> Any:
        batches: Any = super().__iter__()
        if self.num_workers and "_end" not in vars(self):
            # else Python, at its end, would send them the SIGTERM that they leave alone, and wait for them
            self._end = weakref.finalize(self, batches._shutdown_workers)
        for batch in batches:
            if isinstance(batch, _Failed):
                raise batch.error()
            yield batch


def _leave_signals(_worker: int) -> None:
    """Let the training process alone act on Ctrl-C and SIGTERM, which go to a whole group: it needs its workers until
    the step is done, and ends them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def make_loader(
    dataset: PairDataset, sampler: EpochSampler, *, pad_id: int, workers: int, pin: bool = False
) -> DataLoader[Batch]:
    """Return a loader of Batch; set ``sampler.epoch`` before iterating.

    Args:
        dataset: What is read.
        sampler: Of its pairs.
        pad_id: Follows the ids of shorter captions.
        workers: Processes that read; 0: this one does.
        pin: Bring batches to page-locked memory, from which a GPU copies them while it computes.
    """
    size = dataset.most_bytes(sampler.batch_size // sampler.world_size)
    memory = BatchMemory(workers=workers, places=_PLACES, size=size)
    reader: Any = _Reader(dataset, memory, pad_id)
    return _Loader(
        reader,
        batch_sampler=sampler,
        collate_fn=_as_it_is,
        num_workers=workers,
        worker_init_fn=_leave_signals,
        persistent_workers=workers > 0,
        pin_memory=pin,
        generator=torch.Generator(),  # it draws one number an epoch: not from the model's, or resuming would differ
    )
