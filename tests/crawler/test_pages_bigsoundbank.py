"""Hand-written pages in the structure that notes and scripts tell of; no archived page of the site was found."""

from __future__ import annotations

import json

import pytest

from crawler.licenses import license_of
from crawler.pages.bigsoundbank import (
    HOME,
    category_links,
    id_of,
    more_pages,
    page_links,
    parse_detail,
    sitemap_links,
    title_words,
)
from crawler.pages.fields import PageError

URL = f"{HOME}/license-plate-s2715.html"

PAGE = """<!DOCTYPE html><html><head><title>License plate — Free sound | BigSoundBank</title>
<meta name="description" content="Meta text."><meta property="og:title" content="License plate | BigSoundBank">
<script type="application/ld+json">{"@type": "BreadcrumbList", "itemListElement": [{"position": 1,}]}</script>
<script type="application/ld+json">[{"@type": "WebSite", "name": "BigSoundBank"}, {"@type": ["AudioObject"],
 "name": "License plate — Free sound", "description": "A plate\\u00a0falls &amp; rings.<br>Twice.",
 "keywords": "plate, metal , ,fall", "duration": "PT1M20.5S", "author": {"@type": "Person", "name": "Ada"},
 "contentUrl": "https://www.bigsoundbank.com\\/UPLOAD\\/mp3\\/2715.mp3",
 "encoding": [{"contentUrl": "/UPLOAD/ogg/2715.ogg"}, {"contentUrl": "/UPLOAD/ogg/0001.ogg"}]}]</script></head>
<body><h1>License plate</h1><audio><source src="/UPLOAD/mp3/2715.mp3"><source src="/UPLOAD/flac/2715.flac"></audio>
<a href="/UPLOAD/wav/2715.wav">WAV</a> <a href="/UPLOAD/bwf-en/2715.wav">BWF</a> <a href="/UPLOAD/aiff/2715.aiff">A</a>
<div style='text-align: justify;'>A plate falls. Length: 01:20.</div>
<p>Sound number: <b>2,715</b><br>Author: <a href="/x">Bob &amp; <i>Co</i></a><br>
License <a href="/licenses.html"><b>CC0</b></a> <span>(public <em>domain</em>)</span>: <i>Free and</i> royalty-free</p>
<form action="/download.php" method="post"><input name="id" value="2715"></form>
<h2>Others</h2><div class='resultat_0'><h2><a href='/other-s0001.html'>Other</a></h2>
<div style='text-align:justify;'>Other text</div><audio src="/UPLOAD/flac/0001.flac"></audio></div></body></html>"""


def test_a_page_gives_every_field_and_nothing_of_other_sounds() -> None:
    fields = parse_detail(PAGE, URL)
    assert (fields.source_id, fields.title) == ("2715", "License plate")
    assert fields.description == "A plate\u00a0falls & rings.\nTwice."
    assert fields.tags == ("plate", "metal", "fall")
    assert fields.author == "Ada"
    assert fields.license_raw == "CC0 (public domain)"
    assert license_of(fields.license_raw) == "cc0-1.0"
    assert fields.license_url == f"{HOME}/licenses.html"
    assert fields.extra == {"duration_s": 80.5}
    assert [link.url.removeprefix(HOME) for link in fields.audio] == [
        "/UPLOAD/flac/2715.flac",
        "/UPLOAD/bwf-en/2715.wav",
        "/UPLOAD/wav/2715.wav",
        "/UPLOAD/aiff/2715.aiff",
        "/UPLOAD/ogg/2715.ogg",
        "https://www.bigsoundbank.com/UPLOAD/mp3/2715.mp3",
    ]
    assert fields.selectors["title"] == fields.selectors["description"] == fields.selectors["tags"] == "json-ld"


def test_without_json_ld_the_visible_page_is_read() -> None:
    fields = parse_detail(PAGE.replace("AudioObject", "Thing"), URL)
    assert (fields.title, fields.description, fields.author) == ("License plate", "A plate falls.", "Bob & Co")
    assert fields.extra == {"duration_s": 80.0}
    assert fields.tags == ()
    assert fields.selectors == {
        "title": "h1",
        "description": "div[text-align:justify]",
        "license": "text",
        "tags": "none",
        "author": "text",
    }


