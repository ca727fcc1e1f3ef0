"""Exact search: every clip is compared with the query, and ties fall to the earlier row, so results never waver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrieval.index import Index

if TYPE_CHECKING:
    from training.models.clap import Clap


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One clip found.

    Attributes:
        score: Cosine similarity with the query, in [-1, 1].
        audio: The clip's FLAC, absolute.
    """

    rank: int
    clip_id: str
    title: str
    description: str
    score: float
    duration_s: float
    audio: str
    license: str
    attribution: str


def top_rows(embeddings: np.ndarray, query: np.ndarray, *, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows nearest to a query and their cosine similarities, best first, ties to the lower row.

    Args:
        embeddings: Unit vectors (N, D).
        query: A unit vector (D,).
        top: How many; all N where there are fewer.

    Raises:
        ValueError: If the shapes do not fit, ``top`` is under 1, or the query holds NaN.
    """
    if query.shape != embeddings.shape[1:]:
        raise ValueError(f"query must be of shape {embeddings.shape[1:]}, got {query.shape}")
    if top < 1:
        raise ValueError(f"top must be 1 or more, got {top}")
    if not np.isfinite(query).all():
        raise ValueError("query holds NaN or infinity")
    scores = embeddings @ query.astype(embeddings.dtype)
    top = min(top, len(scores))
    if top < len(scores):
        floor = np.partition(scores, len(scores) - top)[len(scores) - top]
        rows = np.flatnonzero(scores >= floor)  # every tie at the edge takes part, so that the lower row wins it
    else:
        rows = np.arange(len(scores))
    rows = rows[np.argsort(-scores[rows], kind="stable")][:top]
    return rows, scores[rows]


def search_text(index: Index, model: Clap, text: str, *, top: int = 10) -> list[Hit]:
    """Return the clips that a text describes best.

    Raises:
        ValueError: If the text is empty.
    """
    if not text.strip():
        raise ValueError("the query is empty; write what the sound should be, such as: a door creaks open")
    return _hits(index, np.asarray(model.embed_text([text]))[0], top=top)


def search_audio(index: Index, model: Clap, audio: Path, *, top: int = 10) -> list[Hit]:
    """Return the clips that sound most like an audio file of any format and rate.

    Raises:
        AudioError: If the file is not audio.
    """
    return _hits(index, np.asarray(model.embed_audio([audio]))[0], top=top)


def _hits(index: Index, query: np.ndarray, *, top: int) -> list[Hit]:
    rows, scores = top_rows(index.embeddings, query, top=top)
    found = index.clips.take(rows).to_pylist()
    return [
        Hit(
            rank=rank,
            clip_id=clip["clip_id"],
            title=clip["title"],
            description=clip["description"],
            score=float(score),
            duration_s=clip["duration_s"],
            audio=str(Path(index.info.manifest) / clip["audio_path"]),
            license=clip["license"],
            attribution=clip["attribution"],
        )
        for rank, (clip, score) in enumerate(zip(found, scores, strict=True), start=1)
    ]
