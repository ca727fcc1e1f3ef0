from __future__ import annotations

from crawler.drift import drift


def test_the_same_site_says_nothing() -> None:
    before = {"title": {"h3": 980, "slug": 20}, "tags": {"list": 900, "none": 100}}
    assert drift({"title": {"h3": 96, "slug": 4}, "tags": {"list": 85, "none": 15}}, before) == []


def test_a_selector_that_stops_hitting_is_named_with_both_shares() -> None:
    (warning,) = drift({"title": {"h3": 5, "slug": 95}}, {"title": {"h3": 980, "slug": 20}})
    assert warning == (
        "title: 'h3' gave 98% of the stored clips and 5% of this run's 100 pages; has the site changed its layout?"
    )


def test_text_that_vanishes_on_a_first_crawl_is_named() -> None:
    assert drift({"description": {"none": 40, "p": 10}}, {}) == [
        "description: none on 80% of 50 pages; has the site changed its layout?"
    ]
    assert drift({"author": {"none": 50}}, {}) == [], "not every site names authors"


def test_few_pages_say_nothing() -> None:
    assert drift({"title": {"slug": 19}}, {"title": {"h3": 1000}}) == []
    assert drift({"title": {"slug": 30}}, {"title": {"h3": 19}}) == []


def test_a_field_that_many_selectors_gave_and_none_does_now() -> None:
    before = {"title": {"a": 25, "b": 25, "c": 25, "d": 25}}
    assert drift({"title": {"none": 100}}, before) == [
        "title: none on 100% of this run's 100 pages and on 0% of those before; has the site changed its layout?"
    ]
