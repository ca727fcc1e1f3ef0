"""soundbible.com: listing pages and detail pages to fields.

Two layouts are known. A, seen 2010 to 2017: everything in ``div#main``, the facts in an RDFa block. B, since 2022:
``section#course-details``, followed by related sounds with players and tags of their own, hence the scopes. The
related sounds, the footer's tags, the site owner in ``meta[name=author]`` and the cut-off ``meta[name=description]``
are what leaks into a data set when a selector is not scoped: where neither scope is there, only what cannot be another
sound's is read (the head of the page, and downloads that carry the id).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from parsel import Selector

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
)

HOME = "https://soundbible.com"

_PAGE = re.compile(r"/([0-9]{1,12})-([^/]*)\.html")
_LISTING = re.compile(r"\bfree-sound-effects-([0-9]{1,6})\.html")
_TAG = re.compile(r"(?:^|/)tags-[^/]*\.html$")
_FACTS_MAX = 40
"""Labels that are read; layout B has three."""

_SCOPES = (("//*[@id='course-details']", "b"), ("//div[@id='main']", "a"))
_FOREIGN = (
    ".//*[@id='cource-details-tabs' or @id='sidebar' or @id='footer' or @id='header' or @id='nav']",
    ".//*[contains(@class, 'course-item') or contains(@class, 'sidemenu')]",
    ".//tr[contains(@class, 'row-')]",
    ".//footer | .//header | .//nav | .//aside",
)
"""Inside a scope too: a section that is not closed holds all that follows it."""


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
    match = _PAGE.fullmatch(path_of(url))
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
    head_title = _head_title(page)
    scope, layout = _scope(page)
    own = scope if layout != "unknown" else parse("")
    chain = Chain()
    title = chain.first("title", _titles(own, layout, head_title, url))
    description = chain.first("description", _descriptions(page, own, layout))
    published = list(_published_audio(scope, layout, url, source_id))
    if chain.selectors["title"] in _TITLE_OF_LAST_RESORT and not description and not published:
        raise PageError("the page shows no title, no description and no download of a sound")
    labels, sentence = _labels(own), _sentence(own) if layout == "a" else {}
    license_raw = chain.first("license", (("h5 + p", labels.get("license")), ("text |", sentence.get("license"))))
    return PageFields(
        source_id=source_id,
        page_url=url,
        title=title,
        description=description,
        tags=chain.first_list("tags", _tags(page, own)),
        author=chain.first("author", _authors(own, sentence)),
        license_raw=license_raw,
        license_url="",
        audio=tuple(_ranked(published, url, source_id)),
        extra={"layout": layout} | _extra(sentence | labels, chain),
        selectors=chain.selectors,
    )


_TITLE_OF_LAST_RESORT = ("head title", "slug", "none")


def _scope(page: Selector) -> tuple[Selector, str]:
    for selector, layout in _SCOPES:
        if found := page.xpath(selector):
            drop(found[0], *_FOREIGN)
            return found[0], layout
    drop(page, *_FOREIGN)
    return page, "unknown"


def _head_title(page: Selector) -> str:
    """Return the title that the page's head tells; in layout A an empty head may come first."""
    titles = page.xpath("//title[not(ancestor::svg)]/text()").getall()
    named = (title.partition(" Sounds | Effects") for title in titles)
    return next((name for name, found, _ in named if found), titles[0] if titles else "")


def _titles(scope: Selector, layout: str, head_title: str, url: str) -> Iterator[tuple[str, str | None]]:
    if layout == "b" and (heading := scope.xpath("(.//h3)[1]")):
        yield "h3", text_of(heading[0])
    if layout == "a":
        yield "v:itemreviewed", scope.xpath("string(.//*[@property='v:itemreviewed'])").get()
        yield "h2", _without_sound(scope.xpath("string(.//h2)").get(""))
    yield "head title", head_title
    match = _PAGE.fullmatch(path_of(url))
    yield "slug", slug_title(match[2]) if match else None


def _without_sound(heading: str) -> str:
    """Return layout A's heading, "Old Door Sound", without the word that the site adds."""
    title = heading.rstrip().removesuffix("Sound")
    return title if title[-1:].isspace() else heading


def _descriptions(page: Selector, scope: Selector, layout: str) -> Iterator[tuple[str, str | None]]:
    after_title = "(.//h3)[1]/following-sibling::p[1]"
    no_player_between = "[not(preceding-sibling::*[descendant-or-self::*[@data-source]])]"
    if layout == "b" and (paragraph := scope.xpath(after_title + no_player_between)):
        yield "h3 + p", text_of(paragraph[0])
    if summary := scope.xpath(".//*[@property='v:summary']"):
        yield "v:summary", text_of(summary[0])
    # Always cut off after some eighty signs: better than nothing, and "selectors" tells.
    cut = meta_content(page, "description").partition("Free. Get ")[2].partition("in Wav or MP3 format")[0]
    yield "meta description (cut)", cut.rstrip().rstrip(".")


