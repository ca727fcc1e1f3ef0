"""Fixtures: a folder of real audio files with a catalogue of clips, and a crawl as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from demo.site import Clip

FAST = ("-s", "DOWNLOAD_DELAY=0", "-s", "AUTOTHROTTLE_ENABLED=0", "-s", "CONCURRENT_REQUESTS_PER_DOMAIN=8")
"""Politeness off: the site is ours and stands on this machine."""

Crawl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one noise as noise.wav, noise.flac, noise.mp3, and two others as WAV."""
    folder = tmp_path_factory.mktemp("audio")
    random = np.random.default_rng(5)
    for name in ("noise", "hiss", "rain"):
        waveform = (0.2 * random.standard_normal(6_000)).astype(np.float32)
        soundfile.write(folder / f"{name}.wav", waveform, 8_000)
        soundfile.write(folder / f"{name}.flac", waveform, 8_000)
        soundfile.write(folder / f"{name}.mp3", waveform, 22_050)
    return folder


@pytest.fixture
def make_clip() -> Callable[..., Clip]:
    """Return a clip for the catalogue: make_clip(7, fault="dead")."""

    def make(number: int, **changes: Any) -> Clip:
        values: dict[str, Any] = {
            "title": f"Noise & Co. #{number}",
            "description": f"A “noise”, {number} < {number + 1} & more: café.",
            "tags": ("noise", "white  noise", "Café", "noise"),
            "author": "Zoë O'Neil",
            "license": "Attribution 3.0",
            "audio": {"wav": "noise.wav", "mp3": "noise.mp3", "flac": "noise.flac"},
        }
        return Clip(id=number, **(values | changes))

    return make


def command(spider: str, base_url: str, raw: Path, *options: str) -> list[str]:
    """Return the command line of a crawl."""
    return [sys.executable, "-m", "crawler.cli", spider, "--base-url", base_url, "--raw", str(raw), *FAST, *options]


@pytest.fixture
def crawl(tmp_path: Path) -> Crawl:
    """Run a crawl to its end in a process of its own: a reactor runs once a process."""

    def run(spider: str, base_url: str, *options: str, raw: Path | None = None) -> subprocess.CompletedProcess[str]:
        line = command(spider, base_url, raw or tmp_path / "raw", *options)
        return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, env=environment())

    return run


def environment() -> dict[str, str]:
    """Return an environment in which Python's warnings stay visible but a proxy does not come between."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def read_report(raw: Path, source: str) -> dict[str, Any]:
    """Return crawl_report.json."""
    report: dict[str, Any] = json.loads((raw / source / "crawl_report.json").read_text(encoding="utf-8"))
    return report


def read_records(raw: Path, source: str) -> dict[str, dict[str, Any]]:
    """Return source_id -> record without its date."""
    records = {}
    for path in (raw / source / "records").glob("*"):
        record = json.loads(path.read_text(encoding="utf-8"))
        del record["retrieved_at"]
        records[path.stem] = record
    return records
