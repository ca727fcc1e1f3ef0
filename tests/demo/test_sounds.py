"""Synthesised sounds: the same bytes on every run, many shapes of file, and words that are true of what is heard."""

from __future__ import annotations

import re
import string
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from demo.effects import FAMILIES as EFFECTS
from demo.effects.family import SETTING, Family
from demo.sheet import log_mel
from demo.site import Clip, read_catalogue
from demo.sounds import (
    DEFECTS_MADE,
    FAMILIES,
    FAULTS_MADE,
    FAULTY,
    FAULTY_FROM,
    FIRST_ID,
    LICENSES,
    SAMPLE_RATES,
    write_sounds,
)
from demo.synthesis import Studio, Waveform

RATE = 44_100
BY_NAME = {family.name: family for family in EFFECTS}


def play(name: str, **choice: str) -> Waveform:
    return BY_NAME[name].play(Studio(RATE, np.random.default_rng(0)), {"setting": "close"} | choice)


def centroid(waveform: Waveform) -> float:
    """Return the mean frequency of the energy, Hz."""
    power = np.abs(np.fft.rfft(waveform)) ** 2
    return float((power * np.fft.rfftfreq(len(waveform), 1 / RATE)).sum() / power.sum())


def energy(waveform: Waveform, frame_s: float = 0.02) -> np.ndarray:
    """Return the energy of each frame."""
    frame = round(frame_s * RATE)
    frames: np.ndarray = waveform[: len(waveform) // frame * frame].reshape(-1, frame) ** 2
    return np.asarray(frames.sum(axis=1))


def onsets(waveform: Waveform) -> int:
    """Return how often the level jumps: by more than 10 dB over the quietest of the 80 ms before, near the loudest."""
    level = 10 * np.log10(energy(waveform) + 1e-9)
    level = np.maximum(level, level.max() - 40)
    is_up = [
        level[n] > level.max() - 12 and level[n] > level[max(0, n - 4) : n].min() + 10 for n in range(1, len(level))
    ]
    return int(
        sum(now and not before for before, now in zip([False, *is_up], is_up, strict=False))
        + (level[0] > level.max() - 12)
    )


def runs(waveform: Waveform, frame_s: float) -> int:
    """Return how many stretches within 10 dB of the loudest frame there are."""
    is_on = energy(waveform, frame_s) > 0.1 * energy(waveform, frame_s).max()
    return int((is_on & ~np.concatenate([[False], is_on[:-1]])).sum())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Clip]]:
    folder = tmp_path_factory.mktemp("sounds")
    return folder, write_sounds(folder, count=180, seed=3)


def test_there_are_enough_families_each_with_its_words() -> None:
    assert len(FAMILIES) >= 24
    assert len(set(FAMILIES)) == len(FAMILIES)
    for family in EFFECTS:
        assert len(set(family.sentences)) >= 3
        for sentence in (*family.sentences, family.title):
            named = {name for _, name, _, _ in string.Formatter().parse(sentence) if name}
            assert named == set(family.words), f"{family.name}: {sentence!r}"
        for values in family.words.values():
            assert len(values) >= 2
            phrases = [phrase for phrases in values.values() for phrase in phrases]
            assert len(set(phrases)) == len(phrases), f"{family.name}: one phrase for two values"


@pytest.mark.parametrize("family", EFFECTS, ids=FAMILIES)
def test_every_choice_of_a_family_sounds_and_reads_well(family: Family) -> None:
    for number, choice in enumerate(family.choices()):
        rng = np.random.default_rng(number)
        waveform = family.play(Studio(22_050, rng), choice)
        assert waveform.dtype == np.float32
        assert np.isfinite(waveform).all()
        assert 0.01 < np.abs(waveform).max() < 0.95
        assert 0.5 < len(waveform) / 22_050 < 4.5
        sentence = family.describe(choice, rng)
        assert re.fullmatch(r"[A-Z0-9][^{}]*[a-z]\.", sentence), sentence
        assert not re.search(r"\b[Aa] [aeiou]|  |\b(\w+) \1\b", sentence), sentence
        title = family.title_of(choice)
        assert title == title.strip()
        assert "  " not in title
        assert SETTING[choice["setting"]][0] in family.tags_of(choice) or choice["setting"] == "close"


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("bell", {"count": "2"}),
        ("siren", {"speed": "slow"}),
        ("alarm", {"speed": "slow"}),
        ("wind", {"motion": "steady"}),
        ("drips", {"speed": "slow"}),
        ("crickets", {"speed": "slow"}),
        ("frog", {"count": "1"}),
        ("owl", {"count": "1"}),
        ("clock", {"speed": "slow"}),
        ("telephone", {"count": "1"}),
        ("sonar", {"count": "1"}),
        ("bee", {"flight": "hovering"}),
        ("drum", {"speed": "slow"}),
    ],
)
def test_high_is_higher_than_low(name: str, other: dict[str, str]) -> None:
    assert centroid(play(name, pitch="high", **other)) > 1.4 * centroid(play(name, pitch="low", **other))


