"""bigsoundbank.com (and its French twin, lasonotheque.org): sitemap, category and detail pages to fields.

The site has had four generations of addresses for the same numbers, so a sound is known by its number alone. A page
states its facts twice, in a JSON-LD block and in the visible text; the block is asked first. Audio is taken from the
media addresses that the page itself publishes, best lossless first. The download form with its waiting page and its
anti-bot fields is not touched.
"""

from __future__ import annotations

import html as html_entities
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from parsel import Selector

from crawler.licenses import license_of
from crawler.pages.fields import (
    AudioLink,
    Chain,
    PageError,
    PageFields,
    absolute,
    fragment_text,
    meta_content,
    parse,
    slug_title,
    text_of,
)

HOME = "https://bigsoundbank.com"
SITEMAP = f"{HOME}/sitemap_bsb.xml"
CATEGORIES = f"{HOME}/categories.html"

_PAGE = re.compile(r"^/(?P<slug>[^/]*)-s(?P<id>\d{3,6})\.html$")
_OLD_PAGE = re.compile(r"^/(?:detail|sound)-(?P<id>\d{3,6})-(?P<slug>[^/]*)\.html$")
_LOC = re.compile(r"<loc>\s*([^<]+?)\s*</loc>", re.I)
_UPLOAD = re.compile(r"/UPLOAD/([\w-]+)/0*(\d+)\.(\w+)$", re.I)
_SITE_NAME = re.compile(r"\s+(?:—\s.*|[|\u2013-]\s[^|\u2013-]*(?:BigSoundBank|LaSonoth[eè]que).*)$", re.I | re.S)
_LENGTH = re.compile(r"\s*Length:\s*((?:\d+:)?\d+:\d\d)\.?\s*$")
_KINDS = (("flac",), ("wav",), ("aiff", "aif"), ("ogg",), ("mp3",))


def id_of(url: str) -> str | None:
    """Return the four-digit id in a detail page's address of any generation, None for any other address."""
    path = urlsplit(url).path
    match = _PAGE.match(path) or _OLD_PAGE.match(path)  # in this order: /sound-1000-hz-s2345.html is number 2345
    return f"{int(match['id']):04d}" if match else None


def sitemap_links(xml: str) -> dict[str, str]:
    """Return source_id -> address of the sounds in a sitemap, in its order."""
    return _by_id(html_entities.unescape(loc) for loc in _LOC.findall(xml))


def page_links(html: str, url: str) -> dict[str, str]:
    """Return source_id -> address of the sounds that any page of the site links to."""
    return _by_id(absolute(url, link) for link in parse(html).xpath("//a/@href").getall())


def category_links(html: str, url: str) -> list[str]:
    """Return the addresses of the category and search pages that a page links to, each once."""
    links = (absolute(url, link) for link in parse(html).xpath("//a/@href").getall())
    return list(dict.fromkeys(link for link in links if re.match(r"/(?:search$|categor)", urlsplit(link).path)))


