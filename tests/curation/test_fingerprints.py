from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.audio import decoder_notes_off, load_waveform
from curation.errors import ManifestError
from curation.fingerprints import FINGERPRINT_VERSION, cross_near_same, find_near_same, fingerprint
from tests.support.audio import write_waveform

RATE = 44_100


def scene(seed: int, *, seconds: float = 4.0, events_per_s: float = 3.0) -> np.ndarray:
    """Return a made scene: knocks, hisses and notes at random times, over a faint hiss."""
    rng = np.random.default_rng(seed)
    waveform = rng.normal(0, 0.002, round(seconds * RATE))
    for _ in range(max(1, round(seconds * events_per_s))):
        length = min(round(rng.uniform(0.05, 0.5) * RATE), len(waveform))
        start = rng.integers(0, len(waveform) - length + 1)
        time = np.arange(length) / RATE
        if rng.random() < 0.5:
            event = np.convolve(rng.normal(0, 0.3, length), np.hanning(rng.integers(3, 60)) / 10, "same")
        else:
            partials = rng.uniform(200, 3_000) * np.array([1, 2.01, 3.03])
            event = sum(np.sin(2 * np.pi * partial * time) / (number + 2) for number, partial in enumerate(partials))
        waveform[start : start + length] += 0.3 * event * np.exp(-time * rng.uniform(3, 30))
    return (waveform / np.abs(waveform).max() * 0.8).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def pairs_of(sounds):
    found = find_near_same({clip_id: fingerprint([waveform]) for clip_id, waveform in sounds.items()})
    return {(near.clip_id, near.other_clip_id) for near in found}


OTHERS = {f"other-{seed}": fingerprint([scene(seed)]) for seed in range(100, 110)}

ORIGINAL = scene(1)


@pytest.mark.parametrize(
    ("name", "rate", "subtype"),
    [
        ("copy.mp3", 44_100, None),
        ("copy.mp3", 22_050, None),
        ("copy.ogg", 44_100, None),
        ("copy.ogg", 48_000, "OPUS"),
        ("copy.flac", 48_000, None),
        ("copy.wav", 16_000, "PCM_16"),
        ("copy.wav", 11_025, "PCM_16"),
        ("copy.wav", 44_100, "IMA_ADPCM"),
    ],
)
@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_a_copy_in_another_format_is_found(tmp_path, name, rate, subtype, gain):
    padded = np.concatenate([silence(0.333), ORIGINAL, silence(0.5)]) * gain
    copy = write_waveform(tmp_path / name, soxr.resample(padded, RATE, rate, "HQ"), sample_rate=rate, subtype=subtype)
    prints = {"original": fingerprint([ORIGINAL]), "copy": fingerprint([load_waveform(copy)]), **OTHERS}
    (near,) = find_near_same(prints)
    assert (near.clip_id, near.other_clip_id) == ("copy", "original")
    assert 0.6 < near.score <= 1
    assert near.offset_s == pytest.approx(0.333, abs=0.05)  # a codec's own delay comes on top
    assert 3.5 < float(near.detail.removesuffix(" s in common")) <= 4.1


@pytest.mark.parametrize(("start", "end"), [(0.0, 2.5), (1.4, 4.0), (0.7, 3.3)])
def test_a_cut_copy_is_found_where_it_was_cut(start, end):
    cut = ORIGINAL[round(start * RATE) : round(end * RATE)] * np.float32(0.5)
    (near,) = find_near_same({"a-whole": fingerprint([ORIGINAL]), "b-cut": fingerprint([cut]), **OTHERS})
    assert near.offset_s == pytest.approx(start, abs=0.03)
    assert near.detail == f"{end - start:.1f} s in common"


def test_stereo_turned_over_or_clipped_is_still_the_same():
    assert pairs_of({"a": ORIGINAL, "b": -ORIGINAL, "c": np.clip(2 * ORIGINAL, -0.9, 0.9)}) == {
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    }


@pytest.mark.parametrize("seconds", [0.1, 0.3, 1.0, 4.0])
def test_noises_of_one_kind_are_told_apart(seconds):
    size = round(seconds * RATE)
    white = {f"hiss {seed}": np.random.default_rng(seed).normal(0, 0.1, size) for seed in range(12)}
    dull = {f"roar {seed}": np.random.default_rng(seed + 50).normal(0, 0.1, size + 39) for seed in range(12)}
    dull = {name: np.convolve(waveform, np.hanning(40) / 8, "valid") for name, waveform in dull.items()}
    shots = {name + " dies away": waveform * np.exp(-np.arange(size) / 2_000) for name, waveform in white.items()}
    sounds = {name: waveform.astype(np.float32) for name, waveform in (white | dull | shots).items()}
    found = find_near_same({name: fingerprint([waveform]) for name, waveform in sounds.items()})
    # One noise under another envelope is the same noise, and may be found; nothing else.
    assert [near for near in found if near.clip_id.split()[1] != near.other_clip_id.split()[1]] == []


