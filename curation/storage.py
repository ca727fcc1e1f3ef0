"""Folders on this machine or in an object store: the few things that differ between the two.

A local folder is a ``pathlib.Path``; ``s3://bucket/folder`` (or another protocol that fsspec knows) a
``upath.UPath``, which has the same methods. The functions here stand in for those methods that would mislead:

- ``UPath(...)`` alone remembers listings, and so never sees what another process writes: make paths with ``place``.
- ``mkdir`` makes a missing bucket: use ``make_folder``. Folders exist in a store only as parts of names.
- ``open("wb")`` stores what was written until an error came, as if it were whole: use ``write_whole``, ``put_whole``.
- A store that does not answer raises errors of its own: here they are a StorageError. It must end a run: taken for an
  OSError about one file, it would drop every clip that is left.

Where the store is, and who asks, say the variables that its own tools read: for S3 ``AWS_ENDPOINT_URL``,
``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_PROFILE``, ..., on every machine that works.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

from crawler.items import open_whole
from curation.errors import ConfigError, WavTextError

T = TypeVar("T")
R = TypeVar("R")

_READS_AT_A_TIME = 32
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.S)
_ONE_SLASH = re.compile(r"(s3|gs|gcs|az|abfs|file):/?(?!/)")
_NOT_FOLDERS = ("http", "https", "memory", "data")


class StorageError(WavTextError):
    """An object store that does not answer, or does not let us in."""


class PlaceError(ConfigError, ValueError):
    """A place that cannot be; a ValueError too, so that Typer takes it for wrong usage."""


def place(text: str) -> Path:
    """Return the folder or file that a user names: a Path, or for ``s3://bucket/folder`` a UPath with its methods.

    Nothing is asked of the store yet.

    Raises:
        PlaceError: If the protocol is unknown or needs a package that is not installed, or the name cannot be one.
    """
    found = _URL.fullmatch(text)
    if found is None:
        if slip := _ONE_SLASH.match(text):
            raise PlaceError(f"{text}: write {slip[1]}://..., with two slashes")
        return Path(text)
    protocol, key = found[1].lower(), found[2].rstrip("/")
    if protocol == "file":
        return Path(unquote(urlsplit(text).path))
    _check_protocol(text, protocol)
    _check_key(text, protocol, key)
    from upath import UPath  # here: only who names a store loads fsspec

    return cast(Path, UPath(f"{protocol}://{key}", use_listings_cache=False))


def is_local(path: Path) -> bool:
    """Return whether a path is one of this machine's."""
    return isinstance(path, Path)


