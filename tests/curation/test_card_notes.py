"""What people add to a card: their notes, and printed figures beside counted ones."""

import pytest

from curation import card_counts
from curation.card_notes import Notes, PublishedFigure, read_notes
from curation.cards import captions_card, manifest_card
from curation.entries import Collection, Entry
from curation.errors import ConfigError
from tests.curation.card_support import Page, lay_manifest, row


def test_notes_go_into_the_card_and_numbers_do_not(tmp_path):
    file = tmp_path / "card.yaml"
    file.write_text(
        "name: Door sounds\nversion: 1.10\nlanguages: [no]\ncontact: a@b.example\nbiases: [Doors *only*]\n"
        "sections:\n  Maintenance: Once a |year|.\n".replace("1.10", "1.10.0"),
        encoding="utf-8-sig",
    )
    notes = read_notes(file)
    assert (notes.version, notes.languages) == ("1.10.0", ("no",))
    card = manifest_card(lay_manifest(tmp_path), notes)
    assert card.name == "Door sounds"
    assert Page(card.text).front["language"] == ["no"]
    assert "# Door sounds\n" in card.text
    assert "- Doors *only*\n" in card.text
    assert "## Maintenance\n\nOnce a |year|.\n" in card.text
    assert "Write to a@b.example" in card.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"sumary: x", r"unknown key 'sumary'; did you mean summary\?"),
        (b"a: [", "not YAML"),
        (b"- a", "must hold keys such as 'summary:', found list"),
        (b"name: \xff", "not UTF-8 text"),
        (b"name: a\nname: b", "key 'name' stands twice"),
        (b"version: 1.0", "must be a semantic version such as 1.0.0, got '1.0'"),
        (b"date_published: 31.1.2026", "must be a day such as 2026-01-31"),
        (b"url: example.org", "must be an http or https address"),
        (b"biases: Doors", "biases must be a list, got 'Doors'"),
        (b"biases: [a: b]", "must be a list of texts"),
        (b"summary: {a: b}", "summary must be a text"),
        (b"languages: [English]", "codes of two or three letters"),
        (b"sections: [a]", "must be texts by heading"),
        (b"published: [{what: a}]", "must have what, printed and where"),
        (b"published: [{what: a, printed: many, where: b}]", "printed must be a number such as .*, got 'many'"),
        (b"name: ' '", "name must be one line"),
    ],
)
def test_broken_notes_are_refused_with_their_key(tmp_path, content, message):
    file = tmp_path / "card.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_notes(file)


def test_notes_may_be_empty(tmp_path):
    file = tmp_path / "card.yaml"
    file.write_text("summary:\n")
    assert read_notes(file) == Notes()
    file.write_text("# nothing yet\n")
    assert read_notes(file) == Notes()


@pytest.mark.parametrize(
    ("printed", "value", "verdict"),
    [
        ("12.50", 12.4955, "the same"),
        ("12.5", 12.5098, "the same"),
        ("12.50", 12.5098, "not the same"),
        ("4,525", 4525, "the same"),
        ("4,505", 4525, "not the same"),
        ("25.48", None, "cannot be counted from this"),
    ],
)
def test_a_printed_figure_is_compared_as_it_is_rounded(printed, value, verdict):
    assert PublishedFigure(figure="", what="", printed=printed, where="").verdict(value) == verdict


def test_a_published_figure_must_be_one_that_is_counted(tmp_path):
    notes = Notes(published=(PublishedFigure(figure="clipz", what="a", printed="1", where="b"),))
    with pytest.raises(ConfigError, match="figure 'clipz' is not one of clips, titles"):
        manifest_card(lay_manifest(tmp_path), notes)


@pytest.mark.parametrize("printed", ["1e999999999", "1E9", "inf", "nan", "", "9" * 40, "0." + "0" * 30, "٤", "1_0"])
def test_a_printed_figure_that_cannot_be_rounded_is_refused(tmp_path, printed):
    file = tmp_path / "card.yaml"
    file.write_text(f"published: [{{figure: hours, what: a, printed: '{printed}', where: b}}]", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"card\.yaml: published: printed must be a number"):
        read_notes(file)


def test_the_largest_printed_figure_is_compared():
    note = PublishedFigure(figure="", what="", printed="9" * 19 + ".123456", where="")
    assert note.verdict(1e18) == "not the same"


@pytest.mark.parametrize("day", ["2026-W05-1", "20260131", "2026-02-30", "٢٠٢٦-01-31", "2026-01-31T00:00:00"])
def test_a_day_is_written_in_one_way(tmp_path, day):
    file = tmp_path / "card.yaml"
    file.write_text(f"date_published: {day}", encoding="utf-8")
    with pytest.raises(ConfigError, match="date_published must be a day such as 2026-01-31, got"):
        read_notes(file)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (r'summary: "a \ud800 b"', "summary"),
        (r'biases: ["\udfff"]', "biases"),
        (r'sections: {"\ud800": x}', "sections"),
        (r'published: [{what: "\ud800", printed: "1", where: b}]', "published"),
    ],
)
def test_half_a_character_is_refused(tmp_path, text, key):
    file = tmp_path / "card.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"card\.yaml: {key}: not Unicode text: .* is half a character"):
        read_notes(file)


def test_every_figure_of_a_manifest_can_be_compared(tmp_path):
    rows = [row(1, captions=["A bell"]), row(2)]
    frame = lay_manifest(tmp_path, rows)
    counted = {"hours": "0.0003", "max_duration": "0.5", "mean_duration": "0.50", "captions": "1", "clips": "2"}
    published = tuple(
        PublishedFigure(figure=key, what=f"their {key}", printed=counted.get(key, "999999"), where="here")
        for key in card_counts.FIGURES
    )
    page = Page(manifest_card(frame, Notes(published=published)).text)
    found = {key: page.row(f"their {key}") for key in card_counts.FIGURES}
    assert all(cells[1] for cells in found.values())
    same = {key for key, cells in found.items() if cells[2] == "the same"}
    assert same == set(counted)


def test_a_figure_that_needs_sound_is_known_and_not_counted_without_it(tmp_path):
    file = tmp_path / "list.csv"
    file.write_text("x")
    collection = Collection(entries=[Entry(source="clotho", source_id="1")], root=None)
    published = (
        PublishedFigure(figure="hours", what="their hours", printed="25.48", where="here"),
        PublishedFigure(figure="captions", what="their captions", printed="0", where="here"),
    )
    page = Page(captions_card(collection, file, Notes(published=published)).text)
    assert page.row("their hours")[:3] == ["25.48", "", "cannot be counted from this"]
    assert page.row("their captions")[:3] == ["0", "0", "the same"]
