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
from dataclasses import dataclass

import ftfy

CAPTION_FIELDS = ("title", "description", "tags")

_FTFY = ftfy.TextFixerConfig(
    unescape_html=False,  # done before, until nothing changes
    uncurl_quotes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    explain=False,
)
# Joiners (U+200C, U+200D) stay: they are spelling in Persian and Hindi, and hold emoji together.
_INVISIBLE = re.compile("[\u0000\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_MARKUP = re.compile(r"<[/!]?[A-Za-z-][^<>]*>")  # not "3 < 4 > 2"
_ENTITY = re.compile(r"&(?:#[0-9]{1,8}|#[xX][0-9a-fA-F]{1,8}|[A-Za-z][A-Za-z0-9]{1,31});")  # int() refuses 4,301 digits
_AMPERSANDS = re.compile(r"&(?:(?:amp|AMP|#0*38|#[xX]0*26);)+")
_PLAIN = re.compile(r"[ -%'-~\t\r\n]*")  # ASCII with nothing in it to repair: no control character, no "&"
_MOST_ROUNDS = 8
_OPENING, _CLOSING = '(["\u201c\u00ab', ')]"\u201d\u00bb'  # brackets and quotation marks

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
    if _PLAIN.fullmatch(text):  # as most texts are
        return " ".join(text.split())
    for _ in range(_MOST_ROUNDS):  # what one repair uncovers may need another; a bound, lest it goes in circles
        if (cleaned := _clean_once(text)) == text:
            break
        text = cleaned
    return text


def valid_text(text: str) -> str:
    """Return a text that Parquet can hold, white space at its ends gone: a lone surrogate, as JSON can hold, is "?"."""
    return text.encode("utf-8", "replace").decode().strip()


def clean_tags(tags: Iterable[str]) -> list[str]:
    """Return tags in page order, lower case, without markup, each once; empty ones are left out."""
    cleaned = (clean_text(_MARKUP.sub(" ", clean_text(tag))).lower() for tag in tags)
    return list(dict.fromkeys(tag for tag in cleaned if tag))


def render_caption(template: str, *, title: str, description: str, tags: Sequence[str] = ()) -> str:
    """Return the caption that a template makes of a clip's cleaned text.

    A part that is empty takes the punctuation before it and the brackets around it along, and a part that ends a
    sentence is not given a second full stop: "{title}. {description}" of "Bell" and "" is "Bell", of "Who?" and
    "An owl." it is "Who? An owl.". If every part that the template names is empty, the description, else the title,
    else the tags stand in.

    Args:
        template: Text with {title}, {description} and {tags} in it; tags are joined by ", ".

    Raises:
        ValueError: If the template names no field or another one.
    """
    fields = {"title": title, "description": description, "tags": ", ".join(tags)}
    parts, ending = parse_template(template)
    caption = ""
    for part in parts:
        value = fields[part.name]
        if value and (caption or part is parts[0]):
            caption = f"{_join(caption, part.lead)}{part.opening}{value}{part.closing}"
        elif value:  # what the template says before it belongs to a part that is empty
            caption = value
    if not caption:
        return description or title or fields["tags"]
    if not fields[parts[-1].name]:
        ending = ending.strip() if ending.strip() in {".", "!", "?"} else ""
    return _join(caption, ending).strip()


@dataclass(frozen=True, slots=True)
class TemplatePart:
    """A field of a caption template, and the template's own text before it."""

    lead: str
    opening: str
    """Brackets or a quotation mark that open right before the field."""
    name: str
    closing: str
    """What closes them, right after it."""


@functools.cache
def parse_template(template: str) -> tuple[tuple[TemplatePart, ...], str]:
    """Return the parts of a caption template, and its text after the last one.

    Raises:
        ValueError: If the template names no field, or one that is not in CAPTION_FIELDS, or asks for a format.
    """
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"caption template {template!r}: {error}") from error
    literals, names = [""], []
    for literal, name, form, conversion in pieces:
        literals[-1] += literal
        if name is not None:
            names.append(f"{name}{'!' if conversion else ''}{conversion or ''}{':' if form else ''}{form}")
            literals.append("")
    if not names or (set(names) - set(CAPTION_FIELDS)):
        known = ", ".join(f"{{{name}}}" for name in CAPTION_FIELDS)
        raise ValueError(f"caption template {template!r} must be made of {known}, at least one of them")
    closings = ["", *(literal[: len(literal) - len(literal.lstrip(_CLOSING))] for literal in literals[1:])]
    parts = []
    for at, name in enumerate(names):
        between = literals[at][len(closings[at]) :]
        lead = between.rstrip(_OPENING)
        parts.append(TemplatePart(lead, between[len(lead) :], name, closings[at + 1]))
    return tuple(parts), literals[-1][len(closings[-1]) :]


def attribution(*, title: str, author: str, page_url: str, license_id: str, license_url: str) -> str:
    """Return the line that credits a clip: title, author, page, licence; parts that are not known are left out."""
    work = f'"{title}"' if title else "Untitled sound"
    by = f" by {author}" if author else ""
    page = f" ({page_url})" if page_url else ""
    license_page = f" ({license_url})" if license_url else ""
    return f"{work}{by}{page}, {LICENSE_NAMES[license_id]}{license_page}"


def _clean_once(text: str) -> str:
    text = _AMPERSANDS.sub("&", text)  # escaped twice, or a hundred times
    # Only entities that end in ";": html.unescape alone would also read "&sect" in "rock&section".
    text = _ENTITY.sub(lambda match: html.unescape(match[0]), text).replace("\v", " ")
    text = ftfy.fix_text(text, config=_FTFY)
    return " ".join(_INVISIBLE.sub("", text).split())


def _join(left: str, right: str) -> str:
    """Put two texts together; of two sentence ends that would meet, the first stays."""
    return left + (right[1:] if left.endswith((".", "!", "?", "…")) and right.startswith(".") else right)
