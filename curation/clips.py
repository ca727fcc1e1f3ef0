"""One entry's audio to one FLAC: what a worker does, and the journal that keeps it from doing it twice.

``<out>/.work/<clip_id>.json`` is written after the FLAC and says what came out: what the manifest needs to know of the
sound, or why the file was dropped. It holds for a source file of the same bytes and the same version of the code that
listens; text, licence, duplicates and split are not in it, so changing them decodes nothing, and a limit that changes
decodes only what the old one had dropped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from curation.audio import AUDIO_VERSION, SAMPLE_RATE, ClipSound, UnusableAudioError, Written, decoder_notes_off, listen
from curation.filters import Drop, DropReason, Limits, check_sound, check_source_bytes
from curation.fingerprints import FINGERPRINT_VERSION, fingerprint
from curation.flac import Bits
from curation.journal import Heard, JournalEntry, Sound, read_journal, write_journal
from curation.storage import is_local, local_copy, put_whole, sha256_of, version_of

WORK_FOLDER = ".work"

_SLACK_S = 1.0
"""The decoder stops so much beyond the longest duration, which is judged to the sample after resampling."""
_BY_LIMITS = (DropReason.TOO_SHORT, DropReason.TOO_LONG, DropReason.TOO_LARGE, DropReason.SILENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTask:
    """What a worker needs to know."""

    clip_id: str
    source_file: Path | None
    """The audio as served; None where the source names no file."""
    shown: str
    """How a drop's detail calls that file; the same wherever its folder lies."""
    expected_bytes: int
    expected_sha256: str
    """As the source describes the file; -1 and "" where it does not."""
    out: Path
    """The folder of the manifest."""
    manifest: Path
    """Taken away before a FLAC that it may name is written again."""
    limits: Limits
    bits: Bits
    """Of the FLAC: 16 or 24."""

    @property
    def flac(self) -> Path:
        """Where the clip goes."""
        return self.out / audio_path_of(self.clip_id)

    @property
    def journal(self) -> Path:
        """Where its finished work is noted."""
        return self.out / WORK_FOLDER / f"{self.clip_id}.json"

    @property
    def code(self) -> str:
        """What the outcome depends on besides the source's bytes and the limits."""
        return f"{AUDIO_VERSION}; fingerprint {FINGERPRINT_VERSION}; {self.bits} bits"


def audio_path_of(clip_id: str) -> str:
    """Return a clip's audio_path."""
    return f"audio/{clip_id}.flac"


def recall(task: ClipTask) -> Sound | Drop | None:
    """Return a clip's finished work, or that its file is not there; None if there is work to do. Opens no audio.

    A source whose size and time of change are the journal's is taken to be the same. The FLAC is not looked at: a clip
    dropped as a duplicate keeps its journal and loses its FLAC.
    """
    if task.source_file is None:
        return Drop(DropReason.MISSING_AUDIO, "the source names no audio file")
    try:
        version = version_of(task.source_file)
    except FileNotFoundError as error:
        return _unreadable(task, error)
    except OSError:
        return None
    entry = _of_this_code(task)
    return _judged(task, entry) if entry is not None and entry.source_version == version else None


def finish(task: ClipTask) -> Sound | Drop:
    """Do one clip's work, or recall it if the source has the same bytes as before and the FLAC is there.

    Raises:
        OSError: If the out folder cannot be written, as on a full disk. Whatever is wrong with the source is a Drop.
    """
    try:
        return _finish(task)
    except Exception as error:
        if not isinstance(error, OSError):
            error.add_note(f"while at work on {task.clip_id}: {task.source_file}")
        raise


def _finish(task: ClipTask) -> Sound | Drop:
    assert task.source_file is not None, "recalled as missing"
    with contextlib.ExitStack() as stack:
        try:
            version = version_of(task.source_file)
            if not task.source_file.is_file():
                return _drop(task, DropReason.MISSING_AUDIO, "not a regular file")  # a pipe would make us wait for ever
            if too_large := check_source_bytes(task.limits, int(version[0])):
                return _drop(task, too_large.reason, too_large.detail)
            source = stack.enter_context(local_copy(task.source_file))
            source_sha256 = sha256_of(source)
        except OSError as error:
            return _unreadable(task, error)
        entry = _of_this_code(task)
        outcome: Sound | Drop | None = None
        if entry is not None and entry.source_sha256 == source_sha256:
            outcome = _judged(task, dataclasses.replace(entry, source_version=version))
        if outcome is None or (isinstance(outcome, Sound) and not has_flac(task, outcome)):
            outcome = _check_source(task, int(version[0]), source_sha256) or _convert(task, source, source_sha256)
    entry = JournalEntry(
        code=task.code,
        limits=dataclasses.asdict(task.limits),
        expected_sha256=task.expected_sha256,
        source_version=version,
        source_sha256=source_sha256,
        outcome=outcome,
    )
    write_journal(task.journal, entry)
    return outcome


def has_flac(task: ClipTask, sound: Sound) -> bool:
    """Return whether the clip's FLAC is there; by its size, since it is written whole or not at all."""
    try:
        return task.flac.stat().st_size == sound.flac_bytes
    except FileNotFoundError:
        return False


def _of_this_code(task: ClipTask) -> JournalEntry | None:
    entry = read_journal(task.journal)
    if entry is None or (entry.code, entry.expected_sha256) != (task.code, task.expected_sha256):
        return None
    return entry


def _judged(task: ClipTask, entry: JournalEntry) -> Sound | Drop | None:
    """Return what a journal's outcome is under the task's limits: what the work would come to, or None if unknown."""
    if too_large := check_source_bytes(task.limits, int(entry.source_version[0])):
        return _drop(task, too_large.reason, too_large.detail)
    if isinstance(entry.outcome, Sound):
        return _limited(task, entry.outcome) or entry.outcome
    if entry.limits == dataclasses.asdict(task.limits):
        return entry.outcome
    # A broken end that was met under a longer limit might lie behind a shorter one.
    was_as_short = entry.limits.get("max_duration_s", math.inf) <= task.limits.max_duration_s
    return entry.outcome if entry.outcome.reason not in _BY_LIMITS and was_as_short else None


def _limited(task: ClipTask, sound: Heard) -> Drop | None:
    drop = check_sound(task.limits, duration_s=sound.num_samples / SAMPLE_RATE, peak_dbfs=sound.heard_peak_dbfs)
    if drop is None:
        return None
    mix = "".join(f"; {done}" for done in sound.modifications if done.startswith("downmixed"))
    return _drop(task, drop.reason, drop.detail + (mix if drop.reason is DropReason.SILENT else ""))


def _check_source(task: ClipTask, size: int, sha256: str) -> Drop | None:
    if not task.expected_sha256 or sha256 == task.expected_sha256:
        return None
    if size == 0:
        return _drop(task, DropReason.EMPTY_AUDIO, "empty: 0 bytes")
    if size < task.expected_bytes:
        return _drop(task, DropReason.TRUNCATED, f"truncated: {size} bytes, the record says {task.expected_bytes}")
    problem = f"not the file that the record describes: sha256 is {sha256}, the record says {task.expected_sha256}"
    # A crawl takes a file of the right size to be stored: it fetches again what is not there.
    return _drop(task, DropReason.MISSING_AUDIO, f"{problem}; delete it and crawl again")


def _convert(task: ClipTask, source: Path, source_sha256: str) -> Sound | Drop:
    with contextlib.ExitStack() as stack:
        try:
            with decoder_notes_off():
                longest = task.limits.max_duration_s + _SLACK_S
                sound = stack.enter_context(listen(source, max_duration_s=longest))
        except UnusableAudioError as error:
            if error.reason is DropReason.TOO_LONG:
                return _drop(task, DropReason.TOO_LONG, f"too long: more than {task.limits.max_duration_s:g} s")
            return _drop(task, error.reason, error.problem)
        heard = Heard(
            pcm_sha256=sound.pcm_sha256,
            num_samples=sound.num_samples,
            heard_peak_dbfs=sound.peak_dbfs,
            source_sample_rate=sound.sample_rate,
            source_channels=sound.channels,
            source_subtype=sound.subtype,
            modifications=_modifications(sound),
        )
        if drop := _limited(task, heard):
            return drop
        written = _write(task, sound)
        scaled = [f"scaled: {written.gain_db:.2f} dB"] if written.gain_db else []
        return Sound(
            **dataclasses.asdict(heard) | {"modifications": heard.modifications + scaled},
            sha256=written.sha256,
            flac_bytes=written.size,
            source_sha256=source_sha256,
            fingerprint=fingerprint(sound.blocks()),
            peak_dbfs=written.peak_dbfs,
            rms_dbfs=written.rms_dbfs,
        )


def _write(task: ClipTask, sound: ClipSound) -> Written:
    if not is_local(task.out):
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / task.flac.name
            written = sound.write_flac(local, bits=task.bits)
            _retract(task)
            put_whole(task.flac, local)
            return written
    _retract(task)
    return sound.write_flac(task.flac, bits=task.bits)


def _retract(task: ClipTask) -> None:
    if task.flac.exists():
        task.manifest.unlink(missing_ok=True)


def _modifications(sound: ClipSound) -> list[str]:
    done = []
    if sound.missing:
        done.append(f"truncated: the source lacks the last {sound.missing:.2%} of its data")
    if sound.downmix:
        done.append(f"downmixed: {sound.downmix}")
    if sound.sample_rate != SAMPLE_RATE:
        done.append(f"resampled: {sound.sample_rate} to {SAMPLE_RATE} Hz")
    return done


def _drop(task: ClipTask, reason: DropReason, problem: str) -> Drop:
    return Drop(reason, f"{task.shown}: {problem}")


def _unreadable(task: ClipTask, error: OSError) -> Drop:
    """Return why a source cannot be read; raise again what is no fault of the source, such as a full temporary disk."""
    assert task.source_file is not None
    is_gone = isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError)
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    if is_full or not (is_gone or is_local(task.source_file)):
        raise error
    return _drop(task, DropReason.MISSING_AUDIO, error.strerror or "no such file")
