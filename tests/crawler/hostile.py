"""A site that misbehaves on purpose: every path answers as told, below the level at which a catalogue could say it.

Also the crawl of such a site, with what must hold after any of them: no traceback, nothing written outside the raw
folder, nothing in it but the documented files, and each record's audio whole. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

from tests.crawler.conftest import FAST, command, environment, read_report

Stream = Callable[[threading.Event], Iterator[bytes]]
"""Gives a body piece by piece; the event is set when the site closes."""


@dataclass(frozen=True)
class Reply:
    """What a path answers with. A request that brings the reply's own ETag gets a 304."""

    status: int = 200
    body: bytes | Stream = b""
    headers: Mapping[str, str | Callable[[], str]] = field(default_factory=dict)
    """A function is asked when the answer is sent: a date from then."""
    length: int | None = None
    """What Content-Length claims; the body's own length by default."""
    framing: Literal["length", "close", "chunked", "cut chunks"] = "length"
    """How the client learns where the body ends: "close" tells nothing, "cut chunks" never sends the last chunk."""
    wait_s: float = 0.0
    """Seconds before the first byte."""
    raw: bytes | None = None
    """Sent in place of an HTTP answer: b"" hangs up without a word."""


GONE = Reply(404, b"gone")
Replies = Mapping[str, Reply | Sequence[Reply]]


def drip(body: bytes, every_s: float) -> Stream:
    """Return a body of one byte at a time."""

    def stream(over: threading.Event) -> Iterator[bytes]:
        for place in range(len(body)):
            yield body[place : place + 1]
            if over.wait(every_s):
                return

    return stream


def stall(body: bytes) -> Stream:
    """Return a body after which nothing comes, not even the end."""

    def stream(over: threading.Event) -> Iterator[bytes]:
        yield body
        over.wait(120)

    return stream


def flood(head: bytes, megabytes: int) -> Stream:
    """Return a body of many megabytes that are never held at once."""

    def stream(over: threading.Event) -> Iterator[bytes]:
        yield head
        for _ in range(megabytes):
            if over.is_set():
                return
            yield _MEGABYTE

    return stream


_MEGABYTE = bytes(range(256)) * 4096


@dataclass
class Asked:
    """One request, and how much of the answer was sent."""

    time_s: float
    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    sent: int = 0


class HostileSite:
    """A running site."""

    def __init__(self, replies: Replies, otherwise: Callable[[str], Reply]) -> None:
        self.base_url = ""
        self.asked: list[Asked] = []
        """In order; a test may clear it."""
        self.over = threading.Event()
        self._replies = replies
        self._otherwise = otherwise
        self._times: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def requests(self) -> list[str]:
        """The paths that were asked, query included, in order."""
        return [asked.path for asked in self.asked]

    def times(self, path: str) -> list[float]:
        """Return when a path was asked, by the monotonic clock."""
        return [asked.time_s for asked in self.asked if asked.path == path]

    def sent(self, path: str) -> int:
        """Return the bytes of body that were sent for a path."""
        return sum(asked.sent for asked in self.asked if asked.path == path)

    def take(self, handler: BaseHTTPRequestHandler) -> tuple[Asked, Reply]:
        """Note a request and return what it is answered with; a path's last reply stands for all later ones."""
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Asked(time.monotonic(), handler.command, handler.path, headers)
        with self._lock:
            before = self._times[handler.path]
            self._times[handler.path] += 1
            self.asked.append(asked)
        reply = self._replies.get(handler.path) or self._otherwise(handler.path)
        if isinstance(reply, Sequence):
            reply = reply[min(before, len(reply) - 1)]
        tag = reply.headers.get("ETag")
        return asked, Reply(304, headers=reply.headers) if tag and tag == headers.get("if-none-match") else reply


