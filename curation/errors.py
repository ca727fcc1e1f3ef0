"""The errors that bad input raises, and how a command shows them: one line on stderr, exit code 1."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


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
    """Turn what a user can mend into one line and exit code 1; anything else is a bug and keeps its traceback.

    A name that the terminal cannot show is shown with escapes, rather than losing a result that is already on disk.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()
    except WavTextError as error:
        sys.exit(_say(str(error)))
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        with suppress(OSError):  # whoever read our output has gone; Python would complain again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_say("the output was closed before everything was written"))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            where = f": {error.filename}" if error.filename else ""
            sys.exit(_say(f"no space left on the disk{where}; free some and run the same command again"))
        if error.errno is not None and error.filename is not None:
            sys.exit(_say(f"{error.filename}: {error.strerror}"))
        if not _is_of_a_store(error):
            raise
        sys.exit(_say(_STORE.format(error)))
    except Exception as error:
        if not _is_of_a_store(error):
            raise
        sys.exit(_say(_STORE.format(error)))


_STORE = "the object store does not answer as it should: {}; check its address and that you may read and write there"


def _is_of_a_store(error: Exception) -> bool:
    """Return whether an error is the object store's, by whose code raises it: s3fs lets through what botocore says."""
    modules = {type(each).__module__.partition(".")[0] for each in (error, error.__cause__) if each is not None}
    return not modules.isdisjoint({"botocore", "aiobotocore", "aiohttp", "s3fs"})


def _say(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1
