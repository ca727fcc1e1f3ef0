"""``serve``: where it answers, how it stops, and what keeps it from starting."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from retrieval.cli import app
from retrieval.index import Index
from retrieval.web.server import ServerError, address_of, bind
from tests.retrieval.web.test_uploads import AUDIO, wait_until, wav
from tests.support.webserver import ask, connected

SERVE = [sys.executable, "-m", "retrieval.cli", "serve"]
SMALL = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from retrieval.web.guard import Guard
from retrieval.web.server import address_of, bind, serve
from retrieval.web.uploads import UploadLimits, receive_sound

async def take(request):
    sound = await receive_sound(request, sample_rate=8000, limits=UploadLimits())
    return PlainTextResponse(str(sound.duration_s))

with bind("127.0.0.1", 0) as listener:
    app = Guard(Starlette(routes=[Route("/", take, methods=["POST"])]), allowed_hosts=[], max_body_bytes=10**7)
    serve(app, listener, on_ready=lambda: print(f"serving    {address_of(listener)}    ", flush=True))
"""
"""A server without index and model, which starts at once."""


@contextmanager
def started(command: list[str], folder: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a process that serves and its address; temporary files go into the folder."""
    environment = {**os.environ, "TMPDIR": str(folder), **environment}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving "), process.communicate()
        yield process, line.split("    ")[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def decoders_of(process: subprocess.Popen[str]) -> list[Path]:
    """Return where a process's decoders show in /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(process.pid) and b"retrieval.web.decoder" in (folder / "cmdline").read_bytes():
                found.append(folder)
    return found


def wait_for_end(folders: list[Path]) -> None:
    wait_until(lambda: not any(b"decoder" in read_or_nothing(folder / "cmdline") for folder in folders))


def read_or_nothing(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with started([sys.executable, "-c", SMALL], tmp_path) as (process, address), connected(address) as client:
        assert ask(address, method="POST", headers=AUDIO, body=wav()).text == "0.5"
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: audio/wav\r\nContent-Length: 99\r\n\r\nRIFF"
        )
        decoders = decoders_of(process)
        assert decoders
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
        assert (process.returncode, stdout, stderr) == (0, "", "")
        wait_for_end(decoders)
        assert list(tmp_path.iterdir()) == []


def test_being_killed_ends_its_decoders_too(tmp_path: Path) -> None:
    """Even one that has a job: stopped, so that it still has it."""
    with started([sys.executable, "-c", SMALL], tmp_path) as (process, address), connected(address) as client:
        assert ask(address, method="POST", headers=AUDIO, body=wav()).status == 200
        (waiting,) = decoders_of(process)
        os.kill(int(waiting.name), signal.SIGSTOP)
        body = wav()
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: audio/wav\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        time.sleep(0.5)
        process.kill()
        process.wait(60)
        os.kill(int(waiting.name), signal.SIGCONT)
        wait_for_end([waiting])
        assert list(tmp_path.iterdir()) == []


def test_the_page_is_served_and_opened_until_ctrl_c(index: Index, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [*SERVE, str(index.folder), "--port", "0", "--open"]
    with started(command, temporary, BROWSER=f"{browser} %s") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        page = ask(address)
        assert page.status == 200
        assert page.headers["content-type"].startswith("text/html")
        assert ask(address, headers={"Host": "evil.example"}).status == 421
        wait_until(lambda: read_or_nothing(tmp_path / "opened") == f"{address}\n".encode())
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (0, "", "stopped\n")


@pytest.mark.parametrize("closed", [pytest.param(">&-", marks=pytest.mark.long), ""])
def test_the_page_is_served_though_nobody_reads_the_output(index: Index, tmp_path: Path, closed: str) -> None:
    """An output that was closed, or whose reader has gone: the line is on stderr."""
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *SERVE, str(index.folder), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    end = threading.Timer(60, os.killpg, [process.pid, signal.SIGKILL])  # lest a line that does not come is waited for
    end.start()
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        line = process.stderr.readline()
        assert line.startswith("serving  18 clips    http://127.0.0.1:"), line + process.stderr.read()
        assert ask(line.split("    ")[1]).status == 200
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "stopped\n"
        assert process.wait(60) == 0
    finally:
        end.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()


def refused(*arguments: str | Path) -> str:
    """Return the line that a command ends with."""
    result = CliRunner().invoke(app, ["serve", *map(str, arguments)])
    assert (result.exit_code, result.stdout) == (1, ""), result
    (line,) = result.stderr.splitlines()
    return line


def test_a_port_that_is_taken_is_told(index: Index) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(index.folder, "--port", str(port))
    assert line.startswith(f"error: port {port} of 127.0.0.1 is taken, perhaps by another serve")


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("192.0.2.1", "192.0.2.1 is no address of this machine"),
        ("no host at all", "'no host at all' is no host that this machine knows"),
        ("", "'' is no host that this machine knows"),
        ("a" * 300, "is no host that this machine knows"),
    ],
)
def test_a_host_that_is_not_ours_is_told(index: Index, host: str, words: str) -> None:
    assert words in refused(index.folder, "--host", host, "--port", "0")


