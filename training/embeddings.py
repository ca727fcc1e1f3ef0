"""Embeddings in a file, of any model: what ``wavtext5k-evaluate --embeddings`` scores and ``--save-embeddings`` writes.

One npz file, as ``numpy.savez(file, text=..., audio=..., owner=...)`` makes it:

    text      (K, D)  float16, float32 or float64   one row a caption
    audio     (N, D)  likewise                      one row a clip
    owner     (K,)    whole numbers                 row of audio that each caption describes
    clip_ids  (N,)    strings, optional             names the clips: for a hash of the list, and to choose among them
    captions  (K,)    strings, optional             the texts, for people

A clip that no caption describes is a candidate only; other arrays in the file are left alone. The zip is opened here
and not by ``numpy.load``, which would also take a pickle or a bare array for embeddings: nothing in a file is ever run.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crawler.items import open_whole
from curation.errors import ConfigError

FLOATS = (np.float16, np.float32, np.float64)
_NEEDED = ("text", "audio", "owner")
_UNIT = 1e-3
"""Lengths this close to 1 are 1: rows of unit length, stored as float16, are off by less."""
_ROWS = 4096
"""Divided at once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embeddings:
    """Captions and clips in one space, and which caption describes which clip."""

    text: npt.NDArray[np.float32]
    """(K, D)."""
    audio: npt.NDArray[np.float32]
    """(N, D)."""
    owner: npt.NDArray[np.int64]
    """(K,): row of audio that each caption describes."""
    clip_ids: tuple[str, ...] = ()
    """(N,), or empty where the clips have no names."""
    captions: tuple[str, ...] = ()
    """(K,), or empty where the texts are not known."""

    @property
    def is_unit(self) -> bool:
        """Whether every row has length 1, so that dot products are cosines."""
        return all(np.abs(_lengths(rows) - 1).max() <= _UNIT for rows in (self.text, self.audio))

    def normalised(self) -> Embeddings:
        """Return them with rows of length 1; as they are where they have it already, to the last bit.

        Raises:
            ConfigError: If a row has no length.
        """
        if self.is_unit:
            return self
        for name, rows in (("text", self.text), ("audio", self.audio)):
            if (lengths := _lengths(rows)).min() == 0:
                raise ConfigError(f"{name} row {lengths.argmin()} is all zeros, so it has no cosine with anything")
        return replace(self, text=_divided(self.text), audio=_divided(self.audio))

    def named(self, clip_ids: Sequence[str]) -> Embeddings:
        """Return them with names (N,) for the clips."""
        return replace(self, clip_ids=tuple(clip_ids))

    def of_clips(self, clip_ids: Sequence[str]) -> Embeddings:
        """Return those of some clips, in the order given; a clip's captions keep their order.

        Raises:
            ConfigError: If the clips have no names, one is not here, or no caption is left.
        """
        if not self.clip_ids:
            raise ConfigError("the embeddings hold no clip_ids, so no clips can be chosen among them")
        row_of = {clip_id: row for row, clip_id in enumerate(self.clip_ids)}
        if missing := [clip_id for clip_id in clip_ids if clip_id not in row_of]:
            raise ConfigError(
                f"{len(missing)} of {len(clip_ids)} clips have no embedding, the first is {missing[0]!r} "
                f"(the embeddings begin with {self.clip_ids[0]!r})"
            )
        rows = np.array([row_of[clip_id] for clip_id in clip_ids], dtype=np.int64)
        place_of = np.full(len(self.audio), -1)
        place_of[rows] = np.arange(len(rows))
        owner = place_of[self.owner]
        captions = np.argsort(owner, kind="stable")[(owner < 0).sum() :]
        if not len(captions):
            raise ConfigError("no caption describes any of the clips that were chosen")
        return Embeddings(
            text=self.text[captions],
            audio=self.audio[rows],
            owner=owner[captions],
            clip_ids=tuple(clip_ids),
            captions=tuple(self.captions[caption] for caption in captions) if self.captions else (),
        )


def save_embeddings(file: Path, embeddings: Embeddings) -> None:
    """Write embeddings, whole or not at all; the same ones give the same bytes.

    Raises:
        ConfigError: If something that is no embeddings stands under the name.
    """
    check_place(file)
    arrays: dict[str, npt.NDArray[Any]] = {name: getattr(embeddings, name) for name in _NEEDED}
    for name in ("clip_ids", "captions"):
        if texts := getattr(embeddings, name):
            arrays[name] = np.array(texts, dtype=np.str_)
    with open_whole(file) as whole, zipfile.ZipFile(whole, "w") as archive:
        for name, array in arrays.items():
            # Not numpy.savez, which writes the time of day into the file.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def check_place(file: Path) -> None:
    """Refuse to overwrite what is no file of embeddings; before the work, not after it.

    Raises:
        ConfigError: If something else stands there.
    """
    if file.is_dir():
        raise ConfigError(f"{file}: a folder; name the file to write, such as {file / 'embeddings.npz'}")
    if file.exists():
        try:
            read_embeddings(file)
        except ConfigError as error:
            raise ConfigError(f"{file}: is there already, and holds no embeddings; choose another name") from error


