from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.items import LICENSES
from curation.text import LICENSE_NAMES, attribution, clean_tags, clean_text, render_caption


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
        ("", ""),
        (" \n ", ""),
    ],
)
def test_clean_text_repairs_transport_and_nothing_else(raw, clean):
    assert clean_text(raw) == clean


@given(st.text())
def test_cleaning_twice_is_cleaning_once(text):
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    cleaned.encode("utf-8")


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
    ],
)
def test_render_caption_leaves_no_stray_punctuation(template, parts, caption):
    title, description = parts
    assert render_caption(template, title=title, description=description, tags=["metal", "low"]) == caption


def test_render_caption_without_tags_drops_their_brackets():
    assert render_caption("{title} ({tags})", title="Bell", description="") == "Bell"


def test_render_caption_of_no_text_is_empty():
    assert render_caption("{title}. {description}", title="", description="") == ""


@pytest.mark.parametrize("template", ["", "no field", "{caption}", "{title", "{title} {0}"])
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
