"""Small text encoders and tokenizers for the tests, built by the same classes as the published ones."""

from __future__ import annotations

import torch

from training.models.compat import prepare_torchvision
from training.models.text import roberta_config
from training.tokenizer import pad, token_ids

prepare_torchvision()
import transformers  # noqa: E402

CAPTIONS = ["A low bell struck twice, fading slowly.", "Heavy rain on a tin roof.", "A dog barks twice."]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
LENGTHS = {"vocab_size": 50, "max_position_embeddings": 20}
_WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a dog bark ##s rain on roof bell low ."


def tiny_roberta(**changes):
    torch.manual_seed(0)
    sizes = {"vocab_size": 320, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "ffn_size": 64, "max_tokens": 24}
    return roberta_config(**sizes | changes)


def write_bert(folder):
    """Write a small BERT laid out as sentence-transformers' models are: with WordPiece, a pooler and others' notes."""
    (folder / "vocab.txt").write_text(_WORDS.replace(" ", "\n"), encoding="utf-8")
    transformers.BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.BertConfig(vocab_size=len(_WORDS.split()), max_position_embeddings=32, **SIZES)
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "modules.json").write_text("[]")
    return folder


def embed(encoder, tokenizer, texts, *, max_tokens=24):
    with torch.inference_mode():
        return encoder.eval()(*pad(token_ids(tokenizer, texts, max_tokens=max_tokens), pad_id=tokenizer.pad_token_id))