def test_one_rhythm_at_other_pitches_is_told_apart():
    time = np.arange(2 * RATE) / RATE
    beeps = {
        f"{pitch} Hz": (0.3 * np.sin(2 * np.pi * pitch * time) * (time % 0.5 < 0.2)).astype(np.float32)
        for pitch in (440, 480, 960, 1_000, 1_060, 2_000, 2_200)
    }
    assert pairs_of(beeps) == set()


def test_another_speed_and_another_take_are_not_found():
    faster = soxr.resample(ORIGINAL, RATE, RATE * 0.9, "HQ")
    backwards = ORIGINAL[::-1].copy()
    assert pairs_of({"a": ORIGINAL, "b": faster, "c": backwards}) == set()


@pytest.mark.parametrize("waveform", [silence(0), silence(2), np.full(RATE, 9e-5, np.float32)])
def test_silence_has_a_fingerprint_that_matches_nothing(waveform):
    packed = fingerprint([waveform])
    assert packed[0] == FINGERPRINT_VERSION
    assert find_near_same({"a": packed, "b": packed, "c": b"", "d": b""}) == []


@pytest.mark.parametrize("num_samples", [1, 255, 1_024, 4_410, 65_536, 65_537])
def test_a_sound_of_any_length_has_a_fingerprint(num_samples):
    packed = fingerprint([np.random.default_rng(0).normal(0, 0.1, num_samples).astype(np.float32)])
    assert packed[0] == FINGERPRINT_VERSION
    find_near_same({"a": packed, "b": packed})


NOISY = np.concatenate([silence(0.2), scene(7, seconds=3.3), silence(0.1)])


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, len(NOISY)), max_size=8))
def test_a_fingerprint_does_not_depend_on_the_blocks(cuts):
    assert fingerprint(np.split(NOISY, sorted(cuts))) == fingerprint([NOISY])


def test_a_fingerprint_of_tiny_blocks_is_the_same():
    assert fingerprint(np.array_split(NOISY, 5_000)) == fingerprint([NOISY])


def test_silence_around_a_sound_changes_nothing_but_where_it_begins():
    padded = np.concatenate([silence(10_240 / RATE), NOISY, silence(3)])
    one, other = fingerprint([NOISY]), fingerprint([padded])
    assert one[5:] == other[5:]
    assert int.from_bytes(other[1:5], "little") - int.from_bytes(one[1:5], "little") == 10


def test_a_long_sound_is_not_read_to_its_end():
    asked_for = []

    def blocks():
        for number in range(100_000):
            asked_for.append(number)
            yield np.random.default_rng(number).normal(0, 0.1, RATE).astype(np.float32)

    packed = fingerprint(blocks())
    assert len(asked_for) == 30
    assert len(packed) < 6_300


def test_a_sound_whose_fingerprint_changed_needs_another_version():
    # Made by integer arithmetic, so that it is the same everywhere.
    state, waveform = 1, np.zeros(3 * RATE, np.float32)
    for index in range(0, len(waveform), 7):
        state = state * 1_103_515_245 + 12_345 & 0x7FFF_FFFF
        waveform[index] = (state >> 15) / 65_536 if index // 9_000 % 2 else (state >> 20) / 65_536
    packed = fingerprint([waveform])
    assert (packed[0], hashlib.sha256(packed).hexdigest()[:16]) == (1, "78df2e687b115740")


PRINTS = {
    "c": fingerprint([scene(1)]),
    "a": fingerprint([scene(2)]),
    "e": fingerprint([scene(1)[20_000:]]),
    "b": fingerprint([np.concatenate([silence(0.71), scene(2) * np.float32(0.3)])]),
    "d": fingerprint([scene(3)]),
    "f": fingerprint([scene(1)[: 3 * RATE]]),
}


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(list(PRINTS)))
def test_the_order_of_the_clips_does_not_matter(order):
    found = find_near_same({clip_id: PRINTS[clip_id] for clip_id in order})
    assert found == find_near_same(PRINTS)
    assert [(near.clip_id, near.other_clip_id) for near in found] == [("a", "b"), ("c", "e"), ("c", "f"), ("e", "f")]