def read_embeddings(file: Path) -> Embeddings:
    """Return the embeddings in a file, checked, as float32; their rows have the lengths they have in the file.

    Raises:
        ConfigError: If the file is none of the module's docstring: no zip or a cut one, an array missing, of another
            shape or type, NaN or infinite, an owner that is no clip, a clip_id that comes twice.
        OSError: If it cannot be opened.
    """
    arrays = _arrays(file)
    if missing := [name for name in _NEEDED if name not in arrays]:
        raise ConfigError(
            f"{file}: holds no array {missing[0]!r} (it has {', '.join(sorted(arrays)) or 'none'}); "
            "write numpy.savez(file, text=..., audio=..., owner=...)"
        )
    text, audio = (_matrix(file, name, arrays[name]) for name in ("text", "audio"))
    if text.shape[1] != audio.shape[1]:
        raise ConfigError(f"{file}: text is {text.shape} and audio is {audio.shape}; the last sizes must be equal")
    return Embeddings(
        text=text,
        audio=audio,
        owner=_owner(file, arrays["owner"], num_captions=len(text), num_clips=len(audio)),
        clip_ids=_texts(file, "clip_ids", arrays, len(audio), must_differ=True),
        captions=_texts(file, "captions", arrays, len(text)),
    )


def _arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an npz file that are ours, by name; reads no pickle."""
    names = {f"{name}.npy": name for name in (*_NEEDED, "clip_ids", "captions")}
    found, member = {}, ""
    with file.open("rb") as opened:
        try:
            with zipfile.ZipFile(opened) as archive:
                for member in archive.namelist():
                    if member in names:
                        with archive.open(member) as content:
                            found[names[member]] = np.lib.format.read_array(content, allow_pickle=False)
        except Exception as error:  # a damaged zip raises BadZipFile, zlib.error, EOFError, struct.error, OSError, ...
            raise ConfigError(f"{file}: {_reason(error, member)}") from error
    return found


def _reason(error: Exception, member: str) -> str:
    """Return why a file, or an array in it, could not be read."""
    if not member:
        return "not an npz file, or a cut one; write it with numpy.savez(file, text=..., audio=..., owner=...)"
    if "allow_pickle" in str(error):
        return (
            f"{member} holds Python objects (a pickle), which is not read; "
            "strings go in as numpy.array(texts, dtype=str), numbers as one array of floats"
        )
    if isinstance(error, MemoryError):
        return f"{member} is larger than the memory, or says so"
    return f"{member} cannot be read, it is damaged or cut: {(str(error) or type(error).__name__).splitlines()[0]}"


def _matrix(file: Path, name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if array.ndim != 2 or 0 in array.shape:
        raise ConfigError(f"{file}: {name} has shape {array.shape}, must be rows of one size, one row at least")
    if array.dtype.type not in FLOATS:
        raise ConfigError(f"{file}: {name} holds {array.dtype}, must be float16, float32 or float64")
    with np.errstate(over="ignore"):
        rows = array.astype(np.float32, copy=False)
    is_finite = np.isfinite(rows).all(axis=1)
    if not is_finite.all():
        raise ConfigError(
            f"{file}: {name} has NaN, infinite or too large values (beyond float32) in {(~is_finite).sum()} of "
            f"{len(rows)} rows, the first is {is_finite.argmin()}"
        )
    return rows


def _owner(file: Path, array: npt.NDArray[Any], *, num_captions: int, num_clips: int) -> npt.NDArray[np.int64]:
    if array.shape != (num_captions,):
        raise ConfigError(f"{file}: owner has shape {array.shape}, must be ({num_captions},): one clip for each text")
    if not np.issubdtype(array.dtype, np.integer):
        raise ConfigError(f"{file}: owner holds {array.dtype}, must be whole numbers")
    if array.min() < 0 or array.max() >= num_clips:
        raise ConfigError(
            f"{file}: owner goes from {array.min()} to {array.max()}, must lie in 0 to {num_clips - 1}: rows of audio"
        )
    return array.astype(np.int64)


def _texts(
    file: Path, name: str, arrays: dict[str, npt.NDArray[Any]], number: int, *, must_differ: bool = False
) -> tuple[str, ...]:
    if name not in arrays:
        return ()
    array = arrays[name]
    if array.shape != (number,) or array.dtype.kind != "U":
        raise ConfigError(
            f"{file}: {name} holds {array.dtype} of shape {array.shape}, "
            f"must be {number} strings: numpy.array(texts, dtype=str)"
        )
    texts = tuple(array.tolist())
    if broken := [text for text in texts if any("\ud800" <= character <= "\udfff" for character in text)]:
        raise ConfigError(f"{file}: {name} holds {ascii(broken[0])[:80]}, which is no Unicode text")
    if must_differ and len(set(texts)) < number:
        twice = Counter(texts).most_common(1)[0][0]
        raise ConfigError(f"{file}: {name} has {twice!r} more than once; each clip has one row")
    return texts


def _lengths(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the L2 norm of each row; in float64, where squares of float32 values do not overflow."""
    squares: npt.NDArray[np.float64] = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
    return np.sqrt(squares)


def _divided(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return rows of length 1; block by block, as float64 takes twice the room."""
    divided, lengths = np.empty_like(rows), _lengths(rows)
    for start in range(0, len(rows), _ROWS):
        block = slice(start, start + _ROWS)
        divided[block] = rows[block] / lengths[block, None]
    return divided
