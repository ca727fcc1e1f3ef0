from __future__ import annotations

import json

import pytest

from crawler.tdm import header_reserves, page_reserves, parse_tdmrep


def rules(*entries: object) -> str:
    return json.dumps(entries)


def test_the_first_rule_that_matches_holds() -> None:
    parsed = parse_tdmrep(
        rules(
            {"location": "/free/*", "tdm-reservation": 0},
            {"location": "/*.wav$", "tdm-reservation": 1, "tdm-policy": "https://a.example/policy.json"},
            {"location": "/private", "tdm-reservation": 1},
        )
    )
    assert parsed.note == ""
    assert [parsed.reserves(path) for path in ("/free/a.wav", "/x/a.wav", "/x/a.wav?b", "/private/1", "/")] == [
        False,
        True,
        False,
        True,
        False,
    ]


def test_a_whole_site() -> None:
    assert parse_tdmrep(rules({"location": "/", "tdm-reservation": 1})).reserves("/any?thing")
    assert not parse_tdmrep(rules({"location": "/", "tdm-reservation": 0})).reserves("/any")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("<html>", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"location": "/"}', "not a list"),
        (rules(1, {}), "2 of its"),
    ],
)
def test_a_file_that_is_none_reserves_nothing_and_is_said(text: str, note: str) -> None:
    parsed = parse_tdmrep(text)
    assert note in parsed.note
    assert not parsed.reserves("/")


@pytest.mark.parametrize(
    ("location", "path", "fits"),
    [
        ("/a$", "/a", True),
        ("/a$", "/ab", False),
        ("/*$", "/", True),
        ("/a*a$", "/a", False),
        ("/a*a$", "/aa", True),
        ("/*ab*b$", "/abab", True),
        ("/*ab*ab$", "/ab", False),
        ("*.wav", "/x.wav?y", True),
        ("", "/x", True),
        ("/x", "/", False),
        ("/x**y", "/xy", True),
    ],
)
def test_wildcards(location: str, path: str, fits: bool) -> None:
    assert parse_tdmrep(rules({"location": location, "tdm-reservation": 1})).reserves(path) is fits


def test_many_stars_do_not_take_for_ever() -> None:
    parsed = parse_tdmrep(rules({"location": "/" + "*a" * 5_000 + "x$", "tdm-reservation": 1}))
    assert not parsed.reserves("/" + "a" * 2_000)


@pytest.mark.parametrize(("value", "reserved"), [("1", True), (" 1 ", True), ("0", False), ("", False), (None, False)])
def test_headers(value: str | None, reserved: bool) -> None:
    assert header_reserves(value) is reserved


@pytest.mark.parametrize(
    ("html", "reserved"),
    [
        ('<meta name="tdm-reservation" content="1">', True),
        ("<META NAME='TDM-Reservation' CONTENT=' 1 '>", True),
        ('<meta content="1" name="tdm-reservation"/>', True),
        ('<meta name="tdm-reservation" content="0">', False),
        ('<meta name="tdm-reservation">', False),
        ("<p>tdm-reservation: 1</p>", False),
        ("", False),
    ],
)
def test_pages(html: str, reserved: bool) -> None:
    assert page_reserves(html) is reserved
