"""Experiment D of the paper as benchmarks/train_step.py times it: its sizes, its model, and one training step.

Joined here, and not by training.models.clap, which reads sound files: so a GPU machine needs no package for them. The
parts are the project's own; only the rival's front end is written here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.features import LogMel, SpecAugment
from training.losses import contrastive_loss
from training.models.cnn14 import Cnn14
from training.models.htsat import Htsat
from training.models.text import TextEncoder, roberta_config, text_model

PARTS = ("cnn14", "htsat", "text", "audio_projection", "text_projection")
Batch = tuple[dict[str, Tensor], Tensor, Tensor]
"""Waveforms by encoder, token ids, attention mask."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of the model and its batch."""

    pairs: int = 128
    seconds: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"cnn14": 20.0, "htsat": 10.0})
    checked_s: float = 5.0
    """Short of HTSAT's 1,024 frames, beyond which it crops at random."""
    tokens: int = 32
    embed_dim: int = 1024
    cnn14: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    htsat: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    text: Mapping[str, int] = dataclasses.field(
        default_factory=lambda: {
            "vocab_size": 50_265,
            "hidden_size": 768,
            "num_layers": 12,
            "num_heads": 12,
            "ffn_size": 3072,
            "max_tokens": 512,
        }
    )
    matmul: int = 8192
    """Side of the matrices whose product measures the card."""
    backend: str = "inductor"
    """Of torch.compile."""


