"""Search: a text, a sound or a clip in, ranked clips out. Exact; ties fall to the earlier row, so results never waver.

Everything here only reads the index, and may be called from several threads; the model may not.
"""

from __future__ import annotations

import unicodedata
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from retrieval.exact import top_rows
from retrieval.filters import Filters
from retrieval.index import Clip, Index

if TYPE_CHECKING:
    from training.models.clap import Clap

MAX_TEXT = 1_000
"""Characters of a query; models read the first 77 tokens or so."""
_ALL = Filters()
_INTERNAL = ("row", "manifest", "audio_path")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One clip found.

    Attributes:
        rank: From 1.
        score: Cosine similarity with the query, in [-1, 1].
        clip: The clip.
        audio: Its FLAC, absolute; "" where the file is gone.
    """

    rank: int
    score: float
    clip: Clip
    audio: str

    def as_dict(self) -> dict[str, Any]:
        """Return rank, score, the clip's values and audio, flat, as ``--json`` prints them."""
        clip = {name: value for name, value in asdict(self.clip).items() if name not in _INTERNAL}
        return {"rank": self.rank, "score": self.score, **clip, "audio": self.audio}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextHit:
    """One text found for a sound.

    Attributes:
        rank: From 1.
        score: Cosine similarity with the sound.
        text: As the model was trained on such texts: a caption, or title and description joined.
        count: How many clips have it.
        key: The first of them.
    """

    rank: int
    score: float
    text: str
    count: int
    key: str


def check_text(text: str) -> None:
    """Check that a query can be one.

    Raises:
        ValueError: If it is empty, too long, or no Unicode.
        TypeError: If it is no string.
    """
    if not isinstance(text, str):
        raise TypeError(f"the text must be a string, got {type(text).__name__}")
    if not text.strip():
        raise ValueError("the text is empty; write what the sound should be, such as: a door creaks open")
    if len(text) > MAX_TEXT:
        raise ValueError(
            f"the text has {len(text):,} characters, {MAX_TEXT:,} are allowed; "
            "say in a sentence what the sound should be"
        )
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ValueError("the text is not valid Unicode; is the terminal's encoding UTF-8?")


def embed_text(model: Clap, text: str) -> np.ndarray:
    """Return the unit vector (D,) of a query.

    Raises:
        ValueError: See ``check_text``.
    """
    check_text(text)
    vector: np.ndarray = model.embed_text([unicodedata.normalize("NFC", text)])[0]  # as curation.text leaves texts
    return vector


def embed_sound(model: Clap, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the unit vector (D,) of a waveform (S,) at a rate in Hz.

    Raises:
        AudioError: If it is empty, or holds NaN or infinite samples.
    """
    vector: np.ndarray = model.embed_audio([waveform], sample_rate=sample_rate)[0]
    return vector


def search_text(index: Index, model: Clap, text: str, *, top: int = 10, filters: Filters = _ALL) -> list[Hit]:
    """Return the clips that a text describes best.

    Raises:
        ValueError: If the text is empty.
    """
    return search_vector(index, embed_text(model, text), top=top, filters=filters)


def search_audio(index: Index, model: Clap, audio: Path, *, top: int = 10, filters: Filters = _ALL) -> list[Hit]:
    """Return the clips that sound most like an audio file of any format and rate.

    Raises:
        AudioError: If the file is not audio.
    """
    return search_vector(index, model.embed_audio([audio])[0], top=top, filters=filters)


def search_like(index: Index, key: str, *, top: int = 10, filters: Filters = _ALL) -> list[Hit]:
    """Return the clips that sound most like a clip of the index, itself left out.

    Raises:
        KeyError: If the index has no such clip.
    """
    row = index.row(key)
    if row is None:
        raise KeyError(key)
    return search_vector(index, index.vectors[row].float().numpy(), top=top, filters=filters, skip_row=row)


class Ranked(Protocol):
    """What ranks the rows of an index for queries (Q, D): ``exact.top_rows`` of it, or ``approximate.Cells.search``."""

    def __call__(
        self, queries: np.ndarray, *, top: int, mask: np.ndarray | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return rows and scores for each query, best first."""


def search_vector(
    index: Index,
    vector: np.ndarray,
    *,
    top: int = 10,
    filters: Filters = _ALL,
    skip_row: int | None = None,
    ranked: Ranked | None = None,
) -> list[Hit]:
    """Return the clips nearest to a unit vector (D,), best first; fewer where the filters leave fewer.

    Args:
        index: The index.
        vector: The query.
        top: How many.
        filters: Which clips may be found.
        skip_row: One that may not.
        ranked: Another way to rank than the exact one.

    Raises:
        ValueError: If the vector is of another width or holds NaN, or ``top`` is under 1.
    """
    query = _one(vector)
    ranked = ranked or partial(top_rows, index.vectors, codes=index.codes)
    mask = allowed_rows(index, filters, skip_row=skip_row)
    ((rows, scores),) = ranked(query, top=top, mask=mask)
    return hits_of(index, rows, scores)


def allowed_rows(index: Index, filters: Filters, *, skip_row: int | None) -> np.ndarray | None:
    """Return which rows may be found, (N,) bool; None: all."""
    mask = filters.mask(index)
    if skip_row is not None:
        mask = np.ones(len(index), bool) if mask is None else mask
        mask[skip_row] = False
    return mask


def hits_of(index: Index, rows: np.ndarray, scores: np.ndarray, *, first_rank: int = 1) -> list[Hit]:
    """Return ranked rows, and their scores, as hits."""
    return [
        Hit(rank=rank, score=_cosine(score), clip=clip, audio=str(index.audio_of(clip) or ""))
        for rank, (clip, score) in enumerate(zip(index.clips(rows.tolist()), scores, strict=True), start=first_rank)
    ]


def texts_for(index: Index, vector: np.ndarray, *, top: int = 5) -> list[TextHit]:
    """Return the texts of the index that fit a sound's unit vector (D,) best; none where no clip has a text.

    Raises:
        ValueError: As ``search_vector``.
    """
    if not len(index.text_vectors):
        return []
    ((places, scores),) = top_rows(index.text_vectors, _one(vector), top=top)
    texts = index.texts.take(places).to_pylist()
    clips = index.clips([text["row"] for text in texts])
    return [
        TextHit(rank=rank, score=_cosine(score), text=text["text"], count=text["clips"], key=clip.key)
        for rank, (text, clip, score) in enumerate(zip(texts, clips, scores, strict=True), start=1)
    ]


def _one(vector: np.ndarray) -> np.ndarray:
    """Return a vector (D,) as a query (1, D)."""
    query = np.atleast_2d(vector)
    if len(query) != 1:
        raise ValueError(f"the vector must be one, of shape (D,), got {query.shape}; search with each on its own")
    return query


def _cosine(score: float) -> float:
    """Return an inner product of unit vectors as their cosine: rounding may have carried it past 1."""
    return max(-1.0, min(1.0, float(score)))
