"""Audio that is none, never ends, is cut or leads elsewhere: a named failure or a record each, all in one crawl."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from tests.crawler.hostile import (
    Crawled,
    HostileSite,
    Reply,
    audio_reply,
    crawl_hostile,
    detail,
    drip,
    flood,
    listing,
    serve_replies,
    stall,
)

OPTIONS = (
    *("-s", "DOWNLOAD_MAXSIZE=50000", "-s", "RETRY_TIMES=0", "-s", "DOWNLOAD_TIMEOUT=2"),
    *("-s", "DOWNLOAD_MIN_RATE_AFTER=1", "--max-failed", "1"),
)


@dataclass(frozen=True)
class Case:
    """What the address of a clip's WAV answers, and what shall come of the clip: a reason, or an audio file."""

    name: str
    outcome: str
    reply: Reply
    detail: str = ""
    """Part of the failure's detail."""


def cases(wav: bytes, mp3: bytes, secret: str) -> list[Case]:
    """Return every way to answer badly; ``secret`` is the address of a server that nobody may ask."""
    page = b"<!DOCTYPE html><html><h1>Wait</h1>"
    packed = gzip.compress(wav)
    away = [
        f"{secret}/x.wav",
        secret.replace("127.0.0.1", "localhost") + "/x.wav",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/x.wav",
        "http://[::1]/x.wav",
        "//127.0.0.2/x.wav",
        f"http://soundbible.com@{secret.removeprefix('http://')}/x.wav",
        "https://example.org/x.wav",
    ]
    no_address = ["file:///etc/passwd", "ftp://127.0.0.1/x.wav", "data:audio/wav;base64,UklGRg==", "s3://bucket/x.wav"]
    return [
        Case("a page as .wav", "not_audio", audio_reply(page), "the first bytes are '<!DOCTYPE html"),
        Case("a page", "not_audio", Reply(body=page)),
        Case("a picture", "not_audio", audio_reply(b"\x89PNG\r\n\x1a\n" + bytes(500))),
        Case("an archive", "not_audio", audio_reply(b"PK\x03\x04" + bytes(500))),
        Case("zeros alone", "not_audio", audio_reply(bytes(9_000))),
        Case("zero bytes", "empty_audio", audio_reply(b""), "0 bytes"),
        Case("zero bytes in chunks", "empty_audio", audio_reply(b"", framing="chunked")),
        Case("zero bytes, no length", "empty_audio", audio_reply(b"", framing="close")),
        Case("a header alone", "empty_audio", audio_reply(wav[:44]), "44 bytes, a header at most"),
        Case("less than its length", "truncated", audio_reply(wav, length=len(wav) + 500)),
        Case("nothing of its length", "truncated", audio_reply(b"", length=len(wav))),
        Case("no last chunk", "truncated", audio_reply(wav, framing="cut chunks")),
        Case("a chunk of no number", "truncated|network", Reply(raw=HEAD + CHUNKED + b"\r\nzz\r\nRIFF")),
        Case("lengths that differ", "network", Reply(raw=HEAD + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\nRIFF")),
        Case("a length of no number", "network", Reply(raw=HEAD + b"Content-Length: many\r\n\r\nRIFF")),
        Case("a length below zero", "network", Reply(raw=HEAD + b"Content-Length: -5\r\n\r\nRIFF")),
        Case("no answer", "network", Reply(raw=b"")),
        Case("no HTTP", "network", Reply(raw=b"220 ftp ready\r\n")),
        Case("half a header", "network", Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Ty")),
        Case("a header without end", "network", Reply(raw=HEAD + b"X: " + b"a" * 300_000)),
        Case("claims too much", "too_large", audio_reply(stall(wav[:44]), length=400_000_000)),
        Case("sends too much", "too_large", audio_reply(wav[:44] + bytes(60_000))),
        Case("has no end", "too_large", audio_reply(flood(wav, 300), framing="close")),
        Case("has no last chunk", "too_large", audio_reply(flood(wav, 300), framing="chunked")),
        *[Case(f"a {coding} bomb", "http_error", reply, "comes as") for coding, reply in bombs().items()],
        Case("says gzip, is none", "http_error", audio_reply(wav, headers={"Content-Encoding": "gzip"})),
        Case("cut gzip", "http_error", audio_reply(packed[:900], headers={"Content-Encoding": "gzip"})),
        Case("an unknown coding", "http_error", audio_reply(bytes(99) + wav, headers={"Content-Encoding": "rot13"})),
        Case("to itself", "http_error", Reply(302, headers={"Location": "{own}"}), "max redirections reached"),
        Case("round in a circle", "http_error", Reply(301, headers={"Location": "/circle"}), "max redirections"),
        Case("to no address", "http_error", Reply(302), "HTTP status 302"),
        Case("to an empty address", "http_error", Reply(302, headers={"Location": ""})),
        Case("to a bad port", "http_error|network", Reply(302, headers={"Location": "http://127.0.0.1:99999/"})),
        Case("to half an address", "http_error|network", Reply(302, headers={"Location": "http://["})),
        *[Case(f"to {url}", "http_error", Reply(302, headers={"Location": url}), "leads away") for url in away],
        *[Case(f"to {url[:9]}", "http_error", Reply(302, headers={"Location": url})) for url in no_address],
        Case("unauthorized", "forbidden", Reply(401, b"who")),
        Case("forbidden", "forbidden", Reply(403, b"no")),
        Case("not found", "not_found", Reply(404, b"gone"), "HTTP status 404"),
        Case("gone", "not_found", Reply(410, b"gone")),
        Case("a teapot", "http_error", Reply(418, b"short")),
        Case("broken", "http_error", Reply(500, b"oops"), "HTTP status 500"),
        Case("no content", "http_error", Reply(204)),
        Case("a part", "http_error", audio_reply(wav[:900], status=206)),
        Case(
            "a status of no kind", "http_error|network", Reply(raw=b"HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n")
        ),
        Case("packed", "http_error", audio_reply(packed, headers={"Content-Encoding": "gzip"}), "comes as gzip"),
        # Those that come in.
        Case("no length", "wav", audio_reply(wav, framing="close")),
        Case("chunks", "wav", audio_reply(wav, framing="chunked")),
        Case("a page's type", "wav", Reply(body=wav)),
        Case("no type", "wav", Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(wav), wav))),
        Case("another format", "mp3", audio_reply(mp3)),
        Case("a name of its own", "wav", audio_reply(wav, headers={"Content-Disposition": DISPOSITION})),
        Case("moved", "wav", Reply(302, headers={"Location": "http://soundbible.com/wav/7%20x.wav"})),
        Case("moved, not quoted", "wav", Reply(302, headers={"Location": "/wav/7 x.wav"})),
        Case("less claimed than sent", "wav", audio_reply(wav, length=4_000)),
    ]


def slow_cases(wav: bytes) -> list[Case]:
    """Return every way to keep a crawl waiting."""
    return [
        Case("never answers", "network", Reply(wait_s=90), "no answer in time"),
        Case("drips", "network", audio_reply(drip(wav, 0.2), length=len(wav))),
        Case("stalls", "network", audio_reply(stall(wav[:1000]), length=len(wav))),
        Case("stalls, no length", "network", audio_reply(stall(wav[:1000]), framing="close")),
    ]


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: audio/x-wav\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
DISPOSITION = 'attachment; filename="../../../evil.wav"'


def bombs() -> dict[str, Reply]:
    """Return bodies of 33 KB at most that unpack to 32 MiB, by content coding."""
    members = gzip.compress(bytes(2**24)) * 2  # gzip allows many members one after the other
    packer = zlib.compressobj(wbits=-15)  # raw deflate: after a full flush a block may be repeated
    packed = {"gzip": members, "deflate": (packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)) * 2}
    with suppress(ModuleNotFoundError):
        packed["br"] = import_module("brotli").compress(bytes(2**25))
    return {coding: Reply(body=body, headers={"Content-Encoding": coding}) for coding, body in packed.items()}


