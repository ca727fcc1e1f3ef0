"""Makes files with the names, shapes and wrappers that published checkpoints are documented to have, at any width.

Names and shapes are written out here from the published architectures, not taken from our modules, so that a test that
converts such a file checks the one against the other. Weights are random, or the deterministic fill of golden_fill.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.training.golden_fill import GOLDEN, values
from training.tokenizer import train_tokenizer

Shapes = dict[str, tuple[int, ...]]

NARROW = (4, 4, 8, 8, 16, 16)
SMALL = {"embed_dim": 8, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4)}
"""Sizes of HTSAT: as long a clip and as many windows as at full size, but few channels and blocks."""


def cnn14_shapes(channels: Sequence[int] = NARROW, *, classes: int = 527) -> Shapes:
    shapes = batch_norm("bn0", 64)
    for block, (before, after) in enumerate(zip((1, *channels), channels, strict=False), start=1):
        shapes[f"conv_block{block}.conv1.weight"] = (after, before, 3, 3)
        shapes[f"conv_block{block}.conv2.weight"] = (after, after, 3, 3)
        shapes |= batch_norm(f"conv_block{block}.bn1", after) | batch_norm(f"conv_block{block}.bn2", after)
    shapes |= _layer("fc1", channels[-1], channels[-1])
    return shapes | _layer("fc_audioset", classes, channels[-1])


def htsat_shapes(
    *,
    spec_size: int = 256,
    embed_dim: int = 96,
    depths: Sequence[int] = (2, 2, 6, 2),
    num_heads: Sequence[int] = (4, 8, 16, 32),
    window_size: int = 8,
    classes: int = 527,
) -> Shapes:
    patch, mels = 4, 64
    shapes = batch_norm("bn0", mels)
    shapes |= {"patch_embed.proj.weight": (embed_dim, 1, patch, patch), "patch_embed.proj.bias": (embed_dim,)}
    shapes |= _norm("patch_embed.norm", embed_dim)
    for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
        width, grid = embed_dim * 2**stage, spec_size // patch // 2**stage
        for block in range(depth):
            at = f"layers.{stage}.blocks.{block}"
            if block % 2 and grid > window_size:
                shapes[f"{at}.attn_mask"] = ((grid // window_size) ** 2, window_size**2, window_size**2)
            shapes |= _norm(f"{at}.norm1", width)
            shapes[f"{at}.attn.relative_position_bias_table"] = ((2 * window_size - 1) ** 2, heads)
            shapes[f"{at}.attn.relative_position_index"] = (window_size**2, window_size**2)
            shapes |= _layer(f"{at}.attn.qkv", 3 * width, width) | _layer(f"{at}.attn.proj", width, width)
            shapes |= _norm(f"{at}.norm2", width)
            shapes |= _layer(f"{at}.mlp.fc1", 4 * width, width) | _layer(f"{at}.mlp.fc2", width, 4 * width)
        if stage + 1 < len(depths):
            shapes[f"layers.{stage}.downsample.reduction.weight"] = (2 * width, 4 * width)
            shapes |= _norm(f"layers.{stage}.downsample.norm", 4 * width)
    shapes |= _norm("norm", width)
    bands = spec_size // 2 ** (len(depths) - 1) // patch // (spec_size // mels)
    shapes |= {"tscam_conv.weight": (classes, width, bands, 3), "tscam_conv.bias": (classes,)}
    return shapes | _layer("head", classes, classes)


def front_end(bank: str = "C") -> dict[str, Tensor]:
    """Return the frozen front end of a checkpoint, with a mel bank that librosa made: A to D of frontend.npz."""
    with np.load(GOLDEN / "frontend.npz") as golden:
        mel = torch.from_numpy(golden[f"{bank}_melfb"].T.astype(np.float32).copy())
    kernel = torch.zeros(len(mel), 1, 2 * (len(mel) - 1))
    stft = "spectrogram_extractor.stft"
    return {
        f"{stft}.conv_real.weight": kernel,
        f"{stft}.conv_imag.weight": kernel.clone(),
        "logmel_extractor.melW": mel,
    }


def weights(shapes: Shapes, *, seed: int = 0) -> dict[str, Tensor]:
    """Return random tensors of the shapes, buffers of integers as such."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith(("num_batches_tracked", "relative_position_index")):
            tensors[name] = torch.full(shape, 7, dtype=torch.int64)
        elif name.endswith("running_var"):
            tensors[name] = 0.5 + torch.rand(shape, generator=generator)
        else:
            tensors[name] = 0.1 * torch.randn(shape, generator=generator)
    return tensors


def golden_weights(shapes: Shapes, *, gain: float) -> dict[str, Tensor]:
    """Return the fill behind the golden vectors."""
    tensors = weights({name: shape for name, shape in shapes.items() if math.prod(shape) < 2})
    for name, shape in shapes.items():
        if not name.endswith(("num_batches_tracked", "relative_position_index", "attn_mask")):
            tensors[name] = torch.from_numpy(values(name, shape, gain=gain).astype(np.float32))
        else:
            tensors[name] = torch.zeros(shape)
    return tensors


def msclap(encoder: Mapping[str, Tensor], prefix: str, *, width: int) -> dict[str, Tensor]:
    """Return a whole msclap model around an audio encoder, its caption encoder cut short."""
    generator = torch.Generator().manual_seed(1)
    tensors = {prefix + name: tensor for name, tensor in encoder.items()}
    for tower, size in (("audio_encoder", width), ("caption_encoder", 12)):
        tensors[f"{tower}.projection.linear1.weight"] = torch.randn(16, size, generator=generator)
        tensors[f"{tower}.projection.linear2.weight"] = torch.randn(16, 16, generator=generator)
        tensors[f"{tower}.projection.layer_norm.weight"] = torch.ones(16)
        tensors[f"{tower}.projection.layer_norm.bias"] = torch.zeros(16)
    tensors["caption_encoder.base.embeddings.word_embeddings.weight"] = torch.randn(30, 12, generator=generator)
    return tensors | {"logit_scale": torch.tensor(2.5)}


