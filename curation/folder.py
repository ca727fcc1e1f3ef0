"""The folder that a build writes: who may write there, and in which order its files appear.

``.work/`` holds the journal of a build, and its README marks the folder as a build's own: by what it says, since a
folder of that name may be anyone's. Only audio that a journal speaks of is ever removed. A reader never meets a
manifest whose audio is of another build: before a FLAC is written again (``curation.clips``) the old manifest goes
away; the new manifest takes its name after all its audio and the two tables beside it; audio that no manifest names
any more is removed last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from crawler.items import open_whole, take_lock
from curation.clips import WORK_FOLDER, read_journal
from curation.errors import ConfigError, WavTextError
from curation.manifest import DROPPED_FILE, MANIFEST_FILE
from curation.records import source_folders

STATISTICS_FILE = "statistics.json"
_MARK = "Finished work of wavtext5k-curate build, one file a clip."
_NOTE = f"{_MARK} To start again, delete the folder above this one.\n"


@contextlib.contextmanager
def claim_folder(out: Path, *, raw: Path, overwrite: bool) -> Iterator[None]:
    """Make the folder a build's own, for this build alone while the block lasts.

    Raises:
        ConfigError: If it is no place for a build, or holds what something else made and overwrite is not set.
        WavTextError: If another build works in it now.
    """
    check_place(out, raw=raw)
    work = out / WORK_FOLDER
    is_own = _is_own(out)
    if not overwrite and not is_own and not _is_empty(out):
        raise ConfigError(f"{out}: not made by wavtext5k-curate build; name another folder, or add --overwrite")
    work.mkdir(parents=True, exist_ok=True)
    try:
        lock = take_lock(work / "lock")
    except BlockingIOError as error:
        raise WavTextError(f"{out}: another build is at work in this folder; wait for it to end") from error
    with lock:
        if not is_own:
            with open_whole(work / "README", "w") as note:
                note.write(_NOTE)
        yield


def check_place(out: Path, *, raw: Path) -> None:
    """Refuse a place where a build and the raw records would get into each other's way, whatever is there.

    Raises:
        ConfigError: If out is a file, the raw folder, above it, or in the folder of one of its sources.
        ManifestError: If the raw folder holds no source.
    """
    place, above = out.resolve(), raw.resolve()
    if place == above:
        raise ConfigError(f"{out}: --out must be another folder than --raw")
    if place in above.parents:
        raise ConfigError(f"{out}: --out holds the raw records {raw}; name a folder beside them: {raw.parent}/curated")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: --out must be a folder")
    for source in source_folders(raw):
        if source.resolve() in (place, *place.parents):
            raise ConfigError(f"{out}: --out lies in the raw records {source}; name a folder of its own")


def retract_manifest(out: Path) -> None:
    """Take the manifest away, because audio that it names is about to change."""
    (out / MANIFEST_FILE).unlink(missing_ok=True)


def publish(out: Path, *, manifest: bytes, dropped: bytes, statistics: bytes) -> bool:
    """Write the three files of a build, or none; return whether anything was new.

    Raises:
        OSError: If there is no space; what stood there before still does.
    """
    contents = {MANIFEST_FILE: manifest, DROPPED_FILE: dropped, STATISTICS_FILE: statistics}
    if all(_holds(out / name, content) for name, content in contents.items()):
        return False
    with contextlib.ExitStack() as files:  # files get their names in the reverse order: the manifest is last
        for name, content in contents.items():
            files.enter_context(open_whole(out / name)).write(content)
    return True


def write_refused(out: Path, dropped: bytes) -> Path:
    """Write the drop table of a build that is not published, and return where."""
    file = out / WORK_FOLDER / DROPPED_FILE
    with open_whole(file) as whole:
        whole.write(dropped)
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


def _is_own(out: Path) -> bool:
    try:
        return (out / WORK_FOLDER / "README").read_bytes().startswith(_MARK.encode())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False


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
