"""BigSoundBank's layout of 2026, from what is known of it: no page of it was at hand.

A sitemap lists the sounds; a page has JSON-LD (one block of it malformed), the number with a thousands comma, the
licence sentence broken over inline elements, players with the static files' addresses, and the gated download form,
which nothing should submit. Old addresses lead to the present ones; ``/UPLOAD/wav/`` leads to the page, not to audio.
Without the sitemap, the categories lead to most sounds and a search to the others. Of these pages the addresses and the
result block are known; the pages' links, the list of categories and the blocks "new" and "popular" are invented.
"""

from __future__ import annotations

import json
import re
import zlib
from html import escape
from urllib.parse import quote, urlencode

from demo.catalogue import Clip
from demo.pages.answers import (
    CONTENT_TYPES,
    Answer,
    Shelf,
    audio,
    clip_meta,
    clip_page,
    description,
    hyphenate,
    invented,
    not_found,
    page,
    redirect,
    site_rules,
)
from demo.pages.notices import BIGSOUNDBANK_LICENSES, BIGSOUNDBANK_RIGHTS, Notice, notice_body

HOST = "https://bigsoundbank.com"
ROBOTS = (
    f"User-agent: *\nDisallow: /download.php\nDisallow: /modules/\nCrawl-delay: 0\n\nSitemap: {HOST}/sitemap_bsb.xml\n"
)
FOLDERS = {"flac": "flac", "bwf-en": "wav", "mp3": "mp3", "ogg": "ogg"}
"""Folder under /UPLOAD, and the kind of file in it; the extension is the kind's name."""
CC0 = ("", "CC0", "CC0 1.0", "Public Domain")
"""Labels of the catalogue that this site prints as its own licence sentence."""
CATEGORIES = {
    "ANMLCat": "Cats",
    "BELLMisc": "Bells",
    "DOORKnck": "Knocks on doors",
    "RAINGlas": "Rain on glass",
    "TRNHorn": "Train horns",
    "WATRWave": "Waves",
}
"""Code and name, in the manner of the Universal Category System; which sounds stand in which is arbitrary."""
PER_PAGE = 20


def respond(shelf: Shelf, path: str, query: dict[str, str]) -> Answer:
    """Return what the site answers; see demo.pages.answers.Layout."""
    if rules := site_rules(shelf, path, ROBOTS):
        return rules
    if path == "/sitemap.xml":
        return _xml("sitemapindex", f"<sitemap><loc>{HOST}/sitemap_bsb.xml</loc></sitemap>")
    if path == "/sitemap_bsb.xml":
        return _xml("urlset", _sitemap(shelf))
    if path == "/":
        return page(_frame("BigSoundBank", f"<h1>New sounds</h1>\n{_list(shelf, shelf.newest[:12])}"))
    if path == "/categories.html":
        return page(_frame("Categories | BigSoundBank", _categories(shelf)))
    if path == "/search":
        return page(_search(shelf, query))
    if path == "/licenses.html":
        return page(_notice(BIGSOUNDBANK_LICENSES))
    if path == "/droit.html":
        return page(_notice(BIGSOUNDBANK_RIGHTS))
    if path == "/download.php":
        return page(_frame("Please wait", "<form id='dl-form' action='/modules/telecharger.php'></form>"))
    if match := re.fullmatch(r"/UPLOAD/([a-z0-9-]+)/(\d{3,12})\.([a-z0-9]+)", path):
        return _upload(shelf, match[1], int(match[2]), match[3])
    if match := re.fullmatch(r"/.*-s(\d{3,12})\.html", path):
        clip = shelf.by_id.get(int(match[1]))
        return clip_page(_detail(shelf, clip), clip) if clip else not_found("No such sound")
    if match := re.fullmatch(r"/(?:detail|sound)-(\d{3,12})-.*\.html", path):
        clip = shelf.by_id.get(int(match[1]))
        return redirect(f"/{_slug(clip)}", status=301, clip=clip) if clip else not_found("No such sound")
    if re.fullmatch(r"/s\d{3,12}\.html", path):
        return redirect("/")
    return not_found("No such page")


