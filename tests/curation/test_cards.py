import json
import os
import re
from pathlib import Path

import pytest

from crawler.items import LICENSES
from curation.card_notes import Notes, facts, read_notes
from curation.cards import MARK, captions_card, manifest_card
from curation.datasets import READERS, read_collection
from curation.entries import Collection, Entry
from curation.errors import ConfigError, ManifestError
from curation.filters import DropReason
from curation.manifest import write_manifest
from curation.markdown import code, grid, listing, plain, shown
from curation.marks import is_unchanged
from tests.curation.card_support import HOSTILE, Page, drop, lay_manifest, make_rows, row

CARDS = Path(__file__).parents[2] / "data_cards"


def test_a_card_counts_what_is_there(tmp_path):
    flags = [
        {"clip_id": "soundbible-1", "flag": "near_text", "other_clip_id": "soundbible-2", "score": 0.9, "detail": ""},
        {"clip_id": "soundbible-3", "flag": "near_text", "other_clip_id": "soundbible-1", "score": 0.9, "detail": ""},
        {"clip_id": "soundbible-4", "flag": "language", "other_clip_id": "", "score": 0.9, "detail": "fr"},
    ]
    lost = [drop(8), drop(9), drop(10, "no_text", source="bigsoundbank")]
    page = Page(manifest_card(lay_manifest(tmp_path, make_rows(), dropped=lost, flags=flags), Notes()).text)
    assert page.row("records left out") == ["3"]
    assert page.row("audio that may be passed on")[0].startswith("4 clips")
    assert page.row("SoundBible") == ["6", "4", "0.001", "2", "2026-01-02"]  # 1 + 2 + 0.5 + 0.5 s
    assert page.row("BigSoundBank") == ["3", "2", "0.00028", "1", "2026-03-01"]
    assert page.row("silent")[:1] == ["2"]
    assert page.row("no_text") == ["1", "title and description are both empty"]
    assert [page.row(name)[0] for name in ("CC BY 3.0", "CC0 1.0", "personal use only", "licence unknown")] == list(
        "2211"
    )
    assert page.row("CC BY 3.0")[2:] == ["yes", "credit"]
    assert page.row("personal use only")[2] == page.row("licence unknown")[2] == "no"
    assert page.row("together")[2].startswith("4 clips (66.7 %)")
    assert page.row("Ann")[0] == "3"
    assert page.row("Bob")[0] == "1"
    assert page.row("groups of several clips")[0] == "1"
    assert page.row("groups in several splits")[0] == "1"  # 2 is test, 3 is train
    assert page.row("clips outside train with a text of train")[0] == "1"
    assert page.row("near_text")[:2] == ["2", "3"]
    assert page.row("language")[:2] == ["1", "1"]
    assert [page.row(split)[:2] for split in ("train", "val", "test")] == [
        ["4", "66.7 %"],
        ["1", "16.7 %"],
        ["1", "16.7 %"],
    ]
    assert page.row("longest, s")[0] == "2.00"
    assert page.row("median duration, s")[0] == "0.500"
    assert page.row("min_duration_s") == ["0.1"]
    assert page.row("require") == ["none"]


def test_a_card_counts_texts_by_the_rules_that_it_states(tmp_path):
    page = Page(manifest_card(lay_manifest(tmp_path, make_rows()), Notes()).text)
    expected = {  # all, BigSoundBank, SoundBible
        "titles": ["5", "1", "4"],
        "different titles": ["2", "1", "2"],
        "descriptions": ["4", "1", "3"],
        "titles and descriptions both": ["3", "0", "3"],
        "clips with tags": ["5", "2", "3"],
        "tags": ["10", "4", "6"],
        "captions": ["2", "2", "0"],
        "texts": ["6", "3", "3"],
        "words": ["20", "8", "12"],  # 4 + 4 + 4, a dash among them, and 3, 2, 3
        "most words in a text": ["4", "3", "4"],
        "mean words a text": ["3.33", "2.67", "4.00"],
        "mean words a clip": ["3.33", "4.00", "3.00"],
        "mean words a clip, bare": ["3.17", "4.00", "2.75"],  # the dash is no word
    }
    assert {name: page.row(name)[:3] for name in expected} == expected
    assert "19 words / clips" in page.row("mean words a clip, bare")[3]


