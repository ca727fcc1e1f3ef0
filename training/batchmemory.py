"""Memory for batches, used again when nothing refers to a batch any more.

Fresh memory costs more than what is written to it: the system clears every page, and where workers share it with the
training process that takes several times as long as copying sound there. Here a worker only says in which place the
tensors of a batch lie; the training process has the same memory and uses them there, and a place is free again once
they are gone. Whoever keeps batches makes workers find no free place; they then take fresh memory.
"""

from __future__ import annotations

import itertools
import math
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 64
"""Bytes: where a tensor of a place begins is a multiple."""

_known: weakref.WeakValueDictionary[tuple[int, int], BatchMemory] = weakref.WeakValueDictionary()
_numbers = itertools.count()


class BatchMemory:
    """Places of one size for each worker, or for this process if there are none."""

    def __init__(self, *, workers: int, places: int, size: int) -> None:
        """Reserve memory; the system gives it when it is written to.

        Args:
            workers: Processes that write, of those that this one starts; 0: it does so itself.
            places: For each.
            size: Bytes of a place.
        """
        self._places, self._size = places, _aligned(size)
        count = places * max(workers, 1)
        if workers:
            shared: Any = torch.UntypedStorage._new_shared
            self._memory = torch.empty(0, dtype=torch.uint8).set_(shared(count * self._size))
        else:
            self._memory = torch.from_numpy(np.empty(count * self._size, np.uint8))  # numpy asks for huge pages
        self._is_taken = torch.zeros(count, dtype=torch.bool)
        self._is_taken.share_memory_()  # type: ignore[no-untyped-call]
        self.key = os.getpid(), next(_numbers)
        _known[self.key] = self

    def take(self, worker: int, *, is_lent: bool) -> Place | None:
        """Return a free place, None if there is none.

        Args:
            worker: Whose; 0 if there are none.
            is_lent: The tensors stay in this process: the place is free when they are gone.
        """
        for number in range(worker * self._places, (worker + 1) * self._places):
            if not self._is_taken[number]:
                self._is_taken[number] = True
                return Place(self.key, number, self.lend(number) if is_lent else self._bytes(number))
        return None

    def lend(self, number: int) -> Tensor:
        """Return the bytes of a place that was taken; it is free again when no tensor uses them."""
        array = self._bytes(number).numpy()
        weakref.finalize(array, self._free, number).atexit = False
        return torch.from_numpy(array)

    def _free(self, number: int) -> None:
        self._is_taken[number] = False

    def _bytes(self, number: int) -> Tensor:
        return self._memory[number * self._size : (number + 1) * self._size]


class Place:
    """A taken place, to be filled with tensors."""

    def __init__(self, memory: tuple[int, int], number: int, content: Tensor) -> None:
        self._memory, self.number, self._content, self._used = memory, number, content, 0

    def new(self, rows: int, size: int, dtype: torch.dtype) -> Tensor:
        """Return room for a tensor (rows, size).

        Raises:
            ValueError: If it does not fit.
        """
        first, count = self._used, rows * size * dtype.itemsize
        self._used = _aligned(first + count)
        if first + count > len(self._content):
            raise ValueError(f"{first + count} bytes do not fit into {len(self._content)}")
        return self._content[first : first + count].view(dtype).view(rows, size)

    def sent(self, tensors: Mapping[str, Tensor]) -> SentTensors:
        """Return what finds tensors of this place again in the training process."""
        begin = self._content.data_ptr()
        where = {name: (each.data_ptr() - begin, each.dtype, tuple(each.shape)) for name, each in tensors.items()}
        return SentTensors(memory=self._memory, place=self.number, where=where)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentTensors:
    """Tensors by name, as a worker sends them."""

    memory: tuple[int, int]
    place: int
    where: dict[str, tuple[int, torch.dtype, tuple[int, ...]]]
    """First byte, kind and shape."""

    def received(self) -> dict[str, Tensor]:
        """Return the tensors; names of the same bytes have the same tensor."""
        content = _known[self.memory].lend(self.place)
        made: dict[int, Tensor] = {}
        for first, dtype, shape in self.where.values():
            if first not in made:
                count = math.prod(shape) * dtype.itemsize
                made[first] = content[first : first + count].view(dtype).view(shape)
        return {name: made[first] for name, (first, _, _) in self.where.items()}


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
