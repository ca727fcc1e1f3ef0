"""An index of clips of every kind, hostile texts among them, and the page that serves it over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.audio import to_pcm, write_flac
from curation.manifest import write_manifest
from retrieval.building import build_index
from retrieval.index import Index
from retrieval.web.app import make_app
from tests.curation.support import row
from tests.support.webserver import running_server
from training.models.clap import Clap

SAMPLE_RATE = 44_100
NUM_TONES = 12
"""Clips soundbible-1 to soundbible-12: tones, of which every second is tagged "even"."""
HOSTILE, TURNED, ENDLESS, SILENT, GONE = (f"soundbible-{number}" for number in range(21, 26))
"""Markup in every text; a right-to-left override; 5,000 letters; no text at all; a clip whose file is gone."""
OTHER = "bigsoundbank-1"
"""In a manifest of its own."""
SCRIPT = "<script>alert(1)</script>"
FILE = "doors/<b>creak</b> & slam.wav"
TEXTS: dict[str, dict[str, Any]] = {
    HOSTILE: {
        "title": SCRIPT,
        "source_id": FILE,
        "description": '"><img src=x onerror=alert(2)>',
        "captions": ["</title></textarea>{{ 7 * 7 }}<svg onload=alert(3)>", "'; drop table clips; --"],
        "tags": ['"onmouseover="alert(4)', "<b>bold</b>", "a&b=c#d"],
        "author": '<a href="javascript:alert(5)">Eve</a>',
        "attribution": '"><script>alert(6)</script>',
        "license_url": "javascript:alert(7)",
        "page_url": " jAvAsCrIpT:alert(8)",
    },
    TURNED: {"title": "photo\u202egnp.exe", "author": "\u2066Mallory", "page_url": "http://[broken"},
    ENDLESS: {"title": "x" * 5000, "description": "word " * 1000, "tags": ["t" * 400, "y" * 250], "author": "z" * 500},
    SILENT: {"title": "", "description": "", "tags": [], "author": "", "attribution": "", "license": "unknown"},
    GONE: {"title": "Gone", "description": "Its file is removed.", "tags": ["lost"]},
}


def write_clip(folder: Path, clip_id: str, *, hertz: float, duration_s: float = 1.5, **texts: Any) -> dict[str, Any]:
    """Write a tone's FLAC and return its row."""
    num_samples = round(SAMPLE_RATE * duration_s)
    noise = np.random.default_rng(round(hertz)).normal(0, 0.02, num_samples)
    waveform = 0.3 * np.sin(2 * np.pi * hertz * np.arange(num_samples) / SAMPLE_RATE) + noise
    sha256 = write_flac(folder / "audio" / f"{clip_id}.flac", to_pcm(waveform.astype(np.float32))[0])
    source, _, source_id = clip_id.partition("-")
    measured = {"sha256": sha256, "num_samples": num_samples, "duration_s": num_samples / SAMPLE_RATE}
    ids = {"clip_id": clip_id, "source": source, "source_id": source_id, "duplicate_group": clip_id}
    return row(1) | ids | {"audio_path": f"audio/{clip_id}.flac"} | measured | texts


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two manifests."""
    first, second = (tmp_path_factory.mktemp("collection") / name for name in ("first", "second"))
    tones = [
        write_clip(
            first,
            f"soundbible-{number}",
            hertz=150 * number,
            duration_s=0.5 + 0.25 * number,
            title=f"Tone {number}",
            description=f"A steady tone, the {number}th of its kind.",
            tags=["tone", "even"] if number % 2 == 0 else ["tone"],
            page_url=f"https://sounds.example/{number}",
            license="cc0-1.0" if number <= 3 else "cc-by-3.0",
            split="test" if number == 1 else "train",
        )
        for number in range(1, NUM_TONES + 1)
    ]
    others = [
        write_clip(first, clip_id, hertz=2000 + 100 * place, **TEXTS[clip_id]) for place, clip_id in enumerate(TEXTS)
    ]
    write_manifest(first, tones + others)
    captions = [f"A bell rings {times} times." for times in ("two", "three", "four", "five")]
    write_manifest(second, [write_clip(second, OTHER, hertz=3000, title="", description="", captions=captions)])
    return [first, second]


@pytest.fixture(scope="session")
def index(run: Path, collection: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The index of both, one clip of which has lost its file since."""
    out = tmp_path_factory.mktemp("index") / "index"
    build_index(run, collection, out)
    (collection[0] / "audio" / f"{GONE}.flac").unlink()
    return Index.open(out)


@pytest.fixture(scope="session")
def model(index: Index) -> Clap:
    return index.load_model()


@pytest.fixture(scope="session")
def address(index: Index, model: Clap) -> Iterator[str]:
    """Where the page runs."""
    with running_server(make_app(index, model)) as found:
        yield found
