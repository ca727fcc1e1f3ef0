"""What a layout answers with, and what all layouts share: the shelf of clips and the faults of audio."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
import zlib
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import soundfile

from demo.catalogue import Clip

CONTENT_TYPES = {
    "wav": "audio/x-wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "aiff": "audio/x-aiff",
}
HTML = "text/html; charset=UTF-8"
OTHER = "other"
"""Where an index from A to Z has the titles that begin with none of its letters."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One response, before the server adds what is its own."""

    status: int = 200
    body: bytes | Path = b""
    """Bytes, or the file that holds them."""
    content_type: str = HTML
    location: str = ""
    """Where a redirect leads, quoted."""
    headers: tuple[tuple[str, str], ...] = ()
    """Name and value of each header that is this answer's own."""
    clip: Clip | None = None
    """The clip that was asked for, if one was: its fault may be that the site is busy at first."""
    is_audio: bool = False


class Layout(Protocol):
    """A site's addresses: each layout module has this function."""

    def __call__(self, shelf: Shelf, path: str, query: dict[str, str]) -> Answer:
        """Return what the site answers for a path (unquoted, starting with "/") and its query."""


class Shelf:
    """The clips of a catalogue by id, newest (highest id) first, by tag and by letter; with the site's own rules."""

    def __init__(
        self, clips: Iterable[Clip], audio: Path, *, robots: str | None = None, tdmrep: str | None = None
    ) -> None:
        self.newest = sorted(clips, key=lambda clip: -clip.id)
        self.by_id = {clip.id: clip for clip in self.newest}
        self.audio = audio
        self.robots = robots
        self.tdmrep = tdmrep
        self._seconds: dict[str, int | None] = {}
        self.by_tag: dict[str, list[Clip]] = {}
        self.by_letter: dict[str, list[Clip]] = {}
        for clip in sorted(self.newest, key=lambda clip: (_letter(clip) == OTHER, _letter(clip))):
            self.by_letter.setdefault(_letter(clip), []).append(clip)
        for clip in self.newest:
            for tag in dict.fromkeys(clip.tags):
                self.by_tag.setdefault(tag, []).append(clip)

    def others(self, clip: Clip, count: int) -> list[Clip]:
        """Return some other clips, always the same ones for one clip: a page's "related" sounds."""
        start = clip.id * 7
        around = (self.newest[(start + step) % len(self.newest)] for step in range(min(count + 1, len(self.newest))))
        return [other for other in around if other.id != clip.id][:count]

    def size(self, clip: Clip, kind: str) -> int:
        """Return the bytes of one file of a clip."""
        return (self.audio / clip.files[kind]).stat().st_size

    def seconds(self, clip: Clip) -> int | None:
        """Return the length of a clip's first file to the second, None if that file is not audio."""
        file = next(iter(clip.files.values()))
        if file not in self._seconds:  # opening the file takes as long as the rest of a page
            try:
                self._seconds[file] = round(float(soundfile.info(self.audio / file).duration))
            except soundfile.LibsndfileError:
                self._seconds[file] = None
        return self._seconds[file]

    def replaced(self, clip: Clip) -> Shelf:
        """Return a shelf with this clip in the place of the one that has its id."""
        clips = (clip if other.id == clip.id else other for other in self.newest)
        return Shelf(clips, self.audio, robots=self.robots, tdmrep=self.tdmrep)

    def search(self, words: str) -> list[Clip]:
        """Return the clips whose title, description or tags hold the words, ignoring case."""
        needle = words.casefold()
        return [
            clip
            for clip in self.newest
            if needle and any(needle in text.casefold() for text in (clip.title, clip.description, *clip.tags))
        ]


def _letter(clip: Clip) -> str:
    """Return the first letter of a title, without its accent and in lower case."""
    first = unicodedata.normalize("NFKD", clip.title.strip())[:1].lower()
    return first if first.isascii() and first.isalpha() else OTHER


def small_page(text: str) -> str:
    """Return a page of one heading."""
    return (
        f"<!DOCTYPE html>\n<html><head><title>{escape(text)}</title></head><body><h1>{escape(text)}</h1></body></html>"
    )


def page(text: str, *, status: int = 200, content_type: str = HTML) -> Answer:
    """Return a page, or other text, as an answer."""
    return Answer(status=status, body=text.encode(), content_type=content_type)


def clip_page(text: str, clip: Clip) -> Answer:
    """Return the page of a clip, with the header that its fault may add."""
    headers = (("tdm-reservation", "1"),) if clip.fault == "tdm_reserved" else ()
    return Answer(body=text.encode(), clip=clip, headers=headers)


def clip_meta(clip: Clip) -> str:
    """Return what its fault may add to the head of a clip's page, "" for most clips."""
    return '<meta name="tdm-reservation" content="1">\n' if clip.fault == "tdm_reserved_meta" else ""


def site_rules(shelf: Shelf, path: str, robots: str) -> Answer | None:
    """Return robots.txt, by default the layout's own text, or tdmrep.json; None for any other path."""
    if path == "/robots.txt":
        return page(robots if shelf.robots is None else shelf.robots, content_type="text/plain; charset=UTF-8")
    if path == "/.well-known/tdmrep.json" and shelf.tdmrep is not None:
        return page(shelf.tdmrep, content_type="application/json")
    return None


def redirect(path: str, *, status: int = 302, clip: Clip | None = None, is_audio: bool = False) -> Answer:
    """Return a redirect to a path of this site, given unquoted."""
    return Answer(status=status, location=quote(path), clip=clip, is_audio=is_audio)


def not_found(what: str) -> Answer:
    """Return a 404 with a small page."""
    return page(small_page(what), status=404)


def audio(shelf: Shelf, clip: Clip, kind: str) -> Answer:
    """Return one file of a clip, or what its fault puts in the file's place."""
    if clip.fault == "dead" or kind not in clip.files:
        return dataclasses.replace(not_found("This file is gone"), clip=clip, is_audio=True)
    if clip.fault == "html":
        return dataclasses.replace(page(small_page("Please wait")), clip=clip, is_audio=True)
    body = b"" if clip.fault == "empty" else shelf.audio / clip.files[kind]
    content_type = CONTENT_TYPES.get(kind, "application/octet-stream")
    return Answer(body=body, content_type=content_type, clip=clip, is_audio=True)


def description(clip: Clip) -> str:
    """Return the description that the page shows."""
    return "" if clip.fault == "no_description" else clip.description


def invented(clip: Clip, low: int, high: int) -> int:
    """Return a number for what a page counts (downloads, a file's number): any, but always the same for a clip."""
    return low + zlib.crc32(f"{clip.id}:{low}".encode()) % (high - low)


def hyphenate(text: str) -> str:
    """Return text as both sites put it into an address: a hyphen for each sign that is not a letter or a digit."""
    return re.sub(r"[^\w]", "-", text)
