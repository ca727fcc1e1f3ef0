"""Our tensor names to those of transformers' ClapModel, and back; nothing but names, splits and joins.

Both implement HTSAT and RoBERTa. Three things are more than another name: ClapModel keeps query, key and value apart
where timm has one ``qkv``; it merges patches at the end of a stage, timm at the start of the next; and it has two
logit scales, which the published models mean to be one (LAION-AI/CLAP issue 109), so both get ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

AUDIO = "audio_model.audio_encoder."
"""Prefix of HTSAT's tensors in ClapModel."""
_OURS_AUDIO = "audio.encoders.htsat."
_PREFIXES = {
    "text.model.": "text_model.",
    "audio_projection.": "audio_projection.",
    "text_projection.": "text_projection.",
}
"""Other parts, whose names differ in the prefix alone."""

_INSIDE = {
    "norm1.": "layernorm_before.",
    "norm2.": "layernorm_after.",
    "mlp.fc1.": "intermediate.dense.",
    "mlp.fc2.": "output.dense.",
    "attn.proj.": "attention.output.dense.",
    "attn.relative_position_bias_table": "attention.self.relative_position_bias_table",
}
"""Of a Swin block."""
_THIRDS = ("query", "key", "value")
"""Rows of qkv, in this order."""

COMPUTED = ("position_ids", "token_type_ids", "relative_position_index")
"""Buffers that follow from the sizes; ours are not stored."""


def htsat_to_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an ``Htsat`` under the names below ClapAudioModel's ``audio_encoder``.

    The tagging head (``tscam_conv``), which ClapAudioModel does not have, is left out. ``relative_position_index``,
    which ours does not store, is not among them.
    """
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith("tscam_conv."):
            continue
        for new, part in _split(name, tensor):
            named[new] = part
    return named


def htsat_from_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a ClapAudioModel's ``audio_encoder`` under the names of ``Htsat``: the way back.

    Raises:
        ValueError: If one of query, key and value is missing.
    """
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(COMPUTED):
            continue
        first = re.fullmatch(r"(.*)\.attention\.self\.(query|key|value)\.(weight|bias)", name)
        if first is None:
            named[_ours(name)] = tensor
        elif first[2] == "query":
            names = [f"{first[1]}.attention.self.{third}.{first[3]}" for third in _THIRDS]
            if missing := [third for third in names if third not in tensors]:
                raise ValueError(f"{name} is there, {' and '.join(missing)} not")
            named[f"body.{first[1]}.attn.qkv.{first[3]}"] = torch.cat([tensors[third] for third in names])
    return named


def clap_to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an HTSAT-only ``Clap`` under the names of ClapModel.

    A linear projection becomes the first layer, and the identity the second: exact where the activation between them
    is none (``projection_hidden_act="linear"``). A missing bias becomes zeros.
    """
    named: dict[str, Tensor] = {}
    audio = {name.removeprefix(_OURS_AUDIO): x for name, x in state.items() if name.startswith(_OURS_AUDIO)}
    for name, tensor in htsat_to_transformers(audio).items():
        named[AUDIO + name] = tensor
    for ours, theirs in _PREFIXES.items():
        for name, tensor in state.items():
            if name.startswith(ours):
                named[theirs + name.removeprefix(ours)] = tensor
    for part in ("audio_projection", "text_projection"):
        if f"{part}.weight" in named:
            _with_identity(named, part)
    named |= {"logit_scale_a": state["logit_scale"], "logit_scale_t": state["logit_scale"].clone()}
    return named


def clap_from_transformers(tensors: Mapping[str, Tensor], *, linear: bool, bias: bool = True) -> dict[str, Tensor]:
    """Return the tensors of a ClapModel under the names of an HTSAT-only ``Clap``.

    Args:
        tensors: Of the ClapModel; the buffers that follow from sizes and ``logit_scale_t`` are passed over.
        linear: Whether its projections are a first layer and the identity, which become one linear layer.
        bias: Whether that layer has a bias.

    Raises:
        ValueError: If one of query, key and value is missing.
    """
    audio = {name.removeprefix(AUDIO): x for name, x in tensors.items() if name.startswith(AUDIO)}
    named = {_OURS_AUDIO + name: x for name, x in htsat_from_transformers(audio).items()}
    for ours, theirs in _PREFIXES.items():
        for name, tensor in tensors.items():
            if not name.startswith(theirs) or name.endswith(COMPUTED):
                continue
            rest = name.removeprefix(theirs)
            if linear and theirs.endswith("projection."):
                if rest.startswith("linear2.") or (rest == "linear1.bias" and not bias):
                    continue
                rest = rest.removeprefix("linear1.")
            named[ours + rest] = tensor
    if "logit_scale_a" in tensors:
        named["logit_scale"] = tensors["logit_scale_a"]
    return named


def is_identity(tensors: Mapping[str, Tensor], part: str) -> bool:
    """Return whether the second layer of a ClapModel's projection gives back exactly what it is given."""
    weight, bias = tensors[f"{part}.linear2.weight"], tensors[f"{part}.linear2.bias"]
    return torch.equal(weight, torch.eye(len(weight), dtype=weight.dtype)) and not bias.any()


def _split(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """Return one of our HTSAT tensors as the one or three that it is in ClapAudioModel."""
    if name.startswith("bn0."):
        return [(name.replace("bn0.", "batch_norm."), tensor)]
    name = name.removeprefix("body.")
    stage, _, rest = name.removeprefix("layers.").partition(".")
    if rest.startswith("downsample."):
        return [(f"layers.{int(stage) - 1}.{rest}", tensor)]
    if ".attn.qkv." in name:
        names = [name.replace(".attn.qkv.", f".attention.self.{third}.") for third in _THIRDS]
        return list(zip(names, tensor.chunk(3), strict=True))
    return [(_inside(name, _INSIDE), tensor)]


def _ours(name: str) -> str:
    """Return our name of an HTSAT tensor that is the same single tensor in ClapAudioModel."""
    if name.startswith("batch_norm."):
        return name.replace("batch_norm.", "bn0.")
    stage, _, rest = name.removeprefix("layers.").partition(".")
    if rest.startswith("downsample."):
        return f"body.layers.{int(stage) + 1}.{rest}"
    return "body." + _inside(name, {theirs: ours for ours, theirs in _INSIDE.items()})


def _inside(name: str, names: Mapping[str, str]) -> str:
    """Return a name with the part that follows its block's number exchanged."""
    block = re.match(r"layers\.\d+\.blocks\.\d+\.", name)
    if block is None:
        return name
    rest = name[block.end() :]
    old = next((old for old in names if rest.startswith(old)), "")
    return block[0] + names[old] + rest.removeprefix(old) if old else name


def _with_identity(named: dict[str, Tensor], part: str) -> None:
    """Make a linear projection two layers."""
    weight = named.pop(f"{part}.weight")
    bias = named.pop(f"{part}.bias", None)
    zeros = weight.new_zeros(len(weight))
    named[f"{part}.linear1.weight"] = weight
    named[f"{part}.linear1.bias"] = zeros if bias is None else bias
    named[f"{part}.linear2.weight"] = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
    named[f"{part}.linear2.bias"] = zeros.clone()
