"""Writes synthesised sound effects and a catalogue of them, for the stand-in site to serve.

Writes ``<folder>/<id>.<ext>``: several sample rates, formats, one or two channels. The same count and seed give the
same bytes on every run, which takes a little care: WAV's float header holds the time, Ogg's a random number. A
catalogue of 100 clips or more has FAULTY clips among the good ones, so that a demo goes through every path of the
crawler and of the curation; each is listed in FAULTS_MADE and DEFECTS_MADE.
"""

from __future__ import annotations

import dataclasses
import io
import struct
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import typer

from curation.errors import WavTextError, exit_on_error
from demo.catalogue import Clip, write_catalogue
from demo.effects import FAMILIES as _FAMILIES
from demo.effects.family import Family
from demo.synthesis import Studio, Waveform
from demo.version import Version

FAMILIES: tuple[str, ...] = tuple(family.name for family in _FAMILIES)
"""Names of the families of effects."""

AUTHORS = (
    "Ada Quill",
    "Bo Tannery",
    "Cleo Marsh",
    "Dmitri Hollow",
    "Edda Fjord",
    "field_recorder_77",
    "Gus O'Reed",
    "Hana Brook",
    "Iñigo Vale",
    "The Foley Shed",
)
"""All invented."""

LICENSES = {
    "Attribution 3.0": 0.55,
    "Public Domain": 0.33,
    "Sampling Plus 1.0": 0.04,
    "Noncommercial 3.0": 0.04,
    "Personal Use Only": 0.04,
}
"""Label as SoundBible prints it, and its share of the clips."""

SAMPLE_RATES = (22_050, 32_000, 44_100, 48_000)

FORMATS: dict[tuple[tuple[str, str], ...], float] = {
    (("wav", "PCM_16"),): 0.38,
    (("wav", "PCM_24"),): 0.10,
    (("wav", "FLOAT"),): 0.08,
    (("wav", "PCM_16"), ("mp3", "MPEG_LAYER_III")): 0.14,
    (("mp3", "MPEG_LAYER_III"),): 0.10,
    (("flac", "PCM_16"),): 0.10,
    (("ogg", "VORBIS"),): 0.10,
}
"""The files a clip has (extension, and soundfile's name of the sample format), and its share of the clips."""

FAULTS_MADE = ("dead", "html", "empty", "busy", "busy", "busy", "no_description")
"""Faults of the site, one clip each: three are not stored by a crawl, the others are."""
DEFECTS_MADE = ("silent", "too_short", "duplicate_bytes", "duplicate_pcm", "no_text")
"""Faults of the material, one clip each, named as the reason curation drops it for. The site serves them."""
FAULTY = len(FAULTS_MADE) + len(DEFECTS_MADE)
"""How many clips of a catalogue are not as they should be: 12, in every catalogue of FAULTY_FROM clips or more."""
FAULTY_FROM = 100
MARKER = ".made-by-demo-sounds"
"""An empty file that says whose the folder is: what lies in it may be written anew."""
FIRST_ID = 10_001
"""Beyond the ids of both real sites, so that a demo's clips and real ones can share a training set."""


