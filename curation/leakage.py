"""Which clips of one set are in another: the same record, the same recording, the same sound, the same text.

Joins on ids first, since they are the surest and the cheapest, then on sound, then on text; reads manifests, or the
text of caption data sets alone, and decodes nothing. A title alone joins nothing: "Wind" is the title of many sounds.
Equal text is the weakest sign, as one text often serves a series of sounds, and yet what a test on captions must know:
404 of AudioCaps' 4,875 test captions stand word for word in its training set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from curation.entries import Collection
from curation.errors import ConfigError
from curation.manifest import FINGERPRINTS_FILE, manifest_folder, read_fingerprints, read_manifest

KINDS = {
    "same_clip": ("same clip_id", "clip"),
    "same_origin": ("same recording, by its id", "origin"),
    "same_sound": ("same samples", "sound"),
    "near_sound": ("near-same sound", "sound"),
    "same_text": ("same text", "text"),
    "same_words": ("same words", "text"),
}
"""How two clips can be found to be one, the surest first: what a table calls it, and the join that finds it."""

JOINS = ("clip", "origin", "sound", "text")
COLUMNS = ("clip_id", "origin", "origin_id", "pcm_sha256", "title", "description", "captions", "split")
"""What is read of a manifest."""

_MOST_PAIRS = 400
"""Pairs that are listed of one key: where 30 clips on each side share a text, each is listed with one other."""
_EXAMPLES = 3

_Rows = npt.NDArray[np.int64]
_Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two sets."""

    name: str
    clips: pa.Table
    """With COLUMNS; pcm_sha256 is "" where only text was read."""
    fingerprints: Mapping[str, bytes] | None = None
    """Of the sounds, by clip_id; None where there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakageReport:
    """What two sets have in common."""

    a: Side
    b: Side
    table: pd.DataFrame
    """One row a kind of KINDS that was looked for, and one "any": clips_a and clips_b that were found so, first_a and
    first_b that no kind above had found, texts_a and texts_b that are shared (NA where the kind is none of text)."""
    pairs: pd.DataFrame
    """One row a pair of clips, at its surest kind: kind, clip_a, clip_b, detail (id, text, score)."""
    notes: tuple[str, ...] = field(default=())
    """What was not looked for, or not listed, one sentence each."""

    @property
    def leaked_b(self) -> int:
        """Clips of B that are in A by any sign."""
        return int(self.table["clips_b"].iloc[-1])

    @property
    def share_of_b(self) -> float:
        """Clips of B that are in A by any sign, over clips of B; 0 where B is empty."""
        return self.leaked_b / len(self.b.clips) if len(self.b.clips) else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, a few examples and the notes, as JSON takes them."""
        rows = [
            {name: None if value is pd.NA else value for name, value in row.items()}
            for row in self.table.astype(object).to_dict("records")
        ]
        return {
            "a": {"name": self.a.name, "clips": len(self.a.clips), "texts": len(_texts(self.a)[0])},
            "b": {"name": self.b.name, "clips": len(self.b.clips), "texts": len(_texts(self.b)[0])},
            "found": rows,
            "share_of_b": self.share_of_b,
            "pairs": len(self.pairs),
            "examples": self.examples().to_dict("records"),
            "notes": list(self.notes),
        }

    def examples(self) -> pd.DataFrame:
        """Return the first pairs of each kind."""
        return self.pairs.groupby("kind", sort=False).head(_EXAMPLES)


def side_of_manifest(path: Path, *, split: str = "") -> Side:
    """Return a manifest, named by its folder or its file, or one split of it, with the fingerprints beside it.

    Raises:
        ManifestError: If there is none, or it breaks its contract.
        ConfigError: If it has no such split.
    """
    clips = _of_split(read_manifest(path).select(COLUMNS), split, str(path))
    has_prints = (manifest_folder(path) / FINGERPRINTS_FILE).is_file()
    prints = read_fingerprints(path) if has_prints else None
    if prints is not None:
        prints = {clip_id: prints[clip_id] for clip_id in clips["clip_id"].to_pylist() if clip_id in prints}
    return Side(name=_named(str(path), split), clips=clips, fingerprints=prints)


def side_of_collection(name: str, collection: Collection, *, split: str = "") -> Side:
    """Return the clips of a data set whose text alone is read, or one split of them.

    Raises:
        ConfigError: If it has no such split.
    """
    columns = {
        column: [getattr(entry, column) for entry in collection.entries]
        for column in COLUMNS
        if column not in ("pcm_sha256", "captions")
    }
    captions = pa.array([list(entry.captions) for entry in collection.entries], pa.list_(pa.string()))
    no_sound = [""] * len(collection.entries)
    values = {name: pa.array(columns.get(name, no_sound), pa.string()) for name in COLUMNS} | {"captions": captions}
    return Side(name=_named(name, split), clips=_of_split(pa.table(values), split, name))


