"""Sounds found by name, whatever folders they lie in."""

from __future__ import annotations

import os

import pytest
from upath import UPath

from curation.datasets.licenses import license_of_url
from curation.datasets.places import is_file_name, sounds_under, title_of, wrong_layout


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_sound_is_found_by_its_name_without_suffix(tmp_path):
    touch(tmp_path, "a.wav", "deep/er/b.c.FLAC", "notes.txt", ".hidden/d.wav", "._a.wav", "e.wav.part")
    sounds = sounds_under(tmp_path)
    assert len(sounds) == 2
    assert sounds.find("a") == "a.wav"
    assert sounds.find("nothing", "b.c") == "deep/er/b.c.FLAC"
    assert [sounds.find(name) for name in ("b", "A", "d", "notes", "e", "e.wav", "")] == [""] * 7
    assert sounds_under(tmp_path, spelling=str.lower).find("A") == "a.wav"
    assert len(sounds_under(None)) == 0


def test_of_several_files_the_one_nearest_is_taken_then_the_lossless_one(tmp_path):
    touch(tmp_path, "x/y/a.flac", "x/a.mp3", "z/a.wav", "x/a.wav", "a/a.wav")
    assert sounds_under(tmp_path).find("a") == "a/a.wav"
    assert sounds_under(tmp_path).below("x").find("a") == "x/a.wav"
    assert sounds_under(tmp_path).below("y").find("a") == "x/y/a.flac"
    assert sounds_under(tmp_path).below("none").find("a") == ""


def test_a_folder_named_as_a_sound_is_no_sound(tmp_path):
    touch(tmp_path, "a.wav/b.wav", "a.wav/c.flac/notes.txt", "b.flac/.keep")
    sounds = sounds_under(tmp_path)
    assert (sounds.find("b"), sounds.find("a"), sounds.find("c"), len(sounds)) == ("a.wav/b.wav", "", "", 1)
    store = UPath("memory://places-test/folders")
    (store / "a.wav" / "b.wav").write_bytes(b"")
    assert (sounds_under(store).find("b"), len(sounds_under(store))) == ("a.wav/b.wav", 1)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_to_folders_are_followed_and_a_link_upwards_ends(tmp_path):
    touch(tmp_path / "other disk", "far/a.wav")
    touch(tmp_path / "set", "b.wav")
    (tmp_path / "set" / "audio").symlink_to(tmp_path / "other disk")
    (tmp_path / "other disk" / "up").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "dead").symlink_to(tmp_path / "nowhere")
    sounds = sounds_under(tmp_path / "set")
    assert (sounds.find("a"), sounds.find("b"), len(sounds)) == ("audio/far/a.wav", "b.wav", 2)


def test_a_store_is_listed_alike():
    root = UPath("memory://places-test/set")
    for name in ("audio/train/a.flac", "b.wav", ".trash/c.wav", "t.csv"):
        (root / name).write_bytes(b"")
    sounds = sounds_under(root)
    assert (sounds.find("a"), sounds.find("b"), sounds.find("c"), len(sounds)) == ("audio/train/a.flac", "b.wav", "", 2)


def test_a_wrong_place_is_told_by_what_is_there_and_what_should_be(tmp_path):
    touch(tmp_path, *(f"{number:02d}.txt" for number in range(15)), ".DS_Store")
    said = str(wrong_layout(tmp_path, "no captions", "captions.csv\n"))
    assert said == (
        f"{tmp_path}: no captions; found there: "
        + ", ".join(f"{number:02d}.txt" for number in range(12))
        + " and 3 more"
        "\nexpected:\ncaptions.csv"
    )
    (tmp_path / "empty").mkdir()
    assert "; the folder is empty\nexpected:" in str(wrong_layout(tmp_path / "empty", "no captions", "x"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b.wav", True),
        ("..", False),
        ("../a", False),
        ("a\\b", False),
        ("", False),
        ("a\0", False),
        ("a\ud800", False),
    ],
)
def test_what_can_name_a_file_in_a_folder(name, expected):
    assert is_file_name(name) is expected


def test_a_title_loses_the_suffix_of_a_sound_only():
    assert [title_of(name) for name in ("Bell.wav", "Take 1.5", "Bell.tmp.FLAC")] == ["Bell", "Take 1.5", "Bell.tmp"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://creativecommons.org/licenses/by/3.0/", "cc-by-3.0"),
        ("https://creativecommons.org/licenses/by/4.0/legalcode", "cc-by-4.0"),
        ("http://creativecommons.org/licenses/by-nc/3.0/", "cc-by-nc-3.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("http://creativecommons.org/publicdomain/mark/1.0/", "public-domain"),
        ("http://creativecommons.org/licenses/sampling+/1.0/", "cc-sampling-plus-1.0"),
        ("http://creativecommons.org/licenses/by/2.0/", "unknown"),
        ("http://creativecommons.org/licenses/by-nc-sa/3.0/", "unknown"),
        ("https://example.org/?creativecommons.org/licenses/by/3.0/", "unknown"),
        ("Not found", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_licence_is_known_by_the_address_of_its_text(url, expected):
    assert license_of_url(url) == expected
