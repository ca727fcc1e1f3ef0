"""WavCaps: four sources with ids of their own, each traced to where its recordings come from."""

from __future__ import annotations

import json

import pytest
from upath import UPath

from curation.datasets import read_collection
from curation.errors import ManifestError

VIDEO = {"id": "YbXbDfghijk_.wav", "caption": "Wind blows.", "audio": "wav_path", "duration": 10.0}
BBC = {
    "id": "nhu05066104",
    "caption": "Someone saws.",
    "description": "Timber & Wood - Rip saw.",
    "category": "['Machines', 'Daily Life']",
    "duration": 138.36,
    "download_link": "https://127.0.0.1/zip/NHU05066104.wav.zip",
}
FREE = {
    "id": "180913",
    "caption": "A ringtone plays.",
    "file_name": "UK Mello.wav",
    "href": "/people/Tempo/sounds/180913/",
    "tags": ["Standard", "ringtone", "standard"],
    "description": "Ringtone \ud800 in mello tone.",
    "author": "Tempo",
    "duration": 3.2,
    "download_link": "https://127.0.0.1/180913.wav",
}
BIBLE = {
    "id": 180913,
    "caption": "A plane lands.",
    "title": "Airplane Landing",
    "description": "Large &amp; loud.",
    "author": "Daniel",
    "href": "180913-Airplane.html",
    "duration": 14,
    "download_link": "http://127.0.0.1/grab.php?id=180913&type=wav",
}
ITEMS = {
    "AudioSet_SL/as_final.json": VIDEO,
    "BBC_Sound_Effects/bbc_final.json": BBC,
    "FreeSound/fsd_final.json": FREE,
    "SoundBible/sb_final.json": BIBLE,
}


def write_json(file, *items):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"num_captions_per_audio": 1, "data": list(items)}))


def make_wavcaps(root, *, below="json_files", flat=False):
    for name, item in ITEMS.items():
        write_json(root / below / (name.rpartition("/")[2] if flat else name), item)
    return root


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("below", "flat"), [("json_files", False), ("", False), ("", True), ("data/json_files", False)]
)
def test_each_source_tells_where_its_recordings_come_from(tmp_path, below, flat):
    collection = read_collection("wavcaps", make_wavcaps(tmp_path, below=below, flat=flat))
    video, bbc, free, bible = collection.entries
    assert (video.source, video.source_id) == ("wavcaps", "AudioSet_SL_YbXbDfghijk_")
    assert (video.origin, video.origin_id) == ("youtube", "bXbDfghijk_")
    assert video.page_url == "https://www.youtube.com/watch?v=bXbDfghijk_"
    assert (bbc.origin, bbc.origin_id, bbc.license) == ("bbc", "NHU05066104", "remarc")
    assert (bbc.tags, bbc.description) == (("machines", "daily life"), "Timber & Wood - Rip saw.")
    assert (free.origin, free.origin_id, free.license) == ("freesound", "180913", "unknown")
    assert (free.title, free.tags, free.author) == ("UK Mello", ("standard", "ringtone"), "Tempo")
    assert free.page_url == "https://freesound.org/people/Tempo/sounds/180913/"
    assert free.description == "Ringtone ? in mello tone."
    assert (bible.origin, bible.origin_id) == ("soundbible", "180913")
    assert (bible.page_url, bible.title) == ("https://soundbible.com/180913-Airplane.html", "Airplane Landing")
    assert (bible.captions, bible.description) == (("A plane lands.",), "Large & loud.")
    assert len({entry.clip_id for entry in collection.entries}) == 4
    assert {entry.split for entry in collection.entries} == {""}
    assert any("academic use" in note for note in collection.notes)
    assert "FreeSound has 1 clips; as published: 262300" in collection.notes


def test_audio_is_looked_for_below_its_own_source(tmp_path):
    make_wavcaps(tmp_path)
    touch(
        tmp_path, "Audio/SoundBible/180913.flac", "Zip_files/AudioSet_SL_flac/mnt/fast/YbXbDfghijk_.flac", "180913.flac"
    )
    assert [entry.audio_file for entry in read_collection("wavcaps", tmp_path).entries] == [
        "Zip_files/AudioSet_SL_flac/mnt/fast/YbXbDfghijk_.flac",
        "Audio/BBC_Sound_Effects/nhu05066104.flac",
        "Audio/FreeSound/180913.flac",
        "Audio/SoundBible/180913.flac",
    ]


