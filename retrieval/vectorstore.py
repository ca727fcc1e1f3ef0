"""Vectors that a build has finished, by what they are of: batches on disk, so that a stopped build goes on.

    parts/<model and dtype>/000012.safetensors      vectors (n, D), and in its metadata the n keys

A key is the SHA-256 of a clip's file, or of a text. A batch appears whole or not at all; it is good for any later index
of the same model and dtype, whatever became of the manifests meanwhile.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from crawler.items import open_whole

_GATHERED = 2**12
"""Rows brought together at once."""


class VectorStore:
    """Vectors by key: of an index before this one, and of the batches in a folder."""

    def __init__(self, folder: Path, *, dtype: torch.dtype) -> None:
        """Open the batches that lie in a folder; one that is damaged is removed."""
        self._folder, self._dtype = folder, dtype
        self._tensors: list[Tensor] = []
        self._places: dict[str, tuple[int, int]] = {}
        self._next = 0
        for file in sorted(folder.glob("[0-9]*.safetensors")) if folder.is_dir() else ():
            self._next = int(file.stem) + 1
            try:
                with safe_open(file, framework="pt") as tensors:
                    self.add(json.loads(tensors.metadata()["keys"]), tensors.get_tensor("vectors"))
            except (SafetensorError, KeyError, TypeError, ValueError):
                file.unlink()

    def __contains__(self, key: str) -> bool:
        """Return whether the vector of a key is there."""
        return key in self._places

    def add(self, keys: Iterable[str], vectors: Tensor) -> None:
        """Take vectors (n, D) that lie on disk already."""
        if vectors.dtype != self._dtype:
            raise ValueError(f"vectors must be {self._dtype}, got {vectors.dtype}")
        for row, key in enumerate(keys):
            self._places.setdefault(key, (len(self._tensors), row))
        self._tensors.append(vectors)

    def fill(self, keys: Sequence[str], embed: Callable[[Sequence[int]], np.ndarray], *, batch: int) -> int:
        """Embed what is not there yet, batch by batch, each written when it is done; return how many were.

        Args:
            keys: Wanted.
            embed: Gives vectors (n, D) of the keys in these places.
            batch: Keys at once: what a kill can cost.
        """
        wanted: dict[str, int] = {}
        for place, key in enumerate(keys):
            if key not in self._places:
                wanted.setdefault(key, place)
        todo = list(wanted.values())
        for start in range(0, len(todo), batch):
            places = todo[start : start + batch]
            self._write([keys[place] for place in places], torch.from_numpy(embed(places)).to(self._dtype))
        return len(todo)

    def rows(self, keys: Sequence[str]) -> Iterator[Tensor]:
        """Yield the vectors (n, D) of keys, in their order, some thousands at a time."""
        for start in range(0, len(keys), _GATHERED):
            places = [self._places[key] for key in keys[start : start + _GATHERED]]
            yield torch.stack([self._tensors[number][row] for number, row in places])

    def remove(self) -> None:
        """Remove the folder of batches."""
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):  # another model's batches are there
            self._folder.parent.rmdir()

    def _write(self, keys: Sequence[str], vectors: Tensor) -> None:
        with open_whole(self._folder / f"{self._next:06}.safetensors") as file:
            file.write(save({"vectors": vectors}, metadata={"keys": json.dumps(keys)}))
        self._next += 1
        self.add(keys, vectors)


Pieces = tuple[torch.dtype, tuple[int, ...], Iterable[Tensor]]


def write_tensors(file: Path, tensors: dict[str, Pieces]) -> None:
    """Write a safetensors file whose tensors come in pieces, so that none is ever in memory as a whole.

    safetensors itself only writes tensors that are there. Its format: the header's length as eight bytes, little
    endian, the header as JSON, padded with spaces to a multiple of eight, the tensors one after another.

    Args:
        file: Where to; it appears whole or not at all.
        tensors: dtype, shape and pieces along the first axis, by name.

    Raises:
        ValueError: If pieces are more or fewer than the shape says.
    """
    header, end = {}, 0
    for name, (dtype, shape, _) in tensors.items():
        start, end = end, end + int(np.prod(shape)) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open_whole(file) as whole:
        whole.write(len(text).to_bytes(8, "little") + text)
        for name, (dtype, shape, pieces) in tensors.items():
            rows = 0
            for piece in pieces:
                whole.write(piece.to(dtype).contiguous().view(torch.uint8).numpy().data)
                rows += len(piece)
            if rows != shape[0]:
                raise ValueError(f"{name}: {rows} rows came, {shape[0]} were promised")


_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int8: "I8"}
