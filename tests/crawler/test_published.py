"""A published list read row by row: what it says, what is odd in it, and every way in which it can be damaged."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from crawler.published import PublishedError, hosts_of, parse_tags, read_published

HEADER = "view_link,download_link,title,description,fname,tags\r\n"
WIND = (
    "https://bigsoundbank.com/detail-0595-wind.html,https://bigsoundbank.com/UPLOAD/wav/0595.wav,"
    "Wind,A wind.,0595.wav,\r\n"
)
OWL = (
    "https://soundbible.com/17-Owl.html,https://soundbible.com/grab.php?id=17&type=wav,"
    """Owl, An owl.,owl_3.wav,"['owl', ' ', ""bird's""]"\r\n"""
)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_rows_carry_the_clip_and_its_texts(tmp_path: Path) -> None:
    published = read_published(write(tmp_path / "list.csv", HEADER + WIND + OWL))
    wind, owl = published.rows
    assert not published.refused
    assert (wind.source, wind.source_id, wind.line, wind.tags) == ("bigsoundbank", "0595", 2, ())
    assert (owl.source, owl.source_id, owl.line) == ("soundbible", "17", 3)
    assert owl.page_url == "https://soundbible.com/17-Owl.html"
    assert owl.audio_url == "https://soundbible.com/grab.php?id=17&type=wav"
    assert (owl.title, owl.description, owl.tags) == ("Owl", "An owl.", ("owl", "bird's"))
    assert hosts_of("soundbible") == ("soundbible.com", "www.soundbible.com")


def test_ends_of_texts_are_stripped_and_their_inside_is_kept(tmp_path: Path) -> None:
    odd = WIND.replace("Wind,A wind.", '" Wind\r\nand rain\r\n"," A\twind,\u2028 ""loud"".\u200b "')
    (wind, owl) = read_published(write(tmp_path / "list.csv", HEADER + odd + OWL)).rows
    assert wind.title == "Wind\r\nand rain"
    assert wind.description == 'A\twind,\u2028 "loud".\u200b'
    assert (wind.line, owl.line) == (2, 5)  # the title's two line ends are counted


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + HEADER + WIND,
        (HEADER + WIND).replace("\r\n", "\n"),
        (HEADER + WIND).replace("\r\n", "\r"),
        (HEADER + WIND).rstrip(),
        HEADER + "\r\n" + WIND + "\r\n\r\n",
        (HEADER + WIND).replace(",fname", "").replace(",0595.wav,", ","),
        (HEADER + WIND).replace("fname", "anything"),
        (HEADER + WIND).replace("https://bigsoundbank.com/d", "http://www.bigsoundbank.com/d"),
    ],
    ids=["bom", "lf", "cr", "no line end", "blank lines", "no fname", "other column", "www"],
)
def test_a_list_may_be_written_in_other_ways(tmp_path: Path, text: str) -> None:
    published = read_published(write(tmp_path / "list.csv", text))
    assert [(row.source, row.source_id) for row in published.rows] == [("bigsoundbank", "0595")]
    assert not published.refused


LEAKED = '<li><i class="icofont-sound-wave"></i> <a href="tags-night--owl.html">night &amp; owl</a></li>'


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("", ()),
        (" ", ()),
        ("[]", ()),
        ("['a','b' , 'a',]", ("a", "b", "a")),
        ("""["it's", 'b"c', 'A  b', ' d ']""", ("it's", 'b"c', "A  b", "d")),
        (r"['it\'s', 'a\\b', 'caf\xe9', '\d']", ("it's", "a\\b", "café", r"\d")),
        (f"['a', {LEAKED}, 'night & owl', 'b']", ("a", "night & owl", "b")),
        (f"['a', {LEAKED}, 'b']", ("a", "night & owl", "b")),
        (f"[{LEAKED}]", ("night & owl",)),
        (f"[{LEAKED}, {LEAKED}]", ("night & owl",)),
        ("[' ', '']", ()),
    ],
)
def test_tags(text: str, tags: tuple[str, ...]) -> None:
    assert parse_tags(text) == tags


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("owl, bird", r"column 'tags': must be a list like \['wind', 'storm'\], got 'owl, bird'"),
        ("['owl', 'bird'", "column 'tags': character 8 of the list must begin a tag, got \" 'bird'\""),
        ("['owl', bird]", "character 8 of the list must begin a tag"),
        ("['owl', __import__('os').getcwd()]", "character 8 of the list must begin a tag"),
        ("['owl'] + ['bird']", "the list ends at character 7, then follows"),
        ("[" * 100_000, "character 2 of the list must begin a tag"),
        (r"['\N{NO SUCH SIGN}']", "is no string"),
        ("['owl', <li>bird]", "character 8"),
    ],
)
def test_tags_that_are_none(text: str, message: str) -> None:
    with pytest.raises(PublishedError, match=message):
        parse_tags(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: missing: view_link, .* it begins ''"),
        (b"<!DOCTYPE html>\n<html>", "line 1: missing: view_link.* it begins '<!DOCTYPE html>"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it begins 'version https://git-lfs"),
        ((HEADER + WIND).replace(",", ";").encode(), "line 1: separated by ';', must be by commas"),
        ((HEADER + WIND).replace(",", "\t").encode(), "line 1: separated by tabs, must be by commas"),
        (
            HEADER.replace(",", '"\t"').replace("view", '"view').replace("tags", 'tags"').encode(),
            "line 1: separated by tabs",
        ),
        (HEADER.replace("fname", "title").encode(), "line 1: column 'title' stands twice"),
        (
            HEADER.replace("download_link,", "").encode(),
            "line 1: missing: download_link; the columns are view_link",
        ),
        ((HEADER + WIND).encode("utf-16"), "line 1: not UTF-8 text: byte 0xff .* save it as UTF-8"),
        ((HEADER + WIND).replace("Wind", "Caf\xe9").encode("latin-1"), "line 2: not UTF-8 text: byte 0xe9"),
        ((HEADER + WIND + OWL[:-8]).encode(), "line 3: the row that begins here is not CSV: unexpected end of data"),
        ((HEADER + WIND.replace("Wind", '"Wi"nd')).encode(), "line 2: .* not CSV: .* mend its quotes"),
        (b"PK\x03\x04\x14\x00\x00\x00", "line 1: missing: view_link"),
    ],
    ids=[
        "empty",
        "html",
        "lfs",
        "semicolons",
        "tabs",
        "quoted tabs",
        "doubled",
        "column",
        "utf-16",
        "latin-1",
        "cut",
        "quotes",
        "zip",
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "list.csv", content)
    with pytest.raises(PublishedError, match=message) as caught:
        read_published(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PublishedError, match=r"list.csv: no such file; WavText5K.csv is in github.com/microsoft"):
        read_published(tmp_path / "list.csv")
    with pytest.raises(PublishedError, match="Is a directory"):
        read_published(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("https://bigsoundbank.com/d", "https://freesound.org/d"),
            "'view_link': .* is of no known site; known are ",
        ),
        (("https://bigsoundbank.com/d", "https://[/d"), "'view_link': .* is of no known site"),
        (("https://bigsoundbank.com/detail-0595-wind.html", ""), "'view_link': '' is of no known site"),
        (
            ("detail-0595-wind", "wind"),
            "'view_link': no id of a sound of bigsoundbank in 'https://bigsoundbank.com/wind",
        ),
        (("/0595.wav,W", "/0596.wav,W"), "'download_link': .*/0596.wav is not of clip 0595, as view_link is"),
        (("https://bigsoundbank.com/UPLOAD", "https://[/UPLOAD"), "'download_link': .* is no address"),
        (("A wind.", "A wind., loud"), "7 fields, the header has 6; is a comma or a quote missing"),
        (("A wind.,", ""), "5 fields, the header has 6"),
        (("Wind", "Wi\0nd"), "column 'title': holds a zero byte"),
        (("0595.wav,\r", "0595.wav,wind\r"), "column 'tags': must be a list"),
    ],
)
def test_a_row_that_cannot_be_replayed_costs_no_other(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in WIND
    path = write(tmp_path / "list.csv", HEADER + WIND.replace(*change) + OWL)
    published = read_published(path)
    assert [row.source_id for row in published.rows] == ["17"]
    (refused,) = published.refused
    assert refused.startswith(f"{path}: line 2: ")
    with pytest.raises(PublishedError, match=message):
        raise PublishedError(refused)


def test_a_clip_that_is_listed_twice_is_taken_once(tmp_path: Path) -> None:
    published = read_published(write(tmp_path / "list.csv", HEADER + OWL + WIND + OWL.replace("-Owl.", "-Barn-Owl.")))
    assert len(published.rows) == 2
    assert published.refused[0].endswith("line 4: soundbible 17 is already that of line 2")


def test_a_long_text_costs_nothing_and_no_other_reader_notices(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    text = HEADER + WIND.replace("A wind.", "w" * 200_000) + OWL
    wind, owl = read_published(write(tmp_path / "list.csv", text)).rows
    assert (len(wind.description), owl.source_id) == (200_000, "17")
    assert csv.field_size_limit() == limit
    with pytest.raises(PublishedError, match="unexpected end of data"):
        read_published(write(tmp_path / "list.csv", text[:-8]))
    assert csv.field_size_limit() == limit


def test_other_columns_may_stand_twice(tmp_path: Path) -> None:
    text = (HEADER + WIND).replace("\r\n", ",,\r\n")
    assert len(read_published(write(tmp_path / "list.csv", text)).rows) == 1


def test_a_row_may_have_no_download_link(tmp_path: Path) -> None:
    text = HEADER + WIND.replace("https://bigsoundbank.com/UPLOAD/wav/0595.wav", "")
    (row,) = read_published(write(tmp_path / "list.csv", text)).rows
    assert row.audio_url == ""
