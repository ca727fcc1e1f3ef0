"""The settings of a run: frozen dataclasses, each checked when it is built.

Defaults are the paper's (section 4.2 of arXiv:2209.14275); a recipe (training/recipe.py) states what it changes.
Configs stop at the builders: models, losses and loops take plain values.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from curation.errors import ConfigError
from training.config_checks import fraction, not_negative, positive

AUDIO_ENCODERS = ("cnn14", "htsat")
"""In the order in which the tower joins their outputs (the paper's equation 5)."""
PARTS = (*AUDIO_ENCODERS, "text", "audio_projection", "text_projection", "logit_scale")
"""Of a model: each can be frozen, and has a learning rate of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureConfig:
    """A log-mel front end. Where one is asked for, the name of a preset (training.features.PRESETS) stands for it."""

    sample_rate: int = 44_100
    """Hz. Sound of another rate is resampled to it."""
    n_fft: int = 1024
    """Samples in a window."""
    hop_length: int = 320
    """Samples between frames: 320 at 44.1 kHz is 7.26 ms."""
    n_mels: int = 64
    f_min: float = 50.0
    f_max: float = 8_000.0
    """Hz. Edges of the mel filter bank."""

    def __post_init__(self) -> None:
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ConfigError(
                f"features.f_min={self.f_min} and features.f_max={self.f_max} must satisfy "
                f"0 <= f_min < f_max <= sample_rate / 2 = {self.sample_rate / 2}"
            )
        positive(self, "features", "n_fft", "hop_length", "n_mels")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecAugmentConfig:
    """Stripes masked in training, as PANNs does; widths are uniform from 0 to one less than stated."""

    time_stripes: int = 2
    time_width: int = 64
    """Frames."""
    freq_stripes: int = 2
    freq_width: int = 8
    """Mel bands."""

    def __post_init__(self) -> None:
        not_negative(self, "model.spec_augment", "time_stripes", "time_width", "freq_stripes", "freq_width")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cnn14Config:
    """CNN14; the defaults are PANNs' own."""

    clip_s: float = 20.0
    """Seconds of sound it reads: longer clips are cropped in training and read in windows in evaluation."""
    features: FeatureConfig | None = None
    """A front end of its own, such as that of a published checkpoint; null: the one all share."""
    channels: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    block_dropout: float = 0.2
    head_dropout: float = 0.5

    def __post_init__(self) -> None:
        positive(self, "model.cnn14", "clip_s", "channels")
        fraction(self, "model.cnn14", "block_dropout", "head_dropout")


@dataclass(frozen=True, slots=True, kw_only=True)
class HtsatConfig:
    """HTSAT; the defaults are those of its AudioSet model."""

    clip_s: float = 10.0
    """Seconds of sound it reads; see Cnn14Config."""
    features: FeatureConfig | None = None
    """See Cnn14Config."""
    spec_size: int = 256
    patch_size: int = 4
    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (4, 8, 16, 32)
    window_size: int = 8
    drop_path_rate: float = 0.1
    long_clips: Literal["halves", "centre", "resize", "windows"] = "halves"
    """What becomes of frames beyond those the square holds: see training.models.htsat.LONG_CLIPS."""

    def __post_init__(self) -> None:
        positive(
            self,
            "model.htsat",
            "clip_s",
            "spec_size",
            "patch_size",
            "embed_dim",
            "depths",
            "num_heads",
            "window_size",
        )
        fraction(self, "model.htsat", "drop_path_rate")
        if len(self.depths) != len(self.num_heads):
            raise ConfigError(
                f"model.htsat.depths={list(self.depths)} and model.htsat.num_heads={list(self.num_heads)} "
                "must name the same number of stages"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """The text encoder."""

    encoder: str = "roberta-base"
    """Name or folder of a transformers encoder; "scratch" builds a RoBERTa of the sizes below, with a byte-level BPE
    trained on the training captions."""
    pooling: Literal["first", "mean", "pooler"] = "first"
    """What stands for a text: its first token (RoBERTa, BERT), the mean of its tokens (MiniLM), or the first token
    through the encoder's own dense layer and tanh (LAION's CLAP; what transformers' ClapModel can hold)."""
    max_tokens: int = 77
    """Longer texts are cut."""
    vocab_size: int = 1024
    hidden_size: int = 64
    num_layers: int = 2
    num_heads: int = 4
    ffn_size: int = 128
    dropout: float = 0.1
    """Sizes of a "scratch" encoder; others bring their own."""

    def __post_init__(self) -> None:
        positive(self, "model.text", "max_tokens", "vocab_size", "hidden_size", "num_layers", "num_heads", "ffn_size")
        fraction(self, "model.text", "dropout")
        if self.max_tokens < 3:
            raise ConfigError(f"model.text.max_tokens={self.max_tokens} must be at least 3: two of them mark the ends")
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"model.text.hidden_size={self.hidden_size} must be a multiple of num_heads={self.num_heads}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The two towers and what joins them."""

    audio: str = "cnn14+htsat"
    """Audio encoders, joined by "+"; their outputs are concatenated, CNN14 first."""
    embed_dim: int = 1024
    """Of the common space."""
    projection: Literal["linear", "residual", "mlp"] = "linear"
    """See training.models.projections: the paper's words, its authors' later code, LAION's and transformers' form."""
    projection_bias: bool = True
    """Of "linear"; the other two are as published."""
    initial_temperature: float = 0.007
    """logit_scale starts at ln(1 / this). The paper's 0.007 starts above the clamp, so at 100; CLIP has 0.07."""
    spec_augment: SpecAugmentConfig | None = field(default_factory=SpecAugmentConfig)
    """None: no masking."""
    cnn14: Cnn14Config = field(default_factory=Cnn14Config)
    htsat: HtsatConfig = field(default_factory=HtsatConfig)
    text: TextConfig = field(default_factory=TextConfig)

    def __post_init__(self) -> None:
        names = self.audio.split("+")
        if tuple(names) != tuple(name for name in AUDIO_ENCODERS if name in names):
            raise ConfigError(f"model.audio={self.audio!r} must be one of cnn14, htsat, cnn14+htsat")
        positive(self, "model", "embed_dim", "initial_temperature")

    @property
    def audio_encoders(self) -> tuple[str, ...]:
        """Names of the audio encoders, in the tower's order."""
        return tuple(self.audio.split("+"))


@dataclass(frozen=True, slots=True, kw_only=True)
class InitConfig:
    """Weights to start from: published files, folders made by ``wavtext5k-train convert``, runs. null or none: random.

    ``clap`` is applied first, the others over it.
    """

    cnn14: str | None = None
    htsat: str | None = None
    text: str | None = None
    """A transformers folder, or a run. null: those that come with model.text.encoder."""
    clap: str | None = None
    """A whole model; the recipe must describe the same one, and its tokenizer is used."""

    def __post_init__(self) -> None:
        for name in ("cnn14", "htsat", "text", "clap"):
            if (getattr(self, name) or "none").lower() == "none":
                object.__setattr__(self, name, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestConfig:
    """Clips of one manifest."""

    manifest: str
    """Its folder, or manifest.parquet itself."""
    splits: tuple[str, ...] = ("train",)


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
    workers: int = 0
    """Reading processes beside the training one."""
    cache_mb: int = 512
    """Clips are kept decoded in memory if all fit into this (and workers is 0)."""

    def __post_init__(self) -> None:
        if not self.train:
            raise ConfigError("data.train names no manifest")
        if not self.templates:
            raise ConfigError('data.templates is empty; the paper\'s is ["{title}. {description}"]')
        for name, sources in (("train", self.train), ("val", self.val)):
            for i, source in enumerate(sources):
                if not source.splits:
                    raise ConfigError(f"data.{name}[{i}].splits is empty; name the splits to read, such as [train]")
        not_negative(self, "data", "workers", "cache_mb", "gain_db")


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
    lr_factors: LrFactors = field(default_factory=LrFactors)
    freeze: tuple[str, ...] = ()
    """Parts that are not trained: they keep their weights and run as in evaluation (batch norm holds its statistics,
    no dropout, no masking)."""

    def __post_init__(self) -> None:
        positive(self, "optimizer", "lr")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer.betas={list(self.betas)} must be two numbers in [0, 1)")
        not_negative(self, "optimizer", "weight_decay", "clip_norm")
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

    def __post_init__(self) -> None:
        positive(self, "checkpoint", "every")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """The run as a whole."""

    name: str = ""
    """The recipe's name if empty. The same name resumes."""
    folder: str = "runs"
    epochs: int = 45
    batch_size: int = 128
    """Pairs a step: each sees the others as negatives."""
    eval_every: int = 1
    """Epochs between evaluations on data.val."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    seed: int = 0
    device: str = "auto"
    """auto, cpu, cuda or cuda:1; auto takes a GPU where there is one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: autocast, on a GPU."""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice. Another number rounds differently."""

    def __post_init__(self) -> None:
        positive(self, "run", "epochs", "eval_every", "log_every")
        if self.batch_size < 2:
            raise ConfigError(f"run.batch_size={self.batch_size} must be at least 2: a pair alone has no negatives")
        not_negative(self, "run", "threads", "seed")
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
            if round(encoder.clip_s * rate) < least:
                raise ConfigError(
                    f"model.{name}.clip_s={encoder.clip_s} is too short: at a sample_rate of {rate} the windows "
                    f"and layers need at least {math.ceil(1000 * least / rate) / 1000} s"
                )

    @property
    def run_folder(self) -> Path:
        """Where the run lies."""
        return Path(self.run.folder) / self.run.name
