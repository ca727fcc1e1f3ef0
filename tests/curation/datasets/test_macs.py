"""MACS, written as its publishers describe it: annotations in YAML, competences in a table, TAU's audio."""

from __future__ import annotations

import pytest
import yaml

from curation.datasets import read_collection
from curation.errors import ManifestError


def annotation(annotator, sentence, *tags):
    return {"annotator_id": annotator, "sentence": sentence, "tags": list(tags)}


PARK = {
    "filename": "park-lisbon-1037-40130-a.wav",
    "annotations": [
        annotation(12, "Birds sing.", "birds_singing", "Wind"),
        annotation(7, "No", "birds_singing"),
        annotation(33, "People talk in a park.", "adults_talking"),
    ],
}
AIRPORT = {"filename": "airport-paris-7-1-a.wav", "annotations": [annotation(7, "A trolley rolls.")]}


def make_macs(folder, *items, competences="annotator_id\tcompetence\n12\t0.2\n33\t0.9\n7\t0.2\n"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MACS.yaml").write_text(yaml.safe_dump({"files": list(items)}, sort_keys=False))
    if competences:
        (folder / "MACS_competence.csv").write_text(competences)
    return folder


def test_captions_come_by_the_competence_of_their_annotator(tmp_path):
    collection = read_collection("macs", make_macs(tmp_path, PARK, AIRPORT))
    park, airport = collection.entries
    assert park.captions == ("People talk in a park.", "Birds sing.", "No")
    assert park.tags == ("adults_talking", "birds_singing", "wind")
    assert (park.source, park.source_id, park.split) == ("macs", "park-lisbon-1037-40130-a.wav", "train")
    assert (park.origin, park.origin_id) == ("tau_urban_2019", "park-lisbon-1037-40130-a")
    assert (park.license, park.license_url) == ("unknown", "https://zenodo.org/records/2589280")
    assert (airport.captions, airport.tags) == (("A trolley rolls.",), ())
    assert "2 clips; as published: 3930" in collection.notes
    assert collection.keep_duplicates


def test_without_competences_the_order_of_the_file_stays(tmp_path):
    collection = read_collection("macs", make_macs(tmp_path, PARK, competences=""))
    assert collection.entries[0].captions == ("Birds sing.", "No", "People talk in a park.")
    assert "no MACS_competence.csv: captions are in the order of MACS.yaml" in collection.notes


@pytest.mark.parametrize("folder", ["audio", "TAU-urban-acoustic-scenes-2019-development/audio", ""])
def test_audio_is_found_wherever_the_parts_were_unpacked(tmp_path, folder):
    make_macs(tmp_path / "MACS", PARK, AIRPORT)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / PARK["filename"]).touch()
    collection = read_collection("macs", tmp_path)
    expected = f"{folder}/{PARK['filename']}".lstrip("/")
    assert [entry.audio_file for entry in collection.entries] == [expected, f"audio/{AIRPORT['filename']}"]


def test_the_yaml_alone_is_text_only(tmp_path):
    make_macs(tmp_path, PARK)
    assert read_collection("macs", tmp_path / "MACS.yaml").root is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("files: [\n", r"MACS\.yaml: line 2: not YAML"),
        ("a: b\n", r"MACS\.yaml: no list under files\nexpected:\nMACS\.yaml"),
        ("", r"no list under files"),
        ("files: [x]\n", r"MACS\.yaml: files\[0\]: filename is missing or not a text; expected as in"),
        ("files: [{filename: ../a.wav}]\n", r"files\[0\]: filename is '\.\./a\.wav', must be the name of a file"),
        ("files: [{filename: a.wav}]\n", r"files\[0\] \(a\.wav\): annotations must be a list, found NoneType"),
        (
            "files: [{filename: a.wav, annotations: [{annotator_id: 1}]}]\n",
            r"\(a\.wav\): annotations: sentence is missing",
        ),
        (
            "files: [{filename: a.wav, annotations: [{annotator_id: 1, sentence: x, tags: {a: b}}]}]\n",
            r"annotations: tags must be a list of texts",
        ),
        ("files: [&a {filename: a.wav, annotations: []}, *a]\n", r"MACS\.yaml: aliases, or"),
        (
            "files: [{filename: a.wav, annotations: []}, {filename: a.wav, annotations: []}]\n",
            r"files\[1\]: a\.wav stands",
        ),
        ("!!python/object/apply:os.system ['true']\n", r"no list under files"),
        ("[" * 100_000, r"MACS\.yaml: aliases, or lists in lists in lists"),
        ("{[a]: b}", r"MACS\.yaml: not YAML that can be read \(unhashable"),
        ("files: \x07\n", r"not YAML that can be read"),
    ],
)
def test_broken_captions_are_refused_with_their_place(tmp_path, content, message):
    (tmp_path / "MACS.yaml").write_text(content)
    with pytest.raises(ManifestError, match=message):
        read_collection("macs", tmp_path)


def test_broken_competences_are_refused_with_their_line(tmp_path):
    make_macs(tmp_path, PARK, competences="id\tcompetence\n12\t0.2\n33\thigh\n")
    with pytest.raises(ManifestError, match=r"MACS_competence\.csv: line 3: competence is 'high', must be a number"):
        read_collection("macs", tmp_path)


def test_a_folder_of_something_else_is_shown_the_layout(tmp_path):
    with pytest.raises(ManifestError, match=r"no MACS\.yaml; the folder is empty\nexpected:\nMACS\.yaml"):
        read_collection("macs", tmp_path)
