"""soundbible.com: listing pages and detail pages to fields.

Two layouts are known. A, seen 2010 to 2017: everything in ``div#main``, the facts in an RDFa block. B, since 2022:
``section#course-details``, followed by related sounds with players and tags of their own, hence the scopes. The
related sounds, the footer's tags, the site owner in ``meta[name=author]`` and the cut-off ``meta[name=description]``
are what leaks into a data set when a selector is not scoped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from parsel import Selector

from crawler.pages.fields import (
    AudioLink,
    Chain,
    PageError,
    PageFields,
    absolute,
    meta_content,
    parse,
    slug_title,
    text_of,
)

HOME = "https://soundbible.com"

_PAGE = re.compile(r"^/(\d{1,12})-([^/]*)\.html$")
_CUT_TITLE = re.compile(r"\s+Sounds \| Effects \|.*$", re.S)
_CUT_DESCRIPTION = re.compile(r"^.*?\bFree\. Get\s+(.*?)\s*(?:in Wav or MP3 format.*)?\.*\s*$", re.S)
_LISTING = re.compile(r"/free-sound-effects-(\d+)\.html")


def listing_url(number: int) -> str:
    """Return the address of a listing page, from 1, newest sounds first."""
    return f"{HOME}/free-sound-effects-{number}.html"


def listing_links(html: str, url: str) -> dict[str, str]:
    """Return source_id -> address of the sounds that a listing page lists, in page order.

    Titles are links in ``h3`` (layout B) or in the rows of a table (A); where neither has one, every link that looks
    like a sound's counts.
    """
    page = parse(html)
    for links in ("//h3//a/@href", "//tr[contains(@class, 'row-b')]//td//a/@href", "//a/@href"):
        found: dict[str, str] = {}
        for link in page.xpath(links).getall():
            address = absolute(url, link)
            if source_id := id_of(address):
                found.setdefault(source_id, address)
        if found:
            return found
    return {}


def last_listing_page(html: str) -> int:
    """Return the highest page number that a listing page links to, 0 if it links to none: a hint, nothing more."""
    return max((int(number) for number in _LISTING.findall(html)), default=0)


def id_of(url: str) -> str | None:
    """Return the id in a detail page's address, None for any other address of the site."""
    match = _PAGE.match(urlsplit(url).path)
    return str(int(match[1])) if match else None


def parse_detail(html: str, url: str) -> PageFields:
    """Return what a detail page tells.

    Args:
        html: The decoded page.
        url: Its address after redirects; relative links are resolved against it.

    Raises:
        PageError: If the address names no sound, or the page shows neither a title, a description nor a download.
    """
    source_id = id_of(url)
    if source_id is None:
        raise PageError(f"the address names no sound: {url}")
    page = parse(html)
    scope, layout = _scope(page)
    chain = Chain()
    title = chain.first("title", _titles(page, scope, url))
    description = chain.first("description", _descriptions(page, scope))
    published = list(_published_audio(scope, url, source_id))
    if chain.selectors["title"] in _TITLE_OF_LAST_RESORT and not description and not published:
        raise PageError("the page shows no title, no description and no download of a sound")
    labels, sentence = _labels(scope), _sentence(scope)
    license_raw = chain.first("license", (("h5 + p", labels.get("license")), ("v:", sentence.get("license"))))
    return PageFields(
        source_id=source_id,
        page_url=url,
        title=title,
        description=description,
        tags=chain.first_list("tags", _tags(page, scope)),
        author=chain.first("author", _authors(scope, sentence)),
        license_raw=license_raw,
        license_url="",
        audio=tuple(_ranked(published, url, source_id)),
        extra={"layout": layout} | _extra(sentence | labels, chain),
        selectors=chain.selectors,
    )


_TITLE_OF_LAST_RESORT = ("head title", "slug", "none")


def _scope(page: Selector) -> tuple[Selector, str]:
    for selector, layout in (("//*[@id='course-details']", "b"), ("//*[@id='main']", "a")):
        if found := page.xpath(selector):
            return found[0], layout
    return page, "unknown"


def _titles(page: Selector, scope: Selector, url: str) -> Iterator[tuple[str, str | None]]:
    if heading := scope.xpath("(.//h3)[1][ancestor::*[@id='course-details']]"):
        yield "h3", text_of(heading[0])
    yield "v:itemreviewed", scope.xpath("string(.//*[@property='v:itemreviewed'])").get()
    yield "h2", re.sub(r"\s+Sound\s*$", "", scope.xpath("string(.//h2)").get(""))
    yield "head title", _CUT_TITLE.sub("", page.xpath("string(//head/title)").get(""))
    match = _PAGE.match(urlsplit(url).path)
    yield "slug", slug_title(match[2]) if match else None