@pytest.mark.parametrize("size", [("dog", "size"), ("cat", "age"), ("engine", "size")])
def test_a_small_one_is_higher_than_a_big_one(size: tuple[str, str]) -> None:
    name, parameter = size
    other = {"cat": {"length": "long", "count": "1"}, "dog": {"count": "1"}, "engine": {"run": "idling"}}[name]
    assert centroid(play(name, **{parameter: "high"}, **other)) > 1.3 * centroid(
        play(name, **{parameter: "low"}, **other)
    )


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("dog", {"size": "low"}),
        ("dog", {"size": "high"}),
        ("frog", {"pitch": "low"}),
        ("owl", {"pitch": "high"}),
        ("laser", {"sweep": "falling"}),
        ("gunshot", {"gun": "pistol"}),
        ("gunshot", {"gun": "rifle"}),
        ("train horn", {"length": "short"}),
        ("cat", {"age": "low", "length": "short"}),
        ("thunder", {"kind": "crack"}),
        ("waves", {"strength": "crashing"}),
        ("knock", {"level": "loud", "door": "wood"}),
        ("bird", {"sweep": "rising"}),
        ("telephone", {"pitch": "high"}),
    ],
)
def test_what_is_counted_is_heard_as_often(name: str, other: dict[str, str]) -> None:
    for count in BY_NAME[name].words["count"]:
        waveform = play(name, count=count, **other)
        # a ring is made of the clapper's strokes, a croak of pulses: those are not what is counted
        heard = runs(waveform, 0.1) if name in ("telephone", "frog") else onsets(waveform)
        assert heard == int(count), f"{name} {count}"


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("alarm", {"pitch": "low"}),
        ("drum", {"pitch": "high"}),
        ("drips", {"pitch": "high"}),
        ("crickets", {"pitch": "low"}),
        ("clock", {"pitch": "high"}),
        ("heartbeat", {"level": "loud"}),
        ("footsteps", {"ground": "wood"}),
        ("typing", {"machine": "computer"}),
    ],
)
def test_fast_has_more_events_than_slow(name: str, other: dict[str, str]) -> None:
    per_second = {}
    for speed in ("slow", "fast"):
        waveform = play(name, speed=speed, **other)
        events = runs(waveform, 0.06) if name == "crickets" else onsets(waveform)
        per_second[speed] = events / len(waveform)
    assert per_second["fast"] > 1.8 * per_second["slow"]


