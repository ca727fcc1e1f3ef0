"""A training run from settings to a model: checked, prepared, run, and taken up where it was left.

A run killed at any moment and started again gives the weights of an uninterrupted one, bit for bit on a CPU: a
checkpoint holds weights, optimiser and the random generators, the schedule is a function of the step, and the data
order one of (seed, epoch, index). Ctrl-C and SIGTERM finish the step and write a checkpoint first. What can be wrong
with settings and data is found before the first step.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from crawler.items import open_whole
from training import checkpoint
from training.config import TrainConfig
from training.data import Clip, Pair, check_training_data, fingerprint, make_pairs, read_clips
from training.device import check_device, choose_device, explanation
from training.init import check_init, clap_start, initialise
from training.loading import PairDataset
from training.loop import Loop, process_seed
from training.models.batchnorm import check_batch_norm, prepare_batch_norm
from training.models.build import clip_samples, encoder_rates, new_clap
from training.models.clap import Clap
from training.optim import make_optimizer
from training.parallel import Processes, choose_process_device, joined
from training.pcmcache import ensure_cache
from training.recipe import to_yaml
from training.runfolder import locked, stored_state
from training.runlog import ProcessError, say, set_quiet
from training.sampling import EpochSampler
from training.tokenizer import token_ids
from training.trackers import check_trackers


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a run came to."""

    folder: Path
    steps: int
    epochs: int
    seconds: float
    """Of this call; 0 for a run that was finished before."""
    was_finished: bool
    best: dict[str, Any]
    """Step, epoch and metrics of the best evaluation on data.val; empty if there was none."""
    is_first: bool = True
    """Whether this is the process that speaks for the run."""


def train(config: TrainConfig) -> TrainResult:
    """Train a recipe to its end, from the run folder's last checkpoint if there is one.

    Under torchrun every process calls it, and the first writes the files.

    Raises:
        ConfigError: If a setting cannot be, or the run folder holds a run of other settings or other data.
        ManifestError: If the data cannot be read.
        TrainingError: If the loss or the weights are not finite, memory runs out, or another process ended.
    """
    begun = time.monotonic()
    device = choose_process_device(choose_device(config.run.device))
    check_device(config, device)
    check_trackers(config.run.trackers)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    with joined(device) as processes:
        set_quiet(not processes.is_first)
        try:
            data = fingerprint(config.data)
            with locked(config.run_folder, is_first=processes.is_first):
                return _train(config, device, processes, data, begun)
        except RuntimeError as error:
            if (message := explanation(error, config)) is None:
                raise
            raise ProcessError(message) from error
        finally:
            set_quiet(False)


def _train(
    config: TrainConfig, device: torch.device, processes: Processes, data: list[dict[str, Any]], begun: float
) -> TrainResult:
    folder = config.run_folder
    state = stored_state(folder, config, data)
    is_finished = state is not None and state["step"] == state["total_steps"] and checkpoint.is_whole(folder / "model")
    processes.wait()  # until all have read the folder, which the first is about to change
    if state is not None and processes.is_first and not (folder / "config.yaml").is_file():
        _write_config(config)
    if state is not None and is_finished:
        return TrainResult(
            folder=folder,
            steps=state["step"],
            epochs=config.run.epochs,
            seconds=0.0,
            was_finished=True,
            best=state["best"],
            is_first=processes.is_first,
        )
    loop = _prepare(config, device, processes, data, state)
    with _stop_between_steps() as stop:
        loop.run(stop)
        loop.keep_model()
    return TrainResult(
        folder=folder,
        steps=loop.step,
        epochs=config.run.epochs,
        seconds=time.monotonic() - begun,
        was_finished=False,
        best=loop.best,
        is_first=processes.is_first,
    )


