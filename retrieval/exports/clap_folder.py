"""A model as a transformers ClapModel folder that sentence-transformers opens too, each side's vectors checked.

    config.json, model.safetensors, preprocessor_config.json, tokenizer.json, ...     transformers
    modules.json, sentence_bert_config.json, 1_Normalize/, ...                        sentence-transformers

sentence-transformers finds out by itself that a ClapModel reads texts and sounds, but not that vectors are compared at
unit length: the files say so, and pin which outputs are meant. They name classes of its release 6.2; no code is run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from crawler.items import open_whole
from retrieval.exports.checks import TEXTS, Checked, check, difference, sound

if TYPE_CHECKING:
    from training.models.clap import Clap

_MODULES = "sentence_transformers.base.modules"
_SENTENCE_TRANSFORMERS: dict[str, Any] = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": f"{_MODULES}.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Normalize", "type": f"{_MODULES}.normalize.Normalize"},
    ],
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {
            "text": {"method": "get_text_features", "method_output_name": "pooler_output"},
            "audio": {"method": "get_audio_features", "method_output_name": "pooler_output"},
        },
        "module_output_name": "sentence_embedding",
    },
    "1_Normalize/config.json": {
        "module_input_name": "sentence_embedding",
        "module_output_name": "sentence_embedding",
    },
    "config_sentence_transformers.json": {
        "model_type": "SentenceTransformer",
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    },
}
"""By file, what sentence-transformers reads."""


def write_clap(model: Clap, folder: Path, *, say: Callable[[str], None]) -> tuple[Checked, list[str]]:
    """Write a model's folder; return how far it is from the model, and what differs by design, a sentence each.

    Args:
        model: On the CPU, all weights finite.
        folder: An empty one.
        say: Called with what is being done.

    Raises:
        ConfigError: If a ClapModel cannot hold the model; says why.
        ExportError: If embeddings differ by more than the limit.
    """
    say("writing the ClapModel")
    notes = model.save_transformers(folder)
    for name, content in _SENTENCE_TRANSFORMERS.items():
        with open_whole(folder / name, "w") as file:
            file.write(json.dumps(content, indent=2) + "\n")
    say("comparing its embeddings with the model's own")
    audio, text = _differences(model, folder)
    return check(audio=audio, text=text), notes


@torch.inference_mode()
def _differences(model: Clap, folder: Path) -> tuple[list[float], list[float]]:
    """Return how far ClapModel is from the model: sounds of the seconds that it reads, and texts."""
    theirs, processor = _open(folder)
    extractor = processor.feature_extractor
    tokens = processor(text=list(TEXTS), return_tensors="pt", padding=True, truncation=True)
    text = F.normalize(theirs.get_text_features(**tokens).pooler_output, dim=1)
    audio = []
    for waveforms, expected in _sounds(model, extractor.nb_max_samples):
        inputs = processor(audio=waveforms, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        found = F.normalize(theirs.get_audio_features(inputs["input_features"]).pooler_output, dim=1)
        audio.append(difference(found.numpy(), expected))
    return audio, [difference(text.numpy(), model.embed_text(TEXTS))]


def _open(folder: Path) -> tuple[Any, Any]:
    """Return the ClapModel, in evaluation mode, and its processor; without transformers' bar of loaded weights."""
    from transformers import ClapModel, ClapProcessor
    from transformers.utils import logging

    bars: Any = logging
    had_bars = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        model: Any = ClapModel.from_pretrained(folder)
        return model.eval(), ClapProcessor.from_pretrained(folder)
    finally:
        if had_bars:
            bars.enable_progress_bar()


def _sounds(model: Clap, size: int) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """Yield sounds and their expected embeddings.

    Args:
        model: Of one audio encoder.
        size: Samples that the exported model reads.
    """
    (name,) = model.audio.encoders
    front_end = model.audio.front_end(name)
    rate = front_end.sample_rate
    whole = [sound(size, sample_rate=rate, seed=seed) for seed in range(3)]
    yield whole, _of_one_window(model, name, np.stack(whole))
    if size == model.audio.clip_samples[name]:  # else the two fill their windows to different lengths
        short = [
            sound(round(share * size), sample_rate=rate, seed=seed) for seed, share in enumerate((0.03, 0.4, 0.99))
        ]
        yield short, model.embed_audio(short, sample_rate=rate)


def _of_one_window(model: Clap, name: str, window: np.ndarray) -> np.ndarray:
    """Return the embeddings of waveforms (B, S) that are read as they are, whatever the encoder's own window."""
    encoded = model.audio.encoders[name](model.audio.front_end(name)(torch.from_numpy(window)))
    embeddings: np.ndarray = F.normalize(model.audio_projection(encoded), dim=1).numpy()
    return embeddings
