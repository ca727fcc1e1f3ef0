"""The folder that an export writes: whose it is, what is finished in it, and in which order its files appear.

``export.json`` is written last and names every file with its sha256: without it an export is not whole. Until then
``.export/`` holds the ledger of what is finished, so that an export that was killed goes on where it stopped, and, on
this machine, the shards themselves: a reader that does not look for export.json never meets half of them. An object
store cannot rename; there shards appear one by one under their own names.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from crawler.items import open_whole, take_lock
from curation.errors import ConfigError, WavTextError
from curation.exports.shards import Shard
from curation.manifest import manifest_folder
from curation.storage import (
    is_local,
    local_copy,
    make_folder,
    put_whole,
    resolved,
    sha256_of,
    version_of,
    write_whole,
)

INDEX_FILE = "export.json"
README_FILE = "README.md"
WORK_FOLDER = ".export"
MADE_BY = "wavtext5k-curate export"

_LEDGER = "unfinished.json"
_FACTS = {"format", "clips", "left_out", "hours", "splits", "licenses", "non_commercial", "not_redistributable"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file of an export."""

    sha256: str
    bytes: int


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What an export that is under way has finished, and what it takes the place of."""

    inputs: Mapping[str, Any]
    """All that decides what comes out; another value begins anew."""
    plan: str
    """Hash of the shards: their names and rows."""
    files: dict[str, Written] = field(default_factory=dict)
    """Finished files by name."""
    scaled: dict[str, str] = field(default_factory=dict)
    """By clip_id, how the rows of finished shards say that the export scaled a clip; ATTRIBUTION.txt says it too."""
    earlier: list[str] = field(default_factory=list)
    """Names of files that earlier exports left."""
    readmes: list[str] = field(default_factory=list)
    """sha256 of each README.md that this command has written or is about to: another one is someone's own."""


def check_place(out: Path, manifest: Path) -> None:
    """Refuse a place that cannot be an export's, whatever is there.

    Raises:
        ConfigError: If it is no folder, or the manifest's.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: --out must be a folder")
    if resolved(out) == resolved(manifest_folder(manifest)):
        raise ConfigError(f"{out}: --out must be another folder than the manifest's")


@contextlib.contextmanager
def claim_export(out: Path, *, overwrite: bool) -> Iterator[None]:
    """Make the folder an export's own, for this one alone while the block lasts; an object store has no locks.

    Raises:
        ConfigError: If it holds what something else made and overwrite is not set.
        WavTextError: If another export works in it now.
    """
    if not overwrite and not _is_own(out) and not _is_empty(out):
        raise ConfigError(f"{out}: not made by {MADE_BY}; name another folder, or add --overwrite")
    work = out / WORK_FOLDER
    if _read_json(work / _LEDGER) is None and not _holds_nothing(work):
        raise ConfigError(f"{work}: not of this command, which needs that name; move it away")
    make_folder(work)
    with contextlib.ExitStack() as stack:
        if is_local(out):
            try:
                stack.enter_context(take_lock(work / "lock"))
            except BlockingIOError as error:
                raise WavTextError(f"{out}: another export is at work in this folder; wait for it to end") from error
        yield


def read_index(out: Path) -> dict[str, Any] | None:
    """Return export.json, or None if there is none of this command."""
    index = _read_json(out / INDEX_FILE)
    return index if index is not None and index.keys() >= _FACTS else None


def is_up_to_date(out: Path, index: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    """Return whether an export of these inputs is there, each file of its size (README.md is the user's to edit)."""
    return bool(index["inputs"] == inputs) and all(
        _size(out / name) == file["bytes"] for name, file in index["files"].items() if name != README_FILE
    )


def open_ledger(out: Path, inputs: Mapping[str, Any], shards: Sequence[Shard]) -> Ledger:
    """Return the ledger of an export that was stopped, if it had the same inputs and shards, else a new one."""
    plan = hashlib.sha256(repr([(shard.name, list(shard.rows)) for shard in shards]).encode()).hexdigest()
    ledger = Ledger(inputs=inputs, plan=plan)
    stopped = _read_json(out / WORK_FOLDER / _LEDGER)
    for found in filter(None, [read_index(out), stopped]):
        ledger.earlier += [*found.get("earlier", []), *found["files"]]
        ledger.readmes += found.get("readmes", [])
        ledger.readmes += [file["sha256"] for name, file in found["files"].items() if name == README_FILE]
    if stopped is not None and stopped["inputs"] == inputs and stopped.get("plan") == plan:
        names = {shard.name for shard in shards}
        ledger.files = {name: Written(**file) for name, file in stopped["files"].items() if name in names}
        ledger.scaled = dict(stopped.get("scaled", {}))
    if is_local(out):
        _discard_halves(out / WORK_FOLDER, ledger)
    _keep(out, ledger)
    return ledger


def _discard_halves(work: Path, ledger: Ledger) -> None:
    """Remove staged files that are not finished, or of another plan: whole folders get their names at once."""
    kept = {*ledger.files, "lock", _LEDGER}
    for file in work.rglob("*"):
        if file.is_file() and file.relative_to(work).as_posix() not in kept:
            file.unlink()


def discard_work(out: Path) -> None:
    """Remove the ledger and what is beside it, when all is in its place."""
    if is_local(out):
        shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)
    else:
        (out / WORK_FOLDER / _LEDGER).unlink(missing_ok=True)


