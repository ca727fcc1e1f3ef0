"""The cache of decoded clips: the same samples as the FLAC, whatever happens to the process or to the files."""

from __future__ import annotations

import dataclasses
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from crawler.items import take_lock
from curation.audio import read_clip
from curation.errors import AudioError, ManifestError
from tests.training.clips import tone, write_clips
from training import pcmcache
from training.config import ManifestConfig
from training.data import Clip, read_clips
from training.pcmcache import PcmCache, ensure_cache
from training.runlog import TrainingError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    rows = [{"waveform": tone(200 + 20 * number, 0.1 + 0.01 * number)} for number in range(8)]
    return write_clips(tmp_path_factory.mktemp("manifest"), rows)


@pytest.fixture(scope="module")
def clips(manifest):
    return clips_of(manifest)


@pytest.fixture
def three_a_file(monkeypatch):
    monkeypatch.setattr(pcmcache, "_FILE_SAMPLES", 20_000)


def clips_of(manifest) -> list[Clip]:
    return read_clips([ManifestConfig(manifest=str(manifest))], ["{title}"])


def made(folder: Path, clips: list[Clip], workers: int = 0) -> tuple[PcmCache, list[str]]:
    said: list[str] = []
    return ensure_cache(folder, clips, workers=workers, say=said.append), said


def is_right(cache: PcmCache, clips: list[Clip]) -> bool:
    return all(
        np.array_equal(cache.read(number, 0, clip.num_samples) / np.float32(32_768), read_clip(clip.path))
        for number, clip in enumerate(clips)
    )


def pcm_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pcm"))


@pytest.mark.parametrize("workers", [0, 3])
def test_a_cached_clip_is_bit_equal_to_its_flac(tmp_path, clips, workers, three_a_file):
    cache, said = made(tmp_path / "cache", clips, workers)
    assert is_right(cache, clips)
    size = 2 * sum(clip.num_samples for clip in clips)
    assert re.fullmatch(rf"decoding  8 clips to {tmp_path}/cache: 0.00 GB, \d+\.\d\d GB free", said[0])
    assert sum(file.stat().st_size for file in pcm_files(tmp_path / "cache")) == size
    assert len(pcm_files(tmp_path / "cache")) == 3
    crop = cache.read(2, 100, 50)
    assert crop.dtype == np.int16
    assert np.array_equal(crop, cache.read(2, 0, 200)[100:150])
    with pytest.raises(ValueError, match="read-only"):
        crop[0] = 1
    for start, size in ((-1, 5), (0, clips[2].num_samples + 1), (clips[2].num_samples, 1)):
        with pytest.raises(ValueError, match="of a clip of"):
            cache.read(2, start, size)
    assert is_right(pickle.loads(pickle.dumps(cache)), clips)


def test_what_is_there_is_used_as_it_is(tmp_path, clips, monkeypatch, three_a_file):
    made(tmp_path, clips)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    monkeypatch.setattr(pcmcache, "_decode_clip", None)
    monkeypatch.setattr(pcmcache, "_sha256", None)
    cache, said = made(tmp_path, clips[::-1])
    assert is_right(cache, clips[::-1])
    assert not said
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_manifests_share_a_folder_and_only_what_is_new_is_decoded(tmp_path, clips, monkeypatch, three_a_file):
    _, said = made(tmp_path, clips[:5])
    assert said[0].startswith("decoding  5 clips")
    twin = dataclasses.replace(clips[4], clip_id="other-4")
    cache, said = made(tmp_path, [twin, *clips[3:], twin])
    assert said[0].startswith("decoding  3 clips")
    assert is_right(cache, [twin, *clips[3:], twin])
    assert is_right(made(tmp_path, clips)[0], clips)


def test_a_longer_clip_has_a_file_of_its_own(tmp_path, clips, monkeypatch):
    monkeypatch.setattr(pcmcache, "_FILE_SAMPLES", clips[1].num_samples)
    assert is_right(made(tmp_path, clips)[0], clips)
    assert len(pcm_files(tmp_path)) == len(clips)


