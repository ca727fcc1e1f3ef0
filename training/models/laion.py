"""LAION's published CLAP, whole: HTSAT, RoBERTa with its pooler, and two-layer projections, as a model of ours.

Its files hold no tokenizer and no settings. Sizes come from shapes; the tokenizer, roberta-base's, from a folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from curation.errors import ConfigError
from training.config import FeatureConfig, HtsatConfig, ModelConfig, TextConfig
from training.features import PRESETS
from training.models.matching import match
from training.models.parts import Part
from training.models.report import Report
from training.recipe import from_dict

if TYPE_CHECKING:
    from training.models.clap import Clap

TOWERS = ("text_branch.", "audio_projection.", "text_projection.", "logit_scale_a")
"""What stands before the names of a whole model's tensors, beside the audio encoder's."""

MAX_TOKENS = 77
CLIP_S = 10.0
_START_OF_SCALE = 0.07
_AUDIO, _HEAD = "audio_branch.", "tscam_conv."
_HEAD_WIDTH = 64
"""Of an attention head in every published RoBERTa; heads leave no trace in shapes."""


def laion_clap(tensors: Mapping[str, Tensor], audio: Part, tokenizer: Path, report: Report) -> Clap:
    """Return the whole model, in evaluation mode; the report is told what became of each tensor.

    Args:
        tensors: Of the file, those below TOWERS.
        audio: The audio encoder.
        tokenizer: Folder of roberta-base, or of its tokenizer alone.
        report: Of the audio encoder's conversion.

    Raises:
        ConfigError: If the tokenizer does not fit, or a tensor is missing, strange, of another shape or not finite.
    """
    from training.models.build import build_clap
    from training.models.text import text_model
    from training.tokenizer import load_tokenizer

    config = _text_config(tensors, tokenizer, report.source)
    words = load_tokenizer(tokenizer)
    if len(words) != config["vocab_size"] or words.pad_token_id != 1:
        raise ConfigError(
            f"{tokenizer}: its tokenizer has {len(words)} tokens and pads with {words.pad_token_id}, the text encoder "
            f"in {report.source} has {config['vocab_size']} and 1; name the folder of roberta-base's"
        )
    layer = tensors.get("audio_projection.2.weight")
    shapes = {key: value for key, value in audio.settings.items() if key not in ("n_mels", "num_classes")}
    model = ModelConfig(
        audio="htsat",
        embed_dim=512 if layer is None else len(layer),
        projection="mlp",
        initial_temperature=_START_OF_SCALE,
        htsat=from_dict(HtsatConfig, {"clip_s": CLIP_S, **shapes}),
        text=TextConfig(
            encoder="roberta-base",
            pooling="pooler",
            max_tokens=min(MAX_TOKENS, config["max_position_embeddings"] - 2),
        ),
    )
    if audio.features is None:
        report.notes.append("the model reads the front end laion-48k, as LAION's models do")
    features = FeatureConfig(**(audio.features or PRESETS["laion-48k"]))
    with torch.random.fork_rng(devices=[]):  # random weights first: reading moves no generator of the caller's
        text = text_model(config, pooler=True)
        clap = build_clap(model, features, text=text, tokenizer=words)
    _load(clap, tensors, audio, report)
    return clap.eval()


def _text_config(tensors: Mapping[str, Tensor], tokenizer: Path, source: str) -> dict[str, Any]:
    """Return the transformers configuration of the text encoder, by its shapes."""
    from training.models.text import roberta_config

    def size(name: str, axis: int = 0) -> int:
        tensor = tensors.get("text_branch." + name)
        if tensor is None or tensor.ndim <= axis:
            raise ConfigError(f"{source}: text_branch.{name} is missing; its text encoder is no RoBERTa")
        return int(tensor.shape[axis])

    if (types := size("embeddings.token_type_embeddings.weight")) != 1:
        raise ConfigError(f"{source}: its text encoder has {types} token types, so it is a BERT; only RoBERTa converts")
    layers = [re.match(r"text_branch\.encoder\.layer\.(\d+)\.", name) for name in tensors]
    width = size("embeddings.word_embeddings.weight", 1)
    return roberta_config(
        vocab_size=size("embeddings.word_embeddings.weight"),
        hidden_size=width,
        num_layers=1 + max((int(layer[1]) for layer in layers if layer), default=0),
        num_heads=_heads(tokenizer, width),
        ffn_size=size("encoder.layer.0.intermediate.dense.weight"),
        max_tokens=size("embeddings.position_embeddings.weight") - 2,
    )


def _heads(folder: Path, width: int) -> int:
    """Return how many attention heads a text encoder has, by the config.json beside its tokenizer, if it is its own."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config["hidden_size"] == width:
            return int(config["num_attention_heads"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return max(width // _HEAD_WIDTH, 1)


def _load(clap: Clap, tensors: Mapping[str, Tensor], audio: Part, report: Report) -> None:
    """Put every tensor into its place."""
    computed = [name for name in tensors if name.endswith((".position_ids", ".token_type_ids"))]
    report.dropped |= dict.fromkeys(computed, "computed from the sizes")
    state = match(
        report,
        tensors,
        {_our_name(name): name for name in tensors if name not in computed},
        expected={name: tuple(x.shape) for name, x in clap.state_dict().items() if not name.startswith("audio.")},
        what="RoBERTa with two-layer projections (laion-630k)",
        their_name=_their_name,
    )
    for name, tensor in audio.tensors.items():
        if not name.startswith(_HEAD):
            state[f"audio.encoders.htsat.{name}"] = tensor
    for name in [name for name in report.matched if name.startswith(_AUDIO + _HEAD)]:
        report.matched.remove(name)
        report.num_parameters -= audio.tensors[name.removeprefix(_AUDIO)].numel()
        report.dropped[name] = "tagging head, which a CLAP model does not have"
    clap.load_state_dict(state)


def _our_name(name: str) -> str:
    if name == "logit_scale_a":
        return "logit_scale"
    if name.startswith("text_branch."):
        return "text.model." + name.removeprefix("text_branch.")
    return name.replace("_projection.0.", "_projection.linear1.").replace("_projection.2.", "_projection.linear2.")


def _their_name(name: str) -> str:
    if name == "logit_scale":
        return "logit_scale_a"
    if name.startswith("text.model."):
        return "text_branch." + name.removeprefix("text.model.")
    return name.replace(".linear1.", ".0.").replace(".linear2.", ".2.")
