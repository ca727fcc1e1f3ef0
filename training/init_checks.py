"""Whether weights fit the model that a recipe describes, and what to change where they do not.

A mistake here is the first thing that whoever fine-tunes meets, and the costliest if it passes: shapes do not show
another number of heads, another mel bank or another vocabulary. So settings are compared, not shapes alone.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation.errors import ConfigError
from training import checkpoint
from training.config import FeatureConfig, ModelConfig
from training.features import PRESETS, LogMel
from training.models.clap import Clap
from training.models.parts import Part
from training.models.report import describe_features
from training.recipe import from_dict, to_dict
from training.runlog import say
from training.tokenizer import token_ids

PUBLISHED = {
    "cnn14": (
        "PANNs publishes CNN14 on Zenodo, record 3987831: Cnn14_mAP=0.431.pth (32 kHz) and Cnn14_16k_mAP=0.438.pth "
        "(16 kHz)"
    ),
    "htsat": (
        "HTSAT's repository, RetroCirce/HTS-Audio-Transformer on GitHub, links HTSAT_AudioSet_Saved_1.ckpt and others "
        "(32 kHz)"
    ),
    "text": "weights and tokenizer of a published text encoder come together with model.text.encoder=roberta-base",
    "clap": (
        "it takes a run or a model folder of ours; LAION's models, named in LAION-AI/CLAP on GitHub, become one with: "
        "wavtext5k-train convert FILE --out FOLDER"
    ),
}
"""Where weights come from, for whoever has none."""

_PROBES = ("Rain on a tin roof.", "a dog barks twice, then 3 doors slam", "Café (10 %)", "unfathomably squelching")
"""Texts whose ids two tokenizers must agree on: the same vocabulary may be read with capitals and without."""

_TEXT_SETTINGS = (
    *("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    "max_position_embeddings",
)
_SCRATCH_SETTINGS = ("vocab_size", "hidden_size", "num_layers", "num_heads", "ffn_size")
_FREE_SETTINGS = ("clip_s", "block_dropout", "head_dropout", "drop_path_rate", "long_clips")
"""Of an audio encoder: under any of these its weights stay what they are."""


def missing(name: str, path: str) -> str | None:
    """Return the message for a path of ``init.<name>`` that does not exist; None if it does, or may be published."""
    place = place_of(path)
    if place.exists() or (name == "text" and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", path)):
        return None
    folder = place.parent.absolute()
    if folder.is_dir():
        near = difflib.get_close_matches(place.name, sorted(file.name for file in folder.iterdir()), 1)
        hint = f"did you mean {near[0]}, which lies in {folder}?" if near else f"{folder} holds nothing of that name"
    else:
        hint = f"there is no folder {folder}"
    return (
        f"init.{name}={path}: no such file or folder ({hint}); {PUBLISHED[name]}. "
        f"Set init.{name}=PATH, or {otherwise(name)}"
    )


def otherwise(name: str) -> str:
    """Return how to go on without the weights of ``init.<name>``, on purpose."""
    if name == "text":
        return "init.text=none to keep the weights of model.text.encoder"
    return f"init.{name}=none to start from random weights on purpose"


def place_of(path: str) -> Path:
    """Return the path that a setting means."""
    return Path(path).expanduser()


@contextmanager
def naming(name: str, path: str) -> Iterator[None]:
    """Name the setting ``init.<name>`` in errors of the block."""
    try:
        yield
    except ConfigError as error:
        reason = str(error).removeprefix("model.text.encoder: ").removeprefix(f"{place_of(path)}: ")
        reason, was_asked_for, _ = reason.partition("; fetch it on a machine")
        if was_asked_for:  # of a published model; that message's advice is for another setting
            reason += f"; name a folder that holds it, or set {otherwise(name)}"
        elif "--allow-pickle" in reason:
            reason += f": wavtext5k-train convert {path} --out FOLDER --allow-pickle, then init.{name}=FOLDER"
        raise ConfigError(f"init.{name}={path}: {reason}") from error


def read_description(folder: Path) -> dict[str, Any]:
    """Return the config.json beside weights in a run, or in any folder; empty if there are none.

    Raises:
        ConfigError: If it is no JSON object.
    """
    try:
        folder = checkpoint.model_folder(folder)
    except ConfigError:
        return {}
    return checkpoint.read_description(folder)


def read_clap_description(path: str) -> dict[str, Any]:
    """Return what the model of ``init.clap`` says about itself; settings that are newer than it have their defaults.

    Raises:
        ConfigError: If it is no model of ours.
    """
    folder = place_of(path)
    with naming("clap", path):
        description = read_description(folder)
    if part := description.get("part"):
        raise ConfigError(f"init.clap={path}: it holds {part} alone; set init.{part}={path}, or {otherwise('clap')}")
    if "text_encoder" not in description and not (folder / "checkpoints").is_dir():
        raise ConfigError(f"init.clap={path}: not a model of ours: {PUBLISHED['clap']}; or set {otherwise('clap')}")
    with naming("clap", path):
        description = checkpoint.read_description(folder)
        try:
            model = from_dict(ModelConfig, description["model"])
            features = from_dict(FeatureConfig, description["features"])
        except KeyError as error:
            raise ConfigError(f"its {checkpoint.CONFIG_FILE} lacks {error}; name another") from error
    return {**description, "model": to_dict(model), "features": to_dict(features)}


def check_architecture(path: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Refuse a model of ``init.clap`` that the recipe does not describe; lists every setting that differs."""
    needed, found = _settings(theirs, like=theirs), _settings(ours, like=theirs)
    if all(_front_end(theirs, name) == _front_end(ours, name) for name in theirs["model"]["audio"].split("+")):
        needed = {key: value for key, value in needed.items() if key.rpartition(".")[2] != "features"}
    if different := [key for key in needed if needed[key] != found[key]]:
        raise ConfigError(
            f"init.clap={path}: the recipe describes another model, with {_listed(different, found)}; for this one "
            f"set {_overrides(different, needed)}; or set {otherwise('clap')}"
        )


