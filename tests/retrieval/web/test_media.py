"""A clip's sound and picture: whole, in ranges, again, under a safe name, and never a file that is not a clip's."""

from __future__ import annotations

import io
import os
import shutil
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

import anyio
import numpy as np
import pytest
import soundfile
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from retrieval.building import build_index
from retrieval.index import Clip, Index
from retrieval.web.errors import Refused
from retrieval.web.media import Thumbnails, audio_response, content_disposition, download_name, thumbnail_response
from tests.retrieval.conftest import write_clips
from tests.support.webserver import Answer, ask, running_server

KEY = "soundbible-3"


@pytest.fixture(scope="module")
def index(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("media")
    build_index(run, write_clips(folder / "curated", count=7), folder / "index")
    return Index.open(folder / "index")


@pytest.fixture(scope="module")
def address(index: Index) -> Iterator[str]:
    async def audio(request: Request) -> Response:
        return await audio_response(index, request.path_params["key"], request)

    async def picture(request: Request) -> Response:
        return await thumbnail_response(index, request.path_params["key"], request)

    async def refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return PlainTextResponse(error.message, status_code=error.status)

    routes = [Route("/audio/{key:path}", audio), Route("/picture/{key:path}", picture)]
    with running_server(Starlette(routes=routes, exception_handlers={Refused: refusal})) as found:
        yield found


@pytest.fixture
def content(index: Index) -> bytes:
    return file_of(index, KEY).read_bytes()


def file_of(index: Index, key: str) -> Path:
    row = index.row(key)
    assert row is not None
    path = index.audio_file(row)
    assert path is not None
    return path


def audio(address: str, headers: dict[str, str] | None = None, *, method: str = "GET", query: str = "") -> Answer:
    return ask(address, f"/audio/{KEY}{query}", method=method, headers=headers)


def test_a_clip_is_served_whole(address: str, content: bytes) -> None:
    answer = audio(address)
    assert (answer.status, answer.body) == (200, content)
    assert answer.headers["content-type"] == "audio/flac"
    assert answer.headers["accept-ranges"] == "bytes"
    assert "content-disposition" not in answer.headers
    head = audio(address, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(content))
    assert head.headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=100-", 100, None),
        ("bytes=-100", -100, None),
        ("bytes=-100000000", 0, None),
        ("bytes=10-100000000", 10, None),
        ("Bytes = 5-9", 5, 10),
        ("bytes=0-9,5-19", 0, 20),
    ],
)
def test_a_range_is_served(address: str, content: bytes, asked: str, start: int, end: int | None) -> None:
    answer = audio(address, {"Range": asked})
    expected = content[start:end]
    first = content.index(expected) if start < 0 else start
    assert (answer.status, answer.body) == (206, expected)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(content)}"
    head = audio(address, {"Range": asked}, method="HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (206, str(len(expected)), b"")


def test_several_ranges_come_as_parts(address: str, content: bytes) -> None:
    answer = audio(address, {"Range": "bytes=0-9, 100-109,-5"})
    kind, boundary = answer.headers["content-type"].split("; boundary=")
    assert (answer.status, kind) == (206, "multipart/byteranges")
    parts = answer.body.split(f"--{boundary}".encode())
    found = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts[1:-1]]
    assert found == [content[:10], content[100:110], content[-5:]]


@pytest.mark.parametrize("asked", ["bytes=100000000-", "bytes=100000000-100000001", "bytes=-0"])
def test_a_range_outside_of_the_clip_cannot_be_satisfied(address: str, content: bytes, asked: str) -> None:
    answer = audio(address, {"Range": asked})
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{len(content)}"


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1-2;3",
        "bytes=+1-2",
        "bytes=9-5",
        "bytes=0-9,9-5",
        "bytes=1_0-2_0",
        "bytes=\u0661-",
        "seconds=1-2",
        "bytes=" + "0-0," * 5000,
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_what_is_no_range_is_ignored(address: str, content: bytes, asked: str) -> None:
    answer = audio(address, {"Range": asked.encode().decode("latin-1")})
    assert (answer.status, answer.body) == (200, content)


