from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated

import pytest
import typer
from s3fs import S3FileSystem
from typer.testing import CliRunner

from curation.errors import ConfigError
from curation.storage import (
    StorageError,
    is_local,
    local_copy,
    make_folder,
    place,
    put_whole,
    sizes_in,
    version_of,
    write_whole,
)
from tests.support.store import other_program, s3_server


@pytest.fixture(scope="module")
def server():
    with s3_server() as variables:
        yield variables


@pytest.fixture
def s3(server, monkeypatch):
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()  # fsspec keeps connections to the server of an earlier test
    yield other_program(server)
    S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    if request.param == "local":
        return tmp_path / "a folder"
    request.getfixturevalue("s3")
    return place(f"s3://bucket/{tmp_path.name}/a folder")


def test_a_name_without_protocol_is_a_local_path(tmp_path):
    assert place("data/raw") == Path("data/raw")
    assert place(str(tmp_path)) == tmp_path
    assert place("C:\\data") == Path("C:\\data")
    assert place(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert is_local(place("data/raw"))


def test_a_place_in_a_store_behaves_as_a_path():
    raw = place("s3://bucket/data/raw/")
    assert not is_local(raw)
    assert str(raw) == "s3://bucket/data/raw"
    assert str(raw / "soundbible" / "1.json") == "s3://bucket/data/raw/soundbible/1.json"
    assert (raw.name, (raw / "1.json").suffix, raw.parent.name) == ("raw", ".json", "data")
    assert raw == place("S3://bucket/data/raw")
    assert pickle.loads(pickle.dumps(raw)) == raw
    assert len({raw, place("s3://bucket/data/raw")}) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3:/bucket/x", "write s3://..., with two slashes"),
        ("s3:bucket", "write s3://..., with two slashes"),
        ("s3://", r"no bucket named; write s3://bucket/folder"),
        ("s3:///x", "no bucket named"),
        ("s3://bucket//x", "plain name"),
        ("s3://bucket/a/../x", "plain name"),
        ("s3://bucket/./x", "plain name"),
        ("s3://bucket/a[1]", r"'\[' cannot be in the name"),
        ("s3://bucket/*", r"'\*' cannot be in the name"),
        ("s3://bucket/a\nb", "must be printable"),
        ("s3://bucket/\udcff", "must be printable"),
        ("nosuch://a/b", "unknown protocol nosuch://; name a local folder, or s3://bucket/folder"),
        ("https://example.org/x", "https:// holds no folders"),
        ("memory://x", "memory:// holds no folders"),
    ],
)
def test_a_place_that_cannot_be_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        place(text)


def test_a_missing_package_is_named():
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from curation.storage import place\n"
        "try: place('s3://bucket/x')\n"
        "except Exception as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == ('s3://bucket/x: s3:// needs a package that is not installed: pip install "wavtext5k[s3]"\n')


def test_a_command_takes_places_and_calls_a_bad_one_wrong_usage():
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    def show(raw: Annotated[Path, typer.Option(parser=place)]) -> None:
        print(type(raw).__name__, raw)

    assert CliRunner().invoke(app, ["--raw", "s3://bucket/x"]).stdout == "S3Path s3://bucket/x\n"
    refused = CliRunner().invoke(app, ["--raw", "s3:/bucket"])
    assert refused.exit_code == 2
    assert "s3:/bucket: write s3://" in " ".join(refused.output.split())


def test_importing_it_loads_no_store():
    code = "import sys, curation.storage; print({'fsspec', 'upath', 's3fs', 'dask'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_what_is_written_is_read(folder):
    file = folder / "x ü#?[1].json"
    write_whole(file, b"one")
    assert file.read_bytes() == b"one"
    write_whole(file, b"")
    assert file.read_bytes() == b""
    assert [path.name for path in folder.iterdir()] == [file.name]
    assert list(folder.glob("*.json")) == [file]
    assert file.is_file()
    assert not folder.is_file()
    assert folder.is_dir()


def test_a_finished_file_is_moved(folder, tmp_path):
    local = tmp_path / "finished.flac"
    local.write_bytes(b"sound" * 1000)
    put_whole(folder / "audio" / "1.flac", local)
    assert (folder / "audio" / "1.flac").read_bytes() == b"sound" * 1000
    assert not local.exists()
    assert [path.name for path in (folder / "audio").iterdir()] == ["1.flac"]


