"""A small model in training, and a batch of real loader's making for it."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import torch

from tests.training.clips import small_config, tone, write_clips
from training.data import make_pairs, read_clips
from training.loader import make_loader
from training.loading import Batch, PairDataset
from training.models.batchnorm import prepare_batch_norm
from training.models.build import clip_samples, new_clap
from training.models.clap import Clap
from training.sampling import EpochSampler
from training.tokenizer import token_ids


def model_and_batch(
    pairs: int, *, dropout: float, batch_norm: str = "batch", dtype: torch.dtype = torch.float32
) -> tuple[Clap, Batch]:
    """Return a model in training mode, and one batch as a worker hands it over (16-bit, gains, cuts)."""
    rates = {
        "cnn14": {"block_dropout": dropout, "head_dropout": dropout},
        "htsat": {"drop_path_rate": dropout},
        "text": {"dropout": dropout},
        **({} if dropout else {"spec_augment": None}),
    }
    rng = np.random.default_rng(3)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            {"waveform": tone(200 * 1.25**i, 0.7) + rng.normal(0, 0.02, round(0.7 * 44_100)).astype(np.float32)}
            for i in range(pairs)
        ]
        config = small_config(Path(folder), write_clips(Path(folder) / "clips", rows), model=rates)
        clips = read_clips(config.data.train, config.data.templates)
        found = make_pairs(clips, "one")
        captions = sorted({caption for pair in found for caption in pair.captions})
        torch.manual_seed(1)
        model = new_clap(config.model, config.features, captions=captions)
        ids = dict(zip(captions, token_ids(model.tokenizer, captions, max_tokens=model.max_tokens), strict=True))
        sizes = clip_samples(config.model, config.features)
        dataset = PairDataset(clips, found, ids, clip_samples=sizes, seed=0, gain_db=3.0)
        sampler = EpochSampler(found, clips, batch_size=pairs, seed=0)
        batch = next(iter(make_loader(dataset, sampler, pad_id=model.tokenizer.pad_token_id, workers=0)))
    for encoder in model.audio.encoders.values():  # decibels in, units on: as training would leave it
        encoder.bn0.running_mean.fill_(-40)
        encoder.bn0.running_var.fill_(400)
    prepare_batch_norm(model, batch_norm)
    if dtype != torch.float32:
        model, batch = model.to(dtype), _in(batch.to(torch.device("cpu")), dtype)
    return model.train(), batch


def _in(batch: Batch, dtype: torch.dtype) -> Batch:
    return dataclasses.replace(
        copy.copy(batch), waveforms={name: tensor.to(dtype) for name, tensor in batch.waveforms.items()}
    )
