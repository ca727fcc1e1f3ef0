"""The log of a run: lines that a kill cuts off, steps that come again, what is shown, who keeps quiet."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from training import runlog
from training.runlog import Meter, Progress, RunLog, TrainingError, duration, read_log, say, set_quiet


@pytest.fixture
def log(tmp_path) -> RunLog:
    return RunLog(tmp_path / "metrics.jsonl")


def set_clock(monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float]) -> None:
    """Give runlog a clock of its own: were time.monotonic replaced, threads of other tests would sleep by it too."""
    monkeypatch.setattr(runlog, "time", SimpleNamespace(monotonic=clock))


def step(meter: Meter, number: int, loss: float = 1.0, *, pairs: int = 4) -> None:
    meter.count(
        torch.tensor(loss), logit_scale=torch.tensor(0.0), lr=0.1, step=number, epoch=1 + number // 10, pairs=pairs
    )


def test_a_reopened_log_holds_the_lines_up_to_its_step(log):
    for number in (1, 2, 3):
        log.write("train", step=number, epoch=1, loss=float(number))
    with log.file.open("a") as file:
        file.write('null\n[1]\n{"step": "4"}\n{"kind": "train", "step": 4, "ep')
    RunLog(log.file, step=2).write("val", step=2, epoch=1, text_to_audio={"recall_at_1": 0.5})
    lines = [json.loads(line) for line in log.file.read_text().splitlines()]
    assert [(line["kind"], line["step"]) for line in lines] == [("train", 1), ("train", 2), ("val", 2)]
    assert lines[0] == {"kind": "train", "step": 1, "epoch": 1, "loss": 1.0}


def test_a_killed_run_leaves_whole_lines_and_one_that_is_passed_over(tmp_path):
    file = tmp_path / "metrics.jsonl"
    code = (
        "import sys; from pathlib import Path; from training.runlog import RunLog\n"
        "log = RunLog(Path(sys.argv[1]))\n"
        "for step in range(1, 10**9): log.write('train', step=step, epoch=1, text='x' * 3000)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(file)]) as process:
        while not file.exists() or file.stat().st_size < 200_000:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    whole = [line["step"] for line in read_log(file)]
    assert whole == list(range(1, len(whole) + 1))
    assert len(whole) > 50
    with file.open("a") as opened:  # as if it had been killed within a line
        opened.write('{"kind": "train", "st')
    assert [line["step"] for line in read_log(file)] == whole
    RunLog(file, step=whole[-1])
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == whole


def test_no_file_no_lines_and_no_error():
    log = RunLog(None)
    log.write("train", step=1, epoch=1)
    log.close()


class Remembers:
    def __init__(self) -> None:
        self.lines: list[dict] = []
        self.closed = 0

    def write(self, kind, *, step, epoch, **values):
        self.lines.append({"kind": kind, "step": step, "epoch": epoch, **values})

    def close(self):
        self.closed += 1


class Breaks(Remembers):
    def write(self, kind, *, step, epoch, **values):
        super().write(kind, step=step, epoch=epoch, **values)
        raise ConnectionError("no route to the server")

    def close(self):
        raise ConnectionError("still none")


def test_every_line_goes_to_the_trackers_and_one_that_fails_is_left_out(tmp_path, capsys):
    good, bad = Remembers(), Breaks()
    log = RunLog(tmp_path / "metrics.jsonl", trackers=[bad, good])
    log.write("train", step=1, epoch=1, loss=2.0)
    log.write("train", step=2, epoch=1, loss=1.0)
    log.close()
    assert good.lines == read_log(tmp_path / "metrics.jsonl")
    assert (len(good.lines), len(bad.lines), good.closed) == (2, 1, 1)
    said = capsys.readouterr().err
    assert said.count("Breaks failed (ConnectionError: no route to the server) and is left out; the run goes on") == 1
    log.close()
    assert good.closed == 1


def test_a_tracker_that_fails_to_close_is_said(capsys):
    RunLog(None, trackers=[Breaks()]).close()
    assert "Breaks failed (ConnectionError: still none)" in capsys.readouterr().err


def test_a_meter_averages_between_its_lines(log, monkeypatch):
    clock = iter(range(0, 1000, 2))
    set_clock(monkeypatch, lambda: float(next(clock)))
    meter = Meter(log, every=2, total=4, done=0)
    for number in (1, 2, 3, 4):
        list(meter.timed(iter(["batch"])))
        step(meter, number, loss=float(number), pairs=128)
    meter.close()
    first, second = read_log(log.file)
    assert [first["loss"], second["loss"]] == [1.5, 3.5]
    assert [first["step"], second["step"]] == [2, 4]
    assert first["scale"] == 1.0
    assert 0 < first["data_wait"] < 1
    # the clock ticks 2 s a look: each of four waits takes 2 s, and pairs_per_s is of the whole batch
    seconds = second["pairs_per_s"] and 2 * 128 / second["pairs_per_s"]
    assert second["data_wait"] == pytest.approx(8 / seconds, abs=0.01)


def test_a_pause_is_left_out_of_the_speed(log, monkeypatch):
    now = [0.0]
    set_clock(monkeypatch, lambda: now[0])
    meter = Meter(log, every=1, total=4, done=0)
    now[0] += 2
    with meter.paused():
        now[0] += 1000
    step(meter, 1, pairs=10)
    assert read_log(log.file)[0]["pairs_per_s"] == 5.0


@pytest.mark.parametrize(("loss", "saved", "message"), [(float("nan"), 3, "is of step 3"), (float("inf"), None, "inf")])
def test_a_loss_that_is_not_finite_ends_the_run(log, loss, saved, message):
    meter = Meter(log, every=100, total=4, done=0)
    with pytest.raises(TrainingError, match=r"step 7: the loss is .*lower optimizer\.lr.*run\.name") as caught:
        meter.check(torch.tensor(loss), 7, saved)
    assert message in str(caught.value)
    meter = Meter(log, every=1, total=4, done=0)
    with pytest.raises(TrainingError, match="step 1: the loss is"):
        step(meter, 1, loss)
    assert read_log(log.file) == []


def test_lines_come_every_few_seconds_at_first_and_every_minute_later(monkeypatch, capsys):
    now = [0.0]
    set_clock(monkeypatch, lambda: now[0])
    progress = Progress(total=10**6, done=1000, unit="step", label="training")
    times = []
    for _ in range(36_000):
        now[0] += 1
        progress.advance("loss 1.0")
        if said := capsys.readouterr().err:
            times.append(now[0])
            last = said
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert (times[0], gaps[0], gaps[-1]) == (5, 5, 60)
    assert gaps == sorted(gaps)
    # 36,000 steps took 36,000 s, and 963,000 are left
    assert last.startswith("training  step 3")
    assert "  loss 1.0  11 d " in last


def test_a_quiet_process_says_nothing_and_its_meter_works(log, capsys):
    set_quiet(True)
    try:
        say("hidden")
        meter = Meter(log, every=1, total=1, done=0)
        meter.progress._last -= 100
        step(meter, 1)
    finally:
        set_quiet(False)
    assert capsys.readouterr().err == ""
    assert len(read_log(log.file)) == 1
    say("shown")
    assert capsys.readouterr().err == "shown\n"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (47.99 * 3600, "47 h 59 min"),
        (48 * 3600, "2 d 00 h"),
        (76 * 3600, "3 d 04 h"),
    ],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_the_log_loads_without_torch(tmp_path: Path):
    code = "import sys, training.runlog, training.trackers; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
