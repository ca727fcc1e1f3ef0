"""Small models in run folders, the command on its own, and the code that a model card shows."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import typer
from typer.testing import CliRunner

from curation.errors import exit_on_error
from retrieval.export_cli import export
from tests.training.clips import small_config
from training.models.build import new_clap
from training.models.clap import Clap

CAPTIONS = ["A dog barks.", "Rain falls on a roof.", "A low bell struck twice, fading slowly."]
HTSAT_ONLY = {
    "audio": "htsat",
    "projection": "mlp",
    "htsat": {"clip_s": 1.0, "window_size": 4, "patch_size": 4},
    "text": {"pooling": "pooler", "max_tokens": 24},
}
"""Settings of a model that a ClapModel can hold."""

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(exit_on_error()(export))


def invoke(*words: object) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of ``wavtext5k-search export WORDS``."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.stdout, done.stderr


def small_run(folder: Path, *, seed: int = 0, description: dict[str, Any] | None = None, **model: Any) -> Path:
    """Write a run folder with a model of random weights whose first batch norms know what sounds are like.

    It has read texts, as in training: a tokenizer that was used is written otherwise than one that was not.
    """
    config = small_config(Path(), Path(), model=model)
    torch.manual_seed(seed)
    clap = new_clap(config.model, config.features, captions=CAPTIONS).eval()
    for name, buffer in clap.named_buffers():
        if name.endswith("bn0.running_mean"):
            buffer.fill_(-40.0)
        elif name.endswith("bn0.running_var"):
            buffer.fill_(300.0)
    clap.embed_text(CAPTIONS)
    clap.description |= description or {}
    clap.save_pretrained(folder / "model")
    return folder


def noise(num_samples: int, *, seed: int) -> np.ndarray:
    """Return noise of a colour and a level of its own."""
    generator = np.random.default_rng(seed)
    white = generator.standard_normal(num_samples + 8)
    return (0.1 * (seed + 1) * np.convolve(white, np.ones(seed + 1) / (seed + 1))[:num_samples]).astype(np.float32)


def snippets(card: Path) -> list[str]:
    """Return the Python code in a model card."""
    return re.findall(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), flags=re.DOTALL)


def run_snippet(code: str, folder: Path, *, sound: np.ndarray, sample_rate: int) -> dict[str, Any]:
    """Run code of a card where it says it is run: in the export's folder, beside a sound. Return its names."""
    soundfile.write(folder / "sound.wav", sound, sample_rate, subtype="FLOAT")
    here = contextlib.chdir(folder)
    names: dict[str, Any] = {}
    try:
        with here:
            exec(compile(code, "the card", "exec"), names)
    finally:
        (folder / "sound.wav").unlink()
    return names


def difference(found: Any, expected: np.ndarray) -> float:
    """Return the largest difference of two arrays of one shape."""
    found = np.asarray(found)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max())


def loaded(run: Path) -> Clap:
    """Return a run's model."""
    return Clap.from_pretrained(run)
