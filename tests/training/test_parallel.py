"""Several processes, started by torchrun: the training of one process, resumable, and errors said once."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from curation.errors import ConfigError
from tests.training.clips import small_config, tone, write_clips
from training.checkpoint import load_checkpoint
from training.config import TrainConfig
from training.engine import train
from training.evaluate import evaluate_run
from training.parallel import choose_process_device
from training.recipe import to_yaml

SAME_EVERYWHERE = {
    "model": {
        "batch_norm": "frozen",
        "spec_augment": None,
        "cnn14": {"block_dropout": 0.0, "head_dropout": 0.0},
        "htsat": {"drop_path_rate": 0.0},
        "text": {"dropout": 0.0},
    }
}
"""No draws and no statistics of a process's own: what is left must not depend on their number."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    rows = [{"waveform": tone(150 * 1.3**number, 0.3 + 0.05 * number)} for number in range(13)]
    return write_clips(tmp_path_factory.mktemp("manifest"), [*rows, *({"split": "val"} for _ in range(3))])


def command(config: TrainConfig, folder: Path, processes: int = 2) -> list[str]:
    recipe = folder / f"{config.run.name}.yaml"
    recipe.write_text(to_yaml(config))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*torchrun, "-m", "training", str(recipe)]


def torchrun(config: TrainConfig, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(config, folder), capture_output=True, text=True, check=False, timeout=240)


def last(config: TrainConfig) -> dict:
    return load_checkpoint(config.run_folder / "checkpoints" / "last.pt")


def renamed(config: TrainConfig, name: str) -> TrainConfig:
    return dataclasses.replace(config, run=dataclasses.replace(config.run, name=name))


def test_two_processes_train_what_one_trains(tmp_path, manifest):
    val = [{"manifest": str(manifest), "splits": ["val"]}]
    config = small_config(
        tmp_path,
        manifest,
        data={"val": val, "workers": 1, "pcm_cache": str(tmp_path / "cache")},
        optimizer={"ema_decay": 0.5, "lr": 1e-3, "name": "adam"},
        run={"epochs": 2, "batch_size": 6, "log_every": 1, "chunk_size": 2},
        **SAME_EVERYWHERE,
    )
    done = torchrun(renamed(config, "two"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained in") == 1
    train(renamed(config, "one"))
    one, two = (last(renamed(config, name)) for name in ("one", "two"))
    assert one["step"] == two["step"] == 6  # 13 pairs in batches of 6: the third is filled up
    assert (len(one["random"]), len(two["random"])) == (1, 2)
    for name, tensor in one["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, rtol=2e-4, atol=2e-5, msg=name)
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("one", "two")]
    losses = [[json.loads(line)["loss"] for line in log if "loss" in line] for log in logs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(losses[1]) == 6
    scores = [[json.loads(line)["text_to_audio"] for line in log if '"val"' in line] for log in logs]
    assert scores[0] == scores[1]


def test_bad_settings_are_said_once(tmp_path, manifest):
    done = torchrun(small_config(tmp_path, manifest, run={"batch_size": 5}), tmp_path)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert "run.batch_size=5" in lines[0]
    assert "2 processes" in lines[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize("steps", [3, 5, 8])
def test_processes_killed_at_any_step_go_on_bit_for_bit(tmp_path, manifest, steps):
    config = small_config(tmp_path, manifest, run={"epochs": 6, "log_every": 1}, checkpoint={"every": 2})
    whole, killed = renamed(config, "whole"), renamed(config, "killed")
    assert torchrun(whole, tmp_path).returncode == 0
    process = subprocess.Popen(command(killed, tmp_path), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    log = killed.run_folder / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) >= steps):
        time.sleep(0.002)
    for pid in (process.pid, *_children(process.pid)):  # torchrun first, which would end the others more gently
        os.kill(pid, signal.SIGKILL)
    process.wait()
    _wait_for_the_lock(killed)
    assert steps - 3 <= last(killed)["step"] < 24
    done = torchrun(killed, tmp_path)
    assert done.returncode == 0, done.stderr
    left, right = last(whole), last(killed)
    assert all(torch.equal(right["model"][name], tensor) for name, tensor in left["model"].items())
    assert all(torch.equal(a["cpu"], b["cpu"]) for a, b in zip(left["random"], right["random"], strict=True))


def _children(pid: int) -> list[int]:
    """Return the processes that torchrun started, each of which leads a session of its own."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait_for_the_lock(config: TrainConfig) -> None:
    """Wait until processes killed by their group are gone, and with them their lock."""
    from training.runfolder import locked

    for _ in range(100):
        try:
            with locked(config.run_folder):
                return
        except ConfigError:
            time.sleep(0.05)


@pytest.mark.long
def test_one_process_killed_ends_the_others(tmp_path, manifest):
    config = small_config(tmp_path, manifest, run={"epochs": 400, "log_every": 1})
    process = subprocess.Popen(command(config, tmp_path), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    log = config.run_folder / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) >= 2):
        time.sleep(0.01)
    os.kill(_children(process.pid)[-1], signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode != 0
    assert last(config)["step"] >= 0
    assert "Traceback" not in stderr.split("ChildFailedError")[0] or "another process of this run ended" in stderr


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert choose_process_device(torch.device("cuda")) == torch.device("cuda", 2)
    assert choose_process_device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"run.device=cuda:1 is one GPU, and torchrun started 4 processes"):
        choose_process_device(torch.device("cuda", 1))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"4 processes here, and PyTorch finds 2 GPUs.*--nproc-per-node 2"):
        choose_process_device(torch.device("cuda"))


@pytest.mark.long
def test_the_scores_are_those_of_the_model_that_is_written(tmp_path, manifest):
    """With batch norm in training each process has statistics of its own, until they are shared."""
    val = [{"manifest": str(manifest), "splits": ["val"]}]
    config = small_config(tmp_path, manifest, data={"val": val}, run={"epochs": 2, "batch_size": 6})
    assert torchrun(config, tmp_path).returncode == 0
    state = last(config)
    scores = evaluate_run(config.run_folder, manifest, split="val").metrics
    assert scores.as_dict()["text_to_audio"] == state["best"]["text_to_audio"]