def test_the_same_data_give_the_same_bytes_and_a_changed_row_others(tmp_path):
    folder = lay_manifest(tmp_path, make_rows())
    card = manifest_card(folder, Notes()).text
    assert manifest_card(folder / "manifest.parquet", Notes()).text == card
    lay_manifest(tmp_path, make_rows()[::-1])
    assert manifest_card(folder, Notes()).text == card
    lay_manifest(tmp_path, [*make_rows()[:-1], row(6)])
    assert manifest_card(folder, Notes()).text != card


def test_a_card_renders_as_headings_and_whole_tables(tmp_path):
    card = manifest_card(lay_manifest(tmp_path, make_rows(), dropped=[drop(9)]), Notes()).text
    page = Page(card)
    assert card.startswith("---\n")
    assert is_unchanged(card.encode(), MARK)
    assert page.headings == [
        "BigSoundBank and SoundBible",
        "What it is for",
        "How it was collected",
        "Licences and credit",
        "What was left out",
        "Duplicates",
        "Splits",
        "Numbers, and how each was counted",
        "Known biases and limits",
        "Overlaps with other data sets",
        "Taking a clip out",
        "Citation",
        "Versions",
    ]
    assert len(page.tables) == 13
    for table in page.tables:
        assert len({len(cells) for cells in table}) == 1, table
    assert "\n\n\n" not in card


def test_text_from_the_web_is_shown_and_does_nothing(tmp_path):
    hostile = {"title": HOSTILE, "description": HOSTILE, "author": HOSTILE, "attribution": HOSTILE, "split": HOSTILE}
    flags = [{"clip_id": "soundbible-1", "flag": HOSTILE, "other_clip_id": "", "score": 0.0, "detail": HOSTILE}]
    rows = [row(1, **hostile, source_subtype=HOSTILE, modifications=[HOSTILE]), row(2)]
    folder = lay_manifest(tmp_path, rows, flags=flags)
    (folder / "statistics.json").write_text(json.dumps({"clips": 2, "dropped": {}, "options": {HOSTILE: HOSTILE}}))
    safe, page = (
        Page(manifest_card(lay_manifest(tmp_path / "safe"), Notes()).text),
        Page(manifest_card(folder, Notes(name=HOSTILE)).text),
    )
    assert "script" not in page.elements
    assert page.links == safe.links
    assert len(page.headings) == len(safe.headings)
    for table in page.tables:
        assert len({len(cells) for cells in table}) == 1, table
    author = next(cells[0] for table in page.tables for cells in table if cells[0].startswith("</td><script>"))
    assert author == " ".join(HOSTILE.replace("\u202e", "").split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("St. John's wind, 2.5 m (2010)!", "St. John's wind, 2.5 m (2010)!"),
        ("a|b", "a&#124;b"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("*a* _b_ `c` [d] ~e~ $f$ \\", r"\*a\* \_b\_ \`c\` \[d\] \~e\~ \$f\$ \\"),
        ("http://x www.x mailto:x", "http&#58;//x www&#46;x mailto&#58;x"),
        ("- a", "&#45; a"),
        ("1. a", "&#49;. a"),
        ("10.5 a", "10.5 a"),
        ("-80.0", "-80.0"),
        ("a\n\tb\x00c\u2028d", "a b c d"),
        ("a\u202eb\u200bc\ud800", "abc"),
        ("x" * 300, "x" * 199 + "…"),
    ],
)
def test_plain_text(text, expected):
    assert plain(text) == expected
    assert plain(plain(text)) == expected


def test_a_table_holds_what_its_cells_hold():
    made = grid(["a", "b"], [["x | y", 1000], ["<b>", True]])
    assert made.split("\n") == ["| a | b |", "| --- | --- |", "| x &#124; y | 1,000 |", "| &lt;b&gt; | yes |"]


def test_a_card_says_what_a_split_depends_on(tmp_path):
    said = " ".join(manifest_card(lay_manifest(tmp_path), Notes()).text.split())
    assert "clips that sound the same and parts of one recording are one group" in said
    assert "it can change when its own group gets another first clip" in said


