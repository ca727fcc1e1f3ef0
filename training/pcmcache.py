"""Clips decoded once, to be read through memory maps: a folder that any number of runs and manifests share.

``<name>.pcm`` holds the 16-bit samples of some clips, one after another, and ``<name>.json`` beside it which clips
those are (sha256 of the FLAC, samples, sha256 of the samples), and its size and time of modification. Both get their
names when they are whole, the .json last, and the name is a hash of the list: what a kill leaves behind is never taken
for sound, and the next run goes on after the last whole file (a kill costs 128 MiB of decoding at most).

A .pcm whose size and time are as noted is taken as it is, for hashing hundreds of gigabytes would hold up every start.
At any other size or time (cut off, copied, written to) its content decides: samples that hash as noted stay, and a file
with any others is removed and its clips decoded again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from crawler.items import open_whole, take_lock
from curation.audio import SAMPLE_RATE, read_clip
from curation.errors import ManifestError
from training.data import Clip
from training.runlog import Progress, TrainingError

Samples = npt.NDArray[np.int16]

_FILE_SAMPLES = 2**26
"""Of a .pcm at most (128 MiB), unless one clip has more."""
_STORED = np.dtype("<i2")
_OWN_FILES = re.compile(r"[0-9a-f]{32}\.(pcm|json)(\.part)?")


def read_pcm(clip: Clip, start: int, out: Samples) -> None:
    """Fill ``out`` with the 16-bit samples of a clip from ``start`` on, decoded from its FLAC; 24 bits are rounded.

    Raises:
        AudioError: If the file cannot be decoded, or is not mono at 44.1 kHz.
        ManifestError: If it ends before.
    """
    read = 0
    with suppress(soundfile.LibsndfileError), soundfile.SoundFile(os.fsencode(clip.path)) as file:
        is_clip = (file.samplerate, file.channels) == (SAMPLE_RATE, 1)
        if is_clip and file.frames < start + len(out):
            raise ManifestError(f"{clip.path}: ends before its manifest says ({clip.num_samples} samples)")
        if is_clip and file.subtype == "PCM_16":
            file.seek(start)
            read = len(file.read(out=out))
    if read < len(out):  # broken, which it will say, or of 24 bits, of which libsndfile would cut the last ones off
        waveform = read_clip(clip.path, start=start, num_samples=len(out))
        if len(waveform) < len(out):
            raise ManifestError(f"{clip.path}: ends before its manifest says ({clip.num_samples} samples)")
        out[:] = np.minimum(np.rint(waveform * 32_768), 32_767)


class PcmCache:
    """Decoded clips, see ``ensure_cache``. It can be sent to another process: files are mapped where they are read."""

    def __init__(self, files: Sequence[Path], places: npt.NDArray[np.int64]) -> None:
        """Hold where clips lie.

        Args:
            files: The .pcm files.
            places: For each clip (N, 3): which file, its first sample there, and how many it has.
        """
        self._files, self._places = files, places.tolist()
        self._maps: dict[int, Samples] = {}

    def read(self, clip: int, start: int, size: int) -> Samples:
        """Return samples of a clip, a view that must not be written to.

        Args:
            clip: Its number among the clips that the cache was made for.
            start: First sample.
            size: How many.

        Raises:
            ValueError: If the clip does not have them.
        """
        file, first, samples = self._places[clip]
        if not 0 <= start <= start + size <= samples:
            raise ValueError(f"samples {start} to {start + size} of a clip of {samples}")
        if file not in self._maps:
            self._maps[file] = np.asarray(np.memmap(self._files[file], dtype=_STORED, mode="r"))
        return self._maps[file][first + start : first + start + size]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}


def ensure_cache(folder: Path, clips: Sequence[Clip], *, workers: int, say: Callable[[str], None]) -> PcmCache:
    """Return a cache of clips, after decoding those that the folder does not hold.

    One process at a time decodes into a folder; another waits, and finds what the first has done.

    Args:
        folder: Made if it is missing. What it holds of other clips stays.
        clips: In the order in which the cache counts them.
        workers: Clips decoded at once; 0 is one.
        say: Prints a line.

    Raises:
        AudioError: If a clip cannot be decoded.
        ManifestError: If a clip is not the file or not of the length that its manifest says.
        TrainingError: If the disk has no room; what is done is kept.
        OSError: If the folder cannot be written to.
    """
    files = [file for file in _listed(folder) if file.is_as_noted()]
    if _missing(clips, files):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder, say):
            files = _cleared(folder, workers=workers, say=say)
            if missing := _missing(clips, files):
                files += _decode(folder, missing, workers=workers, say=say)
    place_of = {}
    for number, file in enumerate(files):
        first = 0
        for sha256, samples, _ in file.clips:
            place_of[sha256, samples] = number, first, samples
            first += samples
    places = np.array([place_of[clip.sha256, clip.num_samples] for clip in clips], dtype=np.int64)
    return PcmCache([file.pcm for file in files], places.reshape(-1, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A .pcm as its .json describes it."""

    pcm: Path
    size: int
    """Bytes."""
    mtime_ns: int
    clips: list[tuple[str, int, str]]
    """sha256 of the FLAC, samples, sha256 of the samples."""

    @property
    def json(self) -> Path:
        return self.pcm.with_suffix(".json")

    def is_as_noted(self) -> bool:
        """Return whether the .pcm has the size and time that were noted when it was whole."""
        try:
            found = self.pcm.stat()
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == (self.size, self.mtime_ns)

    def is_whole(self, workers: int) -> bool:
        """Return whether every sample is as it was noted, by reading them all."""
        if not self.pcm.is_file() or self.pcm.stat().st_size != self.size:
            return False
        samples = np.memmap(self.pcm, dtype=_STORED, mode="r")
        ends = np.cumsum([count for _, count, _ in self.clips])
        with ThreadPoolExecutor(max(workers, 1)) as pool:
            found = pool.map(_sha256, np.split(samples, ends[:-1]))
            return all(sha256 == noted for sha256, (_, _, noted) in zip(found, self.clips, strict=True))

    def note(self) -> _File:
        """Write the .json with the size and time that the .pcm has now."""
        stat = self.pcm.stat()
        noted = replace(self, size=stat.st_size, mtime_ns=stat.st_mtime_ns)
        with open_whole(self.json, "w") as whole:
            json.dump({"size": noted.size, "mtime_ns": noted.mtime_ns, "clips": noted.clips}, whole)
        return noted


