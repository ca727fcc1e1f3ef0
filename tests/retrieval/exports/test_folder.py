"""An export's folder is the old export, the new one, or none, whatever happens and whoever else's files lie there."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.exports.folder import MARK, ExportError, check_place, new_export
from tests.retrieval.exports.support import HTSAT_ONLY, invoke, small_run

ROOT = Path(__file__).parents[3]
WRITE = """
import os, sys
from pathlib import Path
from retrieval.exports.folder import add_to_config, new_export

out, word, stop = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
moved = 0


def replace(self, target, replace=Path.replace):
    global moved
    if self.parent.name in ("files", "deep"):  # not a file that is still being written
        if moved == stop:
            os.kill(os.getpid(), 9)
        moved += 1
    return replace(self, target)


with new_export(out) as inside:
    for name in ("a.txt", "deep/b.txt", "only-" + word):
        (inside / name).parent.mkdir(exist_ok=True)
        (inside / name).write_text(word)
    add_to_config(inside, {"word": word})
    Path.replace = replace
    print("ready", flush=True)
    if stop == -1:
        sys.stdin.read()
"""


def write(out: Path, word: str, *, stop: int = 99) -> subprocess.CompletedProcess[str]:
    """Write an export of three files in a process of its own, which dies when it has moved so many."""
    words = [sys.executable, "-c", WRITE, str(out), word, str(stop)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".part" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def check_whole(out: Path, word: str) -> None:
    found = contents(out)
    assert json.loads(found.pop("config.json"))[MARK]["word"] == word
    assert found == {"a.txt": word, "deep/b.txt": word, f"only-{word}": word}
    assert not (out / ".part").exists()


def test_a_new_export_takes_the_place_of_the_old_one_and_leaves_other_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write(out, "old").returncode == 0
    check_whole(out, "old")
    (out / "notes.txt").write_text("mine")
    assert write(out, "new").returncode == 0
    assert (out / "notes.txt").read_text() == "mine"
    (out / "notes.txt").unlink()
    check_whole(out, "new")


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_killed_between_any_two_files_it_is_no_export_and_is_made_anew(tmp_path: Path, stop: int) -> None:
    out = tmp_path / "out"
    assert write(out, "old").returncode == 0
    assert write(out, "new", stop=stop).returncode == -signal.SIGKILL
    found = contents(out)
    assert "config.json" not in found
    assert list(found.values()) == ["new"] * stop, "never files of two exports"
    check_place(out, model=tmp_path / "model", overwrite=False)
    with pytest.raises(KeyError), new_export(out):  # one that fails on its own does not lose whose files those are
        raise KeyError
    check_place(out, model=tmp_path / "model", overwrite=False)
    assert write(out, "again").returncode == 0
    check_whole(out, "again")


def test_killed_before_anything_moves_the_old_one_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write(out, "old").returncode == 0
    words = [sys.executable, "-c", WRITE, str(out), "new", "-1"]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        busy = write(out, "third")
        assert "another export is being written there; wait for it to end" in busy.stderr
        process.kill()
    assert contents(out) == contents(out) | {"a.txt": "old", "only-old": "old"}
    assert write(out, "new").returncode == 0
    check_whole(out, "new")


def test_what_is_not_an_exports_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "clap"}')
    (tmp_path / "link").symlink_to(run / "model")
    for name, message in (
        ("file", "file: is a file"),
        ("photos", r"photos: holds 'cat.jpg' and is no earlier export; .*--overwrite"),
        ("other", r"other: holds 'config.json' and is no earlier export"),
        ("run", "run: holds the model that is read"),
        ("run/model", "model: holds the model that is read"),
        ("link", "link: holds the model that is read"),
    ):
        with pytest.raises(ExportError, match=message):
            check_place(tmp_path / name, model=run / "model", overwrite=False)
    for name in ("run", "link", "file"):
        with pytest.raises(ExportError):
            check_place(tmp_path / name, model=run / "model", overwrite=True)
    for name in ("photos", "other", "new"):
        check_place(tmp_path / name, model=run / "model", overwrite=True)


def test_names_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    out, precious = tmp_path / "out", tmp_path / "precious.txt"
    precious.write_text("mine")
    out.mkdir()
    (out / "config.json").write_text(json.dumps({MARK: {"files": ["../precious.txt", str(precious), "config.json"]}}))
    assert write(out, "new").returncode == 0
    assert precious.read_text() == "mine"
    check_whole(out, "new")


@pytest.mark.parametrize("content", ["[]", "{", '{"wavtext5k": 3}', '{"wavtext5k": {"files": 3}}', "\ud800"])
def test_a_config_that_is_none_makes_a_folder_something_elses(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ExportError, match="is no earlier export"):
        check_place(tmp_path, model=Path("/no/model"), overwrite=False)


def test_a_full_disk_is_said_and_leaves_the_old_export(tmp_path: Path) -> None:
    run, out = small_run(tmp_path / "run", **HTSAT_ONLY), tmp_path / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        code, _, said = invoke(run, "--to", "transformers", "--out", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, os.path.lexists(out)) == (1, False)
    assert "no space left on the disk" in said


def test_an_export_is_written_over_itself_and_over_others_if_asked(tmp_path: Path) -> None:
    run, out = small_run(tmp_path / "run", **HTSAT_ONLY), tmp_path / "out"
    out.mkdir()
    (out / "model.onnx").write_bytes(b"x")
    words = (run, "--to", "transformers", "--out", out)
    assert invoke(*words)[0] == 1
    assert [file.name for file in out.iterdir()] == ["model.onnx"]
    assert invoke(*words, "--overwrite")[0] == 0
    (out / "model.onnx").unlink()
    before = contents_bytes(out)
    assert invoke(*words)[0] == 0
    assert contents_bytes(out) == before, "the same model, the same bytes"


def contents_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
