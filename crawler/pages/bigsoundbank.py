"""bigsoundbank.com (and its French twin, lasonotheque.org): sitemap, category and detail pages to fields.

The site has had four generations of addresses for the same numbers, so a sound is known by its number alone. A page
states its facts twice, in a JSON-LD block and in the visible text; the block is asked first. Audio is taken from the
media addresses that the page itself publishes, best lossless first. The download form with its waiting page and its
anti-bot fields is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from parsel import Selector

from crawler.licenses import license_of
from crawler.pages.fields import (
    AudioLink,
    Chain,
    PageError,
    PageFields,
    absolute,
    drop,
    meta_content,
    parse,
    path_of,
    slug_title,
    text_of,
    visible_lines,
)
from crawler.pages.sitemaps import sitemap_locs
from crawler.pages.structured import (
    clock_seconds,
    is_a,
    json_ld,
    nodes_of,
    plain_text,
    seconds_of,
    strings_of,
    text_list,
)

HOME = "https://bigsoundbank.com"
SITEMAP = f"{HOME}/sitemap_bsb.xml"
SITEMAP_INDEX = f"{HOME}/sitemap.xml"
CATEGORIES = f"{HOME}/categories.html"
SEARCH = "/search"

Question = tuple[str, frozenset[tuple[str, str]]]
"""Path and query of a list of results, whichever of its pages it is."""

_PAGE = re.compile(r"/(?P<slug>[^/]*)-s(?P<id>[0-9]{3,6})\.html")
_OLD_PAGE = re.compile(r"/(?:detail|sound)-(?P<id>[0-9]{3,6})-(?P<slug>[^/]*)\.html")
_UPLOAD = re.compile(r"/UPLOAD/([\w-]{1,40})/([0-9]{1,12})\.(\w{1,8})$", re.I)
_LENGTH = re.compile(r"(?:Length|Dur[ée]e)\s?:\s?((?:\d{1,3}:)?\d{1,3}:\d\d)\.?$")
_FORMATS = (("flac",), ("wav",), ("aiff", "aif"), ("ogg",), ("mp3",))
_WAV_FOLDERS = ("bwf-en", "bwf-fr")
_FOREIGN = (
    "//header | //footer | //nav | //aside",
    "//*[starts-with(normalize-space(@class), 'resultat')]",
)
"""Not this sound's: navigation, and results of a search, which stand below as "other sounds"."""


def id_of(url: str) -> str | None:
    """Return the four-digit id in a detail page's address of any generation, None for any other address."""
    match = _slug_match(url)
    return f"{int(match['id']):04d}" if match else None


def _slug_match(url: str) -> re.Match[str] | None:
    path = path_of(url)
    return _PAGE.fullmatch(path) or _OLD_PAGE.fullmatch(path)  # so: /sound-1000-hz-s2345.html is number 2345


def sitemap_links(xml: str) -> dict[str, str]:
    """Return source_id -> address of the sounds in a sitemap, in its order."""
    return _by_id(absolute(HOME, loc) for loc in sitemap_locs(xml))


def page_links(html: str, url: str) -> dict[str, str]:
    """Return source_id -> address of the sounds that any page of the site links to, its footer left out."""
    return _by_id(_links(html, url))


def category_links(html: str, url: str) -> list[str]:
    """Return the addresses of the categories, and of their further pages, that a page links to, each once."""
    return [
        link
        for link in dict.fromkeys(_links(html, url))
        if re.match(r"/categor", path_of(link), re.I)
        or (path_of(link) == SEARCH and "CatID" in dict(parse_qsl(urlsplit(link).query)))
    ]


def more_pages(html: str, url: str) -> list[str]:
    """Return the addresses of the further pages of a list of results: the same question, another page."""
    asked = question_of(url)
    return [link for link in dict.fromkeys(_links(html, url)) if link != url and question_of(link) == asked]


def question_of(url: str) -> Question:
    """Return what a list of results was asked for: all its pages have the same question."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", frozenset()
    return parts.path, frozenset((name, value) for name, value in parse_qsl(parts.query) if name != "page")


def title_words(url: str) -> list[str]:
    """Return the words of three letters or more in a sound's address: what its title says, ready to search for."""
    match = _slug_match(url)
    words = slug_title(match["slug"]).lower().split() if match else []
    return [word for word in words if len(word) > 2 and word.isalpha()]