def test_json_ld_text_is_unescaped_once() -> None:
    fields = parse_detail(PAGE.replace("falls &amp; rings.<br>Twice.", "&amp;lt; 3 < 4 &amp; é &#39;"), URL)
    assert fields.description == "A plate\u00a0&lt; 3 < 4 & é '"


def test_an_empty_description_does_not_fall_through_to_another_sounds_text() -> None:
    html = PAGE.replace("AudioObject", "Thing").replace("A plate falls. Length", "Length").replace("Meta text.", "")
    fields = parse_detail(html, URL)
    assert (fields.description, fields.selectors["description"]) == ("", "none")


def test_without_a_published_address_the_static_folders_are_guessed() -> None:
    fields = parse_detail("<h1>Old</h1>", f"{HOME}/detail-0012-old.html")
    assert [link.url.removeprefix(HOME) for link in fields.audio] == [
        "/UPLOAD/flac/0012.flac",
        "/UPLOAD/bwf-en/0012.wav",
        "/UPLOAD/mp3/0012.mp3",
    ]


@pytest.mark.parametrize(
    ("html", "url", "message"),
    [
        (PAGE, f"{HOME}/", "the address names no sound"),
        (PAGE, f"{HOME}/license-plate-s2716.html", "the page shows sound number 2,715, its address 2716"),
        ("<html><title>Busy</title></html>", URL, "no title, no description and no audio"),
    ],
)
def test_what_is_not_the_page_of_that_sound_is_refused(html: str, url: str, message: str) -> None:
    with pytest.raises(PageError, match=message):
        parse_detail(html, url)


@pytest.mark.parametrize(
    ("address", "source_id"),
    [
        ("https://www.bigsoundbank.com/sound-0595-rain.html", "0595"),
        ("https://bigsoundbank.com/detail-0100-thunder.html", "0100"),
        ("https://bigsoundbank.com/detail-0816-.html", "0816"),
        ("https://lasonotheque.org/detail-0267-vagues.html", "0267"),
        ("https://bigsoundbank.com/thunder-s0100.html", "0100"),
        ("https://bigsoundbank.com/-s0812.html", "0812"),
        ("https://bigsoundbank.com/sound-1000-hz-s3598.html", "3598"),
        ("https://bigsoundbank.com/s0100.html", None),
        ("https://bigsoundbank.com/categories.html", None),
        ("https://bigsoundbank.com/UPLOAD/wav/0100.wav", None),
    ],
)
def test_id_of_reads_all_four_generations_of_addresses(address: str, source_id: str | None) -> None:
    assert id_of(address) == source_id


def test_sitemap_links_keep_the_sounds_in_order_each_once() -> None:
    xml = f"""<urlset><url><loc>{HOME}/</loc></url><url><loc> {HOME}/b-s0002.html
    </loc></url><url><loc>{HOME}/a&amp;b-s0001.html</loc></url><url><loc>{HOME}/detail-0002-b.html</loc></url></urlset>"""
    assert sitemap_links(xml) == {"0002": f"{HOME}/b-s0002.html", "0001": f"{HOME}/a&b-s0001.html"}
    assert sitemap_links("<html>not found</html>") == {}


def test_page_and_category_links() -> None:
    html = """<a href='/b-s0002.html'>b</a><a href='/search?q=rain&CatID=RAIN'>rain</a><a href='categories-2.html'>c</a>
    <a href='/search?q=rain&CatID=RAIN'>again</a><a href='/licenses.html'>l</a><a href='/download.php'>no</a>"""
    assert page_links(html, f"{HOME}/") == {"0002": f"{HOME}/b-s0002.html"}
    assert category_links(html, f"{HOME}/") == [f"{HOME}/search?q=rain&CatID=RAIN", f"{HOME}/categories-2.html"]


