"""Text from elsewhere as Markdown that shows it and does nothing else; pure functions.

Titles, authors and descriptions come from web pages and go into tables of a card that others render: a "|" must not
end a cell, "<script>" must not be one, and an address must not become a link that nobody meant.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

_LONGEST = 200  # characters of one text in a card
_SPECIAL = re.compile(r"[\\`*_\[\]~$]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}  # inert in every renderer, in tables too
_LINK = re.compile(r"://|(?<=www)\.|(?<=mailto):", re.I)
_BLOCK = re.compile(r"^([-+#=](?=[-+#=\s]|$)|\d+(?=[.)](?:\s|$)))")  # begins a list, a heading or a rule
_JOINERS = "\u200c\u200d"  # parts of words in some scripts, and of emoji


class Markdown(str):
    """A text that is Markdown already."""

    __slots__ = ()


def plain(text: str, *, longest: int = _LONGEST) -> Markdown:
    """Return Markdown that shows a text, on one line, cut where it is longer; what is Markdown already stays."""
    if isinstance(text, Markdown):
        return text
    shown = " ".join("".join(_visible(char) for char in text).split())
    if len(shown) > longest:
        shown = shown[: longest - 1].rstrip() + "…"
    shown = _SPECIAL.sub(lambda found: "\\" + found[0], "".join(_ENTITIES.get(char, char) for char in shown))
    shown = _LINK.sub(lambda found: f"&#{ord(found[0][0])};{found[0][1:]}", shown)
    return Markdown(_BLOCK.sub(lambda found: f"&#{ord(found[0][0])};{found[0][1:]}", shown))


def code(text: str) -> Markdown:
    """Return a text as a code span; only for names of our own, which hold neither a back-tick nor a pipe."""
    if set(text) & set("`|\n") or not text:
        raise ValueError(f"{text!r} cannot be a code span in a table")
    return Markdown(f"`{text}`")


def listing(counts: Mapping[str, int], unit: str = "") -> Markdown:
    """Return counts as one line: "44,100 Hz: 92; 48,000 Hz: 14"."""
    return Markdown("; ".join(f"{plain(name)}: {number:,}{unit}" for name, number in counts.items()))


def grid(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Markdown:
    """Return a table; cells are shown as a template's expressions are."""
    lines = [heads, [Markdown("---")] * len(heads), *rows]
    return Markdown("\n".join(f"| {' | '.join(str(shown(cell)) for cell in line)} |" for line in lines))


def shown(value: object) -> object:
    """Return what a template's expression puts out: text made plain, whole numbers in thousands, others to 0.01.

    Below 1 there are three digits, and never none: three clips of 0.5 s are 0.00042 h, not 0.00 h.
    """
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if 0 < abs(value) < 0.001:
            return f"{value:.2g}"
        return f"{value:.3f}" if 0 < abs(value) < 1 else f"{value:,.2f}"
    return value


def _visible(char: str) -> str:
    """Return a character, a space for what only divides, nothing for what only steers (right-to-left marks, ...)."""
    category = unicodedata.category(char)
    if category in ("Cc", "Zl", "Zp"):
        return " "
    return "" if category in ("Cf", "Cs", "Co", "Cn") and char not in _JOINERS else char
