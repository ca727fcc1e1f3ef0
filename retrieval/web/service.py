"""What the page and the API both do: embed what is asked, rank the clips for it, and say what helps where it fails.

The model is not safe to call from several threads, so one call runs at a time, in a worker thread, in the order asked;
when too many wait, who comes next is told to come back (503) rather than joining a queue that only grows. Vectors of
texts and of uploaded sounds are kept, the latest used of them, and the names of those sounds' files; an uploaded sound
itself is not. Each upload has a token of its own, drawn at random: only who uploaded a file sees its name.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio
import anyio.to_thread
import numpy as np

from retrieval.exact import top_rows
from retrieval.filters import Filters
from retrieval.index import Clip, Index
from retrieval.search import Hit, TextHit, allowed_rows, embed_sound, embed_text, hits_of, texts_for
from retrieval.web.about import describe, script_notes
from retrieval.web.errors import Refused
from retrieval.web.forms import SearchForm

if TYPE_CHECKING:
    from retrieval.web.uploads import Sound
    from training.models.clap import Clap

MOST_WAITING = 32
"""Calls that wait for the model; at 30 ms a call the last of them waits a second."""
RANKING_THREADS = 2
MOST_RANKINGS_WAITING = 256
"""Of some milliseconds each."""
KEPT_TEXTS = 1024
KEPT_SOUNDS = 256
TOKEN_BYTES = 16
NUM_WORDS = 5

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")


class Latest(Generic[K, V]):
    """A store of the latest used values, no more than ``most`` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Return the value of a key, which is then the latest used, or None."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value, and let go of the one that was not used for longest."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._most:
                self._values.popitem(last=False)


