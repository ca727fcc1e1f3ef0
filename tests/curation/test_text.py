from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.items import LICENSES
from curation.text import LICENSE_NAMES, _clean_once, attribution, clean_tags, clean_text, render_caption

JOINED = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # a Persian word, with the joiner of its spelling


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A  bell,\n\tstruck ", "A bell, struck"),
        ("Rock &amp; roll", "Rock & roll"),
        ("Rock &amp;amp; roll &#39;n&#x27;", "Rock & roll 'n'"),
        ("rock&section", "rock&section"),
        ("cafÃ©", "café"),
        ("zero\u200bwidth\ufeff and \x00nul", "zerowidth and nul"),
        ("no\u00a0break", "no break"),
        ("“curly” stays", "“curly” stays"),
        ("\ud83d alone", "\ufffd alone"),
        ("\ud83d\udc15 a pair", "\U0001f415 a pair"),
        ("&lt;b&gt; stays text", "<b> stays text"),
        ("&amp" + ";amp" * 100 + ";lt;", "<"),
        ("&#38;#38;amp;", "&"),
        ("&unknown; &amp &#xZ;", "&unknown; &amp &#xZ;"),
        ("&Tab;a&NewLine;b&nbsp;c&ZeroWidthSpace;d&shy;e", "a b cde"),
        (f"&#{'9' * 5_000}; too large a number", f"&#{'9' * 5_000}; too large a number"),
        ("\u00c3\u00a2\u00e2\u201a\u00ac\u00e2\u201e\u00a2 twice", "\u2019 twice"),
        ("cafe\u0301", "café"),
        ("one\r\ntwo\u2028three\u2029four\x0bfive\x0csix", "one two three four five six"),
        ("\x01bell\x07 \x1b[31mred\x1b[0m \x7f", "bell red"),
        ("\u202bright to left\u202c \u2066isolated\u2069\u200f\u061c", "right to left isolated"),
        (f"{JOINED} 👩\u200d🔧", f"{JOINED} 👩\u200d🔧"),
        ("½ ² ™ \ufb01 \uff21 \ue000", "½ ² ™ \ufb01 \uff21 \ue000"),
        ("3 < 5 > 2", "3 < 5 > 2"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_clean_text_repairs_transport_and_nothing_else(raw, clean):
    assert clean_text(raw) == clean


@settings(deadline=None)
@given(st.text())
def test_cleaning_twice_is_cleaning_once(text):
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    cleaned.encode("utf-8")


@settings(deadline=None)
@given(st.text(alphabet="&amp;#38xÃ©â€™<>/b \u200b\u00a0\x85", max_size=60))
def test_cleaning_twice_is_cleaning_once_where_repairs_meet(text):
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned


@pytest.mark.parametrize("text", ["a", "&amp;", "Ã©", "<", "é ", "\u200b", "&", "&a", "\n"])
def test_a_long_text_of_anything_is_cleaned(text):
    cleaned = clean_text(text * (100_000 // len(text)))
    assert len(cleaned) <= 100_000
    assert clean_tags([cleaned, cleaned]) == ([cleaned] if cleaned else [])


def test_clean_tags_takes_out_elements_not_comparisons():
    tags = [
        "<i class='x'></i>rain",
        "a<br/>b",
        "<!-- note -->wind",
        "3 < 4 > 2",
        "<3",
        "dog, bark",
        "'quoted'",
        "\u200b",
    ]
    assert clean_tags(tags) == ["rain", "a b", "wind", "3 < 4 > 2", "<3", "dog, bark", "'quoted'"]


def test_clean_tags_keeps_page_order_and_each_once():
    tags = ["Dog", " bark ", "dog", "", "<a href='/x'>Big Dog</a>", "&lt;b&gt;loud&lt;/b&gt;"]
    assert clean_tags(tags) == ["dog", "bark", "big dog", "loud"]


@pytest.mark.parametrize(
    ("template", "parts", "caption"),
    [
        ("{title}. {description}", ("Bell", "A low bell."), "Bell. A low bell."),
        ("{title}. {description}", ("Bell", ""), "Bell"),
        ("{title}. {description}", ("", "A low bell."), "A low bell."),
        ("{title}. {description}", ("Bell.", "A low bell."), "Bell. A low bell."),
        ("{title}. {description}", ("Who?", "An owl."), "Who? An owl."),
        ("{title}. {description}.", ("Bell", "A low bell."), "Bell. A low bell."),
        ("{title}. {description}.", ("Bell", ""), "Bell."),
        ("{description}", ("Bell", ""), "Bell"),
        ("{title}", ("", "A low bell."), "A low bell."),
        ("{title} ({tags})", ("Bell", ""), "Bell (metal, low)"),
        ("The sound of {title}. {description}", ("Bell", "Low."), "The sound of Bell. Low."),
        ("The sound of {title}. {description}", ("", "Low."), "Low."),
        ("{description}", ("", ""), "metal, low"),
        ("{title}. {description}. Tags: {tags}.", ("Bell", "A low bell."), "Bell. A low bell. Tags: metal, low."),
        ("{title}. {description}. Tags: {tags}.", ("Bell", ""), "Bell. Tags: metal, low."),
        ("{title} ({tags}). {description}", ("Bell", "Low."), "Bell (metal, low). Low."),
        ("{title}. {description} ({tags})", ("", ""), "metal, low"),
        ('"{title}", {description}', ("Bell", "low"), '"Bell", low'),
        ('"{title}", {description}', ("", "low"), "low"),
        ("[{tags}] {title}", ("", ""), "[metal, low]"),
        ("{title}'s sound: {description}", ("Bell", "low"), "Bell's sound: low"),
        ("{{{title}}}", ("Bell", ""), "{Bell}"),
    ],
)
def test_render_caption_leaves_no_stray_punctuation(template, parts, caption):
    title, description = parts
    assert render_caption(template, title=title, description=description, tags=["metal", "low"]) == caption


def test_render_caption_without_tags_drops_their_brackets():
    assert render_caption("{title} ({tags})", title="Bell", description="") == "Bell"
    assert render_caption("{title} ({tags}). {description}", title="Bell", description="Low.") == "Bell. Low."
    assert render_caption("({tags}) {title}", title="Bell", description="") == "Bell"


@settings(deadline=None)
@given(
    st.sampled_from(["{title}. {description}", "{description}", "{title} ({tags}). {description}", "{title}: {tags}"]),
    st.text(),
    st.text(),
    st.lists(st.text(), max_size=3),
)
def test_a_caption_says_all_that_its_template_names(template, title, description, tags):
    fields = {"title": clean_text(title), "description": clean_text(description)}
    tags = clean_tags(tags)
    caption = render_caption(template, **fields, tags=tags)
    assert caption == caption.strip()
    assert bool(caption) == any([*fields.values(), tags])
    for name, value in (fields | {"tags": ", ".join(tags)}).items():
        assert f"{{{name}}}" not in template or value in caption


def test_render_caption_of_no_text_is_empty():
    assert render_caption("{title}. {description}", title="", description="") == ""


@pytest.mark.parametrize(
    "template",
    [
        "",
        "no field",
        "{caption}",
        "{title",
        "title}",
        "{title} {0}",
        "{}",
        "{title!r}",
        "{title:>9}",
        "{title.x}",
        "{title[0]}",
    ],
)
def test_render_caption_refuses_a_template_it_cannot_fill(template):
    with pytest.raises(ValueError, match="caption template"):
        render_caption(template, title="Bell", description="")


def test_attribution_is_a_ready_line():
    line = attribution(
        title="Bell", author="Ann", page_url="http://x/1", license_id="cc-by-3.0", license_url="http://x/by"
    )
    assert line == '"Bell" by Ann (http://x/1), CC BY 3.0 (http://x/by)'
    assert attribution(title="", author="", page_url="", license_id="unknown", license_url="") == (
        "Untitled sound, licence unknown"
    )


def test_every_licence_has_a_name():
    assert tuple(LICENSE_NAMES) == LICENSES


@given(st.text(st.characters(codec="ascii")))
def test_plain_text_needs_no_repair(text):
    assert clean_text(text) == clean_text(_clean_once(text))
