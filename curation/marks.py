"""Text files that tell whether they are still as they were written: one line has the hash of all the rest.

Pure functions. A file without that line, or whose hash is another, is someone's own work, and is not replaced unasked.
"""

from __future__ import annotations

import hashlib
import re

from curation.errors import ConfigError

BLANK = "0" * 64
"""Stands for the hash until ``signed`` puts it in, and wherever a hash is taken."""


def signed(text: str, mark: str) -> str:
    """Return a text with the hash of all of it in its mark.

    Args:
        text: With a line that is the mark, its hash BLANK.
        mark: The line, without the spaces before it, "{}" for the hash.

    Raises:
        ValueError: If there is no such line.
        ConfigError: If there is half a character in the text, which UTF-8 cannot say.
    """
    blank = mark.format(BLANK)
    if blank not in map(str.strip, text.split("\n")):
        raise ValueError(f"the text has no line {blank!r}")
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        found = text[max(0, error.start - 20) : error.end + 20]
        raise ConfigError(f"not Unicode text: {found!r}; a name or a note in it has half a character") from error
    return text.replace(blank, mark.format(hashlib.sha256(content).hexdigest()), 1)


def is_signed(content: bytes, mark: str) -> bool:
    """Return whether a file has this mark on a line of its own."""
    return _found(content, mark) is not None


def is_unchanged(content: bytes, mark: str) -> bool:
    """Return whether a file is as it was when ``signed`` made it."""
    if (found := _found(content, mark)) is None:
        return False
    start, end = found.span(1)
    rest = content[:start] + BLANK.encode() + content[end:]
    return hashlib.sha256(rest).hexdigest().encode() == found[1]


def _found(content: bytes, mark: str) -> re.Match[bytes] | None:
    before, after = (re.escape(part.encode()) for part in mark.split("{}"))
    return re.search(rb"^[ ]*" + before + rb"([0-9a-f]{64})" + after + rb"[ ]*$", content, re.M)
