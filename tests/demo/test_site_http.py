"""The stand-in site's validators, its rules and notices, reservations, and a clip that changes, over real HTTP."""

from __future__ import annotations

import os
import shutil
from email.utils import formatdate
from pathlib import Path

import pytest
import requests

from demo.site import LAYOUTS, CatalogueError, serve
from tests.demo.standin import audio_path, detail_path, fetch, make_clip, read

OLDER = "Sat, 01 Jan 2000 00:00:00 GMT"
NEWER = "Fri, 01 Jan 2100 00:00:00 GMT"
TDMREP = '[{"location": "/", "tdm-reservation": 1}]'


@pytest.mark.parametrize(
    ("layout", "path"),
    [
        *((layout, detail_path(layout, 1)) for layout in LAYOUTS),
        *((layout, "/robots.txt") for layout in LAYOUTS),
        *((layout, "/.well-known/tdmrep.json") for layout in LAYOUTS),
        ("soundbible", "/free-sound-effects-1.html"),
        ("soundbible", "/about.php"),
        ("soundbible-old", "/terms.php"),
        ("bigsoundbank", "/sitemap.xml"),
        ("bigsoundbank", "/sitemap_bsb.xml"),
        ("bigsoundbank", "/search?q=bell"),
        ("bigsoundbank", "/droit.html"),
        ("pebbles", "/browse/b"),
        ("pebbles", "/terms"),
    ],
)
def test_a_page_that_has_not_changed_answers_304_without_a_body(audio: Path, layout: str, path: str) -> None:
    with serve([make_clip(1), make_clip(2)], audio, layout=layout, tdmrep=TDMREP) as site:
        first = fetch(site, path)
        again = fetch(site, path, If_None_Match=first.headers["ETag"])
        changed = fetch(site, path, If_None_Match='"0"')
        assert site.requests == [("GET", path, 200), ("GET", path, 304), ("GET", path, 200)]
    assert (again.content, again.headers["ETag"]) == (b"", first.headers["ETag"])
    assert "Content-Length" not in again.headers
    assert changed.content == first.content != b""


def test_a_file_that_has_not_changed_answers_304(tmp_path: Path, audio: Path) -> None:
    shutil.copy(audio / "tone.wav", tmp_path)
    shutil.copy(audio / "tone.mp3", tmp_path)
    os.utime(tmp_path / "tone.wav", (1e9, 1e9))
    with serve([make_clip(1)], tmp_path, layout="pebbles") as site:
        first = fetch(site, "/files/p-0001.wav")
        modified, tag = first.headers["Last-Modified"], first.headers["ETag"]
        assert modified == formatdate(1e9, usegmt=True)
        for headers, status in (
            ({"If_None_Match": tag}, 304),
            ({"If_None_Match": f'"x", W/{tag}'}, 304),
            ({"If_None_Match": "*"}, 304),
            ({"If_Modified_Since": modified}, 304),
            ({"If_Modified_Since": NEWER}, 304),
            ({"If_Modified_Since": OLDER}, 200),
            ({"If_Modified_Since": "yesterday"}, 200),
            ({"If_None_Match": '"x"', "If_Modified_Since": NEWER}, 200),
        ):
            answer = fetch(site, "/files/p-0001.wav", **headers)
            assert (answer.status_code, bool(answer.content)) == (status, status == 200), headers
        assert requests.head(site.base_url + "/files/p-0001.wav", timeout=10).headers["ETag"] == tag
        os.utime(tmp_path / "tone.wav", (2e9, 2e9))
        assert fetch(site, "/files/p-0001.wav", If_None_Match=tag).status_code == 200


def test_only_good_answers_have_validators(audio: Path) -> None:
    with serve([make_clip(1, fault="busy"), make_clip(2)], audio) as site:
        for path, status in (("/1-x.html", 503), ("/nothing", 404), ("/.well-known/tdmrep.json", 404)):
            answer = fetch(site, path, If_None_Match="*", If_Modified_Since=NEWER)
            assert answer.status_code == status
            assert "ETag" not in answer.headers
        redirect = requests.get(
            site.base_url + audio_path("soundbible", 2),
            headers={"If-None-Match": "*"},
            timeout=10,
            allow_redirects=False,
        )
        assert redirect.status_code == 302