def _tags(page: Selector, scope: Selector) -> Iterator[tuple[str, list[str]]]:
    yield "#icon_tag_list a", _tag_texts(scope.xpath(".//*[@id='icon_tag_list']//a[contains(@href, 'tags-')]"))
    yield "a[href^=tags-]", _tag_texts(scope.xpath(".//a[contains(@href, 'tags-')]"))
    yield "meta keywords", meta_content(page, "keywords").split(",")


def _tag_texts(links: Iterable[Selector]) -> list[str]:
    """Return the texts of the links that lead to a tag's page: an unclosed list holds other links too."""
    return [text_of(link) for link in links if _TAG.search(link.attrib["href"])]


def _authors(scope: Selector, sentence: dict[str, str]) -> Iterator[tuple[str, str | None]]:
    user = scope.xpath("(.//i[contains(@class, 'icofont-user')])[1]")
    yield "icofont-user + a", user.xpath("string(following-sibling::a[1])").get()
    yield "avatar alt", scope.xpath(".//img[contains(@src, 'img/artist/')]/@alt").get()
    yield "text |", sentence.get("author")


def _labels(scope: Selector) -> dict[str, str]:
    """Return layout B's facts: an ``h5`` with the label, a ``p`` with the value; of two with one label the first."""
    facts: dict[str, str] = {}
    for label in scope.xpath(f"(.//h5)[position() <= {_FACTS_MAX}]"):
        value = label.xpath("string(following-sibling::p[1])").get("").strip()
        facts.setdefault(label.xpath("normalize-space()").get("").lower(), value)
    return facts


def _sentence(scope: Selector) -> dict[str, str]:
    """Return layout A's facts: one line, parted by bars, in the RDFa block, or in the page's text where there is none.

    What the uploader wrote stands before it, in elements with a ``property``, and may hold the same words.
    """
    block = scope.xpath("(.//*[@typeof='v:Review-aggregate'])[1]") or scope
    texts = block.xpath(".//text()[not(ancestor::*[@property]) and not(parent::script or parent::a)]").getall()
    facts: dict[str, str] = {}
    for number, part in enumerate("".join(texts).split("|")):
        for name, label in _IN_SENTENCE.items():
            before, found, value = part.rpartition(label)
            if found and value.strip() and (number == 0 or not before.strip()):  # the first: "Title: About: Uploaded:"
                facts[name] = value.strip()
    return facts


_IN_SENTENCE = {
    "license": "License:",
    "author": "Recorded by",
    "size": "File Size:",
    "uploaded": "Uploaded:",
    "downloads": "Downloads:",
}


def _extra(facts: dict[str, str], chain: Chain) -> dict[str, Any]:
    extra: dict[str, Any] = {name: facts[name] for name in ("size", "uploaded") if facts.get(name)}
    if downloads := re.match(r"[0-9][0-9,]{0,14}", facts.get("downloads", "")):
        extra["downloads"] = int(downloads[0].replace(",", ""))
    if chain.selectors["description"] == "meta description (cut)":
        extra["description_cut"] = True
    return extra


def _published_audio(scope: Selector, layout: str, url: str, source_id: str) -> Iterator[AudioLink]:
    """Yield the downloads that the page offers for this very sound.

    A player's file carries no id, so it counts inside a scope only: another sound's audio is the worst that can leak.
    """
    for link in scope.xpath(".//a[contains(@href, 'grab.php')]/@href").getall():
        address = re.sub(r"^http://", "https://", absolute(url, link))
        if path_of(address) != "/grab.php" or urlsplit(address).hostname not in _hosts(url):
            continue
        query = parse_qs(urlsplit(address).query)
        if query.get("id") == [source_id] and query.get("type") in (["wav"], ["mp3"]):
            yield AudioLink(address, f"grab.php {query['type'][0]}")
    player = None
    if layout == "b":
        player = scope.xpath(".//*[@data-source]/@data-source").get()
    elif layout == "a":
        player = scope.xpath(".//embed/@flashvars").re_first(r"(?:^|&)song=([^&]+)")
    if player:
        name = player.strip().replace("?", "%3F").replace("#", "%23")  # signs of a file's name, not of an address
        if address := absolute(url, name if "://" in name else "/" + name.lstrip("/")):
            yield AudioLink(address, "player")


def _hosts(url: str) -> tuple[str, str]:
    host = (urlsplit(url).hostname or "").removeprefix("www.")
    return host, f"www.{host}"


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
