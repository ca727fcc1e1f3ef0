"""What a kill or a full disk leaves behind, with real processes."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from curation.build import BuildOptions, build
from curation.errors import ManifestError
from curation.manifest import read_manifest, validate_manifest
from tests.curation.support import add_noises, add_record, add_tone, command, contents, run
from tests.support.audio import write_noise

CLIPS = 40


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume") / "raw"
    add_noises(folder, CLIPS, seconds=1.5)
    return folder


@pytest.fixture(scope="module")
def whole(raw):
    out = raw.parent / "whole"
    build(raw, out, options=BuildOptions(workers=0))
    return contents(out)


def journal(out):
    return {path.name: path.stat().st_mtime_ns for path in (out / ".work").glob("*.json")}


def kill_at(raw, out, finished, workers=2):
    """Start a build and kill it once so many clips are finished; return how many were."""
    process = subprocess.Popen(
        command("build", "--raw", raw, "--out", out, "--workers", str(workers)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and len(journal(out)) < finished:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return len(journal(out))


def kill_until_done(raw, out, whole, marks):
    for mark in marks:
        before = journal(out)
        kill_at(raw, out, mark)
        time.sleep(0.3)  # workers end with their parent; one may still be finishing its clip
        assert {name: changed for name, changed in journal(out).items() if name in before} == before
        if (out / "manifest.parquet").exists():
            assert validate_manifest(out) == []
    finished = journal(out)
    done = run("build", "--raw", raw, "--out", out, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert contents(out) == whole
    assert {name: changed for name, changed in journal(out).items() if name in finished} == finished


def test_killed_builds_go_on_and_end_with_the_same_bytes(raw, whole, tmp_path):
    kill_until_done(raw, tmp_path / "out", whole, marks=(3, 25))


@pytest.mark.long
@pytest.mark.parametrize("step", range(1, 6))
def test_many_kills(raw, whole, tmp_path, step):
    kill_until_done(raw, tmp_path / "out", whole, marks=range(step, CLIPS + 1, step))


def test_a_killed_build_leaves_no_worker_behind(raw, tmp_path):
    process = subprocess.Popen(
        command("build", "--raw", raw, "--out", tmp_path / "out", "--workers", "2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    while len(journal(tmp_path / "out")) < 3:
        assert process.poll() is None
        time.sleep(0.002)
    process.kill()
    # Workers inherit stdout: it ends when the last of them has.
    process.communicate(timeout=10)


def test_an_interrupt_says_how_to_go_on(raw, whole, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        command("build", "--raw", raw, "--out", out, "--workers", "2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(journal(out)) < 3:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "stopped; run the same command again to go on"
    assert "Traceback" not in said
    assert run("build", "--raw", raw, "--out", out).returncode == 0
    assert contents(out) == whole


def children(process):
    """Return a process's children, whichever of its threads started them."""
    found = []
    for thread in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # gone since
            found += thread.read_text().split()
    return found


def test_an_interrupt_while_workers_start_shows_no_traceback(raw, tmp_path):
    process = subprocess.Popen(
        command("build", "--raw", raw, "--out", tmp_path / "out", "--workers", "2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(children(process.pid)) < 3:  # two workers, and the process that multiprocessing tracks resources in
        assert process.poll() is None
        time.sleep(0.002)
    time.sleep(0.1)  # workers are loading now: that takes them 0.3 s and more
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "stopped; run the same command again to go on\n")


def limit_files(size):
    """Give a function that makes files of more than so many bytes fail in a child, as a full disk does."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_full_disk_is_said_and_survived(raw, whole, tmp_path, workers):
    out = tmp_path / "out"
    full = run("build", "--raw", raw, "--out", out, "--workers", workers, preexec_fn=limit_files(50_000))
    assert full.returncode == 1
    assert full.stderr.splitlines()[-1].startswith("error: no space left on the disk")
    assert contents(out) == {}
    assert run("build", "--raw", raw, "--out", out).returncode == 0
    assert contents(out) == whole


def test_a_disk_that_is_full_at_the_end_leaves_the_old_manifest(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    for number in range(3):
        add_tone(raw, number, seconds=0.1)
    build(raw, out, options=BuildOptions(workers=0))
    before = contents(out)
    noise = random.Random(0).randbytes(30_000).hex()  # compresses to half
    add_tone(raw, 3, seconds=0.1, description=noise)
    limit = len(before["manifest.parquet"])  # the new one is larger, a FLAC of 0.1 s smaller
    full = run("build", "--raw", raw, "--out", out, "--workers", "0", preexec_fn=limit_files(limit))
    assert (full.returncode, full.stderr.splitlines()[-1][:32]) == (1, "error: no space left on the disk")
    assert {name: content for name, content in contents(out).items() if name in before} == before
    assert set(contents(out)) - set(before) == {"audio/soundbible-3.flac"}
    assert len(read_manifest(out)) == 3


def test_a_reader_never_meets_a_manifest_of_other_audio(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    for number in range(3):
        add_tone(raw, number, seconds=0.1)
    build(raw, out, options=BuildOptions(workers=0))
    longer = write_noise(raw / "soundbible" / "audio" / "1.wav", seconds=3)
    add_record(raw, longer, source_id="1")
    stopped = run("build", "--raw", raw, "--out", out, "--workers", "0", preexec_fn=limit_files(50_000))
    assert stopped.returncode == 1
    with pytest.raises(ManifestError, match=r"no such manifest \(the build there is not finished\)"):
        read_manifest(out)
    assert run("build", "--raw", raw, "--out", out).returncode == 0
    assert validate_manifest(out, read_audio=True) == []