TINY = Sizes(
    pairs=8,
    seconds={"cnn14": 0.5, "htsat": 0.4},
    checked_s=0.4,
    tokens=8,
    embed_dim=16,
    cnn14={"channels": (4, 8, 8)},
    htsat={
        "spec_size": 64,
        "patch_size": 8,
        "embed_dim": 8,
        "depths": (1, 1),
        "num_heads": (2, 2),
        "window_size": 4,
    },
    text={"vocab_size": 300, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "ffn_size": 32, "max_tokens": 16},
    matmul=256,
    backend="aot_eager",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run the step."""

    name: str
    precision: str = "bfloat16"
    is_rival: bool = False
    tf32: bool = False
    channels_last: bool = False
    is_compiled: bool = False


OFF, ON = "rival, TF32 off", "rival, TF32 on"
VARIANTS = (
    Variant(name=OFF, precision="float32", is_rival=True),
    Variant(name=ON, precision="float32", is_rival=True, tf32=True),
    Variant(name="bf16"),
    Variant(name="bf16, channels-last", channels_last=True),
    Variant(name="bf16, channels-last, compiled", channels_last=True, is_compiled=True),
    Variant(name="bf16, compiled", is_compiled=True),
)
EXACT = Variant(name="eager float32", precision="float32")


class ConvLogMel(nn.Module):
    """The front end as torchlibrosa computes it: a windowed Fourier transform written as two convolutions."""

    def __init__(self, log_mel: LogMel) -> None:
        super().__init__()
        self.n_fft, self.hop_length = log_mel.n_fft, log_mel.hop_length
        turns = torch.arange(self.n_fft // 2 + 1)[:, None] * torch.arange(self.n_fft) % self.n_fft
        phase = turns * (2 * math.pi / self.n_fft)
        window = torch.hann_window(self.n_fft, periodic=True, dtype=torch.float64)
        self.register_buffer("real", (window * phase.double().cos()).float()[:, None])
        self.register_buffer("imag", (window * phase.double().sin()).float()[:, None])
        self.register_buffer("mel_bank", log_mel.mel_bank.clone())

    def forward(self, waveform: Tensor) -> Tensor:
        """Return (B, T, M) in dB of waveforms (B, S)."""
        padded = F.pad(waveform[:, None], (self.n_fft // 2, self.n_fft // 2), mode="reflect")
        real = F.conv1d(padded, self.get_buffer("real"), stride=self.hop_length)
        imag = F.conv1d(padded, self.get_buffer("imag"), stride=self.hop_length)
        mel = (real.square() + imag.square()).transpose(1, 2) @ self.get_buffer("mel_bank")
        return 10.0 * torch.log10(mel.clamp(min=1e-10))


class Model(nn.Module):
    """Experiment D: both audio encoders, joined in the paper's order, the text encoder, and the projections."""

    def __init__(self, sizes: Sizes, *, is_rival: bool, is_random: bool) -> None:
        """Build it with random weights; without ``is_random`` no dropout, drop path or masking is in it."""
        super().__init__()
        front_end = LogMel()
        self.front_end = ConvLogMel(front_end) if is_rival else front_end
        calm: dict[str, Any] = {} if is_random else {"block_dropout": 0.0, "head_dropout": 0.0}
        self.cnn14 = Cnn14(**{"spec_augment": SpecAugment() if is_random else None, **calm, **sizes.cnn14})
        calm = {} if is_random else {"drop_path_rate": 0.0}
        self.htsat = Htsat(**{"spec_augment": SpecAugment() if is_random else None, **calm, **sizes.htsat})
        self.text = TextEncoder(text_model(roberta_config(**sizes.text, dropout=0.1 if is_random else 0.0)))
        width = self.cnn14.num_features + self.htsat.num_features
        self.audio_projection = nn.Linear(width, sizes.embed_dim)
        self.text_projection = nn.Linear(self.text.num_features, sizes.embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(
        self, waveforms: Mapping[str, Tensor], input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return embeddings (B, D), float32 rows of unit length."""
        outputs = [self.cnn14(self.front_end(waveforms["cnn14"])), self.htsat(self.front_end(waveforms["htsat"]))]
        audio = self.audio_projection(torch.cat(outputs, dim=1))
        text = self.text_projection(self.text(input_ids, attention_mask))
        return F.normalize(audio.float(), dim=1), F.normalize(text.float(), dim=1)


class Step:
    """A variant that is built: calling it takes one training step and returns the loss."""

    def __init__(self, variant: Variant, sizes: Sizes, device: torch.device, *, is_random: bool = True) -> None:
        self.variant, self.device = variant, device
        torch.manual_seed(0)
        self.model = Model(sizes, is_rival=variant.is_rival, is_random=is_random).to(device).train()
        if variant.channels_last:
            self.model.cnn14.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if variant.is_compiled:
            for encoder in (self.model.cnn14, self.model.htsat, self.model.text):
                encoder.compile(backend=sizes.backend, dynamic=False)
        fused = None if variant.is_rival else True
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=fused)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss, its graph with it."""
        torch.backends.cuda.matmul.allow_tf32 = self.variant.tf32
        torch.backends.cudnn.allow_tf32 = self.variant.tf32
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.variant.precision == "bfloat16"):
            audio, text = self.model(*batch)
        return contrastive_loss(audio, text, self.model.logit_scale.exp())

    def __call__(self, batch: Batch) -> Tensor:
        loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(100))
        return loss.detach()

    def gradients(self, batch: Batch) -> tuple[float, dict[str, Tensor]]:
        """Return the loss and the gradient of each part as one vector."""
        loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        parts = {name: self.model.get_submodule(name).parameters() for name in PARTS}
        return loss.item(), {
            name: torch.cat([p.grad.float().flatten() for p in those if p.grad is not None])
            for name, those in parts.items()
        }


def make_batch(sizes: Sizes, pairs: int, device: torch.device) -> Batch:
    """Return tones over noise, each pair at a pitch and level of its own, and random tokens."""
    generator = torch.Generator(device).manual_seed(0)
    waveforms = {}
    for name, seconds in sizes.seconds.items():
        samples = round(seconds * 44_100)
        noise = torch.randn(pairs, samples, generator=generator, device=device)
        pitch = torch.linspace(0.01, 1.0, pairs, device=device)[:, None] * torch.arange(samples, device=device)
        level = torch.logspace(-3, -1, pairs, device=device).flip(0)[:, None]
        waveforms[name] = 0.3 * pitch.sin_() + noise.mul_(level)
    shape = (pairs, sizes.tokens)
    input_ids = torch.randint(5, sizes.text["vocab_size"], shape, generator=generator, device=device)
    return waveforms, input_ids, torch.ones_like(input_ids)
