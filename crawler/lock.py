"""One crawl at a time in a folder: a second would remove what the first is writing.

Holds ``<raw>/<source>/.lock``, an empty file that stays. The kernel lets go of the lock when the process ends, however
it ends, so a killed crawl never keeps the next one out.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

try:
    import fcntl
except ModuleNotFoundError:  # Windows: there the rule is the user's to keep
    fcntl = None  # type: ignore[assignment]


class FolderBusyError(OSError):
    """Another crawl is at work in the folder."""


def take(folder: Path) -> IO[bytes]:
    """Take the folder for this crawl, until the returned file is closed or the process ends.

    Raises:
        FolderBusyError: If another crawl has it; nothing was touched.
        OSError: If the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / ".lock").open("ab")
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise FolderBusyError(f"another crawl is at work in {folder}; wait for it to end") from error
    except OSError:
        pass  # a file system that knows no locks
    return file
