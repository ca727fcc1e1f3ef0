"""Makes model folders of real, tiny, untrained models: what evaluation needs of a run, without the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from curation.manifest import manifest_hash
from tests.training.clips import small_config
from training.checkpoint import save_model
from training.models.build import new_clap
from training.models.clap import Clap

CAPTIONS = ("A dog barks.", "Rain falls on a roof.", "Tone 1. A steady tone, number 1.")


def small_model(*, seed: int = 0) -> Clap:
    """Return a model of both encoders whose windows are 0.5 s and 0.4 s, in evaluation mode."""
    torch.manual_seed(seed)
    config = small_config(Path(), Path())
    return new_clap(config.model, config.features, captions=CAPTIONS).eval()


def save_small_model(folder: Path, *, seed: int = 0, **description: Any) -> Path:
    """Write a run folder with a model in it whose config.json says more; returns the folder."""
    model = small_model(seed=seed)
    model.description.update(description)
    save_model(model, folder / "model")
    return folder


def trained_on(manifest: Path, *splits: str, role: str = "train") -> dict[str, Any]:
    """Return what a model's description says of one manifest it was trained on."""
    return {"role": role, "manifest": str(manifest), "splits": list(splits), "sha256": manifest_hash(manifest)}
