"""Raw folders for curation's tests: real audio files with the records that a crawl would leave beside them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from crawler.items import CrawlRecord, record_file
from tests.support.audio import write_noise, write_tone

GOOD_ROW: dict[str, Any] = {
    "clip_id": "soundbible-1",
    "source": "soundbible",
    "source_id": "1",
    "origin": "soundbible",
    "origin_id": "1",
    "page_url": "http://127.0.0.1/1",
    "audio_url": "http://127.0.0.1/1.wav",
    "retrieved_at": "2026-01-02T03:04:05Z",
    "title": "Bell",
    "description": "A bell.",
    "tags": ["bell", "metal"],
    "captions": [],
    "labels": [],
    "fold": -1,
    "author": "Ann",
    "license": "cc-by-3.0",
    "license_url": "",
    "attribution": '"Bell" by Ann, CC BY 3.0',
    "audio_path": "audio/soundbible-1.flac",
    "sha256": "0" * 64,
    "pcm_sha256": "1" * 64,
    "duplicate_group": "soundbible-1",
    "sample_rate": 44_100,
    "num_samples": 22_050,
    "duration_s": 0.5,
    "peak_dbfs": -6.0,
    "rms_dbfs": -9.0,
    "source_sample_rate": 48_000,
    "source_channels": 2,
    "source_subtype": "PCM_16",
    "modifications": ["resampled: 48000 to 44100 Hz"],
    "split": "train",
}


def row(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a row that keeps every rule, or breaks those that the changes break."""
    ids = {"clip_id": f"soundbible-{number}", "source_id": str(number), "duplicate_group": f"soundbible-{number}"}
    return GOOD_ROW | ids | {"audio_path": f"audio/soundbible-{number}.flac"} | changes


def add_record(
    raw: Path, audio: Path | None, *, source: str = "soundbible", source_id: str = "1", **fields: Any
) -> Path:
    """Write the record of an audio file that lies in ``<raw>/<source>/audio``; without one, of a file that is not."""
    content = audio.read_bytes() if audio is not None else b"never stored"
    values: dict[str, Any] = {
        "source": source,
        "source_id": source_id,
        "page_url": f"http://127.0.0.1/{source}/{source_id}",
        "audio_url": f"http://127.0.0.1/{source}/{source_id}.wav",
        "audio_file": f"audio/{audio.name if audio is not None else 'gone.wav'}",
        "title": f"Sound {source_id}",
        "description": "A short sound.",
        "tags": ("Short", "sound"),
        "author": "Ann",
        "license": "cc-by-3.0",
        "license_raw": "Attribution 3.0",
        "license_url": "http://127.0.0.1/by",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "content_type": "audio/wav",
        "retrieved_at": "2026-01-02T03:04:05Z",
    }
    file = record_file(raw, source, source_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(CrawlRecord(**(values | fields)).to_json(), encoding="utf-8")
    return file


def add_tone(raw: Path, number: int, *, source: str = "soundbible", seconds: float = 0.2, **fields: Any) -> Path:
    """Write a tone of its own pitch with its record; return the audio file."""
    audio = write_tone(raw / source / "audio" / f"{number}.wav", seconds=seconds, freq=200.0 + 10 * number)
    add_record(raw, audio, source=source, source_id=str(number), **fields)
    return audio


def add_noises(raw: Path, count: int, *, seconds: float = 0.5) -> None:
    """Write noises that have to be resampled, with their records."""
    for number in range(count):
        audio = raw / "soundbible" / "audio" / f"{number}.wav"
        write_noise(audio, seconds=seconds, sample_rate=48_000, channels=2, seed=number)
        add_record(raw, audio, source_id=str(number))


def crawl_report(asked: int, failed: dict[str, int], **values: Any) -> str:
    """Return the text of a finished crawl's report, or of one that the values describe."""
    return json.dumps({"asked": asked, "failed": failed, "finish_reason": "finished", "error": ""} | values)


def contents(folder: Path) -> dict[str, bytes]:
    """Return what a reader finds in a manifest's folder: every file by its path, journal apart."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".work" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


def command(*arguments: str | Path) -> list[str]:
    """Return the command line that runs ``wavtext5k-curate`` in this interpreter."""
    return [sys.executable, "-m", "curation.cli", *map(str, arguments)]


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``wavtext5k-curate`` and return its exit code, stdout and stderr."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120, check=False, **options)


CAPTION_LIST = """view_link,download_link,title,description,fname,tags
https://bigsoundbank.com/detail-0001-dog.html,https://x/0001.wav,Dog,A dog barks - twice.,0001.wav,
https://bigsoundbank.com/detail-0002-cat.html,https://x/0002.wav,Cat,,0002.wav,
https://soundbible.com/3-Two-Dogs.html,https://x/3.wav,Two dogs, Two dogs growl. ,two dogs_0.wav,"['dog', 'growl']"
"""
"""A small WavText5K.csv."""
