"""FSD50K as Zenodo has it, written small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curation.datasets import read_collection
from curation.errors import ManifestError

DEV = """\
fname,labels,mids,split
64760,"Electric_guitar,Guitar,Music","/m/02sgy,/m/0342h,/m/04rlf",train
16399,Bark,/m/05tny_,val
"""
EVAL = 'fname,labels,mids\n37199,"Bark,Dog","/m/05tny_,/m/0bt9lr"\n'
INFO = {
    "64760": {
        "title": "guitar_chord.wav",
        "description": "A chord.<br>Played &amp; left to ring.\r\n",
        "tags": ["Guitar", "chord", "guitar"],
        "license": "http://creativecommons.org/licenses/by-nc/3.0/",
        "uploader": "someone",
    },
    "16399": {"title": "bark", "description": "", "tags": [], "license": "https://example.org/mine", "uploader": "two"},
}


def lay_out(folder: Path, *, dev: str | None = DEV, evaluation: str | None = EVAL, info: object = INFO) -> Path:
    truth, metadata = folder / "FSD50K.ground_truth", folder / "FSD50K.metadata"
    for path in (truth, metadata):
        path.mkdir(parents=True)
    if dev is not None:
        (truth / "dev.csv").write_text(dev, encoding="utf-8")
    if evaluation is not None:
        (truth / "eval.csv").write_text(evaluation, encoding="utf-8")
    if info is not None:
        (metadata / "dev_clips_info_FSD50K.json").write_text(json.dumps(info), encoding="utf-8")
    return folder


def test_both_parts_with_labels_text_and_licence(tmp_path):
    collection = read_collection("fsd50k", lay_out(tmp_path))
    guitar, bark, dog = collection.entries
    assert [entry.clip_id for entry in collection.entries] == ["fsd50k-64760", "fsd50k-16399", "fsd50k-37199"]
    assert [entry.split for entry in collection.entries] == ["train", "val", "test"]
    assert guitar.labels == ("Electric_guitar", "Guitar", "Music")
    assert (guitar.origin, guitar.origin_id) == ("freesound", "64760")
    assert (guitar.title, guitar.tags, guitar.author) == ("guitar_chord", ("guitar", "chord"), "someone")
    assert guitar.description.endswith("Played & left to ring.")
    assert (guitar.license, guitar.license_url) == ("cc-by-nc-3.0", "http://creativecommons.org/licenses/by-nc/3.0/")
    assert (bark.license, dog.license, dog.title) == ("unknown", "unknown", "")
    assert dog.audio_file == "FSD50K.eval_audio/37199.wav"
    assert collection.keep_duplicates
    notes = "\n".join(collection.notes)
    assert "licence https://example.org/mine has no name in the list: 1 clips of dev" in notes
    assert "no eval_clips_info_FSD50K.json: the clips of eval have labels, but no other text and no licence" in notes
    assert "dev has 2 clips, 40966 in version 1.0 as published" in notes


def test_half_a_surrogate_pair_in_the_metadata_becomes_a_question_mark(tmp_path):
    info = {"64760": {name: f"http://{name}\ud800" for name in ("title", "description", "license", "uploader")}}
    guitar, *_ = read_collection("fsd50k", lay_out(tmp_path, info=info)).entries
    assert (guitar.license_url, guitar.author) == ("http://license?", "http://uploader?")


def test_sounds_are_found_by_their_number_wherever_they_lie(tmp_path):
    sounds = tmp_path / "sounds"
    for file in ("dev/64760.flac", "37199.wav"):
        (sounds / file).parent.mkdir(parents=True, exist_ok=True)
        (sounds / file).touch()
    collection = read_collection("fsd50k", lay_out(tmp_path / "fsd50k"), audio=sounds)
    files = [entry.audio_file for entry in collection.entries]
    assert files == ["dev/64760.flac", "FSD50K.dev_audio/16399.wav", "37199.wav"]


def test_one_part_alone_or_one_table_alone(tmp_path):
    collection = read_collection("fsd50k", lay_out(tmp_path / "one", dev=None))
    assert [entry.split for entry in collection.entries] == ["test"]
    assert any("no dev.csv: the clips of dev are left out" in note for note in collection.notes)
    table = lay_out(tmp_path / "two") / "FSD50K.ground_truth" / "dev.csv"
    text = read_collection("fsd50k", table)
    assert (text.root, [entry.title for entry in text.entries]) == (None, ["guitar_chord", "bark"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"dev": DEV.replace("16399", "x1")}, "dev.csv: line 3: fname is 'x1', must be a Freesound id"),
        ({"dev": DEV.replace(",val", ",dev")}, "dev.csv: line 3: split is 'dev', must be train or val"),
        ({"dev": DEV.replace("Bark", "")}, "line 3: labels is empty, must name a class"),
        ({"dev": DEV.replace("labels", "label")}, "column 'labels' is missing from the header"),
        ({"dev": DEV.replace("16399", "64760")}, "fname 64760 stands there 2 times"),
        ({"evaluation": EVAL.replace("37199", "16399")}, "fname 16399 stands there 2 times"),
        ({"info": [1]}, "must be one object a clip, by fname"),
        ({"info": {"64760": {"tags": "guitar"}}}, "64760: tags is 'guitar', must be a list"),
        ({"dev": None, "evaluation": None}, "no FSD50K.ground_truth/dev.csv or eval.csv; found there: FSD50K.ground"),
    ],
)
def test_what_is_not_as_published_is_named(tmp_path, files, message):
    with pytest.raises(ManifestError, match=message):
        read_collection("fsd50k", lay_out(tmp_path, **files))
