from __future__ import annotations

import pytest

from crawler.robots import read_rules

AGENT = "wavtext5k-crawl"


def test_a_site_without_the_file_allows_everything_and_asks_for_nothing() -> None:
    for status in (404, 410):
        rules = read_rules(status, b"<h1>gone</h1>", agent=AGENT)
        assert rules.allows("https://a.example/x")
        assert (rules.crawl_delay_s, rules.note) == (0.0, "")


@pytest.mark.parametrize(
    ("status", "words"),
    [(500, "HTTP status 500"), (429, "HTTP status 429"), (304, "HTTP status 304"), (None, "refused")],
)
def test_a_site_that_cannot_answer_allows_nothing(status: int | None, words: str) -> None:
    rules = read_rules(status, b"User-agent: *\nAllow: /", agent=AGENT, why="connection refused")
    assert not rules.allows("https://a.example/")
    assert rules.note.startswith("robots.txt could not be read")
    assert words in rules.note


@pytest.mark.parametrize("status", [401, 403, 418])
def test_other_errors_of_the_client_are_no_rules_and_are_said(status: int) -> None:
    rules = read_rules(status, b"Disallow: /", agent=AGENT)
    assert rules.allows("https://a.example/x")
    assert str(status) in rules.note


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><p>User-agent: *\nDisallow: /", b"  <html>", b"\xef\xbb\xbf<body>"])
def test_a_web_page_is_no_rules_and_is_said(page: bytes) -> None:
    rules = read_rules(200, page, agent=AGENT)
    assert rules.allows("https://a.example/x")
    assert "web page" in rules.note


def test_our_own_group_goes_before_that_of_all() -> None:
    text = b"User-agent: *\nDisallow: /\n\nUser-agent: WavText5K-crawl\nCrawl-delay: 2.5\nDisallow: /private\n"
    rules = read_rules(200, text, agent=AGENT)
    assert rules.allows("https://a.example/x")
    assert not rules.allows("https://a.example/private/1")
    assert rules.crawl_delay_s == 2.5
    assert not read_rules(200, text, agent="other").allows("https://a.example/x")


@pytest.mark.parametrize("value", ["soon", "-3", ""])
def test_a_crawl_delay_that_is_none_is_none(value: str) -> None:
    assert read_rules(200, f"User-agent: *\nCrawl-delay: {value}\n".encode(), agent=AGENT).crawl_delay_s == 0.0


def test_sitemaps_in_their_order() -> None:
    text = b"Sitemap: https://a.example/b.xml\nUser-agent: *\nDisallow:\nSitemap: https://a.example/a.xml\n"
    assert read_rules(200, text, agent=AGENT).sitemaps == ("https://a.example/b.xml", "https://a.example/a.xml")


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", b"\x00" * 100, b"Disallow: /" * 200_000, b":" * 10_000])
def test_junk_is_read_without_an_error(body: bytes) -> None:
    read_rules(200, body, agent=AGENT).allows("https://a.example/x")


@pytest.mark.parametrize("value", ["1e99", "1000000"])
def test_a_crawl_delay_of_no_sense_allows_nothing_and_is_said(value: str) -> None:
    rules = read_rules(200, f"User-agent: *\nCrawl-delay: {value}\n".encode(), agent=AGENT, max_delay_s=300)
    assert not rules.allows("https://a.example/x")
    assert "Crawl-delay" in rules.note


def test_a_rule_of_thirty_wildcards_does_not_take_for_ever() -> None:
    text = "User-agent: *\nDisallow: /" + "*a" * 30 + "*b$\nDisallow: /x\n"
    rules = read_rules(200, text.encode(), agent=AGENT)
    assert rules.allows("https://a.example/" + "a" * 2_000)
    assert not rules.allows("https://a.example/x")
