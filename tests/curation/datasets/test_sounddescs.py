"""SoundDescs: plain pickles or JSON, split lists, audio under any case; pickles that would do more than hold text."""

from __future__ import annotations

import json
import pickle

import pytest

from curation.datasets import read_collection
from curation.datasets.pickles import read_plain_pickle
from curation.errors import ManifestError

DESCRIPTIONS = {"07051146": "Aircraft: take-off.", "nhu05102079": "Blackbird  song.", "nhu1384-24": "Left out."}
CATEGORIES = {"07051146": ["Aircraft", "Military"], "nhu05102079": ["None"]}


def make_sounddescs(root, *, suffix=".pkl", files="", lists=""):
    folder = root / files
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("descriptions", DESCRIPTIONS), ("categories", CATEGORIES)):
        packed = pickle.dumps(content) if suffix == ".pkl" else json.dumps(content).encode()
        (folder / f"{name}{suffix}").write_bytes(packed)
    (folder / "download_links.txt").write_text("https://127.0.0.1/zip/NHU05102079.wav.zip\n")
    (root / lists).mkdir(parents=True, exist_ok=True)
    (root / lists / "train_list.txt").write_text("07051146\n\n")
    (root / lists / "test_list.txt").write_text("nhu05102079\n07000000\n")
    return root


@pytest.mark.parametrize(
    ("suffix", "files", "lists"),
    [
        (".pkl", "", ""),
        (".json", "", ""),
        (".pkl", "sounddescs_data", "data/SoundDescs"),
        (".json", "sounddescs_data", ""),
    ],
)
def test_every_layout_gives_the_same_clips(tmp_path, suffix, files, lists):
    collection = read_collection("sounddescs", make_sounddescs(tmp_path, suffix=suffix, files=files, lists=lists))
    plane, bird, untold = collection.entries
    assert (plane.source, plane.source_id, plane.split) == ("sounddescs", "07051146", "train")
    assert (plane.captions, plane.tags) == (("Aircraft: take-off.",), ("aircraft", "military"))
    assert (plane.license, plane.origin) == ("remarc", "bbc")
    assert (bird.captions, bird.tags, bird.split) == (("Blackbird song.",), (), "test")
    assert (bird.origin_id, bird.audio_url) == ("NHU05102079", "https://127.0.0.1/zip/NHU05102079.wav.zip")
    assert untold.captions == ()
    assert "1 ids of the split lists have no description" in collection.notes
    assert "1 descriptions are of no id in the split lists and are left out" in collection.notes
    assert collection.keep_duplicates


def test_audio_is_found_whatever_the_case_of_its_name(tmp_path):
    make_sounddescs(tmp_path)
    for name in ("audios/07051146/07051146.wav", "zips/NHU05102079.WAV"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    files = [entry.audio_file for entry in read_collection("sounddescs", tmp_path).entries]
    assert files == ["audios/07051146/07051146.wav", "zips/NHU05102079.WAV", "audios/07000000/07000000.wav"]


def test_descriptions_alone_are_text_without_splits(tmp_path):
    make_sounddescs(tmp_path)
    collection = read_collection("sounddescs", tmp_path / "descriptions.pkl")
    assert collection.root is None
    assert {entry.source_id: entry.split for entry in collection.entries} == dict.fromkeys(DESCRIPTIONS, "")


class Harm:
    def __reduce__(self):
        return (print, ("this must never run",))


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_code_is_refused_by_name_and_runs_nothing(tmp_path, capsys, protocol):
    (tmp_path / "descriptions.pkl").write_bytes(pickle.dumps({"a": Harm()}, protocol=protocol))
    with pytest.raises(
        ManifestError, match=r"descriptions\.pkl: the pickle asks for (__builtin__|builtins)\.print; a pickle"
    ):
        read_collection("sounddescs", tmp_path)
    assert capsys.readouterr().out == ""


def test_what_a_pickle_keeps_elsewhere_is_refused(tmp_path):
    (tmp_path / "x.pkl").write_bytes(b"Psomewhere\n.")
    with pytest.raises(ManifestError, match=r"x\.pkl: the pickle asks for an object kept elsewhere \('somewhere'\)"):
        read_plain_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04",
        pickle.dumps(DESCRIPTIONS)[:-20],
        b"hello",
        b"\x80\xff.",
        b"0.",
        b"(S'x\n.",
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x00x.",
    ],
)
def test_a_broken_pickle_is_refused(tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(ManifestError, match=r"x\.pkl: not a whole pickle"):
        read_plain_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["a"], r"descriptions\.pkl: a list, expected a dictionary by id"),
        ({"a": 3}, r"descriptions\.pkl: 'a': must be a text or a list of texts, found 3"),
        ({"a": ["x", None]}, r"'a': must be a text or a list of texts"),
        ({7: "x"}, r"id 7 must be a text that can name a file"),
        ({"../a": "x"}, r"id '\.\./a' must be"),
    ],
)
def test_content_of_another_shape_is_refused(tmp_path, content, message):
    (tmp_path / "descriptions.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ManifestError, match=message):
        read_collection("sounddescs", tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("07051146", r"val_list\.txt: line 2: 07051146 is also in train"),
        ("a/b", r"val_list\.txt: line 2: 'a/b' is no id"),
    ],
)
def test_a_bad_split_list_is_refused_with_its_line(tmp_path, line, message):
    make_sounddescs(tmp_path)
    (tmp_path / "val_list.txt").write_text(f"x\n{line}\n")
    with pytest.raises(ManifestError, match=message):
        read_collection("sounddescs", tmp_path)


def test_a_pointer_in_place_of_the_descriptions_is_refused(tmp_path):
    (tmp_path / "descriptions.pkl").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ManifestError, match=r"descriptions\.pkl: a Git LFS pointer"):
        read_collection("sounddescs", tmp_path)


def test_a_folder_without_descriptions_is_shown_the_layout(tmp_path):
    (tmp_path / "categories.pkl").write_bytes(pickle.dumps(CATEGORIES))
    with pytest.raises(
        ManifestError, match=r"no descriptions\.pkl or .*; found there: categories\.pkl\nexpected:\ndescr"
    ):
        read_collection("sounddescs", tmp_path)
