"""What an address asks is read, kept and written back; what cannot be read is said, and nothing raises."""

from __future__ import annotations

import string
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.filters import Filters
from retrieval.web.forms import MOST_RESULTS, MOST_VALUES, PARAMETERS, SearchForm, parse, unknown_names

NAMES = [parameter.name for parameter in PARAMETERS]


def read(address: str) -> SearchForm:
    return parse(parse_qsl(urlsplit(address).query, keep_blank_values=True))


def test_every_parameter_is_read_and_written_back() -> None:
    form = SearchForm(
        q="a dog & a “cat” = 100 %",
        tags=("dog", "a&b=c#d"),
        sources=("soundbible", "mine"),
        licenses=("cc0-1.0",),
        splits=("test",),
        min_s=0.5,
        max_s=12.0,
        top=5,
        page=3,
    )
    assert read(form.address(page=3)) == form
    assert read("/") == SearchForm()
    assert SearchForm().address() == "/"
    assert {name for name, _ in form.pairs()} == set(NAMES) - {"like", "sound"}
    assert form.filters == Filters(
        tags=form.tags, sources=form.sources, licenses=form.licenses, splits=form.splits, min_s=0.5, max_s=12
    )


def test_forms_lead_to_other_forms_on_their_first_page() -> None:
    form = read("/?q=dog&tag=a&tag=b&min_s=1&page=4&top=5")
    assert form.without("tag", "a").address() == "/?q=dog&tag=b&min_s=1&top=5"
    assert form.without("min_s").address() == "/?q=dog&tag=a&tag=b&top=5"
    assert form.having("tag", "c").tags == ("a", "b", "c")
    assert form.having("tag", "a").tags == ("a", "b")
    assert form.liking("x-1").address() == "/?like=x-1&tag=a&tag=b&min_s=1&top=5"
    assert form.unfiltered().address() == "/?q=dog&top=5"
    assert form.only("tag", "b").address() == "/?tag=b"
    assert form.only("min_s", None).address() == "/?min_s=1"
    assert form.address(page=5) == "/?q=dog&tag=a&tag=b&min_s=1&top=5&page=5"
    assert form.num_filters == 3
    assert form.set_filters() == [("tag", "a"), ("tag", "b"), ("min_s", None)]
    assert len(read(form.asking("long " * 1000).address()).q) == 999


@pytest.mark.parametrize(
    ("query", "form"),
    [
        ("q=+a++dog%0A%00barks+", SearchForm(q="a dog barks")),
        ("q=&tag=&min_s=&utm_source=x", SearchForm()),
        ("tag=Dog&tag=dog&tag=+dog+", SearchForm(tags=("dog",))),
        ("min_s=0&max_s=2,5", SearchForm(min_s=0.0, max_s=2.5)),
        ("min_s=.25+s&max_s=3s", SearchForm(min_s=0.25, max_s=3.0)),
        ("q=%ED%A0%80x", SearchForm(q="\ufffd\ufffd\ufffdx")),
        ("top=100&page=10", SearchForm(top=100, page=10)),
        ("top=1&page=1000", SearchForm(top=1, page=1000)),
        ("min_s=5.&max_s=1e5", SearchForm(min_s=5.0, max_s=100_000.0)),
        ("min_s=0.12345678901&max_s=%2B1.5E-1", SearchForm(min_s=0.12345678901, max_s=0.15)),
        ("min_s=-0&max_s=9999999.999", SearchForm(min_s=0.0, max_s=9999999.999)),
        ("min_s=1e-300&max_s=00000000000003", SearchForm(min_s=1e-300, max_s=3.0)),
    ],
)
def test_what_people_type_is_read(query: str, form: SearchForm) -> None:
    assert read(f"/?{query}") == form


