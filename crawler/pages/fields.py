"""What a page function returns, and the helpers that page functions share.

A page function is pure: (html, url) in, PageFields out, no network and no Scrapy engine. Every field comes from a
chain of selectors, and the one that hit is named beside it: when a site changes its layout, the crawl report shows a
number that moves from one selector to the next, not empty text in a data set.
"""

from __future__ import annotations

import html as html_entities
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from bs4 import BeautifulSoup
from parsel import Selector
from w3lib.url import safe_url_string


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
    """Notes which selector gave each field."""

    def __init__(self) -> None:
        self.selectors: dict[str, str] = {}

    def first(self, name: str, found: Iterable[tuple[str, str | None]]) -> str:
        """Return the first text that is not blank among (selector, text) pairs, "" if there is none.

        Give a generator: selectors after the one that hits are then never run.
        """
        for selector, text in found:
            if text and (clean := text.strip()):
                self.selectors[name] = selector
                return clean
        self.selectors[name] = "none"
        return ""

    def first_list(self, name: str, found: Iterable[tuple[str, Iterable[str]]]) -> tuple[str, ...]:
        """Return the first list with anything but blanks in it, its blanks left out."""
        for selector, texts in found:
            if clean := tuple(text.strip() for text in texts if text.strip()):
                self.selectors[name] = selector
                return clean
        self.selectors[name] = "none"
        return ()


def parse(html: str) -> Selector:
    """Return the parsed page; an empty body parses as an empty page."""
    return Selector(text=html or "<html></html>", type="html")


def text_of(node: Selector) -> str:
    """Return the text of a node as a reader sees it: inline elements flattened, ``<br>`` as a line end."""
    if not node.xpath("./*"):
        return str(node.xpath("string()").get(""))
    return fragment_text(node.get() or "")


def fragment_text(fragment: str) -> str:
    """Return the text of an HTML fragment, or of plain text with entities in it."""
    if "<" not in fragment:
        return html_entities.unescape(fragment)
    soup = BeautifulSoup(fragment, "html.parser")
    for element in soup(["script", "style"]):
        element.decompose()
    for line_break in soup("br"):
        line_break.replace_with("\n")
    return soup.get_text()


def meta_content(page: Selector, name: str) -> str:
    """Return ``content`` of the first meta element of that name or property, "" if there is none."""
    return str(page.xpath("//meta[@name=$name or @property=$name]/@content", name=name).get(""))


def absolute(url: str, link: str) -> str:
    """Return a link of a page as an address that can be asked: resolved, other signs quoted; "" if it is none."""
    try:
        return str(safe_url_string(urljoin(url, link.strip())))
    except ValueError:  # http://[ is no address, and no reason to lose the page around it
        return ""


def slug_title(slug: str) -> str:
    """Return the title that an address tells: hyphens as spaces."""
    return re.sub(r"-+", " ", slug).strip()