def _listed(folder: Path) -> list[_File]:
    """Return what the .json files of a folder describe, whether or not it is so."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
            noted = json.loads(path.read_bytes())
            clips = [(str(flac), int(samples), str(pcm)) for flac, samples, pcm in noted["clips"]]
            if path.stem == _name(clips):
                file = path.with_suffix(".pcm")
                found.append(_File(pcm=file, size=int(noted["size"]), mtime_ns=int(noted["mtime_ns"]), clips=clips))
    return found


def _missing(clips: Sequence[Clip], files: Sequence[_File]) -> list[Clip]:
    """Return the clips that no file holds, each content once."""
    held = {(flac, samples) for file in files for flac, samples, _ in file.clips}
    wanted = {(clip.sha256, clip.num_samples): clip for clip in clips}
    return [clip for key, clip in wanted.items() if key not in held]


@contextmanager
def _alone_in(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes from decoding into a folder; waits for one that does."""
    is_said = False
    while True:
        try:
            lock = take_lock(folder / ".lock")
            break
        except BlockingIOError:
            if not is_said:
                say(f"data.pcm_cache: another process is decoding into {folder}; waiting for it")
            is_said = True
            time.sleep(0.2)
    with lock:
        yield


def _cleared(folder: Path, *, workers: int, say: Callable[[str], None]) -> list[_File]:
    """Return the whole files of a folder, after removing what a kill left behind, and what is damaged."""
    kept = []
    for file in _listed(folder):
        if file.is_as_noted():
            kept.append(file)
        elif file.is_whole(workers):
            kept.append(file.note())
        else:
            say(f"data.pcm_cache: {file.pcm} is not as it was written; its {len(file.clips)} clips are decoded again")
    whole = {path for file in kept for path in (file.pcm, file.json)}
    for path in folder.iterdir():
        if path not in whole and _OWN_FILES.fullmatch(path.name):
            path.unlink()
    return kept


def _decode(folder: Path, clips: Sequence[Clip], *, workers: int, say: Callable[[str], None]) -> list[_File]:
    """Write clips into new files."""
    needed, free = 2 * sum(clip.num_samples for clip in clips), shutil.disk_usage(folder).free
    words = f"{len(clips)} clips to {folder}: {_gigabytes(needed)}, {_gigabytes(free)} free"
    if needed > free:
        raise TrainingError(
            f"data.pcm_cache: no room to decode {words}; free some, name a folder on another disk, or set "
            "data.pcm_cache= to decode FLAC at every visit"
        )
    say(f"decoding  {words}")
    progress = Progress(total=len(clips), done=0, unit="clip", label="decoding")
    files: list[_File] = []
    try:
        with ThreadPoolExecutor(max(workers, 1)) as pool:
            for group in _groups(clips):
                pcm = np.empty(sum(clip.num_samples for clip in group), _STORED)
                parts = np.split(pcm, np.cumsum([clip.num_samples for clip in group])[:-1])
                hashes = []
                for sha256 in pool.map(_decode_clip, group, parts):
                    hashes.append(sha256)
                    progress.advance()
                files.append(_written(folder, group, hashes, pcm))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        done = sum(len(file.clips) for file in files)
        raise TrainingError(
            f"data.pcm_cache: no space left for {folder} after {done} of {len(clips)} clips, which are kept; free "
            f"{_gigabytes(needed - sum(file.size for file in files))}, and run the same command again"
        ) from error
    finally:
        progress.close()
    return files


def _groups(clips: Sequence[Clip]) -> Iterator[list[Clip]]:
    """Yield the clips of one file after another."""
    group: list[Clip] = []
    for clip in clips:
        if group and sum(each.num_samples for each in group) + clip.num_samples > _FILE_SAMPLES:
            yield group
            group = []
        group.append(clip)
    yield group


def _decode_clip(clip: Clip, out: Samples) -> str:
    """Fill ``out`` with a clip and return the sha256 of its samples."""
    found = hashlib.sha256(clip.path.read_bytes()).hexdigest()
    if found != clip.sha256:
        raise ManifestError(
            f"{clip.path}: not the file of its manifest (sha256 {found[:12]}, there {clip.sha256[:12]}); build the "
            "manifest again, or bring its audio folder"
        )
    read_pcm(clip, 0, out)
    return _sha256(out)


def _written(folder: Path, clips: Sequence[Clip], hashes: Sequence[str], pcm: Samples) -> _File:
    listed = [(clip.sha256, clip.num_samples, sha256) for clip, sha256 in zip(clips, hashes, strict=True)]
    file = _File(pcm=folder / f"{_name(listed)}.pcm", size=0, mtime_ns=0, clips=listed)
    with open_whole(file.pcm) as whole:
        whole.write(pcm.data)
    return file.note()


def _name(clips: Sequence[tuple[str, int, str]]) -> str:
    return hashlib.sha256(json.dumps(list(map(list, clips))).encode()).hexdigest()[:32]


def _sha256(samples: Samples) -> str:
    return hashlib.sha256(samples.data).hexdigest()


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
