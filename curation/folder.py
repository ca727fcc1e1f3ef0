"""The folder that a build writes: who may write there, and in which order its files appear.

``.work/`` holds the journal of a build, and its README marks the folder as a build's own: by what it says, since a
folder of that name may be anyone's. Only audio that a journal speaks of is ever removed. A reader never meets a
manifest whose audio is of another build: before a FLAC is written again (``curation.clips``) the old manifest goes
away; the new manifest takes its name after all its audio and the two tables beside it; audio that no manifest names
any more is removed last.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from crawler.items import open_whole, take_lock
from curation.clips import WORK_FOLDER
from curation.errors import ConfigError, WavTextError
from curation.journal import read_journal
from curation.manifest import DROPPED_FILE, MANIFEST_FILE
from curation.storage import is_local, make_folder, resolved, write_whole

_MARK = "Made by wavtext5k-curate "
_NOTE = "Finished work, one file a clip. To start again, delete the folder above this one.\n"


@contextlib.contextmanager
def claim_folder(out: Path, *, made_by: str, overwrite: bool) -> Iterator[None]:
    """Make the folder a build's own, for this build alone while the block lasts.

    In an object store there are no locks: there, one build at a time in a folder is the user's to keep. (Two that meet
    write the same bytes under the same names, but each may take the other's half-done work away.)

    Args:
        out: The folder.
        made_by: The command that fills it, "build" or "import clotho": another one would replace all that is there.
        overwrite: Also if something else made it.

    Raises:
        ConfigError: If it holds what something else made and overwrite is not set.
        WavTextError: If another build works in it now.
    """
    work = out / WORK_FOLDER
    maker = _maker(out)
    if not overwrite and maker != made_by and (maker or not _is_empty(out)):
        found = f"made by wavtext5k-curate {maker}, " if maker else ""
        raise ConfigError(
            f"{out}: {found}not made by wavtext5k-curate {made_by}; name another folder, or add --overwrite"
        )
    make_folder(work)
    with contextlib.ExitStack() as stack:
        if is_local(out):
            try:
                stack.enter_context(take_lock(work / "lock"))
            except BlockingIOError as error:
                raise WavTextError(f"{out}: another build is at work in this folder; wait for it to end") from error
        if maker != made_by:
            write_whole(work / "README", f"{_MARK}{made_by}\n{_NOTE}".encode())
        yield


def check_place(out: Path, *, source: Path, called: str = "--raw", parts: Sequence[Path] = ()) -> None:
    """Refuse a place where a build and what it reads would get into each other's way, whatever is there.

    Args:
        out: The manifest's folder.
        source: What is read, and how the command line calls it.
        parts: Folders under it that hold records.

    Raises:
        ConfigError: If out is a file, the source, above it, or in one of its parts.
    """
    place, above = resolved(out), resolved(source)
    if place == above:
        raise ConfigError(f"{out}: --out must be another folder than {called}")
    if place in above.parents:
        raise ConfigError(
            f"{out}: --out holds {source}, which is read; name a folder beside it: {source.parent}/curated"
        )
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: --out must be a folder")
    for part in parts:
        if resolved(part) in (place, *place.parents):
            raise ConfigError(f"{out}: --out lies in {part}, which is read; name a folder of its own")


def retract_manifest(out: Path) -> None:
    """Take the manifest away, because audio that it names is about to change."""
    (out / MANIFEST_FILE).unlink(missing_ok=True)


def publish(out: Path, contents: Mapping[str, bytes]) -> bool:
    """Write the tables of a build, the manifest last, or none; return whether anything was new.

    Raises:
        OSError: If there is no space; what stood there before still does.
    """
    if all(_holds(out / name, content) for name, content in contents.items()):
        return False
    ordered = sorted(contents, key=lambda name: name == MANIFEST_FILE)
    if not is_local(out):  # each file appears whole; readers look for the manifest, which is away until the last
        retract_manifest(out)
        for name in ordered:
            write_whole(out / name, contents[name])
        return True
    if hasattr(os, "sync"):
        os.sync()  # the audio, before a table names it; once, since file by file it takes longer than the encoding
    with contextlib.ExitStack() as files:  # files get their names in the reverse order, once all are on the disk
        for name in reversed(ordered):
            files.enter_context(open_whole(out / name)).write(contents[name])
    return True


def write_refused(out: Path, dropped: bytes) -> Path:
    """Write the drop table of a build that is not published, and return where."""
    file = out / WORK_FOLDER / DROPPED_FILE
    write_whole(file, dropped)
    return file


def tidy(out: Path, *, clips: Collection[str], known: Collection[str]) -> None:
    """Remove audio of clips that the manifest does not name, journals of unknown clips, and half-written files.

    Only what builds wrote: audio that a journal speaks of, files that are a journal, halves of known clips.

    Args:
        clips: clip_ids in the manifest.
        known: clip_ids of all records.
    """
    work = out / WORK_FOLDER
    for folder, suffix in ((out / "audio", ".flac"), (work, ".json")):
        for file in folder.glob(f"*{suffix}.part"):
            clip_id = file.name.removesuffix(f"{suffix}.part")
            if clip_id in known or _has_journal(work, clip_id):
                file.unlink()
    for file in (out / "audio").glob("*.flac"):
        if file.stem not in clips and _has_journal(work, file.stem):
            file.unlink()
    for file in work.glob("*.json"):
        if file.stem not in known and _has_journal(work, file.stem):
            file.unlink()
    (work / DROPPED_FILE).unlink(missing_ok=True)


def _has_journal(work: Path, clip_id: str) -> bool:
    return read_journal(work / f"{clip_id}.json") is not None


def _maker(out: Path) -> str:
    """Return which command made a folder; "" if none of ours did."""
    try:
        note = (out / WORK_FOLDER / "README").read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""
    first, _, _ = note.partition(b"\n")
    return first.removeprefix(_MARK.encode()).decode("utf-8", "replace") if first.startswith(_MARK.encode()) else ""


def _is_empty(out: Path) -> bool:
    """Whether there is nothing, or no more than a build leaves that is killed before it has marked its folder."""
    if not out.is_dir():
        return True
    work = out / WORK_FOLDER
    if {path.name for path in out.iterdir()} - {WORK_FOLDER}:
        return False
    return not work.exists() or (work.is_dir() and {path.name for path in work.iterdir()} <= {"lock", "README.part"})


def _holds(file: Path, content: bytes) -> bool:
    return file.is_file() and file.stat().st_size == len(content) and file.read_bytes() == content