def category(clip: Clip) -> str | None:
    """Return the code of the category a sound stands in: that of its first tag. Every tenth number stands in none."""
    if clip.id % 10 == 0:
        return None
    subject = clip.tags[0] if clip.tags else clip.title
    return list(CATEGORIES)[zlib.crc32(subject.encode()) % len(CATEGORIES)]


def _slug(clip: Clip) -> str:
    return f"{hyphenate(clip.title.lower())}-s{clip.id:04}.html"


def _upload(shelf: Shelf, folder: str, number: int, extension: str) -> Answer:
    clip = shelf.by_id.get(number)
    if clip is None:
        return not_found("No such sound")
    if folder == "wav":
        return redirect(f"/{_slug(clip)}", clip=clip, is_audio=True)
    kind = FOLDERS.get(folder)
    if kind is None or kind != extension or kind not in clip.files:
        return not_found("No such file")
    return audio(shelf, clip, kind)


def _addresses(clip: Clip, *folders: str) -> list[tuple[str, str]]:
    """The kind and the path of each file that the clip has in these folders."""
    return [
        (FOLDERS[folder], f"/UPLOAD/{folder}/{clip.id:04}.{FOLDERS[folder]}")
        for folder in folders
        if FOLDERS[folder] in clip.files
    ]


def _xml(root: str, entries: str) -> Answer:
    return page(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<{root} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{entries}\n</{root}>\n',
        content_type="application/xml; charset=UTF-8",
    )


def _sitemap(shelf: Shelf) -> str:
    paths = ["", "categories.html", "licenses.html", "droit.html", *(quote(_slug(clip)) for clip in shelf.newest)]
    return "\n".join(f"<url><loc>{HOST}/{path}</loc></url>" for path in paths)


def _json_ld(shelf: Shelf, clip: Clip) -> str:
    seconds = shelf.seconds(clip)
    media = [
        {"@type": "MediaObject", "contentUrl": HOST + path, "encodingFormat": CONTENT_TYPES[kind]}
        for kind, path in _addresses(clip, "mp3", "ogg")
    ]
    node = {
        "@context": "https://schema.org",
        "@type": "AudioObject",
        "name": f"{clip.title} — Free sound effect",
        "description": description(clip),
        "keywords": ", ".join(clip.tags),
        "author": {"@type": "Person", "name": clip.author},
        "encoding": media,
    }
    if media:
        node["contentUrl"] = media[0]["contentUrl"]
    if seconds is not None:
        node["duration"] = f"PT{seconds // 60}M{seconds % 60}S"
    return json.dumps([{"@type": "WebSite", "name": "BigSoundBank"}, node], ensure_ascii=False).replace("</", "<\\/")


def _length(shelf: Shelf, clip: Clip) -> str:
    seconds = shelf.seconds(clip)
    return "" if seconds is None else f"Length: {seconds // 60:02}:{seconds % 60:02}."


def _license(clip: Clip) -> str:
    if clip.license in CC0:
        return (
            "License <a href='/licenses.html'><b>CC0</b></a> <span>(public <em>domain</em>)</span>: "
            "<i>Free and</i> <i>royalty-free</i>"
        )
    return f"License <a href='/licenses.html'><b>{escape(clip.license)}</b></a>"