OBJECT = {
    "@type": "AudioObject",
    "name": "License plate — Free sound",
    "description": "A plate falls.",
    "duration": "PT1M20S",
    "contentUrl": f"{HOME}/UPLOAD/mp3/2715.mp3",
}


@pytest.mark.parametrize(
    "block",
    [
        OBJECT,
        [{"@type": "WebSite"}, OBJECT],
        {"@context": "x", "@graph": [{"@type": "WebPage", "name": "no"}, OBJECT]},
        {"@type": "WebPage", "name": "no", "mainEntity": OBJECT},
        OBJECT | {"@type": ["CreativeWork", "AudioObject"]},
        OBJECT | {"@type": "http://schema.org/AudioObject"},
        {**OBJECT, "contentUrl": None, "encoding": [{"@type": "AudioObject", "contentUrl": OBJECT["contentUrl"]}]},
        {**OBJECT, "contentUrl": None, "associatedMedia": {"contentUrl": OBJECT["contentUrl"]}},
        {**OBJECT, "contentUrl": [OBJECT["contentUrl"], f"{HOME}/UPLOAD/flac/9999.flac"]},
        [OBJECT | {"name": "no", "contentUrl": f"{HOME}/UPLOAD/mp3/0001.mp3"}, OBJECT],
    ],
)
def test_json_ld_in_any_arrangement(block: object) -> None:
    fields = parse_detail(f"<script type='application/ld+json'>{json.dumps(block)}</script>", URL)
    assert (fields.title, fields.description, fields.extra["duration_s"]) == ("License plate", "A plate falls.", 80.0)
    assert [link.url for link in fields.audio] == [f"{HOME}/UPLOAD/mp3/2715.mp3"]


def test_media_are_ranked_whatever_their_order_and_those_of_another_sound_left_out() -> None:
    names = ["mp3/2715.mp3", "aac/2715.aac", "ogg/2715.ogg", "wav/2715.wav", "AIFF/2715.aif", "bwf-fr/2715.wav"]
    names += ["bwf-en/2715.wav?v=2", "flac/2715.flac", "flac/2716.flac", "flac/02715.flac", "flac/27150.flac"]
    links = "".join(f"<a href='/UPLOAD/{name}'>x</a>" for name in names)
    audio = parse_detail(f"<h1>x</h1>{links}", URL).audio
    assert [link.selector.removeprefix("a ") for link in audio] == [
        *("flac", "flac", "bwf-en", "bwf-fr", "wav", "AIFF", "ogg", "mp3", "aac")
    ]
    assert not [link for link in audio if "2716" in link.url or "27150" in link.url]


@pytest.mark.parametrize(
    ("html", "label"),
    [
        ("License <b>C</b>C0 <i>(public</i> <span>domain</span>): free", "CC0 (public domain)"),
        ("<dt>License:</dt><dd>Attribution 3.0</dd>", "Attribution 3.0"),
        ("<p>Licence : CC0 (domaine public) : libre</p>", "CC0 (domaine public)"),
        ("<h3>Is this sound free?</h3><p>Yes: it is <b>CC0</b> (public domain).</p>", "CC0 (public domain)"),
        ("<p>License: ask me</p>", "ask me"),
        ("<p>License plate</p><p>License CC0: x</p>", "CC0"),
        ("<p>no word of it</p>", ""),
    ],
)
def test_the_licence_sentence_is_found_in_any_markup(html: str, label: str) -> None:
    assert parse_detail(f"<h1>x</h1>{html}", URL).license_raw == label


@pytest.mark.parametrize("number", ["2715", "2,715", "2.715", "2 715", "2\u202f715", "02715", "<b>2,</b>715"])
def test_the_number_on_the_page_may_be_grouped_in_any_way(number: str) -> None:
    assert parse_detail(f"<h1>x</h1><p>Sound number: {number}<br>48 kHz</p>", URL).source_id == "2715"