def check_sizes(name: str, path: str, part: Part, model: Clap) -> None:
    """Refuse an audio encoder of other sizes than the recipe's."""
    settings = model.description["model"][name]
    shared = [key for key in part.settings if key in settings]
    ours = {f"model.{name}.{key}": settings[key] for key in shared}
    theirs = {f"model.{name}.{key}": _plain(part.settings[key]) for key in shared}
    if "n_mels" in part.settings:
        key = f"model.{name}.features.n_mels" if settings["features"] else "features.n_mels"
        ours[key], theirs[key] = model.audio.features[name].n_mels, part.settings["n_mels"]
    if different := [key for key in ours if ours[key] != theirs[key]]:
        raise ConfigError(
            f"init.{name}={path}: its weights are for {_listed(different, theirs)}, the recipe has "
            f"{_listed(different, ours)}; set {_overrides(different, theirs)}, or {otherwise(name)}"
        )


def check_front_end(name: str, part: Part, log_mel: LogMel) -> None:
    """Say if an encoder is fed by another front end than its weights were trained with."""
    if part.features is None:
        say(f"init      {name}: {part.source} does not say which front end it was trained with")
        return
    theirs = dict(part.features)
    ours = {key: getattr(log_mel, key) for key in theirs}
    if ours != theirs:
        say(
            f"warning: init.{name}: {part.source} was trained on {describe_features(theirs)}; the recipe gives it "
            f"{describe_features(ours)}. Fine-tuning has to absorb that, in bn0's statistics too; as it was trained: "
            + _overrides([f"model.{name}.features"], {f"model.{name}.features": theirs})
        )


def check_same_tokenizer(name: str, path: str, theirs: Any, ours: Any) -> None:
    """Refuse weights whose token ids mean other words than those of the model's tokenizer."""
    if theirs.get_vocab() == ours.get_vocab() and (
        token_ids(theirs, _PROBES, max_tokens=64) == token_ids(ours, _PROBES, max_tokens=64)
    ):
        return
    sizes = "" if len(theirs) == len(ours) else f" ({len(theirs)} tokens, the model's has {len(ours)})"
    raise ConfigError(
        f"init.{name}={path}: its tokenizer reads texts otherwise than the model's{sizes}, so ids would mean other "
        "words; to take weights and tokenizer together, set model.text.encoder=FOLDER for a transformers folder or "
        f"init.clap=RUN for a run; or set {otherwise(name)}"
    )


def check_text(path: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Refuse a text encoder of other sizes than the model's, by their transformers configurations."""
    if different := [key for key in _TEXT_SETTINGS if theirs.get(key) != ours.get(key)]:
        raise ConfigError(
            f"init.text={path}: it has {_listed(different, theirs)}, the model {_listed(different, ours)}; build the "
            f"model around it with model.text.encoder=FOLDER, or set {otherwise('text')}"
        )


def _settings(description: Mapping[str, Any], *, like: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, dotted, that decide what weights mean in a model of ``like``'s kind."""
    model, kind = description["model"], like["model"]
    settings = {key: model[key] for key in ("audio", "embed_dim", "projection")}
    if kind["projection"] == "linear":
        settings["projection_bias"] = model["projection_bias"]
    for name in kind["audio"].split("+"):
        settings |= {f"{name}.{key}": value for key, value in model[name].items() if key not in _FREE_SETTINGS}
    text = ("encoder", "pooling", *(_SCRATCH_SETTINGS if kind["text"]["encoder"] == "scratch" else ()))
    settings |= {f"text.{key}": model["text"][key] for key in text}
    return {f"model.{key}": value for key, value in settings.items()} | {"features": description["features"]}


def _front_end(description: Mapping[str, Any], name: str) -> Any:
    return description["model"][name]["features"] or description["features"]


def _listed(keys: Collection[str], values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_shown(values.get(key))}" for key in keys)


def _overrides(keys: Collection[str], values: Mapping[str, Any]) -> str:
    """Return settings as one types them in a shell."""
    return " ".join(shlex.quote(f"{key}={_shown(values[key])}") for key in keys)


def _shown(value: Any) -> str:
    """Return a value as YAML has it; a front end by its preset's name if it is one."""
    if isinstance(value, Mapping):
        presets = [name for name, preset in PRESETS.items() if preset == value]
        return presets[0] if presets else "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_shown(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
