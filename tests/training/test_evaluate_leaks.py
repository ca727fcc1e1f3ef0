"""Leakage between what is evaluated and what a model was trained on, and what is said where it cannot be looked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import ManifestError
from curation.fingerprints import fingerprint
from curation.manifest import FINGERPRINTS_FILE, FINGERPRINTS_SCHEMA
from tests.training.clips import tone, write_clips
from tests.training.small_models import trained_on
from training.evaluate import list_hash
from training.leaks import Leakage, find_leaks


def chirp(start: float, seconds: float = 3.0):
    """Return a sound with enough in it for a fingerprint."""
    import numpy as np

    steps = [tone(start * (1 + 0.37 * ((7 * step) % 11)), seconds / 12) for step in range(12)]
    return np.concatenate(steps)


def with_fingerprints(folder: Path, sounds: dict[str, Any]) -> Path:
    rows = [{"clip_id": clip_id, "fingerprint": fingerprint([sound])} for clip_id, sound in sorted(sounds.items())]
    pq.write_table(pa.Table.from_pylist(rows, schema=FINGERPRINTS_SCHEMA), folder / FINGERPRINTS_FILE)
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> tuple[Path, Path]:
    """A training set, and a test set five of whose six clips are in it, each by another sign."""
    folder = tmp_path_factory.mktemp("sets")
    sounds = {f"test-00{number}": chirp(300 + 97 * number) for number in range(6)}
    train = [
        {
            "origin": "freesound",
            "origin_id": str(100 + n),
            "description": f"Text {n}.",
            "waveform": sounds[f"test-00{n}"],
        }
        for n in range(6)
    ]
    train[5] |= {"split": "val"}
    tests = {
        "other-origin": {"origin": "freesound", "origin_id": "101", "waveform": tone(5000, 1)},
        "other-sound": {"waveform": sounds["test-002"]},
        "other-near": {"waveform": 0.5 * sounds["test-003"]},
        "other-text": {"captions": ["Text 4."], "waveform": tone(6000, 1)},
        "other-words": {"captions": ["text 4!"], "waveform": tone(6500, 1)},
        "other-new": {"waveform": tone(7000, 1)},
        "other-val": {"origin": "freesound", "origin_id": "105", "waveform": tone(7500, 1)},
    }
    rows = [
        {"clip_id": clip_id, "source": "other", "split": "test", "description": f"About {clip_id}."} | row
        for clip_id, row in tests.items()
    ]
    a, b = write_clips(folder / "train", train), write_clips(folder / "test", rows)
    with_fingerprints(a, sounds)
    with_fingerprints(b, {clip_id: row["waveform"] for clip_id, row in tests.items()})
    return a, b


FOUND = {
    "other-origin": "same_origin",
    "other-sound": "same_sound",
    "other-near": "near_sound",
    "other-text": "same_text",
    "other-words": "same_words",
}


def evaluated(folder: Path, split: str = "test") -> dict[Path, list[str]]:
    rows = pq.read_table(folder / "manifest.parquet").to_pylist()
    return {folder: [row["clip_id"] for row in rows if row["split"] == split]}


def run_of(folder: Path, *data: dict[str, Any], **more: Any) -> Path:
    """Write what is read of a model here: its description."""
    (folder / "run").mkdir(exist_ok=True)
    (folder / "run" / "config.json").write_text(json.dumps({"data": list(data), **more} if data else more))
    (folder / "run" / "model.safetensors").touch()
    return folder / "run"


def test_each_clip_is_found_once_by_its_surest_sign(sets, tmp_path):
    train, test = sets
    found = find_leaks(run_of(tmp_path, trained_on(train, "train")), evaluated(test))
    assert dict(found.kind_of) == FOUND
    assert found.line() == (
        "5 of 7 clips are in training (1 by same_origin, 1 by same_sound, 1 by near_sound, 1 by same_text, 1 by "
        f"same_words), compared with {train} (train), 5 clips"
    )
    assert found.as_dict() == {
        "num_clips": 7,
        "leaked": 5,
        "by": {"same_origin": 1, "same_sound": 1, "near_sound": 1, "same_text": 1, "same_words": 1},
        "clip_ids": ["other-origin", "other-sound", "other-near", "other-text", "other-words"],
        "val": 0,
        "compared": [f"{train} (train), 5 clips"],
        "not_checked": [],
    }
    only = find_leaks(tmp_path / "run", {test: ["other-new"]})
    assert only.line() == f"none found, compared with {train} (train), 5 clips"
    both = find_leaks(run_of(tmp_path, trained_on(train, "train"), trained_on(train, "val")), evaluated(test))
    assert dict(both.kind_of) == FOUND | {"other-val": "same_origin"}


def test_the_training_clips_themselves(sets, tmp_path):
    train, _ = sets
    run = run_of(tmp_path, trained_on(train, "train"), trained_on(train, "val", role="val"))
    found = find_leaks(run, evaluated(train, "train"))
    assert set(found.kind_of.values()) == {"same_clip"}
    assert len(found.kind_of) == found.num_clips == 5
    found = find_leaks(run, evaluated(train, "val"))
    assert (len(found.kind_of), found.num_val) == (0, 1)
    assert "1 clips are of data.val, by which the checkpoint was chosen" in found.line()


def test_what_was_left_out_of_training_does_not_leak(sets, tmp_path):
    train, test = sets
    names = sorted(["freesound:101", "test-002"])
    file = tmp_path / "exclude.txt"
    file.write_text("\n".join(names))
    entry = {"role": "exclude", "files": [str(file)], "sha256": list_hash(names)}
    run = run_of(tmp_path, trained_on(train, "train"), entry)
    found = find_leaks(run, evaluated(test))
    assert set(found.kind_of) == set(FOUND) - {"other-origin", "other-sound"}
    assert found.not_checked == ()
    file.write_text("test-002")
    found = find_leaks(run, evaluated(test))
    assert "other-origin" in found.kind_of
    assert found.not_checked == (f"{file} as training read it: the list has changed",)
    file.unlink()
    found = find_leaks(run, evaluated(test))
    assert dict(found.kind_of) == FOUND
    assert "No such file" in found.not_checked[0]


def test_a_training_manifest_that_is_gone_is_said_and_may_be_named(sets, tmp_path):
    train, test = sets
    here = shutil.copytree(train, tmp_path / "here")
    entry = trained_on(here, "train")
    run = run_of(tmp_path, entry, init={"cnn14": {"path": "cnn14.pth"}, "text": {"path": "roberta"}})
    shutil.move(here, tmp_path / "moved")
    found = find_leaks(run, evaluated(test))
    assert found.line() == (
        f"not checked: {here} (train): nothing is there any more; say where it is with --train-manifest; "
        "what the weights had heard that cnn14 began from (cnn14.pth)"
    )
    assert not found.kind_of
    named = find_leaks(run, evaluated(test), train_manifests=[tmp_path / "moved"])
    assert dict(named.kind_of) == FOUND
    assert named.compared == (f"{here} (train), 5 clips",)
    (tmp_path / "moved" / FINGERPRINTS_FILE).unlink()
    bare = find_leaks(run, evaluated(test), train_manifests=[tmp_path / "moved"])
    assert set(bare.kind_of) == set(FOUND) - {"other-near"}
    assert f"near-same sound: no fingerprints.parquet beside {tmp_path / 'moved'}" in bare.not_checked
    with pytest.raises(ManifestError, match="no such manifest"):
        find_leaks(run, evaluated(test), train_manifests=[tmp_path / "nowhere"])


def test_a_manifest_that_has_changed_is_compared_and_said(sets, tmp_path):
    train, test = sets
    entry = trained_on(train, "train") | {"sha256": 64 * "0"}
    found = find_leaks(run_of(tmp_path, entry), evaluated(test))
    assert dict(found.kind_of) == FOUND
    assert found.not_checked == (
        f"{train} (train) as training read it: {train} now holds another version, which was compared",
    )
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.parquet").write_text("no")
    found = find_leaks(run_of(tmp_path, entry | {"manifest": str(tmp_path / "broken")}), evaluated(test))
    assert "not a whole Parquet file" in found.not_checked[0]


def test_a_model_that_does_not_say_what_it_was_trained_on(sets, tmp_path):
    train, test = sets
    for run in (run_of(tmp_path), None):
        found = find_leaks(run, evaluated(test))
        assert found.line().startswith("not checked: nothing says what the model was trained on; name it with --train")
        named = find_leaks(run, evaluated(test), train_manifests=[train])
        assert dict(named.kind_of) == FOUND | {"other-val": "same_origin"}
        assert named.compared == (f"{train} (all splits), 6 clips",)


def test_a_description_changed_by_hand_says_nothing(sets, tmp_path):
    _, test = sets
    for data in ([{"role": "train"}, "x"], {"role": "train"}, "x"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "config.json").write_text(json.dumps({"data": data, "init": "x"}))
        (tmp_path / "run" / "model.safetensors").touch()
        found = find_leaks(tmp_path / "run", evaluated(test))
        assert found.line().startswith("not checked: nothing says what the model was trained on")


def test_two_signs_from_two_manifests_count_once(sets, tmp_path):
    train, test = sets
    more = write_clips(
        tmp_path / "more", [{"clip_id": "more-1", "source": "more", "description": "About other-origin."}]
    )
    found = find_leaks(run_of(tmp_path, trained_on(more, "train"), trained_on(train, "train")), evaluated(test))
    assert dict(found.kind_of) == FOUND
    assert len(found.compared) == 2


def test_nothing_to_say_says_nothing():
    assert Leakage(num_clips=2, kind_of={}).line() == ""


def test_the_clips_that_chose_the_checkpoint_are_known_wherever_their_manifest_lies(sets, tmp_path):
    a, _ = sets
    moved = shutil.copytree(a, tmp_path / "moved")
    entries = [trained_on(a, "train"), trained_on(a, "val") | {"role": "val"}]
    gone = [entry | {"manifest": str(tmp_path / "gone")} for entry in entries]
    chosen_by = {moved: ["test-005"]}
    there = find_leaks(run_of(tmp_path, *entries), chosen_by)
    assert there.num_val == 1
    found = find_leaks(run_of(tmp_path, *gone), chosen_by, train_manifests=[moved])
    assert found.num_val == 1
    assert "of data.val" in found.line()
    lost = find_leaks(run_of(tmp_path, *gone), chosen_by)
    assert lost.num_val == 0
    assert "gone (val), by which the checkpoint was chosen: no manifest is there" in lost.line()
