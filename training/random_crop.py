"""The paper's way of reading a long clip: one random piece of it, instead of the model's own embedding rule.

    start = floor(u * (S - W + 1)),   u in [0, 1) drawn from (seed, clip_id) alone

for a clip of S samples and an encoder that reads windows of W; a shorter clip goes round, as in the embedding rule.
All encoders use the clip's one u, so that a shorter window lies inside a longer one, and no clip's piece depends on
the other clips. Scores vary with the seed: that is what the embedding rule does away with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from curation.audio import resample
from training.data import Clip
from training.evaluate import waveforms
from training.models.clap import BrokenModelError, Clap


@torch.inference_mode()
def embed_random_crops(
    model: Clap, clips: Sequence[Clip], *, seed: int, batch_size: int = 32, quiet: bool = False
) -> np.ndarray:
    """Return embeddings (N, D) of one random piece of each clip, float32 rows of unit L2 norm.

    Args:
        model: The model; evaluated as such, whatever state it is in.
        clips: Of a manifest.
        seed: Another one takes other pieces.
        batch_size: Clips encoded at once; changes speed and memory only.
        quiet: Show no progress.

    Raises:
        AudioError: If a clip cannot be decoded.
        BrokenModelError: If an embedding is not finite.
    """
    was_training = model.training
    model.eval()
    rows: list[np.ndarray] = []
    waiting: list[dict[str, np.ndarray]] = []
    for clip, waveform in zip(clips, waveforms(clips, quiet=quiet), strict=True):
        waiting.append(pieces(model, waveform, sample_rate=clip.sample_rate, place=place_of(clip.clip_id, seed=seed)))
        if len(waiting) == batch_size or len(rows) + len(waiting) == len(clips):
            rows.extend(_embedded(model, waiting))
            waiting = []
    model.train(was_training)
    embeddings = np.stack(rows)
    if not np.isfinite(embeddings).all():
        raise BrokenModelError("the model is broken: an embedding of a clip is not finite; use another model")
    return embeddings


def place_of(clip_id: str, *, seed: int) -> float:
    """Return where in [0, 1) the piece of a clip begins: the same wherever and with whatever else it is read."""
    digest = hashlib.sha256(clip_id.encode()).digest()
    return float(np.random.default_rng((seed, *digest)).random())


def pieces(model: Clap, waveform: np.ndarray, *, sample_rate: int, place: float) -> dict[str, np.ndarray]:
    """Return the window that each encoder reads of a waveform (S,), at its rate."""
    rates: dict[int, np.ndarray] = {}
    own = resample(waveform, source_rate=sample_rate, target_rate=model.sample_rate)
    windows = {}
    for name, size in model.audio.clip_samples.items():
        rate = model.audio.front_end(name).sample_rate
        if rate not in rates:
            rates[rate] = resample(own, source_rate=model.sample_rate, target_rate=rate)
        spare = len(rates[rate]) - size
        start = int(place * (spare + 1)) if spare > 0 else 0
        windows[name] = rates[rate][start : start + size] if spare > 0 else np.resize(rates[rate], size)
    return windows


def _embedded(model: Clap, waiting: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    device = model.logit_scale.device
    batch: dict[str, torch.Tensor] = {}
    for names in model.audio.readings().values():  # who reads alike is given one tensor, and shares its spectrogram
        shared = torch.from_numpy(np.stack([windows[names[0]] for windows in waiting])).to(device)
        batch |= dict.fromkeys(names, shared)
    projected = model.audio_projection(model.audio(batch)).float()
    rows: np.ndarray = F.normalize(projected, dim=1).cpu().numpy()
    return rows
