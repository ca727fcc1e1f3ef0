"""Nothing that stands outside a clip's own part of its page may reach its record.

Each page is built with a marked word in every place that is another sound's or the site's own: related sounds,
navigation, footer, side bar, other sounds' JSON-LD, ``meta author``. No field may hold the mark, with the clip's own
part in its place, taken out piece by piece, moved, or gone.
"""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.pages import bigsoundbank, soundbible
from crawler.pages.fields import PageError, PageFields

P = "POISON"
SB_URL = f"{soundbible.HOME}/77-Old-Door.html"
BSB_URL = f"{bigsoundbank.HOME}/old-door-s0077.html"

SB_HEAD = f"""<head><title>Old Door Sounds | Effects | Sound Bites | Sound Clips from SoundBible.com</title>
<meta name="author" content="{P}"><meta name="keywords" content="door, wood">
<meta name="description" content="Old Door Sounds | Effects | Clips Free. Get A door that is cu...."></head>"""
SB_NAV = f"""<header id="header"><h2>{P}</h2><h3>{P}</h3><p>{P}</p><a href="tags-{P}.html">{P}</a>
<div data-source="mp3/{P}.mp3"></div></header>"""
SB_RELATED = f"""<section id="cource-details-tabs"><div class="course-item"><h3>{P}</h3><p>{P}</p>
<h5>License</h5><p>{P}</p><h5>Size</h5><p>{P}</p><i class="icofont-user-male"></i><a href="#">{P}</a>
<img src="img/artist/{P}.jpg" alt="{P}"><ul id="icon_tag_list"><li><a href="tags-{P}.html">{P}</a></li></ul>
<a href="http://soundbible.com/grab.php?id=78&type=wav">{P}</a><div data-source="mp3/{P}.mp3"></div>
<embed flashvars="song=/mp3/{P}.mp3"></div></section>"""
SB_FOOT = f"""<footer id="footer"><h2>{P} Sound</h2><a href="tags-{P}.html">{P}</a><h5>License</h5><p>{P}</p>
<a href="https://{P}.example/grab.php?id=77&type=wav">{P}</a><div data-source="mp3/{P}.mp3"></div></footer>"""
B_TITLE = "<h3>Old Door</h3>"
B_TEXT = "<p>A wooden door.</p>"
B_PLAYER = '<div id="ag1"><div data-source="mp3/Old.mp3"></div></div>'
B_TAGS = '<ul id="icon_tag_list"><li><a href="tags-door.html">door</a></li>'
B_USER = '<img src="img/artist/a.jpg" alt="Ada"><i class="icofont-user-male"></i><a href="#">Ada</a>'
B_FACTS = "<div><h5>License</h5><p>Attribution 3.0</p></div><div><h5>Size</h5><p>1MB</p></div>"
B_LINKS = '<a href="grab.php?id=77&type=wav">w</a>'
B_PARTS = (B_TITLE, B_TEXT, B_PLAYER, B_TAGS, B_USER, B_FACTS, B_LINKS)

A_SIMILAR = f"""<table><tr class="row-a"><th>License</th></tr><tr class="row-b"><td><a href="5-{P}.html">{P}</a>
<h2>{P} Sound</h2><a href="tags-{P}.html">{P}</a><span property="v:summary">{P}</span></td>
<td><embed flashvars="theFile=/mp3/{P}.mp3"><embed flashvars="song=/mp3/{P}.mp3"></td><td>{P}</td></tr></table>"""
A_SIDE = f"""<div id="sidebar"><h2>{P}</h2><ul class="sidemenu"><li><a href="/9-{P}.html">{P}</a></li></ul>
<a href="tags-{P}.html">{P}</a><embed flashvars="song=/mp3/{P}.mp3"></div><div id="footer"><h2>{P}</h2></div>"""
A_PARTS = (
    "<h2>Old Door Sound</h2>",
    '<embed flashvars="song=/mp3/Old.mp3">',
    """<div typeof="v:Review-aggregate">Title: <span property="v:itemreviewed">Old Door</span><br>About: <span
    property="v:summary">A door. | License: mine | Recorded by me | Downloads: 7</span><br> Uploaded: 07.06.09 |
    License: Public Domain | Recorded by ada | File Size: 242 KB | Downloads: 77755<br></div>""",
    "<p><a href='tags-door.html'>door</a>, <a href='free-sound-effects-1.html'>all sounds</a></p>",
)


def layout_b(parts: tuple[str, ...], *, scope: str = "course-details", closed: bool = True) -> str:
    own = f'<section id="{scope}">{"".join(parts)}' + "</div></section>" * closed
    return f"<html>{SB_HEAD}<body>{SB_NAV}<main id='main'>{own}{SB_RELATED}</main></main>{SB_FOOT}</body></html>"


def layout_a(parts: tuple[str, ...], *, scope: str = "main", closed: bool = True) -> str:
    own = f'<div id="{scope}">{"".join(parts)}{A_SIMILAR}' + "</div>" * closed
    return f"<html><head></head></html><html>{SB_HEAD}<body>{SB_NAV}{own}{A_SIDE}{SB_FOOT}</body></html>"


