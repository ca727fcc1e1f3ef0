"""CLAP: an audio tower and a text tower that meet in one space (the paper's sections 3.1 and 3.3).

    a = unit(audio_projection(concat(cnn14(x), htsat(x))))        t = unit(text_projection(roberta(y)))

Embedding rule, the same for every call, batch and machine: each encoder reads windows of its own length. A clip that
is shorter goes round (is repeated from its start) until it fills one; a longer one is cut into the fewest evenly
spread windows that cover it, whose encoder outputs are averaged before the projection. Nothing is drawn at random and
windows all have one size, so neither the batch size nor the neighbours in a batch matter. Sound is resampled once, from
its own rate to that of each encoder's front end, as it is in training.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curation.audio import load_waveform, resample
from curation.errors import AudioError, WavTextError
from training.models.ahead import ahead
from training.models.audio_tower import AudioTower, width
from training.models.projections import make_projection
from training.models.text import TextEncoder
from training.tokenizer import pad, token_ids

MAX_LOGIT_SCALE = math.log(100)
"""The logit scale is held below this after each step (Radford et al. 2021)."""

Sound = np.ndarray | Tensor | Path | str
"""A mono waveform (S,) of floats, or an audio file."""


class BrokenModelError(WavTextError):
    """A model whose embeddings are not finite, or not of unit length: its weights are of no use."""


class Clap(nn.Module):
    """The model: two towers, a linear projection each, and the logarithm of the inverse temperature."""

    def __init__(
        self,
        audio: AudioTower,
        text: TextEncoder,
        tokenizer: Any,
        *,
        sample_rate: int = 44_100,
        embed_dim: int = 1024,
        projection: str = "linear",
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
            sample_rate: Hz, of the waveforms that ``embed_audio`` is given without a rate.
            embed_dim: D, of the common space.
            projection: Kind of the projections, see training.models.projections.
            projection_bias: Whether linear projections have a bias.
            initial_temperature: ``logit_scale`` starts at ln(1 / this): the paper's tau read as CLIP's, the logarithm
                of an inverse temperature on unit vectors. As a factor on cosines 0.007 could not train.
            max_tokens: Longer texts are cut.
            description: What builds this model again (training.models.build); written by ``save_pretrained``.
        """
        super().__init__()
        self.audio, self.text, self.tokenizer = audio, text, tokenizer
        self.embed_dim, self.max_tokens, self.description = embed_dim, max_tokens, dict(description or {})
        self.sample_rate = sample_rate
        self.audio_projection = make_projection(projection, audio.num_features, embed_dim, bias=projection_bias)
        self.text_projection = make_projection(projection, text.num_features, embed_dim, bias=projection_bias)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / initial_temperature)))
        self.sha256 = ""
        """Of the weights file this model was loaded from; "" for one that was not."""
        self.embed_dtype: torch.dtype | None = None
        """What ``embed_audio`` and ``embed_text`` compute in where that is not float32: see ``from_pretrained``."""
        self._in_evaluation: tuple[nn.Module, ...] = ()

    def forward(
        self, waveforms: Mapping[str, Tensor], input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return audio and text embeddings (B, D), rows of unit L2 norm, of matching pairs.

        They are float32, or float64 if the weights are.
        """
        audio = self.audio_projection(self.audio(waveforms))
        text = self.text_projection(self.text(input_ids, attention_mask))
        return _unit(audio), _unit(text)

    def parts(self) -> dict[str, nn.Module | nn.Parameter]:
        """Return the parts that can be frozen or trained at rates of their own, by name."""
        return {
            **self.audio.encoders,
            "text": self.text,
            "audio_projection": self.audio_projection,
            "text_projection": self.text_projection,
            "logit_scale": self.logit_scale,
        }

    def freeze(self, names: Iterable[str]) -> None:
        """Keep parts as they are: their weights need no gradient, and they run as in evaluation from now on.

        That means batch norm with its stored statistics, no dropout, no masking; an HTSAT reads long clips by its rule
        for evaluation, which for "halves" takes three passes.

        Raises:
            ValueError: If the model has no such part.
        """
        parts = self.parts()
        names = list(names)
        if unknown := [name for name in names if name not in parts]:
            raise ValueError(f"there is no part {unknown[0]!r} to freeze; this model has {', '.join(parts)}")
        for name in names:
            parts[name].requires_grad_(False)
        self.keep_in_evaluation(part for name in names if isinstance(part := parts[name], nn.Module))

    def keep_in_evaluation(self, modules: Iterable[nn.Module]) -> None:
        """Run modules of this model as in evaluation from now on, in training too; what has weights still trains."""
        self._in_evaluation += tuple(modules)
        self.train(self.training)

    def train(self, mode: bool = True) -> Clap:
        """Set training or evaluation; what was frozen or kept in evaluation stays in it."""
        super().train(mode)
        for module in self._in_evaluation:
            module.train(False)
        return self

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Hold the scale at 100 at most. After the step, not in the forward pass, where it would kill the gradient."""
        if self.logit_scale.requires_grad:  # a frozen one stays as it is
            self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

    @torch.inference_mode()
    def embed_audio(
        self,
        sounds: Iterable[Sound],
        *,
        batch_size: int = 32,
        sample_rate: int | None = None,
        decode_threads: int | None = None,
    ) -> np.ndarray:
        """Return the embeddings (N, D) of sounds of any length: rows of unit L2 norm.

        They are float32, or float64 if the weights are.
        Deterministic; the module docstring states the rule for short and long sounds. Sounds are taken one by one, and
        a few ahead, so a generator over a large collection is never held in memory as a whole.

        Args:
            sounds: Waveforms (S,) of floats in [-1, 1], or audio files of any rate.
            batch_size: Windows encoded at once; changes speed and memory only.
            sample_rate: Of the waveforms, Hz; None: the model's. Files have their own.
            decode_threads: Threads that decode ahead of the model. None: none where the model is on the CPU, which
                its own threads keep busy, and up to 8 where it is on a GPU, which would wait.

        Raises:
            AudioError: If a file gives no sound, or a waveform is empty or has NaN or infinite values.
            BrokenModelError: If an embedding is not finite.
            TypeError: If one file is given instead of a list of sounds, or the weights are in half precision.
            ValueError: If a waveform is not one-dimensional or does not hold floats, or an argument cannot be.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if sample_rate is not None and (not isinstance(sample_rate, int | np.integer) or sample_rate < 1):
            raise ValueError(f"sample_rate must be a whole number of Hz, at least 1, got {sample_rate!r}")
        if isinstance(sounds, str | Path):
            raise TypeError("sounds must be a list of waveforms or files, got one path: embed_audio([path])")
        with self._embedding():
            averages = [_Average(self.audio, names, batch_size) for names in self.audio.readings().values()]
            rates = {average.sample_rate for average in averages}
            threads = self._decode_threads() if decode_threads is None else decode_threads
            heard = partial(_heard, rates=rates, source_rate=sample_rate or self.sample_rate)
            for at_rate in ahead(heard, enumerate(sounds), threads=threads):
                for average in averages:
                    average.add(at_rate[average.sample_rate])
            if not averages[0].counts:
                return np.zeros((0, self.embed_dim), np.float32)
            outputs = {name: output for average in averages for name, output in average.result().items()}
            joined = torch.cat([outputs[name] for name in self.audio.encoders], dim=1)
            return _checked(_unit(self.audio_projection(joined)), "sound")

    @torch.inference_mode()
    def embed_text(self, texts: Iterable[str], *, batch_size: int = 256) -> np.ndarray:
        """Return the embeddings (N, D) of texts: rows as of ``embed_audio``; texts are cut to ``max_tokens``.

        Raises:
            TypeError: If one string is given instead of a list of them, or the weights are in half precision.
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
        with self._embedding():
            ids = token_ids(self.tokenizer, texts, max_tokens=self.max_tokens)
            rows = []
            for start in range(0, len(ids), batch_size):
                batch = pad(ids[start : start + batch_size], pad_id=self.tokenizer.pad_token_id)
                rows.append(self.text_projection(self.text(*(tensor.to(self._device) for tensor in batch))))
            return _checked(_unit(torch.cat(rows)), "text")

    @contextmanager
    def _embedding(self) -> Iterator[None]:
        """Evaluate within the block, in ``embed_dtype``, and go back to training after it if it was."""
        dtypes = {parameter.dtype for parameter in self.parameters()}
        if dtypes not in ({torch.float32}, {torch.float64}):
            half = torch.bfloat16 if torch.bfloat16 in dtypes else torch.float16
            raise TypeError(
                f"the weights are {' and '.join(sorted(map(str, dtypes)))}, not all torch.float32; for embeddings in "
                f"half precision load the model with Clap.from_pretrained(folder, dtype={half}), "
                "which keeps its weights"
            )
        was_training = self.training
        self.eval()
        try:
            with torch.autocast(self._device.type, self.embed_dtype, enabled=self.embed_dtype is not None):
                yield
        finally:
            self.train(was_training)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write model.safetensors, config.json and the tokenizer; each file whole or not at all, weights last."""
        from training.checkpoint import save_model

        save_model(self, Path(folder))

    def save_transformers(self, folder: Path | str) -> list[str]:
        """Write a transformers ClapModel folder; returns what will differ there, a sentence each.

        Raises:
            ConfigError: If transformers' ClapModel cannot hold this model; says why.
        """
        from training.models.transformers_clap import save_transformers

        return save_transformers(self, Path(folder))

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
    ) -> Clap:
        """Return the model that a run's ``model`` folder (or the run's folder) holds, in evaluation mode.

        Args:
            folder: The folder.
            device: Where it computes.
            dtype: torch.float16 or torch.bfloat16: embeddings are computed in it where PyTorch's autocast deems it
                safe, and come out as float32 still. Faster on a GPU, and a little off. None: float32.

        Raises:
            ConfigError: If files are missing, or weights and config do not fit each other.
            ValueError: If dtype is another one.
        """
        from training.checkpoint import load_model

        if dtype not in (None, torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f"dtype must be torch.float32, torch.float16 or torch.bfloat16, got {dtype}")
        model = load_model(Path(folder)).to(device)
        model.embed_dtype = None if dtype == torch.float32 else dtype
        return model

    def _decode_threads(self) -> int:
        return 0 if self._device.type == "cpu" else min(os.cpu_count() or 1, 8)

    @property
    def _device(self) -> torch.device:
        return self.logit_scale.device


def _checked_waveform(sound: np.ndarray | Tensor, index: int) -> np.ndarray:
    """Return a waveform (S,) as float32, if it is one."""
    waveform = sound.detach().cpu().numpy() if isinstance(sound, Tensor) else np.asarray(sound)
    if waveform.ndim != 1:
        raise ValueError(f"sound {index} must be one waveform (S,), got {waveform.shape}; mix channels to mono first")
    if not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(
            f"sound {index} must hold floats in [-1, 1], got {waveform.dtype}; divide 16-bit integers by 32768"
        )
    if len(waveform) == 0:
        raise AudioError(f"sound {index} is empty: a waveform of no samples")
    if not np.isfinite(waveform).all():
        bad = np.flatnonzero(~np.isfinite(waveform))
        raise AudioError(f"sound {index} has {len(bad)} NaN or infinite samples, the first at {bad[0]}")
    return waveform.astype(np.float32)


def _heard(sound: tuple[int, Sound], *, rates: Iterable[int], source_rate: int) -> dict[int, np.ndarray]:
    """Return the waveform (S,) of a sound, given with its number, by rate."""
    number, given = sound
    if not isinstance(given, Path | str):
        given = _checked_waveform(given, number)
    return {rate: _at(rate, given, source_rate=source_rate) for rate in rates}


def _at(rate: int, sound: np.ndarray | Path | str, *, source_rate: int) -> np.ndarray:
    """Return a sound (S,) at a rate: a file's from its own, which it states, a waveform's from ``source_rate``."""
    if isinstance(sound, Path | str):
        return load_waveform(Path(sound), sample_rate=rate)
    return resample(sound, source_rate=source_rate, target_rate=rate)


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
    """Mean outputs over each sound's windows, of the encoders that read alike, in batches that span sounds."""

    tower: AudioTower
    names: list[str]
    batch_size: int
    sums: list[Tensor] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    waiting: list[tuple[int, np.ndarray]] = field(default_factory=list)

    @property
    def sample_rate(self) -> int:
        return self.tower.front_end(self.names[0]).sample_rate

    def add(self, waveform: np.ndarray) -> None:
        cut = windows(waveform, self.tower.clip_samples[self.names[0]])
        self.counts.append(len(cut))
        for window in cut:
            self.waiting.append((len(self.counts) - 1, window))
            if len(self.waiting) == self.batch_size:
                self._encode()

    def result(self) -> dict[str, Tensor]:
        """Return the means (N, num_features) by encoder."""
        self._encode()
        sums = torch.stack(self.sums)
        widths = [width(self.tower.encoders[name]) for name in self.names]
        means = sums / torch.tensor(self.counts, device=sums.device)[:, None]
        return dict(zip(self.names, torch.split(means, widths, dim=1), strict=True))

    def _encode(self) -> None:
        if not self.waiting:
            return
        batch = torch.from_numpy(np.stack([window for _, window in self.waiting]))
        front_end = self.tower.front_end(self.names[0])
        log_mel = front_end(batch.to(front_end.window.device))
        encoded = torch.cat([_wide(self.tower.encoders[name](log_mel)) for name in self.names], dim=1)
        for (index, _), output in zip(self.waiting, encoded, strict=True):
            if index == len(self.sums):
                self.sums.append(output)
            else:
                self.sums[index] = self.sums[index] + output
        self.waiting = []


def _unit(rows: Tensor) -> Tensor:
    """Return rows (N, D) of unit L2 norm, float32 or float64."""
    return F.normalize(_wide(rows), dim=1)


def _wide(rows: Tensor) -> Tensor:
    """Return rows in float32 at least: sums and lengths in half precision would lose digits."""
    return rows if rows.dtype == torch.float64 else rows.float()


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