@settings(max_examples=15, deadline=None)
@given(split=st.permutations(list(PRINTS)), size=st.integers(0, len(PRINTS)))
def test_across_two_sets_are_the_pairs_of_one_set_that_lie_across(split, size):
    a, b = ({clip_id: PRINTS[clip_id] for clip_id in part} for part in (split[:size], split[size:]))
    across = {
        frozenset((near.clip_id, near.other_clip_id)): near.score
        for near in find_near_same(PRINTS)
        if (near.clip_id in a) != (near.other_clip_id in a)
    }
    found = cross_near_same(a, b)
    assert {frozenset((near.clip_id, near.other_clip_id)): near.score for near in found} == across
    assert all(near.clip_id in a and near.other_clip_id in b for near in found)
    turned = cross_near_same(b, a)
    assert sorted((near.other_clip_id, near.clip_id, -near.offset_s) for near in turned) == [
        (near.clip_id, near.other_clip_id, near.offset_s) for near in found
    ]


def test_a_clip_of_both_sets_is_found_under_its_own_name():
    found = cross_near_same({"x": PRINTS["a"]}, {"x": PRINTS["a"], "y": PRINTS["c"]})
    assert [(near.clip_id, near.other_clip_id, near.score, near.offset_s) for near in found] == [("x", "x", 1.0, 0.0)]


@pytest.mark.parametrize("sides", [({}, {}), ({"a": PRINTS["a"]}, {}), ({}, {"a": PRINTS["a"]})])
def test_an_empty_side_has_nothing_in_common(sides):
    assert cross_near_same(*sides) == []
    assert find_near_same(sides[0]) == []


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (bytes([2]) + PRINTS["a"][1:], "clip 'odd': its fingerprint is of version 2, this code reads 1; make it anew"),
        (bytes([0]), "clip 'odd': its fingerprint is of version 0, this code reads 1"),
        (PRINTS["a"][:1], r"clip 'odd': its fingerprint is damaged \(1 bytes\)"),
        (PRINTS["a"][:6], r"damaged \(6 bytes\)"),
        (PRINTS["a"][:-1], "damaged"),
        (PRINTS["a"] + b"\0", "damaged"),
        (PRINTS["a"][:-1] + b"\xff", "damaged"),
        (PRINTS["a"][:5] + b"\xff\xff" + PRINTS["a"][7:], "damaged"),
    ],
)
def test_a_fingerprint_of_another_version_or_a_damaged_one_is_refused(packed, message):
    for clips in ({"odd": packed}, {"a": PRINTS["a"], "odd": packed}):
        with pytest.raises(ManifestError, match=message):
            find_near_same(clips)
    with pytest.raises(ManifestError, match=message):
        cross_near_same({"a": PRINTS["a"]}, {"odd": packed})


@settings(max_examples=100, deadline=None)
@given(packed=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(packed):
    with contextlib.suppress(ManifestError):
        assert len(find_near_same({"a": packed, "b": packed})) <= 1


def real_prints(folder):
    root = Path(os.environ["WAVTEXT5K_DATA"]) / folder
    with decoder_notes_off():
        return {
            str(path.relative_to(root)): fingerprint([load_waveform(path)])
            for path in root.rglob("*")
            if path.suffix in (".wav", ".mp3", ".ogg")
        }


@pytest.mark.skipif("WAVTEXT5K_DATA" not in os.environ, reason="WAVTEXT5K_DATA is not set")
def test_the_real_copies_among_soundbible_files_and_no_others():
    found = find_near_same(real_prints("soundbible/audio"))
    starts = "Click Foots Monst Power Reali Shotg Snowi Splat Sunny Swoos Ta_Da Water neck_ tolli"  # Shotgun: Mossberg
    assert [near.clip_id[:5].replace(" ", "_") for near in found] == starts.split()
    assert all(near.clip_id[:5].lower() == near.other_clip_id[:5].lower() for near in found)
    assert min(near.score for near in found) > 0.65


@pytest.mark.skipif("WAVTEXT5K_DATA" not in os.environ, reason="WAVTEXT5K_DATA is not set")
def test_of_the_real_look_alikes_of_esc10_only_one_is_a_copy():
    (near,) = find_near_same(real_prints("esc10"))
    # Two Freesound clips of one fire, correlated at 0.91 sample by sample.
    assert [Path(clip_id).name for clip_id in (near.clip_id, near.other_clip_id)] == ["2-28314-A.ogg", "2-30322-A.ogg"]
