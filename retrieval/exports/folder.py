"""The folder that an export is written to: whose it is, and the order in which its files appear.

Everything is written and checked in ``.part/`` inside the folder, on the same disk, and moved up when all of it is
there, ``config.json`` last: nothing opens an export without it, and its key "wavtext5k" says that the folder is an
export of ours and which files belong to it. An earlier export's are removed first, its ``config.json`` before the
others, so files of two exports never lie together as one. Killed at any moment, the folder is the old export, the new
one, or none; run again, it is made anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from crawler.items import open_whole, take_lock
from curation.errors import WavTextError

CONFIG_FILE = "config.json"
MARK = "wavtext5k"
"""Key in config.json; the same as in transformers folders that ``wavtext5k-train convert`` writes."""
_PART = ".part"
_LOCK = "lock"
_MOVING = "moving.json"
"""In ``.part/`` while files take their place: whose they are, should it be killed there."""


class ExportError(WavTextError):
    """An export that cannot be made, or not there."""


def check_place(out: Path, *, model: Path, overwrite: bool) -> None:
    """Refuse a folder that is not an export's to fill, before anything is computed.

    Args:
        out: The folder; made later if it is missing.
        model: The model's folder, which is read.
        overwrite: Also take a folder that holds something else.

    Raises:
        ExportError: If it is a file, the model's own folder or one around it, or holds something else.
    """
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out}: is a file; name a folder with --out")
    place, source = out.resolve(), model.resolve()
    if place == source or place in source.parents:
        raise ExportError(f"{out}: holds the model that is read; name another folder with --out")
    if overwrite or not out.is_dir() or _ours(out):
        return
    if foreign := sorted(path.name for path in out.iterdir() if path.name != _PART):
        raise ExportError(
            f"{out}: holds {foreign[0]!r} and is no earlier export; name another folder, or add --overwrite, which "
            "leaves files of other names in place"
        )


@contextmanager
def new_export(out: Path) -> Iterator[Path]:
    """Give an empty folder to write an export into, whose files take their place in ``out`` at the end of the block.

    If the block raises, ``out`` is as it was before.

    Raises:
        ExportError: If another export is being written there.
        OSError: As the file system says.
    """
    was_there = out.is_dir()
    part = out / _PART
    part.mkdir(parents=True, exist_ok=True)
    try:
        lock = take_lock(part / _LOCK)
    except BlockingIOError as error:
        raise ExportError(f"{out}: another export is being written there; wait for it to end") from error
    inside = part / "files"
    try:
        shutil.rmtree(inside, ignore_errors=True)  # of one that was killed
        inside.mkdir()
        yield inside
        _publish(inside, out)
    finally:
        shutil.rmtree(inside if (part / _MOVING).exists() else part, ignore_errors=True)
        lock.close()
        if not was_there:
            with suppress(OSError):  # it is not empty: the export is there
                out.rmdir()


def add_to_config(folder: Path, values: dict[str, Any]) -> None:
    """Say more about an export in its config.json, and name its files there.

    Args:
        folder: What ``new_export`` gave; all other files are written.
        values: What stands under the key of ours.
    """
    file = folder / CONFIG_FILE
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    config[MARK] = config.get(MARK, {}) | values | {"files": sorted({CONFIG_FILE, *_names_in(folder)})}
    with open_whole(file, "w") as whole:
        whole.write(json.dumps(config, ensure_ascii=False, indent=2) + "\n")


def files_in(folder: Path) -> list[Path]:
    """Return all files in a folder and in those inside it."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _publish(inside: Path, out: Path) -> None:
    """Move all files of a finished export to their place, those of an earlier one making way."""
    names, moving = _names_in(inside), out / _PART / _MOVING
    earlier = _ours(out)
    with open_whole(moving, "w") as whole:
        json.dump(sorted({*earlier, *names}), whole)
    _remove(out, [CONFIG_FILE, *earlier])
    for name in sorted(names, key=lambda name: (name == CONFIG_FILE, name)):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (inside / name).replace(out / name)
    moving.unlink()


def _remove(out: Path, names: list[str]) -> None:
    for name in names:
        file = out / name
        file.unlink(missing_ok=True)
        if file.parent != out:
            with suppress(OSError):  # something else lies there too
                file.parent.rmdir()


def _ours(out: Path) -> list[str]:
    """Return which files in a folder are of an earlier export, or of one that was killed while it took its place."""
    names: list[str] = []
    for file, key in ((out / CONFIG_FILE, MARK), (out / _PART / _MOVING, None)):
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            names += map(str, found if key is None else found[key]["files"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return [name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]


def _names_in(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in files_in(folder)]
