"""One record's audio to one FLAC: what a worker does, and the journal that keeps it from doing it twice.

``<out>/.work/<clip_id>.json`` is written after the FLAC and says what came out: what the manifest needs to know of the
sound, or why the file was dropped. It holds for a source file of the same bytes, the same limits and the same version
of ``curation.audio``; text, licence, duplicates and split are not in it, so changing them decodes nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crawler.items import open_whole
from curation.audio import (
    AUDIO_VERSION,
    SAMPLE_RATE,
    Decoded,
    UnusableAudioError,
    decode,
    decoder_notes_off,
    levels_dbfs,
    resample,
    to_pcm,
    write_flac,
)
from curation.filters import Drop, DropReason, Limits, check_sound

WORK_FOLDER = ".work"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTask:
    """What a worker needs to know."""

    clip_id: str
    source_file: Path
    """The audio as served."""
    shown: str
    """How a drop's detail calls that file; the same wherever the raw folder lies."""
    expected_bytes: int
    expected_sha256: str
    """As the record describes the file."""
    out: Path
    """The folder of the manifest."""
    manifest: Path
    """Taken away before a FLAC that it may name is written again."""
    limits: Limits

    @property
    def flac(self) -> Path:
        """Where the clip goes."""
        return self.out / audio_path_of(self.clip_id)

    @property
    def journal(self) -> Path:
        """Where its finished work is noted."""
        return self.out / WORK_FOLDER / f"{self.clip_id}.json"

    @property
    def settings(self) -> str:
        """What the outcome depends on besides the source's bytes."""
        return f"{AUDIO_VERSION}; {json.dumps(dataclasses.asdict(self.limits), sort_keys=True)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """What the manifest says about a finished clip's sound; names as in its columns."""

    sha256: str
    flac_bytes: int
    source_sha256: str
    pcm_sha256: str
    num_samples: int
    peak_dbfs: float
    rms_dbfs: float
    source_sample_rate: int
    source_channels: int
    source_subtype: str
    modifications: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """What the journal says about one clip."""

    settings: str
    expected_sha256: str
    source_stat: list[int]
    """Size in bytes and time of change in ns."""
    source_sha256: str
    outcome: Sound | Drop


_TYPES = {kind.__name__: typing.get_type_hints(kind) for kind in (Sound, Drop, JournalEntry)}


def audio_path_of(clip_id: str) -> str:
    """Return a clip's audio_path."""
    return f"audio/{clip_id}.flac"


def recall(task: ClipTask) -> Sound | Drop | None:
    """Return a clip's finished work, or None if there is none that still holds; opens no audio.

    A source whose size and time of change are the journal's is taken to be the same. The FLAC is not looked at: a clip
    dropped as a duplicate keeps its journal and loses its FLAC.
    """
    entry = _still_holding(task)
    if entry is None or entry.source_stat != _stat(task.source_file):
        return None
    return entry.outcome


def finish(task: ClipTask) -> Sound | Drop:
    """Do one clip's work, or recall it if the source has the same bytes as before and the FLAC is there.

    Raises:
        OSError: If the out folder cannot be written, as on a full disk. Whatever is wrong with the source is a Drop.
    """
    try:
        stat = _stat(task.source_file)
        if task.source_file.exists() and not task.source_file.is_file():
            return _drop(task, DropReason.MISSING_AUDIO, "not a regular file")  # reading a pipe would wait for ever
        if stat[0] > task.limits.max_bytes:
            return _drop(task, DropReason.TOO_LARGE, f"{stat[0]} bytes, more than {task.limits.max_bytes}")
        source_sha256 = _hash(task.source_file)
    except OSError as error:
        return _drop(task, DropReason.MISSING_AUDIO, error.strerror or str(error))
    entry = _still_holding(task)
    outcome = entry.outcome if entry is not None and entry.source_sha256 == source_sha256 else None
    if outcome is None or (isinstance(outcome, Sound) and not has_flac(task, outcome)):
        outcome = _check_source(task, stat[0], source_sha256) or _convert(task, source_sha256)
    _write_journal(task, outcome, stat, source_sha256)
    return outcome


def has_flac(task: ClipTask, sound: Sound) -> bool:
    """Return whether the clip's FLAC is there; by its size, since it is written whole or not at all."""
    return task.flac.is_file() and task.flac.stat().st_size == sound.flac_bytes


def _check_source(task: ClipTask, size: int, sha256: str) -> Drop | None:
    if sha256 == task.expected_sha256:
        return None
    if size == 0:
        return _drop(task, DropReason.EMPTY_AUDIO, "empty: 0 bytes")
    if size < task.expected_bytes:
        return _drop(task, DropReason.TRUNCATED, f"truncated: {size} bytes, the record says {task.expected_bytes}")
    problem = f"not the file that the record describes: sha256 is {sha256}, the record says {task.expected_sha256}"
    # A crawl takes a file of the right size to be stored: it fetches again what is not there.
    return _drop(task, DropReason.MISSING_AUDIO, f"{problem}; delete it and crawl again")


