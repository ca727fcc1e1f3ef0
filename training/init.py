"""Weights to start from: published encoders, converted models or earlier runs, put into a freshly built model.

Reads what the settings ``init.cnn14``, ``init.htsat``, ``init.text`` and ``init.clap`` name; writes nothing. A part
starts from random weights only where nothing is named for it: a file that is missing, or that leaves a single tensor
unset, ends the run. Training would otherwise go on without a word, and its scores would be those of another model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from curation.errors import ConfigError
from training import checkpoint
from training.config import AUDIO_ENCODERS, FeatureConfig, InitConfig, ModelConfig
from training.init_checks import (
    check_architecture,
    check_front_end,
    check_same_tokenizer,
    check_sizes,
    check_text,
    missing,
    naming,
    otherwise,
    place_of,
    read_clap_description,
    read_description,
)
from training.models.clap import Clap
from training.models.parts import load_part
from training.models.text import pretrained_text_model
from training.recipe import to_dict
from training.runlog import say
from training.tokenizer import load_tokenizer

_SPARE = {"cnn14": "fc_audioset.", "htsat": "tscam_conv.", "text": "pooler."}
"""What a part may hold and a model need not: tagging heads, and the pooler, which one way of pooling uses."""


def initialise(model: Clap, config: InitConfig) -> dict[str, Any]:
    """Load weights into a freshly built model; returns where they come from, by part, for its description.

    ``init.clap`` is applied first, those of single parts over it. What is loaded, what of a file is left out, and an
    encoder that is fed by another front end than it was trained with, are said on stderr.

    Raises:
        ConfigError: If a path does not exist, holds no such part, or a part that is not the one that the recipe
            describes; the message names the setting to change.
    """
    check_init(config, tuple(model.audio.encoders))
    origin: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):  # models that are read start random: that is not to move the run's dice
        if config.clap is not None:
            origin["clap"] = _load_clap(model, config.clap)
        for name in model.audio.encoders:
            if (path := getattr(config, name)) is not None:
                origin[name] = _load_encoder(model, name, path)
        if config.text is not None:
            origin["text"] = _load_text(model, config.text)
    if "clap" in origin and len(origin) > 1:
        say(f"init      {', '.join(f'init.{name}' for name in origin if name != 'clap')} replaced parts of init.clap")
    return origin


def check_init(config: InitConfig, encoders: Collection[str]) -> None:
    """Refuse what cannot be before anything is read: missing files, and parts that the model does not have.

    Args:
        config: The settings.
        encoders: The audio encoders of the model.

    Raises:
        ConfigError: One line a setting.
    """
    problems = []
    for name in ("clap", *AUDIO_ENCODERS, "text"):
        path = getattr(config, name)
        if path is None:
            continue
        if name in AUDIO_ENCODERS and name not in encoders:
            problems.append(
                f"init.{name}={path}: the model has no {name} (model.audio={'+'.join(encoders)}); "
                f"set init.{name}=none, or model.audio={'+'.join(AUDIO_ENCODERS)}"
            )
        elif (message := missing(name, path)) is not None:
            problems.append(message)
    if problems:
        raise ConfigError("\n".join(problems))


def clap_start(path: str, model: ModelConfig, features: FeatureConfig) -> tuple[Any, dict[str, Any]]:
    """Return the tokenizer of ``init.clap`` and the configuration of its text encoder, to build the model around.

    Args:
        path: The setting: a run, or a model folder.
        model: The recipe's model.
        features: The recipe's shared front end.

    Raises:
        ConfigError: If there is no model, or not the one that the recipe describes: every setting that differs is
            listed as an override to copy.
    """
    if (message := missing("clap", path)) is not None:
        raise ConfigError(message)
    description = read_clap_description(path)
    check_architecture(path, description, {"model": to_dict(model), "features": to_dict(features)})
    with naming("clap", path):
        return load_tokenizer(checkpoint.model_folder(place_of(path))), description["text_encoder"]


def _load_clap(model: Clap, path: str) -> dict[str, Any]:
    check_architecture(path, read_clap_description(path), model.description)
    with naming("clap", path):
        source = checkpoint.load_model(place_of(path))
    check_same_tokenizer("clap", path, source.tokenizer, model.tokenizer)
    count = _copy(model, source.state_dict(), "clap", path)
    say(f"init      all parts: {count} tensors of {path} (sha256 {source.sha256[:12]})")
    features = source.description["features"]
    return {"path": path, "source": path, "sha256": source.sha256, "kind": "clap", "features": features}


def _load_encoder(model: Clap, name: str, path: str) -> dict[str, Any]:
    with naming(name, path):
        part = load_part(place_of(path), name)
    check_sizes(name, path, part, model)
    count = _copy(model.audio.encoders[name], part.tensors, name, path)
    say(f"init      {name}: {count} tensors of {part.source} (sha256 {part.sha256[:12]})")
    front_end: Any = model.audio.features[name]
    check_front_end(name, part, front_end)
    features = None if part.features is None else dict(part.features)
    return {"path": path, "source": part.source, "sha256": part.sha256, "kind": "part", "features": features}


def _load_text(model: Clap, path: str) -> dict[str, Any]:
    folder = place_of(path)
    with naming("text", path):
        is_ours = (folder / "checkpoints").is_dir() or "text_encoder" in read_description(folder)
        if is_ours:
            source = checkpoint.load_model(folder)
            encoder, tokenizer = source.text.model, source.tokenizer
        else:
            encoder = pretrained_text_model(str(folder), pooler=model.text.pooling == "pooler")
            tokenizer = load_tokenizer(str(folder))
    check_same_tokenizer("text", path, tokenizer, model.tokenizer)
    check_text(path, encoder.config.to_dict(), model.text.config)
    count = _copy(model.text.model, encoder.state_dict(), "text", path)
    has_file = is_ours or (folder / checkpoint.WEIGHTS_FILE).is_file()
    sha256 = checkpoint.model_hash(folder) if has_file else None
    say(f"init      text: {count} tensors of {path}" + (f" (sha256 {sha256[:12]})" if sha256 else ""))
    return {"path": path, "source": path, "sha256": sha256, "kind": "text", "features": None}


def _copy(module: nn.Module, tensors: Mapping[str, Tensor], name: str, path: str) -> int:
    """Copy every tensor of a module from those given; returns how many there were."""
    needed, place = module.state_dict(), f"init.{name}={path}"
    if lacking := [tensor for tensor in needed if tensor not in tensors]:
        raise ConfigError(
            f"{place}: it lacks {lacking[0]} ({len(lacking)} of {len(needed)} tensors are missing); {otherwise(name)}"
        )
    for tensor, value in needed.items():
        if value.shape != tensors[tensor].shape:
            raise ConfigError(
                f"{place}: {tensor} has shape {tuple(tensors[tensor].shape)}, the model's {tuple(value.shape)}; "
                + otherwise(name)
            )
    unused = sorted(tensors.keys() - needed.keys())
    if strange := [tensor for tensor in unused if not tensor.startswith(_SPARE.get(name, "/"))]:
        raise ConfigError(f"{place}: it holds {strange[0]}, for which the model has no place; {otherwise(name)}")
    if unused:
        say(f"init      {name}: left out of {path}, the model has no such head: {', '.join(unused)}")
    module.load_state_dict({tensor: tensors[tensor] for tensor in needed})
    for tensor, value in module.state_dict().items():
        if not value.isfinite().all():
            raise ConfigError(f"{place}: {tensor} is not finite, so the file is of no use; {otherwise(name)}")
    return len(needed)