def find_leakage(a: Side, b: Side, *, by: Sequence[str] = JOINS) -> LeakageReport:
    """Return which clips of A and B are one, by every sign that was asked for.

    Args:
        a: What is trained on, say; a million clips are no burden.
        b: What is tested on.
        by: Of JOINS.

    Raises:
        ValueError: If ``by`` names no join, or another one.
    """
    if not by or set(by) - set(JOINS):
        raise ValueError(f"by must be of {', '.join(JOINS)}, got {', '.join(by) or 'nothing'}")
    counts, pairs = [], []
    found_a, found_b = np.zeros(len(a.clips), bool), np.zeros(len(b.clips), bool)
    notes = list(_notes(a, b, by))
    cut = 0
    for kind, (_, join) in KINDS.items():
        if join not in by or not _can_look(kind, a, b):
            continue
        match = _near_sounds(a, b) if kind == "near_sound" else _equal_keys(kind, a, b)
        counts.append(_counted(kind, match, found_a, found_b))
        pairs.append(match.pairs.assign(kind=kind))
        cut += match.keys_cut
        found_a |= match.clips_a
        found_b |= match.clips_b
    leaked = {"clips_a": int(found_a.sum()), "clips_b": int(found_b.sum())}
    counts.append({"kind": "any"} | leaked | {"first_a": leaked["clips_a"], "first_b": leaked["clips_b"]})
    if cut:
        notes.append(f"{cut} ids or texts are shared by so many clips that not every pair of them is listed")
    return LeakageReport(a=a, b=b, table=_table(counts), pairs=_listed(pairs, a, b), notes=tuple(notes))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    """What one kind finds: which clips of either side, how many of their texts, and the pairs of rows."""

    clips_a: _Marks
    clips_b: _Marks
    texts_a: int | None = None
    texts_b: int | None = None
    pairs: pd.DataFrame
    """row_a, row_b, detail."""
    keys_cut: int = 0


def _can_look(kind: str, a: Side, b: Side) -> bool:
    if kind == "same_sound":
        return _has_sound(a) and _has_sound(b)
    return kind != "near_sound" or (a.fingerprints is not None and b.fingerprints is not None)


def _has_sound(side: Side) -> bool:
    return not len(side.clips) or bool(pc.any(pc.not_equal(side.clips["pcm_sha256"], "")).as_py())


def _notes(a: Side, b: Side, by: Sequence[str]) -> Iterator[str]:
    if len(a.clips) and a.clips["clip_id"].equals(b.clips["clip_id"]):
        yield "A and B hold the same clips, so every clip of B is in A; name two sets, or two splits of one"
    if "sound" not in by:
        return
    if silent := [side.name for side in (a, b) if not _has_sound(side)]:
        yield f"sound was not compared: of {' and '.join(silent)} there is text alone"
    elif bare := [side.name for side in (a, b) if side.fingerprints is None]:
        yield f"near-same sound was not looked for: no {FINGERPRINTS_FILE} beside {' and '.join(bare)}; build it again"


def _equal_keys(kind: str, a: Side, b: Side) -> _Match:
    """Return the clips that share a key of this kind."""
    (rows_a, keys_a), (rows_b, keys_b) = _keys(kind, a), _keys(kind, b)
    coded = pa.concat_arrays([keys_a, keys_b]).dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False)
    codes_a, codes_b = codes[: len(keys_a)], codes[len(keys_a) :]
    shared_a, shared_b = np.isin(codes_a, codes_b), np.isin(codes_b, codes_a)
    pairs, keys_cut = _pairs(rows_a[shared_a], codes_a[shared_a], rows_b[shared_b], codes_b[shared_b])
    is_text = KINDS[kind][1] == "text"
    says_more = (
        is_text or kind == "same_origin"
    )  # a clip_id stands in the pair already, and a hash tells nobody anything
    details = coded.dictionary.take(pa.array(pairs["key"].to_numpy(), pa.int64())).to_pylist() if says_more else ""
    return _Match(
        clips_a=_marks(rows_a[shared_a], len(a.clips)),
        clips_b=_marks(rows_b[shared_b], len(b.clips)),
        texts_a=int(shared_a.sum()) if is_text else None,
        texts_b=int(shared_b.sum()) if is_text else None,
        pairs=pairs[["row_a", "row_b"]].assign(detail=details),
        keys_cut=keys_cut,
    )


def _keys(kind: str, side: Side) -> tuple[_Rows, pa.Array]:
    """Return what clips of a side are known by, and each key's clip, as its row; empty keys join nothing."""
    clips = side.clips
    if kind in ("same_text", "same_words"):
        rows, keys = _texts(side)
        keys = _words(keys) if kind == "same_words" else keys
    else:
        rows = np.arange(len(clips))
        if kind == "same_origin":
            is_known = pc.and_(pc.not_equal(clips["origin"], ""), pc.not_equal(clips["origin_id"], ""))
            keys = pc.if_else(is_known, pc.binary_join_element_wise(clips["origin"], clips["origin_id"], " "), "")
        else:
            keys = clips["clip_id" if kind == "same_clip" else "pcm_sha256"]
    keys = _one_array(keys)
    is_key = pc.not_equal(keys, "").to_numpy(zero_copy_only=False)
    return rows[is_key], keys.filter(pa.array(is_key))


