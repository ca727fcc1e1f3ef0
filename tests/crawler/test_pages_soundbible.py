"""Hand-written pages with the site's structure; the archived ones are in test_pages_archived.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from crawler.pages.fields import PageError
from crawler.pages.soundbible import HOME, id_of, last_listing_page, listing_links, parse_detail
from demo.catalogue import Clip
from demo.pages import soundbible, soundbible_old
from demo.pages.answers import Layout, Shelf

URL = f"{HOME}/77-Old-Door.html"

LAYOUT_B = """<html><head><title>Old Door Sounds | Effects | Sound Bites | Sound Clips from SoundBible.com</title>
<meta name="author" content="Site Owner"><meta name="keywords" content="door, wood"><meta name="keywords" content="x">
<meta name="description" content="Old Door Sounds | Effects | Clips Free. Get An old door that is cut o....">
</head><body><main id="main"><section id="course-details"><div class="col-lg-8">
 <h3> Old Door </h3>
 <p>
   An old <a href="x.html">wooden</a> door &amp; its   hinge. \u200b
 </p>
 <div id="ag1" data-options='{"a": 1}'
 <!-- options -->
 <div class="audioplayer-tobe" data-source="mp3/Old Door -SoundBible.com-1.mp3"></div></div>
 <ul id="icon_tag_list"><li><a href="tags-door.html"> door</a></li><li><a href="tags-x.html"> </a></li>
 <li><a href="tags-Old--wood.html">Old  wood</a></li><li><a href="tags-door.html">door</a></li>
</div><div class="col-lg-4"><img src="img/artist/a.jpg" alt="Ada L."><p><i class="icofont-user-male"></i>
<a href="#">Ada L.</a></p><div><h5><i></i> License</h5><p>Attribution 3.0</p></div>
<div><h5>Downloads</h5><p>1,234</p></div><div><h5>Size</h5><p>0.5MB</p></div>
<a href="http://soundbible.com/grab.php?id=77&type=mp3">mp3</a><a href="grab.php?id=78&type=wav">another's</a>
<a href="http://soundbible.com/grab.php?id=77&type=wav">wav</a></div></section>
<section id="cource-details-tabs"><div class="course-item"><h3>Other</h3><p>Other text</p>
<a href="tags-leak.html">leak</a>
<div data-source="mp3/Other.mp3"></div></div></section></main></main>
<footer><a href="tags-gun.html">Gun Sounds</a></footer>
</body></html>"""

LAYOUT_A = """<html><head><title>x</title></head></html><html><head>
<title>Old Door Sounds | Effects | Sound Bites | Sound Clips from SoundBible.com</title></head><body>
<div id="main"><h2>Old Door Sound</h2><h3>Ads</h3><p>an ad</p>
<embed FlashVars="id=77&xml=x.xml"><embed FlashVars="song=/mp3/Old Door-1.mp3">
<a href="grab.php?id=77&type=wav">w</a> <a href="grab.php?id=77&type=mp3">m</a> <a href="grab.php?id=77&type=zip">z</a>
<div typeof="v:Review-aggregate">Title: <span property="v:itemreviewed">Old Door</span><br/>
About: <span property="v:summary">An old door, l&#39;ancienne.</span><br/> Uploaded: 07.06.09 |
 License: Sampling Plus 1.0 |
   Recorded by ada |
  File Size: 242 KB | Downloads: 77755<br/></div>
