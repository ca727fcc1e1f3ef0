"""YAML recipes onto the config dataclasses, dotted overrides on top.

OmegaConf reads and merges; the types are checked here, so that a key that does not exist, or a value of the wrong
type, is refused by name and before anything runs. Front ends are read in two special ways: the name of a preset stands
for its settings, which later ones change; and an encoder's own front end takes what it does not state from the shared
``features``, not from the defaults.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from curation.errors import ConfigError
from training.config import AUDIO_ENCODERS, FeatureConfig, TrainConfig

Section = TypeVar("Section")


class UsageError(ConfigError):
    """A recipe, a key or a value that cannot be, found before anything runs: wrong usage, exit code 2."""


def load_recipe(recipe: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Return the settings of a recipe with overrides.

    Args:
        recipe: The name of a bundled recipe, or a YAML file.
        overrides: ``section.key=value``, values as YAML.

    Raises:
        UsageError: If there is no such recipe, or a key or a value in it cannot be.
    """
    try:
        return _load(recipe, overrides)
    except UsageError:
        raise
    except ConfigError as error:
        raise UsageError(str(error)) from error


def _load(recipe: str, overrides: Sequence[str]) -> TrainConfig:
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError, safe_load

    name, text = _read_recipe(recipe)
    for override in overrides:
        if not re.match(r"[^=\s]+=", override):
            raise ConfigError(f"{override!r} is not section.key=value, such as optimizer.lr=3e-5")
    try:
        plain = safe_load(text)
        if plain is not None and not isinstance(plain, dict):
            kind = "a list" if isinstance(plain, list) else f"{plain!r}"
            raise ConfigError(f"recipe {recipe} must hold sections (run:, data:, ...), not {kind}")
        stated = OmegaConf.create(text)
        assert isinstance(stated, DictConfig)
        stated = OmegaConf.create(_spelled_out(OmegaConf.to_container(stated)))
        merged = OmegaConf.merge(stated, OmegaConf.from_dotlist(_spelled_out_overrides(overrides)))
        values = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(f"recipe {recipe}: {' '.join(str(error).split())}") from error
    except TypeError as error:  # OmegaConf merges no list with keys
        raise ConfigError(
            f"recipe {recipe}: an override has keys for a list, or a list for keys; one entry of a list cannot be set "
            "alone, so give the whole list, such as 'data.train=[{manifest: FOLDER, splits: [train]}]'"
        ) from error
    config = from_dict(TrainConfig, typing.cast("dict[str, Any]", values))
    if not config.run.name:
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, name=name))
    return config


def recipe_names() -> list[str]:
    """Return the names of the bundled recipes."""
    folder = resources.files("training") / "recipes"
    return sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".yaml"))


def from_dict(section: type[Section], values: Mapping[str, Any]) -> Section:
    """Return a config built from nested dictionaries and lists.

    In a whole recipe, an encoder's own front end takes what it does not state from the shared one.

    Raises:
        ConfigError: If a key is unknown (names the nearest known one), missing, or holds a value of another type.
    """
    is_recipe = section is TrainConfig and isinstance(values, Mapping)
    return _section(section, _completed(values) if is_recipe else values, "")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as nested dictionaries and lists, ready for YAML and JSON."""
    return typing.cast("dict[str, Any]", _plain(dataclasses.asdict(config)))


def to_yaml(config: TrainConfig) -> str:
    """Return a config as the text of a recipe, every setting stated."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(to_dict(config)))


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one, keys dotted; lists are values."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _read_recipe(recipe: str) -> tuple[str, str]:
    """Return a recipe's name and text."""
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        try:
            return path.stem, path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"recipe {recipe}: {getattr(error, 'strerror', None) or error}") from error
    names = recipe_names()
    if recipe not in names:
        near = difflib.get_close_matches(recipe, names, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"there is no recipe {recipe!r}; {hint}bundled are {', '.join(names)}, or name a .yaml file")
    return recipe, (resources.files("training") / "recipes" / f"{recipe}.yaml").read_text(encoding="utf-8")


