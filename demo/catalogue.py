"""What the stand-in site serves: a catalogue of clips, read from and written to JSON Lines.

One clip a line. It is checked as a whole before the site listens, so that a mistake in line 812 is a message with
that number in it and not a missing page later. ``audio`` is one file, or a map from kind (wav, mp3, flac, ...) to
file; the kind decides the address and the Content-Type, the bytes go out as they are, so ``{"wav": "song.mp3"}``
is a way to serve an MP3 under a WAV's name.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from crawler.items import open_whole
from curation.errors import WavTextError

FAULTS = ("dead", "html", "empty", "no_description", "busy", "tdm_reserved", "tdm_reserved_meta")
"""What can be wrong with a clip: audio answers 404; a page comes instead of audio; audio of 0 bytes; the page has no
description; page and audio each answer 503 once, then well. The last two are no mistakes but what a crawler has to
obey all the same: a text and data mining reservation in the page's header, or in a meta element of the page."""


class CatalogueError(WavTextError):
    """A catalogue that cannot be served; the message names the file and the line, or the clip."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One sound of the catalogue, as its page shall show it."""

    id: int
    title: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    author: str = ""
    license: str = ""
    """As the page prints it: "Attribution 3.0", "Public Domain", ..."""
    audio: str | Mapping[str, str]
    """A file in the audio folder ("/" in its path), or one for each kind."""
    fault: str | None = None
    """One of FAULTS."""

    def __post_init__(self) -> None:
        if not isinstance(self.id, int) or isinstance(self.id, bool) or self.id < 1:
            raise CatalogueError(f"id must be a whole number, 1 or more, got {self.id!r}")
        for name in ("title", "description", "author", "license"):
            if not isinstance(getattr(self, name), str):
                raise CatalogueError(f"{name} must be a string, got {getattr(self, name)!r}")
        if not isinstance(self.tags, tuple) or not all(isinstance(tag, str) for tag in self.tags):
            raise CatalogueError(f"tags must be strings, got {self.tags!r}")
        for text in (self.title, self.description, self.author, self.license, *self.tags):
            if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
                raise CatalogueError(f"{text!r} is not Unicode text: half of a surrogate pair")
        if self.fault is not None and self.fault not in FAULTS:
            raise CatalogueError(f"fault {self.fault!r} is not one of {', '.join(FAULTS)}")
        if not isinstance(self.audio, (str, Mapping)) or not self.files:
            raise CatalogueError(f"audio must name a file, or a file for each kind, got {self.audio!r}")
        for file in self.files.values():
            if not isinstance(file, str) or not file or PurePosixPath(file).is_absolute() or ".." in file.split("/"):
                raise CatalogueError(f"audio {file!r} must be a file inside the audio folder")

    @property
    def files(self) -> dict[str, str]:
        """The file of each kind; the kind of a single file is its extension in lower case."""
        if isinstance(self.audio, str):
            return {PurePosixPath(self.audio).suffix[1:].lower() or "bin": self.audio}
        return dict(self.audio)


_KEYS = tuple(field.name for field in dataclasses.fields(Clip))


def read_catalogue(path: Path) -> list[Clip]:
    """Return the clips of a catalogue file, in its order.

    Raises:
        CatalogueError: If the file cannot be read, or a line is not a clip; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CatalogueError(f"{path}: no such file; make one with: python -m demo.sounds --out FOLDER") from error
    except OSError as error:
        raise CatalogueError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CatalogueError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    clips: list[Clip] = []
    line_of: dict[int, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            clip = _parse(line)
        except CatalogueError as error:
            raise CatalogueError(f"{path}: line {number}: {error}") from error
        if clip.id in line_of:
            raise CatalogueError(f"{path}: line {number}: id {clip.id} is already that of line {line_of[clip.id]}")
        line_of[clip.id] = number
        clips.append(clip)
    return clips


def write_catalogue(path: Path, clips: Iterable[Clip]) -> None:
    """Write clips as a catalogue file, whole or not at all."""
    with open_whole(path, "w") as file:
        for clip in clips:
            audio = clip.audio if isinstance(clip.audio, str) else dict(clip.audio)
            values = {name: getattr(clip, name) for name in _KEYS} | {"tags": list(clip.tags), "audio": audio}
            file.write(json.dumps(values, ensure_ascii=False) + "\n")


def check_catalogue(clips: Iterable[Clip], audio: Path) -> None:
    """Check what a catalogue needs from outside itself: one clip an id, and every audio file in the folder.

    Raises:
        CatalogueError: For the first clip that is wrong.
    """
    if not audio.is_dir():
        raise CatalogueError(f"{audio}: no such folder of audio files")
    seen: set[int] = set()
    for clip in clips:
        if clip.id in seen:
            raise CatalogueError(f"id {clip.id} ({clip.title!r}) is in the catalogue twice")
        seen.add(clip.id)
        for file in clip.files.values():
            if not (audio / file).is_file():
                raise CatalogueError(f"id {clip.id} ({clip.title!r}): audio file {file!r} is not in {audio}")


def _parse(line: str) -> Clip:
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CatalogueError(f"not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CatalogueError(f"must be a JSON object, got {type(values).__name__}")
    for key in values.keys() - set(_KEYS):
        near = difflib.get_close_matches(key, _KEYS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_KEYS)}"
        raise CatalogueError(f"unknown key {key!r}; {hint}")
    if missing := [key for key in ("id", "audio") if key not in values]:
        raise CatalogueError(f"missing: {', '.join(missing)}")
    if isinstance(values.get("tags"), list):
        values["tags"] = tuple(values["tags"])
    return Clip(**values)