<h3>Sound Tags:</h3><p><a href='tags-door.html'>door</a>, <a href='tags-wood.html'>wood</a>,
<a href="free-sound-effects-1.html">all sounds</a></p>
<table><tr class="row-b"><td><a href='5-Other.html'>Other</a></td><td><embed flashvars="theFile=/mp3/Other.mp3"></td>
<td>Public Domain</td></tr></table></div><div id="sidebar"><a href='/9-New.html'>New</a></div></body></html>"""


def test_layout_b_gives_every_field_and_nothing_of_the_related_sounds() -> None:
    fields = parse_detail(LAYOUT_B, URL)
    assert (fields.source_id, fields.title) == ("77", "Old Door")
    assert fields.description == "An old wooden door & its   hinge. \u200b"
    assert fields.tags == ("door", "Old  wood", "door")
    assert (fields.author, fields.license_raw) == ("Ada L.", "Attribution 3.0")
    assert fields.extra == {"layout": "b", "downloads": 1234, "size": "0.5MB"}
    assert [link.url for link in fields.audio] == [
        f"{HOME}/grab.php?id=77&type=wav",
        f"{HOME}/grab.php?id=77&type=mp3",
        f"{HOME}/mp3/Old%20Door%20-SoundBible.com-1.mp3",
        f"{HOME}/wav/Old%20Door%20-SoundBible.com-1.wav",
    ]
    assert fields.selectors == {
        "title": "h3",
        "description": "h3 + p",
        "tags": "#icon_tag_list a",
        "author": "icofont-user + a",
        "license": "h5 + p",
    }


def test_layout_a_gives_every_field_after_an_early_end_of_the_page() -> None:
    fields = parse_detail(LAYOUT_A, URL)
    assert (fields.title, fields.description) == ("Old Door", "An old door, l'ancienne.")
    assert fields.tags == ("door", "wood")
    assert (fields.author, fields.license_raw) == ("ada", "Sampling Plus 1.0")
    assert fields.extra == {"layout": "a", "uploaded": "07.06.09", "size": "242 KB", "downloads": 77755}
    assert [link.selector for link in fields.audio] == ["grab.php wav", "grab.php mp3", "player", "wav twin (guessed)"]
    assert fields.selectors["description"] == "v:summary"


@pytest.mark.parametrize(
    ("old", "new", "field", "value", "selector"),
    [
        ("<h3> Old Door </h3>", "<h3></h3>", "title", "Old Door", "head title"),
        ('<ul id="icon_tag_list">', "<ul>", "tags", ("door", "Old  wood", "door"), "a[href^=tags-]"),
        ("icofont-user-male", "icon", "author", "Ada L.", "avatar alt"),
        ("License</h5>", "Terms</h5>", "license_raw", "", "none"),
    ],
)
def test_the_next_selector_of_the_chain_hits_and_is_named(
    old: str, new: str, field: str, value: object, selector: str
) -> None:
    assert old in LAYOUT_B
    fields = parse_detail(LAYOUT_B.replace(old, new), URL)
    assert getattr(fields, field) == value
    assert fields.selectors[field.removesuffix("_raw")] == selector


def test_a_description_of_last_resort_is_flagged_as_cut() -> None:
    start, end = LAYOUT_B.index(" <p>\n"), LAYOUT_B.index(" <div id=")
    fields = parse_detail(LAYOUT_B[:start] + "<p> </p>" + LAYOUT_B[end:], URL)
    assert fields.description == "An old door that is cut o"
    assert fields.selectors["description"] == "meta description (cut)"
    assert fields.extra["description_cut"] is True


def test_no_download_link_and_no_player_leaves_the_guessed_addresses() -> None:
    html = "<div id='main'><h2>Old Door Sound</h2></div>"
    assert [link.selector for link in parse_detail(html, URL).audio] == [
        "grab.php wav (guessed)",
        "grab.php mp3 (guessed)",
    ]


@pytest.mark.parametrize(
    ("html", "url", "message"),
    [
        (LAYOUT_B, f"{HOME}/", "the address names no sound"),
        (
            "<html><head><title>Down</title></head><body><h3>Back soon</h3></body></html>",
            URL,
            "no title, no description",
        ),
        ("", URL, "no title, no description"),
    ],
)
def test_what_is_not_the_page_of_a_sound_is_refused(html: str, url: str, message: str) -> None:
    with pytest.raises(PageError, match=message):
        parse_detail(html, url)


@pytest.mark.parametrize(
    ("url", "source_id"),
    [
        (f"{HOME}/2083-Crickets-Chirping.html", "2083"),
        (f"{HOME}/1782--Rex-.html", "1782"),
        (f"{HOME}/7-.html", "7"),
        (f"{HOME}/free-sound-effects-1.html", None),
        (f"{HOME}/tags-2-door.html", None),
        (f"{HOME}/blog/2012/12-new-sounds.html", None),
        (f"{HOME}/grab.php?id=3", None),
    ],
)
def test_id_of_reads_the_address(url: str, source_id: str | None) -> None:
    assert id_of(url) == source_id


def test_listing_links_prefer_the_cards_over_every_other_link() -> None:
    html = """<div class="course-item"><h3><a href="9-A-B.html">A B</a></h3></div>
    <h3><a href="/8-C.html">C</a></h3><h3><a href="9-A-B.html">again</a></h3><h3><a href="about.php">no</a></h3>
    <a href="1-Related.html">related</a><a href="free-sound-effects-12.html">12</a>
    <a href="http://soundbible.com/free-sound-effects-235.html">last</a>"""
    url = f"{HOME}/free-sound-effects-1.html"
    assert listing_links(html, url) == {"9": f"{HOME}/9-A-B.html", "8": f"{HOME}/8-C.html"}
    assert last_listing_page(html) == 235


def test_listing_links_read_the_rows_of_the_old_layout_and_any_link_of_an_unknown_one() -> None:
    rows = "<table><tr class='row-b'><td><a href='5-E.html'>E</a></td></tr></table><a href='/6-Side.html'>side</a>"
    assert list(listing_links(rows, HOME + "/free-sound-effects-2.html")) == ["5"]
    assert list(listing_links("<p><a href='/6-F.html'>F</a></p>", HOME + "/x")) == ["6"]
    assert listing_links("<p>nothing</p>", HOME + "/x") == {}


def test_a_link_that_is_no_address_does_not_cost_the_others() -> None:
    html = f"<h3><a href='http://[x/1-A.html'>A</a><a href='/{'9' * 5000}-B.html'>B</a><a href='/3-C.html'>C</a></h3>"
    assert listing_links(html, f"{HOME}/free-sound-effects-1.html") == {"3": f"{HOME}/3-C.html"}


@pytest.mark.parametrize(
    ("source", "player", "twin"),
    [
        ("mp3/a b.mp3", "/mp3/a%20b.mp3", "/wav/a%20b.wav"),
        ("/mp3/Who? #1-é.mp3", "/mp3/Who%3F%20%231-%C3%A9.mp3", "/wav/Who%3F%20%231-%C3%A9.wav"),
        ("http://soundbible.com/mp3/a.mp3", "http://soundbible.com/mp3/a.mp3", "http://soundbible.com/wav/a.wav"),
        ("mp3/a.ogg", "/mp3/a.ogg", None),
        ("../../etc/passwd", "/etc/passwd", None),
    ],
)
def test_the_players_file_is_an_address_that_can_be_asked(source: str, player: str, twin: str | None) -> None:
    html = LAYOUT_B.replace("mp3/Old Door -SoundBible.com-1.mp3", source)
    expected = [address if "://" in address else HOME + address for address in (player, twin) if address]
    assert [link.url for link in parse_detail(html, URL).audio][2:] == expected


def test_downloads_of_another_host_or_type_are_not_taken() -> None:
    html = """<section id="course-details"><h3>x</h3><a href="https://evil.example/grab.php?id=77&type=wav">w</a>
    <a href="/grab.php?id=77&type=zip">z</a><a href="/grab.php?id=077&type=mp3">m</a><a href="http://[/grab.php">b</a>
    <a href="https://www.soundbible.com/grab.php?id=77&amp;type=mp3">m</a></section>"""
    assert [(link.selector, link.url) for link in parse_detail(html, URL).audio] == [
        ("grab.php wav (guessed)", f"{HOME}/grab.php?id=77&type=wav"),
        ("grab.php mp3", "https://www.soundbible.com/grab.php?id=77&type=mp3"),
    ]


def test_the_title_of_last_resort_is_the_address() -> None:
    html = "<section id='course-details'><a href='grab.php?id=77&type=wav'>w</a></section>"
    fields = parse_detail(html, f"{HOME}/77--Caf%C3%A9--Door-.html")
    assert (fields.title, fields.selectors["title"]) == ("Café Door", "slug")


@pytest.mark.parametrize(
    ("heading", "title"),
    [("Old Door Sound", "Old Door"), ("Gun Battle Sound Sound", "Gun Battle Sound"), ("Ultrasound", "Ultrasound")],
)
def test_layout_a_heading_without_the_word_that_the_site_adds(heading: str, title: str) -> None:
    assert parse_detail(f"<div id='main'><h2>{heading}</h2></div>", URL).title == title


def test_the_first_keywords_that_say_anything_are_the_tags_of_last_resort() -> None:
    html = """<meta name="keywords" content=" "><meta name="keywords" content="door,\t old  wood , ,door">
    <meta name="keywords" content="door,\t old  wood , ,door"><section id="course-details"><h3>x</h3></section>"""
    fields = parse_detail(html, URL)
    assert (fields.tags, fields.selectors["tags"]) == (("door", "old  wood", "door"), "meta keywords")


@pytest.mark.parametrize("layout", [soundbible.respond, soundbible_old.respond])
@pytest.mark.parametrize(
    "address", ["/free-sound-effects-1.html", "/tags-white--noise.html", "/search.php?q=noise", "/"]
)
def test_listing_tag_and_search_pages_of_both_layouts(
    layout: Layout, address: str, audio: Path, make_clip: Callable[..., Clip]
) -> None:
    clips = [make_clip(number) for number in range(1, 21)]
    path, _, query = address.partition("?")
    answer = layout(Shelf(clips, audio), path, dict(parse_qsl(query)))
    assert isinstance(answer.body, bytes)
    links = listing_links(answer.body.decode(), HOME + address)
    assert list(links) == [str(number) for number in range(20, 11, -1)]
    assert all(id_of(link) == source_id and link.startswith(f"{HOME}/") for source_id, link in links.items())


@pytest.mark.parametrize("layout", [soundbible.respond, soundbible_old.respond])
def test_last_listing_page_of_both_layouts(layout: Layout, audio: Path, make_clip: Callable[..., Clip]) -> None:
    answer = layout(Shelf([make_clip(number) for number in range(1, 21)], audio), "/free-sound-effects-1.html", {})
    assert isinstance(answer.body, bytes)
    assert last_listing_page(answer.body.decode()) == 3
    assert last_listing_page("/royalty-free-sounds-9.html") == 0


def test_layout_a_facts_are_read_without_the_rdfa_block_too() -> None:
    html = LAYOUT_A.replace(' typeof="v:Review-aggregate"', "")
    fields = parse_detail(html, URL)
    assert (fields.license_raw, fields.author, fields.selectors["license"]) == ("Sampling Plus 1.0", "ada", "text |")
    assert fields.extra == {"layout": "a", "uploaded": "07.06.09", "size": "242 KB", "downloads": 77755}