def _links(html: str, url: str) -> Iterator[str]:
    page = parse(html)
    drop(page, "//footer")
    return (absolute(url, link) for link in page.xpath("//a/@href").getall())


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
    blocks = json_ld(page)
    drop(page, *_FOREIGN)
    lines = visible_lines(page)
    _check_number(lines, source_id)
    node = _audio_object(blocks, source_id)
    chain = Chain()
    title = chain.first("title", _titles(page, node, url))
    description = chain.first("description", _descriptions(page, node))
    published = list(_published_audio(page, blocks, url, source_id))
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


def _after(label: str, lines: list[str]) -> Iterator[str]:
    """Yield what follows a label at the beginning of a line, or on the next line where it ends its own."""
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        if match := re.match(rf"(?:{label})(?!\w) ?(.*)", line):
            value = match[1].removeprefix(":").strip()
            if value:
                yield value
            elif match[1] and not following.endswith(":"):
                yield following


def _check_number(lines: list[str], source_id: str) -> None:
    """Refuse a page that shows another number than its address; "2,715" and "2 715" are number 2715."""
    shown = [match for line in _after(_NUMBER, lines) if (match := _DIGITS.match(line))]
    numbers = [re.sub(r"\D", "", match[0]).lstrip("0") for match in shown]
    if numbers and source_id.lstrip("0") not in numbers:
        raise PageError(f"the page shows sound number {shown[0][0][:20]}, its address {source_id}")


_NUMBER = "Sound number|Numéro du son"
_DIGITS = re.compile(r"[0-9]{1,3}(?:[ ,.][0-9]{3})+(?![0-9])|[0-9]+")


def _audio_object(blocks: list[Any], source_id: str) -> dict[str, Any]:
    """Return the JSON-LD node that describes this sound: an AudioObject that names it, else one that names none."""
    unnamed: dict[str, Any] = {}
    audio_objects = (node for node in nodes_of(blocks) if is_a(node, "AudioObject"))
    for node in islice(audio_objects, _AUDIO_OBJECTS_MAX):
        ids = {number for text in strings_of(node) if (number := _id_in(text))}
        if source_id in ids:
            return node
        unnamed = unnamed or (node if not ids else {})
    return unnamed


_AUDIO_OBJECTS_MAX = 50


def _id_in(address: str) -> str | None:
    """Return the id in an address of a page or of a media file, None for any other text."""
    if "/" not in address or len(address) > 2_000 or " " in address:
        return None
    path = path_of(address)
    match = _UPLOAD.search(path)
    return f"{int(match[2]):04d}" if match else id_of(path if path.startswith("/") else f"/{path}")


def _titles(page: Selector, node: dict[str, Any], url: str) -> Iterator[tuple[str, str | None]]:
    yield "json-ld", _without_site(plain_text(node.get("name")))
    if heading := page.xpath("(//h1)[1]"):
        yield "h1", text_of(heading[0])
    yield "og:title", _without_site(meta_content(page, "og:title"))
    yield "head title", _without_site(page.xpath("string(//head/title)").get(""))
    match = _slug_match(url)
    yield "slug", slug_title(match["slug"]) if match else None


def _without_site(title: str) -> str:
    """Return a title without what the site adds: all from " — " on, and a last part that names the site."""
    title = re.split(r"\s—\s", title, maxsplit=1)[0]
    *_, last = [None, *_PART.finditer(title)]
    return title[: last.start()] if last and _SITE_NAME.search(title, last.end()) else title


_PART = re.compile(r"\s[|\u2013-]\s")
_SITE_NAME = re.compile("BigSoundBank|LaSonoth[eè]que", re.I)


