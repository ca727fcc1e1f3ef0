"""Approximate search with faiss, for indexes so large that reading all of them takes too long.

    faiss-<key>.index     cells (an inverted file) of vectors in 8 bits

An approximate search may miss clips that belong. How often is measured when it is made: queries are the index's own
text vectors (or, without texts, its clips), the answer that they are compared with is the exact one.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crawler.items import open_whole
from retrieval.exact import top_rows
from retrieval.index import Index
from retrieval.layout import IndexFolderError

FEWEST = 1_000
"""Clips below which there is nothing to approximate."""
_TRAINED = 40
"""Vectors a cell that k-means sees, as faiss advises (39 at least)."""
_ADDED = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """How much of the exact answer an approximate search finds, and how long both take."""

    probes: int
    """Cells searched of each query."""
    recall_at_10: float
    """Share of the ten best clips that are among the ten found, over all queries."""
    exact_ms: float
    """A query, the median."""
    approximate_ms: float


def faiss_file(index: Index) -> Path:
    """Return the file of an index's cells."""
    return index.folder / f"faiss-{index.info.key}.index"


def make_cells(index: Index, *, cells: int | None = None, seed: int = 0) -> tuple[Cells, bool]:
    """Return an index's cells, and whether they had to be made: not where they are there, whole and as many.

    Args:
        index: The index.
        cells: How many; None: those that are there, else four times the square root of the number of clips.
        seed: Of the k-means.

    Raises:
        IndexFolderError: If faiss is not installed, or the index is too small for it, or for so many cells.
    """
    faiss = _faiss()
    if len(index) < FEWEST:
        raise IndexFolderError(
            f"{index.folder}: {len(index)} clips; below {FEWEST:,} exact search is all there is to want"
        )
    file = faiss_file(index)
    if cells is not None and cells > len(index):
        raise IndexFolderError(f"{index.folder}: {cells:,} cells for {len(index):,} clips; ask for fewer")
    with suppress(IndexFolderError):  # none yet, or damaged
        if (there := Cells(index)).num == cells or cells is None:
            return there, False
    cells = cells or max(int(4 * len(index) ** 0.5), 1)
    dim = index.info.embed_dim
    coarse = faiss.IndexFlatIP(dim)
    inverted = faiss.IndexIVFScalarQuantizer(
        coarse, dim, cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    inverted.cp.seed = seed
    few = np.sort(np.random.default_rng(seed).choice(len(index), min(len(index), _TRAINED * cells), replace=False))
    inverted.train(index.vectors[few].float().numpy())
    for start in range(0, len(index), _ADDED):
        inverted.add(index.vectors[start : start + _ADDED].float().numpy())
    with open_whole(file) as whole:
        whole.write(faiss.serialize_index(inverted).data)
    return Cells(index), True


class Cells:
    """An index's cells, open for search."""

    def __init__(self, index: Index) -> None:
        """Open the cells.

        Raises:
            IndexFolderError: If there are none, they are damaged, or faiss is not installed.
        """
        faiss, file = _faiss(), faiss_file(index)
        if not file.is_file():
            raise IndexFolderError(
                f"{index.folder}: no approximate index; make it with: wavtext5k-search approximate {index.folder}"
            )
        try:
            self._cells: Any = faiss.read_index(str(file), faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise _unusable(index, "damaged") from error
        if (self._cells.ntotal, self._cells.d) != tuple(index.vectors.shape):
            raise _unusable(index, "of another index")
        self.num = int(self._cells.nlist)
        self._index = index

    def search(
        self, queries: np.ndarray, *, top: int, probes: int, mask: np.ndarray | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each query (Q, D) rows and scores as ``exact.top_rows``, of the cells nearest to it alone.

        What the cells give is scored again from the vectors, so scores are exact, and only the choice may miss some.

        Args:
            queries: (Q, D).
            top: How many rows; fewer come back where the cells searched hold fewer.
            probes: Cells searched.
            mask: (N,) bool, the rows that may be found; None: all.
        """
        faiss = _faiss()
        parameters = faiss.SearchParametersIVF(nprobe=min(probes, self.num))
        if mask is not None:
            bits = np.packbits(mask, bitorder="little")
            parameters.sel = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        wanted = np.ascontiguousarray(queries, dtype=np.float32)
        _, near = self._cells.search(wanted, min(4 * top, len(self._index)), params=parameters)
        found = []
        for query, rows in zip(wanted, near, strict=True):
            rows = np.sort(rows[rows >= 0])
            ((places, scores),) = top_rows(self._index.vectors[rows], query[None], top=top)
            found.append((rows[places], scores))
        return found

    def recall(self, *, probes: int, queries: int = 200, seed: int = 0) -> Recall:
        """Return how much of the exact answer is found, over some of the index's texts (or clips) as queries."""
        index = self._index
        pool = index.text_vectors if len(index.text_vectors) else index.vectors
        some = np.sort(np.random.default_rng(seed).choice(len(pool), min(queries, len(pool)), replace=False))
        hits, exact_ms, approximate_ms = 0, [], []
        for row in some:
            query = pool[int(row)].float().numpy()[None]
            began = time.perf_counter()
            ((exact, _),) = top_rows(index.vectors, query, top=10, codes=index.codes)
            between = time.perf_counter()
            ((found, _),) = self.search(query, top=10, probes=probes)
            exact_ms.append(1000 * (between - began))
            approximate_ms.append(1000 * (time.perf_counter() - between))
            hits += len(np.intersect1d(exact, found))
        return Recall(
            probes=probes,
            recall_at_10=hits / (10 * len(some)),
            exact_ms=float(np.median(exact_ms)),
            approximate_ms=float(np.median(approximate_ms)),
        )


def _unusable(index: Index, reason: str) -> IndexFolderError:
    return IndexFolderError(
        f"{faiss_file(index)}: {reason}; make it again: wavtext5k-search approximate {index.folder}"
    )


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise IndexFolderError('approximate search needs the faiss extra: pip install -e ".[faiss]"') from error
    return faiss
