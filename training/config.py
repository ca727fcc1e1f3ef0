"""The settings of a run: frozen dataclasses, each checked when it is built.

Defaults are the paper's (section 4.2 of arXiv:2209.14275); a recipe (training/recipe.py) states what it changes.
Configs stop at the builders: models, losses and loops take plain values. The model's settings are in
training.config_model, and can be imported from here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from curation.errors import ConfigError
from training.config_checks import not_negative, positive
from training.config_model import (
    AUDIO_ENCODERS,
    PARTS,
    Cnn14Config,
    FeatureConfig,
    HtsatConfig,
    InitConfig,
    ModelConfig,
    SpecAugmentConfig,
    TextConfig,
)

__all__ = [
    "AUDIO_ENCODERS",
    "PARTS",
    "CheckpointConfig",
    "Cnn14Config",
    "DataConfig",
    "FeatureConfig",
    "HtsatConfig",
    "InitConfig",
    "LossConfig",
    "LrFactors",
    "ManifestConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
    "ScheduleConfig",
    "SpecAugmentConfig",
    "TextConfig",
    "TrainConfig",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestConfig:
    """Clips of one manifest."""

    manifest: str
    """Its folder, or manifest.parquet itself."""
    splits: tuple[str, ...] = ("train",)
    weight: float = 1.0
    """How often each of its pairs comes in an epoch: 2 is twice; at 0.5 each epoch has another half of them. All 1 is
    natural mixing. Means nothing for data.val."""

    def __post_init__(self) -> None:
        positive(self, f"data: {self.manifest}:", "weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """What is trained and validated on, and how it is read."""

    train: tuple[ManifestConfig, ...] = (ManifestConfig(manifest="data/curated"),)
    val: tuple[ManifestConfig, ...] = ()
    """What the best checkpoint is chosen by. None: the last epoch is taken."""
    templates: tuple[str, ...] = ("{title}. {description}",)
    """Captions of clips that people did not caption. With several, each visit draws one; evaluation takes the first."""
    captions: Literal["each", "one"] = "each"
    """Of clips with several human captions: each makes a pair (the paper), or each visit draws one."""
    crop: Literal["coupled", "independent"] = "coupled"
    """Whether the shorter encoder's crop lies inside the longer one's. The paper does not say."""
    gain_db: float = 0.0
    """Level drawn per visit from plus or minus this."""
    shift: bool = False
    """Start clips shorter than the crop anywhere, going round, instead of at their first sample."""
    exclude: tuple[str, ...] = ()
    """Files of clips to leave out of data.train, one a line: a clip_id, or origin:origin_id (freesound:1234)."""
    buckets_s: tuple[float, ...] = ()
    """Lengths in seconds, rising: a batch has clips of one bucket (a clip goes into the first that holds it) and no
    encoder reads more than the bucket's length, so that short clips are not gone round many times. Empty: none."""
    last_batch: Literal["fill", "drop"] = "fill"
    """What becomes of the pairs that do not fill a batch at the end of an epoch: they are filled up with others of the
    epoch, which then come twice, so that every pair is seen; or they are left out, other ones in every epoch."""
    workers: int = 0
    """Reading processes beside each training one."""
    pcm_cache: str = ""
    """Folder for decoded clips (16-bit, read through a memory map): made before the first step, taken up where it was
    left, kept for other runs. Empty: FLAC is decoded at every visit."""
    cache_mb: int = 512
    """Clips are kept decoded in memory if all fit into this (and workers is 0, and there is no pcm_cache)."""

    def __post_init__(self) -> None:
        if not self.train:
            raise ConfigError("data.train names no manifest")
        if not self.templates:
            raise ConfigError('data.templates is empty; the paper\'s is ["{title}. {description}"]')
        for name, sources in (("train", self.train), ("val", self.val)):
            for i, source in enumerate(sources):
                if not source.splits:
                    raise ConfigError(f"data.{name}[{i}].splits is empty; name the splits to read, such as [train]")
        for i, source in enumerate(self.val):
            if "test" in source.splits:
                raise ConfigError(
                    f"data.val[{i}].splits={list(source.splits)}: the best checkpoint is chosen by these scores, and a "
                    "test split is for none of that; hold out another split, or leave data.val empty"
                )
        not_negative(self, "data", "workers", "cache_mb", "gain_db")
        if list(self.buckets_s) != sorted({length for length in self.buckets_s if length > 0}):
            raise ConfigError(f"data.buckets_s={list(self.buckets_s)} must be lengths above 0 s, rising")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """The contrastive loss."""

    mask_same_clip: bool = False
    """Leave pairs of one clip, or with one caption, out of each other's negatives. The paper keeps them in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LrFactors:
    """What the learning rate is multiplied by, for each part of the model."""

    cnn14: float = 1.0
    htsat: float = 1.0
    text: float = 1.0
    audio_projection: float = 1.0
    text_projection: float = 1.0
    logit_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in PARTS:
            if getattr(self, name) == 0:
                raise ConfigError(f"optimizer.lr_factors.{name}=0: to hold a part still, say optimizer.freeze=[{name}]")
        positive(self, "optimizer.lr_factors", *PARTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """The optimiser."""

    name: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-4
    weight_decay: float = 0.0
    """On matrices only: not on biases, norms and the logit scale."""
    betas: tuple[float, ...] = (0.9, 0.999)
    clip_norm: float = 0.0
    """Gradients are scaled down to this norm; 0: left alone."""
    ema_decay: float = 0.0
    """Above 0: a moving average of the weights, to which each step adds 1 - this of the new ones, is what is evaluated
    and kept as the model."""
    lr_factors: LrFactors = field(default_factory=LrFactors)
    freeze: tuple[str, ...] = ()
    """Parts that are not trained: they keep their weights and run as in evaluation (batch norm holds its statistics,
    no dropout, no masking)."""

    def __post_init__(self) -> None:
        positive(self, "optimizer", "lr")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer.betas={list(self.betas)} must be two numbers in [0, 1)")
        not_negative(self, "optimizer", "weight_decay", "clip_norm")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"optimizer.ema_decay={self.ema_decay} must be at least 0 and below 1")
        for name in self.freeze:
            if name not in PARTS:
                raise ConfigError(f"optimizer.freeze names {name!r}; the parts of a model are {', '.join(PARTS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over the run."""

    name: Literal["step", "cosine", "constant"] = "step"
    warmup_steps: int = 0
    """Steps over which it rises from 0."""
    step_epochs: int = 20
    gamma: float = 0.1
    """step: multiplied by gamma every step_epochs epochs."""

    def __post_init__(self) -> None:
        positive(self, "schedule", "step_epochs", "gamma")
        not_negative(self, "schedule", "warmup_steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """What a killed run loses at most."""

    every: int = 500
    """Steps between checkpoints; one is also written after every evaluation and at the end."""
    keep: int = 0
    """How many models of earlier checkpoints stay (checkpoints/step-000500.pt), beside last.pt and best.pt; older ones
    are removed."""

    def __post_init__(self) -> None:
        positive(self, "checkpoint", "every")
        not_negative(self, "checkpoint", "keep")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """The run as a whole."""

    name: str = ""
    """The recipe's name if empty. The same name resumes."""
    folder: str = "runs"
    epochs: int = 45
    batch_size: int = 128
    """Pairs a step, over all processes: each sees the others as negatives."""
    chunk_size: int = 0
    """Pairs whose activations a process holds at once; 0: those of all its share. A batch of 1,024 in chunks of 64 has
    the loss and the gradients of the whole (gradient caching), for one more forward pass. Batch norm sees chunks,
    unless model.batch_norm=frozen."""
    eval_every: int = 1
    """Epochs between evaluations on data.val."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    seed: int = 0
    device: str = "auto"
    """auto, cpu, cuda or cuda:1; auto takes a GPU where there is one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: autocast, on a GPU; the loss is in float32."""
    compile: bool = False
    """torch.compile the encoders: minutes at the start, for faster steps on a GPU."""
    trackers: tuple[str, ...] = ()
    """Where metrics go beside metrics.jsonl: tensorboard, or module:Class (see training.trackers)."""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice. Another number rounds differently."""

    def __post_init__(self) -> None:
        positive(self, "run", "epochs", "eval_every", "log_every")
        if self.batch_size < 2:
            raise ConfigError(f"run.batch_size={self.batch_size} must be at least 2: a pair alone has no negatives")
        not_negative(self, "run", "threads", "seed", "chunk_size")
        if self.chunk_size == 1:
            raise ConfigError("run.chunk_size=1: batch norm needs two pairs at least; 0 is the whole batch")
        for name in self.trackers:
            if name != "tensorboard" and not re.fullmatch(r"[\w.]+:\w+", name):
                raise ConfigError(f"run.trackers names {name!r}; it must be tensorboard, or module:Class of your own")
        if self.seed >= 2**63:
            raise ConfigError(f"run.seed={self.seed} must be below 2**63")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"run.device={self.device!r} must be auto, cpu, cuda or cuda:N")
        if self.name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ConfigError(f"run.name={self.name!r} must be a plain folder name")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A whole recipe."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    init: InitConfig = field(default_factory=InitConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        for name in self.optimizer.freeze:
            if name in AUDIO_ENCODERS and name not in self.model.audio_encoders:
                raise ConfigError(f"optimizer.freeze names {name}, which model.audio={self.model.audio} does not have")
        for name in self.model.audio_encoders:
            encoder = getattr(self.model, name)
            features = encoder.features or self.features
            rate = features.sample_rate
            least = features.n_fft // 2 + 1
            if name == "cnn14":  # each block but the last halves the frames
                least = max(least, (2 ** (len(encoder.channels) - 1) - 1) * features.hop_length)
            read_s = min((encoder.clip_s, *self.data.buckets_s))
            if round(read_s * rate) < least:
                where = f"model.{name}.clip_s" if read_s == encoder.clip_s else f"for {name}, data.buckets_s: its"
                raise ConfigError(
                    f"{where}={read_s} is too short: at a sample_rate of {rate} the windows "
                    f"and layers need at least {math.ceil(1000 * least / rate) / 1000} s"
                )

    @property
    def run_folder(self) -> Path:
        """Where the run lies."""
        return Path(self.run.folder) / self.run.name
