"""Random nonsense, by the hundred, at the page's real server: each is answered or cut off, and the server lives.

What was tried is counted by kind and by what came back; 0 stands for a connection that was closed without an answer.
"""

from __future__ import annotations

import http.client
import io
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from urllib.parse import quote

import numpy as np
import pytest
import soundfile

from retrieval.index import Index
from retrieval.web.app import make_app
from retrieval.web.guard import STRICT_HEADERS
from retrieval.web.protocol import Patience
from tests.support.webserver import ask, connected, form, read_answer, running_server
from training.models.clap import Clap

Make = Callable[[Random], bytes]

HASTE = Patience(head_s=0.2, body_s=1.0, idle_s=0.2, leave_s=0.2, tick_s=0.05)
HOST = b"Host: localhost\r\n"
FORMATS = (
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"),
)
NAMES = (
    *("q", "like", "sound", "tag", "source", "license", "split", "min_s", "max_s", "page", "top", "Q", "q[]"),
    *("__proto__", "n"),
)
TEXTS = (
    *("rain on a roof", "", " ", "\0", "\ud7ff", "\ufffe", "\u202e\u2066", "\U0001f415" * 200, "e\u0301" * 200),
    *("\u732b" * 2000, "a" * 10_000, "'; drop table clips; --", "<script>alert(1)</script>", "{{7*7}}", "%s%n%x"),
    *("../../etc/passwd", "nan", "inf", "-inf", "1e999", "-1", "0", "9" * 400, "0x10", "\uff11\uff12", "1_0", "1,5"),
    *(
        "true",
        "null",
        "[]",
        "soundbible-3",
        "soundbible-1~2",
        "9f86d081884c7d659a2feaa0c55ad015",
        "\r\nSet-Cookie: a=b",
    ),
)
TARGETS = (
    *("/", "/api/search", "/api", "/api/index", "/api/openapi.json", "/api/clips/soundbible-3", "/sound", "/api/sound"),
    *("/clip/soundbible-3", "/clip/soundbible-3/audio.flac", "/clip/soundbible-3/thumbnail.png", "/static/x", "/x"),
)
LINES = (
    *(b"Range: bytes=0-9", b"Range: bytes=5-", b"If-Range: x", b"If-None-Match: *", b"If-Modified-Since: 0"),
    *(
        b"Expect: 100-continue",
        b"Connection: close",
        b"Connection: upgrade\r\nUpgrade: websocket",
        b"Content-Length: 5",
    ),
    *(b"Transfer-Encoding: chunked", b"Cookie: a=b", b"Origin: null", b"Sec-Fetch-Site: cross-site", b"X: \xff\xfe"),
    *(b"Accept-Encoding: gzip", b"X-Forwarded-For: 1.2.3.4", b"Accept: text/html", b"Forwarded: for=1.2.3.4"),
)
PIECES = (
    *("..", ".", "", "clip", "static", "soundbible-3", "audio.flac", "thumbnail.png", "%2e%2e", "%2f", "%5c", "%00"),
    *("%ff", "%", "~", "etc", "passwd", "%c0%af", "C:", "%0d%0a", "api", "clips", "%F0%9F%90%95"),
)