def is_finished(out: Path, ledger: Ledger, name: str) -> bool:
    """Return whether a file is written already: staged, or in its place by an export that was stopped in the end."""
    file = ledger.files.get(name)
    if file is None:
        return False
    if is_local(out) and _size(out / name) == file.bytes and sha256_of(out / name) == file.sha256:
        return True
    return _size(_staged(out, name)) == file.bytes


def write_file(out: Path, ledger: Ledger, name: str, fill: Callable[[IO[bytes]], None]) -> None:
    """Write one file, whole or not at all, and note it.

    Args:
        out: The export's folder.
        ledger: Gets a line more.
        name: Relative to the folder.
        fill: Writes its content.

    Raises:
        OSError: If the disk is full; names the file.
        StorageError: If the store does not take it.
    """
    place = _staged(out, name)
    if is_local(out):
        with open_whole(place) as file:
            fill(file)
        ledger.files[name] = Written(sha256=sha256_of(place), bytes=place.stat().st_size)
    else:
        _retract(out)
        with tempfile.TemporaryDirectory(prefix="wavtext5k-") as folder:
            local = Path(folder) / "shard"
            with open_whole(local) as file:
                fill(file)
            ledger.files[name] = Written(sha256=sha256_of(local), bytes=local.stat().st_size)
            put_whole(place, local)
    _keep(out, ledger)


def publish(out: Path, ledger: Ledger, *, readme: bytes, index: Mapping[str, Any]) -> bool:
    """Give every file its name, export.json last, and remove what earlier exports left and this one has not.

    Returns:
        Whether README.md was written: one that someone edited stays as it is.
    """
    _retract(out)
    for name in sorted(set(ledger.earlier) - {README_FILE}):
        if name not in ledger.files or (is_local(out) and _staged(out, name).is_file()):
            (out / name).unlink(missing_ok=True)
    if is_local(out):
        _put_in_place(out, ledger.files)
    written = Written(sha256=hashlib.sha256(readme).hexdigest(), bytes=len(readme))
    ledger.readmes.append(written.sha256)
    writes_readme = not (out / README_FILE).is_file() or sha256_of(out / README_FILE) in ledger.readmes
    if writes_readme:
        _keep(out, ledger)
        write_whole(out / README_FILE, readme)
        ledger.files[README_FILE] = written
    files = {name: asdict(ledger.files[name]) for name in sorted(ledger.files)}
    content = {"made_by": MADE_BY, **index, "inputs": ledger.inputs, "files": files}
    write_whole(out / INDEX_FILE, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())
    discard_work(out)
    return writes_readme


def _put_in_place(out: Path, names: Iterable[str]) -> None:
    """Give staged files their names: a whole folder at once, unless there is one that holds something else."""
    for folder in {name.partition("/")[0] for name in names if "/" in name}:
        if (staged := out / WORK_FOLDER / folder).is_dir():
            with contextlib.suppress(OSError):
                (out / folder).rmdir()  # the export before has left it empty
            if not (out / folder).exists():
                staged.rename(out / folder)
    for name in names:
        if (staged := _staged(out, name)).is_file():
            put_whole(out / name, staged)


def refuse_strangers(out: Path, ledger: Ledger, patterns: Mapping[str, str]) -> None:
    """Refuse shards of someone else where a reader would take them for a part of this export.

    Args:
        out: The export's folder.
        ledger: Knows what this command wrote.
        patterns: Of file names, by folder.

    Raises:
        ConfigError: If there are any; names the first.
    """
    for folder, pattern in patterns.items():
        for file in sorted((out / folder).glob(pattern)):
            if f"{folder}/{file.name}" not in {*ledger.earlier, *ledger.files}:
                raise ConfigError(f"{file}: not of this export, but its readers would take it for a part; move it away")


def _retract(out: Path) -> None:
    """Take export.json away, because files that it names are about to change; the ledger has their names."""
    (out / INDEX_FILE).unlink(missing_ok=True)


def _keep(out: Path, ledger: Ledger) -> None:
    content = json.dumps({"made_by": MADE_BY, **asdict(ledger)}, ensure_ascii=False)
    write_whole(out / WORK_FOLDER / _LEDGER, content.encode())


def _staged(out: Path, name: str) -> Path:
    return out / WORK_FOLDER / name if is_local(out) else out / name


def _is_own(out: Path) -> bool:
    return read_index(out) is not None or _read_json(out / WORK_FOLDER / _LEDGER) is not None


def _is_empty(out: Path) -> bool:
    return not out.is_dir() or {file.name for file in out.iterdir()} <= {WORK_FOLDER}


def _holds_nothing(work: Path) -> bool:
    """Whether there is no more than an export leaves that is killed before its first ledger, or after its last file."""
    files = {file.name for file in work.rglob("*") if file.is_file()} if work.is_dir() else set()
    return files <= {"lock", f"{_LEDGER}.part"}


def _read_json(file: Path) -> dict[str, Any] | None:
    try:
        with local_copy(file) as local:  # which tells a store that does not answer from a file that is not there
            found = json.loads(local.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("made_by") == MADE_BY and _is_sound(found) else None


def _is_sound(found: Mapping[str, Any]) -> bool:
    """Whether names lead into the folder: files that they name are removed, and the index may be a download."""
    try:
        names = [*found["files"], *found.get("earlier", [])]
        all(Written(**file) for file in found["files"].values())
        dict(found.get("scaled", {}))
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    return isinstance(found.get("inputs"), dict) and not any(
        part in ("", ".", "..") or "\\" in part or ":" in part for name in names for part in name.split("/")
    )


def _size(file: Path) -> int:
    try:
        return int(version_of(file)[0])
    except (FileNotFoundError, NotADirectoryError):
        return -1