@pytest.mark.parametrize(
    "damage",
    [
        lambda pcm: os.truncate(pcm, pcm.stat().st_size - 2),
        lambda pcm: pcm.write_bytes(b""),
        lambda pcm: pcm.unlink(),
        lambda pcm: pcm.write_bytes(bytes(pcm.stat().st_size)),
        lambda pcm: flip(pcm),
        lambda pcm: pcm.with_suffix(".json").write_text("{"),
        lambda pcm: pcm.with_suffix(".json").write_text("[]"),
        lambda pcm: pcm.with_suffix(".json").unlink(),
        lambda pcm: rename_first_clip(pcm.with_suffix(".json")),
        lambda pcm: (pcm.with_suffix(".json").unlink(), pcm.rename(pcm.with_name(pcm.name + ".part"))),
    ],
    ids=["cut", "empty", "gone", "zeros", "bit", "json-cut", "json-other", "json-gone", "json-renamed", "part"],
)
def test_damage_is_noticed_and_decoded_again(tmp_path, clips, damage, three_a_file):
    made(tmp_path, clips)
    names = {path.name for path in tmp_path.iterdir()}
    damage(pcm_files(tmp_path)[1])
    cache, said = made(tmp_path, clips)
    assert is_right(cache, clips)
    assert any("decoding  " in line for line in said)
    assert {path.name for path in tmp_path.iterdir()} == names
    assert not made(tmp_path, clips)[1]


def flip(pcm: Path) -> None:
    with pcm.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)[0]
        file.seek(1000)
        file.write(bytes([byte ^ 1]))


def rename_first_clip(file: Path) -> None:
    text = file.read_text()
    first = re.search(r"[0-9a-f]{64}", text)[0]
    file.write_text(text.replace(first, first[::-1]))


def test_a_copy_is_hashed_once_and_kept(tmp_path, clips, monkeypatch, three_a_file):
    made(tmp_path / "a", clips)
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "a").iterdir():
        (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
        os.utime(tmp_path / "b" / path.name, ns=(1, 1))
    monkeypatch.setattr(pcmcache, "_decode_clip", None)
    cache, said = made(tmp_path / "b", clips)
    assert is_right(cache, clips)
    assert not said
    monkeypatch.setattr(pcmcache, "_sha256", None)
    assert is_right(made(tmp_path / "b", clips)[0], clips)


def test_other_files_of_the_folder_are_left_alone(tmp_path, clips):
    others = ["notes.json", "music.pcm", "0123.pcm.part", "readme"]
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / f"{'0' * 32}.pcm.part").write_text("a kill left this")
    made(tmp_path, clips)
    assert [name for name in others if (tmp_path / name).read_text() == "mine"] == others
    assert not (tmp_path / f"{'0' * 32}.pcm.part").exists()


def test_audio_that_is_not_the_manifests_is_refused(tmp_path):
    clips = clips_of(write_clips(tmp_path / "clips", [{} for _ in range(3)]))
    data = clips[1].path.read_bytes()
    clips[1].path.write_bytes(clips[0].path.read_bytes())
    with pytest.raises(ManifestError, match=r"test-001.flac: not the file of its manifest \(sha256"):
        made(tmp_path / "cache", clips)
    broken = b"fLaC" + bytes(1000)
    clips[1].path.write_bytes(broken)
    told = dataclasses.replace(clips[1], sha256=pcmcache.hashlib.sha256(broken).hexdigest())
    with pytest.raises(AudioError, match=r"test-001.flac"):
        made(tmp_path / "cache", [clips[0], told])
    clips[1].path.unlink()
    with pytest.raises(OSError, match=r"test-001.flac"):
        made(tmp_path / "cache", clips)
    clips[1].path.write_bytes(data)
    assert is_right(made(tmp_path / "cache", clips)[0], clips)


