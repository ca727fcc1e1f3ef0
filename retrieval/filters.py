"""Which clips a search may find: by tag, source, licence, split and duration."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.index import Index


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a clip must have to be found; nothing given: every clip is.

    Attributes:
        tags: All of these, whatever their case.
        sources: One of these.
        licenses: One of these.
        splits: One of these.
        min_s: At least this long, in seconds.
        max_s: At most.

    Raises:
        TypeError: If one string is given instead of several, or something that is no string.
        ValueError: If a duration is negative, NaN, or the shortest above the longest; if a string is no Unicode.
    """

    tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    min_s: float | None = None
    max_s: float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("tags", "sources", "licenses", "splits"):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a tuple of strings, got one string: ({getattr(self, name)!r},)")
            for value in getattr(self, name):
                if not isinstance(value, str):
                    raise TypeError(f"{name} must be strings, got {value!r}")
                if any("\ud800" <= sign <= "\udfff" for sign in value):
                    raise ValueError(f"{name}: {value!r} is not valid Unicode")
        for name in ("min_s", "max_s"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must be 0 or more seconds, got {value}")
        if self.min_s is not None and self.max_s is not None and self.min_s > self.max_s:
            raise ValueError(f"min_s={self.min_s:g} is above max_s={self.max_s:g}: no clip can be both")

    def mask(self, index: Index) -> np.ndarray | None:
        """Return which of an index's rows are left, (N,) bool; None where nothing is asked."""
        masks = [_has_tag(index, tag) for tag in dict.fromkeys(map(clean_tag, self.tags))]
        for column, values in (("source", self.sources), ("license", self.licenses), ("split", self.splits)):
            if values:
                masks.append(_numpy(pc.is_in(index.column(column), pa.array(values, pa.string()))))
        if self.min_s is not None:
            masks.append(_numpy(pc.greater_equal(index.column("duration_s"), float(self.min_s))))
        if self.max_s is not None:
            masks.append(_numpy(pc.less_equal(index.column("duration_s"), float(self.max_s))))
        return np.logical_and.reduce(masks) if masks else None


def clean_tag(tag: str) -> str:
    """Return a tag as manifests spell it."""
    return unicodedata.normalize("NFC", tag.strip().lower())


def _has_tag(index: Index, tag: str) -> np.ndarray:
    tags = index.column("tags")
    rows = pc.list_parent_indices(tags).filter(pc.equal(pc.list_flatten(tags), tag))
    mask = np.zeros(len(index), bool)
    mask[rows.to_numpy()] = True
    return mask


def _numpy(values: pa.ChunkedArray) -> np.ndarray:
    mask: np.ndarray = values.to_numpy()
    return mask
