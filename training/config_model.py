"""The settings of a model: front ends, encoders, the towers' joint space, and the weights to start from.

Defaults are the paper's (section 4.2 of arXiv:2209.14275). training.config holds the rest of a recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    """Hz. Sound of another rate is resampled to it, once, from its own."""
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
    """A front end of its own, such as that of a published checkpoint; what it leaves out is the shared one's. null: the
    one all share."""
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
    """Sizes of a "scratch" encoder, and its dropout, over init.clap's too; others bring their own."""

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
    batch_norm: Literal["batch", "sync", "frozen"] = "batch"
    """Statistics in training: of each process's own pairs, of the pairs of all processes (GPUs only), or the stored
    ones, for encoders that come pretrained."""
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
