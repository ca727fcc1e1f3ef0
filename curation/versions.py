"""What a clip's bytes depend on besides its source: this package's own code, and the libraries that do the work."""

from __future__ import annotations

import functools
import hashlib
import sys
from importlib import metadata
from pathlib import Path

_LIBRARIES = ("numpy", "soundfile", "soxr", "av", "distributed")


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions in this process by name; "none" where a library is not installed."""
    import soundfile  # here: slow to load

    found = {"Python": "{}.{}".format(*sys.version_info), "this package's code": _code()}
    return found | {name: _version(name) for name in _LIBRARIES} | {"libsndfile": soundfile.__libsndfile_version__}


def differences(theirs: dict[str, str], ours: dict[str, str]) -> list[str]:
    """Return what differs, such as "soxr 1.0.0 (here 1.1.0)"."""
    return [
        f"{name} {theirs.get(name, 'none')} (here {ours[name]})"
        for name in ours
        if theirs.get(name, "none") != ours[name]
    ]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def _code() -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]