def test_numbers_are_shown_with_as_many_digits_as_they_need():
    assert [shown(value) for value in (4525, 12.4955, 0.22, 0.000417, 0.0, True)] == [
        "4,525",
        "12.50",
        "0.220",
        "0.00042",
        "0.00",
        "yes",
    ]
    assert listing({"a|b": 1000}, " clips") == "a&#124;b: 1,000 clips"
    with pytest.raises(ValueError, match="cannot be a code span"):
        code("a|b")


def test_what_people_know_covers_every_licence_reason_and_data_set():
    assert set(facts()["licenses"]) == set(LICENSES)
    assert set(facts()["reasons"]) == set(DropReason)
    assert set(facts()["sources"]) == {"soundbible", "bigsoundbank", *READERS} - {"wavtext5k", "csv", "folder"}


def test_a_manifest_alone_gets_a_card_that_says_what_is_not_known(tmp_path):
    card = manifest_card(lay_manifest(tmp_path, dropped=None, flags=None), Notes()).text
    assert "No table of dropped records lies beside this manifest" in card
    assert "No table of flags lies beside this manifest" in card
    assert "The options that decided" not in card


def test_a_manifest_without_clips_gets_a_card(tmp_path):
    write_manifest(tmp_path, [])
    page = Page(manifest_card(tmp_path, Notes()).text)
    assert page.front["license"] == "unknown"
    assert page.headings[0] == "Data set without clips"
    assert page.row("mean duration, s")[0] == page.row("mean words a clip")[0] == "0.00"


def test_a_day_that_is_none_is_not_recorded(tmp_path):
    rows = [row(1, retrieved_at="yesterday | so"), row(2, retrieved_at="2026-05-06T00:00:00Z")]
    card = manifest_card(lay_manifest(tmp_path, rows), Notes())
    assert Page(card.text).row("SoundBible")[-1] == card.last_retrieved == "2026-05-06"


def test_sources_that_nobody_described_are_named_as_they_are(tmp_path):
    rows = [row(1, source="my_doors", clip_id="my_doors-1", retrieved_at="", license="cc-by-4.0")]
    page = Page(manifest_card(lay_manifest(tmp_path, rows), Notes()).text)
    assert page.row("my_doors") == ["1", "1", "0.00014", "0", "not recorded"]
    assert page.front["annotations_creators"] == ["other"]
    assert page.front["license"] == "cc-by-4.0"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.parquet", b"PAR1", "not a whole Parquet file"),
        ("dropped.parquet", b"PAR1", "not a whole Parquet file"),
        ("flags.parquet", b"", "not a whole Parquet file"),
        ("statistics.json", b"{", "not the counts of a build"),
        ("statistics.json", b"[]", "not the counts of a build"),
        ("statistics.json", b'{"clips": 3, "dropped": {}, "options": 5}', "not the counts of a build"),
        ("statistics.json", b"[" * 100_000, "not the counts of a build"),
        ("statistics.json", b'{"clips": 3}', "not the counts of a build"),
        (
            "statistics.json",
            b'{"clips": 4, "dropped": {}}',
            "counts 4 clips and 0 dropped, .* hold 3 and 0: .*two builds",
        ),
        ("statistics.json", b'{"clips": 3, "dropped": {"silent": 2}}', "they are of two builds; rebuild it with"),
    ],
)
def test_a_broken_file_beside_the_manifest_is_named(tmp_path, name, content, message):
    folder = lay_manifest(tmp_path)
    (folder / name).write_bytes(content)
    with pytest.raises(ManifestError, match=f"{name}: .*{message}"):
        manifest_card(folder, Notes())


def test_a_caption_file_alone_gets_a_card_without_sound(tmp_path):
    file = tmp_path / "list|1.csv"
    file.write_text("x")
    entries = [Entry(source="clotho", source_id=str(number), captions=("a b c", "d")) for number in (1, 2)]
    entries.append(Entry(source="esc50", source_id="1", labels=("dog",), license="cc-by-4.0"))
    collection = Collection(entries=entries, root=None, notes=["read | so"])
    page = Page(captions_card(collection, file, Notes(), source="clotho").text)
    assert page.row("texts")[0] == "4"
    assert page.row("mean words a text")[0] == "2.00"
    assert page.tables[0][2] == ["clips", "2, and 1 of other sources that are not counted here"]
    assert "configs" not in page.front
    assert page.front["source_datasets"] == ["extended"]
    assert page.front["annotations_creators"] == ["crowdsourced"]
    with pytest.raises(ConfigError, match=r"no clip of source 'macs'; sources there: clotho, esc50"):
        captions_card(collection, file, Notes(), source="macs")
    with pytest.raises(ConfigError, match=r"no clip of source ''; sources there: none"):
        captions_card(Collection(entries=[], root=None), file, Notes())


