"""Text encoders published as transformers folders (roberta-base, bert-base-uncased): the encoder alone, checked.

There is nothing to rename: our text tower holds transformers' own module. What the pretraining left beside the encoder
(the head that predicts words, a pooler) is dropped, every tensor of the encoder must be there, and the result opens
with ``AutoModel.from_pretrained(folder, add_pooling_layer=False)`` as well as with ``model.text.encoder=folder``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crawler.items import open_whole
from curation.errors import ConfigError
from training.models.compat import prepare_torchvision
from training.models.matching import match
from training.models.report import Report
from training.models.weightfile import read_weights

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_HEAD = "head of its pretraining, which an encoder does not have"
_POOLER = "pooler: texts are pooled by their first token or their mean; roberta-base's own was never trained"


@dataclass(frozen=True, kw_only=True)
class TextWeights:
    """A text encoder's configuration (of transformers) and weights, by the names of its bare model."""

    config: Any
    tensors: dict[str, Tensor]


def weights_file(folder: Path) -> Path:
    """Return the file in a transformers folder that holds all its weights.

    Raises:
        ConfigError: If there is none, or several that share them.
    """
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    for name in WEIGHT_FILES:
        if (folder / f"{name}.index.json").is_file():
            raise ConfigError(
                f"{folder}: its weights are spread over several files ({name}.index.json); write them as one with "
                "transformers: AutoModel.from_pretrained(folder).save_pretrained(other, max_shard_size='100GB')"
            )
    raise ConfigError(f"{folder}: holds no weights (neither {' nor '.join(WEIGHT_FILES)}); fetch the whole folder")


def read_text(folder: Path, report: Report, *, allow_pickle: bool = False) -> TextWeights:
    """Return the text encoder in a transformers folder; the report is told what became of each tensor.

    Raises:
        ConfigError: If it is no text encoder, or one of its tensors is missing, of another shape or not finite.
    """
    config, expected, prefix = _skeleton(folder)
    file = read_weights(weights_file(folder), allow_pickle=allow_pickle)
    report.sha256 = file.sha256
    report.dropped |= dict.fromkeys(file.not_tensors, "not a tensor")
    found: dict[str, str] = {}
    for name in file.tensors:
        short = name.removeprefix(f"{prefix}.")
        if short not in expected:  # BERT's file of 2018 has TensorFlow's names of a norm's two tensors
            short = short.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if short in expected:
            found[short] = name
        elif short.startswith("pooler."):
            report.dropped[name] = _POOLER
        elif short.endswith(("position_ids", "token_type_ids")):
            report.dropped[name] = "computed from the sizes"
        elif name.startswith(f"{prefix}.") or short.partition(".")[0] in {key.partition(".")[0] for key in expected}:
            raise ConfigError(f"{file.path}: holds {name}, for which {type(config).__name__} has no place")
        else:
            report.dropped[name] = _HEAD
    tensors = match(
        report,
        file.tensors,
        found,
        expected=expected,
        what=f"text encoder ({type(config).__name__})",
        their_name=lambda ours: ours,
    )
    return TextWeights(config=config, tensors=tensors)


def save_text(text: TextWeights, tokenizer: Any, folder: Path) -> None:
    """Write a transformers folder of an encoder and its tokenizer.

    Raises:
        ConfigError: If the tokenizer has more tokens than the encoder.
    """
    from safetensors.torch import save

    if len(tokenizer) > text.config.vocab_size:
        raise ConfigError(f"its tokenizer has {len(tokenizer)} tokens, the encoder only {text.config.vocab_size}")
    text.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with open_whole(folder / WEIGHT_FILES[0]) as file:
        file.write(save(text.tensors, metadata={"format": "pt"}))


def _skeleton(folder: Path) -> tuple[Any, dict[str, tuple[int, ...]], str]:
    """Return a folder's configuration, the tensors that its bare encoder has, and the prefix of heads' files."""
    prepare_torchvision()
    from transformers import AutoConfig

    from training.models.text import text_model

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = text_model(config.to_dict())
    except Exception as error:  # transformers raises what it likes: of settings, types, fields, ...
        reason = " ".join(str(error).split()).partition(". ")[0][:200]
        raise ConfigError(f"{folder}: config.json describes no text encoder known here ({reason})") from error
    config.architectures, config.dtype = [type(model).__name__], torch.float32
    return config, {name: tuple(x.shape) for name, x in model.state_dict().items()}, model.base_model_prefix