def test_recording_details_are_kept_where_a_line_says_them() -> None:
    html = """<h1>x</h1><ul><li>Sample rate: 48 kHz</li><li><b>Channels</b>: mono</li><li>Bit depth : 24</li></ul>
    <p>Equipment: Tascam DR-40 &amp; <i>ME66</i><br>Conditions: <br>Place</p><p>The channels: of Venice</p>
    <p>Sound type: """
    fields = parse_detail(html + "x" * 500, URL)
    assert fields.extra == {
        "sample_rate": "48 kHz",
        "channels": "mono",
        "bit_depth": "24",
        "equipment": "Tascam DR-40 & ME66",
        "conditions": "Place",
    }


TWIN = "https://lasonotheque.org"


def test_the_french_twins_pages_parse_with_the_same_code() -> None:
    html = """<html lang="fr"><head><title>Vagues | LaSonothèque</title></head><body><h1>Vagues</h1>
    <div style="text-align:justify">La mer à Étretat. Durée : 01:05.</div><p>Numéro du son : 2&nbsp;715<br>
    Auteur : <b>Joseph SARDIN</b><br>Licence <a href="/licences.html">CC0</a> (domaine public) : libre<br>
    Échantillonnage : 48 kHz<br>Canaux : 2</p><audio src="/UPLOAD/bwf-fr/2715.wav"></audio></body></html>"""
    fields = parse_detail(html, f"{TWIN}/vagues-s2715.html")
    assert (fields.page_url, fields.source_id) == (f"{TWIN}/vagues-s2715.html", "2715")
    assert (fields.title, fields.description, fields.author) == ("Vagues", "La mer à Étretat.", "Joseph SARDIN")
    assert (fields.license_raw, license_of(fields.license_raw)) == ("CC0 (domaine public)", "cc0-1.0")
    assert fields.license_url == f"{TWIN}/licences.html"
    assert [link.url for link in fields.audio] == [f"{TWIN}/UPLOAD/bwf-fr/2715.wav"]
    assert fields.extra == {"duration_s": 65.0, "sample_rate": "48 kHz", "channels": "2"}
    bare = parse_detail(html.replace("2715.wav", "1.wav").replace("<h1>Vagues</h1>", ""), f"{TWIN}/detail-2715-x.html")
    assert bare.title == "Vagues"
    assert [link.url for link in bare.audio][1] == f"{TWIN}/UPLOAD/bwf-fr/2715.wav"
    with pytest.raises(PageError, match="sound number 2 715, its address 2716"):
        parse_detail(html, f"{TWIN}/vagues-s2716.html")


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("Rain — Free sound effect", "Rain"),
        ("Rain - heavy - BigSoundBank.com", "Rain - heavy"),
        ("Rain | LaSonothèque", "Rain"),
        ("Big - Sound - Bank", "Big - Sound - Bank"),
        ("BigSoundBank", "BigSoundBank"),
        ("Train-tram", "Train-tram"),
        ("Rain \u2013 BigSoundBank", "Rain"),
    ],
)
def test_a_title_loses_what_the_site_adds(name: str, title: str) -> None:
    assert (
        parse_detail(f"<meta property='og:title' content='{name}'><audio src=/UPLOAD/mp3/2715.mp3>", URL).title == title
    )


def test_more_pages_are_those_of_the_same_question() -> None:
    url = f"{HOME}/search?CatID=RAIN&page=2"
    html = """<a href="/search?page=3&CatID=RAIN">3</a><a href="/search?CatID=RAIN">1</a>
    <a href="/search?CatID=BELL">b</a>
    <a href="/search?CatID=RAIN&page=2">here</a><a href="http://[/x">no</a><a href="/search?q=a&page=3">q</a>"""
    assert more_pages(html, url) == [f"{HOME}/search?page=3&CatID=RAIN", f"{HOME}/search?CatID=RAIN"]
    assert title_words(f"{HOME}/old-door-n-2-caf%C3%A9-s0001.html") == ["old", "door", "café"]
    assert title_words(f"{HOME}/categories.html") == []
    assert page_links("<footer><a href='/a-s0001.html'>x</a></footer>", url) == {}
