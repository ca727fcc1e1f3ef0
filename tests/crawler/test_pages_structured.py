from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from crawler.pages.fields import parse
from crawler.pages.sitemaps import SITEMAP_BYTES, sitemap_indexes, sitemap_locs, sitemap_text
from crawler.pages.structured import is_a, json_ld, nodes_of, plain_text, seconds_of, strings_of, text_list

NODE = {"@type": "AudioObject", "name": "Rain, [a]", "x": [1, None]}
PLAIN = json.dumps(NODE)


@pytest.mark.parametrize(
    "block",
    [
        PLAIN,
        f"\n{PLAIN}\n",
        f"<!-- {PLAIN} -->",
        f"<!--\n{PLAIN}\n//-->",
        f"//<![CDATA[\n{PLAIN}\n//]]>",
        f"/*<![CDATA[*/{PLAIN}/*]]>*/",
        PLAIN.replace("null]", "null,\n]").replace("]}", "], }"),
        PLAIN.replace("]}", "],}"),
    ],
)
def test_json_ld_reads_over_comments_and_trailing_commas(block: str) -> None:
    page = parse(f"<script type='application/ld+json'>{block}</script>")
    assert json_ld(page) == [NODE]


@pytest.mark.parametrize("block", ["", "{", "[" * 100_000, '{"a": %s}' % ("9" * 5_000), '{"a" "b"}', '"\\"' * 20_000])
def test_a_block_that_is_no_json_costs_no_other(block: str) -> None:
    page = parse(
        f"<script type='application/ld+json'>{block}</script><script type=Application/LD+JSON>{PLAIN}</script>"
    )
    assert json_ld(page) == [NODE]


def test_nodes_and_strings_in_document_order_however_deep() -> None:
    data: Any = {"a": "1", "b": [{"c": "2"}, ["3", {"d": {"e": "4"}}]], "f": 5, "g": "6"}
    assert list(strings_of(data)) == ["1", "2", "3", "4", "6"]
    assert [list(node) for node in nodes_of(data)] == [["a", "b", "f", "g"], ["c"], ["d"], ["e"]]
    for _ in range(50_000):
        data = [data]
    assert len(list(nodes_of(data))) == 4


@pytest.mark.parametrize(
    ("kind", "is_one"),
    [
        ("AudioObject", True),
        (["CreativeWork", "AudioObject"], True),
        ("https://schema.org/AudioObject", True),
        ("schema:AudioObject", True),
        ("AudioObjects", False),
        (None, False),
        ([None, 3], False),
        ({"@id": "AudioObject"}, False),
    ],
)
def test_is_a(kind: Any, is_one: bool) -> None:
    assert is_a({"@type": kind}, "AudioObject") is is_one


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a &amp; <b>b</b>", "a & b"),
        ({"@type": "Person", "name": "Ada"}, "Ada"),
        ([{"name": "Ada"}, "Bob", None, {}], "Ada, Bob"),
        ({"name": {"name": "x"}}, ""),
        ("a\u0000b", "ab"),
        (5, ""),
        (None, ""),
        ([[["A"]]], ""),
    ],
)
def test_plain_text(value: Any, text: str) -> None:
    assert plain_text(value) == text


def test_text_list_takes_a_list_and_a_string_with_commas() -> None:
    assert text_list("a, b,,c") == ["a", " b", "", "c"]
    assert text_list(["a, b", {"name": "c"}, 3]) == ["a, b", "c", ""]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("PT1M20S", 80.0),
        ("pt1m20.5s", 80.5),
        ("PT1M20,5S", 80.5),
        ("PT80S", 80.0),
        ("P0DT1H0M1S", 3601.0),
        ("P1D", 86_400.0),
        ("01:20", 80.0),
        ("1:00:01.5", 3601.5),
        (12, 12.0),
        (1.5, 1.5),
        ({"name": "PT2S"}, 2.0),
        ("P", None),
        ("PT", None),
        ("PT" + "9" * 5_000 + "S", None),
        ("9" * 5_000 + ":00", None),
        (float("inf"), None),
        (float("nan"), None),
        (10**400, None),
        (-1, None),
        (True, None),
        ("soon", None),
        (None, None),
    ],
)
def test_seconds_of(value: Any, seconds: float | None) -> None:
    assert seconds_of(value) == seconds


LOCS = ["https://a.example/b-s0002.html", "https://a.example/a&b-s0001.html"]


@pytest.mark.parametrize(
    "xml",
    [
        f"<urlset><url><loc>{LOCS[0]}</loc></url><url><loc>\n {LOCS[1].replace('&', '&amp;')} </loc></url></urlset>",
        f"<x:urlset xmlns:x='s'><x:url><x:loc>{LOCS[0]}</x:loc></x:url><x:loc>{LOCS[1]}</x:loc></x:urlset>",
        f"<urlset><loc><![CDATA[{LOCS[0]}]]></loc><loc> <![CDATA[ {LOCS[1]} ]]></loc></urlset>",
        f"<?xml version='1.0'?><urlset><loc>{LOCS[0]}</loc><loc></loc><lastmod>x</lastmod><LOC a='b'>{LOCS[1]}</LOC>",
    ],
)
def test_sitemap_locs(xml: str) -> None:
    assert sitemap_locs(xml) == LOCS
    assert sitemap_indexes(xml) == []


def test_sitemap_indexes_each_once_and_apart_from_pages() -> None:
    xml = """<sitemapindex><sitemap><loc>https://a.example/1.xml</loc><lastmod>2026</lastmod></sitemap>
    <s:sitemap><s:lastmod/><s:loc><![CDATA[https://a.example/2.xml]]></s:loc></s:sitemap>
    <sitemap><loc>https://a.example/1.xml</loc></sitemap></sitemapindex><url><loc>https://a.example/p</loc></url>"""
    assert sitemap_indexes(xml) == ["https://a.example/1.xml", "https://a.example/2.xml"]
    assert sitemap_locs(xml) == ["https://a.example/p"]
    assert sitemap_indexes("<html>not found</html>") == sitemap_locs("") == []


def test_sitemap_text_unpacks_as_far_as_it_can() -> None:
    xml = "<urlset><loc>é</loc></urlset>" + "<url/>" * 5_000
    packed = gzip.compress(xml.encode())
    assert sitemap_text(packed) == sitemap_text(xml.encode()) == xml
    assert xml.startswith(sitemap_text(packed[:-30]))
    assert len(sitemap_text(packed[:-30])) > 20
    assert sitemap_text(b"\x1f\x8bnot gzip") == ""
    bomb = gzip.compress(b" " * (SITEMAP_BYTES + 1_000_000), 1)
    assert len(sitemap_text(bomb)) == SITEMAP_BYTES
