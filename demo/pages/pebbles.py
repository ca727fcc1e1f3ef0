"""Pebble Sounds: a made-up third site, unlike the other two, on which a new spider can be tried.

What its pages hold is to be found by reading them, as on a real site.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from demo.catalogue import Clip
from demo.pages.answers import (
    CONTENT_TYPES,
    OTHER,
    Answer,
    Shelf,
    audio,
    clip_meta,
    clip_page,
    description,
    hyphenate,
    not_found,
    page,
    site_rules,
)
from demo.pages.notices import PEBBLES_TERMS, notice_body

HOST = "https://pebblesounds.example"
ROBOTS = "User-agent: *\nDisallow: /basket/\nCrawl-delay: 0\n"
PER_PAGE = 12


def respond(shelf: Shelf, path: str, query: dict[str, str]) -> Answer:
    """Return what the site answers; see demo.pages.answers.Layout."""
    if rules := site_rules(shelf, path, ROBOTS):
        return rules
    if path == "/":
        return page(_frame(shelf, "Pebble Sounds", "<p>Small sounds, picked up one by one. Start with a letter.</p>"))
    if match := re.fullmatch(rf"/browse/([a-z]|{OTHER})(?:/([1-9]\d{{0,8}}))?", path):
        return _browse(shelf, match[1], int(match[2] or 1))
    if match := re.fullmatch(r"/filed/([^/]+)", path):
        clips = [clip for tag, clips in shelf.by_tag.items() if hyphenate(tag) == match[1] for clip in clips]
        return page(_frame(shelf, f"Filed under {match[1]}", _list(clips))) if clips else not_found("No such label")
    if path == "/terms":
        return page(_frame(shelf, "Pebble Sounds", notice_body(PEBBLES_TERMS)))
    if (match := re.fullmatch(r"/sound/p-(\d{4,12})", path)) and (clip := shelf.by_id.get(int(match[1]))):
        return clip_page(_detail(shelf, clip), clip)
    if (match := re.fullmatch(r"/files/p-(\d{4,12})\.(\w+)", path)) and (clip := shelf.by_id.get(int(match[1]))):
        return audio(shelf, clip, match[2]) if match[2] in clip.files else not_found("No such file")
    return not_found("No such page")


def _number(clip: Clip) -> str:
    return f"p-{clip.id:04}"


def _browse(shelf: Shelf, index: str, number: int) -> Answer:
    clips = sorted(shelf.by_letter.get(index, ()), key=lambda clip: (clip.title, clip.id))
    here = clips[(number - 1) * PER_PAGE : number * PER_PAGE]
    if not here:
        return not_found("Nothing lies here")
    more = f'<p><a rel="next" href="/browse/{index}/{number + 1}">More of {index}</a></p>'
    return page(
        _frame(shelf, f"Sounds: {index}", _list(here) + (more if number * PER_PAGE < len(clips) else ""), at=index)
    )


def _list(clips: Iterable[Clip]) -> str:
    items = "\n".join(
        f'<li><a href="/sound/{_number(clip)}">{escape(clip.title) or "Untitled"}</a> by {escape(clip.author)}</li>'
        for clip in clips
    )
    return f'<ol class="pebbles">\n{items}\n</ol>'


def _kinds(clip: Clip) -> tuple[str, str]:
    """Return the kind that the player plays, a small one where there is one, and the kind that is for download."""
    kinds = list(clip.files)
    small = next((kind for kind in ("mp3", "ogg") if kind in kinds), kinds[0])
    return small, next((kind for kind in kinds if kind not in ("mp3", "ogg")), small)


def _player(clip: Clip) -> str:
    small, _ = _kinds(clip)
    content_type = CONTENT_TYPES.get(small, "application/octet-stream")
    return f'<audio controls><source src="/files/{_number(clip)}.{small}" type="{content_type}"></audio>'


def _facts(clip: Clip) -> str:
    return f"<dt>Found by</dt><dd>{escape(clip.author)}</dd>\n<dt>Licence</dt><dd>{escape(clip.license)}</dd>"


def _detail(shelf: Shelf, clip: Clip) -> str:
    _, kind = _kinds(clip)
    seconds = shelf.seconds(clip)
    length = "" if seconds is None else f"\n<dt>Length</dt><dd>{seconds // 60}:{seconds % 60:02}</dd>"
    labels = "".join(
        f'<dd><a href="/filed/{quote(hyphenate(tag))}">{escape(tag)}</a></dd>' for tag in dict.fromkeys(clip.tags)
    )
    nearby = "\n".join(
        f'<section><h3><a href="/sound/{_number(other)}">{escape(other.title)}</a></h3>\n{_player(other)}\n'
        f"<dl>{_facts(other)}</dl></section>"
        for other in shelf.others(clip, 2)
    )
    return _frame(
        shelf,
        f"{clip.title} ~ Pebble Sounds",
        f"""<article id="pebble">
<h1>{escape(clip.title)}</h1>
<figure>{_player(clip)}
<figcaption>{escape(description(clip))}</figcaption></figure>
<dl>
{_facts(clip)}
<dt>Filed under</dt>{labels}{length}
</dl>
<p><a class="take" href="/files/{_number(clip)}.{kind}" download>Take it with you</a>
({kind.upper()}, {shelf.size(clip, kind):,} bytes)</p>
</article>
<aside><h2>Lying nearby</h2>
{nearby}
</aside>""",
        head=f'{clip_meta(clip)}<link rel="canonical" href="{HOST}/sound/{_number(clip)}">\n',
    )


def _frame(shelf: Shelf, title: str, main: str, *, head: str = "", at: str = "") -> str:
    letters = " ".join(
        f"<b>{index}</b>" if index == at else f'<a href="/browse/{index}">{index}</a>' for index in shelf.by_letter
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{escape(title)}</title>
{head}</head>
<body>
<header><a href="/">Pebble Sounds</a>
<nav>{letters}</nav></header>
<main>
{main}
</main>
<footer><dl><dt>Licence</dt><dd>These pages: all rights reserved</dd></dl><a href="/terms">House rules</a></footer>
</body>
</html>
"""
