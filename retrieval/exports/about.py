"""What a model says of itself and of its training: its config.json, and config.yaml of the run that it lies in.

Places are told by their last folder or file alone: a card is published, and where data lies on somebody's machine is
nobody else's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from retrieval.exports.folder import ExportError
from retrieval.exports.scores import folder_name
from training.checkpoint import model_folder, read_description

if TYPE_CHECKING:
    from training.models.clap import Clap


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One manifest that a run was given.

    Attributes:
        role: "train" or "val".
        splits: Of it; empty: every one.
        sha256: Of its content; "" where only config.yaml speaks of it.
    """

    name: str
    role: str
    splits: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a card says of a model.

    Attributes:
        name: The run's.
        sha256: Of its weights file.
        parameters: How many.
        structure: Label and value of what it is made of.
        training: Label and value of how it was trained, as far as anything says.
        sources: Its manifests; empty where nothing names them.
        templates: Of captions made from title, description and tags.
    """

    name: str
    sha256: str
    parameters: int
    structure: dict[str, str]
    training: dict[str, str]
    sources: tuple[Source, ...]
    templates: tuple[str, ...]


def about(model: Clap, run: Path) -> About:
    """Return what is known of a model.

    Args:
        model: The model of the run.
        run: Its run folder, or model folder.

    Raises:
        ExportError: If config.yaml is no YAML.
    """
    folder = model_folder(run).resolve()
    description = read_description(folder)
    run_folder = _run_folder(folder)
    config = _read_config(run_folder / "config.yaml")
    return About(
        name=run_folder.name,
        sha256=model.sha256,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        structure=_structure(model, description),
        training=_training(config, description),
        sources=_sources(config, description),
        templates=tuple(str(each) for each in _list(description.get("caption_templates"))),
    )


def _run_folder(folder: Path) -> Path:
    """Return the run that a model folder lies in, or the folder."""
    if folder.name == "model":
        return folder.parent
    return folder.parent.parent if folder.parent.name == "checkpoints" else folder


def _read_config(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"{file}: not YAML ({reason}); move it away, and the card will not speak of it") from error
    return _dict(values)


def _structure(model: Clap, description: Mapping[str, Any]) -> dict[str, str]:
    settings = _dict(description.get("model"))
    structure = {}
    for name in model.audio.encoders:
        rate = model.audio.front_end(name).sample_rate
        structure[f"audio encoder {name}"] = (
            f"reads {rate / 1000:g} kHz, in windows of {model.audio.clip_samples[name] / rate:g} s"
        )
    text, encoder = _dict(settings.get("text")), _dict(description.get("text_encoder"))
    start = str(text.get("encoder", ""))
    origin = "its tokenizer was trained on the captions" if start == "scratch" else f"built as {Path(start).name}"
    kind, pooling = encoder.get("model_type", "?"), text.get("pooling", "?")
    structure["text encoder"] = f"{kind}, {origin}; pooling: {pooling}; reads {model.max_tokens} tokens"
    projection = settings.get("projection", "linear")
    structure["embeddings"] = f"{model.embed_dim} values, unit length; projections: {projection}"
    return structure


def _training(config: Mapping[str, Any], description: Mapping[str, Any]) -> dict[str, str]:
    asked = {
        "epochs asked for": _dict(config.get("run")).get("epochs"),
        "batch size": _dict(config.get("run")).get("batch_size"),
        "optimizer": _dict(config.get("optimizer")).get("name"),
        "learning rate": _dict(config.get("optimizer")).get("lr"),
        "seed": _dict(config.get("run")).get("seed"),
    }
    training = {name: str(value) for name, value in asked.items() if value is not None}
    for part, origin in _dict(description.get("init")).items():
        path = origin.get("path") if isinstance(origin, dict) else origin
        training[f"{part} began from"] = Path(str(path)).name
    return training


def _sources(config: Mapping[str, Any], description: Mapping[str, Any]) -> tuple[Source, ...]:
    """Return the manifests: as the model recorded them, with their hashes, or as config.yaml names them."""
    recorded = [entry for entry in _list(description.get("data")) if _dict(entry).get("manifest")]
    data = _dict(config.get("data"))
    named = [
        _dict(entry) | {"role": role} for role in ("train", "val") for entry in _list(data.get(role)) if _dict(entry)
    ]
    return tuple(
        Source(
            name=folder_name(str(entry.get("manifest", "?"))),
            role=str(entry.get("role", "train")),
            splits=tuple(str(split) for split in _list(entry.get("splits"))),
            sha256=str(entry.get("sha256", "")),
        )
        for entry in recorded or named
    )


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