def leaks(fields: PageFields) -> list[str]:
    return [name for name, value in dataclasses.asdict(fields).items() if P.lower() in repr(value).lower()]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_part_of_soundbibles_other_sounds_reaches_a_field(data: st.DataObject) -> None:
    build, parts = data.draw(st.sampled_from([(layout_b, B_PARTS), (layout_a, A_PARTS)]))
    kept = tuple(part for part in parts if data.draw(st.booleans()))
    name = data.draw(st.sampled_from(["", "moved"]))
    html = build(kept, closed=data.draw(st.booleans()), **({"scope": name} if name else {}))
    try:
        fields = soundbible.parse_detail(html, SB_URL)
    except PageError:
        return
    assert leaks(fields) == []
    assert fields.title == "Old Door"
    assert fields.author in ("", "Ada", "ada")
    assert fields.license_raw in ("", "Attribution 3.0", "Public Domain")
    assert set(fields.tags) <= {"door", "wood"}
    assert "mine" not in repr(fields.extra) + fields.license_raw


def test_soundbibles_pages_whole() -> None:
    b = soundbible.parse_detail(layout_b(B_PARTS), SB_URL)
    assert (b.title, b.description, b.tags, b.author) == ("Old Door", "A wooden door.", ("door",), "Ada")
    assert (b.license_raw, b.extra) == ("Attribution 3.0", {"layout": "b", "size": "1MB"})
    assert [link.selector for link in b.audio] == [
        "grab.php wav",
        "grab.php mp3 (guessed)",
        "player",
        "wav twin (guessed)",
    ]
    a = soundbible.parse_detail(layout_a(A_PARTS), SB_URL)
    assert (a.title, a.tags, a.author, a.license_raw) == ("Old Door", ("door",), "ada", "Public Domain")
    assert a.description == "A door. | License: mine | Recorded by me | Downloads: 7"
    assert a.extra == {"layout": "a", "size": "242 KB", "uploaded": "07.06.09", "downloads": 77755}
    assert [link.selector for link in a.audio][2:] == ["player", "wav twin (guessed)"]


@pytest.mark.parametrize("build", [layout_a, layout_b])
def test_a_page_without_its_scope_gives_what_its_head_tells_and_says_so(build) -> None:  # type: ignore[no-untyped-def]
    fields = soundbible.parse_detail(build(B_PARTS if build is layout_b else A_PARTS, scope="moved"), SB_URL)
    assert fields.selectors == {
        "title": "head title",
        "description": "meta description (cut)",
        "tags": "meta keywords",
        "author": "none",
        "license": "none",
    }
    assert (fields.title, fields.description, fields.tags) == ("Old Door", "A door that is cu", ("door", "wood"))
    assert fields.extra == {"layout": "unknown", "description_cut": True}
    assert [link.selector for link in fields.audio][1:] == ["grab.php mp3 (guessed)"], (
        "a player carries no id: not taken"
    )


OTHER = {
    "@type": "AudioObject",
    "name": P,
    "description": P,
    "keywords": P,
    "author": P,
    "license": f"http://{P}",
    "genre": P,
    "duration": "PT666S",
    "contentUrl": "https://bigsoundbank.com/UPLOAD/flac/0078.flac",
}
SITE = {"@type": "WebSite", "name": P, "description": P, "author": P, "license": f"http://{P}", "keywords": P}
OWN = {
    "@type": "AudioObject",
    "name": "Old Door — Free sound",
    "description": "A wooden door.",
    "keywords": "door",
    "author": "Ada",
    "url": BSB_URL,
}
BSB_PARTS = (
    "<h1>Old Door</h1>",
    "<div style='text-align:justify;'>A wooden door. Length: 00:02.</div>",
    "<p>Sound number: 77<br>Author: Ada<br>License CC0 (public domain): Free</p>",
    "<audio><source src='/UPLOAD/mp3/0077.mp3'><source src='/UPLOAD/flac/0078.flac'></audio>",
)
BSB_AROUND = f"""<h1>{P}</h1><div style='text-align:justify'>{P}</div><p>Author: {P}<br>License {P}<br>Channels: {P}</p>
<a href='http://{P}.example/licence'>{P}</a>"""
BSB_OTHERS = f"""<div class='resultat_0'><h2><a href='/license-{P}-s0078.html'>{P}</a></h2>{BSB_AROUND}Length: 11:06.
<audio src='/UPLOAD/flac/0078.flac'></audio><a href='/UPLOAD/bwf-en/0078.wav'>{P}</a></div>"""


def bsb_page(blocks: list[object], parts: tuple[str, ...]) -> str:
    scripts = "".join(f"<script type='application/ld+json'>{json.dumps(block)}</script>" for block in blocks)
    return f"""<html><head><title>Old Door | BigSoundBank</title><meta name="author" content="{P}">{scripts}</head>
    <body><header>{BSB_AROUND}</header><nav>{BSB_AROUND}</nav><main>{"".join(parts)}<h2>Other sounds</h2>{BSB_OTHERS}
    </main><aside>{BSB_AROUND}</aside><footer>{BSB_AROUND}</footer></body></html>"""


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_part_of_bigsoundbanks_other_sounds_reaches_a_field(data: st.DataObject) -> None:
    kept = tuple(part for part in BSB_PARTS if data.draw(st.booleans()))
    mixed: list[object] = [OTHER, SITE, {"@graph": [OTHER, SITE]}, [OTHER], OWN | {"isRelatedTo": [OTHER]}]
    html = bsb_page(data.draw(st.lists(st.sampled_from([*mixed, OWN]), max_size=4)), kept)
    try:
        fields = bigsoundbank.parse_detail(html, BSB_URL)
    except PageError:
        return
    assert leaks(fields) == []
    assert fields.title == "Old Door"
    assert fields.extra.get("duration_s") in (None, 2.0)
    assert not [link for link in fields.audio if "0078" in link.url]
    assert fields.license_raw in ("", "CC0 (public domain)")