def mutated(random: Random, data: bytes) -> bytes:
    """Return data with a few of its bytes changed, lost, doubled, swapped or cut off."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        start = random.randrange(len(found) + 1)
        end = min(len(found), start + random.choice((1, 1, 2, 4, 16, 300)))
        change = random.randrange(7)
        if change == 0:
            found[start:end] = random.randbytes(end - start)
        elif change == 1:
            del found[start:end]
        elif change == 2:
            found[start:start] = found[start:end] * random.choice((1, 2, 50))
        elif change == 3:
            found[start:end] = random.choice((b"\xff", b"\x00", b"\x7f")) * (end - start)
        elif change == 4:
            found[start:start] = random.choice(
                (b"\r\n", b"\n", b"\0", b":", b"--", b"%", b"\r\n\r\n", b" ", b'"', b";")
            )
        elif change == 5 and random.random() < 0.3:
            del found[start:]
        elif found:
            found[start:end] = (int.from_bytes(found[start:end] or b"\0", "big") ^ 1 << random.randrange(8)).to_bytes(
                max(1, end - start), "big"
            )
    return bytes(found)


def request(method: str, target: str, body: bytes = b"", lines: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body) if method == "POST" else b""
    return f"{method} {target} HTTP/1.1\r\n".encode("latin-1") + HOST + length + lines + b"\r\n" + body


def sounds() -> list[bytes]:
    """Return a small file of each format."""
    found = []
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16_000)
    for kind, subtype in FORMATS:
        file = io.BytesIO()
        soundfile.write(file, tone, 16_000, subtype, format=kind)
        found.append(file.getvalue())
    return found


SOUNDS = sounds()


def an_upload(random: Random) -> bytes:
    """A broken sound in a sound form."""
    content = random.choice(SOUNDS)
    head = mutated(random, content[:64]) if random.random() < 0.5 else content[:64]
    rest = mutated(random, content[64:]) if random.random() < 0.7 else content[64:]
    content_type, body = form(("sound", "a.wav", head + rest))
    return request("POST", random.choice(("/sound", "/api/sound")), body, f"Content-Type: {content_type}\r\n".encode())


def a_form(random: Random) -> bytes:
    """A broken form, with no sound in it that would have to be decoded."""
    parts = [("sound", "a.wav", b""), ("tag", None, b"dog"), ("q", None, random.randbytes(random.randrange(300)))]
    random.shuffle(parts)
    content_type, body = form(*parts, boundary="b" * random.choice((1, 8, 30, 70)))
    kind = content_type.encode()
    if random.random() < 0.2:
        kind = mutated(random, kind).translate(None, b"\r\n\0")
    return request("POST", "/api/sound", mutated(random, body), b"Content-Type: " + kind + b"\r\n")


def a_query(random: Random) -> bytes:
    """An address with odd parameters."""
    pairs = []
    for _ in range(random.choice((0, 1, 1, 2, 3, 30))):
        value = quote(random.choice(TEXTS).encode("utf-8", "surrogatepass"))
        value = mutated(random, value.encode()).decode("latin-1") if random.random() < 0.2 else value
        pairs.append(f"{quote(random.choice(NAMES))}={value}")
    query = re.sub(r"[^\x21-\x7e]", "", random.choice("&&&;").join(pairs))
    return request("GET", f"{random.choice(TARGETS)}?{query}")


def a_head(random: Random) -> bytes:
    """A request of which any byte may be wrong."""
    method = random.choice(("GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "PUT", "TRACE"))
    lines = b"".join(line + b"\r\n" for line in random.sample(LINES, random.randrange(4)))
    data = request(method, random.choice(TARGETS), b"", lines)
    return mutated(random, data) if random.random() < 0.8 else data


def a_path(random: Random) -> bytes:
    """A path that leads astray."""
    return request("GET", "/" + "/".join(random.choices(PIECES, k=random.randrange(1, 7))))


KINDS: dict[str, Make] = {"upload": an_upload, "form": a_form, "query": a_query, "head": a_head, "path": a_path}


def status_of(address: str, data: bytes) -> int:
    """Return the status of the answer to some bytes, 0 for none; checks what every answer must keep."""
    with connected(address) as client:
        try:
            client.sendall(data)
            answer = read_answer(client, method=data[:4].decode("latin-1"))
        except (http.client.HTTPException, ConnectionError):
            return 0
    assert answer.headers.items() >= STRICT_HEADERS.items()
    assert "server" not in answer.headers
    assert b"Traceback" not in answer.body
    assert b"root:" not in answer.body
    return answer.status


@pytest.fixture(scope="module")
def hasty(index: Index, model: Clap) -> Iterator[str]:
    """The page, of a server that does not wait long for half a request."""
    with running_server(make_app(index, model), patience=HASTE) as found:
        yield found


def fuzz(address: str, counts: dict[str, int], *, seed: int, threads: int = 4) -> Counter[tuple[str, int]]:
    """Send so many cases of each kind; return how many came back with which status."""
    found: Counter[tuple[str, int]] = Counter()

    def send(case: tuple[str, int]) -> tuple[str, int, bytes]:
        kind, number = case
        data = KINDS[kind](Random(f"{seed} {kind} {number}"))
        return kind, status_of(address, data), data

    cases = [(kind, number) for kind, count in counts.items() for number in range(count)]
    with ThreadPoolExecutor(threads) as pool:
        for kind, status, data in pool.map(send, cases):
            assert status < 500 or status == 503, (kind, status, data[:2000])
            found[kind, status] += 1
    assert ask(address).status == 200
    return found


def report(found: Counter[tuple[str, int]]) -> dict[str, int]:
    """Print what came back; return the number of cases by kind."""
    for kind in KINDS:
        statuses = {status: count for (name, status), count in sorted(found.items()) if name == kind}
        print(f"{kind:8} {sum(statuses.values()):6}  {statuses}")
    return {kind: sum(count for (name, _), count in found.items() if name == kind) for kind in KINDS}


def test_nonsense_is_borne(hasty: str) -> None:
    counts = {"upload": 16, "form": 150, "query": 150, "head": 100, "path": 100}
    found = fuzz(hasty, counts, seed=1)
    assert report(found) == counts
    assert {status for kind, status in found if kind == "upload"} <= {200, 303, 400, 415, 422, 503}
    for kind, status in (("form", 400), ("query", 200), ("query", 400), ("head", 200), ("head", 400), ("path", 404)):
        assert found[kind, status] > 0, (kind, status, found)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_much_nonsense_is_borne(hasty: str) -> None:
    counts = {"upload": 1500, "form": 6000, "query": 6000, "head": 8000, "path": 3000}
    started = time.monotonic()
    found = fuzz(hasty, counts, seed=2)
    assert report(found) == counts
    print(f"{sum(counts.values())} cases in {time.monotonic() - started:.0f} s")
