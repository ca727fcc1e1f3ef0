"""Trackers: TensorBoard's own reader finds what was written, also after a kill and a resume; a class of one's own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from curation.errors import ConfigError
from training.runlog import RunLog, read_log
from training.trackers import TENSORBOARD_FOLDER, check_trackers, open_trackers, scalars

VAL = {"clips": 3, "text_to_audio": {"recall_at_1": 0.25}, "audio_to_text": {"recall_at_1": 0.5}}


def shown(folder) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows of a run."""
    events = EventAccumulator(str(folder / TENSORBOARD_FOLDER))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_the_numbers_of_both_kinds(tmp_path):
    check_trackers(["tensorboard"])
    log = RunLog(tmp_path / "metrics.jsonl", trackers=open_trackers(["tensorboard"], tmp_path, step=0))
    log.write("train", step=10, epoch=1, loss=2.5, scale=14.0)
    log.write("val", step=20, epoch=2, **VAL)
    log.close()
    curves = shown(tmp_path)
    assert curves["train/loss"] == [(10, 2.5)]
    assert curves["val/text_to_audio/recall_at_1"] == [(20, 0.25)]
    assert curves["val/audio_to_text/recall_at_1"] == [(20, 0.5)]
    assert curves["train/epoch"] == [(10, 1.0)]


def test_after_a_kill_and_a_resume_tensorboard_shows_what_metrics_jsonl_holds(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from training.runlog import RunLog; from training.trackers import open_trackers\n"
        "folder, step = Path(sys.argv[1]), int(sys.argv[2])\n"
        "trackers = open_trackers(['tensorboard'], folder, step=step)\n"
        "log = RunLog(folder / 'metrics.jsonl', step=step, trackers=trackers)\n"
        "for at in range(step + 5, step + 25, 5): log.write('train', step=at, epoch=1, loss=at + step / 1000)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    for step in (0, 10):  # killed at step 20, goes on from the checkpoint of step 10
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(step)], check=False)
        assert done.returncode == -9
    expected = [(line["step"], pytest.approx(line["loss"])) for line in read_log(tmp_path / "metrics.jsonl")]
    assert [step for step, _ in expected] == [5, 10, 15, 20, 25, 30]
    assert expected[2][1] == 15.01
    assert shown(tmp_path)["train/loss"] == expected


OWN = """
class Lines:
    def __init__(self, folder, *, step):
        self.file = folder / "own.txt"
        self.note(f"opened at {step}")

    def note(self, text):
        with self.file.open("a") as file:
            file.write(text + "\\n")

    def write(self, kind, *, step, epoch, **values):
        self.note(f"{kind} {step} {epoch} {values}")

    def close(self):
        self.note("closed")


class Broken:
    def __init__(self, folder, *, step):
        raise RuntimeError("no key")
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch) -> str:
    (tmp_path / "own_tracker_of_a_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_tracker_of_a_test"


def test_a_class_of_ones_own(tmp_path, own_module):
    check_trackers([f"{own_module}:Lines"])
    log = RunLog(None, trackers=open_trackers([f"{own_module}:Lines"], tmp_path, step=7))
    log.write("train", step=8, epoch=1, loss=1.0)
    log.close()
    assert (tmp_path / "own.txt").read_text() == "opened at 7\ntrain 8 1 {'loss': 1.0}\nclosed\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:Lines", "'no_such_module:Lines' could not be imported"),
        ("own_tracker_of_a_test:Nothing", "has no attribute 'Nothing'.*must be tensorboard, or module:Class"),
        ("wandb", "'wandb' could not be imported"),
        (":", "':' could not be imported"),
    ],
)
def test_what_cannot_be_imported_is_refused(name, message, own_module):
    with pytest.raises(ConfigError, match=message):
        check_trackers([name])


def test_what_cannot_be_opened_is_refused(tmp_path, own_module):
    with pytest.raises(
        ConfigError, match=r"own_tracker_of_a_test:Broken' could not be opened \(RuntimeError: no key\)"
    ):
        open_trackers([f"{own_module}:Broken"], tmp_path, step=0)


def test_without_the_package_the_extra_is_named():
    code = (
        "import sys; sys.modules['tensorboard'] = None\n"
        "from training.trackers import check_trackers\n"
        "check_trackers(['tensorboard'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConfigError: run.trackers=[tensorboard] needs the tensorboard extra" in done.stderr
    assert "pip install 'wavtext5k[tensorboard]'" in done.stderr


def test_only_numbers_are_scalars():
    values = {"a": 1, "b": 0.5, "c": "text", "d": True, "e": None, "f": {"g": 2, "h": {"i": 3}}, "j": [1]}
    assert scalars("val", values) == {"val/a": 1, "val/b": 0.5, "val/f/g": 2, "val/f/h/i": 3}