def test_one_source_alone_may_have_its_audio_anywhere(tmp_path):
    write_json(tmp_path / "sb_final.json", BIBLE)
    touch(tmp_path / "sounds", "180913.wav")
    collection = read_collection("wavcaps", tmp_path / "sb_final.json", audio=tmp_path / "sounds")
    assert [entry.audio_file for entry in collection.entries] == ["180913.wav"]
    assert read_collection("wavcaps", tmp_path / "sb_final.json").root is None


def test_a_recording_captioned_twice_is_one_clip(tmp_path):
    write_json(tmp_path / "sb_final.json", BIBLE, BIBLE | {"caption": "Landing."}, BIBLE)
    assert [entry.captions for entry in read_collection("wavcaps", tmp_path).entries] == [
        ("A plane lands.", "Landing.")
    ]


def test_a_pointer_in_place_of_a_large_file_is_refused(tmp_path):
    file = make_wavcaps(tmp_path) / "json_files" / "FreeSound" / "fsd_final.json"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 154000000\n")
    with pytest.raises(ManifestError, match=r"fsd_final\.json: a Git LFS pointer, not the file itself; fetch it with"):
        read_collection("wavcaps", tmp_path)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("x", r"sb_final\.json: data\[1\]: must be an object, found 'x'"),
        ({"caption": "x"}, r"data\[1\]: id is None, must be a text that can name a file"),
        ({"id": "../../etc", "caption": "x"}, r"id is '\.\./\.\./etc'"),
        ({"id": "7", "title": "x"}, r"data\[1\] \(id 7\): caption is missing; found id, title"),
        ({"id": "7", "caption": 3}, r"data\[1\]: caption must be a text, found 3"),
        ({"id": "7", "caption": "x", "tags": "a"}, r"data\[1\]: tags must be a list of texts, found 'a'"),
        ({"id": "7", "caption": "x", "tags": [1]}, r"tags must be a list of texts"),
    ],
)
def test_a_bad_item_is_refused_with_its_place(tmp_path, item, message):
    write_json(tmp_path / "sb_final.json", BIBLE, item)
    with pytest.raises(ManifestError, match=message):
        read_collection("wavcaps", tmp_path)


@pytest.mark.parametrize("category", ["['Machines'", "Machines", "[__import__('os').system('true')]"])
def test_a_category_that_is_no_list_is_one_tag(tmp_path, category):
    write_json(tmp_path / "bbc_final.json", BBC | {"category": category})
    assert [entry.tags for entry in read_collection("wavcaps", tmp_path).entries] == [(category.lower(),)]


@pytest.mark.parametrize("content", ["[]", "{}", '{"data": {}}'])
def test_json_of_another_shape_is_refused(tmp_path, content):
    (tmp_path / "sb_final.json").write_text(content)
    with pytest.raises(ManifestError, match=r'sb_final\.json: no list under "data"\nexpected:\njson_files'):
        read_collection("wavcaps", tmp_path)


def test_a_place_of_something_else_is_shown_the_layout(tmp_path):
    (tmp_path / "captions.json").write_text("{}")
    with pytest.raises(
        ManifestError, match=r"no as_final\.json or bbc_final.*; found there: captions\.json\nexpected:"
    ):
        read_collection("wavcaps", tmp_path)
    with pytest.raises(ManifestError, match=r"captions\.json: the name tells no source \(as_final\.json, "):
        read_collection("wavcaps", tmp_path / "captions.json")


def test_a_store_gives_the_same_clips(tmp_path):
    make_wavcaps(tmp_path)
    touch(tmp_path, "Audio/SoundBible/180913.flac")
    store = UPath("memory://wavcaps-test/set")
    for file in filter(lambda path: path.is_file(), tmp_path.rglob("*")):
        (store / file.relative_to(tmp_path).as_posix()).write_bytes(file.read_bytes())
    local, remote = read_collection("wavcaps", tmp_path), read_collection("wavcaps", store)
    assert (remote.entries, remote.notes, remote.root) == (local.entries, local.notes, store)
