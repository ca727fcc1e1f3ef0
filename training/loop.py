"""The steps of a run, and what is written between them.

Each process takes its rows of every batch; the embeddings of all are gathered, so that each pair meets the negatives of
the whole batch, and DDP averages the gradients (training.gather says why that is right). Process 0 writes the files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from curation.audio import read_clip
from curation.errors import ConfigError
from training import checkpoint
from training.config import TrainConfig
from training.data import Clip
from training.evaluate import evaluate_clips
from training.gather import gather_embeddings, gather_keys
from training.gradcache import cached_backward, split
from training.loader import make_loader
from training.loading import Batch, PairDataset
from training.losses import contrastive_loss, same_clip_mask
from training.models.clap import BrokenModelError, Clap
from training.optim import learning_rate
from training.parallel import Processes
from training.recipe import to_dict
from training.runlog import Meter, RunLog, TrainingError, say
from training.sampling import EpochSampler
from training.trackers import open_trackers


@dataclass(kw_only=True)
class Loop:
    """A run between its steps."""

    config: TrainConfig
    device: torch.device
    processes: Processes
    data: list[dict[str, Any]]
    model: Clap
    optimizer: torch.optim.Optimizer
    dataset: PairDataset
    sampler: EpochSampler
    val_clips: list[Clip]
    step: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    saved_step: int = -1
    meter: Meter | None = None
    unlogged: tuple[Tensor, ...] = ()
    """Losses of the steps before a checkpoint that no line of metrics.jsonl holds yet."""

    def __post_init__(self) -> None:
        decay = self.config.optimizer.ema_decay
        average: Any = get_ema_multi_avg_fn  # has no types
        self.average = AveragedModel(self.model, multi_avg_fn=average(decay)) if decay else None
        self.wrapped: Clap | DistributedDataParallel = self.model
        if self.config.run.compile:
            for encoder in (*self.model.audio.encoders.values(), self.model.text):
                encoder.compile()
        if self.processes.world_size > 1:
            devices = [self.device] if self.device.type == "cuda" else None
            self.wrapped = DistributedDataParallel(self.model, device_ids=devices)

    @property
    def steps_per_epoch(self) -> int:
        return self.sampler.steps_per_epoch

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

    @property
    def kept(self) -> Clap:
        """The model that is evaluated and written: the moving average, where there is one."""
        if self.average is None:
            return self.model
        assert isinstance(self.average.module, Clap)
        return self.average.module

    def run(self, stop: threading.Event) -> None:
        """Take the steps that are left; raises KeyboardInterrupt, checkpoint written, once ``stop`` is set."""
        run = self.config.run
        log = self._open_log()
        meter = self.meter = Meter(log, run.log_every, self.total_steps, self.step)
        meter.losses = list(self.unlogged)
        pad_id = self.model.tokenizer.pad_token_id
        pin = self.device.type == "cuda"
        loader = make_loader(self.dataset, self.sampler, pad_id=pad_id, workers=self.config.data.workers, pin=pin)
        while self.step < self.total_steps:
            self.sampler.epoch, self.sampler.first_batch = divmod(self.step, self.steps_per_epoch)
            epoch = self.sampler.epoch + 1
            self.model.train()
            for batch in meter.timed(iter(loader)):
                loss = self.train_step(batch)
                meter.count(
                    loss,
                    logit_scale=self.model.logit_scale.detach(),
                    lr=self.lr(self.step - 1),
                    step=self.step,
                    epoch=epoch,
                    pairs=run.batch_size,
                )
                is_stopped = self.processes.any(stop.is_set())
                if (is_stopped or self.step % self.config.checkpoint.every == 0) and self.step % self.steps_per_epoch:
                    meter.check(loss, self.step, self.saved_step)
                    self.save()
                    self.stop_if(is_stopped)
            meter.check(loss, self.step, self.saved_step)
            is_stopped = self.processes.any(stop.is_set())
            with meter.paused():
                self.end_epoch(log, is_due=is_stopped)
            self.stop_if(is_stopped)
        meter.close()
        log.close()

    def _open_log(self) -> RunLog:
        if not self.processes.is_first:
            return RunLog(None)
        trackers = open_trackers(self.config.run.trackers, self.folder, step=self.step)
        return RunLog(self.folder / "metrics.jsonl", step=self.step, trackers=trackers)

    def stop_if(self, is_stopped: bool) -> None:
        """End the run, unless it is done anyway; its checkpoint has been written."""
        if is_stopped and self.step < self.total_steps:
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

    def train_step(self, batch: Batch) -> Tensor:
        """Take one step with this process's rows of a batch; returns the loss of the whole batch, detached."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(self.step) * group["lr_factor"]
        self.optimizer.zero_grad()
        chunk = config.run.chunk_size
        if chunk and chunk < len(batch.keys):
            loss = cached_backward(
                self.model,
                self.wrapped,
                split(batch, chunk),
                forward=self.embed,
                loss_of=lambda audio, text: self.loss(audio, text, batch.keys),
            )
        else:
            loss = self.loss(*self.embed(self.wrapped, batch), batch.keys)
            loss.backward()  # type: ignore[no-untyped-call]
        if config.optimizer.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.optimizer.clip_norm)
        self.optimizer.step()
        self.model.clamp_logit_scale()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1
        return loss.detach()

    def embed(self, model: Callable[..., tuple[Tensor, Tensor]], batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the embeddings of a batch by the model or its wrapper, in the run's precision."""
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.run.precision == "bfloat16"):
            return model(batch.waveforms, batch.input_ids, batch.attention_mask)

    def loss(self, audio_embed: Tensor, text_embed: Tensor, keys: Tensor) -> Tensor:
        """Return the loss of all processes' embeddings, from this one's."""
        same_clip = None
        if self.config.loss.mask_same_clip:
            same_clip = same_clip_mask(gather_keys(keys.to(self.device)))
        scale = self.model.logit_scale.exp()
        audio_embed, text_embed = gather_embeddings(audio_embed), gather_embeddings(text_embed)
        return contrastive_loss(audio_embed, text_embed, scale, same_clip=same_clip)

    def end_epoch(self, log: RunLog, *, is_due: bool) -> None:
        """Evaluate if it is time, write the model if it is the best (or there is nothing to choose by), and save."""
        is_last = self.step == self.total_steps
        is_due = is_due or is_last or self.step - self.saved_step >= self.config.checkpoint.every
        is_scored = bool(self.val_clips) and (is_last or self.epoch % self.config.run.eval_every == 0)
        if is_due or is_scored:
            self._share_buffers()
            self.check_model()
        if is_due and not self.val_clips:
            self._write_model()
        if is_scored:
            self.score(log)
        if is_due or is_scored:
            self.save()

    def _share_buffers(self) -> None:
        """Give all processes the first one's batch norm statistics: DDP does so only before a forward pass."""
        if self.processes.world_size > 1:
            for model in (self.model, *([] if self.average is None else [self.kept])):
                for buffer in model.buffers():
                    dist.broadcast(buffer, src=0)

    def score(self, log: RunLog) -> None:
        """Evaluate on the val clips; the best model so far is written."""
        try:
            with self._as_written():
                metrics = evaluate_clips(self.kept, self.val_clips, quiet=True, embed=self._embed_together).metrics
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
            if self.processes.is_first:
                checkpoint.save_best(self.folder / "checkpoints", {**self.best, "model": self.kept.state_dict()})
            self._write_model()

    def _as_written(self) -> AbstractContextManager[Any]:
        """Return a block in which compiled encoders run as those of a saved model, and are not compiled anew for it."""
        compiler: Any = torch.compiler
        return compiler.set_stance("force_eager") if self.config.run.compile else nullcontext()

    def _embed_together(self, clips: Sequence[Clip]) -> np.ndarray:
        """Return the audio embeddings (N, D) of clips, each process having made those of some."""
        processes = self.processes
        own = clips[processes.rank :: processes.world_size]
        rate = clips[0].sample_rate
        made = processes.gather(self.kept.embed_audio((read_clip(clip.path) for clip in own), sample_rate=rate))
        embeddings = np.empty((len(clips), made[0].shape[1]), made[0].dtype)
        for rank, rows in enumerate(made):
            embeddings[rank :: processes.world_size] = rows
        return embeddings

    @property
    def _tokenizer(self) -> Path:
        return self.folder / "checkpoints" / "tokenizer"

    def _write_model(self) -> None:
        if self.processes.is_first:
            checkpoint.save_model(self.kept, self.folder / "model", tokenizer=self._tokenizer)

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
            with self._as_written():
                self.kept.embed_audio([read_clip(clip.path)], sample_rate=clip.sample_rate)
                self.kept.embed_text(pair.captions[:1])
        except BrokenModelError as error:
            raise self._broken("the model's embeddings are not finite") from error

    def _broken(self, what: str) -> TrainingError:
        kept = f"; the last good checkpoint (step {self.saved_step}) stands" if self.saved_step >= 0 else ""
        return TrainingError(
            f"step {self.step}: {what}; lower optimizer.lr, set optimizer.clip_norm=1, or use "
            f"run.precision=float32, under another run.name{kept}"
        )

    def save(self) -> None:
        """Write checkpoints/last.pt, and a model of this step where such are kept."""
        self.check_weights()
        random = self.processes.gather(checkpoint.random_state(self.device))
        if self.processes.is_first:
            checkpoints = self.folder / "checkpoints"
            if self.saved_step < 0:
                checkpoint.save_tokenizer(self.model.tokenizer, checkpoints / "tokenizer")
            if self.config.checkpoint.keep and self.step:
                checkpoint.save_step(self.kept, checkpoints, step=self.step, keep=self.config.checkpoint.keep)
            state = {
                "step": self.step,
                "total_steps": self.total_steps,
                "best": self.best,
                "config": to_dict(self.config),
                "data": self.data,
                "description": self.model.description,
                "model": self.model.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "random": random,
                "unlogged": [loss.cpu() for loss in self.meter.losses] if self.meter else [],
            }
            checkpoint.save_checkpoint(checkpoints / "last.pt", state)
            checkpoint.forget_best_before(checkpoints)
        self.saved_step = self.step

    def keep_model(self) -> None:
        """Write the model of a finished run again if somebody removed or damaged it."""
        if self.processes.is_first and not checkpoint.is_whole(self.folder / "model"):
            model = self._best_model() if self.best else self.kept
            checkpoint.save_model(model, self.folder / "model", tokenizer=self._tokenizer)
        self.processes.wait()

    def _best_model(self) -> Clap:
        """Return the model of best.pt, on the CPU."""
        checkpoints = self.folder / "checkpoints"
        model = checkpoint.stored_model(checkpoints, self.model.description)
        model.load_state_dict(checkpoint.load_checkpoint(checkpoints / "best.pt")["model"])
        return model

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint."""
        self.step, self.best, self.saved_step = state["step"], state["best"], state["step"]
        self.unlogged = tuple(loss.to(self.device) for loss in state["unlogged"])
        if state["total_steps"] != self.total_steps:
            raise ConfigError(f"{self.folder}: holds a run of {state['total_steps']} steps, this is {self.total_steps}")
        try:
            self.model.load_state_dict(state["model"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"{self.folder}: checkpoints/last.pt does not fit the model; remove {self.folder} to begin anew"
            ) from error
        if self.processes.is_first and checkpoint.restore_best(self.folder / "checkpoints", self.best.get("step")):
            checkpoint.save_model(self._best_model(), self.folder / "model", tokenizer=self._tokenizer)
        states = state["random"]
        if len(states) == self.processes.world_size:
            checkpoint.restore_random_state(states[self.processes.rank])
        else:
            torch.manual_seed(process_seed(self.config.run.seed, self.processes.rank, self.step))
            say(
                f"warning: the run was begun with {len(states)} processes and goes on with "
                f"{self.processes.world_size}: the same batches, but other dropout and masking"
            )


def process_seed(seed: int, rank: int, step: int) -> int:
    """Return the seed of what a process draws from a step on: dropout, masking, crops within the encoders."""
    return int(np.random.SeedSequence((seed, rank, step)).generate_state(1, np.uint64)[0] >> np.uint64(1))
