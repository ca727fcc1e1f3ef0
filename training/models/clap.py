"""CLAP: an audio tower and a text tower that meet in one space (the paper's sections 3.1 and 3.3).

    a = unit(audio_projection(concat(cnn14(x), htsat(x))))        t = unit(text_projection(roberta(y)))

Embedding rule, the same for every call, batch and machine: each encoder reads windows of its own length. A clip that
is shorter goes round (is repeated from its start) until it fills one; a longer one is cut into the fewest evenly
spread windows that cover it, whose encoder outputs are averaged before the projection. Nothing is drawn at random and
windows all have one size, so neither the batch size nor the neighbours in a batch matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curation.audio import load_waveform, resample
from curation.errors import AudioError, WavTextError
from training.features import LogMel
from training.models.text import TextEncoder
from training.tokenizer import pad, token_ids

MAX_LOGIT_SCALE = math.log(100)
"""The logit scale is held below this after each step (Radford et al. 2021)."""

Sound = np.ndarray | Tensor | Path | str
"""A mono waveform (S,) of floats, or an audio file."""


class BrokenModelError(WavTextError):
    """A model whose embeddings are not finite, or not of unit length: its weights are of no use."""


class AudioTower(nn.Module):
    """Waveforms to the joined outputs of one or more audio encoders."""

    def __init__(self, features: LogMel, encoders: Mapping[str, nn.Module], *, clip_samples: Mapping[str, int]) -> None:
        """Join encoders in the order given.

        Args:
            features: The front end they share.
            encoders: Modules from log-mel (B, T, M) to (B, num_features), by name.
            clip_samples: Samples that each reads.
        """
        super().__init__()
        self.features = features
        self.encoders = nn.ModuleDict(encoders)
        self.clip_samples = dict(clip_samples)
        self.num_features = sum(_width(encoder) for encoder in self.encoders.values())

    def forward(self, waveforms: Mapping[str, Tensor]) -> Tensor:
        """Return (B, num_features) of each encoder's own crop (B, clip_samples[name]) of the same clips.

        Encoders that are given the very same tensor share its spectrogram.
        """
        log_mels: dict[int, Tensor] = {}
        outputs = []
        for name, encoder in self.encoders.items():
            waveform = waveforms[name]
            if id(waveform) not in log_mels:
                log_mels[id(waveform)] = self.features(waveform)
            outputs.append(encoder(log_mels[id(waveform)]))
        return torch.cat(outputs, dim=1)


class Clap(nn.Module):
    """The model: two towers, a linear projection each, and the logarithm of the inverse temperature."""

    def __init__(
        self,
        audio: AudioTower,
        text: TextEncoder,
        tokenizer: Any,
        *,
        embed_dim: int = 1024,
        projection_bias: bool = True,
        initial_temperature: float = 0.007,
        max_tokens: int = 77,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        """Join the towers.

        Args:
            audio: The audio tower.
            text: The text tower.
            tokenizer: A transformers tokenizer that fits it.
            embed_dim: D, of the common space.
            projection_bias: Whether the projections have a bias.
            initial_temperature: ``logit_scale`` starts at ln(1 / this).
            max_tokens: Longer texts are cut.
            description: What builds this model again (training.models.build); written by ``save_pretrained``.
        """
        super().__init__()
        self.audio, self.text, self.tokenizer = audio, text, tokenizer
        self.embed_dim, self.max_tokens, self.description = embed_dim, max_tokens, dict(description or {})
        self.audio_projection = nn.Linear(audio.num_features, embed_dim, bias=projection_bias)
        self.text_projection = nn.Linear(text.num_features, embed_dim, bias=projection_bias)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / initial_temperature)))
        self.sha256 = ""
        """Of the weights file this model was loaded from; "" for one that was not."""

    def forward(
        self, waveforms: Mapping[str, Tensor], input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return audio and text embeddings (B, D), float32 rows of unit L2 norm, of matching pairs."""
        audio = self.audio_projection(self.audio(waveforms))
        text = self.text_projection(self.text(input_ids, attention_mask))
        return F.normalize(audio.float(), dim=1), F.normalize(text.float(), dim=1)

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Hold the scale at 100 at most. After the step, not in the forward pass, where it would kill the gradient."""
        self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms that the model reads."""
        return self.audio.features.sample_rate

    @torch.inference_mode()
    def embed_audio(
        self, sounds: Iterable[Sound], *, batch_size: int = 32, sample_rate: int | None = None
    ) -> np.ndarray:
        """Return the embeddings (N, D) of sounds of any length, float32 rows of unit L2 norm.

        Deterministic; the module docstring states the rule for short and long sounds. Sounds are taken one by one,
        so a generator over a large collection is never held in memory as a whole.

        Args:
            sounds: Waveforms (S,) of floats in [-1, 1], or audio files of any rate.
            batch_size: Windows encoded at once; changes speed and memory only.
            sample_rate: Of the waveforms, Hz; resampled if it is not the model's, which None stands for.

        Raises:
            AudioError: If a file gives no sound, or a waveform is empty or has NaN or infinite values.
            BrokenModelError: If an embedding is not finite.
            TypeError: If one file is given instead of a list of sounds.
            ValueError: If a waveform is not one-dimensional or does not hold floats, or an argument cannot be.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if sample_rate is not None and sample_rate < 1:
            raise ValueError(f"sample_rate must be at least 1 Hz, got {sample_rate}")
        if isinstance(sounds, str | Path):
            raise TypeError("sounds must be a list of waveforms or files, got one path: embed_audio([path])")
        was_training = self.training
        self.eval()
        try:
            averages = [_Average(self.audio, size, batch_size) for size in set(self.audio.clip_samples.values())]
            count = 0
            for count, sound in enumerate(sounds, start=1):
                waveform = self._read(sound, count - 1, sample_rate or self.sample_rate)
                for average in averages:
                    average.add(waveform)
            if count == 0:
                return np.zeros((0, self.embed_dim), np.float32)
            outputs = {name: output for average in averages for name, output in average.result().items()}
            joined = torch.cat([outputs[name] for name in self.audio.encoders], dim=1)
            return _checked(F.normalize(self.audio_projection(joined).float(), dim=1), "sound")
        finally:
            self.train(was_training)

    @torch.inference_mode()
    def embed_text(self, texts: Iterable[str], *, batch_size: int = 256) -> np.ndarray:
        """Return the embeddings (N, D) of texts, float32 rows of unit L2 norm; texts are cut to ``max_tokens``.

        Raises:
            TypeError: If one string is given instead of a list of them.
            ValueError: If a text is empty, or no Unicode (it holds half of a surrogate pair).
            BrokenModelError: If an embedding is not finite.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if isinstance(texts, str):
            raise TypeError("texts must be a list of strings, got one string: embed_text([text])")
        texts = list(texts)
        for i, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"text {i} must be a string with words in it, got {text!r}")
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise ValueError(f"text {i} is not Unicode text: it holds half of a surrogate pair, {ascii(text)[:80]}")
        if not texts:
            return np.zeros((0, self.embed_dim), np.float32)
        was_training = self.training
        self.eval()
        try:
            ids = token_ids(self.tokenizer, texts, max_tokens=self.max_tokens)
            rows = []
            for start in range(0, len(ids), batch_size):
                batch = pad(ids[start : start + batch_size], pad_id=self.tokenizer.pad_token_id)
                rows.append(self.text_projection(self.text(*(tensor.to(self._device) for tensor in batch))))
            return _checked(F.normalize(torch.cat(rows).float(), dim=1), "text")
        finally:
            self.train(was_training)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write model.safetensors, config.json and the tokenizer; each file whole or not at all, weights last."""
        from training.checkpoint import save_model

        save_model(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: Path | str, *, device: str | torch.device = "cpu") -> Clap:
        """Return the model that a run's ``model`` folder (or the run's folder) holds, in evaluation mode.

        Raises:
            ConfigError: If files are missing, or weights and config do not fit each other.
        """
        from training.checkpoint import load_model

        return load_model(Path(folder)).to(device)

    @property
    def _device(self) -> torch.device:
        return self.logit_scale.device

    def _read(self, sound: Sound, index: int, sample_rate: int) -> np.ndarray:
        """Return one sound as a checked float32 waveform (S,) at the model's rate."""
        if isinstance(sound, Path | str):
            return load_waveform(Path(sound), sample_rate=self.sample_rate)
        waveform = sound.detach().cpu().numpy() if isinstance(sound, Tensor) else np.asarray(sound)
        if waveform.ndim != 1:
            raise ValueError(
                f"sound {index} must be one waveform (S,), got {waveform.shape}; mix channels to mono first"
            )
        if not np.issubdtype(waveform.dtype, np.floating):
            raise ValueError(
                f"sound {index} must hold floats in [-1, 1], got {waveform.dtype}; divide 16-bit integers by 32768"
            )
        if len(waveform) == 0:
            raise AudioError(f"sound {index} is empty: a waveform of no samples")
        if not np.isfinite(waveform).all():
            bad = np.flatnonzero(~np.isfinite(waveform))
            raise AudioError(f"sound {index} has {len(bad)} NaN or infinite samples, the first at {bad[0]}")
        return resample(waveform.astype(np.float32), source_rate=sample_rate, target_rate=self.sample_rate)


