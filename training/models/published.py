"""The names that published checkpoints give their audio encoders, and ours for them.

PANNs (Cnn14 and its 16 kHz and frame-wise sisters), HTSAT, msclap and LAION-CLAP: all are Cnn14 or HTSAT inside, below
prefixes of their own. What their files hold beyond ours is listed here with the reason why it is dropped. Front-end
tensors always are, although every file has them: the mel bank of another sample rate has the same shape as ours and
would replace it without a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from training.models.matching import encoder_shapes


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One family of published files whose weights are an audio encoder, alone or among others."""

    title: str
    encoder: str
    """cnn14 or htsat."""
    prefixes: tuple[str, ...]
    """What stands before the encoder's own names; the first that fits."""
    preset: str | None
    """The front end (training.features.PRESETS) of a file without a mel bank that tells; None: unknown."""
    beside: Mapping[str, str]
    """Prefix of what is not the encoder's, and why it is dropped."""


_MSCLAP = {
    "audio_encoder.projection.": "msclap's projection meets a caption encoder that is not converted",
    "caption_encoder.": "msclap's caption encoder is BERT or GPT-2 with a pooling of its own",
    "logit_scale": "belongs to the caption encoder",
}
KINDS = {
    "panns-cnn14": Kind(
        title="CNN14 of PANNs", encoder="cnn14", prefixes=("", "sed_model."), preset="panns-32k", beside={}
    ),
    "htsat-audioset": Kind(title="HTSAT", encoder="htsat", prefixes=("sed_model.", ""), preset="panns-32k", beside={}),
    "msclap-2022": Kind(
        title="audio tower of msclap 2022",
        encoder="cnn14",
        prefixes=("audio_encoder.base.",),
        preset=None,
        beside=_MSCLAP,
    ),
    "msclap-2023": Kind(
        title="audio tower of msclap 2023",
        encoder="htsat",
        prefixes=("audio_encoder.base.htsat.",),
        preset=None,
        beside=_MSCLAP,
    ),
    "laion-630k": Kind(
        title="LAION-CLAP",
        encoder="htsat",
        prefixes=("audio_branch.",),
        preset="laion-48k",
        beside={
            "audio_transform.": "a head of LAION's second loss, no part of the embedding",
            "text_transform.": "a head of LAION's second loss, no part of the embedding",
            "logit_scale_t": "stays at its start; logit_scale_a is the one that is used",
        },
    ),
}
"""By the name that ``--kind`` takes."""

_SIGNATURE = {"cnn14": "conv_block1.", "htsat": "patch_embed."}
_FRONT_END = "front end: computed, and a mel bank of another sample rate would pass for ours"
_DROPPED = {
    "cnn14": (
        (r"(spectrogram|logmel)_extractor\..*", _FRONT_END),
        (r"att_block\..*", "attention head for tagging, which ours does not have"),
    ),
    "htsat": (
        (r"(spectrogram|logmel)_extractor\..*", _FRONT_END),
        (r".*\.(relative_position_index|attn_mask)", "computed from the sizes"),
        (r"head\..*", "never used beside the token-semantic head"),
    ),
}
"""Patterns of what an encoder's files hold beyond ours, and why it is left out."""
_FUSION = re.compile(r"(.*\.)?(mel_conv[12]d|fusion_model)\..*")


def find_kind(names: list[str]) -> str | None:
    """Return which kind a file's tensors are by their names, None if none."""
    for name, kind in KINDS.items():
        if any(other.startswith(prefix + _SIGNATURE[kind.encoder]) for prefix in kind.prefixes for other in names):
            return name
    return None


def prefix_of(kind: Kind, names: list[str]) -> str:
    """Return what stands before the encoder's names in a file of a kind."""
    fits = (p for p in kind.prefixes if any(name.startswith(p + _SIGNATURE[kind.encoder]) for name in names))
    return next(fits, kind.prefixes[0])


def nearest(names: list[str]) -> str:
    """Return in words what a file of no kind holds, and how far that is from the kind it is nearest to."""
    held = f"it holds {len(names)} tensors ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
    best, lacking = "", [""]
    for name, kind in KINDS.items():
        needed = [published_name(kind.encoder, ours) for ours in encoder_shapes(kind.encoder, {})]
        lacks = [short for short in needed if not any(other.endswith(short) for other in names)]
        if len(lacks) < 0.7 * len(needed) and (not best or len(lacks) < len(lacking)):
            best, lacking = name, lacks
    if not best:
        return f"{held}, which are not near any of these"
    if not lacking:
        return f"{held}: those of {best}, with something else in front of their names"
    return f"{held}; the nearest is {best}, of which it lacks {len(lacking)}, first {lacking[0]}"


def our_name(encoder: str, name: str) -> str:
    """Return our name of a tensor that an encoder's file names so."""
    if encoder == "cnn14" or name.startswith(("bn0.", "tscam_conv.")):
        return name
    stage = re.match(r"layers\.(\d+)\.downsample\.", name)  # ours merges patches at the start of the next stage
    return "body." + (f"layers.{int(stage[1]) + 1}.downsample.{name[stage.end() :]}" if stage else name)


def published_name(encoder: str, name: str) -> str:
    """Return the way back of ``our_name``."""
    name = name.removeprefix("body.")
    stage = re.match(r"layers\.(\d+)\.downsample\.", name) if encoder == "htsat" else None
    return f"layers.{int(stage[1]) - 1}.downsample.{name[stage.end() :]}" if stage else name


def why_dropped(encoder: str, name: str) -> str | None:
    """Return why a tensor below an encoder's prefix is left out; None: it is not."""
    return next((reason for pattern, reason in _DROPPED[encoder] if re.fullmatch(pattern, name)), None)


def is_fusion(names: list[str]) -> bool:
    """Return whether a file is LAION's feature fusion: an encoder of four spectrograms at once."""
    return any(_FUSION.fullmatch(name) for name in names)
