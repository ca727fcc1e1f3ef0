"""The folder that a build writes: who may write there, and in which order its files appear.

``.work/`` marks a folder as a build's own and holds its journal. A reader never meets a manifest whose audio is of
another build: before a FLAC is written again (``curation.clips``) the old manifest goes away; the new manifest takes
its name after all its audio and the two tables beside it; audio that no manifest names any more is removed last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from crawler.items import open_whole
from curation.clips import WORK_FOLDER
from curation.errors import ConfigError, WavTextError
from curation.manifest import DROPPED_FILE, MANIFEST_FILE

try:
    import fcntl
except ImportError:  # Windows: two builds at once in one folder are not noticed there
    fcntl = None  # type: ignore[assignment]

STATISTICS_FILE = "statistics.json"
_NOTE = "Finished work of wavtext5k-curate build, one file a clip. To start again, delete the folder above this one.\n"


@contextlib.contextmanager
def claim_folder(out: Path, *, raw: Path, overwrite: bool) -> Iterator[None]:
    """Make the folder a build's own, for this build alone while the block lasts.

    Raises:
        ConfigError: If it is the raw folder, or holds what something else made and overwrite is not set.
        WavTextError: If another build works in it now.
    """
    work = out / WORK_FOLDER
    if out.resolve() == raw.resolve():
        raise ConfigError(f"{out}: --out must be another folder than --raw")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: --out must be a folder")
    if not overwrite and out.is_dir() and any(out.iterdir()) and not work.is_dir():
        raise ConfigError(f"{out}: not made by wavtext5k-curate build; name another folder, or add --overwrite")
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise WavTextError(f"{out}: another build is at work in this folder; wait for it to end") from error
        (work / "README").write_text(_NOTE)
        yield


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

    Args:
        clips: clip_ids in the manifest.
        known: clip_ids of all records.
    """
    _remove(out / "audio", ".flac", clips)
    _remove(out / WORK_FOLDER, ".json", known)
    (out / WORK_FOLDER / DROPPED_FILE).unlink(missing_ok=True)


def _remove(folder: Path, suffix: str, keep: Collection[str]) -> None:
    for file in folder.glob(f"*{suffix}*"):
        if file.name.endswith(f"{suffix}.part") or (file.suffix == suffix and file.stem not in keep):
            file.unlink()


def _holds(file: Path, content: bytes) -> bool:
    return file.is_file() and file.stat().st_size == len(content) and file.read_bytes() == content
