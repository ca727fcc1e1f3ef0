from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.pages.fields import (
    Chain,
    absolute,
    decode_page,
    drop,
    fragment_text,
    meta_content,
    parse,
    slug_title,
    terms_links,
    text_of,
    visible_lines,
)

CAFE = "Café € “dür” ñ"


@pytest.mark.parametrize(
    ("body", "declared", "text"),
    [
        (CAFE.encode(), None, CAFE),
        (CAFE.encode(), "text/html; charset=iso-8859-1", CAFE),  # valid UTF-8 wins over a wrong header
        (CAFE.encode("cp1252"), None, CAFE),
        (CAFE.encode("cp1252"), "text/html; charset=utf-8", CAFE),
        (CAFE.encode("cp1252"), "text/html; charset=iso-8859-1", CAFE),  # as browsers read it
        ("Звук".encode("koi8-r"), "text/html; charset=KOI8-R", "Звук"),
        ("Звук".encode("koi8-r"), "koi8-r", "Звук"),
        ("<meta charset='koi8-r'>Звук".encode("koi8-r"), "text/html", "<meta charset='koi8-r'>Звук"),
        (
            '<meta http-equiv="Content-Type" content="text/html; charset=shift_jis">音'.encode("shift_jis"),
            None,
            '<meta http-equiv="Content-Type" content="text/html; charset=shift_jis">音',
        ),
        ("\ufeffÉ".encode(), None, "É"),
        (b"\xff\xfe" + "É音".encode("utf-16-le"), None, "É音"),
        (b"\xfe\xff" + "É音".encode("utf-16-be"), "text/html; charset=utf-8", "É音"),
        (b"\xff\xfe\x00\x00" + "É".encode("utf-32-le"), None, "É"),
        ("é".encode() * 20 + b"\xe9" + b" end", None, "é" * 20 + "\ufffd end"),  # one broken sign costs no other
        (b"a\x81b\xe9", None, "a\ufffdbé"),
        (b"\xe9", "text/html; charset=no-such-thing", "é"),
        (b"\xe9", "text/html; charset=base64", "é"),
        (b"\xe9", "charset=unicode_escape", "é"),
        (b"\xe9", "charset=" + "x" * 5_000, "é"),
        (b"", None, ""),
        (b"", "text/html; charset=", ""),
    ],
)
def test_decode_page(body: bytes, declared: str | None, text: str) -> None:
    assert decode_page(body, declared) == text


@given(st.binary(max_size=400), st.none() | st.text(max_size=60) | st.sampled_from(["charset=utf-16", "idna", "hex"]))
def test_decode_page_takes_any_bytes(body: bytes, declared: str | None) -> None:
    assert isinstance(decode_page(body, declared), str)


@given(st.text(max_size=200))
def test_decode_page_gives_utf8_back(text: str) -> None:
    if not text.startswith("\ufeff"):
        assert decode_page(text.encode(), "text/html; charset=cp1252") == text


def test_terms_links_are_those_whose_address_or_text_says_so() -> None:
    html = """<a href="about.php">Us</a> <a href="/x">Conditions of use</a> <a href="/droit.html#a">d</a>
    <a href="/droit.html#b">again</a> <a href="#">Privacy Policy</a> <a href="mailto:legal@x.y">legal</a>
    <a href="/12-License-Plate.html">License plate</a> <a href="/license-plate-s0012.html">License plate</a>
    <a href="/detail-0012-license.html">x</a> <a href="tags-legal.html">legal</a> <a href="/search?q=legal">legal</a>
    <a href="/UPLOAD/mp3/license.mp3">x</a> <a href="http://[/terms">x</a> <a href="/illegalities">x</a>
    <a href="https://creativecommons.org/licenses/by/3.0/">CC</a> <a href="/mentions-legales.html">m</a>"""
    assert terms_links(html, "https://a.example/b.html") == [
        "https://a.example/about.php",
        "https://a.example/x",
        "https://a.example/droit.html",
        "https://creativecommons.org/licenses/by/3.0/",
        "https://a.example/mentions-legales.html",
    ]
    many = "".join(f"<a href='/terms-{number}'>t</a>" for number in range(99))
    assert len(terms_links(many, "https://a.example/")) == 8


def test_visible_lines_break_at_blocks_and_not_at_inline_elements() -> None:
    html = """<head><title>no</title></head><body>One <b>and</b> <a href=x>the<i> same</i></a><br>two<!-- no --> too
    <p>three<script>no</script> <span>3</span></p><style>no</style>four<div>five</div>six <?no no?>6</body>"""
    assert visible_lines(parse(html)) == ["One and the same", "two too", "three 3", "four", "five", "six 6"]
    assert visible_lines(parse("")) == []


def test_drop_takes_elements_out_and_leaves_the_text_around_them() -> None:
    page = parse("<p>a<nav>b<nav>c</nav></nav>d</p><p id=x>e</p>")
    drop(page, "//nav", "//*[@id='x'] | //p[2]")
    assert "".join(page.xpath("//text()").getall()) == "ad"
    drop(page, "/html")  # nothing is left of a page without its root: it stays


@pytest.mark.parametrize(
    ("fragment", "text"),
    [
        ("a <b>bold</b> &amp; wide", "a bold & wide"),
        ("a &amp;lt; b", "a &lt; b"),  # one unescape
        ("a<br>b<br/>c", "a\nb\nc"),
        ("5<6 and a<b", "5<6 and a<b"),
        ("x<!-- no --><script>no</script>y", "xy"),
        ("a\0b\ud800c", "ab\\ud800c"),
        ("", ""),
        (f"&#{'9' * 5000}; &amp; b", f"&#{'9' * 5000}; & b"),
    ],
)
def test_fragment_text(fragment: str, text: str) -> None:
    assert fragment_text(fragment) == text


def test_text_of_keeps_white_space_inside_and_flattens_links() -> None:
    node = parse("<p> one\n <a href=x>two</a><!-- no -->  three</p>").xpath("//p")[0]
    assert text_of(node) == " one\n two  three"
    assert text_of(parse("<p>plain &amp; <</p>").xpath("//p")[0]) == "plain & <"


def test_chain_takes_the_first_text_that_can_be_seen() -> None:
    chain = Chain()
    assert (
        chain.first("title", [("a", None), ("b", " "), ("c", "\u200b\u2060\ufeff\u200e"), ("d", " x\u200b ")])
        == "x\u200b"
    )
    assert chain.first("author", [("a", "\x07")]) == ""
    assert chain.first_list("tags", [("a", ["", "\u200b"]), ("b", [" x ", " ", "y"])]) == ("x", "y")
    assert chain.first_list("none", []) == ()
    assert chain.selectors == {"title": "d", "author": "none", "tags": "b", "none": "none"}


def test_small_helpers() -> None:
    page = parse(
        "<meta name='keywords' content=' '><meta name='keywords' content='b'><meta property='og:x' content='c'>"
    )
    assert (meta_content(page, "keywords"), meta_content(page, "og:x"), meta_content(page, "no")) == ("b", "c", "")
    assert absolute("https://a.example/b/c.html", " ../d e.mp3\n") == "https://a.example/d%20e.mp3"
    assert absolute("https://a.example/", "http://[x") == ""
    assert slug_title("A--B-caf%C3%A9-") == "A B café"