@pytest.mark.parametrize("name", ["whistle", "creak", "laser", "bird"])
def test_rising_rises_and_falling_falls(name: str) -> None:
    other = {
        "whistle": {"length": "long"},
        "creak": {"speed": "slow"},
        "laser": {"count": "1"},
        "bird": {"count": "2"},
    }[name]
    for sweep, sign in (("rising", 1), ("falling", -1)):
        waveform = play(name, sweep=sweep, **other)
        if name in ("bird", "laser"):
            waveform = waveform[round(0.1 * RATE) : round((0.23 if name == "bird" else 0.38) * RATE)]
        heard = np.flatnonzero(np.abs(waveform) > 0.05 * np.abs(waveform).max())
        body = waveform[heard[0] : heard[-1]]
        first, last = centroid(body[: len(body) // 3]), centroid(body[-len(body) // 3 :])
        assert sign * (last - first) > 0.2 * min(first, last), f"{name} {sweep}"


@pytest.mark.parametrize(
    ("name", "parameter", "other", "more", "less"),
    [
        ("rain", "swell", {"amount": "heavy"}, "growing", "fading"),
        ("rain", "swell", {"amount": "light"}, "growing", "fading"),
        ("fire", "swell", {"size": "large"}, "growing", "fading"),
        ("applause", "swell", {"crowd": "large"}, "growing", "fading"),
        ("helicopter", "motion", {"speed": "slow"}, "approaching", "leaving"),
    ],
)
def test_growing_grows_and_fading_fades(name: str, parameter: str, other: dict[str, str], more: str, less: str) -> None:
    def change_db(value: str) -> float:
        level = energy(play(name, **{parameter: value}, **other))
        third = len(level) // 3
        return float(10 * np.log10(level[-third:].sum() / level[:third].sum()))

    assert change_db(more) > 10
    assert change_db(less) < -10


@pytest.mark.parametrize("family", EFFECTS, ids=FAMILIES)
def test_distant_is_quieter_and_duller_and_a_hall_rings_on(family: Family) -> None:
    choice = family.choices()[0]
    close, distant, hall = (
        family.play(Studio(RATE, np.random.default_rng(1)), choice | {"setting": setting}) for setting in SETTING
    )
    assert np.abs(distant).max() < 0.4 * np.abs(close).max()
    assert centroid(distant) < max(1.02 * centroid(close), 150)  # the blur cannot be duller than a heartbeat
    assert len(hall) > len(close) + 0.5 * RATE


def test_soft_is_quieter_than_loud() -> None:
    soft, loud = (play("knock", level=level, door="wood", count="2") for level in ("soft", "loud"))
    assert np.abs(soft).max() < 0.2 * np.abs(loud).max()


def test_a_family_is_known_by_its_sound_alone() -> None:
    """The nearest of other clips, by means and deviations of the log-mel bands, is mostly of the same family."""
    rows, labels = [], []
    for number, family in enumerate(EFFECTS):
        choices = [choice for choice in family.choices() if choice["setting"] == "close"]
        for seed in range(6):
            mel = log_mel(family.play(Studio(RATE, np.random.default_rng(seed)), choices[seed % len(choices)]))
            rows.append(np.concatenate([mel.mean(axis=1), mel.std(axis=1), np.abs(np.diff(mel)).mean(axis=1)]))
            labels.append(number)
    features = (np.array(rows) - np.mean(rows, axis=0)) / np.std(rows, axis=0)
    distance = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    right = np.array(labels)[distance.argmin(axis=1)] == np.array(labels)
    assert right.mean() > 0.8  # chance is 5 of 215


def test_same_seed_same_bytes_whenever(written: tuple[Path, list[Clip]], tmp_path: Path) -> None:
    folder, clips = written
    time.sleep(1.1)  # a float WAV has the second of its writing in it
    again = write_sounds(tmp_path / "again", count=180, seed=3)
    assert again == clips
    files = sorted(path.name for path in folder.iterdir())
    assert files == sorted(path.name for path in (tmp_path / "again").iterdir())
    assert {path.suffix for path in folder.glob("[!.]*")} == {".wav", ".mp3", ".flac", ".ogg"}
    for name in files:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    other = write_sounds(tmp_path / "other", count=12, seed=4)
    assert [clip.description for clip in other] != [clip.description for clip in clips[:12]]


def test_files_are_of_many_kinds_and_all_decode(written: tuple[Path, list[Clip]]) -> None:
    folder, clips = written
    assert {path.name for path in folder.glob("[!.]*")} == {file for clip in clips for file in clip.files.values()}
    kinds: Counter[object] = Counter()
    seconds = []
    for clip in clips:
        for file in clip.files.values():
            samples, sample_rate = soundfile.read(folder / file)
            info = soundfile.info(folder / file)
            assert len(samples) == info.frames > 0
            kinds.update([info.subtype, sample_rate, f"{info.channels} channels"])
            seconds.append(info.duration)
    for kind in ("PCM_16", "PCM_24", "FLOAT", "VORBIS", "MPEG_LAYER_III", "1 channels", "2 channels", *SAMPLE_RATES):
        assert kinds[kind] >= 5, kind
    assert 1.8 < np.mean(seconds) < 2.6
    assert {clip.license for clip in clips} == set(LICENSES)
    assert sum(len(clip.files) == 2 for clip in clips) >= 5


def test_faulty_clips_are_the_ones_that_are_stated(written: tuple[Path, list[Clip]]) -> None:
    folder, clips = written
    assert Counter(clip.fault for clip in clips if clip.fault) == Counter(FAULTS_MADE)
    assert len(FAULTS_MADE) + len(DEFECTS_MADE) == FAULTY == 12
    assert [clip.id for clip in clips] == list(range(FIRST_ID, FIRST_ID + 180))
    decoded = {clip.id: soundfile.read(folder / next(iter(clip.files.values()))) for clip in clips}
    assert sum(not samples.any() for samples, _ in decoded.values()) == 1
    assert sum(len(samples) < 0.1 * rate for samples, rate in decoded.values()) == 1
    assert sum(not clip.title and not clip.description and not clip.tags for clip in clips) == 1
    contents = Counter(path.read_bytes() for path in folder.iterdir())
    assert sorted(contents.values())[-2:] == [1, 2]
    first = {clip.files["wav"]: clip for clip in clips if "wav" in clip.files}
    as_wav = {decoded[clip.id][0].tobytes(): clip for clip in first.values() if clip.title}
    (flac,) = [clip for clip in clips if "flac" in clip.files and decoded[clip.id][0].tobytes() in as_wav]
    twin = as_wav[decoded[flac.id][0].tobytes()]
    assert (twin.title, twin.description) == (flac.title, flac.description)
    assert twin.id < flac.id


def test_a_small_catalogue_has_no_faulty_clip(tmp_path: Path) -> None:
    clips = write_sounds(tmp_path, count=FAULTY_FROM - 60, seed=0)
    assert all(clip.fault is None and clip.title and clip.description for clip in clips)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == len(list(tmp_path.iterdir()))
    with pytest.raises(ValueError, match="count must be 1 or more, got 0"):
        write_sounds(tmp_path, count=0)


def test_descriptions_are_many_and_never_of_another_choice(written: tuple[Path, list[Clip]]) -> None:
    _, clips = written
    descriptions = [clip.description for clip in clips if clip.description]
    assert len(set(descriptions)) > 0.95 * len(descriptions)
    for clip in clips:
        assert ("distant" in clip.tags) == clip.title.startswith("Distant")
        assert ("echoing" in clip.tags) == clip.title.startswith("Echoing")


def test_command_writes_a_catalogue_that_the_site_reads_and_a_sheet(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demo.sounds", "--out", str(tmp_path), "--count", "10", "--seed", "1"]
    sheet = tmp_path / "sheet.png"
    done = subprocess.run(
        [*command, "--sheet", str(sheet), "--family", "owl"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "wrote      10 clips of 36 families, 0 faulty" in done.stdout
    assert "drew       18 spectrograms" in done.stdout
    assert sheet.read_bytes().startswith(b"\x89PNG")
    clips = read_catalogue(tmp_path / "catalogue.jsonl")
    assert len(clips) == 10
    assert all((tmp_path / "audio" / file).is_file() for clip in clips for file in clip.files.values())
    done = subprocess.run([*command, "--family", "unicorn"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'unicorn' is not one of bell" in done.stderr
    (tmp_path / "file").write_text("")
    done = subprocess.run([*command[:4], str(tmp_path / "file" / "x")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")


def test_a_folder_that_something_else_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "0001.wav").write_bytes(b"mine")
    done = subprocess.run(
        [sys.executable, "-m", "demo.sounds", "--out", str(tmp_path), "--count", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "demo.sounds did not make" in done.stderr
    assert (tmp_path / "audio" / "0001.wav").read_bytes() == b"mine"


def test_a_smaller_set_takes_the_place_of_a_larger_one(tmp_path: Path) -> None:
    write_sounds(tmp_path, count=4, seed=0)
    clips = write_sounds(tmp_path, count=2, seed=1)
    names = {name for clip in clips for name in clip.files.values()}
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == names
