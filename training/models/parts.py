"""Weights of one audio encoder, by our names, with what they need beside them: sizes, front end, where they are from.

    <folder>/   config.json, model.safetensors (written last)

``wavtext5k-train convert`` writes such folders and ``init.cnn14``, ``init.htsat`` read them. They read runs and
published files as well, through the same door, so that one check of names and shapes stands between any file and a
model. The front end comes along as a record only: what a model reads is its recipe's to say.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from crawler.items import open_whole
from curation.errors import ConfigError
from training.config import AUDIO_ENCODERS
from training.models.matching import encoder_shapes, plain
from training.models.weightfile import file_sha256, read_weights

FORMAT = 1
"""Of config.json in a part's folder."""
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

_MODEL_SETTINGS = {
    "cnn14": ("channels",),
    "htsat": ("spec_size", "patch_size", "embed_dim", "depths", "num_heads", "window_size"),
}
"""What a model's description says about an encoder and its shapes depend on."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """An audio encoder's weights."""

    name: str
    """cnn14 or htsat."""
    tensors: dict[str, Tensor]
    """By the names of Cnn14 or Htsat; float32, counters int64; a tagging head included where there is one."""
    settings: dict[str, Any]
    """Arguments of Cnn14 or Htsat that fix shapes."""
    features: dict[str, Any] | None
    """Arguments of the LogMel that they were trained with; None: not known."""
    source: str
    """File name and kind."""
    sha256: str
    """Of that file."""


def save_part(part: Part, folder: Path) -> None:
    """Write a part's folder, the weights last."""
    from safetensors.torch import save

    description = {
        "format": FORMAT,
        "part": part.name,
        "settings": part.settings,
        "features": part.features,
        "source": part.source,
        "source_sha256": part.sha256,
    }
    with open_whole(folder / CONFIG_FILE, "w") as file:
        file.write(json.dumps(description, indent=1, sort_keys=True) + "\n")
    with open_whole(folder / WEIGHTS_FILE) as file:
        file.write(save(part.tensors, metadata={"format": "pt"}))


def load_part(path: Path, name: str, *, allow_pickle: bool = False) -> Part:
    """Return an audio encoder's weights, checked against its sizes.

    Args:
        path: A folder that ``save_part`` wrote, a run or model folder of ours, a published file, or a transformers
            CLAP folder.
        name: Which encoder: cnn14 or htsat.
        allow_pickle: See ``training.models.weightfile.read_weights``.

    Raises:
        ConfigError: If there is nothing there, or no such encoder in it, or not all of one.
        ValueError: If there is no encoder of that name.
    """
    if name not in AUDIO_ENCODERS:
        raise ValueError(f"a part is one of {', '.join(AUDIO_ENCODERS)}, got {name!r}")
    if not path.exists():
        raise ConfigError(
            f"{path}: missing; name weights of {name} (a published file, a folder that wavtext5k-train convert wrote, "
            "or a run), or none for random ones"
        )
    if path.is_dir() and (own := _own_folder(path)) is not None:
        return _saved(own, name)
    if path.is_dir() and (model := find_model(path)) is not None:
        return _of_model(model, name)
    from training.models.convert import read_published  # which itself makes parts

    published = read_published(path, allow_pickle=allow_pickle)
    if name not in published.parts:
        raise ConfigError(
            f"{path}: {published.kind} holds {', '.join(published.parts) or 'no audio encoder'}, not {name}"
        )
    return published.parts[name]


def _own_folder(folder: Path) -> Path | None:
    return folder if "part" in read_config(folder) else None


def find_model(folder: Path) -> Path | None:
    """Return the model folder of a run of ours, or the folder if it is one; None for what others made.

    Raises:
        ConfigError: If it is a run that has no model yet, or its config.json is no JSON object.
    """
    for inside in (folder / "model", folder):
        if "text_encoder" in read_config(inside):
            return inside
    if (folder / "checkpoints").is_dir():
        raise ConfigError(f"{folder}: the run has no model yet; train it on with the command that began it")
    return None


def read_config(folder: Path) -> dict[str, Any]:
    """Return the object in a folder's config.json, empty if there is none.

    Raises:
        ConfigError: If the file is no JSON object.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: must hold an object")
    return values


def _saved(folder: Path, name: str) -> Part:
    """Return the part in a folder of ``save_part``."""
    config = read_config(folder)
    if config.get("format") != FORMAT:
        raise ConfigError(f"{folder}: {CONFIG_FILE} has format {config.get('format')!r}, this code reads {FORMAT}")
    if config["part"] != name:
        raise ConfigError(f"{folder}: holds weights of {config['part']}, not of {name}")
    try:
        settings, source, sha256 = dict(config["settings"]), str(config["source"]), str(config["source_sha256"])
        features = None if config["features"] is None else dict(config["features"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(_damaged(folder, f"{CONFIG_FILE}: {type(error).__name__}: {error}")) from error
    tensors = _checked(folder, _weights(folder), name, settings)
    return Part(name=name, tensors=tensors, settings=settings, features=features, source=source, sha256=sha256)


def _of_model(folder: Path, name: str) -> Part:
    """Return one audio encoder of a model folder of ours."""
    config = read_config(folder)
    prefix = f"audio.encoders.{name}."
    try:
        model, shared = config["model"], config["features"]
        encoders = model["audio"].split("+")
        if name not in encoders:
            raise ConfigError(f"{folder}: the model has no {name} (model.audio={model['audio']})")
        features = model[name].get("features") or shared
        settings = {key: model[name][key] for key in _MODEL_SETTINGS[name]} | {"n_mels": features["n_mels"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(_damaged(folder, f"{CONFIG_FILE}: {type(error).__name__}: {error}")) from error
    weights = _weights(folder)
    own = {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}
    tensors = _checked(folder, own, name, settings)
    sha256 = file_sha256(folder / WEIGHTS_FILE)
    source = f"{folder} (run)"
    return Part(name=name, tensors=tensors, settings=settings, features=dict(features), source=source, sha256=sha256)


def _weights(folder: Path) -> dict[str, Tensor]:
    if not (folder / WEIGHTS_FILE).is_file():
        raise ConfigError(_damaged(folder, f"{WEIGHTS_FILE} is missing"))
    return read_weights(folder / WEIGHTS_FILE).tensors


def _checked(folder: Path, tensors: dict[str, Tensor], name: str, settings: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors if they are exactly those of an encoder of the settings."""
    try:
        expected = encoder_shapes(name, settings)
    except ValueError as error:
        raise ConfigError(_damaged(folder, f"no {name} has such sizes: {error}")) from error
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            raise ConfigError(
                _damaged(
                    folder,
                    f"{key} has shape {found.get(key, 'none')} in {WEIGHTS_FILE}, {expected.get(key, 'none')} by "
                    f"{CONFIG_FILE}",
                )
            )
    try:
        return {key: plain(tensor, name=key) for key, tensor in tensors.items()}
    except ValueError as error:
        raise ConfigError(_damaged(folder, str(error))) from error


def _damaged(folder: Path, reason: str) -> str:
    return f"{folder}: damaged ({reason}); remove it and make it again"
