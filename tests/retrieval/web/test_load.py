"""The page under load: 50 requests a second for a minute, sent by the clock whether or not the last was answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import quote

import numpy as np
import pytest

from retrieval.building import build_index
from tests.retrieval.conftest import write_clips
from tests.retrieval.web.test_serve import SERVE, started

NUM_CLIPS = 900
"""As many as the demo has."""
PER_SECOND = 50
SECONDS = 60
WORDS = (
    *("dog", "bell", "rain", "door", "engine", "wind", "glass", "metal", "water", "bird", "step", "crowd", "saw"),
    *("wave", "train", "night", "near", "far", "two", "loud"),
)


@dataclass(frozen=True)
class Asked:
    """One request: what was asked, what came, and how long after its time."""

    kind: str
    status: int
    size: int
    seconds: float


def request_of(number: int) -> tuple[str, str, str]:
    """Return kind, target and headers of the n-th request: half of them searches, no two of them alike."""
    random = Random(number)
    clip = f"soundbible-{random.randrange(1, NUM_CLIPS + 1)}"
    words = quote(" ".join(random.choices(WORDS, k=5)) + f" {number}")
    return random.choice(
        [
            ("search", f"/?q={words}", ""),
            ("search", f"/?q={words}&max_s=5&page=2", ""),
            ("search", f"/api/search?q={words}&top=20", ""),
            ("like", f"/?like={clip}", ""),
            ("thumbnail", f"/clip/{clip}/thumbnail.png", ""),
            ("audio", f"/clip/{clip}/audio.flac", f"Range: bytes={random.randrange(5000)}-\r\n"),
        ]
    )


async def ask(host: str, port: int, kind: str, target: str, headers: str, *, due: float) -> Asked:
    """Send a request on a connection of its own, and read all of the answer."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\n{headers}Connection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
    assert len(body) == length, target
    return Asked(kind, int(head[9:12]), length, time.monotonic() - due)


async def send_by_the_clock(count: int, send: Callable[[int, float], Awaitable[Asked]]) -> list[Asked]:
    """Start a request every 1/50 s, however long the others take."""
    started = time.monotonic()
    tasks = []
    for number in range(count):
        due = started + number / PER_SECOND
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        tasks.append(asyncio.ensure_future(send(number, due)))
    return list(await asyncio.gather(*tasks))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_fifty_requests_a_second_are_answered_for_a_minute(run: Path, tmp_path: Path) -> None:
    build_index(run, write_clips(tmp_path / "curated", count=NUM_CLIPS), tmp_path / "index")
    with started([*SERVE, str(tmp_path / "index"), "--port", "0"], tmp_path) as (_, address):
        host, _, port = address.removeprefix("http://").rpartition(":")

        async def send(number: int, due: float) -> Asked:
            kind, target, headers = request_of(number)
            return await ask(host, int(port), kind, target, headers, due=due)

        found = asyncio.run(send_by_the_clock(PER_SECOND * SECONDS, send))
    for kind in ("all", *sorted({each.kind for each in found})):
        seconds = np.array([each.seconds for each in found if kind in ("all", each.kind)])
        p50, p95, p99 = np.percentile(seconds * 1000, (50, 95, 99))
        print(f"{kind:9} {len(seconds):5}  p50 {p50:6.1f}  p95 {p95:6.1f}  p99 {p99:6.1f} ms  {max(seconds):.2f} s")
    assert len(found) == PER_SECOND * SECONDS
    assert {each.status for each in found} == {200, 206}