def test_a_client_that_has_it_gets_no_more(address: str) -> None:
    for ask_for in (f"/audio/{KEY}", f"/picture/{KEY}"):
        first = ask(address, ask_for)
        etag, modified = first.headers["etag"], first.headers["last-modified"]
        for headers in (
            {"If-None-Match": etag},
            {"If-None-Match": f'"other", W/{etag}'},
            {"If-None-Match": "*"},
            {"If-Modified-Since": modified},
            {"If-None-Match": etag, "If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        ):
            answer = ask(address, ask_for, headers=headers)
            assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
        for headers in (
            {"If-None-Match": '"other"'},
            {"If-None-Match": '"other"', "If-Modified-Since": modified},
            {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
            {"If-Modified-Since": "yesterday"},
            {"If-Modified-Since": "Thu, 01 Jan 99999 00:00:00 GMT"},
            {"If-Modified-Since": ""},
        ):
            assert ask(address, ask_for, headers=headers).body == first.body


def test_a_range_of_another_state_of_the_file_is_not_served(address: str, content: bytes) -> None:
    first = audio(address)
    later = formatdate(parsedate_to_datetime(first.headers["last-modified"]).timestamp() + 5, usegmt=True)
    for known, status in (
        (first.headers["etag"], 206),
        (first.headers["last-modified"], 206),
        ('"other"', 200),
        (later, 200),
        (f"W/{first.headers['etag']}", 200),
    ):
        assert audio(address, {"Range": "bytes=0-9", "If-Range": known}).status == status


def test_a_download_has_the_clips_name(address: str) -> None:
    for query, is_download in (("?download=1", True), ("?download=0", False), ("?download=", False)):
        answer = audio(address, query=query)
        assert ("content-disposition" in answer.headers) is is_download
    found = audio(address, query="?download=1").headers["content-disposition"]
    assert (
        found
        == "attachment; filename=\"Tone 3 (soundbible-3).flac\"; filename*=UTF-8''Tone%203%20%28soundbible-3%29.flac"
    )


@pytest.mark.parametrize(
    ("title", "plain", "quoted"),
    [
        ('a"b\\c/d', "a_b_c_d", "a_b_c_d"),
        ("../../etc/passwd", "_.._etc_passwd", "_.._etc_passwd"),
        ("line\r\nSet-Cookie: a=b", "lineSet-Cookie_ a_b", "lineSet-Cookie_%20a%3Db"),
        ("photo\u202egnp.exe", "photognp.exe", "photognp.exe"),
        ("\u0000\u0007\u200b", "sound", "sound"),
        ("h\u00f6rbar \u2013 \u732b", "horbar  ", "h%C3%B6rbar%20%E2%80%93%20%E7%8C%AB"),
        ("\U0001f415" * 100, "", "%F0%9F%90%95" * 58),
        ("CON", "_CON", "_CON"),
        ("nul.txt", "_nul.txt", "_nul.txt"),
        (" . . ", "sound", "sound"),
        ("x" * 5000, "x" * 80, "x" * 80),
        ("50% \u2019;'", "50_ __", "50%25%20%E2%80%99%3B%27"),
    ],
)
def test_a_download_name_is_safe_everywhere(index: Index, title: str, plain: str, quoted: str) -> None:
    (clip,) = index.clips([0])
    header = content_disposition(download_name(replace(clip, title=title)))
    assert header.isascii()
    assert header.isprintable()
    end = "%20%28soundbible-1%29.flac"
    assert header == f"attachment; filename=\"{plain} (soundbible-1).flac\"; filename*=UTF-8''{quoted}{end}"


@pytest.mark.parametrize("clip_id", ["a-1", "mine-" + "\u732b" * 100, "\U0001f415" * 200, "x" * 500])
@pytest.mark.parametrize(
    "title", ["\u732b" * 300, "\U0001f468\u200d\U0001f469\u200d" * 50, "e\u0301" * 300, "\u0958" * 90]
)
def test_a_download_name_fits_into_a_folder(index: Index, title: str, clip_id: str) -> None:
    (clip,) = index.clips([0])
    name = download_name(replace(clip, title=title, clip_id=clip_id))
    assert 150 < len(name.encode()) <= 255
    assert name.endswith(").flac")
    first = unicodedata.normalize("NFC", title)[0]
    assert name.startswith(first)
    assert "\u200d (" not in name


def test_a_download_name_keeps_joiners_between_letters(index: Index) -> None:
    (clip,) = index.clips([0])
    family, persian = "\U0001f468\u200d\U0001f469", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    name = download_name(replace(clip, title=f"\u200d{family} {persian}\u200c\u200b"))
    assert name == f"{family} {persian} (soundbible-1).flac"


@pytest.mark.parametrize(
    "key",
    [
        "soundbible-99",
        "..%2f..%2fmanifest.parquet",
        "audio/soundbible-3.flac",
        "/etc/passwd",
        "soundbible-3%00",
        "soundbible-3.flac",
        "SOUNDBIBLE-3",
        "%F0%9F%90%95",
        "a" * 5000,
        "'%20or%201=1",
        "",
    ],
)
def test_what_is_no_key_finds_nothing(address: str, key: str) -> None:
    for kind in ("audio", "picture"):
        answer = ask(address, f"/{kind}/{key}")
        assert (answer.status, answer.text) == (404, "There is no such clip in this index.")


def test_a_file_that_is_gone_or_leads_out_is_not_served(address: str, index: Index, tmp_path: Path) -> None:
    secret = tmp_path / "secret.flac"
    shutil.copy(file_of(index, KEY), secret)
    path = file_of(index, "soundbible-5")
    for make in (
        path.unlink,
        lambda: path.symlink_to(secret),
        lambda: (path.unlink(), path.mkdir()),
        lambda: (path.rmdir(), os.mkfifo(path)),
    ):
        make()
        for kind in ("audio", "picture"):
            answer = ask(address, f"/{kind}/soundbible-5")
            assert (answer.status, answer.text) == (
                404,
                "The audio of this clip can no longer be read: it has been moved or removed.",
            )
    path.unlink()


def test_a_file_that_is_no_sound_any_more_has_no_picture(address: str, index: Index) -> None:
    path = file_of(index, "soundbible-6")
    path.write_bytes(b"no sound")
    assert ask(address, "/audio/soundbible-6").body == b"no sound"
    answer = ask(address, "/picture/soundbible-6")
    assert (answer.status, answer.text) == (404, "The audio of this clip cannot be read.")


def test_a_picture_is_drawn_and_changes_with_its_sound(address: str, index: Index) -> None:
    path = file_of(index, "soundbible-7")
    first = ask(address, "/picture/soundbible-7")
    assert first.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(first.body)).size == (480, 120)
    assert ask(address, "/picture/soundbible-7").body == first.body
    soundfile.write(path, np.zeros(44_100), 44_100)
    again = ask(address, "/picture/soundbible-7", headers={"If-None-Match": first.headers["etag"]})
    assert again.status == 200
    assert again.body != first.body


def test_pictures_are_kept_up_to_a_number_of_bytes(index: Index) -> None:
    paths = [file_of(index, f"soundbible-{number}") for number in (1, 2, 3)]

    async def draw() -> None:
        size = len(await Thumbnails().get("a", paths[0]))
        thumbnails = Thumbnails(kept_bytes=size * 5 // 2)
        for name, path in zip("abc", paths, strict=True):
            await thumbnails.get(name, path)
        gone = paths[0].parent / "gone"
        for name in "bc":
            assert (await thumbnails.get(name, gone)).startswith(b"\x89PNG")
        with pytest.raises(Exception, match="gone"):
            await thumbnails.get("a", gone)

    anyio.run(draw)


def test_many_ask_for_the_same_pictures_at_once(address: str) -> None:
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda number: ask(address, f"/picture/soundbible-{number % 4 + 1}"), range(64)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 4


def test_a_clip_without_a_title_is_called_by_what_it_has(index: Index) -> None:
    (clip,) = index.clips([0])
    bare: Clip = replace(clip, title="", captions=())
    assert download_name(bare) == f"{bare.name} (soundbible-1).flac"
