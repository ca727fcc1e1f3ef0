"""Training: it learns, resumes bit for bit after any end, refuses foreign run folders, and says what to change."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from curation.errors import ConfigError, ManifestError, WavTextError
from tests.training.clips import SAMPLE_RATE, small_config, tone, write_clips
from training.checkpoint import load_checkpoint
from training.config import ScheduleConfig, TrainConfig
from training.device import choose_device
from training.engine import train
from training.evaluate import evaluate_run
from training.loop import Loop
from training.metrics import DirectionMetrics, RetrievalReport
from training.models.clap import Clap
from training.models.text import roberta_config, text_model
from training.optim import learning_rate
from training.recipe import to_yaml
from training.runfolder import locked
from training.runlog import RunLog, TrainingError
from training.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    rows = [{"waveform": tone(150 * 1.4**number, 0.3 + 0.1 * number)} for number in range(10)]
    return write_clips(tmp_path_factory.mktemp("manifest"), [*rows, *({"split": "val"} for _ in range(3))])


def change(config: TrainConfig, section: str, **values) -> TrainConfig:
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def last(config: TrainConfig) -> dict:
    return load_checkpoint(config.run_folder / "checkpoints" / "last.pt")


def assert_equal(left, right, place="state") -> None:
    assert type(left) is type(right), place
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), place
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), place
        for key in left:
            assert_equal(left[key], right[key], f"{place}.{key}")
    elif isinstance(left, list):
        assert len(left) == len(right), place
        for i, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_equal(a, b, f"{place}[{i}]")
    else:
        assert left == right, place


def assert_same_end(one: TrainConfig, other: TrainConfig) -> None:
    """Weights, optimiser, schedule, random state and exported model are the same, bit for bit."""
    left, right = last(one), last(other)
    for state in (left, right):
        state.pop("config")
        state.pop("unlogged")  # depends on run.log_every
    assert_equal(left, right)
    files = [config.run_folder / "model" / "model.safetensors" for config in (one, other)]
    assert files[0].read_bytes() == files[1].read_bytes()


def train_lines(config: TrainConfig) -> list[dict]:
    lines = (config.run_folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_tiny_model_overfits_four_clips(tmp_path):
    rows = [
        {"waveform": tone(freq, 0.5), "title": title}
        for freq, title in zip((200, 500, 1200, 3000), "abcd", strict=True)
    ]
    config = small_config(
        tmp_path,
        write_clips(tmp_path / "clips", rows),
        run={"epochs": 60},
        data={"templates": ["{title}"], "gain_db": 0.0},
        model={"spec_augment": None},
    )
    result = train(config)
    assert result.steps == 60
    report = evaluate_run(result.folder, tmp_path / "clips", split="train").metrics
    assert report.text_to_audio.recall_at_1 == 1
    assert report.audio_to_text.recall_at_1 == 1


def test_a_run_leaves_what_the_contract_names(tmp_path, manifest):
    config = small_config(tmp_path, manifest, data={"val": [{"manifest": str(manifest), "splits": ["val"]}]})
    config = change(config, "run", log_every=1)
    result = train(config)
    assert {path.name for path in result.folder.iterdir()} == {"config.yaml", "metrics.jsonl", "checkpoints", "model"}
    assert (result.folder / "config.yaml").read_text() == to_yaml(config)
    assert {path.name for path in (result.folder / "checkpoints").iterdir()} == {"last.pt", "best.pt", "tokenizer"}
    lines = train_lines(config)
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "scale", "lr", "pairs_per_s", "data_wait", "epoch"} <= lines[0].keys()
    scores = [line for line in lines if line["kind"] == "val"]
    assert [score["step"] for score in scores] == [6]
    assert scores[0]["text_to_audio"].keys() == scores[0]["audio_to_text"].keys()
    assert result.best["text_to_audio"] == scores[0]["text_to_audio"]
    assert Clap.from_pretrained(result.folder).embed_text(["a tone"]).shape == (1, 16)


@pytest.mark.parametrize("steps", [3, 4])  # at the end of an epoch, and inside one
def test_six_steps_are_some_and_the_rest(tmp_path, manifest, steps):
    """Train 6 = train some, stop, train on; with dropout, drop path, masking, crops and gain all drawing numbers."""
    whole = small_config(tmp_path / "whole", manifest)
    train(whole)
    parts = small_config(tmp_path / "parts", manifest, checkpoint={"every": 100})
    stop_after(parts, steps)
    assert last(parts)["step"] == steps
    result = train(parts)
    assert (result.steps, result.was_finished) == (6, False)
    assert_same_end(whole, parts)


def test_chunks_and_averages_go_on_bit_for_bit(tmp_path, manifest):
    val = [{"manifest": str(manifest), "splits": ["val"]}]
    settings = {"optimizer": {"ema_decay": 0.9}, "run": {"chunk_size": 3}, "data": {"val": val}}
    whole = small_config(tmp_path / "whole", manifest, **settings)
    train(whole)
    parts = small_config(tmp_path / "parts", manifest, checkpoint={"every": 100}, **settings)
    stop_after(parts, 4)
    train(parts)
    assert_same_end(whole, parts)


def stop_after(config: TrainConfig, steps: int) -> None:
    """Train, press Ctrl-C when the line of a step is written, and expect the checkpoint."""

    class Pressing(RunLog):
        def write(self, kind, *, step, epoch, **values):
            super().write(kind, step=step, epoch=epoch, **values)
            if step == steps:
                os.kill(os.getpid(), signal.SIGINT)

    logged = change(config, "run", log_every=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.loop.RunLog", Pressing)
        with pytest.raises(KeyboardInterrupt):
            train(logged)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, manifest):
    whole = small_config(tmp_path / "whole", manifest, run={"epochs": 8})
    train(whole)
    killed = small_config(tmp_path / "killed", manifest, run={"epochs": 8, "log_every": 1}, checkpoint={"every": 3})
    (tmp_path / "recipe.yaml").write_text(to_yaml(killed))
    process = subprocess.Popen(
        [sys.executable, "-m", "training", str(tmp_path / "recipe.yaml")],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    log = killed.run_folder / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) >= 8):
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 6 <= last(killed)["step"] < 24
    result = train(killed)
    assert (result.steps, result.was_finished) == (24, False)
    assert_same_end(whole, killed)
    assert [line["step"] for line in train_lines(killed)] == list(range(1, 25))


def test_a_finished_run_does_nothing_again(tmp_path, manifest):
    config = small_config(tmp_path, manifest)
    train(config)
    before = {path: path.stat().st_mtime_ns for path in config.run_folder.rglob("*")}
    result = train(config)
    assert result.was_finished
    assert {path: path.stat().st_mtime_ns for path in config.run_folder.rglob("*")} == before
    (config.run_folder / "model" / "model.safetensors").unlink()
    assert not train(config).was_finished
    assert Clap.from_pretrained(config.run_folder).embed_dim == 16


def test_another_run_in_the_folder_is_refused(tmp_path, manifest):
    config = small_config(tmp_path, manifest)
    train(config)
    with pytest.raises(ConfigError, match=r"holds a run with optimizer.lr=0.002, this one has optimizer.lr=0.1; give"):
        train(change(config, "optimizer", lr=0.1))
    allowed = change(change(config, "checkpoint", every=7), "data", cache_mb=0)
    assert train(allowed).was_finished
    write_clips(manifest_copy := tmp_path / "copy", [{"title": "other words"} for _ in range(10)])
    moved = small_config(tmp_path, manifest_copy)
    with pytest.raises(
        ConfigError, match=r"holds a run on another version of .*copy \(sha256 \w{12}, now \w{12}\); give"
    ):
        train(moved)
    more = small_config(tmp_path, manifest, data={"val": [{"manifest": str(manifest), "splits": ["val"]}]})
    with pytest.raises(ConfigError, match=r"holds a run on other data \(train .* train, now train .* val .* val\)"):
        train(more)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"not a run folder \(it holds diary.txt\)"):
        train(change(config, "run", name="notes"))
    (config.run_folder / "checkpoints" / "last.pt").write_bytes(b"half")
    with pytest.raises(ConfigError, match=r"last.pt: damaged, or not a checkpoint of ours; remove .*run to begin anew"):
        train(config)


@pytest.mark.parametrize(
    ("sections", "error", "message"),
    [
        ({"run": {"batch_size": 11}}, ConfigError, "run.batch_size=11 is larger than the data set: 10 pairs"),
        ({"run": {"device": "cuda:9"}}, ConfigError, "run.device=cuda:9, but PyTorch finds no such GPU"),
        ({"run": {"precision": "bfloat16"}}, ConfigError, "bfloat16 is for a GPU"),
        ({"data": {"train": [{"manifest": "none"}]}}, ManifestError, "none"),
        ({"data": {"val": [{"manifest": "M", "splits": ["held"]}]}}, ConfigError, r"split 'held' has no clips"),
        ({"model": {"text": {"encoder": "roberta-base"}}}, ConfigError, "'roberta-base' could not be loaded"),
    ],
)
def test_bad_settings_stop_before_the_first_step(tmp_path, manifest, sections, error, message):
    sections = json.loads(json.dumps(sections).replace('"M"', json.dumps(str(manifest))))
    config = small_config(tmp_path, manifest, **sections)
    with pytest.raises(error, match=message):
        train(config)
    assert not config.run_folder.exists()


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, manifest):
    config = small_config(tmp_path, manifest, optimizer={"lr": 1e30, "clip_norm": 0.0}, schedule={"warmup_steps": 0})
    with pytest.raises(
        TrainingError, match=r"step \d: the loss is .*lower optimizer.lr.* last checkpoint is of step 0"
    ):
        train(config)
    assert all(tensor.isfinite().all() for tensor in last(config)["model"].values())


@pytest.mark.parametrize("lr", [1e38, 3e37])
def test_a_broken_model_is_never_taken_for_finished(tmp_path, manifest, lr):
    """One step an epoch: the only loss is that of the first weights. At 3e37 weights stay finite; embeddings do not."""
    config = small_config(
        tmp_path,
        manifest,
        run={"epochs": 1, "batch_size": 10},
        optimizer={"lr": lr, "clip_norm": 0.0, "weight_decay": 0.0},
        schedule={"warmup_steps": 0},
    )
    message = r"step 1: .* not finite; lower optimizer.lr.* last good checkpoint \(step 0\) stands"
    with pytest.raises(TrainingError, match=message):
        train(config)
    assert last(config)["step"] == 0
    assert not (config.run_folder / "model").exists()
    val = small_config(
        tmp_path,
        manifest,
        run={"name": "val", "epochs": 1, "batch_size": 10},
        data={"val": [{"manifest": str(manifest), "splits": ["val"]}]},
        optimizer={"lr": lr, "clip_norm": 0.0, "weight_decay": 0.0},
        schedule={"warmup_steps": 0},
    )
    with pytest.raises(TrainingError, match=message):
        train(val)
    assert not (val.run_folder / "checkpoints" / "best.pt").exists()


def test_a_second_training_in_the_folder_is_refused(tmp_path, manifest):
    config = small_config(tmp_path, manifest)
    with locked(config.run_folder), pytest.raises(ConfigError, match="another training is at work in this run folder"):
        train(config)
    assert not tmp_path.joinpath("run").exists()  # nothing was left in it
    train(config)
    with locked(config.run_folder), pytest.raises(ConfigError, match="wait for it to end, or give this one another"):
        train(config)
    assert train(config).was_finished
    assert not (config.run_folder / ".lock").exists()


@pytest.mark.parametrize("with_val", [True, False])
def test_a_damaged_model_of_a_finished_run_is_written_again(tmp_path, manifest, with_val):
    val = [{"manifest": str(manifest), "splits": ["val"]}] if with_val else []
    config = small_config(tmp_path, manifest, data={"val": val})
    train(config)
    folder = config.run_folder / "model"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (config.run_folder / "config.yaml").unlink()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
        train(config)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "model.safetensors").write_bytes(before["model.safetensors"][:-9])
    assert not train(config).was_finished
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert (config.run_folder / "config.yaml").read_text() == to_yaml(config)
    if with_val:
        (config.run_folder / "checkpoints" / "best.pt").unlink()
        (folder / "config.json").unlink()
        with pytest.raises(ConfigError, match=r"best.pt: missing; remove .*run to begin anew"):
            train(config)


def test_config_yaml_comes_first(tmp_path, manifest, monkeypatch):
    config = small_config(tmp_path, manifest)
    monkeypatch.setattr("training.checkpoint.save_checkpoint", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(config)
    assert (config.run_folder / "config.yaml").is_file()


def test_val_clips_that_are_training_clips_are_told(tmp_path, manifest, capsys):
    train(small_config(tmp_path, manifest, data={"val": [{"manifest": str(manifest)}]}, run={"epochs": 1}))
    assert "warning: 10 of 10 val clips are also training clips, the first is 'test-000'" in capsys.readouterr().err


def test_one_pair_is_too_few(tmp_path):
    config = small_config(tmp_path, write_clips(tmp_path / "one", [{}]))
    with pytest.raises(ConfigError, match="at least 2 pairs are needed"):
        train(config)


def test_strange_lines_in_the_log_are_left_out(tmp_path):
    kept = '{"kind": "train", "step": 1, "epoch": 1}\n'
    (tmp_path / "metrics.jsonl").write_text('5\n{"kind": "train", "step": null}\n' + kept + "[]\n")
    RunLog(tmp_path / "metrics.jsonl", step=1)
    assert (tmp_path / "metrics.jsonl").read_text() == kept


def test_out_of_memory_says_what_to_change(tmp_path, manifest, monkeypatch):
    def too_much(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("training.loop.contrastive_loss", too_much)
    with pytest.raises(TrainingError, match=r"out of memory with run.batch_size=4; set run.chunk_size=2"):
        train(small_config(tmp_path, manifest))


def test_other_errors_keep_their_traceback(tmp_path, manifest, monkeypatch):
    def wrong(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("training.loop.contrastive_loss", wrong)
    with pytest.raises(RuntimeError, match="a bug"):
        train(small_config(tmp_path, manifest))


def test_a_dead_reading_process_is_named(tmp_path, manifest, monkeypatch):
    monkeypatch.setattr("training.loading.PairDataset.read", lambda *_, **__: os._exit(1))
    with pytest.raises(TrainingError, match=r"a reading process died .*; lower data.workers and run again"):
        train(small_config(tmp_path, manifest, data={"workers": 1}))


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, manifest, monkeypatch):
    config = small_config(tmp_path, manifest, checkpoint={"every": 3})
    synced = os.fsync

    def full(descriptor: int) -> None:
        if (config.run_folder / "metrics.jsonl").exists():  # as is the first checkpoint by then
            raise OSError(errno.ENOSPC, "No space left on device")
        synced(descriptor)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        train(config)
    monkeypatch.undo()
    assert last(config)["step"] == 0
    assert not list(config.run_folder.rglob("*.part"))
    assert train(config).steps == 6


def test_a_folder_as_text_encoder_and_the_run_needs_it_no_more(tmp_path, manifest):
    folder = tmp_path / "encoder"
    captions = ["A steady tone, number 1.", "Tone 2"]
    train_tokenizer(captions, vocab_size=300, max_tokens=64).save_pretrained(folder)
    sizes = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "ffn_size": 8, "max_tokens": 64}
    text_model(roberta_config(vocab_size=300, **sizes)).save_pretrained(folder)
    config = small_config(tmp_path, manifest, model={"text": {"encoder": str(folder), "pooling": "first"}})
    train(config)
    shutil.rmtree(folder)
    assert Clap.from_pretrained(config.run_folder).embed_text(captions).shape == (2, 16)


def test_several_captions_and_a_masked_loss_train(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {
            "waveform": (0.1 * rng.standard_normal(SAMPLE_RATE // 3)).astype(np.float32),
            "captions": [f"noise {n}", f"hiss {n}"],
        }
        for n in range(4)
    ]
    config = small_config(tmp_path, write_clips(tmp_path / "clips", rows), run={"epochs": 1, "batch_size": 8})
    assert train(config).steps == 1
    evaluation = evaluate_run(config.run_folder, tmp_path / "clips", split="train")
    assert (evaluation.num_clips, evaluation.num_captions) == (4, 8)


def test_the_schedule_is_the_papers():
    step = ScheduleConfig()
    rates = [learning_rate(step, lr=1e-4, step=541 * e, steps_per_epoch=541, total_steps=541 * 45) for e in range(45)]
    assert rates == pytest.approx([1e-4] * 20 + [1e-5] * 20 + [1e-6] * 5)


def test_warm_up_and_cosine():
    cosine = ScheduleConfig(name="cosine", warmup_steps=4)
    rates = [learning_rate(cosine, lr=1.0, step=s, steps_per_epoch=1, total_steps=24) for s in range(24)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[14] == pytest.approx(0.5)
    assert all(a > b for a, b in itertools.pairwise(rates[4:]))
    assert 0 < rates[-1] < 0.01
    constant = ScheduleConfig(name="constant")
    assert learning_rate(constant, lr=0.3, step=99, steps_per_epoch=1, total_steps=100) == 0.3


def test_auto_takes_what_is_there():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_models_of_earlier_steps_stay_where_asked(tmp_path, manifest):
    config = small_config(tmp_path, manifest, checkpoint={"every": 1, "keep": 2})
    train(config)
    checkpoints = config.run_folder / "checkpoints"
    assert {path.name for path in checkpoints.glob("step-*")} == {"step-000005", "step-000006"}
    kept = Clap.from_pretrained(checkpoints / "step-000006")
    final = Clap.from_pretrained(config.run_folder)
    assert_equal(dict(kept.state_dict()), dict(final.state_dict()))
    earlier = Clap.from_pretrained(checkpoints / "step-000005")
    assert not torch.equal(earlier.audio_projection.weight, final.audio_projection.weight)


def test_the_average_is_what_is_kept(tmp_path, manifest):
    config = small_config(tmp_path, manifest, optimizer={"ema_decay": 0.5})
    train(config)
    state = last(config)
    model = Clap.from_pretrained(config.run_folder).state_dict()
    for name, weights in state["model"].items():
        assert torch.equal(model[name], state["average"][f"module.{name}"]), name
        if weights.is_floating_point() and weights.ndim > 1 and "window" not in name:
            assert not torch.equal(model[name], weights) or torch.equal(weights, torch.zeros_like(weights)), name


def test_a_run_from_a_whole_model_needs_its_folder_no_more(tmp_path, manifest):
    train(small_config(tmp_path / "source", manifest))
    source = tmp_path / "source" / "run"
    init = {"init": {"clap": str(source)}}
    whole = small_config(tmp_path / "whole", manifest, **init)
    train(whole)
    parts = small_config(tmp_path / "parts", manifest, checkpoint={"every": 100}, **init)
    stop_after(parts, 4)
    shutil.rmtree(source)
    train(parts)
    assert_same_end(whole, parts)


def test_a_run_without_its_tokenizer_says_so(tmp_path, manifest):
    config = small_config(tmp_path, manifest)
    stop_after(config, 4)
    shutil.rmtree(config.run_folder / "checkpoints" / "tokenizer")
    with pytest.raises(ConfigError, match=r"tokenizer.*remove .*run to begin anew"):
        train(config)


def test_a_run_of_an_older_version_is_named(tmp_path, manifest):
    config = small_config(tmp_path, manifest)
    train(config)
    file = config.run_folder / "checkpoints" / "last.pt"
    torch.save({**torch.load(file, weights_only=True), "format": 1}, file)
    with pytest.raises(ConfigError, match=r"format 1, this code reads 2"):
        train(config)


@pytest.mark.parametrize(
    ("change_of", "message"),
    [
        ({"train": [{"weight": 2.0}]}, "other data"),
        ({"exclude": ["list.txt"]}, "other data"),
    ],
)
def test_other_weights_and_exclusions_are_another_run(tmp_path, manifest, change_of, message):
    (tmp_path / "list.txt").write_text("test-003\n")
    config = small_config(tmp_path, manifest)
    train(config)
    values = json.loads(json.dumps(change_of).replace("list.txt", str(tmp_path / "list.txt")))
    if "train" in values:
        values["train"][0]["manifest"] = str(manifest)
    with pytest.raises(ConfigError, match=message):
        train(small_config(tmp_path, manifest, data=values))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # by inductor itself
def test_compiled_encoders_train_alike(tmp_path, manifest):
    model = {  # no draws: compiled code has a generator of its own
        "spec_augment": None,
        "cnn14": {"block_dropout": 0.0, "head_dropout": 0.0},
        "htsat": {"drop_path_rate": 0.0},
        "text": {"dropout": 0.0},
    }
    eager = small_config(tmp_path / "eager", manifest, model=model)
    compiled = small_config(tmp_path / "compiled", manifest, model=model, run={"compile": True})
    for config in (eager, compiled):
        train(change(config, "run", log_every=1))
    assert train_lines(compiled)[0]["loss"] == pytest.approx(train_lines(eager)[0]["loss"], rel=1e-3)
    assert last(eager)["model"].keys() == last(compiled)["model"].keys()


@pytest.mark.parametrize("name", ["config.yaml.part", "metrics.jsonl.part"])
def test_what_a_kill_left_half_written_is_ours(tmp_path, manifest, name):
    config = small_config(tmp_path, manifest, run={"epochs": 1})
    config.run_folder.mkdir()
    (config.run_folder / name).touch()
    assert train(config).steps == 3


def test_a_forked_process_does_not_hold_the_lock(tmp_path):
    with locked(tmp_path / "run"):
        reader, writer = os.pipe()
        if not (child := os.fork()):  # outlives its parent's lock, as a reading process of a killed run does
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
    try:
        with locked(tmp_path / "run"):
            pass
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def test_a_run_killed_after_a_better_model_goes_back_to_the_one_it_knows(tmp_path, manifest, monkeypatch):
    """The repeated steps may come out otherwise: on a GPU, or with another number of processes."""
    val = [{"manifest": str(manifest), "splits": ["val"]}]
    config = small_config(tmp_path, manifest, data={"val": val}, run={"epochs": 3, "eval_every": 1})
    scores = {3: 0.5, 6: 0.9}
    monkeypatch.setattr("training.loop.evaluate_clips", lambda *_, **__: Scored(scores.get(running.step, 0.4)))
    saved = Loop.save

    def save(loop: Loop) -> None:
        if loop.step == 6 and scores:
            raise Killed
        saved(loop)

    def check_model(loop: Loop) -> None:
        running.step = loop.step

    running = Loop.__new__(Loop)
    monkeypatch.setattr(Loop, "save", save)
    monkeypatch.setattr(Loop, "check_model", check_model)
    with pytest.raises(Killed):
        train(config)
    assert last(config)["best"]["score"] == 0.5
    assert load_checkpoint(config.run_folder / "checkpoints" / "best.pt")["score"] == 0.9
    scores.clear()
    result = train(config)
    assert result.best["score"] == 0.5
    best = load_checkpoint(config.run_folder / "checkpoints" / "best.pt")
    assert best["step"] == result.best["step"] == 3
    assert not (config.run_folder / "checkpoints" / "best-before.pt").exists()
    kept = Clap.from_pretrained(config.run_folder).state_dict()
    assert_equal(dict(kept), dict(best["model"]))


class Killed(BaseException):
    """Stands for SIGKILL at a chosen place."""


class Scored:
    """An evaluation whose scores are all one."""

    def __init__(self, score: float) -> None:
        self.score = score

    @property
    def metrics(self) -> RetrievalReport:
        values = dict.fromkeys((field.name for field in dataclasses.fields(DirectionMetrics)), self.score)
        return RetrievalReport(text_to_audio=DirectionMetrics(**values), audio_to_text=DirectionMetrics(**values))


def test_lines_of_the_log_do_not_depend_on_where_a_run_was_stopped(tmp_path, manifest):
    whole = small_config(tmp_path / "whole", manifest, run={"log_every": 5})
    parts = small_config(tmp_path / "parts", manifest, run={"log_every": 5}, checkpoint={"every": 4})
    train(whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.loop.Loop.stop_if", stop_at(4))
        with pytest.raises(KeyboardInterrupt):
            train(parts)
    train(parts)
    assert [line["loss"] for line in train_lines(parts)] == [line["loss"] for line in train_lines(whole)]
    assert len(train_lines(whole)) == 1


def stop_at(step: int):
    def stop_if(loop, is_stopped: bool) -> None:
        if loop.step == step:
            raise KeyboardInterrupt

    return stop_if


def test_the_scale_alone_trains_in_chunks(tmp_path, manifest):
    parts = ["cnn14", "htsat", "text", "audio_projection", "text_projection"]
    config = small_config(tmp_path, manifest, optimizer={"freeze": parts}, run={"chunk_size": 2, "epochs": 1})
    train(config)
    assert last(config)["model"]["logit_scale"] != torch.tensor(1 / 0.07).log()


def test_buckets_too_short_for_the_model_are_refused(tmp_path, manifest):
    with pytest.raises(ConfigError, match=r"for cnn14, data.buckets_s: its=0.03 is too short"):
        small_config(tmp_path, manifest, data={"buckets_s": [0.03]})


def test_sigterm_to_the_whole_group_saves_though_it_reaches_the_readers(tmp_path, manifest):
    """As timeout, Slurm and torchrun send it."""
    config = small_config(tmp_path, manifest, run={"epochs": 500, "log_every": 1}, data={"workers": 2})
    (tmp_path / "recipe.yaml").write_text(to_yaml(config))
    process = subprocess.Popen(
        [sys.executable, "-m", "training", str(tmp_path / "recipe.yaml")],
        start_new_session=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    log = config.run_folder / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) >= 4):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert stderr.count("stopping after this step") == 1, stderr
    assert "a reading process died" not in stderr
    assert last(config)["step"] >= 4
    assert last(config)["step"] == train_lines(config)[-1]["step"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", [b"", b"fLaC nonsense"])
def test_a_clip_that_does_not_decode_is_named(tmp_path, workers, damage):
    folder = write_clips(tmp_path / "clips", [{"waveform": tone(150 * 1.4**number, 0.5)} for number in range(6)])
    (folder / "audio" / "test-003.flac").write_bytes(damage)
    config = small_config(tmp_path, folder, data={"workers": workers, "cache_mb": 0}, run={"epochs": 3})
    with pytest.raises(WavTextError, match=r"test-003\.flac: ") as caught:
        train(config)
    assert "Traceback" not in str(caught.value)
    assert not isinstance(caught.value, TrainingError)