def write_sounds(folder: Path, *, count: int = 900, seed: int = 0) -> list[Clip]:
    """Write the audio files of a catalogue and return its clips, ids from FIRST_ID.

    The families take turns; within a family no choice of parameters comes again before all have come.

    Args:
        folder: Where the audio files go. Files of the same name are written anew.
        count: How many clips.
        seed: Decides everything: same count and seed, same bytes.

    Raises:
        ValueError: If count is below 1.
        WavTextError: If the folder holds what this did not make.
        OSError: If the folder cannot be written.
    """
    if count < 1:
        raise ValueError(f"count must be 1 or more, got {count}")
    claim_folder(folder)
    problems = _problems(count)
    choices = [_shuffled(family, seed, number) for number, family in enumerate(_FAMILIES)]
    clips: list[Clip] = []
    report = _Progress(count)
    for clip_id in range(1, count + 1):
        number, turn = (clip_id - 1) % len(_FAMILIES), (clip_id - 1) // len(_FAMILIES)
        choice = choices[number][turn % len(choices[number])]
        rng = np.random.default_rng((seed, clip_id))
        clips.append(_make(folder, _FAMILIES[number], choice, clip_id, rng, problem=problems.get(clip_id)))
        report.step(clip_id)
    for clip_id, problem in problems.items():
        if problem in ("duplicate_bytes", "duplicate_pcm"):
            clips[clip_id - 1] = _copy(folder, clips, clip_id, as_flac=problem == "duplicate_pcm")
    named = {name for clip in clips for name in clip.files.values()}
    for stale in folder.iterdir():  # of an earlier, larger set
        if stale.name not in named | {MARKER}:
            stale.unlink()
    return [dataclasses.replace(clip, id=FIRST_ID - 1 + clip.id) for clip in clips]


def claim_folder(folder: Path) -> None:
    """Make the folder for the audio files, or make sure that it is one of ours.

    Raises:
        WavTextError: If it holds what this did not make.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise WavTextError(f"{folder} holds files that demo.sounds did not make; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


def _problems(count: int) -> dict[int, str]:
    """Which clip has what wrong with it: spread evenly, never the first clips."""
    if count < FAULTY_FROM:
        return {}
    names = (*FAULTS_MADE, *DEFECTS_MADE)
    return {(n + 1) * count // (len(names) + 1): name for n, name in enumerate(names)}


def _shuffled(family: Family, seed: int, number: int) -> list[dict[str, str]]:
    choices = family.choices()
    order = np.random.default_rng((seed, 0, number)).permutation(len(choices))
    return [choices[n] for n in order]


def _make(
    folder: Path,
    family: Family,
    choice: dict[str, str],
    clip_id: int,
    rng: np.random.Generator,
    *,
    problem: str | None,
) -> Clip:
    sample_rate = int(rng.choice(SAMPLE_RATES))
    formats = list(FORMATS)[int(rng.choice(len(FORMATS), p=list(FORMATS.values())))]
    waveform = family.play(Studio(sample_rate, rng), choice)
    if problem == "silent":
        waveform = np.zeros_like(waveform)
    elif problem == "too_short":
        waveform = waveform[: round(0.05 * sample_rate)]
    if rng.random() < 0.35:
        waveform = np.stack([waveform, waveform * np.float32(rng.uniform(0.5, 0.9))], axis=1)
    files = {}
    for extension, subtype in formats:
        files[extension] = f"{clip_id:04}.{extension}"
        (folder / files[extension]).write_bytes(_encode(waveform, sample_rate, extension, subtype))
    has_text = problem != "no_text"
    return Clip(
        id=clip_id,
        title=family.title_of(choice) if has_text else "",
        description=family.describe(choice, rng) if has_text else "",
        tags=family.tags_of(choice) if has_text else (),
        author=AUTHORS[rng.integers(len(AUTHORS))],
        license=list(LICENSES)[int(rng.choice(len(LICENSES), p=list(LICENSES.values())))],
        audio=files if len(files) > 1 else next(iter(files.values())),
        fault=problem if problem in FAULTS_MADE else None,
    )


def _copy(folder: Path, clips: list[Clip], clip_id: int, *, as_flac: bool) -> Clip:
    """Give a clip the sound and the text of a 16-bit WAV before it, in the same or another container."""
    for other in reversed(clips[: clip_id - 1]):
        if other.fault is None and other.title and isinstance(other.audio, str) and other.audio.endswith(".wav"):
            source = folder / other.audio
            if soundfile.info(source).subtype == "PCM_16":
                break
    else:
        raise ValueError(f"no 16-bit WAV before clip {clip_id} to copy")
    for file in clips[clip_id - 1].files.values():
        (folder / file).unlink()
    name = f"{clip_id:04}.{'flac' if as_flac else 'wav'}"
    if as_flac:
        samples, sample_rate = soundfile.read(source, dtype="int16")
        (folder / name).write_bytes(_encode(samples, sample_rate, "flac", "PCM_16"))
    else:
        (folder / name).write_bytes(source.read_bytes())
    return dataclasses.replace(other, id=clip_id, audio=name, author=clips[clip_id - 1].author)


def _encode(samples: Waveform, sample_rate: int, extension: str, subtype: str) -> bytes:
    """Return a file's bytes, free of the clock and of chance."""
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format=extension.upper(), subtype=subtype)
    content = bytearray(file.getvalue())
    if subtype == "FLOAT" and (at := content.find(b"PEAK", 0, 256)) >= 0:
        content[at + 12 : at + 16] = bytes(4)  # name, size and version come first, then the time of writing
    if extension == "ogg":
        _number_pages(content)
    return bytes(content)