def test_a_file_from_another_disk_is_moved(tmp_path):
    other_disk = Path("/dev/shm")
    if not other_disk.is_dir() or other_disk.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second disk")
    local = other_disk / f"wavtext5k-{os.getpid()}"
    local.write_bytes(b"sound")
    put_whole(tmp_path / "1.flac", local)
    assert (tmp_path / "1.flac").read_bytes() == b"sound"
    assert not local.exists()


def test_a_local_copy_has_the_content_and_goes_away(folder):
    write_whole(folder / "1.wav", b"RIFF" * 3_000_000)  # more than a store sends in one piece
    with local_copy(folder / "1.wav") as copy:
        assert copy.read_bytes() == b"RIFF" * 3_000_000
        assert copy.suffix == ".wav"
    assert copy.exists() == is_local(folder)
    assert (folder / "1.wav").is_file()


def test_the_version_changes_with_the_file(folder):
    file = folder / "1.wav"
    write_whole(file, b"one")
    before = version_of(file)
    assert version_of(file) == before
    write_whole(file, b"two")
    assert version_of(file) != before
    assert (before[0], len(before)) == (3, 2)


def test_the_sizes_in_a_folder_are_those_of_its_files(folder):
    assert sizes_in(folder / "nosuch") == {}
    write_whole(folder / "1.json", b"one")
    write_whole(folder / "2.json", b"")
    write_whole(folder / "deeper" / "3.json", b"three")
    assert sizes_in(folder) == {"1.json": 3, "2.json": 0}


def test_a_missing_file_is_not_found_by_name(folder):
    make_folder(folder)
    file = folder / "nosuch.wav"
    with pytest.raises(FileNotFoundError) as caught:
        version_of(file)
    assert caught.value.filename in (file, str(file))
    with pytest.raises(FileNotFoundError), local_copy(file) as copy:
        copy.read_bytes()


def test_a_folder_in_a_store_is_no_file(s3):
    write_whole(place("s3://bucket/folder/1.wav"), b"one")
    with pytest.raises(FileNotFoundError, match="a folder, not a file"):
        version_of(place("s3://bucket/folder"))


def test_what_another_process_does_is_seen(s3):
    folder = place("s3://bucket/shared")
    write_whole(folder / "1.json", b"one")
    assert [path.name for path in folder.iterdir()] == ["1.json"]
    before = version_of(folder / "1.json")

    s3.put_object(Bucket="bucket", Key="shared/2.json", Body=b"two")
    s3.put_object(Bucket="bucket", Key="shared/1.json", Body=b"longer than before")
    assert sorted(path.name for path in folder.iterdir()) == ["1.json", "2.json"]
    assert sorted(path.name for path in folder.glob("*.json")) == ["1.json", "2.json"]
    assert (folder / "2.json").is_file()
    assert (folder / "1.json").stat().st_size == 18
    assert version_of(folder / "1.json") != before
    assert (folder / "1.json").read_bytes() == b"longer than before"

    s3.delete_object(Bucket="bucket", Key="shared/1.json")
    assert not (folder / "1.json").exists()
    assert [path.name for path in folder.iterdir()] == ["2.json"]


def test_nothing_makes_a_bucket(s3, tmp_path):
    folder = place("s3://mistyped/out")
    make_folder(folder)
    (tmp_path / "local").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"^s3://mistyped/out/x: .*bucket.*make the bucket first"):
        write_whole(folder / "x", b"x")
    with pytest.raises(StorageError, match="make the bucket first"):
        put_whole(folder / "x", tmp_path / "local")
    assert (tmp_path / "local").exists()
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["bucket"]


def lead_to(port, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    S3FileSystem.clear_instance_cache()


class Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()

    def do_PUT(self):
        self.do_HEAD()

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(
    "call", [version_of, lambda file: write_whole(file, b"x"), lambda file: local_copy(file).__enter__()]
)
def test_refused_entry_is_no_missing_file(call, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lead_to(server.server_port, monkeypatch)
        with pytest.raises(
            StorageError, match=r"^s3://bucket/1.wav: .*Forbidden.*; check that the store .* run again$"
        ):
            call(place("s3://bucket/1.wav"))
        server.shutdown()


def test_a_store_that_is_not_there_is_no_missing_file(monkeypatch):
    lead_to(9, monkeypatch)
    with pytest.raises(StorageError, match=r"^s3://bucket/1.wav: Could not connect"):
        version_of(place("s3://bucket/1.wav"))
