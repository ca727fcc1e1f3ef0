"""The build's rival in benchmarks/curation.py: a process that decodes, resamples and encodes, and does nothing else.

    python -P benchmarks/_bare_curation.py flac LIST FOLDER
    python -P benchmarks/_bare_curation.py published LIST FOLDER

Reads LIST (a sound file a line) and writes each sound to a file of its own in FOLDER: mono by the mean of the
channels, at 44.1 kHz by soxr HQ, as 16-bit FLAC; or, as the published script did, as 24-bit WAV. That script called
librosa.load(file, sr=44100), which does just this: soundfile reads the whole file as float32, the channels' mean, soxr
HQ. Prints as JSON when the first file was begun, on the clock of the wall, and how many samples were written. No file
is checked, hashed, or waited for until it is on the disk.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import soundfile
import soxr

SAMPLE_RATE = 44_100
ROUTES = {"flac": (".flac", "PCM_16"), "published": (".wav", "PCM_24")}


def convert(source: Path, target: Path, *, subtype: str) -> int:
    """Write one sound and return how many samples it has."""
    waveform, sample_rate = soundfile.read(source, dtype="float32", always_2d=True)
    mono = waveform.mean(axis=1) if waveform.shape[1] > 1 else waveform[:, 0]
    if sample_rate != SAMPLE_RATE:
        mono = soxr.resample(mono, sample_rate, SAMPLE_RATE, "HQ")
    soundfile.write(target, mono, SAMPLE_RATE, subtype=subtype)
    return len(mono)


def main() -> None:
    """Convert every file of the list."""
    route, files, folder = sys.argv[1:]
    suffix, subtype = ROUTES[route]
    sources = [Path(line) for line in Path(files).read_text(encoding="utf-8").splitlines()]
    begun = time.time()
    samples = sum(convert(source, Path(folder, source.stem + suffix), subtype=subtype) for source in sources)
    print(json.dumps({"begun": begun, "samples": samples}))


if __name__ == "__main__":
    main()
