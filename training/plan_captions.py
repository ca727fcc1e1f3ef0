"""The text encoder of a plan: its sizes, and how many tokens the captions of a batch are padded to.

A plan fetches no weights: sizes of the two encoders that the bundled recipes name are known here, so that a plan can
be made before anything is downloaded, and on a machine without a network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import ConfigError
from training.config import TrainConfig
from training.data import Pair
from training.init import clap_start
from training.models.compat import prepare_torchvision
from training.models.hub import folder_or_name, local_or_fetched, not_loaded
from training.models.text import roberta_config
from training.tokenizer import load_tokenizer, token_ids, train_tokenizer

ASSUMED_TOKENS = 32
"""Of a batch's longest caption, where captions or tokenizer are not at hand."""

_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_KNOWN: dict[str, dict[str, Any]] = {
    "roberta-base": {"model_type": "roberta", "vocab_size": 50_265, "max_position_embeddings": 514, **_BASE},
    "bert-base-uncased": {"model_type": "bert", "vocab_size": 30_522, "max_position_embeddings": 512, **_BASE},
}
_KNOWN["roberta-base"] |= {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
"""As published: 124,055,040 and 108,891,648 parameters without pooler."""

_MOST_CAPTIONS = 20_000
"""Captions that are counted in tokens; of more, evenly spread ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPlan:
    """What captions go through."""

    config: dict[str, Any]
    """Of transformers."""
    tokens: int
    """What the captions of a batch are padded to, on average."""
    notes: list[str]
    """What was assumed."""
    problems: list[str]


def plan_text(config: TrainConfig, pairs: Sequence[Pair], weights: Sequence[float], *, batch_size: int) -> TextPlan:
    """Return the text encoder of a recipe, and the tokens of its captions in batches of so many pairs.

    Args:
        config: The recipe.
        pairs: Of the training data; none if they could not be read.
        weights: How often each comes in an epoch.
        batch_size: Of one process.
    """
    notes: list[str] = []
    problems: list[str] = []
    tokenizer, sizes = _encoder(config, pairs, notes, problems)
    most = config.model.text.max_tokens
    if tokenizer is not None and pairs:
        return TextPlan(
            config=sizes,
            tokens=_longest(tokenizer, pairs, weights, batch_size=batch_size, max_tokens=most),
            notes=notes,
            problems=problems,
        )
    lacking = "the tokenizer is not on this machine" if pairs else "data.train could not be read"
    notes.append(f"captions of {min(ASSUMED_TOKENS, most)} tokens are assumed: {lacking}")
    return TextPlan(config=sizes, tokens=min(ASSUMED_TOKENS, most), notes=notes, problems=problems)


def _encoder(
    config: TrainConfig, pairs: Sequence[Pair], notes: list[str], problems: list[str]
) -> tuple[Any, dict[str, Any]]:
    """Return the tokenizer, None where it is not at hand, and the sizes of the encoder."""
    settings = config.model.text
    if config.init.clap is not None:
        try:
            return clap_start(config.init.clap, config.model, config.features)
        except ConfigError:
            pass  # check_init and training say it; the recipe describes the model too
    if settings.encoder != "scratch":
        return _published(settings.encoder, notes, problems)
    tokenizer = None
    if pairs:
        captions = sorted({caption for pair in pairs for caption in pair.captions})
        tokenizer = train_tokenizer(captions, vocab_size=settings.vocab_size, max_tokens=settings.max_tokens)
    sizes = roberta_config(
        vocab_size=settings.vocab_size if tokenizer is None else len(tokenizer),
        hidden_size=settings.hidden_size,
        num_layers=settings.num_layers,
        num_heads=settings.num_heads,
        ffn_size=settings.ffn_size,
        max_tokens=settings.max_tokens,
        dropout=settings.dropout,
    )
    return tokenizer, sizes


def _published(source: str, notes: list[str], problems: list[str]) -> tuple[Any, dict[str, Any]]:
    prepare_torchvision()
    from transformers import AutoConfig

    known = _KNOWN.get(source.rpartition("/")[2])
    try:
        folder = folder_or_name(source)
        if known is None or Path(folder).is_dir():
            sizes = local_or_fetched(AutoConfig.from_pretrained, folder, trust_remote_code=False)
        else:
            sizes = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001  of four libraries, see training.models.text; said as a problem
        if known is None:
            reason = str(error) if isinstance(error, ConfigError) else not_loaded(source, error)
            problems.append(f"model.text.encoder: {reason.removeprefix('model.text.encoder: ')}")
            notes.append(f"the sizes of roberta-base are assumed for {source}")
            return None, _KNOWN["roberta-base"]
        notes.append(f"model.text.encoder={source} is not on this machine: training fetches it; its sizes are known")
        return None, known
    try:
        return load_tokenizer(source), sizes.to_dict()
    except ConfigError as error:
        problems.append(str(error))
        return None, sizes.to_dict()


def _longest(
    tokenizer: Any, pairs: Sequence[Pair], weights: Sequence[float], *, batch_size: int, max_tokens: int
) -> int:
    """Return how many tokens the longest of a batch's captions has on average."""
    step = max(len(pairs) // _MOST_CAPTIONS, 1)
    captions: list[str] = []
    shares: list[float] = []
    for pair, weight in zip(pairs[::step], weights[::step], strict=True):
        captions += pair.captions
        shares += [weight / len(pair.captions)] * len(pair.captions)
    lengths = np.array([len(ids) for ids in token_ids(tokenizer, captions, max_tokens=max_tokens)])
    return math.ceil(expected_longest(lengths, np.array(shares), batch_size))


def expected_longest(lengths: np.ndarray[Any, Any], shares: np.ndarray[Any, Any], draws: int) -> float:
    """Return the mean of the largest of so many lengths, each drawn with a probability in proportion to its share."""
    values, place = np.unique(lengths, return_inverse=True)
    below = np.cumsum(np.bincount(place, weights=shares)) / shares.sum()
    chance = np.diff(np.concatenate([[0.0], np.minimum(below, 1.0) ** draws]))
    return float((values * chance).sum())