def _descriptions(page: Selector, scope: Selector) -> Iterator[tuple[str, str | None]]:
    if paragraph := scope.xpath("(.//h3)[1][ancestor::*[@id='course-details']]/following-sibling::p[1]"):
        yield "h3 + p", text_of(paragraph[0])
    if summary := scope.xpath(".//*[@property='v:summary']"):
        yield "v:summary", text_of(summary[0])
    # Always cut off after some eighty signs: better than nothing, and "selectors" tells.
    match = _CUT_DESCRIPTION.match(meta_content(page, "description"))
    yield "meta description (cut)", match[1] if match else None


def _tags(page: Selector, scope: Selector) -> Iterator[tuple[str, list[str]]]:
    yield "#icon_tag_list a", [text_of(link) for link in scope.xpath(".//*[@id='icon_tag_list']//a")]
    yield "a[href^=tags-]", [text_of(link) for link in scope.xpath(".//a[starts-with(@href, 'tags-')]")]
    yield "meta keywords", meta_content(page, "keywords").split(",")


def _authors(scope: Selector, sentence: dict[str, str]) -> Iterator[tuple[str, str | None]]:
    user = scope.xpath(".//i[contains(@class, 'icofont-user')]")
    yield "icofont-user + a", user.xpath("string(following-sibling::a[1])").get()
    yield "avatar alt", scope.xpath(".//img[contains(@src, 'img/artist/')]/@alt").get()
    yield "v:", sentence.get("author")


def _labels(scope: Selector) -> dict[str, str]:
    """Return layout B's facts: an ``h5`` with the label, a ``p`` with the value."""
    return {
        text_of(label).strip().lower(): label.xpath("string(following-sibling::p[1])").get("").strip()
        for label in scope.xpath(".//h5")
    }


def _sentence(scope: Selector) -> dict[str, str]:
    """Return layout A's facts: one line in the RDFa block, parted by bars."""
    block = scope.xpath("string(.//*[@typeof='v:Review-aggregate'])").get("")
    return {name: match[1].strip() for name, pattern in _IN_SENTENCE.items() if (match := pattern.search(block))}


_IN_SENTENCE = {
    "license": re.compile(r"License:\s*([^|]*?)\s*(?:\||$)"),
    "author": re.compile(r"Recorded by\s+([^|]*?)\s*(?:\||$)"),
    "size": re.compile(r"File Size:\s*([^|]*?)\s*(?:\||$)"),
    "uploaded": re.compile(r"Uploaded:\s*([^|]*?)\s*(?:\||$)"),
    "downloads": re.compile(r"Downloads:\s*([\d,]+)"),
}


def _extra(facts: dict[str, str], chain: Chain) -> dict[str, Any]:
    extra: dict[str, Any] = {name: facts[name] for name in ("size", "uploaded") if facts.get(name)}
    if digits := re.sub(r"\D", "", facts.get("downloads", "")):
        extra["downloads"] = int(digits)
    if chain.selectors["description"] == "meta description (cut)":
        extra["description_cut"] = True
    return extra


def _published_audio(scope: Selector, url: str, source_id: str) -> Iterator[AudioLink]:
    """Yield the downloads that the page offers for this very sound: a related sound's player is not ours."""
    for link in scope.xpath(".//a[contains(@href, 'grab.php')]/@href").getall():
        address = absolute(url, link)
        query = parse_qs(urlsplit(address).query)
        if query.get("id") == [source_id] and query.get("type") in (["wav"], ["mp3"]):
            yield AudioLink(re.sub(r"^http://", "https://", address), f"grab.php {query['type'][0]}")
    player = scope.xpath(".//*[@data-source][not(ancestor::*[contains(@class, 'course-item')])]/@data-source").get()
    player = player or scope.xpath(".//embed/@flashvars").re_first(r"(?:^|&)song=([^&]+)")
    if player:
        yield AudioLink(absolute(url, player if "://" in player else "/" + player.lstrip("/")), "player")


def _ranked(published: list[AudioLink], url: str, source_id: str) -> Iterator[AudioLink]:
    """Yield wav, mp3, the player's file, and last the wav that hot-links show beside the player's mp3."""
    by_kind = {link.selector: link for link in reversed(published)}
    for kind in ("wav", "mp3"):
        guess = AudioLink(absolute(url, f"/grab.php?id={source_id}&type={kind}"), f"grab.php {kind} (guessed)")
        yield by_kind.get(f"grab.php {kind}", guess)
    if player := by_kind.get("player"):
        yield player
        twin = re.sub(r"/mp3/([^/]+)\.mp3$", r"/wav/\1.wav", player.url)
        if twin != player.url:
            yield AudioLink(twin, "wav twin (guessed)")
