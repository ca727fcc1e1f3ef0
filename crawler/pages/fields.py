"""What a page function returns, and the helpers that page functions share: all that a new site's page file imports.

A page function is pure: (html, url) in, PageFields out, no network and no Scrapy engine. Every field comes from a
chain of selectors, and the one that hit is named beside it: when a site changes its layout, the crawl report shows a
number that moves from one selector to the next, not empty text in a data set.

In the order of use: ``decode_page`` bytes to text, ``parse`` text to a page, ``drop`` what is not the clip's,
``text_of`` and ``visible_lines`` to read, ``absolute`` for links, and a ``Chain`` for each page.
"""

from __future__ import annotations

import codecs
import html as html_entities
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from bs4 import BeautifulSoup
from bs4.element import NavigableString, PreformattedString, Tag
from lxml import etree  # type: ignore[import-untyped]
from parsel import Selector
from w3lib.encoding import resolve_encoding
from w3lib.url import safe_url_string

MAX_FRAGMENT = 100_000
"""Signs of HTML that are read as one text; the longest description of the published collection has 82 words."""


class PageError(ValueError):
    """A page that does not show the clip that its address names; the message says what it shows instead."""


@dataclass(frozen=True, slots=True)
class AudioLink:
    """One address where a clip's audio may be had."""

    url: str
    selector: str
    """Where the page says so, or "guessed"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFields:
    """What a clip's page tells; text decoded and unescaped, white space at its ends removed, "" where there is none."""

    source_id: str
    page_url: str
    title: str
    description: str
    tags: tuple[str, ...]
    """As the page lists them, in page order, repeats kept; blanks are no tags."""
    author: str
    license_raw: str
    license_url: str
    audio: tuple[AudioLink, ...]
    """Best first: the crawl takes the first that answers with audio."""
    extra: dict[str, Any] = field(default_factory=dict)
    selectors: dict[str, str] = field(default_factory=dict)
    """Field -> the selector that gave it, "none" where all came back empty."""


class Chain:
    """Notes which selector gave each field of one page."""

    def __init__(self) -> None:
        self.selectors: dict[str, str] = {}

    def first(self, name: str, found: Iterable[tuple[str, str | None]]) -> str:
        """Return the first text with anything to see in it among (selector, text) pairs, "" if there is none.

        Give a generator: selectors after the one that hits are then never run.
        """
        for selector, text in found:
            if text and _is_visible(text):
                self.selectors[name] = selector
                return text.strip()
        self.selectors[name] = "none"
        return ""

    def first_list(self, name: str, found: Iterable[tuple[str, Iterable[str]]]) -> tuple[str, ...]:
        """Return the first list with anything but blanks in it, its blanks left out."""
        for selector, texts in found:
            if clean := tuple(text.strip() for text in texts if _is_visible(text)):
                self.selectors[name] = selector
                return clean
        self.selectors[name] = "none"
        return ()


def _is_visible(text: str) -> bool:
    """Whether a text holds more than white space, zero-width signs, direction marks and control characters."""
    return any(sign != " " and sign.isprintable() for sign in text)


def decode_page(body: bytes, declared: str | None) -> str:
    """Return the text of a page, whatever its bytes are.

    A byte order mark decides; then valid UTF-8, which hardly any other encoding passes for; then text that is UTF-8
    but for a few broken signs; then what the page declares, if its bytes fit; last Windows-1252, the usual culprit.

    Args:
        body: The page as it came.
        declared: Its Content-Type header or the name of a charset, None if there is none; then a meta element is asked.
    """
    for mark, encoding in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        text = body.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    if sum(sign > "\x7f" for sign in text) > 10 * broken:
        return text
    for name in (_CHARSET.search(declared or ""), _CHARSET.search(body[:4096].decode("latin-1"))):
        if name and (found := resolve_encoding(name[1] or name[2])) and found not in _NOT_OF_PAGES:
            try:
                return body.decode(found)
            except (UnicodeError, LookupError):
                continue
    return body.decode("cp1252", "replace")


_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CHARSET = re.compile(r"""(?:charset|encoding)\s{0,9}=\s{0,9}["']?([\w.:-]{1,40})|^([\w.:-]{1,40})$""", re.I)
_NOT_OF_PAGES = ("utf-7", "idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined")


def parse(html: str) -> Selector:
    """Return the parsed page; an empty body parses as an empty page."""
    return Selector(text=_encodable(html) or "<html></html>", type="html")


def drop(page: Selector, *xpaths: str) -> None:
    """Take elements out of a parsed page: related sounds, navigation, all that is not the clip's own."""
    for element in page.xpath(" | ".join(xpaths)):
        if isinstance(element.root, etree._Element) and element.root.getparent() is not None:
            element.drop()


def text_of(node: Selector) -> str:
    """Return the text of a node as a reader sees it: inline elements flattened, ``<br>`` as a line end."""
    if isinstance(node.root, str):  # an attribute, or text()
        return node.root
    return fragment_text(node.get() or "") if len(node.root) else str(node.root.text or "")