def _prepare(
    config: TrainConfig,
    device: torch.device,
    processes: Processes,
    data: list[dict[str, Any]],
    state: dict[str, Any] | None,
) -> Loop:
    """Return a loop ready for its next step: data read and checked, model built, checkpoint restored."""
    if state is None:
        check_init(config.init, config.model.audio_encoders)
        world_size = processes.world_size
        if warning := check_batch_norm(config.model, config.init, device=device, world_size=world_size):
            say(warning)
    clips, pairs, val_clips = _read_data(config, processes)
    model = _model(config, pairs, data, state)
    model.freeze(config.optimizer.freeze)
    prepare_batch_norm(model, config.model.batch_norm)
    loop = Loop(
        config=config,
        device=device,
        processes=processes,
        data=data,
        model=model.to(device),
        optimizer=make_optimizer(model, config.optimizer),
        dataset=_dataset(config, clips, pairs, model, processes),
        sampler=EpochSampler(
            pairs,
            clips,
            batch_size=config.run.batch_size,
            seed=config.run.seed,
            rank=processes.rank,
            world_size=processes.world_size,
            last_batch=config.data.last_batch,
            buckets_s=config.data.buckets_s,
        ),
        val_clips=val_clips,
    )
    if state is None:
        if processes.world_size > 1:
            torch.manual_seed(process_seed(config.run.seed, processes.rank, 0))
        if processes.is_first:
            _write_config(config)
        loop.save()
    else:
        loop.restore(state)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    where = f"{processes.world_size} x {device.type}" if processes.world_size > 1 else f"{device}"
    say(
        f"training  {len(clips)} clips, {len(pairs)} pairs, {parameters:,} parameters, {loop.total_steps} steps "
        f"of {config.run.batch_size} on {where}" + (f", from step {loop.step}" if loop.step else "")
    )
    return loop


def _read_data(config: TrainConfig, processes: Processes) -> tuple[list[Clip], list[Pair], list[Clip]]:
    clips = read_clips(config.data.train, config.data.templates, exclude=config.data.exclude)
    val_clips = read_clips(config.data.val, config.data.templates) if config.data.val else []
    pairs = make_pairs(clips, config.data.captions)
    for warning in check_training_data(config, clips, pairs, val_clips, world_size=processes.world_size):
        say(f"warning: {warning}")
    return clips, pairs, val_clips


def _model(config: TrainConfig, pairs: list[Pair], data: list[dict[str, Any]], state: dict[str, Any] | None) -> Clap:
    """Return the model: of the settings, with its first weights, or of a checkpoint, which will bring its own."""
    if state is not None:
        return checkpoint.stored_model(config.run_folder / "checkpoints", state["description"])
    torch.manual_seed(config.run.seed)
    start = clap_start(config.init.clap, config.model, config.features) if config.init.clap else None
    model = new_clap(config.model, config.features, captions=_captions(pairs), start=start)
    model.description["init"] = initialise(model, config.init)
    model.description["caption_templates"] = list(config.data.templates)
    model.description["data"] = data
    return model


def _captions(pairs: list[Pair]) -> list[str]:
    return sorted({caption for pair in pairs for caption in pair.captions})


def _dataset(
    config: TrainConfig, clips: list[Clip], pairs: list[Pair], model: Clap, processes: Processes
) -> PairDataset:
    captions = _captions(pairs)
    ids = dict(zip(captions, token_ids(model.tokenizer, captions, max_tokens=model.max_tokens), strict=True))
    fits = 2 * sum(clip.num_samples for clip in clips) <= config.data.cache_mb * 2**20
    cache = None
    if config.data.pcm_cache:
        if processes.is_first:
            cache = ensure_cache(Path(config.data.pcm_cache), clips, workers=config.data.workers, say=say)
        processes.wait()
        if cache is None:
            cache = ensure_cache(Path(config.data.pcm_cache), clips, workers=0, say=say)
    return PairDataset(
        clips,
        pairs,
        ids,
        clip_samples=clip_samples(config.model, config.features),
        sample_rates=encoder_rates(config.model, config.features),
        seed=config.run.seed,
        gain_db=config.data.gain_db,
        shift=config.data.shift,
        is_coupled=config.data.crop == "coupled",
        is_cached=config.data.workers == 0 and fits,
        cache=cache,
    )


def _write_config(config: TrainConfig) -> None:
    with open_whole(config.run_folder / "config.yaml", "w") as whole:
        whole.write(to_yaml(config))


@contextmanager
def _stop_between_steps() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and SIGTERM set; a second Ctrl-C stops at once (torchrun sends both for one)."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    interrupts: list[int] = []

    def ask(number: int, _frame: Any) -> None:
        if number == signal.SIGINT:
            interrupts.append(number)
        if len(interrupts) > 1:
            raise KeyboardInterrupt
        if not stop.is_set():
            stop.set()
            say("stopping after this step; the checkpoint is being written")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
