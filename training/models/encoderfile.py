"""The audio encoder in a published file: its sizes, its weights by our names, the front end it was trained with.

Widths, depths, heads and windows are read from shapes, so smaller and larger siblings convert too. The sample rate
leaves no trace in them; but every file holds the mel bank it was trained with, which is compared with the known ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from curation.errors import ConfigError
from training.features import PRESETS, slaney_bank
from training.models import published
from training.models.matching import Shapes, encoder_shapes, match
from training.models.parts import Part
from training.models.report import Report, describe_features, named
from training.models.weightfile import WeightFile

_OTHER_BANKS: tuple[dict[str, Any], ...] = (PRESETS["paper"] | {"f_max": 14_000.0},)
"""Front ends beside the presets that files may have been trained with: msclap's settings say this one."""
_MSCLAP_RATE = 44_100
"""Hz: what msclap resamples sound to, whatever mel bank its weights hold."""


def read_encoder(file: WeightFile, kind_name: str, report: Report) -> tuple[Part, str]:
    """Return the audio encoder in a file and what stands before its names; accounts for every tensor below that.

    Raises:
        ConfigError: If it is not all there, or something else; names the first tensor.
    """
    kind = published.KINDS[kind_name]
    prefix = published.prefix_of(kind, list(file.tensors))
    below = {name.removeprefix(prefix): tensor for name, tensor in file.tensors.items() if name.startswith(prefix)}
    if published.is_fusion(list(below)):
        raise ConfigError(
            f"{file.path}: a fusion model, whose first layer reads four spectrograms of a clip; only those without "
            "fusion convert (630k-audioset-best.pt, not 630k-audioset-fusion-best.pt)"
        )
    reasons = {name: published.why_dropped(kind.encoder, name) for name in below}
    report.dropped |= {prefix + name: reason for name, reason in reasons.items() if reason}
    theirs = {published.our_name(kind.encoder, name): prefix + name for name, reason in reasons.items() if not reason}
    settings = _SETTINGS[kind.encoder]({name: tuple(tensor.shape) for name, tensor in below.items()})
    try:
        expected = encoder_shapes(kind.encoder, settings)
    except ValueError as error:
        raise ConfigError(f"{file.path}: no {kind.title} has the sizes {settings}: {error}") from error
    tensors = match(
        report,
        file.tensors,
        theirs,
        expected=expected,
        what=f"{kind.title} ({kind_name})",
        their_name=lambda ours: prefix + published.published_name(kind.encoder, ours),
    )
    report.features = _features(file, kind, below, report)
    part = Part(
        name=kind.encoder,
        tensors=tensors,
        settings=settings,
        features=report.features,
        source=named(file.path, kind_name),
        sha256=file.sha256,
    )
    return part, prefix


def _features(
    file: WeightFile, kind: published.Kind, tensors: Mapping[str, Tensor], report: Report
) -> dict[str, Any] | None:
    """Return the front end that an encoder was trained with, None if it cannot be known; a note says how it is."""
    bank, preset = known_bank(tensors), kind.preset
    if preset is None:
        if bank is not None and bank["sample_rate"] == _MSCLAP_RATE:
            return bank
        report.notes.append(
            f"front end not known, but for {_MSCLAP_RATE} Hz, window 1024, hop 320"
            if bank is None
            else f"it was trained on {_MSCLAP_RATE} Hz sound through the mel bank for {describe_features(bank)}: its "
            f"bands lie {_MSCLAP_RATE / bank['sample_rate']:.3f} times higher than that says; no setting here does this"
        )
        return None
    if bank is not None:
        return bank
    if "logmel_extractor.melW" in tensors:
        report.notes.append("front end not known: the mel bank in the file is none of those known here")
        return None
    kernels = tensors.get("spectrogram_extractor.stft.conv_real.weight")
    if preset == "panns-32k" and (len(kernels) == 257 if kernels is not None else "16k" in file.path.name):
        preset = "panns-16k"
    report.notes.append(f"the file holds no mel bank; by its kind and name the front end is {preset}")
    return dict(PRESETS[preset])


def known_bank(tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Return the front end whose mel bank an encoder's file holds; None if it holds none, or one that is not known.

    Args:
        tensors: Of the encoder, without prefix.
    """
    bank = tensors.get("logmel_extractor.melW")
    if bank is None or not bank.is_floating_point():
        return None
    for known in (*PRESETS.values(), *_OTHER_BANKS):
        if tuple(bank.shape) == (known["n_fft"] // 2 + 1, known["n_mels"]):
            expected = torch.from_numpy(
                slaney_bank(**{key: value for key, value in known.items() if key != "hop_length"})
            )
            if (bank.double() - expected).abs().max() < 5e-3 * expected.max():  # bfloat16 is 2e-3 off
                return dict(known)
    return None


def _cnn14_settings(shapes: Shapes) -> dict[str, Any]:
    """Return the arguments of Cnn14 that a file's shapes tell; the default stands where one is missing."""
    settings: dict[str, Any] = {}
    widths = [shapes.get(f"conv_block{number}.conv1.weight", ()) for number in range(1, 7)]
    if all(len(width) == 4 for width in widths):  # six blocks: CNN6 and CNN10 have four, and pool the last
        settings["channels"] = [width[0] for width in widths]
    if len(bands := shapes.get("bn0.weight", ())) == 1:
        settings["n_mels"] = bands[0]
    if head := shapes.get("fc_audioset.weight"):
        settings["num_classes"] = head[0]
    return settings


def _htsat_settings(shapes: Shapes) -> dict[str, Any]:
    """Return the arguments of Htsat that a file's shapes tell; the default stands where one is missing."""
    settings: dict[str, Any] = {}
    if len(bands := shapes.get("bn0.weight", ())) == 1:
        settings["n_mels"] = bands[0]
    if len(patch := shapes.get("patch_embed.proj.weight", ())) == 4:
        settings["embed_dim"], settings["patch_size"] = patch[0], patch[2]
    blocks: dict[int, set[int]] = {}
    tables: dict[int, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        if place := re.match(r"layers\.(\d{1,3})\.blocks\.(\d{1,3})\.", name):
            blocks.setdefault(int(place[1]), set()).add(int(place[2]))
            if name.endswith("relative_position_bias_table") and len(shape) == 2:
                tables.setdefault(int(place[1]), shape)
    if tables and set(blocks) == set(tables) == set(range(len(blocks))):
        settings["depths"] = [max(blocks[stage]) + 1 for stage in sorted(blocks)]
        settings["num_heads"] = [tables[stage][1] for stage in sorted(tables)]
        settings["window_size"] = (math.isqrt(tables[0][0]) + 1) // 2
    if head := shapes.get("tscam_conv.weight"):
        settings["num_classes"] = head[0]
    if "window_size" in settings and "patch_size" in settings:
        side = _windows_a_side(shapes)
        if side is not None:
            settings["spec_size"] = side * settings["window_size"] * settings["patch_size"]
    return settings


def _windows_a_side(shapes: Shapes) -> int | None:
    """Return how many windows stand side by side in the first stage: its mask has a row for each; one needs no mask."""
    mask = shapes.get("layers.0.blocks.1.attn_mask", ())
    if len(mask) == 3:
        return math.isqrt(mask[0])
    return 1 if "layers.0.blocks.1.attn.relative_position_index" in shapes else None


_SETTINGS: dict[str, Callable[[Shapes], dict[str, Any]]] = {"cnn14": _cnn14_settings, "htsat": _htsat_settings}