@contextmanager
def serve_replies(replies: Replies, otherwise: Callable[[str], Reply] = lambda path: GONE) -> Iterator[HostileSite]:
    """Serve the replies by path (query included) until the block ends.

    Args:
        replies: What a path answers, or what it answers the first time, the second time, and so on.
        otherwise: What any other path answers.
    """
    site = HostileSite(replies, otherwise)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 120

        def do_GET(self) -> None:
            asked, reply = site.take(self)
            self.close_connection = True
            site.over.wait(reply.wait_s)
            with suppress(ConnectionError, TimeoutError):  # the client left
                _send(self, asked, reply, site.over)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        site.base_url = f"http://127.0.0.1:{server.server_address[1]}"
        yield site
        site.over.set()
        server.shutdown()
        thread.join()


def _send(handler: BaseHTTPRequestHandler, asked: Asked, reply: Reply, over: threading.Event) -> None:
    if reply.raw is not None:
        handler.wfile.write(reply.raw)
        return
    handler.send_response(reply.status)
    headers = {"Content-Type": "text/html; charset=utf-8", "Connection": "close", **reply.headers}
    if "chunk" in reply.framing:
        headers["Transfer-Encoding"] = "chunked"
    elif reply.framing == "length" and reply.status != 304:
        own = len(reply.body) if isinstance(reply.body, bytes) else 0
        headers["Content-Length"] = str(own if reply.length is None else reply.length)
    for name, value in headers.items():
        handler.send_header(name, value if isinstance(value, str) else value())
    handler.end_headers()
    if handler.command == "HEAD" or reply.status == 304:
        return
    for piece in [reply.body] if isinstance(reply.body, bytes) else reply.body(over):
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if "chunk" in reply.framing else piece)
        asked.sent += len(piece)
    if reply.framing == "chunked":
        handler.wfile.write(b"0\r\n\r\n")


def listing(*numbers: int) -> Reply:
    """Return a listing page of SoundBible that links to /N-S.html."""
    return Reply(body="".join(f"<h3><a href='/{n}-S.html'>S</a></h3>" for n in numbers).encode())


def detail(number: int, title: str = "S", charset: str = "utf-8", *, more: str = "") -> Reply:
    """Return a detail page of SoundBible; ``more`` is HTML that stands after the description."""
    body = f"<div id='course-details'><h3>{title}</h3><p>Text {number}.</p>{more}</div>"
    return Reply(body=body.encode(charset), headers={"Content-Type": f"text/html; charset={charset}"})


def audio_reply(body: bytes | Stream, **changes: Any) -> Reply:
    """Return an answer of audio as a well-behaved server gives it, but for the changes."""
    return Reply(**{"body": body, "headers": {"Content-Type": "audio/x-wav"}, **changes})


@dataclass(frozen=True)
class Crawled:
    """What a crawl of a hostile site came to."""

    returncode: int
    stdout: str
    stderr: str
    report: dict[str, Any]
    reasons: dict[int, str]
    """Number of the clip -> why it failed."""
    details: dict[int, str]
    records: dict[int, dict[str, Any]]
    """Number of the clip -> its record."""
    folder: Path
    """``<raw>/<source>``."""


def crawl_hostile(tmp_path: Path, base_url: str, *options: str, spider: str = "soundbible") -> Crawled:
    """Crawl a site into ``tmp_path/raw`` to the end, and check what must hold after any crawl."""
    line = command(spider, base_url, tmp_path / "raw", *options)
    done = _run_elsewhere(tmp_path, line)
    return _crawled(tmp_path / "raw" / spider, done.returncode, done.stdout, done.stderr)


def crawl_each(
    tmp_path: Path,
    sites: Mapping[str, Replies],
    *options: str,
    otherwise: Callable[[str], Reply] = lambda path: GONE,
    spider: str = "soundbible",
) -> dict[str, tuple[Crawled, HostileSite]]:
    """Crawl many sites side by side in one process, each into ``tmp_path/raw/N``, with the same checks.

    A process takes a second to begin; what the command line adds to a crawl is not what these tests are about.
    """
    with ExitStack() as stack:
        served = {name: stack.enter_context(serve_replies(replies, otherwise)) for name, replies in sites.items()}
        raws = {name: tmp_path / "raw" / str(number) for number, name in enumerate(sites)}
        jobs = {name: [site.base_url, str(raws[name])] for name, site in served.items()}
        settings = [*FAST, *options][1::2]
        done = _run_elsewhere(tmp_path, [sys.executable, "-c", MANY, spider, json.dumps(jobs), *settings])
    assert done.returncode == 0, done.stderr
    verdicts = json.loads(done.stdout)
    return {
        name: (
            _crawled(raws[name] / spider, int(bool(words)), warnings, f"error: {words}" if words else ""),
            served[name],
        )
        for name, (words, warnings) in verdicts.items()
    }