@pytest.mark.parametrize("name", ["wavtext5k", "bigsoundbank", "soundbible"])
def test_a_committed_card_is_whole_and_has_notes(name):
    card = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    page = Page(card)
    assert is_unchanged(card.encode(), MARK)
    assert page.headings[0] == read_notes(CARDS / f"{name}.yaml").name
    for table in page.tables:
        assert len({len(cells) for cells in table}) == 1, table
    assert "**No sound was opened for this card.**" in card


@pytest.fixture(scope="module")
def published() -> Path:
    """The published list, where the folder of data is at hand."""
    if "WAVTEXT5K_DATA" not in os.environ:
        pytest.skip("WAVTEXT5K_DATA is not set")
    return Path(os.environ["WAVTEXT5K_DATA"]) / "captions" / "wavtext5k" / "WavText5K.csv"


@pytest.fixture(scope="module")
def published_clips(published: Path) -> Collection:
    """What is in it."""
    return read_collection("wavtext5k", published)


@pytest.mark.parametrize(
    ("name", "source"), [("wavtext5k", ""), ("bigsoundbank", "bigsoundbank"), ("soundbible", "soundbible")]
)
def test_committed_cards_are_what_the_published_list_gives(published, published_clips, name, source):
    notes = read_notes(CARDS / f"{name}.yaml")
    card = captions_card(published_clips, published, notes, source=source)
    assert card.text == (CARDS / f"{name}.md").read_text(encoding="utf-8")


def test_the_published_list_gives_the_papers_figures(published, published_clips):
    notes = read_notes(CARDS / "wavtext5k.yaml")
    page = Page(captions_card(published_clips, published, notes).text)
    printed = {cells[0]: cells[1:4] for table in page.tables if table[0][1] == "printed" for cells in table[1:]}
    assert printed["audios"] == ["4,525", "4,525", "the same"]
    assert printed["audios after filtering"] == ["4,505", "4,525", "not the same"]
    assert printed["descriptions"] == ["4,348", "4,348", "the same"]
    assert printed["tags"] == ["2,058", "2,058", "the same"]
    assert printed["max words"] == ["82", "82", "the same"]
    assert printed["avg words"] == ["12.50", "12.50", "the same"]


def test_numbers_that_people_typed_are_those_of_the_files_they_name(published, published_clips):
    entries = {
        source: [entry for entry in published_clips.entries if entry.source == source]
        for source in ("soundbible", "bigsoundbank")
    }
    wavcaps = json.loads((published.parents[1] / "wavcaps" / "sb_final.json").read_bytes())["data"]
    shared = {clip["id"] for clip in wavcaps} & {entry.source_id for entry in entries["soundbible"]}
    assert f"{len(shared):,} of its {len(wavcaps):,} ids" in facts()["sources"]["soundbible"]["overlaps"][0]
    places = [int(re.search(r"_(\d+)\.wav$", entry.audio_file)[1]) for entry in entries["soundbible"]]
    listed, missing = max(places) + 1, max(places) + 1 - len(places)
    soundbible = read_notes(CARDS / "soundbible.yaml")
    assert f"had {listed:,} sounds on that day, and {missing} of" in soundbible.collection
    assert sum("personal use" in entry.description.lower() for entry in entries["soundbible"]) == 10
    assert soundbible.biases[0].startswith("Ten descriptions")
    assert sum(not entry.title for entry in entries["bigsoundbank"]) == 5
    titles = len({entry.title for entry in entries["bigsoundbank"]})
    remark = read_notes(CARDS / "wavtext5k.yaml").published[1].remark
    assert f"{titles:,} different BigSoundBank titles" in remark
    assert titles + len(entries["soundbible"]) == 4505
    assert all("/UPLOAD/wav/" in entry.audio_url for entry in entries["bigsoundbank"])