@pytest.mark.parametrize("name", ["https://a.example", "a.example:8000", "a.example/", "", "[::1]:80", "a b", "*"])
def test_a_further_name_is_a_host_s_alone(index: Index, name: str) -> None:
    line = refused(index.folder, "--allow-host", "fine.example", "--allow-host", name, "--port", "0")
    words = "give the host's name alone, such as sounds.example, without http:// and port"
    assert line == f"error: --allow-host {name}: {words}"


def test_what_is_no_index_is_told(tmp_path: Path) -> None:
    assert "is not an index" in refused(tmp_path)


def altered(index: Index, folder: Path, alter: Callable[[dict[str, Any]], object]) -> Path:
    """Return a copy of an index that says something else about what it was made from."""
    copy = shutil.copytree(index.folder, folder / "copy")
    info = json.loads((copy / "index.json").read_text())
    alter(info)
    (copy / "index.json").write_text(json.dumps(info))
    return copy


def test_another_model_is_told(index: Index, tmp_path: Path) -> None:
    copy = altered(index, tmp_path, lambda info: info.update(model_sha256="0" * 64))
    assert "is not the model that made this index" in refused(copy, "--port", "0")


def test_a_changed_manifest_is_told(index: Index, tmp_path: Path) -> None:
    copy = altered(index, tmp_path, lambda info: info["manifests"][0].update(size=1, sha256="0" * 64))
    line = refused(copy, "--port", "0")
    assert "the manifest has changed since it was indexed" in line
    assert "--stale" in line
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "is taken" in refused(copy, "--stale", "--port", port)  # so it went on


@pytest.mark.parametrize("missing", ["uvicorn", "starlette", "python_multipart", "PIL"])
def test_a_missing_extra_is_told(index: Index, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in [name for name in sys.modules if name.startswith("retrieval.web.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert refused(index.folder, "--port", "0").endswith('is missing): pip install -e ".[serve]"')


@pytest.mark.parametrize(
    "arguments", [["--port", "65536"], ["--port", "-1"], ["--port", "http"], ["--max-upload-mb", "0"]]
)
def test_wrong_usage_is_told(index: Index, arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["serve", str(index.folder), *arguments]).exit_code == 2


def test_addresses_are_those_that_a_browser_takes() -> None:
    for host, expected in (
        ("127.0.0.1", "http://127.0.0.1:"),
        ("0.0.0.0", "http://127.0.0.1:"),
        ("::1", "http://[::1]:"),
    ):
        try:
            with bind(host, 0) as listener:
                assert address_of(listener) == f"{expected}{listener.getsockname()[1]}"
        except ServerError:
            assert host == "::1"  # a machine without IPv6
