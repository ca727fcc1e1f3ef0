"""The demo, small: the whole job runs, its report holds what the contract names, a second run does nothing again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

SMALL = ("--count", "110", "run.epochs=1")


def run_demo(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo", "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("demo") / "a folder, with signs"
    return out, run_demo(out, *SMALL)


def test_the_report_holds_what_the_contract_names(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = demo
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((out / "report.json").read_text())
    assert report["asked"] == 110
    assert report["asked"] == report["stored"] + sum(report["failed"].values())
    assert report["stored"] == report["records"] == report["clips"] + sum(report["dropped"].values())
    assert report["clips"] == pq.read_metadata(out / "curated" / "manifest.parquet").num_rows
    assert report["hours"] > 0
    for way in ("text_to_audio", "audio_to_text"):
        for name in ("recall_at_1", "recall_at_5", "recall_at_10", "map_at_10"):
            assert 0 <= report[way][name] <= 1
            assert 0 < report["chance"][way][name] <= 1
    assert [sorted(query) for query in report["queries"]] == [["best", "text"]] * 3
    assert all(sorted(hit) == ["clip_id", "score", "title"] for query in report["queries"] for hit in query["best"])
    assert all(len(query["best"]) == 3 for query in report["queries"])
    assert set(report["seconds"]) >= {"crawl", "curate", "train", "evaluate"}


def test_the_screen_says_it_in_words(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = demo
    report_lines = done.stdout.splitlines()
    assert len(report_lines) < 50
    for word in ("asked", "stored", "dropped", "chance", "R@10", "mAP@10", "report.json", "report.png"):
        assert word in done.stdout


def test_a_second_run_does_no_finished_work_again(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = demo
    kept = [
        path
        for folder in ("site/audio", "raw/soundbible/audio", "raw/soundbible/records", "curated/audio", "index")
        for path in (out / folder).iterdir()
    ]
    kept += [out / "curated" / "manifest.parquet", out / "run" / "model" / "model.safetensors", out / "evaluation.json"]
    assert len(kept) > 200
    before = {path: path.stat().st_mtime_ns for path in kept}
    first = json.loads((out / "report.json").read_text())
    again = run_demo(out, *SMALL)
    assert again.returncode == 0, again.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    second = json.loads((out / "report.json").read_text())
    for key in ("records", "dropped", "clips", "text_to_audio", "queries", "asked", "stored", "failed"):
        assert first[key] == second[key]


def test_a_run_of_another_name_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demo", "--out", str(tmp_path / "out"), "run.name=mine"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "choose another --out instead" in done.stderr
    assert not (tmp_path / "out").exists()


def test_another_demos_folder_is_refused(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = demo
    command = [sys.executable, "-m", "demo", "--out", str(out), "--count", "111"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "another demo's sounds" in done.stderr


@pytest.mark.long
def test_the_whole_demo_learns(tmp_path: Path) -> None:
    """As make demo runs it, two minutes: held-out clips are found many times more often than by chance."""
    done = run_demo(tmp_path / "out")
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["held_out_clips"] >= 100
    for way in ("text_to_audio", "audio_to_text"):
        for name, times in (("recall_at_1", 5), ("map_at_10", 5), ("recall_at_10", 3)):
            assert report[way][name] >= times * report["chance"][way][name], (way, name)