def laion(encoder: Mapping[str, Tensor], text: Mapping[str, Tensor], *, audio_width: int, embed_dim: int = 16) -> Any:
    """Return a whole LAION model around an audio encoder and a RobertaModel's tensors."""
    tensors = {f"audio_branch.{name}": tensor for name, tensor in encoder.items()}
    tensors |= {f"text_branch.{name}": tensor for name, tensor in text.items()}
    tensors["text_branch.embeddings.position_ids"] = torch.arange(40)[None]
    text_width = text["embeddings.word_embeddings.weight"].shape[1]
    shapes: Shapes = {}
    for tower, width in (("audio", audio_width), ("text", text_width)):
        shapes |= _layer(f"{tower}_projection.0", embed_dim, width)
        shapes |= _layer(f"{tower}_projection.2", embed_dim, embed_dim)
        shapes |= _layer(f"{tower}_transform.sequential.0", embed_dim, embed_dim)
        shapes |= _layer(f"{tower}_transform.sequential.3", embed_dim, embed_dim)
    tensors |= weights(shapes, seed=5)
    return tensors | {"logit_scale_a": torch.tensor(4.0), "logit_scale_t": torch.tensor(2.6593)}


def save_panns(file: Path, tensors: Mapping[str, Tensor], *, old: bool = False, protocol: int = 2) -> Path:
    """Write a file as PANNs' training did: with its sampler's numpy arrays, and (old) in the form before 2020."""
    sampler = {"indexes_per_class": [np.arange(4), np.arange(3)], "queue": [1, 2], "pointers_of_classes": [0, 1]}
    content = {"iteration": 600_000, "model": dict(tensors), "sampler": sampler}
    torch.save(content, file, _use_new_zipfile_serialization=not old, pickle_protocol=protocol)
    return file


def save_averaged(file: Path, tensors: Mapping[str, Tensor]) -> Path:
    """Write a file as HTSAT's averaging of weights does: below ``sed_model``, and every tensor a float."""
    torch.save({"state_dict": {f"sed_model.{name}": tensor.float() for name, tensor in tensors.items()}}, file)
    return file


def save_laion(file: Path, tensors: Mapping[str, Tensor], *, parallel: bool = True) -> Path:
    """Write a file as LAION's training did: from a parallel wrapper, with numpy scalars, in pickle protocol 4."""
    state = {("module." if parallel else "") + name: tensor for name, tensor in tensors.items()}
    content = {"epoch": 3, "name": "small", "state_dict": state, "loss": np.float64(1.5), "optimizer": {"state": {}}}
    torch.save(content, file, pickle_protocol=4)
    return file


def save(file: Path, tensors: Any, wrapper: str | None = None) -> Path:
    """Write a plain file, its tensors below a key if one is given."""
    torch.save({wrapper: tensors} if wrapper else tensors, file)
    return file


@functools.cache
def roberta() -> Any:
    """Return a small RobertaModel, with pooler."""
    from transformers import RobertaConfig, RobertaModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = RobertaConfig(vocab_size=300, max_position_embeddings=40, type_vocab_size=1, pad_token_id=1, **sizes)
        return RobertaModel(config).eval()


WORDS = [f"a dog barks at number {number} of many rainy streets" for number in range(60)]


def save_tokenizer(folder: Path) -> Path:
    """Write a folder such as roberta-base's, for ``roberta``, without its weights: tokenizer and config.json."""
    tokenizer = train_tokenizer(WORDS, vocab_size=300, max_tokens=38)
    assert len(tokenizer) == 300
    tokenizer.save_pretrained(folder)
    roberta().config.save_pretrained(folder)
    return folder


def make(folder: Path, kind: str) -> Path:
    """Write a small file of a kind, as its makers do."""
    if kind == "panns-cnn14":
        return save_panns(folder / "Cnn14_mAP=0.431.pth", CNN14 | front_end("C"), old=True)
    if kind == "htsat-audioset":
        return save_averaged(folder / "HTSAT_AudioSet_Saved_1.ckpt", HTSAT | front_end("C"))
    if kind == "msclap-2022":
        tensors = msclap(CNN14 | front_end("C"), "audio_encoder.base.", width=NARROW[-1])
        return save(folder / "CLAP_weights_2022.pth", tensors, "model")
    if kind == "msclap-2023":
        tensors = msclap(HTSAT | front_end("B"), "audio_encoder.base.htsat.", width=HTSAT_WIDTH)
        return save(folder / "CLAP_weights_2023.pth", tensors, "model")
    tensors = laion(HTSAT, roberta().state_dict(), audio_width=HTSAT_WIDTH)
    return save_laion(folder / "630k-audioset-best.pt", tensors)


def _layer(name: str, out: int, inside: int) -> Shapes:
    return {f"{name}.weight": (out, inside), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def batch_norm(name: str, width: int) -> Shapes:
    buffers: Shapes = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}
    return _norm(name, width) | buffers | {f"{name}.num_batches_tracked": ()}


CNN14 = weights(cnn14_shapes())
HTSAT = weights(htsat_shapes(**SMALL))
HTSAT_WIDTH = 64