def windows(waveform: np.ndarray, size: int) -> list[np.ndarray]:
    """Return the windows (size,) that an encoder reads of a waveform (S,): see the module docstring."""
    samples = len(waveform)
    if samples <= size:
        return [np.resize(waveform, size)]
    count = -(-samples // size)
    starts = [i * (samples - size) // (count - 1) for i in range(count)]
    return [waveform[start : start + size] for start in starts]


@dataclass
class _Average:
    """Mean outputs over each sound's windows, of the encoders that read one size, in batches that span sounds."""

    tower: AudioTower
    size: int
    batch_size: int
    sums: list[Tensor] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    waiting: list[tuple[int, np.ndarray]] = field(default_factory=list)

    def add(self, waveform: np.ndarray) -> None:
        cut = windows(waveform, self.size)
        self.counts.append(len(cut))
        for window in cut:
            self.waiting.append((len(self.counts) - 1, window))
            if len(self.waiting) == self.batch_size:
                self._encode()

    def result(self) -> dict[str, Tensor]:
        """Return the means (N, num_features) by encoder."""
        self._encode()
        sums = torch.stack(self.sums)
        encoders = {name: self.tower.encoders[name] for name in self._names}
        widths = [_width(encoder) for encoder in encoders.values()]
        means = sums / torch.tensor(self.counts, device=sums.device)[:, None]
        return dict(zip(encoders, torch.split(means, widths, dim=1), strict=True))

    @property
    def _names(self) -> list[str]:
        return [name for name in self.tower.encoders if self.tower.clip_samples[name] == self.size]

    def _encode(self) -> None:
        if not self.waiting:
            return
        batch = torch.from_numpy(np.stack([window for _, window in self.waiting]))
        log_mel = self.tower.features(batch.to(self.tower.features.window.device))
        encoded = torch.cat([self.tower.encoders[name](log_mel).float() for name in self._names], dim=1)
        for (index, _), output in zip(self.waiting, encoded, strict=True):
            if index == len(self.sums):
                self.sums.append(output)
            else:
                self.sums[index] = self.sums[index] + output
        self.waiting = []


def _checked(rows: Tensor, what: str) -> np.ndarray:
    """Return embeddings (N, D) as an array; lengths other than 1 come from weights that overflow or are NaN."""
    embeddings: np.ndarray = rows.cpu().numpy()
    bad = np.flatnonzero(~(np.abs(np.linalg.norm(embeddings, axis=1) - 1) < 1e-3))
    if len(bad):
        raise BrokenModelError(
            f"the model is broken: its embedding of {what} {bad[0]} (of {len(embeddings)}) is not finite or has no "
            "length; use another model, or train it again with a lower optimizer.lr"
        )
    return embeddings


def _width(encoder: nn.Module) -> int:
    width = encoder.num_features
    assert isinstance(width, int)
    return width