def _texts(side: Side) -> tuple[_Rows, pa.Array]:
    """Return every caption and every description of a side, with the row of its clip."""
    clips = side.clips
    described = np.flatnonzero(pc.not_equal(clips["description"], "").to_numpy())
    captions = clips["captions"]
    rows = np.concatenate([pc.list_parent_indices(captions).to_numpy().astype(np.int64), described])
    texts = [_one_array(pc.list_flatten(captions)), _one_array(clips["description"]).take(pa.array(described))]
    return rows, pa.concat_arrays(texts)


def _words(texts: pa.Array) -> pa.Array:
    """Return texts in lower case, letters and digits alone, one blank between words: "Don't!" is "dont"."""
    bare = pc.replace_substring_regex(pc.utf8_lower(texts), "['\u2019]", "")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(bare, r"[^\pL\pM\pN]+", " "))


def _one_array(values: Any) -> pa.Array:
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return pc.cast(values, pa.large_string())  # beside each other, texts may hold more than 2 GiB


def _pairs(rows_a: _Rows, codes_a: _Rows, rows_b: _Rows, codes_b: _Rows) -> tuple[pd.DataFrame, int]:
    """Return row_a, row_b and key of each pair that shares a key, and how many keys have more pairs than are listed."""
    left = pd.DataFrame({"key": codes_a, "row_a": rows_a}).drop_duplicates()
    right = pd.DataFrame({"key": codes_b, "row_b": rows_b}).drop_duplicates()
    counts = left["key"].value_counts() * right["key"].value_counts()
    large = counts.index[counts > _MOST_PAIRS]
    if not len(large):
        return left.merge(right, on="key"), 0
    of_large_a, of_large_b = left["key"].isin(large), right["key"].isin(large)
    parts = [
        left[~of_large_a].merge(right, on="key"),
        left[of_large_a].merge(right[of_large_b].drop_duplicates("key"), on="key"),
        left[of_large_a].drop_duplicates("key").merge(right[of_large_b], on="key"),
    ]
    return pd.concat(parts, ignore_index=True), len(large)


def _near_sounds(a: Side, b: Side) -> _Match:
    from curation.fingerprints import cross_near_same

    row_a, row_b = ({clip_id: row for row, clip_id in enumerate(side.clips["clip_id"].to_pylist())} for side in (a, b))
    found = [
        (row_a[pair.clip_id], row_b[pair.other_clip_id], f"score {pair.score:.2f}, {pair.detail}")
        for pair in cross_near_same(a.fingerprints or {}, b.fingerprints or {})
    ]
    pairs = pd.DataFrame(found, columns=["row_a", "row_b", "detail"]).astype({"row_a": "int64", "row_b": "int64"})
    return _Match(
        clips_a=_marks(pairs["row_a"].to_numpy(), len(a.clips)),
        clips_b=_marks(pairs["row_b"].to_numpy(), len(b.clips)),
        pairs=pairs,
    )


def _marks(rows: _Rows, number: int) -> _Marks:
    marks = np.zeros(number, bool)
    marks[rows] = True
    return marks


def _counted(kind: str, match: _Match, found_a: _Marks, found_b: _Marks) -> dict[str, Any]:
    return {
        "kind": kind,
        "clips_a": int(match.clips_a.sum()),
        "clips_b": int(match.clips_b.sum()),
        "first_a": int((match.clips_a & ~found_a).sum()),
        "first_b": int((match.clips_b & ~found_b).sum()),
        "texts_a": match.texts_a,
        "texts_b": match.texts_b,
    }


def _table(counts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    names = ["kind", "clips_a", "clips_b", "first_a", "first_b", "texts_a", "texts_b"]
    return pd.DataFrame(counts, columns=names).astype(dict.fromkeys(names[1:], "Int64"))


def _listed(pairs: Sequence[pd.DataFrame], a: Side, b: Side) -> pd.DataFrame:
    """Return each pair once, at its surest kind, in the order of the kinds, then of B's clips."""
    every = pd.concat(pairs, ignore_index=True).drop_duplicates(["row_a", "row_b"])
    every["order"] = every["kind"].map({kind: order for order, kind in enumerate(KINDS)})
    every = every.sort_values(["order", "row_b", "row_a"])
    ids_a, ids_b = (side.clips["clip_id"].to_numpy() for side in (a, b))
    columns = {
        "kind": every["kind"].to_numpy(),
        "clip_a": ids_a[every["row_a"].to_numpy()],
        "clip_b": ids_b[every["row_b"].to_numpy()],
        "detail": every["detail"].to_numpy(),
    }
    return pd.DataFrame(columns)


def _of_split(clips: pa.Table, split: str, name: str) -> pa.Table:
    if not split:
        return clips
    chosen = clips.filter(pc.equal(clips["split"], split))
    if not len(chosen):
        there = sorted(filter(None, pc.unique(clips["split"]).to_pylist()))
        raise ConfigError(f"{name}: no clip is in split {split!r}; it has {', '.join(there) or 'no splits'}")
    return chosen


def _named(name: str, split: str) -> str:
    return f"{name}, {split}" if split else name
