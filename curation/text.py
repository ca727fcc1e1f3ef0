"""Cleans titles, descriptions and tags, and makes captions from them; pure functions.

Cleaning repairs what transport did to a text (entities escaped twice, mojibake, zero-width characters, line ends) and
leaves what its author wrote: quotes stay curly, case stays, no word is removed.
"""

from __future__ import annotations

import functools
import html
import re
import string
from collections.abc import Iterable, Sequence

import ftfy

CAPTION_FIELDS = ("title", "description", "tags")

_FTFY = ftfy.TextFixerConfig(
    unescape_html=False,  # done before, until nothing changes
    uncurl_quotes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    explain=False,
)
_INVISIBLE = re.compile("[\u0000\u00ad\u200b\u200e\u200f\u2060\ufeff]")
_MARKUP = re.compile(r"<[^<>]*>")
_ENTITY = re.compile(r"&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")
_MOST_ROUNDS = 8

LICENSE_NAMES = {
    "cc0-1.0": "CC0 1.0",
    "public-domain": "public domain",
    "cc-by-3.0": "CC BY 3.0",
    "cc-by-4.0": "CC BY 4.0",
    "cc-by-sa-3.0": "CC BY-SA 3.0",
    "cc-by-nc-3.0": "CC BY-NC 3.0",
    "cc-by-nc-4.0": "CC BY-NC 4.0",
    "cc-sampling-plus-1.0": "CC Sampling Plus 1.0",
    "remarc": "RemArc licence",
    "personal-use": "personal use only",
    "unknown": "licence unknown",
}
"""How an attribution line calls each licence of ``crawler.items.LICENSES``."""


def clean_text(text: str) -> str:
    """Return a text on one line: unescaped, mojibake repaired, invisible characters removed, white space collapsed.

    Cleaning twice gives what cleaning once gives.
    """
    for _ in range(_MOST_ROUNDS):  # text escaped twice needs two; a bound, since repair could in theory go in circles
        if (cleaned := _clean_once(text)) == text:
            break
        text = cleaned
    return text


def clean_tags(tags: Iterable[str]) -> list[str]:
    """Return tags in page order, lower case, without markup, each once; empty ones are left out."""
    cleaned = (clean_text(_MARKUP.sub(" ", clean_text(tag))).lower() for tag in tags)
    return list(dict.fromkeys(tag for tag in cleaned if tag))


def render_caption(template: str, *, title: str, description: str, tags: Sequence[str] = ()) -> str:
    """Return the caption that a template makes of a clip's cleaned text.

    A part that is empty takes the punctuation before it along, and a part that ends a sentence is not given a second
    full stop: "{title}. {description}" of "Bell" and "" is "Bell", of "Who?" and "An owl." it is "Who? An owl.".
    If every part that the template names is empty, the description, else the title, else the tags stand in.

    Args:
        template: Text with {title}, {description} and {tags} in it; tags are joined by ", ".

    Raises:
        ValueError: If the template names no field or another one.
    """
    fields = {"title": title, "description": description, "tags": ", ".join(tags)}
    literals, names = parse_template(template)
    caption = ""
    for before, name in zip(literals, names, strict=False):
        if value := fields[name]:
            # A template's own first words ("The sound of ") belong to its first part.
            lead = before if caption or name == names[0] else ""
            caption = _join(caption, lead) + value
    if not caption:
        return description or title or fields["tags"]
    is_last_filled = bool(fields[names[-1]])
    ending = literals[-1] if is_last_filled else literals[-1].rstrip()
    return _join(caption, ending if is_last_filled or ending in {".", "!", "?"} else "").strip()


@functools.cache
def parse_template(template: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the literals and the field names of a caption template: one literal before each name and one at the end.

    Raises:
        ValueError: If the template names no field, or one that is not in CAPTION_FIELDS.
    """
    literals, names = [""], []
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"caption template {template!r}: {error}") from error
    for literal, name, _, _ in parts:
        literals[-1] += literal
        if name is not None:
            names.append(name)
            literals.append("")
    if not names or (set(names) - set(CAPTION_FIELDS)):
        known = ", ".join(f"{{{name}}}" for name in CAPTION_FIELDS)
        raise ValueError(f"caption template {template!r} must be made of {known}, at least one of them")
    return tuple(literals), tuple(names)


def attribution(*, title: str, author: str, page_url: str, license_id: str, license_url: str) -> str:
    """Return the line that credits a clip: title, author, page, licence; parts that are not known are left out."""
    work = f'"{title}"' if title else "Untitled sound"
    by = f" by {author}" if author else ""
    page = f" ({page_url})" if page_url else ""
    license_page = f" ({license_url})" if license_url else ""
    return f"{work}{by}{page}, {LICENSE_NAMES[license_id]}{license_page}"


def _clean_once(text: str) -> str:
    # Only entities that end in ";": html.unescape alone would also read "&sect" in "rock&section".
    text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    text = ftfy.fix_text(text, config=_FTFY)
    return " ".join(_INVISIBLE.sub("", text).split())


def _join(left: str, right: str) -> str:
    """Put two texts together; of two sentence ends that would meet, the first stays."""
    return left + (right[1:] if left.endswith((".", "!", "?", "…")) and right.startswith(".") else right)