def _detail(shelf: Shelf, clip: Clip) -> str:
    title, text = escape(clip.title), escape(description(clip))
    sources = "".join(
        f"<source src='{path}' type='{CONTENT_TYPES[kind]}'>"
        for kind, path in _addresses(clip, "mp3", "ogg", "flac", "bwf-en")
    )
    head = f"""{clip_meta(clip)}<meta name="description" content="{text}">
<meta property="og:title" content="{title} — Free sound effect">
<meta property="og:description" content="{text}">
<script type="application/ld+json">{{"@type": "BreadcrumbList", "itemListElement": [{{"position": 1,}}]}}</script>
<script type="application/ld+json">{_json_ld(shelf, clip)}</script>
"""
    return _frame(
        f"{title} — Free sound effect | BigSoundBank",
        f"""<h1>{title}</h1>
<audio controls preload='none'>{sources}</audio>
<div style='text-align:justify;'>{text} {_length(shelf, clip)}</div>
<p>Sound number: <b>{clip.id:,}</b><br>
Author: <a href='/search?q={quote(clip.author)}'>{escape(clip.author)}</a><br>
{_license(clip)}</p>
<form method="post" action="{HOST}/download.php">
<input type="hidden" name="id" value="{clip.id:04}"><input type="hidden" name="format" value="wav">
<input type="text" name="antibot_hp" value="" style="display:none">
<button name="button" value="Download">WAV</button>
</form>
<h3>Is this sound free?</h3><p>The licence above says so.</p>
<h2>Other sounds</h2>
{_list(shelf, shelf.others(clip, 3))}""",
        head=head,
    )


def _list(shelf: Shelf, clips: list[Clip]) -> str:
    return "\n".join(
        f"<div class='resultat_{number % 2}'><h2 style='margin:0;'>"
        f"<a href='/{quote(_slug(clip))}'>{escape(clip.title)}</a></h2>"
        f"<div style='text-align:justify;'>{escape(description(clip))} {_length(shelf, clip)}</div></div>"
        for number, clip in enumerate(clips)
    )


def _categories(shelf: Shelf) -> str:
    counts = dict.fromkeys(CATEGORIES, 0)
    for clip in shelf.newest:
        if code := category(clip):
            counts[code] += 1
    items = "\n".join(
        f"<li><a href='/search?CatID={code}'>{CATEGORIES[code]}</a> ({count})</li>"
        for code, count in counts.items()
        if count
    )
    return f"<h1>Categories</h1>\n<ul class='categories'>\n{items}\n</ul>"


def _search(shelf: Shelf, query: dict[str, str]) -> str:
    """Return one page of what has the words (q), the category (CatID), or both; with no hit it says nothing of it."""
    asked = {name: query[name] for name in ("q", "CatID") if query.get(name)}
    found = shelf.search(asked["q"]) if "q" in asked else shelf.newest if asked else []
    if "CatID" in asked:
        found = [clip for clip in found if category(clip) == asked["CatID"]]
    last = -(-len(found) // PER_PAGE)
    number = int(query["page"]) if re.fullmatch(r"[1-9][0-9]{0,8}", query.get("page", "")) else 1
    links = " ".join(
        f"<a href='/search?{escape(urlencode(asked | {'page': str(n)}))}'>{n}</a>"
        for n in range(max(1, number - 2), min(last, number + 2) + 1)
        if n != number
    )
    heading = escape(asked.get("q") or CATEGORIES.get(asked.get("CatID", ""), "Search"))
    popular = sorted(shelf.newest, key=lambda clip: -invented(clip, 900, 400_000))
    return _frame(
        f"{heading} | BigSoundBank",
        f"""<h1>{heading}</h1>
{_list(shelf, found[(number - 1) * PER_PAGE : number * PER_PAGE])}
<p class='pages'>{links}</p>
{_block("New sounds", shelf.newest[:4])}
{_block("Popular sounds", popular[:4])}""",
    )


def _block(heading: str, clips: list[Clip]) -> str:
    items = "".join(f"<li><a href='/{quote(_slug(clip))}'>{escape(clip.title)}</a></li>" for clip in clips)
    return f"<h3>{heading}</h3>\n<ul class='bloc'>{items}</ul>"


def _notice(notice: Notice) -> str:
    return _frame(f"{notice.heading} | BigSoundBank", notice_body(notice))


def _frame(title: str, main: str, *, head: str = "") -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta name="csrf-token" content="c0ffee">
{head}</head>
<body>
<nav><a href="/">Home</a> <a href="/categories.html">Categories</a> <a href="/licenses.html">Licenses</a>
<form action="/search"><input name="q"></form></nav>
<main>
{main}
</main>
<footer>BigSoundBank (a stand-in) <a href="/droit.html">Rights</a>
<a href="/sound-0001-old-link.html">An old link</a></footer>
</body>
</html>
"""