class Queue:
    """Runs functions in worker threads, ``at_once`` of them, the rest in the order asked, ``most_waiting`` at most."""

    def __init__(self, *, at_once: int, most_waiting: int) -> None:
        self._limiter = anyio.CapacityLimiter(at_once)
        self._most = at_once + most_waiting
        self._num_here = 0  # running or waiting: the limiter counts who waits only once they do, a burst too late

    async def run(self, function: Callable[[], T]) -> T:
        """Return what a function returns.

        Raises:
            Refused: If too many wait already.
        """
        if self._num_here >= self._most:
            raise Refused(503, "Too many searches at once. Wait a few seconds and try again.")
        self._num_here += 1
        try:
            return await anyio.to_thread.run_sync(function, limiter=self._limiter)
        finally:
            self._num_here -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSound:
    """What is kept of an uploaded sound."""

    token: str
    name: str
    """Of its file, as the user's machine calls it."""
    duration_s: float
    vector: np.ndarray
    """(D,)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """A filter of a search that finds nothing."""

    name: str
    value: str | None
    """The one of a filter of several values; None: all of it."""
    without: int
    """Clips that the search would find without it."""
    alone: int
    """Clips that pass this filter and no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer to a SearchForm: one page of the ranked clips, or of all that pass the filters where nothing is asked.

    ``total`` counts the clips that pass the filters, all of which are ranked.
    """

    hits: list[Hit] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)
    """In the index's order, where there is nothing to rank by."""
    total: int = 0
    has_more: bool = False
    mute: frozenset[str] = frozenset()
    """Keys of the clips whose audio is gone."""
    clip: Clip | None = None
    """That others are like."""
    sound: StoredSound | None = None
    words: list[TextHit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    lifts: list[Lift] = field(default_factory=list)
    """Where nothing was found."""


class Service:
    """An index and its model, as many clients use them at once."""

    def __init__(self, index: Index, model: Clap) -> None:
        """Take both, and do once what the first search would have to wait for."""
        self.index, self._model = index, model
        self.sample_rate = model.sample_rate
        self.about = describe(index)
        embed_text(model, "a sound")
        self._calls = Queue(at_once=1, most_waiting=MOST_WAITING)
        self._rankings = Queue(at_once=RANKING_THREADS, most_waiting=MOST_RANKINGS_WAITING)
        self._texts: Latest[str, np.ndarray] = Latest(KEPT_TEXTS)
        self._sounds: Latest[str, StoredSound] = Latest(KEPT_SOUNDS)
        self._heard: Latest[str, np.ndarray] = Latest(KEPT_SOUNDS)  # by the SHA-256 of the file

    async def find(self, form: SearchForm) -> Found:
        """Return what a form without problems asks for.

        Raises:
            Refused: If it names a clip or an upload that is not there, or too many searches wait.
        """
        if form.like:
            return await self._rankings.run(lambda: self._found_like(form))
        if form.sound:
            sound = self.sound(form.sound)
            return await self._rankings.run(lambda: self._found_for(form, sound))
        if form.q:
            vector = await self._vector(form.q)
            notes = script_notes(form.q, self.about)
            return await self._rankings.run(lambda: self._found(form, vector, notes=notes))
        return await self._rankings.run(lambda: self._browsed(form))

    async def keep(self, sound: Sound) -> StoredSound:
        """Embed an uploaded sound, unless the same file was before, and keep its vector.

        Raises:
            Refused: If too many searches wait.
        """
        vector = self._heard.get(sound.sha256)
        if vector is None:
            vector = await self._calls.run(lambda: embed_sound(self._model, sound.waveform, sound.sample_rate))
        self._heard.put(sound.sha256, vector)
        token = secrets.token_hex(TOKEN_BYTES)
        stored = StoredSound(token=token, name=sound.name, duration_s=sound.duration_s, vector=vector)
        self._sounds.put(token, stored)
        return stored

    def sound(self, token: str) -> StoredSound:
        """Return an uploaded sound.

        Raises:
            Refused: If it is not kept, or not any more.
        """
        stored = self._sounds.get(token)
        if stored is None:
            raise Refused(
                404, f"That upload is not here any more: the latest {KEPT_SOUNDS} are kept. Upload the sound again."
            )
        return stored

    async def clip(self, key: str) -> tuple[Clip, bool]:
        """Return a clip, and whether its audio is gone.

        Raises:
            Refused: If there is none.
        """
        return await self._rankings.run(lambda: self._clip(key))

    async def run(self, function: Callable[[], T]) -> T:
        """Return what a function that only reads the index returns, run like a search."""
        return await self._rankings.run(function)

    async def _vector(self, text: str) -> np.ndarray:
        """Return the vector of a text, from the store where it was asked for before."""
        vector = self._texts.get(text)
        if vector is None:
            vector = await self._calls.run(lambda: self._embedded(text))
        return vector

    def _embedded(self, text: str) -> np.ndarray:
        vector = self._texts.get(text)  # who waited for the model may have waited for this very text
        if vector is None:
            vector = embed_text(self._model, text)
            self._texts.put(text, vector)
        return vector

    def _found_like(self, form: SearchForm) -> Found:
        clip, is_mute = self._clip(form.like)
        found = self._found(form, self.index.vectors[clip.row].float().numpy(), skip_row=clip.row)
        return replace(found, clip=clip, mute=found.mute | {clip.key} if is_mute else found.mute)

    def _found_for(self, form: SearchForm, sound: StoredSound) -> Found:
        words = texts_for(self.index, sound.vector, top=NUM_WORDS)
        return replace(self._found(form, sound.vector), sound=sound, words=words)

    def _found(
        self, form: SearchForm, vector: np.ndarray, *, skip_row: int | None = None, notes: Sequence[str] = ()
    ) -> Found:
        """Return one page of the clips nearest to a vector (D,)."""
        mask = allowed_rows(self.index, form.filters, skip_row=skip_row)
        total = len(self.index) if mask is None else int(mask.sum())
        hits = self._page_of_hits(form, vector, mask)
        return Found(
            hits=hits,
            total=total,
            has_more=form.has_page_after(total),
            mute=frozenset(hit.clip.key for hit in hits if not hit.audio),
            notes=list(notes),
            changed=self.index.changed(),
            lifts=self._lifts(form) if not total else [],
        )

    def _page_of_hits(self, form: SearchForm, vector: np.ndarray, mask: np.ndarray | None) -> list[Hit]:
        """Return what ``search_vector`` would, but look up the clips of this page alone."""
        last = form.page * form.top
        index = self.index
        ((rows, scores),) = top_rows(index.vectors, vector[None], top=last, codes=index.codes, mask=mask)
        here = slice(last - form.top, last)
        return hits_of(index, rows[here], scores[here], first_rank=here.start + 1)

    def _browsed(self, form: SearchForm) -> Found:
        """Return one page of the clips that pass the filters."""
        mask = form.filters.mask(self.index)
        rows = np.arange(len(self.index)) if mask is None else np.flatnonzero(mask)
        clips = self.index.clips(rows[(form.page - 1) * form.top : form.page * form.top].tolist())
        return Found(
            clips=clips,
            total=len(rows),
            has_more=form.has_page_after(len(rows)),
            mute=frozenset(clip.key for clip in clips if self.index.audio_of(clip) is None),
            changed=self.index.changed(),
            lifts=self._lifts(form) if not len(rows) else [],
        )

    def _clip(self, key: str) -> tuple[Clip, bool]:
        row = self.index.row(key)
        if row is None:
            raise Refused(404, "There is no such clip in this index. It may have been made again without it.")
        (clip,) = self.index.clips([row])
        return clip, self.index.audio_of(clip) is None

    def _lifts(self, form: SearchForm) -> list[Lift]:
        """Return for each filter what the search would find without it, and what it alone leaves."""
        lifts = []
        for name, value in form.set_filters():
            without = self._count(form.without(name, value).filters)
            alone = self._count(form.only(name, value).filters)
            lifts.append(Lift(name=name, value=value, without=without, alone=alone))
        return lifts

    def _count(self, filters: Filters) -> int:
        mask = filters.mask(self.index)
        return len(self.index) if mask is None else int(mask.sum())