def test_a_connection_stays_whole_after_a_304(audio: Path) -> None:
    with serve([make_clip(1)], audio) as site, requests.Session() as session:
        tag = session.get(f"{site.base_url}/1-x.html", timeout=10).headers["ETag"]
        for _ in range(3):
            asked = {"If-None-Match": tag}
            assert session.get(f"{site.base_url}/1-x.html", headers=asked, timeout=10).status_code == 304
            assert "Bell 1" in session.get(f"{site.base_url}/1-x.html", timeout=10).text


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tdmrep_is_served_as_given(audio: Path, layout: str) -> None:
    with serve([make_clip(1)], audio, layout=layout) as site:
        assert fetch(site, "/.well-known/tdmrep.json").status_code == 404
    with serve([make_clip(1)], audio, layout=layout, tdmrep=TDMREP) as site:
        answer = fetch(site, "/.well-known/tdmrep.json")
    assert (answer.text, answer.headers["Content-Type"]) == (TDMREP, "application/json")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_reservation_stands_in_the_header_or_in_the_page_of_its_clip_alone(audio: Path, layout: str) -> None:
    clips = [make_clip(1, fault="tdm_reserved"), make_clip(2, fault="tdm_reserved_meta"), make_clip(3)]
    found = {}
    with serve(clips, audio, layout=layout) as site:
        for clip in clips:
            answer = fetch(site, detail_path(layout, clip.id))
            meta = read(answer).xpath("//head/meta[@name='tdm-reservation']/@content").getall()
            found[clip.id] = (answer.headers.get("tdm-reservation"), meta)
        reserved = fetch(site, detail_path(layout, 1), If_None_Match="*")
    assert found == {1: ("1", []), 2: (None, ["1"]), 3: (None, [])}
    assert (reserved.status_code, reserved.headers["tdm-reservation"]) == (304, "1")


@pytest.mark.parametrize(
    ("layout", "paths"),
    [
        ("soundbible", ("about.php", "/terms.php")),
        ("soundbible-old", ("/about.php", "/terms.php")),
        ("bigsoundbank", ("/licenses.html", "/droit.html")),
        ("pebbles", ("/terms",)),
    ],
)
def test_every_page_links_to_the_notices(audio: Path, layout: str, paths: tuple[str, ...]) -> None:
    with serve([make_clip(1)], audio, layout=layout) as site:
        links = read(fetch(site, detail_path(layout, 1))).css("a::attr(href)").getall()
        texts = [fetch(site, f"/{path.lstrip('/')}") for path in paths]
    assert set(paths) <= set(links)
    assert all(len(text.text) > 400 and text.status_code == 200 for text in texts)
    assert len({text.text for text in texts}) == len(paths)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_replaced_clip_shows_from_the_next_request_on(audio: Path, layout: str) -> None:
    with serve([make_clip(1), make_clip(2)], audio, layout=layout) as site:
        path = detail_path(layout, 1)
        old, other = fetch(site, path), fetch(site, detail_path(layout, 2))
        site.replace(make_clip(1, description="It rings no more.", audio={"wav": "tone.flac"}))
        new = fetch(site, path, If_None_Match=old.headers["ETag"])
        assert new.status_code == 200
        assert "It rings no more." in new.text
        assert "It rings no more." not in old.text
        assert fetch(site, audio_path(layout, 1)).content == (audio / "tone.flac").read_bytes()
        site.replace(make_clip(1))
        assert fetch(site, path).content == old.content
        assert fetch(site, detail_path(layout, 2)).content == other.content
        assert len(site) == 2


def test_a_clip_replaced_by_a_busy_one_is_busy_once_more(audio: Path) -> None:
    with serve([make_clip(1, fault="busy")], audio) as site:
        assert [fetch(site, "/1-x.html").status_code for _ in range(2)] == [503, 200]
        site.replace(make_clip(1, fault="busy"))
        assert [fetch(site, "/1-x.html").status_code for _ in range(2)] == [503, 200]


def test_a_clip_that_cannot_be_served_replaces_nothing(audio: Path) -> None:
    with serve([make_clip(1)], audio) as site:
        with pytest.raises(CatalogueError, match=r"id 2 \('Bell 2'\) is not in the catalogue"):
            site.replace(make_clip(2))
        with pytest.raises(CatalogueError, match=r"id 1 \('Bell 1'\): audio file 'gone\.wav' is not in"):
            site.replace(make_clip(1, audio="gone.wav"))
        assert fetch(site, audio_path("soundbible", 1)).content == (audio / "tone.wav").read_bytes()
