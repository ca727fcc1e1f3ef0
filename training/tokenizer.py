"""Captions to token ids: a pretrained encoder's own tokenizer, or a byte-level BPE trained on the captions at hand.

Texts are always cut to the encoder's length; more tokens than positions would be an index error far from its cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curation.errors import ConfigError
from training.models.compat import prepare_torchvision

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""In the order of their ids in a trained tokenizer; the first four are RoBERTa's ids too."""


def train_tokenizer(captions: Iterable[str], *, vocab_size: int, max_tokens: int) -> Any:
    """Return a RoBERTa-like tokenizer whose byte-level BPE is trained on captions.

    Its alphabet is all 256 bytes, so no text is unknown to it. The same captions give the same tokenizer. Unlike
    RoBERTa's it is blind to case and to a word's place at the start: on a few hundred captions "Rain", "rain" and
    " rain" would otherwise be three words, and a query in small letters would not meet the titles' capitals.

    Args:
        captions: The training captions.
        vocab_size: Of the result at most, special tokens and bytes included; at least 261.
        max_tokens: Its ``model_max_length``.

    Raises:
        ConfigError: If vocab_size does not hold the bytes and the special tokens.
    """
    prepare_torchvision()
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    least = 256 + len(SPECIAL_TOKENS)
    if vocab_size < least:
        raise ConfigError(f"model.text.vocab_size={vocab_size} must be at least {least}: all bytes, and special tokens")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=True)
    wrap: Any = PreTrainedTokenizerFast
    return wrap(
        tokenizer_object=tokenizer,
        model_max_length=max_tokens,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def load_tokenizer(source: str | Path) -> Any:
    """Return the tokenizer in a folder, or of a published model.

    Raises:
        ConfigError: If there is none.
    """
    prepare_torchvision()
    from transformers import AutoTokenizer

    from training.models.text import local_or_fetched, not_loaded

    if Path(source).is_dir() and not any((Path(source) / name).is_file() for name in _TOKENIZER_FILES):
        raise ConfigError(f"{source}: holds no tokenizer (none of {', '.join(_TOKENIZER_FILES)})")
    try:
        return local_or_fetched(AutoTokenizer.from_pretrained, str(source))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(not_loaded(str(source), error)) from error


def token_ids(tokenizer: Any, texts: Sequence[str], *, max_tokens: int) -> list[list[int]]:
    """Return the ids of each text, special tokens included, cut to ``max_tokens``."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    return ids


def pad(ids: Sequence[Sequence[int]], *, pad_id: int) -> tuple[Tensor, Tensor]:
    """Return ids (B, L) padded to the longest, and their mask (B, L), 1 for tokens."""
    length = max(len(row) for row in ids)
    padded = torch.full((len(ids), length), pad_id, dtype=torch.long)
    mask = torch.zeros((len(ids), length), dtype=torch.long)
    for i, row in enumerate(ids):
        padded[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[i, : len(row)] = 1
    return padded, mask


_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt")
