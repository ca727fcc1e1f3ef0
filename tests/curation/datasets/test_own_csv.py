"""One's own sounds from a table, as spreadsheets, pandas and people write them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from curation.build import BuildOptions, curate
from curation.datasets import read_collection
from curation.entries import Entry
from curation.errors import ManifestError
from curation.manifest import read_dropped, read_manifest
from tests.support.audio import write_tone


def read_table(folder: Path, text: str, *, name: str = "table.csv", encoding: str = "utf-8") -> list[Entry]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode(encoding))
    return list(read_collection("csv", folder / name).entries)


def test_every_column_with_a_meaning_arrives(tmp_path):
    header = "audio,title,description,tags,caption,labels,author,license,page_url,split,fold,origin,origin_id"
    row = 'a/b.wav,Bell,"A &amp; B","Bell; Big  bell",It rings.,bell,Ann,CC BY 4.0,http://x/1,Validation,3,mylab,77'
    (entry,) = read_table(tmp_path / "My Sounds", f"{header}\n{row}\n")
    assert (entry.source, entry.source_id, entry.audio_file) == ("own_my_sounds", "a/b.wav", "a/b.wav")
    assert (entry.title, entry.description, entry.tags) == ("Bell", "A & B", ("bell", "big bell"))
    assert (entry.captions, entry.labels, entry.author) == (("It rings.",), ("bell",), "Ann")
    assert (entry.license, entry.page_url, entry.split, entry.fold) == ("cc-by-4.0", "http://x/1", "val", 3)
    assert (entry.origin, entry.origin_id) == ("mylab", "77")


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("wind", ("wind",)),
        ('"wind, storm"', ("wind", "storm")),
        ('"wind; storm, loud"', ("wind", "storm, loud")),
        ('"[""wind"", ""storm""]"', ("wind", "storm")),
        ("\"['wind', 'it''s']\"", ("wind", "its")),
        ('""', ()),
        ('" , ;"', (",",)),
    ],
)
def test_tags_in_each_spelling(tmp_path, text, tags):
    (entry,) = read_table(tmp_path, f"file,title,tags\nx.wav,X,{text}\n")
    assert entry.tags == tags


def test_captions_in_columns_in_a_list_and_in_several_rows(tmp_path):
    (one,) = read_table(tmp_path, 'audio,caption_2,caption_10,caption_1\nx.wav,two; 2,ten,"one, 1"\n')
    assert one.captions == ("one, 1", "two; 2", "ten")
    (two,) = read_table(tmp_path, 'audio,captions\nx.wav,"[""A dog barks."", ""A bark.""]"\n')
    assert two.captions == ("A dog barks.", "A bark.")
    (three,) = read_table(tmp_path, "audio,caption_1,caption_2\nx.wav,[Music],\"['A.', 'B.']\"\n")
    assert three.captions == ("[Music]", "A.", "B.")
    rows = "audio,caption,title\nx.wav,A dog barks.,Dog\ny.wav,Rain.,Rain\nx.wav,A bark.,Dog\nx.wav,A bark.,Dog\n"
    dog, rain = read_table(tmp_path, rows)
    assert dog.captions == ("A dog barks.", "A bark.")
    assert rain.captions == ("Rain.",)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Audio;Title\r\nx.wav;Tür, zu\r\n", "utf-8"),
        ("audio\ttitle\nx.wav\tTür, zu\n", "utf-16"),
        ('audio,title\r\nx.wav,"Tür, zu"\r\n', "utf-8-sig"),
        ('\nFile Name,Title\n\nx.wav,"Tür, zu"\n', "utf-8"),
        ("audio|title\nx.wav|Tür, zu", "utf-8"),
    ],
)
def test_a_table_as_each_program_writes_it(tmp_path, text, encoding):
    (entry,) = read_table(tmp_path, text, encoding=encoding)
    assert (entry.audio_file, entry.title) == ("x.wav", "Tür, zu")


def test_what_pandas_writes_is_read(tmp_path):
    frame = pd.DataFrame(
        {"path": ["a.wav", "b.wav"], "text": ["A.", "B."], "tags": [["x", "y"], []], "fold": [1, None]}
    )
    frame.to_csv(tmp_path / "frame.csv")
    collection = read_collection("csv", tmp_path)  # the only table there
    assert [(entry.captions, entry.tags, entry.fold) for entry in collection.entries] == [
        (("A.",), ("x", "y"), 1),
        (("B.",), (), -1),
    ]
    assert list(collection.notes) == ["columns of frame.csv without a meaning here, left out: "]


def test_a_page_tells_the_recording_and_a_licence_is_never_guessed(tmp_path):
    text = "audio,title,url,licence\na.wav,A,https://freesound.org/s/12345/,CC0\nb.wav,B,,CC-BY\nc.wav,C,,CC-BY\n"
    (tmp_path / "t.csv").write_text(text)
    collection = read_collection("csv", tmp_path / "t.csv")
    first, second, _ = collection.entries
    assert (first.origin, first.origin_id, first.license) == ("freesound", "12345", "cc0-1.0")
    assert second.license == "unknown"
    assert list(collection.notes) == ["no name in the list of licences, so unknown: 'CC-BY' 2"]


def test_paths_lead_from_the_table_or_from_audio_and_never_out(tmp_path):
    text = "audio,title\n./a/../x.wav,X\na\\y.wav,Y\n" + f"{tmp_path}/deep/z.wav,Z\n"
    entries = read_table(tmp_path, text)
    assert [entry.audio_file for entry in entries] == ["x.wav", "a/y.wav", "deep/z.wav"]
    (tmp_path / "meta").mkdir()
    table = tmp_path / "meta" / "t.csv"
    table.write_text("audio,title\n../x.wav,X\n")
    with pytest.raises(
        ManifestError, match=r"line 2: audio is '../x.wav', must lead to a file in .*meta; name .*--audio"
    ):
        read_collection("csv", table)
    table.write_text("audio,title\nx.wav,X\n")
    assert read_collection("csv", table, audio=tmp_path).root == tmp_path


def test_a_backslash_may_be_part_of_a_name(tmp_path):
    write_tone(tmp_path / "a\\b.wav")
    (entry,) = read_table(tmp_path, "audio,title\na\\b.wav,X\n")
    assert entry.audio_file == "a\\b.wav"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column that names the sounds"),
        ("title,tags\nX,y\n", "no column that names the sounds; found: 'title, tags'; expected one of audio, file"),
        ("audio,tags\nx.wav,y\n", "no column of text; expected title, description, caption or labels"),
        ("audio,file,title\nx.wav,x.wav,X\n", "columns 'audio' and 'file' both mean audio; keep one"),
        ("audio,audio,title\nx.wav,x.wav,X\n", "column 'audio' stands there twice"),
        ("sep=;\naudio;title\nx.wav;X\n", "line 1: 'sep=;' is Excel's own sign, no header; remove that line"),
        ("audio,title\n,X\n", "line 2: audio is empty"),
        ("audio,title\n/etc/passwd,X\n", "line 2: audio is '/etc/passwd', must lead to a file in"),
        ("audio,title\na/../../x.wav,X\n", "must lead to a file in"),
        ("audio,title\n..,X\n", "must lead to a file in"),
        ("audio,title\nC:\\x.wav,X\n", "must lead to a file in"),
        ("audio,title\nhttps://x.org/x.wav,X\n", "must be the path of a file, not an address; download it first"),
        ("audio,title\nx.wav,X,Y\n", "line 2: 3 cells, the header has 2"),
        ('audio,title\nx.wav,"X\n', "line 2: not a CSV row"),
        ("audio,title,fold\nx.wav,X,1.5\n", "line 2: fold is '1.5', must be a whole number"),
        ("audio,title,tags\nx.wav,X,\"['a', b]\"\n", "line 2: tags is .*, must be a list such as"),
        ("audio,captions\nx.wav,[A bark.]\n", "line 2: captions is .*, must be a list such as"),
        ('audio,title,tags\nx.wav,X,"[{}]"\n', "line 2: tags is .*, must be text or a list of texts"),
        (
            "audio,title\nx.wav,X\ny.wav,Y\nx.wav,Z\n",
            "line 4: 'x.wav' is the sound of line 2 already, with another title",
        ),
        (
            "audio,title,id\nx.wav,X,1\ny.wav,X,1\n",
            "line 3: '1' is the sound of line 2 already, with another audio_file",
        ),
        ("audio,title,id\nx.wav,X,\n", "line 2: id is empty"),
        ("version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_a_table_that_cannot_be_is_named(tmp_path, text, message):
    with pytest.raises(ManifestError, match=message):
        read_table(tmp_path, text)


def test_a_table_in_an_encoding_of_old_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="line 2: byte 0xfc is not UTF-8; save the file in that encoding"):
        read_table(tmp_path, "audio,title\nx.wav,Tür\n", encoding="latin-1")


def test_a_folder_of_no_table_or_of_two(tmp_path):
    with pytest.raises(ManifestError, match=r"no .csv or .tsv; the folder is empty"):
        read_collection("csv", tmp_path)
    for name in ("a.csv", "b.TSV", ".hidden.csv"):
        (tmp_path / name).write_text("audio,title\n")
    with pytest.raises(ManifestError, match=r"2 tables \(a.csv, b.TSV\); name the one to read"):
        read_collection("csv", tmp_path)


def test_a_table_and_its_sounds_become_a_manifest_that_names_what_is_missing(tmp_path):
    write_tone(tmp_path / "mine" / "a b.wav", freq=300)
    write_tone(tmp_path / "mine" / "sub" / "c.flac", freq=500)
    (tmp_path / "mine" / "t.csv").write_text(
        "audio,title,caption,split\na b.wav,Tone,,train\nsub/c.flac,,A tone.,test\ngone.wav,Gone,,train\n"
    )
    collection = read_collection("csv", tmp_path / "mine" / "t.csv")
    curate(collection, tmp_path / "out", made_by="import csv", options=BuildOptions(workers=0))
    clips = {clip["source_id"]: clip for clip in read_manifest(tmp_path / "out").to_pylist()}
    assert {key: clip["split"] for key, clip in clips.items()} == {"a b.wav": "train", "sub/c.flac": "test"}
    assert clips["sub/c.flac"]["captions"] == ["A tone."]
    assert [(row["source_id"], row["reason"]) for row in read_dropped(tmp_path / "out").to_pylist()] == [
        ("gone.wav", "missing_audio")
    ]


@pytest.mark.skipif("WAVTEXT5K_DATA" not in os.environ, reason="WAVTEXT5K_DATA is not set")
def test_the_tables_of_real_effects():
    data = Path(os.environ["WAVTEXT5K_DATA"])
    effects = read_collection("csv", data / "effects")
    assert effects.root is not None
    assert all((effects.root / entry.audio_file).is_file() for entry in effects.entries)
    assert len(effects.entries) == 336
    assert Counter(entry.origin for entry in effects.entries)["freesound"] == 210
    assert Counter(entry.license for entry in effects.entries)["cc0-1.0"] == 177
    dogs = read_collection("csv", data / "esc10").entries
    assert Counter(entry.fold for entry in dogs) == {1: 80, 2: 80, 3: 80}
    assert len({entry.labels for entry in dogs}) == 10
    assert all(entry.origin == "freesound" for entry in dogs)