def _descriptions(page: Selector, node: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    yield "json-ld", plain_text(node.get("description"))
    if blocks := page.xpath("(//div[contains(translate(@style, ' ', ''), 'text-align:justify')])[1]"):
        yield "div[text-align:justify]", _split_length(text_of(blocks[0]))[0]
    yield "og:description", meta_content(page, "og:description")
    yield "meta description", meta_content(page, "description")


def _split_length(text: str) -> tuple[str, float | None]:
    """Return a text without ``Length: MM:SS.`` at its end, and the seconds that this tells."""
    text = text.rstrip()
    match = _LENGTH.search(text, max(0, len(text) - 40))
    return (text[: match.start()], clock_seconds(match[1])) if match else (text, None)


def _tags(page: Selector, node: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    yield "json-ld", text_list(node.get("keywords"))
    yield "meta keywords", meta_content(page, "keywords").split(",")


def _authors(lines: list[str], node: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    for key in ("author", "creator"):
        yield f"json-ld {key}", plain_text(node.get(key))
    yield "text", next(_after("(?:Author|Auteur) ?(?=:)", lines), None)


def _licenses(lines: list[str], node: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    # "License CC0 (public domain): Free and royalty-free". A title may begin with the word too: "License plate".
    labels = [label.partition(":")[0] for label in _after("Licen[cs]e", lines)]
    yield "text", next((label for label in labels if license_of(label) != "unknown"), None)
    yield "json-ld", plain_text(node.get("license"))
    sentence = next(filter(None, map(_CC0.search, lines)), None)
    yield "text (CC0)", sentence[0] if sentence else None
    yield "text (unknown)", labels[-1] if labels else None


_CC0 = re.compile(r"CC0 ?\((?:public domain|domaine public)\)", re.I)


def _license_url(page: Selector, node: dict[str, Any], url: str) -> str:
    named = node.get("license")
    if isinstance(named, dict):
        named = named.get("url") or named.get("@id")
    if isinstance(named, str) and named.startswith("http"):
        return absolute(url, named)
    links = page.xpath("//a[contains(@href, 'creativecommons.org') or contains(@href, 'licen')]/@href").getall()
    return next((link for link in (absolute(url, link) for link in links) if not id_of(link)), "")


def _published_audio(page: Selector, blocks: list[Any], url: str, source_id: str) -> Iterator[AudioLink]:
    """Yield every ``/UPLOAD/<folder>/<id>.<ext>`` of this very sound that the page publishes."""
    found = [("json-ld", text) for text in strings_of(blocks) if " " not in text]
    found += [("audio", link) for link in page.xpath("//audio/@src | //source/@src | //audio/@data-src").getall()]
    found += [("a", link) for link in page.xpath("//a/@href").getall()]
    found += [("og:audio", meta_content(page, "og:audio"))]
    for selector, link in found:
        if "/upload/" in link[:2_000].lower() and (address := absolute(url, link)):
            match = _UPLOAD.search(path_of(address))
            if match and int(match[2]) == int(source_id):
                yield AudioLink(address, f"{selector} {match[1]}")


def _ranked(links: list[AudioLink]) -> list[AudioLink]:
    """Return each address once, lossless first; broadcast wav before ``/wav/``, which leads to a page since 2025."""

    def rank(link: AudioLink) -> tuple[int, int]:
        match = _UPLOAD.search(path_of(link.url))
        folder, extension = (match[1].lower(), match[3].lower()) if match else ("", "")
        form = next((place for place, names in enumerate(_FORMATS) if extension in names), len(_FORMATS))
        return form, _WAV_FOLDERS.index(folder) if folder in _WAV_FOLDERS else len(_WAV_FOLDERS)

    by_path: dict[str, AudioLink] = {}
    for link in links:
        by_path.setdefault(path_of(link.url), link)
    return sorted(by_path.values(), key=rank)


def _guessed(url: str, source_id: str) -> list[AudioLink]:
    wav = "bwf-fr" if "lasonotheque" in url else "bwf-en"
    names = (("flac", "flac"), (wav, "wav"), ("mp3", "mp3"))
    return [AudioLink(absolute(url, f"/UPLOAD/{a}/{source_id}.{b}"), f"{a} (guessed)") for a, b in names]


def _extra(node: dict[str, Any], lines: list[str]) -> dict[str, Any]:
    """Return the length, what else the JSON-LD tells, and recording details where a line is "label: value"."""
    extra: dict[str, Any] = {}
    lengths = (_split_length(line)[1] for line in lines)
    seconds = seconds_of(node.get("duration")) or next(filter(None, lengths), None)
    if seconds:
        extra["duration_s"] = seconds
    for key in ("encodingFormat", "datePublished", "genre"):
        if value := plain_text(node.get(key)).strip():
            extra[key] = value
    for name, label in _DETAILS.items():
        value = next(_after(f"(?:{label}) ?(?=:)", lines), "")
        if 0 < len(value) <= _DETAIL_SIGNS:
            extra[name] = value
    return extra


_DETAIL_SIGNS = 200
_DETAILS = {
    "sample_rate": "Sample rate|Sampling rate|Sampling frequency|Fréquence d.échantillonnage|Échantillonnage",
    "channels": "Channels?|Canaux|Nombre de canaux",
    "bit_depth": "Bit depth|Bits|Résolution|Profondeur",
    "equipment": "Equipment|Recorders?|Microphones?|Matériel|Enregistreur|Micros?",
    "place": "Place|Location|Recorded in|Lieu",
    "conditions": "Conditions|Recording conditions|Conditions d.enregistrement",
    "sound_type": "Sound type|Type of sound|Type de son",
}
"""What notes quote of the pages; their markup is not known, so only a line that begins with the label counts."""