@pytest.mark.parametrize(
    ("query", "name", "sentence"),
    [
        ("q=" + "x" * 1234, "q", "The query has 1,234 characters; at most 1,000 are read. Shorten it."),
        ("q=a&q=b", "q", "q was given 2 times; give it once."),
        ("q=a&like=b", "q", "Ask one thing at a time: q and like were given together."),
        ("like=" + "x" * 400, "like", "like has 400 characters; at most 300 are read. Shorten it."),
        ("min_s=abc", "min_s", "The shortest duration must be a number of seconds, such as 2 or 0.5; “abc” is none."),
        ("max_s=-1", "max_s", "The longest duration must be a number of seconds, such as 2 or 0.5; “-1” is none."),
        ("max_s=nan", "max_s", "“nan” is none."),
        ("max_s=NaN", "max_s", "“NaN” is none."),
        ("max_s=inf", "max_s", "“inf” is none."),
        ("max_s=-Infinity", "max_s", "“-Infinity” is none."),
        ("max_s=1e999", "max_s", "“1e999” is not below 10,000,000."),
        ("max_s=1e7", "max_s", "“1e7” is not below 10,000,000."),
        ("max_s=-1e-9", "max_s", "“-1e-9” is none."),
        ("max_s=.", "max_s", "“.” is none."),
        ("max_s=1_0", "max_s", "“1_0” is none."),
        ("max_s=٣", "max_s", "“٣” is none."),
        ("max_s=" + "9" * 5000, "max_s", "at most 300 are read"),
        ("min_s=5&max_s=2.5", "min_s", "The shortest duration, 5 s, is above the longest, 2.5 s: no clip can be both."),
        ("top=0", "top", "top must be a whole number from 1 to 100; “0” is none."),
        ("top=101", "top", "top must be a whole number from 1 to 100"),
        ("page=1.5", "page", "page must be a whole number from 1 to 1000; “1.5” is none."),
        ("page=" + "9" * 99, "page", "“" + "9" * 40 + "…” is none."),
        ("top=50&page=21", "page", f"A search shows its best {MOST_RESULTS:,}; page 21 of 50 is beyond them."),
        ("&".join(f"tag={n}" for n in range(MOST_VALUES + 1)), "tag", "tag was given 21 times; at most 20 are read."),
        ("source=" + "x" * 301, "source", "A value of source has more than 300 characters."),
    ],
)
def test_what_cannot_be_read_is_said_and_the_rest_kept(query: str, name: str, sentence: str) -> None:
    form = read(f"/?split=val&{query}")
    assert list(form.problems) == [name]
    assert sentence in form.problems[name]
    assert form.splits == ("val",)
    assert form.filters is not None


def test_a_form_shows_what_was_typed() -> None:
    form = read("/?q=dog&min_s=abc&max_s=2.50")
    assert [form.shown(name) for name in ("q", "min_s", "max_s", "like")] == ["dog", "abc", "2.5", ""]
    swapped = read("/?min_s=5&max_s=2")
    assert [swapped.shown(name) for name in ("min_s", "max_s")] == ["5", "2"]
    assert swapped.has_filter_problem
    assert not read("/?q=" + "x" * 1001).has_filter_problem


def test_values_that_can_be_read_stay_beside_one_that_cannot() -> None:
    long = "x" * 301
    form = read(f"/?q=dog&tag=a&tag={long}&tag=b")
    assert (form.tags, form.typed) == (("a", "b"), {"tag": long})
    form = read("/?" + "&".join(f"tag={number}" for number in range(22)))
    assert (form.tags, form.typed) == (tuple(map(str, range(20))), {"tag": "20"})


@pytest.mark.parametrize("top", [1, 5, 7, 10, 30, 33, 100])
@pytest.mark.parametrize("total", [0, 1, 99, 101, 999, 1000, 1001, 10**6])
def test_the_page_after_can_always_be_read(top: int, total: int) -> None:
    form, shown = read(f"/?q=dog&top={top}"), 0
    while True:
        assert form.problems == {}
        shown += min(top, total - shown)
        if not form.has_page_after(total):
            break
        form = read(form.address(page=form.page + 1))
    assert shown == min(total, MOST_RESULTS // top * top)
    assert list(read(form.address(page=MOST_RESULTS // top + 1)).problems) == ["page"]


@given(st.floats(min_value=0, max_value=10_000_000, exclude_max=True))
def test_seconds_are_the_same_in_every_address(seconds: float) -> None:
    form = SearchForm(q="dog", min_s=seconds)
    again = read(form.address())
    assert again == form
    assert again.address() == form.address()


def test_unknown_names_are_said_with_the_nearest_one() -> None:
    pairs = [("q", "dog"), ("tags", "a"), ("tags", "b"), ("zzz", "")]
    assert unknown_names(pairs, NAMES) == [
        "There is no parameter “tags”; did you mean tag?",
        f"There is no parameter “zzz”; there are {', '.join(NAMES)}.",
    ]
    assert unknown_names([("q", "dog")], NAMES) == []


VALUES = st.text(max_size=40) | st.text(string.digits + ".,- s", max_size=12)


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=8))
def test_whatever_is_asked_reads_back_as_itself(pairs: list[tuple[str, str]]) -> None:
    form = parse(pairs)
    again = read(form.address(page=form.page))
    assert (again.pairs(), again.filters) == (form.pairs(), form.filters)
    assert set(again.problems) <= {"q", "page"}  # two questions at once; a page beyond the last


@given(st.lists(st.tuples(st.text(max_size=10), st.text(max_size=50)), max_size=5))
def test_unknown_names_never_raise(pairs: list[tuple[str, str]]) -> None:
    assert len(unknown_names(pairs, NAMES)) == len({name for name, _ in pairs if name not in NAMES})