MANY = """
import json, logging, sys
from scrapy.crawler import CrawlerProcess
from scrapy.settings import Settings
from crawler.reporter import Reporter
spider, jobs = sys.argv[1], json.loads(sys.argv[2])
values = Settings()
values.setmodule("crawler.settings", priority="project")
values.update({"PRINT_RESULT": False, "LOG_LEVEL": "ERROR"}, priority="cmdline")
for name, _, value in (pair.partition("=") for pair in sys.argv[3:]):
    values.set(name, value, priority="cmdline")
process, crawlers = CrawlerProcess(values), {}
for name in ("downloadermiddlewares.retry", "core.downloader.handlers.http11"):
    logging.getLogger("scrapy." + name).setLevel(logging.CRITICAL)  # as wavtext5k-crawl does
for name, (base_url, raw) in jobs.items():
    process.settings.set("RAW_DIR", raw, priority="cmdline")  # a crawler takes a copy
    crawlers[name] = process.create_crawler(spider)
    process.crawl(crawlers[name], base_url=base_url)
process.start()
reports = {name: crawler.get_extension(Reporter).report for name, crawler in crawlers.items()}
print(json.dumps({name: (one.verdict(0.1) or "", "\\n".join(one.all_warnings())) for name, one in reports.items()}))
"""


def _run_elsewhere(tmp_path: Path, line: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a crawl in a folder of its own; nothing may be written there or anywhere else but in ``tmp_path/raw``."""
    raw, elsewhere = tmp_path / "raw", tmp_path / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    before = names_under(tmp_path) - names_under(raw) - {raw}
    places = {name: str(elsewhere) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    done = subprocess.run(
        line,
        cwd=elsewhere,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment() | places | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert names_under(tmp_path) - names_under(raw) - {raw} == before, "something was written elsewhere"
    assert "Traceback" not in done.stderr, done.stderr
    return done


def _crawled(folder: Path, returncode: int, stdout: str, stderr: str) -> Crawled:
    report = read_report(folder.parent, folder.name)
    assert report["asked"] == report["stored"] + sum(report["failed"].values())
    return Crawled(
        returncode,
        stdout,
        stderr,
        report,
        {int(failure["source_id"]): failure["reason"] for failure in report["failures"]},
        {int(failure["source_id"]): failure["detail"] for failure in report["failures"]},
        checked_records(folder),
        folder,
    )


def names_under(folder: Path) -> set[Path]:
    """Return every file and folder under a folder."""
    return set(folder.rglob("*"))


DOCUMENTED = re.compile(
    r"records|records/[\w-]+\.json|audio|audio/[\w-]+\.\w+|crawl_report\.json|\.lock"
    r"|site|site/[A-Za-z0-9._-]+|pages\.sqlite(-wal|-shm|-journal)?"
)


def checked_records(folder: Path) -> dict[int, dict[str, Any]]:
    """Return a source's records by number, after a look at every file that lies under its folder.

    Nothing has a name that is not documented, no file is half-written, each audio file belongs to one record, and each
    record tells the size and the hash of its audio.
    """
    names = {str(path.relative_to(folder)) for path in names_under(folder)}
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}
    assert not [name for name in names if not DOCUMENTED.fullmatch(name) or name.endswith(".part")]
    assert not [path for path in names_under(folder) if path.is_symlink()]
    records = {}
    for path in sorted((folder / "records").glob("*")):
        record = json.loads(path.read_text(encoding="utf-8"))
        body = (folder / record["audio_file"]).read_bytes()
        assert (len(body), hashlib.sha256(body).hexdigest()) == (record["bytes"], record["sha256"]), path
        records[int(path.stem)] = record
    assert {name for name in names if name.startswith("audio/")} == {r["audio_file"] for r in records.values()}
    return records
