"""The errors that bad input raises, and how a command shows them: one line on stderr, exit code 1."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class WavTextError(Exception):
    """Bad input; the message says what, where, what was expected and what to do next."""


class ManifestError(WavTextError):
    """A manifest, or a folder of records, that breaks its contract."""


class AudioError(WavTextError):
    """A file that is not audio, or not whole."""


class ConfigError(WavTextError):
    """A setting that cannot be."""


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn what a user can mend into one line and exit code 1; anything else is a bug and keeps its traceback."""
    try:
        yield
    except WavTextError as error:
        sys.exit(_say(str(error)))
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            where = f": {error.filename}" if error.filename else ""
            sys.exit(_say(f"no space left on the disk{where}; free some and run the same command again"))
        if error.errno is not None and error.filename is not None:
            sys.exit(_say(f"{error.filename}: {error.strerror}"))
        raise


def _say(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1