def _convert(task: ClipTask, source_sha256: str) -> Sound | Drop:
    try:
        with decoder_notes_off():
            decoded = decode(task.source_file, max_duration_s=task.limits.max_duration_s)
    except UnusableAudioError as error:
        return _drop(task, error.reason, error.problem)
    except OSError as error:
        return _drop(task, DropReason.MISSING_AUDIO, error.strerror or str(error))
    pcm, gain_db = to_pcm(resample(decoded.waveform, source_rate=decoded.sample_rate))
    peak_dbfs, rms_dbfs = levels_dbfs(pcm)
    if drop := check_sound(task.limits, duration_s=len(pcm) / SAMPLE_RATE, peak_dbfs=peak_dbfs):
        mixed = f", after the mean of {decoded.channels} channels" if decoded.channels > 1 else ""
        return _drop(task, drop.reason, drop.detail + (mixed if drop.reason is DropReason.SILENT else ""))
    if task.flac.exists():
        task.manifest.unlink(missing_ok=True)
    sha256 = write_flac(task.flac, pcm)
    return Sound(
        sha256=sha256,
        flac_bytes=task.flac.stat().st_size,
        source_sha256=source_sha256,
        pcm_sha256=decoded.pcm_sha256,
        num_samples=len(pcm),
        peak_dbfs=peak_dbfs,
        rms_dbfs=rms_dbfs,
        source_sample_rate=decoded.sample_rate,
        source_channels=decoded.channels,
        source_subtype=decoded.subtype,
        modifications=_modifications(decoded, gain_db),
    )


def _modifications(decoded: Decoded, gain_db: float) -> list[str]:
    done = []
    if decoded.missing:
        done.append(f"truncated: the source lacks the last {decoded.missing:.2%} of its data")
    if decoded.channels > 1:
        done.append(f"downmixed: mean of {decoded.channels} channels")
    if decoded.sample_rate != SAMPLE_RATE:
        done.append(f"resampled: {decoded.sample_rate} to {SAMPLE_RATE} Hz")
    if gain_db:
        done.append(f"scaled: {gain_db:.2f} dB")
    return done


def _drop(task: ClipTask, reason: DropReason, problem: str) -> Drop:
    return Drop(reason, f"{task.shown}: {problem}")


def _stat(file: Path) -> list[int]:
    try:
        stat = file.stat()
    except OSError:
        return [-1, 0]
    return [stat.st_size, stat.st_mtime_ns]


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _write_journal(task: ClipTask, outcome: Sound | Drop, stat: list[int], source_sha256: str) -> None:
    entry = {
        "settings": task.settings,
        "expected_sha256": task.expected_sha256,
        "source_stat": stat,
        "source_sha256": source_sha256,
        "sound" if isinstance(outcome, Sound) else "drop": dataclasses.asdict(outcome),
    }
    with open_whole(task.journal, "w") as file:
        json.dump(entry, file)


def read_journal(file: Path) -> JournalEntry | None:
    """Return a journal's entry, or None if there is none: no such file, or one that no build wrote or a hand edited."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    if _is_made_of(values.get("sound"), Sound):
        outcome: Sound | Drop = Sound(**values.pop("sound"))
    elif _is_made_of(values.get("drop"), Drop):
        drop = values.pop("drop")
        outcome = Drop(DropReason(drop["reason"]), drop["detail"])
    else:
        return None
    values["outcome"] = outcome
    return JournalEntry(**values) if _is_made_of(values, JournalEntry) else None


def _still_holding(task: ClipTask) -> JournalEntry | None:
    entry = read_journal(task.journal)
    if entry is None or (entry.settings, entry.expected_sha256) != (task.settings, task.expected_sha256):
        return None
    return entry


def _is_made_of(values: object, kind: type[Sound | Drop | JournalEntry]) -> bool:
    """Return whether values are a dictionary of a dataclass's fields, each of its type."""
    fields = _TYPES[kind.__name__]
    return (
        isinstance(values, dict)
        and values.keys() == fields.keys()
        and all(_is_a(values[name], field) for name, field in fields.items())
    )


def _is_a(value: object, kind: Any) -> bool:
    if kind is DropReason:
        return value in list(DropReason)
    if typing.get_origin(kind) is list:
        (inner,) = typing.get_args(kind)
        return isinstance(value, list) and all(type(item) is inner for item in value)
    return isinstance(value, kind) and not isinstance(value, bool)
