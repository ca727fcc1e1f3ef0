"""Hostile and broken pages: a page function gives PageFields or raises PageError, nothing else, and is soon done."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.pages import bigsoundbank, soundbible
from crawler.pages.fields import PageError, PageFields, decode_page, terms_links
from crawler.pages.sitemaps import sitemap_indexes, sitemap_locs

SB_URL = f"{soundbible.HOME}/77-Old-Door.html"
BSB_URL = f"{bigsoundbank.HOME}/old-door-s2715.html"
ParseDetail = Callable[[str, str], PageFields]
SITES = [(soundbible.parse_detail, SB_URL), (bigsoundbank.parse_detail, BSB_URL)]


def read_everything(html: str) -> list[PageFields]:
    """Run every page function over a text and return what the detail pages gave."""
    given_fields = []
    for parse_detail, url in SITES:
        try:
            fields = parse_detail(html, url)
        except PageError:
            continue
        assert isinstance(fields, PageFields)
        json.dumps([fields.title, fields.description, fields.tags, fields.extra]).encode()
        assert not any("\0" in text for text in (fields.title, fields.description, fields.author, *fields.tags))
        given_fields.append(fields)
    soundbible.listing_links(html, SB_URL)
    soundbible.last_listing_page(html)
    bigsoundbank.page_links(html, BSB_URL)
    bigsoundbank.category_links(html, BSB_URL)
    bigsoundbank.more_pages(html, BSB_URL)
    bigsoundbank.sitemap_links(html)
    sitemap_locs(html)
    sitemap_indexes(html)
    terms_links(html, BSB_URL)
    return given_fields


_MARKUP = """
<section id="course-details"> </section> <div id=main> </div> <h3> </h3> <h2>T Sound</h2> <h1> <p> </p> <br>
<!-- --> <ul id=icon_tag_list> <li> <a/href="tags-x.html">x</a> <a/href="grab.php?id=77&type=wav">
<a/href="grab.php?id=&type"> <a/href="http://[/77-x.html"> <a/href="//77-x.html">
<a/href="/search?CatID=x&page=2"> <a/href="javascript:x()"> </a> <h5>License</h5> License:Public| License:|
Recorded by| | Downloads:٣٤ Downloads:9,,9 <i/class=icofont-user> <div/typeof=v:Review-aggregate>
<span/property=v:summary> </span> <embed/flashvars=song=> <div/data-source="mp3/a#?b.mp3">
<div/data-source=http://[> <title> </title> Sounds Effects <head> </head> <body> </body> </html> <html>
<frameset> <frame> <script/type=application/ld+json> </script> {"@type":"AudioObject","name": "x" } [ ] , : null
1e999 "\\ud800" "\\u0000" "contentUrl":"/UPLOAD/mp3/2715.mp3" <div/style=text-align:justify> Length: 00:01.
99:99 Sound\xa0number: 2,715 2715 0 Author: Auteur\xa0: Licence CC0 (public domain)
<source/src=/UPLOAD/flac/2715.flac> <audio> <table> <tr/class=row-b> <td> &amp; &amp;lt; &#0; &#xD800; &nbsp;
\u200b \u202e \ud800 \0 \ufffe é Ã© <loc> </loc> <sitemap> <![CDATA[ ]]> <form> <nav> <footer> <svg><title>
<meta/name=keywords/content=a,b> <meta/name=description/content=Free.\xa0Get> <template>
"""
PIECES = st.sampled_from(_MARKUP.split())


@given(st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=40), st.sampled_from(["", " ", "\n"]))
@settings(max_examples=400, deadline=None)
def test_any_mixture_of_markup_is_read_or_refused(pieces: list[str], between: str) -> None:
    read_everything(between.join(pieces))


@given(st.binary(max_size=300), st.text(max_size=30))
@settings(max_examples=150, deadline=None)
def test_any_bytes_and_any_address_are_read_or_refused(body: bytes, address: str) -> None:
    html = decode_page(body, None)
    read_everything(html)
    for parse_detail, _ in SITES:
        with pytest.raises(PageError, match="the address names no sound"):
            parse_detail(html, address)


B = "<section id=course-details><h3>Old</h3><p>{}</p><ul id=icon_tag_list><li><a href=tags-x.html>{}</a></ul></section>"
A = "<div id=main><h2>{}</h2><div typeof='v:Review-aggregate'>x<span property='v:summary'>y</span>{}</div></div>"
HEAD = "<title>{}</title><meta name=description content='{}'><h2>x</h2>"
BSB = "<body><h1>T</h1><div style='text-align:justify'>{}</div><p>{}</p>"
LD = """<script type="application/ld+json">{{"@type": "AudioObject", "name": "{}", "keywords": "{}"}}</script>"""
# fmt: off
REPEATED = (
    "<", "<a ", "<b", "<br>", "<b>", "<!--", "<script>", "<script></style", "(", " ", "\n", "-", " | ", " — ", "9", "&",
    "License: ", "License: x | ", "Length: 1:", "Sound number: 9", "Free. Get ", ". . ", " Sounds | Effects ", '\\"',
    "<loc>", "<sitemap><loc>", "<h5>License</h5>", "<a href='/1-a.html'>", "/UPLOAD/mp3/0", "\u202e", "Ã©", "{",
)
# fmt: on


@pytest.mark.parametrize("shape", ["{0}", B, A, HEAD, BSB, LD], ids=["alone", "b", "a", "head", "bsb", "ld"])
def test_a_sign_repeated_thousands_of_times_is_soon_read(shape: str) -> None:
    # Backtracking over such texts took minutes: whoever brings it back will notice, without a clock in the test.
    for text in REPEATED:
        read_everything(shape.format(text * 5_000, text * 5_000))


@pytest.mark.parametrize(
    "html",
    [
        "",
        " \n ",
        "\0\0",
        "<html>",
        "<!-- only a comment -->",
        "<frameset><frame src=a><frame src=b></frameset>",
        "\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + "".join(map(chr, range(256))) * 20,
        "<?xml version='1.0'?><a/>",
        "\ud800",
    ],
)
def test_what_is_no_page_is_refused(html: str) -> None:
    assert read_everything(html) == []


def test_ten_thousand_nested_elements_and_a_large_page() -> None:
    deep = "<div>" * 10_000 + "deep" + "</div>" * 10_000
    assert [fields.title for fields in read_everything(B.format(f"near {deep}", "x"))] == ["Old"]
    large = B.format("near", "x") + "<p>far away</p>" * 300_000
    assert len(large) > 4_500_000
    assert soundbible.parse_detail(large, SB_URL).description == "near"


LONG, OTHER_SCRIPT, BIDI = "x" * 300, "Звук 雨の音 صوت", "\u202eevil\u202c name"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("A &amp; B &eacute; &#8364;", "A & B é €"),
        ("A &amp;amp; B", "A &amp; B"),  # as the site gives it: one unescape
        ("CafÃ©", "CafÃ©"),  # mojibake is curation's to repair
        ("A\u200bB\u200b", "A\u200bB\u200b"),
        ("A\0B", "AB"),
        ("Old\r\nDoor\r\n", "Old\r\nDoor"),
        (LONG, LONG),
        (OTHER_SCRIPT, OTHER_SCRIPT),
        (BIDI, BIDI),
        ("9" * 5_000, "9" * 5_000),
        ("\u200b", None),
        ("", None),
    ],
)
def test_titles_and_descriptions_are_kept_as_the_site_gives_them(written: str, read: str | None) -> None:
    pages = [
        (soundbible.parse_detail, SB_URL, f"<div id='course-details'><h3>{written}</h3><p>{written}</p></div>"),
        (
            bigsoundbank.parse_detail,
            BSB_URL,
            f"<h1>{written}</h1><div style='text-align:justify'>{written}</div><audio src=/UPLOAD/mp3/2715.mp3>",
        ),
    ]
    for parse_detail, url, html in pages:
        if read is None and parse_detail is soundbible.parse_detail:
            with pytest.raises(PageError, match="shows no title"):
                parse_detail(html, url)
            continue
        fields = parse_detail(html, url)
        if read is None:
            assert (fields.title, fields.selectors["title"], fields.description) == ("old door", "slug", "")
        else:
            assert (fields.title.replace("\r", ""), fields.description.replace("\r", "")) == (
                (read.replace("\r", ""),) * 2
            )


@pytest.mark.parametrize("digits", ["9" * 5_000, "٣٤٥", "²", "0" * 5_000])
def test_numbers_that_are_none_raise_nothing(digits: str) -> None:
    for parse_detail, _ in SITES:
        for address in (f"https://bigsoundbank.com/{digits}-x.html", f"https://bigsoundbank.com/x-s{digits}.html"):
            with pytest.raises(PageError, match="names no sound"):
                parse_detail("<h1>x</h1>", address)
    read_everything(f"<h1>x</h1>Sound number: {digits}<br>Length: {digits}:00<a href='/UPLOAD/mp3/{digits}.mp3'>x</a>")
    read_everything(f"<a href='/free-sound-effects-{digits}.html'>x</a><a href='grab.php?id={digits}&type=wav'>x</a>")