def _section(section: type[Section], values: Any, path: str) -> Section:
    """Return one dataclass built from a mapping; ``path`` is its dotted place, for messages. Empty: the defaults."""
    values = {} if values is None else values
    if section is FeatureConfig and isinstance(values, str):
        return typing.cast("Section", _preset(values, path))
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path} must hold keys ({', '.join(_hints(section))}), got {values!r}")
    hints = _hints(section)
    arguments = {}
    for key, value in values.items():
        place = f"{path}.{key}" if path else str(key)
        if key not in hints:
            raise ConfigError(_unknown(place, str(key), path, list(hints)))
        arguments[str(key)] = _value(hints[key], value, place)
    required = [f.name for f in dataclasses.fields(section) if _is_required(f)]  # type: ignore[arg-type]
    if missing := [key for key in required if key not in arguments]:
        raise ConfigError(f"{path} lacks {', '.join(missing)}")
    return section(**arguments)


def _completed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's values, encoders' own front ends stated in full: what they leave out is the shared one's."""
    values = dict(recipe)
    model = values.get("model")
    if not isinstance(model, Mapping):
        return values
    shared = to_dict(_section(FeatureConfig, values.get("features"), "features"))
    values["model"] = dict(model)
    for name in AUDIO_ENCODERS:
        encoder = model.get(name)
        if isinstance(encoder, Mapping) and isinstance(own := encoder.get("features"), Mapping):
            values["model"][name] = {**encoder, "features": {**shared, **own}}
    return values


def _spelled_out(values: Any, path: str = "") -> Any:
    """Return a recipe's values with presets' names as their settings, so that an override changes a key of them."""
    if isinstance(values, dict):
        return {key: _spelled_out(value, f"{path}.{key}" if path else str(key)) for key, value in values.items()}
    return to_dict(_preset(values, path)) if _is_preset(path, values) else values


def _spelled_out_overrides(overrides: Sequence[str]) -> list[str]:
    """Return overrides with presets' names as their settings, so that a later one changes a key of them."""
    from yaml import safe_load

    spelled: list[str] = []
    for override in overrides:
        key, _, text = override.partition("=")
        if _is_preset(key, value := safe_load(text)):
            spelled += [f"{key}.{name}={setting}" for name, setting in to_dict(_preset(value, key)).items()]
        else:
            spelled.append(override)
    return spelled


def _is_preset(path: str, value: Any) -> bool:
    """Return whether a value is a front end's name; "${features}" is OmegaConf's to look up."""
    return path.rpartition(".")[2] == "features" and isinstance(value, str) and "${" not in value


def _preset(name: str, path: str) -> FeatureConfig:
    """Return the front end that a preset's name stands for."""
    from training.features import PRESETS  # PyTorch, only where a preset is named

    if name not in PRESETS:
        raise ConfigError(f"{path}={name}: there is no such front end; presets are {', '.join(PRESETS)}")
    return from_dict(FeatureConfig, PRESETS[name])


def _unknown(place: str, key: str, path: str, siblings: list[str]) -> str:
    """Return the message for a key that does not exist, with the nearest that does."""
    near = [f"{path}.{name}" if path else name for name in difflib.get_close_matches(key, siblings, 1, 0.5)]
    known = list(_all_keys(TrainConfig))
    near += [name for name in known if name.rpartition(".")[2] == key]
    near += difflib.get_close_matches(place, known, 1, 0.5)
    return f"there is no setting {place!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _all_keys(section: type, path: str = "") -> Iterator[str]:
    for name, hint in _hints(section).items():
        place = f"{path}.{name}" if path else name
        yield place
        for kind in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(kind) and isinstance(kind, type):
                yield from _all_keys(kind, place)


def _value(hint: Any, value: Any, place: str) -> Any:
    """Return a value as its type asks for it."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in options:
            raise ConfigError(f"{place} must be one of {', '.join(map(str, options))}, got {value!r}")
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _value(next(kind for kind in options if kind is not type(None)), value, place)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{place} must be a list, got {value!r}")
        return tuple(_value(options[0], item, f"{place}[{i}]") for i, item in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return _section(typing.cast("type[Any]", hint), value, place)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        raise ConfigError(f"{place} must be {names[hint]}, got {value!r}{_quoting(hint, value, place)}")
    return value


def _quoting(hint: Any, value: Any, place: str) -> str:
    """Return how to write what YAML took for another type than text."""
    if hint is not str or not isinstance(value, bool | int | float):
        return ""
    shown = "on" if value is True else "off" if value is False else value
    reason = " (YAML reads on, off, yes, no as true and false)" if isinstance(value, bool) else ""
    return f"{reason}; quote it: '{place}=\"{shown}\"'"


def _hints(section: type) -> dict[str, Any]:
    return typing.get_type_hints(section)


def _is_required(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
