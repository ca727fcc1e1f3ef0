"""One's own sounds from a folder: titles from names, tags from folders, text from files beside."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from curation.build import BuildOptions, curate
from curation.datasets import own_folder, read_collection
from curation.datasets.own_fields import NAMES, own_source
from curation.datasets.own_folder import name_in_words
from curation.errors import ConfigError, ManifestError
from curation.manifest import read_dropped, read_manifest
from tests.support.audio import write_tone


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("dog_bark-01.wav", "dog bark 01"),
        ("GlassBreakBig.WAV", "Glass Break Big"),
        ("USBPlug.aiff", "USB Plug"),
        ("iPhone ring.mp3", "iPhone ring"),
        ("McDonald's door.mp3", "McDonald's door"),
        ("radio mic off MDC1200.mp3", "radio mic off MDC1200"),
        ("node_dig.2.ogg", "node dig 2"),
        ("Take 1.5 - Mr. Smith.wav", "Take 1.5 Mr. Smith"),
        ("Cave In Sound-SoundBible.com-1530566377.mp3", "Cave In Sound"),
        ("dog%20bark.wav", "dog bark"),
        ("jarrón, caída.wav", "jarrón, caída"),
        ("🐕 犬.wav", "🐕 犬"),
        ("two\nlines\t.wav", "two lines"),
        ("___.wav", "___"),
        ("noext", "noext"),
        # Like a name by UCS, and none.
        ("LRRain_in_garden_01_cut.ogg", "LR Rain in garden 01 cut"),
        ("DOORWood_slam.wav", "DOOR Wood slam"),
        ("12__x.wav", "12 x"),
    ],
)
def test_a_file_name_in_words(name, title):
    assert name_in_words(name).title == title


def test_names_by_rule_tell_more():
    door = name_in_words("DOORKnck_Knock on a glass door 1 (ID 0319)_BSB.wav")
    assert (door.title, door.tags) == ("Knock on a glass door 1", ("doorknck",))
    assert (door.origin, door.origin_id) == ("bigsoundbank", "0319")
    slam = name_in_words("DOORWood-OLD_Heavy Slam (ID 0319)_JDoe_MyLib_take2.wav")
    assert (slam.title, slam.tags, slam.origin) == ("Heavy Slam (ID 0319)", ("doorwood",), "")
    plane = name_in_words("188423__some_one__airplane-prop_01.wav")
    assert (plane.title, plane.author) == ("airplane prop 01", "some_one")
    assert (plane.origin, plane.origin_id) == ("freesound", "188423")


def test_every_sound_and_no_other_file(tmp_path):
    names = ("a.wav", "a.mp3", "A.wav", "Foley & Co/Door_Wood/b.FLAC", "Foley & Co/c.bwf")
    other = ("notes.pdf", "cover.jpg", "README", ".hidden.wav", ".git/x.wav", "Foley & Co/._c.wav", "x.wav.part")
    collection = read_collection("folder", touch(tmp_path / "lib", *names, *other))
    assert [entry.audio_file for entry in collection.entries] == sorted(names)
    assert len({entry.clip_id.lower() for entry in collection.entries if "/" not in entry.source_id}) == 2
    assert len({entry.clip_id for entry in collection.entries}) == 5
    by_file = {entry.audio_file: entry for entry in collection.entries}
    assert by_file["Foley & Co/Door_Wood/b.FLAC"].tags == ("foley & co", "door wood")
    assert by_file["a.wav"].title == "a"
    assert not collection.keep_duplicates
    (note,) = collection.notes
    assert note.startswith("4 files are not named as sounds and were left out: ")
    assert {".pdf 1", ".jpg 1", "no extension 1", ".part 1"} == set(note.partition(": ")[2].split(", "))


def test_text_beside_a_sound_says_more(tmp_path):
    folder = touch(tmp_path / "lib", "Bells/one.wav", "two.wav", "three.wav", "99__ann__four.wav")
    (folder / "Bells" / "one.txt").write_text("A bell &amp; a\n ringer.\n", encoding="utf-8-sig")
    said = {
        "name": "Two",
        "tags": ["Loud"],
        "captions": ["A.", "B."],
        "license": "http://creativecommons.org/publicdomain/zero/1.0/",
        "username": "bob",
        "url": "https://freesound.org/people/bob/sounds/42/",
        "num_downloads": 7,
    }
    (folder / "two.wav.json").write_text(json.dumps(said))
    (folder / "two.txt").write_text("Two bells.", encoding="utf-16")
    collection = read_collection("folder", folder)
    entries = {entry.audio_file: entry for entry in collection.entries}
    one, two, four = entries["Bells/one.wav"], entries["two.wav"], entries["99__ann__four.wav"]
    assert (one.title, one.description, one.tags) == ("one", "A bell & a ringer.", ("bells",))
    assert (two.title, two.description, two.tags, two.captions) == ("Two", "Two bells.", ("loud",), ("A.", "B."))
    assert (two.license, two.author, two.origin, two.origin_id) == ("cc0-1.0", "bob", "freesound", "42")
    assert (four.page_url, four.origin_id, four.author) == ("https://freesound.org/s/99/", "99", "ann")
    assert not collection.notes


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.txt", b"caf\xe9", "'utf-8' codec can't decode"),
        ("a.txt", b"x" * (2**20 + 1), "more than 1048576 bytes"),
        ("a.json", b"{", "Expecting property name"),
        ("a.json", b"[1]", "must be a JSON object"),
        ("a.json", b'{"title": {"de": "Hund"}}', "title is {'de': 'Hund'}, must be text"),
        ("a.wav.json", b'{"fold": "x"}', "fold is 'x'"),
        ("a.json", b'{"tags": [true]}', "tags is [True], must be text or a list of texts"),
        ("a.json", b'{"labels": ["dog", false]}', "labels is ['dog', False], must be text or a list of texts"),
        ("a.json", b'{"captions": [null]}', "captions is [None], must be text or a list of texts"),
        ("a.json", b'{"title": true}', "title is True, must be text"),
        ("a.json", b"[" * 100_000, "a.json: "),
    ],
)
def test_a_bad_file_beside_a_sound_costs_its_text_and_is_named(tmp_path, name, content, problem):
    folder = touch(tmp_path / "lib", "a.wav")
    (folder / name).write_bytes(content)
    collection = read_collection("folder", folder)
    assert (collection.entries[0].title, collection.entries[0].description) == ("a", "")
    assert f"1 files beside sounds could not be used, the first: {name}" in collection.notes[0]
    assert problem in collection.notes[0]


@pytest.mark.parametrize("is_list", [False, True])
def test_half_a_surrogate_pair_in_a_text_beside_a_sound_fails_no_build(tmp_path, is_list):
    write_tone(tmp_path / "lib" / "a.wav")
    said: dict[str, object] = {
        field: f"{field} \ud800" for field in NAMES if field not in ("audio", "source_id", "fold")
    }
    if is_list:
        said |= {field: [said[field]] for field in ("tags", "labels", "captions")}
    (tmp_path / "lib" / "a.json").write_text(json.dumps(said))
    collection = read_collection("folder", tmp_path / "lib")
    curate(collection, tmp_path / "out", made_by="import folder", options=BuildOptions(workers=0))
    (clip,) = read_manifest(tmp_path / "out").to_pylist()
    for field in ("page_url", "audio_url", "origin", "origin_id", "license_url", "split"):
        assert clip[field] == f"{field} ?"
    assert (clip["title"], clip["tags"], clip["captions"]) == ("title ?", ["tags \ufffd"], ["captions \ufffd"])


def test_links_are_followed_once_and_never_upwards(tmp_path):
    folder = touch(tmp_path / "lib", "in/a.wav")
    outside = touch(tmp_path / "disk", "b.wav")
    (outside / "back").symlink_to(folder)
    (folder / "loop").symlink_to(folder)
    (folder / "above").symlink_to(tmp_path)
    (folder / "again").symlink_to(folder / "in")
    (folder / "disk").symlink_to(outside)
    (folder / "disk2").symlink_to(outside)
    (folder / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    files = [entry.audio_file for entry in read_collection("folder", folder).entries]
    assert files == ["disk/b.wav", "gone.wav", "in/a.wav"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_hostile_names_become_clips(tmp_path):
    folder = tmp_path / "lib"
    names = [
        b"caf\xe9.wav",
        b"two\nlines.wav",
        "😀.wav".encode(),
        b"x" * 251 + b".wav",
        b" .wav",
        b"-rf.wav",
        b"a:b*?.wav",
    ]
    for number, name in enumerate(names):
        path = write_tone(folder / "tone.wav", freq=300 + 50 * number)
        path.rename(folder / os.fsdecode(name))
    collection = read_collection("folder", folder)
    assert len({entry.clip_id for entry in collection.entries}) == len(names)
    assert any("1 sounds have names that are not UTF-8" in note for note in collection.notes)
    curate(collection, tmp_path / "out", made_by="import folder", options=BuildOptions(workers=0))
    clips = {clip["source_id"]: clip["title"] for clip in read_manifest(tmp_path / "out").to_pylist()}
    assert clips["caf\\xe9.wav"] == "caf\\xe9"
    assert clips["two\nlines.wav"] == "two lines"
    assert len(clips) == len(names) - 1
    dropped = [(row["source_id"], row["reason"]) for row in read_dropped(tmp_path / "out").to_pylist()]
    assert dropped == [(" .wav", "no_text")]


def test_a_pipe_named_as_a_sound_is_not_opened(tmp_path):
    os.mkfifo(touch(tmp_path / "lib", "a.wav") / "b.wav")
    assert [entry.audio_file for entry in read_collection("folder", tmp_path / "lib").entries] == ["a.wav"]


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("Foley (2024)", "own_foley_2024"),
        ("soundbible", "own_soundbible"),
        ("Geräusche", "own_gerausche"),
        ("a-b", "own_a_b"),
        ("...", "own"),
    ],
)
def test_the_source_is_named_after_the_folder(tmp_path, folder, source):
    (tmp_path / folder).mkdir()
    assert own_source(tmp_path / folder) == source


def test_folders_whose_names_become_equal_are_kept_apart(tmp_path):
    sources = set()
    for name in ("звуки", "ääni звуки", "音", "x" * 41, "x" * 60):
        (tmp_path / name).mkdir()
        sources.add(own_source(tmp_path / name))
    assert len(sources) == 5
    assert all(source.isascii() and source == source.lower() and len(source) < 60 for source in sources)


def test_the_folder_one_is_in_has_a_name_too(tmp_path, monkeypatch):
    monkeypatch.chdir(touch(tmp_path / "lib", "a.wav"))
    assert read_collection("folder", Path()).entries[0].clip_id == "own_lib-a.wav"


def test_a_folder_that_may_not_be_read_is_named_and_the_others_are_read(tmp_path, monkeypatch):
    """Such as lost+found; who runs this may be root, whom nothing is forbidden."""
    folder = touch(tmp_path / "lib", "a.wav", "lost+found/b.wav", "more/c.wav")

    def scandir(path):
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return os.scandir(path)

    monkeypatch.setattr(own_folder, "os", SimpleNamespace(scandir=scandir))
    found = read_collection("folder", folder)
    assert [entry.source_id for entry in found.entries] == ["a.wav", "more/c.wav"]
    assert "1 folders could not be read and were left out, the first: lost+found/" in found.notes


def test_what_is_no_folder_of_sounds_is_refused(tmp_path):
    folder = touch(tmp_path / "lib", "a.txt")
    with pytest.raises(
        ManifestError, match=r"(?s)no file named as a sound; found there: a.txt\nexpected:.*Hidden files"
    ):
        read_collection("folder", folder)
    with pytest.raises(ConfigError, match="a file; the reader folder takes a folder, the reader csv a table"):
        read_collection("folder", folder / "a.txt")
    with pytest.raises(ConfigError, match="takes no --audio"):
        read_collection("folder", folder, audio=folder)


@pytest.mark.skipif("WAVTEXT5K_DATA" not in os.environ, reason="WAVTEXT5K_DATA is not set")
def test_folders_of_real_sounds():
    data = Path(os.environ["WAVTEXT5K_DATA"])
    for name, count in (("effects", 336), ("tuxpaint-gcompris", 152), ("hard-audio", 124)):
        entries = read_collection("folder", data / name).entries
        assert len({entry.clip_id for entry in entries}) == len(entries) == count
        assert all(entry.title for entry in entries)
    (forest,) = (entry for entry in read_collection("folder", data / "effects").entries if entry.origin)
    assert (forest.title, forest.origin, forest.origin_id) == ("Forest", "bigsoundbank", "0100")