def _number_pages(content: bytearray) -> None:
    """Give an Ogg stream the serial number 1 in place of a random one, and its pages their new checksums (RFC 3533)."""
    at = 0
    while at < len(content):
        segments = content[at + 26]
        end = at + 27 + segments + sum(content[at + 27 : at + 27 + segments])
        content[at + 14 : at + 18] = struct.pack("<I", 1)
        content[at + 22 : at + 26] = bytes(4)
        content[at + 22 : at + 26] = struct.pack("<I", _ogg_checksum(content[at:end]))
        at = end


def _ogg_checksum(page: bytes | bytearray) -> int:
    checksum = 0
    for byte in page:
        checksum = (checksum << 8 & 0xFFFFFFFF) ^ _OGG_TABLE[checksum >> 24 ^ byte]
    return checksum


def _ogg_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table


_OGG_TABLE = _ogg_table()


class _Progress:
    """A line on stderr every few seconds."""

    def __init__(self, total: int) -> None:
        self._total, self._next = total, time.monotonic() + 3

    def step(self, done: int) -> None:
        if time.monotonic() >= self._next:
            print(f"sounds     {done} of {self._total}", file=sys.stderr, flush=True)
            self._next = time.monotonic() + 3


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(epilog="Example: python -m demo.sounds --out runs/site --count 900")
def main(
    out: Annotated[Path, typer.Option(help="Folder to write: audio/ and catalogue.jsonl.")],
    count: Annotated[int, typer.Option(min=1, help="How many clips.")] = 900,
    seed: Annotated[int, typer.Option(min=0, help="Same count and seed, same bytes.")] = 0,
    sheet: Annotated[Path | None, typer.Option(help="Also draw a log-mel spectrogram of each family (PNG).")] = None,
    family: Annotated[str | None, typer.Option(help="Let the sheet show every choice of this family.")] = None,
    version: Version = False,
) -> None:
    """Write synthesised sound effects and a catalogue that describes them."""
    if family is not None and family not in FAMILIES:
        raise typer.BadParameter(f"{family!r} is not one of {', '.join(FAMILIES)}", param_hint="--family")
    with exit_on_error():
        if (out / "catalogue.jsonl").exists() and not (out / "audio" / MARKER).is_file():
            raise WavTextError(f"{out / 'catalogue.jsonl'}: demo.sounds did not make this; choose another --out")
        claim_folder(out / "audio")
        (out / "catalogue.jsonl").unlink(missing_ok=True)  # it stands only while every file it names is whole
        clips = write_sounds(out / "audio", count=count, seed=seed)
        write_catalogue(out / "catalogue.jsonl", clips)
        faulty = FAULTY if count >= FAULTY_FROM else 0
        print(
            f"wrote      {len(clips)} clips of {len(FAMILIES)} families, {faulty} faulty    {out / 'catalogue.jsonl'}"
        )
        if sheet is not None:
            from demo.sheet import draw_sheet

            shown = draw_sheet(sheet, seed=seed, family=family)
            print(f"drew       {shown} spectrograms    {sheet}")


if __name__ == "__main__":
    app()
