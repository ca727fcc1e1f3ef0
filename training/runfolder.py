"""Whose run is in a run folder: one of the same settings and the same data is resumed, any other refused.

Data are compared by the manifests' content, not by their path, so a run may move together with its data.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from crawler.items import take_lock
from curation.errors import ConfigError
from training import checkpoint
from training.config import TrainConfig
from training.recipe import flatten, to_dict

_MAY_CHANGE = {
    *("run.name", "run.folder", "run.device", "run.threads", "run.log_every"),
    *("data.workers", "data.cache_mb", "data.pcm_cache", "data.exclude"),
    *("checkpoint.every", "checkpoint.keep", "run.trackers"),
}
"""Settings that a resumed run may have otherwise: they decide where and how fast, not what comes out. (Which clips
data.exclude names is compared by content, as the manifests are.)"""

_COMPARED_BY_CONTENT = {"data.train", "data.val"}
LOCK_FILE = ".lock"
_OWN_FILES = {"config.yaml", "metrics.jsonl", "checkpoints", "model", "tensorboard", LOCK_FILE}


_held: list[IO[bytes]] = []


def _let_go() -> None:
    """Close the locks in a process that was forked: a reading process that outlives a killed run would hold them."""
    while _held:
        _held.pop().close()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def locked(folder: Path, *, is_first: bool = True) -> Iterator[None]:
    """Keep a run folder to this process for the length of the block; a killed process holds it no longer.

    The folder is made for the lock, and removed again if the block leaves nothing else in it. Where there are no such
    locks (Windows, some network disks), or the folder may only be read, the block runs without one. Of several
    processes of one run, the first takes it.

    Raises:
        ConfigError: If another training is at work there.
    """
    if not is_first:
        yield
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = _take(folder)
    if lock is not None:
        _held.append(lock)
    try:
        yield
    finally:
        if lock is not None:
            _held.remove(lock)
            with suppress(OSError):
                (folder / LOCK_FILE).unlink()  # while it is held: whoever waits sees that the name is gone
            lock.close()
        for path in made:
            with suppress(OSError):
                path.rmdir()


def _take(folder: Path) -> IO[bytes] | None:
    """Return the file that holds the lock, None in a folder that may only be read."""
    path = folder / LOCK_FILE
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = take_lock(path)
        except FileNotFoundError:
            continue  # the one before has just removed the empty folder
        except BlockingIOError as error:
            raise ConfigError(
                f"{folder}: another training is at work in this run folder; wait for it to end, or give this one "
                "another run.name"
            ) from error
        except OSError as error:
            if folder.is_dir() and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return None
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
        lock.close()  # removed by the one before, after we had opened it


def stored_state(folder: Path, config: TrainConfig, data: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the run folder's last checkpoint, None if there is none; refuses one of another run."""
    file = folder / "checkpoints" / "last.pt"
    if not file.is_file():
        strange = (
            sorted(path.name for path in folder.iterdir() if path.name.removesuffix(".part") not in _OWN_FILES)
            if folder.is_dir()
            else []
        )
        if strange:
            raise ConfigError(f"{folder}: not a run folder (it holds {strange[0]}); name another one with run.name=")
        return None
    state = checkpoint.load_checkpoint(file)
    advice = f"give this one another name (run.name=...), or remove {folder} to begin anew"
    before, now = flatten(state["config"]), flatten(to_dict(config))
    for key in sorted(before.keys() | now.keys()):
        if key not in _MAY_CHANGE | _COMPARED_BY_CONTENT and before.get(key) != now.get(key):
            raise ConfigError(
                f"{folder}: holds a run with {key}={before.get(key)}, this one has {key}={now.get(key)}; {advice}"
            )
    for old, new in zip(state["data"], data, strict=False):
        if _place(old) == _place(new) and old["sha256"] != new["sha256"]:
            if old["role"] == "exclude":
                raise ConfigError(f"{folder}: holds a run that leaves out other clips (data.exclude); {advice}")
            raise ConfigError(
                f"{folder}: holds a run on another version of {new['manifest']} (sha256 {old['sha256'][:12]}, "
                f"now {new['sha256'][:12]}); {advice}"
            )
    if [_content(source) for source in state["data"]] != [_content(source) for source in data]:
        raise ConfigError(
            f"{folder}: holds a run on other data ({_names(state['data'])}, now {_names(data)}); {advice}"
        )
    return state


def _place(source: dict[str, Any]) -> tuple[Any, ...]:
    return source["role"], source.get("splits"), source.get("weight")


def _content(source: dict[str, Any]) -> tuple[Any, ...]:
    return *_place(source), source["sha256"]


def _names(data: list[dict[str, Any]]) -> str:
    return ", ".join(_name(source) for source in data)


def _name(source: dict[str, Any]) -> str:
    """Return a source as a person knows it: train data/clotho train+val, twice as often."""
    if source["role"] == "exclude":
        return "some clips left out"
    weight = source.get("weight", 1.0)
    return f"{source['role']} {source['manifest']} {'+'.join(source['splits'])}" + (
        f" at weight {weight:g}" if weight != 1 else ""
    )