def _by_id(urls: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for url in urls:
        if source_id := id_of(url):
            found.setdefault(source_id, url)
    return found


def parse_detail(html: str, url: str) -> PageFields:
    """Return what a detail page tells.

    Args:
        html: The decoded page.
        url: Its address after redirects; relative links are resolved against it.

    Raises:
        PageError: If the address names no sound (the site sends unknown numbers to its home page), the page shows
            another number than its address, or neither a title nor a description nor audio.
    """
    source_id = id_of(url)
    if source_id is None:
        raise PageError(f"the address names no sound: {url}")
    page = parse(html)
    lines = _lines(html)
    _check_number(lines, source_id)
    node = _audio_object(page)
    chain = Chain()
    title = chain.first("title", _titles(page, node, url))
    description = chain.first("description", _descriptions(page, node))
    published = list(_published_audio(page, node, url, source_id))
    if chain.selectors["title"] in ("head title", "slug", "none") and not description and not published:
        raise PageError("the page shows no title, no description and no audio of a sound")
    license_raw = chain.first("license", _licenses(lines, node))
    return PageFields(
        source_id=source_id,
        page_url=url,
        title=title,
        description=description,
        tags=chain.first_list("tags", _tags(page, node)),
        author=chain.first("author", _authors(lines, node)),
        license_raw=license_raw,
        license_url=_license_url(page, node, url),
        audio=tuple(_ranked(published) or _guessed(url, source_id)),
        extra=_extra(node, lines),
        selectors=chain.selectors,
    )


def _lines(html: str) -> list[str]:
    """Return the visible text line by line; inline elements do not part a line: the site sets its facts in several."""
    body = _NOT_TEXT.sub(" ", html.partition("<body")[2] or html)
    body = " ".join(_INLINE.sub("", body).split())
    lines = html_entities.unescape(re.sub(r"<[^>]*>", "\n", body)).split("\n")
    return [line.strip() for line in lines if line.strip()]


_NOT_TEXT = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->", re.I | re.S)
_INLINE = re.compile(r"</?(?:a|abbr|b|em|font|i|small|span|strong|u)\b[^>]*>", re.I)


def _after(label: str, lines: list[str]) -> Iterator[str]:
    """Yield what follows a label at the beginning of a line."""
    for line in lines:
        if match := re.match(rf"{label}\b\s*:?\s*(.+)", line):
            yield match[1]


def _check_number(lines: list[str], source_id: str) -> None:
    for number in _after("Sound number", lines):
        digits = re.match(r"[\d,.]*", number)[0]  # type: ignore[index]
        if digits and int(re.sub(r"\D", "", digits)) != int(source_id):
            raise PageError(f"the page shows sound number {digits}, its address {source_id}")


def _audio_object(page: Selector) -> dict[str, Any]:
    """Return the JSON-LD node of type AudioObject, {} if no block holds one; malformed blocks are skipped."""
    for block in page.xpath("//script[@type='application/ld+json']/text()").getall():
        try:
            data = json.loads(block, strict=False)
        except ValueError:
            continue
        for node in _nodes(data):
            kind = node.get("@type")
            if kind == "AudioObject" or (isinstance(kind, list) and "AudioObject" in kind):
                return node
    return {}


def _nodes(data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(data, list):
        for element in data:
            yield from _nodes(element)
    elif isinstance(data, dict):
        yield data
        for value in data.values():
            if isinstance(value, dict | list):
                yield from _nodes(value)


def _plain(value: Any) -> str:
    """Return a JSON-LD value as text: a string, the name of an object, or a list of either.

    JSON has no entities, so a site that means "&" writes "&". We unescape once and take tags out all the same: many
    sites fill JSON-LD with text made for HTML, no archived page says what this one does, and its texts of 2022 hold
    neither an entity nor a tag that would be lost.
    """
    if isinstance(value, dict):
        value = value.get("name", "")
    if isinstance(value, list):
        return ", ".join(filter(None, map(_plain, value)))
    return fragment_text(value) if isinstance(value, str) else ""


def _titles(page: Selector, node: dict[str, Any], url: str) -> Iterator[tuple[str, str | None]]:
    yield "json-ld", _SITE_NAME.sub("", _plain(node.get("name")))
    if heading := page.xpath("//h1"):
        yield "h1", text_of(heading[0])
    yield "og:title", _SITE_NAME.sub("", meta_content(page, "og:title"))
    yield "head title", _SITE_NAME.sub("", page.xpath("string(//head/title)").get(""))
    path = urlsplit(url).path
    match = _PAGE.match(path) or _OLD_PAGE.match(path)
    yield "slug", slug_title(match["slug"]) if match else None


def _descriptions(page: Selector, node: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    yield "json-ld", _plain(node.get("description"))
    blocks = page.xpath("//div[contains(translate(@style, ' ', ''), 'text-align:justify')]")
    if own := blocks.xpath("self::*[not(ancestor::*[starts-with(@class, 'resultat')])]"):
        yield "div[text-align:justify]", _LENGTH.sub("", text_of(own[0]))
    yield "og:description", meta_content(page, "og:description")
    yield "meta description", meta_content(page, "description")


def _tags(page: Selector, node: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    keywords = node.get("keywords")
    yield "json-ld", [_plain(word) for word in keywords] if isinstance(keywords, list) else _plain(keywords).split(",")
    yield "meta keywords", meta_content(page, "keywords").split(",")


def _authors(lines: list[str], node: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    for key in ("author", "creator"):
        yield f"json-ld {key}", _plain(node.get(key))
    yield "text", next(_after("Author", lines), None)


def _licenses(lines: list[str], node: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    # "License CC0 (public domain): Free and royalty-free". A title may begin with the word too: "License plate".
    labels = [label.partition(":")[0] for label in _after("License", lines)]
    yield "text", next((label for label in labels if license_of(label) != "unknown"), None)
    yield "json-ld", _plain(node.get("license"))
    yield "text (unknown)", labels[-1] if labels else None


def _license_url(page: Selector, node: dict[str, Any], url: str) -> str:
    named = node.get("license")
    if isinstance(named, str) and named.startswith("http"):
        return named
    link = page.xpath("//a[contains(@href, 'creativecommons.org') or contains(@href, 'licen')]/@href").get()
    return absolute(url, link) if link else ""


def _published_audio(page: Selector, node: dict[str, Any], url: str, source_id: str) -> Iterator[AudioLink]:
    """Yield every ``/UPLOAD/<folder>/<id>.<ext>`` of this very sound that the page publishes."""
    found = [("json-ld", text) for part in _nodes(node) for text in _strings(part)]
    found += [("audio", link) for link in page.xpath("//audio/@src | //audio//source/@src | //source/@src").getall()]
    found += [("a", link) for link in page.xpath("//a/@href").getall()]
    for selector, link in found:
        match = _UPLOAD.search(link)
        if match and int(match[2]) == int(source_id):
            yield AudioLink(absolute(url, link), f"{selector} {match[1]}")


def _strings(node: dict[str, Any]) -> Iterator[str]:
    for value in node.values():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                yield text


def _ranked(links: list[AudioLink]) -> list[AudioLink]:
    """Return each address once, lossless first; broadcast wav before ``/wav/``, which leads to a page since 2025."""

    def rank(link: AudioLink) -> tuple[int, bool]:
        match = _UPLOAD.search(link.url)
        extension = match[3].lower() if match else ""
        kind = next((place for place, names in enumerate(_KINDS) if extension in names), len(_KINDS))
        return kind, "/UPLOAD/wav/" in link.url

    by_path: dict[str, AudioLink] = {}
    for link in links:
        by_path.setdefault(urlsplit(link.url).path, link)
    return sorted(by_path.values(), key=rank)


def _guessed(url: str, source_id: str) -> list[AudioLink]:
    names = (("flac", "flac"), ("bwf-en", "wav"), ("mp3", "mp3"))
    return [AudioLink(absolute(url, f"/UPLOAD/{a}/{source_id}.{b}"), f"{a} (guessed)") for a, b in names]


def _extra(node: dict[str, Any], lines: list[str]) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    seconds = _iso_seconds(_plain(node.get("duration")))
    if seconds is None and (match := next(filter(None, map(_LENGTH.search, lines)), None)):
        seconds = 0.0
        for part in match[1].split(":"):
            seconds = seconds * 60 + int(part)
    if seconds is not None:
        extra["duration_s"] = seconds
    for key in ("encodingFormat", "datePublished", "genre"):
        if value := _plain(node.get(key)):
            extra[key] = value
    return extra


def _iso_seconds(text: str) -> float | None:
    match = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?", text.strip())
    if not match or not any(match.groups()):
        return None
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds
