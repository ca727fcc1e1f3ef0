"""Finds clips that sound the same though their samples differ: re-encoded, resampled, louder, padded, cut.

A fingerprint is a log-mel summary of the first 30 s from the first sound on, at most 6.2 KB, in two views of cells
-1, 0 or 1. *Bands*: 16 mel bands (100 to 4,500 Hz) every 23 ms, each above or below its own mean over 0.3 s and the
other bands; it sees when things happen. *Lines*: 128 narrow bins (108 to 4,240 Hz) every 0.37 s over 1.1 s, each
above or below its neighbours; it sees pitch and the grain of noise. Both leave out what look-alikes share and codecs
change: level, spectrum, decay. Two clips are near-same where both views agree at one alignment (``near_sound``).
Chromaprint is not used: it gives nothing for clips under 2 s, as half of 116 files of SoundBible are.

Of copies made of 371 real and synthesised sounds of 0.1 to 12 s, 95 to 98 % are found (MP3 and Ogg at 100 kbit/s,
16 kHz, other gain, padded), of those cut at both ends 97 % where 4 s are left, 90 % where 2 to 4 s are, half where
0.6 to 1 s is. **Not found:** another speed (2 % is too much) or pitch, another take, mixes, a part that begins after
the first 30 s, less than 0.2 s in common, most copies under much noise. **Found although no copy:** synthesised sounds
of one recipe, and very short noises with one resonance.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from curation.errors import ManifestError
from curation.near_sound import FRAMES_A_LINE, Cells, Views, candidate_pairs, compare

FINGERPRINT_VERSION = 1
"""First byte of every fingerprint: raise it when a cell comes out otherwise."""

HOP_S = 1_024 / 44_100
"""Seconds between two frames of bands."""

NUM_BANDS, NUM_LINES = 16, 128

Waveform = npt.NDArray[np.float32]
Spectra = npt.NDArray[np.float64]

_ROW, _PART = 16_384, 65_536  # samples: a row of lines; what is worked on at once, the processor's cache holds it
_MOST_PARTS = 20  # 29.7 s; what comes later is not listened to
_FIRST_SOUND = 1e-4  # of full scale: -80 dBFS; dither and the tail of a codec's silence lie below

_WINDOW, _HOP = 512, 256  # samples at 11,025 Hz; the squared sine windows of a hop of half add up to 1 at any time
_SINE_WINDOW = np.sin(np.pi * (np.arange(_WINDOW) + 0.5) / _WINDOW) * (np.sqrt(8) / _WINDOW / 16)
_BAND_EDGES = np.array([5, 9, 14, 20, 27, 34, 42, 52, 62, 74, 87, 102, 119, 138, 159, 182, 209])  # bins of 21.5 Hz, mel
_LINE_EDGES = np.concatenate([np.arange(5, 69), np.arange(69, 198, 2)])  # 64 single bins, then 64 pairs

_END = np.zeros(_HOP * 4, np.float32)  # the last window ends so far behind the last sample
_SILENT = 1e-6  # of the loudest frame: what lies under it at the end is cut off
_MASKED, _MASKED_FRAMES = 1e-4, 13  # under -40 dB of the loudest of 0.6 s, codecs keep nothing
_FAINTEST = 1e-10  # of full scale
_TREND_FRAMES, _TREND_LINES = 6, 6  # each side
_LARGEST_DB = 9.0  # counted in the spread; else one attack would hide all else
_SPREADS = 0.4  # a cell is 0 within this share of the spread...
_QUIET_BAND_DB, _QUIET_LINE_DB = 0.7, 1.0  # ...and within this in any case: less is rounding and coding noise

_NOTHING = Views(lead=0, bands=np.zeros((0, NUM_BANDS), np.int8), lines=np.zeros((0, NUM_LINES), np.int8))
_HEADER = struct.Struct("<BIH")  # version, frames before the first, number of frames
_FIVE_CELLS = 3 ** np.arange(5)
_CELLS_OF_BYTE = ((np.arange(3**5)[:, None] // _FIVE_CELLS) % 3 - 1).astype(np.int8)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearSame:
    """Two clips that sound the same."""

    clip_id: str
    other_clip_id: str
    score: float
    """The weaker view's agreement, 0 to 1: correlation of its cells over the part in common."""
    offset_s: float
    """What is at time t of the other clip is at t + offset_s of the first; to 0.02 s."""
    detail: str
    """How much they have in common, for a person to read."""


def fingerprint(blocks: Iterable[Waveform]) -> bytes:
    """Return the fingerprint of a sound: the same bytes however it is cut into blocks.

    All is reckoned in double precision and kept in three steps, so machines agree unless a cell lies within some
    1e-12 dB of a step; the samples themselves may differ more (another version of the resampler).

    Args:
        blocks: Float samples (S,), mono, at 44.1 kHz; those after the first 30 s of sound are not asked for.
    """
    start, bands, lines = _spectra(blocks)
    level = bands.sum(axis=1)
    heard = np.flatnonzero(level > max(level.max(initial=0) * _SILENT, _FAINTEST))
    if len(heard) == 0:
        return _pack(_NOTHING)
    num_frames = int(heard[-1]) + 1
    return _pack(
        Views(
            lead=start // 1_024,
            bands=_band_cells(bands[:num_frames]),
            lines=_line_cells(lines[: _num_rows(num_frames)]),
        )
    )


def find_near_same(fingerprints: Mapping[str, bytes]) -> list[NearSame]:
    """Return the pairs of clips that sound the same, each once, clip_id before other_clip_id, in that order.

    The order of the mapping does not matter. Clips whose bytes are empty have no fingerprint and match nothing.

    Raises:
        ManifestError: If a fingerprint was made by another version, or is none.
    """
    clip_ids = sorted(fingerprints)
    return _near_same([(clip_id, fingerprints[clip_id]) for clip_id in clip_ids], num_first=None)


def cross_near_same(a: Mapping[str, bytes], b: Mapping[str, bytes]) -> list[NearSame]:
    """Return the pairs of a clip of a (clip_id) and a clip of b (other_clip_id) that sound the same, in that order.

    Raises:
        ManifestError: If a fingerprint was made by another version, or is none.
    """
    clips = [(clip_id, side[clip_id]) for side in (a, b) for clip_id in sorted(side)]
    return _near_same(clips, num_first=len(a))


def _near_same(clips: list[tuple[str, bytes]], *, num_first: int | None) -> list[NearSame]:
    @lru_cache(maxsize=4_096)
    def views(number: int) -> Views:
        return _unpack(*clips[number])

    found = []
    lines = (views(number).lines for number in range(len(clips)))
    for one, other in candidate_pairs(lines, num_first=num_first):
        match = compare(views(one), views(other))
        if match is not None:
            found.append(
                NearSame(
                    clip_id=clips[one][0],
                    other_clip_id=clips[other][0],
                    score=round(match.score, 4),
                    offset_s=round(match.offset * HOP_S, 2),
                    detail=f"{match.frames * HOP_S:.1f} s in common",
                )
            )
    return found


def _parts(blocks: Iterable[Waveform]) -> Iterator[tuple[int, Waveform]]:
    """Yield the sound from its first sample on in parts of _PART samples, the last one whole rows long.

    With each comes the number of samples before the first sound.
    """
    skipped = num_parts = 0
    waiting = np.zeros(0, np.float32)
    for block in itertools.chain(blocks, [_END]):
        if not num_parts and not len(waiting):
            loud = np.abs(block) > _FIRST_SOUND
            begin = int(loud.argmax()) if loud.any() else len(block)
            skipped, block = skipped + begin, block[begin:]
        waiting = np.append(waiting, block)
        while len(waiting) >= _PART:
            yield skipped, waiting[:_PART]
            waiting, num_parts = waiting[_PART:], num_parts + 1
            if num_parts == _MOST_PARTS:
                return
    if len(waiting):
        yield skipped, np.pad(waiting, (0, -len(waiting) % _ROW))


def _spectra(blocks: Iterable[Waveform]) -> tuple[int, Spectra, Spectra]:
    """Return the power of each band in every frame, and of each line in every row, 1.0 for a sine at full scale.

    Returns:
        Samples before the first frame, bands (T, 16), lines (T / 16, 128).
    """
    bands, lines = [np.zeros((0, NUM_BANDS))], [np.zeros((0, NUM_LINES))]
    last, last_half = np.zeros(1, np.float32), np.zeros(1, np.float32)
    before = np.zeros(_HOP, np.float32)
    start = 0
    for skipped, part in _parts(blocks):
        start = skipped
        half = np.append(last_half, _halved(np.append(last, part)))
        waveform = np.append(before, _halved(half))
        last, last_half, before = part[-1:], half[-1:], waveform[-_HOP:]
        frames = np.lib.stride_tricks.sliding_window_view(waveform, _WINDOW)[::_HOP]
        spectrum = np.fft.rfft(frames * _SINE_WINDOW)
        power = spectrum.real**2 + spectrum.imag**2
        bands.append(np.add.reduceat(power, _BAND_EDGES, axis=1)[:, :-1])
        rows = power.reshape(-1, FRAMES_A_LINE, power.shape[1]).sum(axis=1)
        lines.append(np.add.reduceat(rows, _LINE_EDGES, axis=1)[:, :-1])
    return start, np.concatenate(bands), np.concatenate(lines)


def _halved(waveform: Waveform) -> Waveform:
    """Return a waveform at half the rate and 4 times the amplitude; what (1 2 1) folds back is the same in a copy."""
    pairs = waveform[:-1] + waveform[1:]
    halved: Waveform = pairs[:-1:2] + pairs[1::2]
    return halved


def _band_cells(bands: Spectra) -> Cells:
    """Return (T, 16) cells: each band above or below its trend over time and the other bands; silence around."""
    padded = _with_silence(bands, _TREND_FRAMES + 1)
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    around = _with_silence(smooth.sum(axis=1), _MASKED_FRAMES)
    loudest = np.lib.stride_tricks.sliding_window_view(around, 2 * _MASKED_FRAMES + 1).max(axis=1)
    decibels = _decibels(smooth, loudest[:, None])
    deviation = (decibels - _trend(decibels, _TREND_FRAMES))[_TREND_FRAMES:-_TREND_FRAMES]
    return _cells(deviation - deviation.mean(axis=1, keepdims=True), _QUIET_BAND_DB, axis=0)


def _line_cells(lines: Spectra) -> Cells:
    """Return (S, 128) cells: each line above or below its neighbours, over a row and half of those beside it."""
    padded = _with_silence(lines, 1)
    smooth = padded[1:-1] + (padded[:-2] + padded[2:]) / 2
    deviation = _decibels(smooth, smooth.max(axis=1, keepdims=True))
    deviation -= _trend(deviation.T, _TREND_LINES).T
    return _cells(deviation, _QUIET_LINE_DB, axis=1)


def _decibels(power: Spectra, loudest: Spectra) -> Spectra:
    decibels: Spectra = 10 * np.log10(np.maximum(power, np.maximum(loudest * _MASKED, _FAINTEST)))
    return decibels


def _trend(values: Spectra, each_side: int) -> Spectra:
    """Return the moving mean along the first axis, over fewer values at the ends."""
    sums = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=sums[1:])
    index = np.arange(len(values))
    begin, end = np.maximum(index - each_side, 0), np.minimum(index + each_side + 1, len(values))
    trend: Spectra = (sums[end] - sums[begin]) / (end - begin)[:, None]
    return trend


def _with_silence(values: Spectra, each_side: int) -> Spectra:
    """Return values with zeros before and behind them; np.pad takes as long as all the rest of a short clip."""
    padded = np.zeros((len(values) + 2 * each_side, *values.shape[1:]))
    padded[each_side : each_side + len(values)] = values
    return padded


def _cells(deviation: Spectra, quiet_db: float, *, axis: int) -> Cells:
    spread = np.sqrt(np.mean(np.clip(deviation, -_LARGEST_DB, _LARGEST_DB) ** 2, axis=axis, keepdims=True))
    step = np.maximum(_SPREADS * spread, quiet_db)
    cells: Cells = (deviation > step).astype(np.int8) - (deviation < -step).astype(np.int8)
    return cells


def _pack(views: Views) -> bytes:
    """Return a header and the cells, five to a byte, bands before lines."""
    cells = np.concatenate([views.bands.ravel(), views.lines.ravel()]) + 1
    fives = np.pad(cells, (0, -len(cells) % 5)).reshape(-1, 5)
    header = _HEADER.pack(FINGERPRINT_VERSION, views.lead, len(views.bands))
    return header + (fives @ _FIVE_CELLS).astype(np.uint8).tobytes()


def is_fingerprint(packed: bytes) -> bool:
    """Return whether bytes are a whole fingerprint of this version."""
    try:
        _unpack("", packed)
    except ManifestError:
        return False
    return bool(packed)


def _unpack(clip_id: str, packed: bytes) -> Views:
    if not packed:
        return _NOTHING
    if packed[0] != FINGERPRINT_VERSION:
        raise ManifestError(
            f"clip {clip_id!r}: its fingerprint is of version {packed[0]}, this code reads {FINGERPRINT_VERSION}; "
            "make it anew with: wavtext5k-curate build"
        )
    try:
        _, lead, num_frames = _HEADER.unpack_from(packed)
        num_bands = num_frames * NUM_BANDS
        num_lines = _num_rows(num_frames) * NUM_LINES
        codes = np.frombuffer(packed, np.uint8, offset=_HEADER.size)
        cells = _CELLS_OF_BYTE[codes].ravel()
        if len(codes) != -(-(num_bands + num_lines) // 5):
            raise ValueError
    except (struct.error, ValueError, IndexError):
        raise ManifestError(
            f"clip {clip_id!r}: its fingerprint is damaged ({len(packed)} bytes); "
            "make it anew with: wavtext5k-curate build"
        ) from None
    return Views(
        lead=lead,
        bands=cells[:num_bands].reshape(-1, NUM_BANDS),
        lines=cells[num_bands : num_bands + num_lines].reshape(-1, NUM_LINES),
    )


def _num_rows(num_frames: int) -> int:
    """Return how many rows of lines there are for so many frames."""
    return -(-num_frames // FRAMES_A_LINE)
