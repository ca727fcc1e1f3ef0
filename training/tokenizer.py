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
from training.models.hub import folder_or_name, local_or_fetched, not_loaded

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
    """Return the tokenizer in a folder, or of a published model. No code that comes with one is run.

    Raises:
        ConfigError: If there is none, or it cannot be loaded.
    """
    prepare_torchvision()
    from transformers import AutoTokenizer

    source = folder_or_name(source)
    if Path(source).is_dir() and not any((Path(source) / name).is_file() for name in _TOKENIZER_FILES):
        raise ConfigError(f"{source}: holds no tokenizer (none of {', '.join(_TOKENIZER_FILES)})")
    try:
        return local_or_fetched(AutoTokenizer.from_pretrained, source, trust_remote_code=False)
    except Exception as error:  # tokenizers raises plain Exception; a broken file gives AttributeError, TypeError, ...
        raise ConfigError(not_loaded(source, error)) from error


def check_vocabulary(tokenizer: Any, text_model: Any) -> None:
    """Refuse a tokenizer whose ids a text encoder does not have, or does not mean.

    Args:
        tokenizer: A transformers tokenizer.
        text_model: A transformers encoder.

    Raises:
        ConfigError: If an id lies beyond the encoder's embeddings, padding has another id, or there is no padding; or
            if an empty text has no token at all, so that there is nothing to take its vector from.
    """
    kind, rows = text_model.config.model_type, text_model.get_input_embeddings().weight.shape[0]
    token, last = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if last >= rows:
        raise ConfigError(
            f"the tokenizer goes with another text encoder: its ids end with {last} ({token!r}), and the {kind} model "
            f"has {rows} embeddings; name a folder that holds both, as they were published"
        )
    expected, found = getattr(text_model.config, "pad_token_id", None), tokenizer.pad_token_id
    if found is None:
        raise ConfigError(f"the tokenizer of the {kind} model has no padding token; set pad_token in its files")
    if expected is not None and found != expected:
        raise ConfigError(
            f"the tokenizer goes with another text encoder: it pads with id {found}, and the {kind} model with "
            f"{expected}; name a folder that holds both, as they were published"
        )
    if not tokenizer("")["input_ids"]:
        raise ConfigError(f"the tokenizer of the {kind} model marks no ends: an empty text would have no token at all")


def write_tokenizer(tokenizer: Any, folder: Path | str) -> None:
    """Write a tokenizer's files, without the truncation and the padding of its last call.

    A fast tokenizer keeps them as if they were its settings. Whoever loads its files would be given the length as
    ``max_length``, and transformers' processors pass that on: ClapProcessor would cut sounds to 77 samples.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    for name in ("max_length", "stride", "truncation_strategy"):
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(folder)


def token_ids(tokenizer: Any, texts: Sequence[str], *, max_tokens: int) -> list[list[int]]:
    """Return the ids of each text, special tokens included, cut to ``max_tokens`` whatever the tokenizer's own limit.

    Raises:
        ValueError: If ``max_tokens`` leaves no room for a token beside the special ones.
    """
    special = tokenizer.num_special_tokens_to_add()
    if max_tokens <= special:
        raise ValueError(f"max_tokens={max_tokens} leaves no room beside {special} special tokens")
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    return ids


def pad(ids: Sequence[Sequence[int]], *, pad_id: int) -> tuple[Tensor, Tensor]:
    """Return ids (B, L) padded on the right to the longest, and their mask (B, L), 1 for tokens."""
    length = max(len(row) for row in ids)
    padded = torch.full((len(ids), length), pad_id, dtype=torch.long)
    mask = torch.zeros((len(ids), length), dtype=torch.long)
    for i, row in enumerate(ids):
        padded[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[i, : len(row)] = 1
    return padded, mask


_TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.json", "vocab.txt"),
    *("tokenizer.model", "sentencepiece.bpe.model", "spiece.model", "spm.model"),
)