def test_a_disk_without_room_is_said_before_anything_is_decoded(tmp_path, clips):
    endless = [*clips, dataclasses.replace(clips[0], sha256="0" * 64, num_samples=10**14)]
    with pytest.raises(TrainingError, match=r"no room to decode 9 clips to .*: 200000.00 GB, .* GB free; free some"):
        made(tmp_path, endless)
    assert not pcm_files(tmp_path)


BUILD = """
import resource, signal, sys, time
from pathlib import Path
from curation.errors import exit_on_error
from training import pcmcache
from training.config import ManifestConfig
from training.data import read_clips

pcmcache._FILE_SAMPLES = 20_000
_, manifest, folder, limit, pause = sys.argv
if int(limit):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
decode = pcmcache._decode_clip

def slowly(clip, out):
    time.sleep(float(pause))
    return decode(clip, out)

pcmcache._decode_clip = slowly
clips = read_clips([ManifestConfig(manifest=manifest)], ["{title}"])
with exit_on_error():
    pcmcache.ensure_cache(Path(folder), clips, workers=1, say=print)
"""


def builder(manifest, folder: Path, *, limit: int = 0, pause: float = 0.0) -> subprocess.Popen:
    arguments = [str(manifest), str(folder), str(limit), str(pause)]
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, *arguments],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_full_disk_keeps_what_is_done(tmp_path, manifest, clips, three_a_file):
    process = builder(manifest, tmp_path, limit=30_000)  # bytes that a file may have: the second would have 37,044
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no space left for" in err
    assert "after 3 of 8 clips, which are kept; free 0.00 GB" in err
    assert "Traceback" not in err
    assert len(pcm_files(tmp_path)) == 1
    cache, said = made(tmp_path, clips)
    assert said[0].startswith("decoding  5 clips")
    assert is_right(cache, clips)


def wait_for(folder: Path, pattern: str) -> None:
    until = time.monotonic() + 60
    while not list(folder.glob(pattern)):
        assert time.monotonic() < until
        time.sleep(0.002)


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)


def test_a_kill_loses_one_file_at_most(tmp_path, manifest, clips, three_a_file):
    process = builder(manifest, tmp_path, pause=0.1)
    wait_for(tmp_path, "*.json")
    with pytest.raises(BlockingIOError):
        take_lock(tmp_path / ".lock")
    kill(process)
    assert process.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in pcm_files(tmp_path)}
    cache, said = made(tmp_path, clips)
    assert is_right(cache, clips)
    assert said[0].startswith(("decoding  5 clips", "decoding  3 clips"))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not list(tmp_path.glob("*.part"))


def test_one_waits_for_another_and_finds_what_it_has_done(tmp_path, clips):
    made(tmp_path / "done", clips)
    folder = tmp_path / "cache"
    folder.mkdir()
    said: list[str] = []
    with ThreadPoolExecutor() as pool:
        with take_lock(folder / ".lock"):
            waiting = pool.submit(ensure_cache, folder, clips, workers=0, say=said.append)
            while not said and not waiting.done():
                time.sleep(0.005)
            for path in [*(tmp_path / "done").glob("*.pcm"), *(tmp_path / "done").glob("*.json")]:
                shutil.copy2(path, folder)
            time.sleep(0.3)
            assert not waiting.done()
        assert is_right(waiting.result(timeout=60), clips)
    assert said == [f"data.pcm_cache: another process is decoding into {folder}; waiting for it"]


@pytest.mark.long
def test_many_kills_at_any_moment(tmp_path, manifest, clips, three_a_file):
    rng = np.random.default_rng(5)
    for number in range(10):
        folder = tmp_path / str(number)
        for _ in range(3):
            process = builder(manifest, folder, pause=0.02)
            wait_for(folder, ".lock")
            time.sleep(rng.uniform(0, 0.25))
            kill(process)
        cache, _ = made(folder, clips)
        assert is_right(cache, clips)
        assert not made(folder, clips)[1]
