"""The training loop: plain PyTorch, resumable at any step.

A run killed at any moment and started again gives the weights of an uninterrupted one, bit for bit on a CPU: a
checkpoint holds weights, optimiser and the random generators, the schedule is a function of the step, and the data
order one of (seed, epoch, index). Ctrl-C and SIGTERM finish the step and write a checkpoint first.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from crawler.items import open_whole
from curation.audio import read_clip
from curation.errors import ConfigError
from training import checkpoint
from training.config import TrainConfig
from training.data import (
    Batch,
    Clip,
    EpochSampler,
    PairDataset,
    fingerprint,
    make_loader,
    make_pairs,
    read_clips,
)
from training.device import choose_device, explanation
from training.evaluate import evaluate_clips
from training.init import check_init, clap_start, initialise
from training.losses import contrastive_loss
from training.models.build import clip_samples, encoder_rates, new_clap
from training.models.clap import BrokenModelError, Clap
from training.optim import learning_rate, make_optimizer
from training.recipe import to_dict, to_yaml
from training.runfolder import locked, stored_state
from training.runlog import Meter, RunLog, TrainingError, say
from training.tokenizer import token_ids


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


def train(config: TrainConfig) -> TrainResult:
    """Train a recipe to its end, from the run folder's last checkpoint if there is one.

    Raises:
        ConfigError: If a setting cannot be, or the run folder holds a run of other settings or other data.
        ManifestError: If the data cannot be read.
        TrainingError: If the loss or the weights are not finite, or memory runs out.
    """
    begun = time.monotonic()
    device = choose_device(config.run.device)
    if config.run.precision == "bfloat16" and device.type == "cpu":
        raise ConfigError("run.precision=bfloat16 is for a GPU, and this run has none; set run.precision=float32")
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    data = fingerprint(config.data)
    with locked(config.run_folder):
        return _train(config, device, data, begun)


def _train(config: TrainConfig, device: torch.device, data: list[dict[str, Any]], begun: float) -> TrainResult:
    folder = config.run_folder
    state = stored_state(folder, config, data)
    if state is not None and not (folder / "config.yaml").is_file():
        _write_config(config)
    if state is not None and state["step"] == state["total_steps"] and checkpoint.is_whole(folder / "model"):
        return TrainResult(
            folder=folder,
            steps=state["step"],
            epochs=config.run.epochs,
            seconds=0.0,
            was_finished=True,
            best=state["best"],
        )
    loop = _prepare(config, device, data, state)
    try:
        with _stop_between_steps() as stop:
            loop.run(stop)
            loop.keep_model()
    except RuntimeError as error:
        if (message := explanation(error, config)) is None:
            raise
        raise TrainingError(message) from error
    return TrainResult(
        folder=folder,
        steps=loop.step,
        epochs=config.run.epochs,
        seconds=time.monotonic() - begun,
        was_finished=False,
        best=loop.best,
    )


def _prepare(
    config: TrainConfig, device: torch.device, data: list[dict[str, Any]], state: dict[str, Any] | None
) -> _Loop:
    """Return a loop ready for its next step: data read and checked, model built, checkpoint restored."""
    if state is None:
        check_init(config.init, config.model.audio_encoders)
    clips = read_clips(config.data.train, config.data.templates)
    val_clips = read_clips(config.data.val, config.data.templates) if config.data.val else []
    pairs = make_pairs(clips, config.data.captions)
    if shared := sorted({clip.clip_id for clip in clips} & {clip.clip_id for clip in val_clips}):
        say(
            f"warning: {len(shared)} of {len(val_clips)} val clips are also training clips, the first is "
            f"{shared[0]!r}; their scores say nothing about new sounds"
        )
    batch_size = config.run.batch_size
    if len(pairs) < 2:
        raise ConfigError("data.train gives 1 pair; at least 2 pairs are needed: a pair alone has no negatives")
    if batch_size > len(pairs):
        raise ConfigError(
            f"run.batch_size={batch_size} is larger than the data set: {len(pairs)} pairs; "
            f"set run.batch_size={len(pairs)} or less"
        )
    captions = sorted({caption for pair in pairs for caption in pair.captions})
    torch.manual_seed(config.run.seed)
    start = clap_start(config.init.clap, config.model, config.features) if config.init.clap else None
    model = new_clap(config.model, config.features, captions=captions, start=start)
    model.description["init"] = initialise(model, config.init) if state is None else state.get("init", {})
    model.freeze(config.optimizer.freeze)
    model.description["caption_templates"] = list(config.data.templates)
    model.description["data"] = data
    ids = dict(zip(captions, token_ids(model.tokenizer, captions, max_tokens=model.max_tokens), strict=True))
    fits = 2 * sum(clip.num_samples for clip in clips) <= config.data.cache_mb * 2**20
    dataset = PairDataset(
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
    )
    loop = _Loop(
        config=config,
        device=device,
        data=data,
        model=model.to(device),
        optimizer=make_optimizer(model, config.optimizer),
        dataset=dataset,
        val_clips=val_clips,
        steps_per_epoch=len(pairs) // batch_size,
    )
    if state is None:
        _write_config(config)
        loop.save()
    else:
        loop.restore(state)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    say(
        f"training  {len(clips)} clips, {len(pairs)} pairs, {parameters:,} parameters, {loop.total_steps} steps "
        f"of {batch_size} on {device}" + (f", from step {loop.step}" if loop.step else "")
    )
    return loop


def _write_config(config: TrainConfig) -> None:
    with open_whole(config.run_folder / "config.yaml", "w") as whole:
        whole.write(to_yaml(config))


@dataclass(kw_only=True)
class _Loop:
    """A run between its steps."""

    config: TrainConfig
    device: torch.device
    data: list[dict[str, Any]]
    model: Clap
    optimizer: torch.optim.Optimizer
    dataset: PairDataset
    val_clips: list[Clip]
    steps_per_epoch: int
    step: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    saved_step: int = -1

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.config.run.epochs

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return self.step // self.steps_per_epoch

    @property
    def folder(self) -> Path:
        return self.config.run_folder

    def run(self, stop: threading.Event) -> None:
        """Take the steps that are left; raises KeyboardInterrupt, checkpoint written, once ``stop`` is set."""
        run = self.config.run
        log = RunLog(self.folder / "metrics.jsonl", step=self.step)
        meter = Meter(log, run.log_every, self.total_steps, self.step)
        sampler = EpochSampler(len(self.dataset), run.batch_size, seed=run.seed)
        pad_id = self.model.tokenizer.pad_token_id
        loader = make_loader(self.dataset, sampler, pad_id=pad_id, workers=self.config.data.workers)
        while self.step < self.total_steps:
            sampler.epoch, sampler.first_batch = divmod(self.step, self.steps_per_epoch)
            self.model.train()
            for batch in meter.timed(iter(loader)):
                loss = self.train_step(batch.to(self.device))
                meter.count(
                    loss,
                    logit_scale=self.model.logit_scale.detach(),
                    lr=self.lr(self.step - 1),
                    step=self.step,
                    epoch=sampler.epoch + 1,
                    pairs=run.batch_size,
                )
                is_due = stop.is_set() or self.step % self.config.checkpoint.every == 0
                if is_due and self.step % self.steps_per_epoch:
                    meter.check(loss, self.step, self.saved_step)
                    self.save()
                    self.stop_if(stop)
            meter.check(loss, self.step, self.saved_step)
            with meter.paused():
                self.end_epoch(log, is_due=stop.is_set())
            self.stop_if(stop)
        meter.close()

    def stop_if(self, stop: threading.Event) -> None:
        """End the run, unless it is done anyway; its checkpoint has been written."""
        if stop.is_set() and self.step < self.total_steps:
            raise KeyboardInterrupt

    def lr(self, step: int) -> float:
        """Return the learning rate of a step, before the parts' factors."""
        return learning_rate(
            self.config.schedule,
            lr=self.config.optimizer.lr,
            step=step,
            steps_per_epoch=self.steps_per_epoch,
            total_steps=self.total_steps,
        )

    def train_step(self, batch: Batch) -> torch.Tensor:
        """Take one step; returns the loss, detached."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(self.step) * group["lr_factor"]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.run.precision == "bfloat16"):
            audio_embed, text_embed = self.model(batch.waveforms, batch.input_ids, batch.attention_mask)
        same_clip = batch.same_clip if config.loss.mask_same_clip else None
        loss = contrastive_loss(audio_embed, text_embed, self.model.logit_scale.exp(), same_clip=same_clip)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if config.optimizer.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.optimizer.clip_norm)
        self.optimizer.step()
        self.model.clamp_logit_scale()
        self.step += 1
        return loss.detach()

    def end_epoch(self, log: RunLog, *, is_due: bool) -> None:
        """Evaluate if it is time, write the model if it is the best (or there is nothing to choose by), and save."""
        is_last = self.step == self.total_steps
        is_due = is_due or is_last or self.step - self.saved_step >= self.config.checkpoint.every
        is_scored = bool(self.val_clips) and (is_last or self.epoch % self.config.run.eval_every == 0)
        if is_due or is_scored:
            self.check_model()
        if is_due and not self.val_clips:
            checkpoint.save_model(self.model, self.folder / "model")
        if is_scored:
            try:
                metrics = evaluate_clips(self.model, self.val_clips, quiet=True).metrics
            except BrokenModelError as error:
                raise self._broken("embeddings of val clips are not finite") from error
            log.write("val", step=self.step, epoch=self.epoch, clips=len(self.val_clips), **metrics.as_dict())
            t2a, a2t = metrics.text_to_audio, metrics.audio_to_text
            say(
                f"epoch {self.epoch} of {self.config.run.epochs}  val: text to audio R@1 {t2a.recall_at_1:.3f} "
                f"mAP@10 {t2a.map_at_10:.3f}, audio to text R@1 {a2t.recall_at_1:.3f} mAP@10 {a2t.map_at_10:.3f}"
            )
            if not self.best or metrics.mean_map_at_10 > self.best["score"]:
                self.best = {
                    "score": metrics.mean_map_at_10,
                    "step": self.step,
                    "epoch": self.epoch,
                    **metrics.as_dict(),
                }
                weights = self.model.state_dict()
                checkpoint.save_checkpoint(self.folder / "checkpoints" / "best.pt", {**self.best, "model": weights})
                checkpoint.save_model(self.model, self.folder / "model")
        if is_due or is_scored:
            self.save()

    def check_weights(self) -> None:
        """Refuse to write weights that are not finite: the loss is that of the weights before the step."""
        for name, tensor in self.model.state_dict().items():
            if not tensor.isfinite().all():
                raise self._broken(f"{name} is not finite")

    def check_model(self) -> None:
        """Refuse a model that gives no embeddings, though its weights be finite (1e38, say)."""
        self.check_weights()
        pair = self.dataset.pairs[0]
        clip = self.dataset.clips[pair.clip]
        try:
            self.model.embed_audio([read_clip(clip.path)], sample_rate=clip.sample_rate)
            self.model.embed_text(pair.captions[:1])
        except BrokenModelError as error:
            raise self._broken("the model's embeddings are not finite") from error

    def _broken(self, what: str) -> TrainingError:
        kept = f"; the last good checkpoint (step {self.saved_step}) stands" if self.saved_step >= 0 else ""
        return TrainingError(
            f"step {self.step}: {what}; lower optimizer.lr, set optimizer.clip_norm=1, or use "
            f"run.precision=float32, under another run.name{kept}"
        )

    def save(self) -> None:
        """Write checkpoints/last.pt."""
        self.check_weights()
        checkpoint.save_checkpoint(
            self.folder / "checkpoints" / "last.pt",
            {
                "step": self.step,
                "total_steps": self.total_steps,
                "best": self.best,
                "config": to_dict(self.config),
                "data": self.data,
                "init": self.model.description.get("init", {}),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "random": checkpoint.random_state(),
            },
        )
        self.saved_step = self.step

    def keep_model(self) -> None:
        """Write the model of a finished run again if somebody removed or damaged it."""
        if not checkpoint.is_whole(self.folder / "model"):
            if self.best:
                best = checkpoint.load_checkpoint(self.folder / "checkpoints" / "best.pt")
                self.model.load_state_dict(best["model"])
            checkpoint.save_model(self.model, self.folder / "model")

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint."""
        self.step, self.best, self.saved_step = state["step"], state["best"], state["step"]
        if state["total_steps"] != self.total_steps:
            raise ConfigError(f"{self.folder}: holds a run of {state['total_steps']} steps, this is {self.total_steps}")
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"{self.folder}: checkpoints/last.pt does not fit the model; remove {self.folder} to begin anew"
            ) from error
        checkpoint.restore_random_state(state["random"])


@contextmanager
def _stop_between_steps() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and SIGTERM set; a second Ctrl-C stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, _frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("stopping after this step; the checkpoint is being written")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