def resolved(path: Path) -> Path:
    """Return where a path leads, links followed; a store has none."""
    return path.resolve() if is_local(path) else path


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read piece by piece."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where they are missing; in a store there is nothing to make."""
    if is_local(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears under its name whole or not at all; a local folder is made if it is missing.

    Raises:
        OSError: As the file system says, with the file's name.
        StorageError: If the store does not take it.
    """
    if is_local(path):
        with open_whole(path) as file:
            file.write(content)
        return
    with _store_errors(path):
        _fs(path).pipe_file(_key(path), content)  # one PUT; above 100 MB in parts, which appear together


def put_whole(path: Path, local: Path) -> None:
    """Move a finished local file to its place, where it appears whole or not at all.

    Args:
        path: Its place; a local folder is made if it is missing.
        local: The file; gone afterwards.

    Raises:
        OSError: As the file system says.
        StorageError: If the store does not take it.
    """
    if is_local(path):
        _move(local, path)
        return
    with _store_errors(path):
        _fs(path).put_file(str(local), _key(path))
    local.unlink()


def _move(local: Path, path: Path) -> None:
    make_folder(path.parent)
    with local.open("rb") as finished:
        os.fsync(finished.fileno())
        try:
            local.replace(path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with open_whole(path) as file:  # from another disk
                shutil.copyfileobj(finished, file, 2**20)
            local.unlink()


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Give a local file with a path's content: the file itself, or a temporary copy that is removed after the block.

    Raises:
        FileNotFoundError: If a store has no such file; a local path is given as it is, without a look.
        StorageError: If the store does not give it.
        OSError: If there is no space for the copy (in ``TMPDIR``).
    """
    if is_local(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="wavtext5k-") as folder:
        copy = Path(folder) / f"copy{path.suffix}"
        with _store_errors(path):
            _fs(path).get_file(_key(path), str(copy))
        yield copy


def version_of(path: Path) -> list[int | str]:
    """Return what changes when a file does: size and time of change in ns; in a store size and ETag.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: As the file system says.
        StorageError: If the store does not tell.
    """
    if is_local(path):
        stat = path.stat()
        return [stat.st_size, stat.st_mtime_ns]
    with _store_errors(path):
        info = _fs(path).info(_key(path))
    if info["type"] != "file":
        raise FileNotFoundError(errno.ENOENT, "a folder, not a file", str(path))
    return [int(info["size"]), _tag(info)]


def sizes_in(folder: Path) -> dict[str, int]:
    """Return the size in bytes of each file that lies in a folder by name; nothing where there is no such folder.

    Raises:
        StorageError: If the store does not tell.
    """
    try:
        if is_local(folder):
            with os.scandir(folder) as found:
                return {entry.name: entry.stat().st_size for entry in found if entry.is_file()}
        with _store_errors(folder):
            listed = _fs(folder).ls(_key(folder), detail=True)  # one question a thousand files, not two a file
    except (FileNotFoundError, NotADirectoryError):  # s3fs says the second of a folder without files
        return {}
    return {info["name"].rpartition("/")[2]: int(info["size"]) for info in listed if info["type"] == "file"}


def map_reads(function: Callable[[T], R], items: Iterable[T], *, is_remote: bool) -> list[R]:
    """Return a function's result for each item, in order; of remote files, many at a time, since a store is slow."""
    if not is_remote:
        return [function(item) for item in items]
    with ThreadPoolExecutor(_READS_AT_A_TIME) as pool:
        return list(pool.map(function, items))


def _tag(info: dict[str, Any]) -> str:
    """Return what a store calls a file's version: S3 and Google an ETag, others at least a time."""
    for name in ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated"):
        if info.get(name):
            return str(info[name]).strip('"')
    return ""


def _fs(path: Path) -> Any:
    return cast(Any, path).fs


def _key(path: Path) -> str:
    return str(cast(Any, path).path)


def _check_protocol(text: str, protocol: str) -> None:
    import fsspec

    if protocol in _NOT_FOLDERS:
        raise PlaceError(f"{text}: {protocol}:// holds no folders; name a local folder or one in a store, s3://...")
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        how = 'pip install "wavtext5k[s3]"' if protocol in ("s3", "s3a") else str(error)
        raise PlaceError(f"{text}: {protocol}:// needs a package that is not installed: {how}") from error
    except ValueError as error:
        raise PlaceError(
            f"{text}: unknown protocol {protocol}://; name a local folder, or s3://bucket/folder"
        ) from error


def _check_key(text: str, protocol: str, key: str) -> None:
    bucket, *names = key.split("/")
    if not bucket:
        raise PlaceError(f"{text}: no bucket named; write {protocol}://bucket/folder")
    if any(name in ("", ".", "..") for name in names):
        raise PlaceError(f"{text}: a store keeps '//', '.' and '..' as parts of names; write the folder's plain name")
    if found := re.search(r"[*?\[\]]", key):
        raise PlaceError(f"{text}: {found[0]!r} cannot be in the name of a folder in a store")
    if not key.isprintable():
        raise PlaceError(f"{text!r}: a name in a store must be printable text")


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    """Let through that a file is not there or the disk is full, and turn all else that a store says into one kind."""
    try:
        yield
    except FileNotFoundError as error:
        if "bucket does not exist" in str(error):
            raise StorageError(f"{path}: {error}; make the bucket first, or name another") from error
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        if not isinstance(error, OSError) and not type(error).__module__.startswith(
            ("botocore", "aiobotocore", "aiohttp")
        ):
            raise
        said = " ".join(str(error).split()) or type(error).__name__
        raise StorageError(
            f"{path}: {said}; check that the store can be reached and lets you in, then run again"
        ) from error