def unescape(text: str) -> str:
    """Return the text with its HTML entities replaced; a number too long for any character stays as it is written."""
    return "".join(part if _ENDLESS.fullmatch(part) else html_entities.unescape(part) for part in _ENDLESS.split(text))


def fragment_text(fragment: str) -> str:
    """Return the text of an HTML fragment, or of plain text with entities in it."""
    fragment = _encodable(fragment[:MAX_FRAGMENT])
    if not _TAG.search(fragment):
        return unescape(fragment)
    parts: list[str] = []
    for node in BeautifulSoup(fragment, "lxml").descendants:
        if isinstance(node, Tag):
            parts += ["\n"] * (node.name == "br")
        elif (
            isinstance(node, NavigableString)
            and not isinstance(node, PreformattedString)
            and (node.parent is None or node.parent.name not in _NOT_TEXT)
        ):
            parts.append(node)
    return "".join(parts)


_ENDLESS = re.compile(r"(&#[0-9]{100,})")  # Python reads no number of more than 4,300 digits
_TAG = re.compile(r"<(?:/?[a-zA-Z][^<>]*|!--[^<>]*)>")  # "a<b" in plain text is none
_NOT_TEXT = ("script", "style", "noscript", "template")


def visible_lines(page: Selector) -> list[str]:
    """Return the visible text line by line, white space made single spaces, blank lines left out.

    A block ends a line, an inline element does not: ``<b>License</b> <a>CC0</a><br>`` is one line, "License CC0".
    """
    parts: list[str] = []
    walk = etree.iterwalk(page.root, events=("start", "end", "comment", "pi"))
    for event, element in walk:
        inside = ""
        if event == "start":
            if element.tag in _NOT_TEXT or element.tag == "head":
                walk.skip_subtree()
            else:
                inside = element.text or ""
        else:
            inside = element.tail or ""
        if event in ("start", "end") and element.tag not in _INLINE and element.tag not in _NOT_TEXT:
            parts.append("\n")
        parts.append(_SPACE.sub(" ", inside))
    lines = (" ".join(line.split()) for line in "".join(parts).split("\n"))
    return [line for line in lines if line]


_SPACE = re.compile(r"\s+")
# fmt: off
_INLINE = frozenset({
    "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "dfn", "em", "font", "i", "kbd", "label", "mark",
    "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
})
# fmt: on


def meta_content(page: Selector, name: str) -> str:
    """Return the first ``content`` that is not blank of the meta elements of that name or property, "" without one."""
    found = page.xpath("//meta[@name=$name or @property=$name]/@content", name=name).getall()
    return next((str(content) for content in found if _is_visible(content)), "")


def absolute(url: str, link: str) -> str:
    """Return a link of a page as an address that can be asked: resolved, other signs quoted; "" if it is none."""
    try:
        return str(safe_url_string(urljoin(url, _encodable(link).strip())))
    except ValueError:  # http://[ is no address, and no reason to lose the page around it
        return ""


def path_of(url: str) -> str:
    """Return the path of an address, "" for what is no address."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def slug_title(slug: str) -> str:
    """Return the title that an address tells: hyphens as spaces."""
    return re.sub(r"-+", " ", unquote(slug).replace("\0", "")).strip()


def terms_links(html: str, url: str) -> list[str]:
    """Return the addresses of what look like a site's terms (licences, legal notices, about), at most TERMS_MAX.

    Links to other sites are among them. A sound may be called "License plate", so links to sounds are left out as far
    as an address shows that it is one.
    """
    found: dict[str, None] = {}
    here = urldefrag(url).url
    for link in parse(html).xpath("//a[@href]"):
        address = urldefrag(absolute(url, link.attrib["href"])).url
        path = path_of(address)
        if not address.startswith(("http://", "https://")) or address == here or _SOUND.search(path):
            continue
        if _TERMS.search(unquote(path)) or _TERMS.search(link.xpath("string()").get("")[:200]):
            found[address] = None
        if len(found) == TERMS_MAX:
            break
    return list(found)


TERMS_MAX = 8
_TERMS = re.compile(
    r"(?<![a-z])(?:terms|conditions|legal|licen[cs]e|licen[cs]es|licen[cs]ing|copyright|about|droits?|mentions|cgu|privacy)(?![a-z])",
    re.I,
)
_SOUND = re.compile(
    r"/(?:[0-9]+-[^/]*|(?:detail|sound)-[0-9][^/]*|[^/]*-s[0-9]+\.html|tags-[^/]*|search[^/]*)$|\.(?:wav|mp3|ogg|flac|aiff?|zip)$",
    re.I,
)


def _encodable(text: str) -> str:
    """Return text without NUL, and half of a surrogate pair as an escape: JSON may hold either, no file may."""
    return text.replace("\0", "").encode("utf-8", "backslashreplace").decode()
