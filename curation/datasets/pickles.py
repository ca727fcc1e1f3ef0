"""Reads pickles that hold nothing but plain values: dictionaries, lists, texts, numbers.

A pickle can run any code when it is read. Plain values need no class by name, so this reader refuses every name that a
pickle asks for: nothing is imported and nothing is called.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from curation.datasets.tables import read_content
from curation.errors import ManifestError

_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)
"""What reading raises that was cut or altered."""


def read_plain_pickle(file: Path) -> Any:
    """Return what a pickle of plain values holds.

    Raises:
        ManifestError: If the file is missing, no pickle, or asks for a class or function; names it.
    """
    try:
        return _PlainUnpickler(io.BytesIO(read_content(file))).load()
    except _NotPlainError as error:
        raise ManifestError(
            f"{file}: the pickle asks for {error}; a pickle can run any code, so only dictionaries, lists, texts and "
            "numbers are read. If you trust it, write its content as JSON under the same name, in its place"
        ) from error
    except _BROKEN as error:
        raise ManifestError(f"{file}: not a whole pickle ({error}); download it again") from error


class _NotPlainError(Exception):
    pass


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise _NotPlainError(f"{module}.{name}")

    def persistent_load(self, key: Any) -> NoReturn:
        raise _NotPlainError(f"an object kept elsewhere ({key!r:.40})")