@dataclass(frozen=True)
class Run:
    """One crawl of all cases."""

    cases: dict[int, Case]
    crawled: Crawled
    site: HostileSite
    secret: HostileSite


def crawl_cases(cases: dict[int, Case], more: dict[str, Reply], tmp_path: Path) -> tuple[Crawled, HostileSite]:
    """Crawl a site on which the WAV of every clip is another case."""
    replies = {"/free-sound-effects-1.html": listing(*cases), "/free-sound-effects-2.html": listing(*cases), **more}
    for number, case in cases.items():
        replies[f"/{number}-S.html"] = detail(number)
        own = f"/grab.php?id={number}&type=wav"
        is_loop = case.reply.headers.get("Location") == "{own}"
        replies[own] = Reply(302, headers={"Location": own}) if is_loop else case.reply
    with serve_replies(replies) as site:
        return crawl_hostile(tmp_path, site.base_url, *OPTIONS), site


@pytest.fixture(scope="module")
def run(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Crawl all but the slow cases at once."""
    wav, mp3 = (audio / "noise.wav").read_bytes(), (audio / "noise.mp3").read_bytes()
    more = {
        "/wav/7%20x.wav": audio_reply(wav),
        "/circle": Reply(302, headers={"Location": "/grab.php?id=1&type=circle"}),
        "/grab.php?id=1&type=circle": Reply(302, headers={"Location": "/circle"}),
    }
    with serve_replies({}) as secret:
        numbered = dict(enumerate(cases(wav, mp3, secret.base_url), start=1))
        crawled, site = crawl_cases(numbered, more, tmp_path_factory.mktemp("run"))
    return Run(numbered, crawled, site, secret)


def outcomes_that_are_wrong(cases: dict[int, Case], crawled: Crawled) -> str:
    """Return a line for each case that came to something else."""
    wrong = []
    for number, case in cases.items():
        record = crawled.records.get(number)
        outcome = crawled.reasons.get(number) or (record and record["audio_file"].rpartition(".")[2])
        if outcome not in case.outcome.split("|") or case.detail not in crawled.details.get(number, ""):
            wrong.append((number, case.name, case.outcome, outcome, crawled.details.get(number)))
    return "\n".join(map(str, wrong))


def test_each_answer_ends_as_a_record_or_as_its_named_failure(run: Run) -> None:
    assert run.crawled.returncode == 0, run.crawled.stderr
    assert outcomes_that_are_wrong(run.cases, run.crawled) == ""
    assert run.crawled.report["known"] == run.crawled.report["asked"] == len(run.cases)
    assert not [detail for detail in run.crawled.details.values() if ": ;" in detail], "a failure without words"


def test_audio_that_does_not_come_is_given_up(audio: Path, tmp_path: Path) -> None:
    numbered = dict(enumerate(slow_cases((audio / "noise.wav").read_bytes()), start=1))
    crawled, _ = crawl_cases(numbered, {}, tmp_path)
    assert outcomes_that_are_wrong(numbered, crawled) == ""
    assert crawled.report["known"] == crawled.report["asked"] == len(numbered)


def test_no_redirect_is_followed_to_where_nobody_may_ask(run: Run) -> None:
    assert run.secret.asked == []


def test_what_is_too_large_is_not_downloaded_to_its_end(run: Run) -> None:
    for number, case in run.cases.items():
        if case.name in ("has no end", "has no last chunk"):
            assert run.site.sent(f"/grab.php?id={number}&type=wav") < 100 * 2**20


def test_a_name_that_the_server_gives_to_a_file_is_not_taken(run: Run) -> None:
    number = next(number for number, case in run.cases.items() if case.name == "a name of its own")
    assert run.crawled.records[number]["audio_file"] == f"audio/{number}.wav"


def test_the_bytes_are_those_that_were_served(run: Run, audio: Path) -> None:
    wav = (audio / "noise.wav").read_bytes()
    for number, case in run.cases.items():
        if case.outcome == "wav" and case.name != "less claimed than sent":
            assert (run.crawled.folder / f"audio/{number}.wav").read_bytes() == wav, case.name
