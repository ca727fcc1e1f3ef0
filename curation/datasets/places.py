"""Where the files of a data set lie: finds folders and sounds by name, and says what was found instead.

Sounds are looked up in one listing of their folder, never one by one: AudioCaps alone has 51,308. Nothing is opened.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from curation.errors import ManifestError
from curation.storage import is_local

AUDIO_SUFFIXES = (
    *(".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a", ".mp4", ".webm", ".aac", ".wma"),
    *(".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64"),
)
"""What counts as a sound by its name, preferred first where one clip has several files."""

_SHOWN = 12  # names in a message
_NOT_IN_A_NAME = re.compile("[/\\\\\0\ud800-\udfff]")  # the last are lone surrogates, which no manifest can hold


class Sounds:
    """The audio files in and under a folder, found by their names without suffix."""

    def __init__(self, files: Iterable[str], *, spelling: Callable[[str], str] = str) -> None:
        """Take paths relative to the folder, "/" only; ``spelling=str.lower`` where case does not tell names apart."""
        self._spelling = spelling
        self._files: defaultdict[str, list[str]] = defaultdict(list)
        for file in files:
            self._files[spelling(_stem(file))].append(file)

    def __len__(self) -> int:
        return sum(map(len, self._files.values()))

    def below(self, *folders: str) -> Sounds:
        """Return those that lie anywhere below a folder of one of these names."""
        files = (file for found in self._files.values() for file in found)
        return Sounds((file for file in files if set(file.split("/")[:-1]) & set(folders)), spelling=self._spelling)

    def find(self, *names: str) -> str:
        """Return the file of the first of these names, without suffix, that has one; "" if none has.

        Of several files of one name the one in the fewest folders is taken, then by AUDIO_SUFFIXES, then by path.
        """
        for name in names:
            if found := self._files.get(self._spelling(name)):
                return min(found, key=_rank)
        return ""


def sounds_under(folder: Path | None, *, spelling: Callable[[str], str] = str) -> Sounds:
    """Return the audio files in and under a folder, hidden ones left out; none for None.

    Links to folders are followed: large sets of audio often lie on another disk.
    """
    if folder is None:
        return Sounds([])
    if is_local(folder):
        return Sounds(_walk(folder, "", set()), spelling=spelling)
    paths = [path.relative_to(folder).as_posix() for path in folder.glob("**/*")]
    folders = {path.rpartition("/")[0] for path in paths}
    files = (path for path in paths if _is_sound(path) and path not in folders)
    return Sounds((file for file in files if not re.search(r"(?:^|/)\.", file)), spelling=spelling)


def names_in(folder: Path) -> list[str]:
    """Return what lies in a folder, by name, hidden files left out."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def wrong_layout(place: Path, missing: str, layout: str) -> ManifestError:
    """Return the error of a place that is not laid out as documented: what is missing, what is there, what should be.

    Args:
        place: The folder or file that the user named.
        missing: What was looked for, as a phrase: "no clotho_captions_development.csv".
        layout: The reader's LAYOUT.
    """
    if place.is_dir():
        names = names_in(place)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        there = f"; found there: {', '.join(names[:_SHOWN])}{more}" if names else "; the folder is empty"
    else:
        there = ""
    return ManifestError(f"{place}: {missing}{there}\nexpected:\n{layout.rstrip()}")


def title_of(file_name: str) -> str:
    """Return a file's name without the suffix of a sound, and whole without one: "Take 1.5" stays."""
    return _stem(file_name) if _is_sound(file_name) else file_name


def is_file_name(text: str) -> bool:
    """Return whether a text can name a file in a folder, and none outside of it."""
    return bool(text) and text not in (".", "..") and not _NOT_IN_A_NAME.search(text)


def _walk(folder: Path, prefix: str, seen: set[Path]) -> Iterator[str]:
    if (real := folder.resolve()) in seen:  # a link back up
        return
    seen.add(real)
    with os.scandir(folder) as found:
        there = sorted((item for item in found if not item.name.startswith(".")), key=lambda item: item.name)
    for item in there:
        if item.is_dir():
            yield from _walk(folder / item.name, f"{prefix}{item.name}/", seen)
        elif _is_sound(item.name):
            yield prefix + item.name


def _is_sound(path: str) -> bool:
    return path.lower().endswith(AUDIO_SUFFIXES)


def _stem(file: str) -> str:
    return file.rsplit("/", 1)[-1].rpartition(".")[0]


def _rank(file: str) -> tuple[int, int, str]:
    suffix = file[file.rindex(".") :].lower()
    return file.count("/"), AUDIO_SUFFIXES.index(suffix), file
