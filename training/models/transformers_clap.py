"""HTSAT-only models as transformers' ClapModel, and back: weights, configuration, feature extractor, tokenizer.

    folder/   config.json, preprocessor_config.json, the tokenizer's files, model.safetensors (written last)

``ClapModel.from_pretrained(folder)`` and ``ClapProcessor.from_pretrained(folder)`` open it with no code of ours. Both
sides give the same embeddings for the same log-mel of as many frames as the square holds (1,024 at full size), the
same text, and, where ``model.htsat.clip_s`` is whole seconds that fit the square, the same sound of up to those.
Written is only what ClapModel holds exactly; the rest is refused with the reason, since a model that answers a little
differently would be taken for this one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from crawler.items import open_whole
from curation.errors import ConfigError
from training.config import FeatureConfig, ModelConfig
from training.models.compat import prepare_torchvision
from training.models.transformers_config import (
    MARK,
    clap_config,
    export_notes,
    export_refusal,
    feature_extractor,
    import_refusal,
    model_config,
    read_extractor,
    roberta_settings,
)
from training.models.transformers_names import (
    COMPUTED,
    clap_from_transformers,
    clap_to_transformers,
    is_identity,
)
from training.models.weightfile import read_weights
from training.recipe import from_dict

if TYPE_CHECKING:
    from training.models.clap import Clap

CONFIG_FILE = "config.json"
FEATURES_FILE = "preprocessor_config.json"
WEIGHTS_FILE = "model.safetensors"
PICKLED_FILE = "pytorch_model.bin"
"""What older folders hold instead; read as tensors only."""


def save_transformers(clap: Clap, folder: Path | str) -> list[str]:
    """Write a model as a transformers ClapModel folder.

    Embeddings, and logits over the scale, are equal to float rounding for the same log-mel (B, 1, T, M) in dB with T
    up to ``spec_size**2 / n_mels`` frames (ClapModel raises beyond), and for the same token ids.

    Args:
        clap: A model of ``build_clap`` or ``from_pretrained`` with model.audio=htsat, model.text.pooling=pooler and
            model.projection=mlp or linear: what the recipe ``export`` trains.
        folder: Where to; made if missing. One that holds anything but an earlier export is refused.

    Returns:
        What differs on the other side all the same, a sentence each.

    Raises:
        ConfigError: If ClapModel cannot hold the model, weights are not finite, or the folder holds something else.
    """
    from safetensors.torch import save

    from training.tokenizer import write_tokenizer

    folder = Path(folder)
    prepare_torchvision()
    model, features = _settings(clap)
    text = clap.text.config
    if reason := export_refusal(model, features, text):
        raise ConfigError(f"transformers' ClapModel cannot hold this model: {reason}")
    _refuse_foreign(folder)
    config = clap_config(model, features, text)
    weights = _weights(clap, config)
    (folder / WEIGHTS_FILE).unlink(missing_ok=True)  # an earlier export's, which the new config.json does not describe
    with tempfile.TemporaryDirectory() as temporary:
        for part in (config, feature_extractor(model, features)):
            part.save_pretrained(temporary)
        write_tokenizer(clap.tokenizer, temporary)
        _set_length(Path(temporary) / "tokenizer_config.json", clap.max_tokens)
        for file in sorted(Path(temporary).iterdir(), key=lambda file: (file.name != CONFIG_FILE, file.name)):
            with open_whole(folder / file.name) as whole, file.open("rb") as written:
                shutil.copyfileobj(written, whole)
    with open_whole(folder / WEIGHTS_FILE) as whole:
        whole.write(save(weights, metadata={"format": "pt"}))
    return export_notes(model, features, max_tokens=clap.max_tokens)


def read_transformers(folder: Path | str) -> tuple[Clap, dict[str, Any]]:
    """Return the model that a transformers ClapModel folder holds, on the CPU, in evaluation mode, and a report.

    The front end is the one that preprocessor_config.json states, as it stands there. Projections whose second layer
    is the identity, with no activation between, come back as the linear ones they are. What a ClapModel does not
    state (the rule for long clips, masking in training) is at its default.

    Args:
        folder: With config.json, preprocessor_config.json, a tokenizer, and model.safetensors or pytorch_model.bin.

    Returns:
        The model, and ``{kind, source, sha256, matched, dropped, missing, notes}``: names of the tensors taken, name
        and reason of those left out, and what ours does otherwise, a sentence each.

    Raises:
        ConfigError: If a file is missing or damaged, the model is none that ours can be (feature fusion, other layers,
            other sizes), or a tensor is missing, of another shape, or not finite.
    """
    from training.tokenizer import load_tokenizer

    folder = Path(folder)
    prepare_torchvision()
    config = _read_config(folder)
    features, clip_s, notes = _read_features(folder)
    try:
        if reason := import_refusal(config, features):
            raise ConfigError(reason)
        tensors, sha256 = _read_weights(folder)
        linear, bias = _projection(config, tensors)
        tokenizer = load_tokenizer(folder)
        max_tokens = _max_tokens(config, tokenizer)
        settings = model_config(config, clip_s=clip_s, max_tokens=max_tokens, linear=linear, bias=bias)
        clap = _random_clap(settings, features, roberta_settings(config), tokenizer)
        dropped = _check(tensors, clap_to_transformers(clap.state_dict()), linear=linear)
        clap.load_state_dict(clap_from_transformers(tensors, linear=linear, bias=bias))
    except ConfigError as error:
        raise ConfigError(f"{folder}: {str(error).removeprefix(f'{folder}: ')}") from error
    clap.sha256 = sha256
    report = {
        "kind": "transformers-clap",
        "source": str(folder),
        "sha256": sha256,
        "matched": sorted(set(tensors) - set(dropped)),
        "dropped": dropped,
        "missing": [],
        "notes": notes + _training_notes(config),
    }
    return clap.eval(), report


def _settings(clap: Clap) -> tuple[ModelConfig, FeatureConfig]:
    """Return the settings a model was built with, its front end being HTSAT's own where it has one."""
    if not {"model", "features"} <= clap.description.keys():
        raise ConfigError("the model does not say how it was built; use one of build_clap or Clap.from_pretrained")
    model = from_dict(ModelConfig, clap.description["model"])
    return model, model.htsat.features or from_dict(FeatureConfig, clap.description["features"])


def _refuse_foreign(folder: Path) -> None:
    """Raise ConfigError where something else than an earlier export stands."""
    if folder.is_dir():
        files = sorted(file.name for file in folder.iterdir() if file.suffix != ".part")
        if not files:
            return
        try:
            mark = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))[MARK]
        except (OSError, ValueError, KeyError, TypeError):
            mark = None
        if mark is None:
            raise ConfigError(f"{folder}: holds {files[0]} and is no earlier export; name a folder that is not there")
    elif folder.exists():
        raise ConfigError(f"{folder}: is a file; name a folder")


def _weights(clap: Clap, config: Any) -> dict[str, Tensor]:
    """Return every tensor of the ClapModel, float32 on the CPU."""
    from transformers import ClapModel

    named = clap_to_transformers({name: x.detach().cpu() for name, x in clap.state_dict().items()})
    _refuse_not_finite(named)
    with torch.random.fork_rng(devices=[]):
        expected = ClapModel(config).state_dict()
    named |= {name: tensor for name, tensor in expected.items() if name.endswith(COMPUTED)}
    if other := sorted(
        name for name in expected.keys() | named.keys() if _shape(expected, name) != _shape(named, name)
    ):
        raise ConfigError(
            f"{other[0]} has shape {_shape(expected, other[0])} in this release of transformers, and "
            f"{_shape(named, other[0])} in ours: its ClapModel has changed"
        )
    return {name: tensor.to(expected[name].dtype).contiguous() for name, tensor in named.items()}


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return str(tuple(tensors[name].shape)) if name in tensors else "none"


def _refuse_not_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"{name} has NaN or infinite values: such a model is of no use")


def _set_length(tokenizer_file: Path, max_tokens: int) -> None:
    """Make ``truncation=True`` cut to our length, which may be less than the encoder's positions."""
    values = json.loads(tokenizer_file.read_text(encoding="utf-8")) | {"model_max_length": max_tokens}
    tokenizer_file.write_text(json.dumps(values, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(f"{file}: missing; a transformers ClapModel folder has it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: must hold an object")
    return values


def _read_config(folder: Path) -> Any:
    """Return a folder's ClapConfig; what the file leaves out is at transformers' defaults."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import ClapConfig

    file = folder / CONFIG_FILE
    values = _read_json(file)
    if values.get("model_type") != "clap":
        ours = "; a model folder of ours loads with Clap.from_pretrained" if "text_encoder" in values else ""
        raise ConfigError(f"{file}: model_type is {values.get('model_type')!r}, not 'clap': no ClapModel{ours}")
    try:
        return ClapConfig(**values)
    except (StrictDataclassError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(f"{file}: no configuration of a ClapModel: {' '.join(str(error).split())[:300]}") from error


def _read_features(folder: Path) -> tuple[FeatureConfig, float, list[str]]:
    """Return front end, seconds and notes. None is guessed: one that fits in shape alone gives wrong embeddings."""
    file = folder / FEATURES_FILE
    if file.is_file():
        values = _read_json(file)
    elif (folder / "processor_config.json").is_file():  # where ClapProcessor.save_pretrained puts it
        file = folder / "processor_config.json"
        values = _read_json(file).get("feature_extractor", {})
    else:
        raise ConfigError(
            f"{file}: missing, and no other file says what sample rate and mel bands the weights expect; fetch it from "
            "where the model came from"
        )
    try:
        return read_extractor(values)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def _read_weights(folder: Path) -> tuple[dict[str, Tensor], str]:
    """Return a folder's tensors, floats as float32, and the file's sha256."""
    file = next((file for name in (WEIGHTS_FILE, PICKLED_FILE) if (file := folder / name).is_file()), None)
    if file is None:
        raise ConfigError(f"holds neither {WEIGHTS_FILE} nor {PICKLED_FILE}")
    found = read_weights(file)
    return {name: x.float() if x.is_floating_point() else x for name, x in found.tensors.items()}, found.sha256


def _random_clap(settings: ModelConfig, features: FeatureConfig, roberta: dict[str, Any], tokenizer: Any) -> Clap:
    """Return a model of these settings; its random weights are not drawn from the caller's generator."""
    from training.models.build import build_clap
    from training.models.text import text_model

    with torch.random.fork_rng(devices=[]):
        try:
            text = text_model(roberta, pooler=True)
        except Exception as error:  # transformers checks little: KeyError, ValueError, RuntimeError, ...
            raise ConfigError(f"{CONFIG_FILE}: text_config: {type(error).__name__}: {error}") from error
        return build_clap(settings, features, text=text, tokenizer=tokenizer)


def _projection(config: Any, tensors: Mapping[str, Tensor]) -> tuple[bool, bool]:
    """Return whether the projections are linear ones, and if so whether they have a bias."""
    parts, act = ("audio_projection", "text_projection"), config.projection_hidden_act
    for name in (f"{part}.{layer}" for part in parts for layer in ("linear1.bias", "linear2.weight", "linear2.bias")):
        if name not in tensors:
            raise ConfigError(f"{name} is missing: the file does not hold a whole ClapModel")
    if act == "relu":
        return False, True
    if act != "linear" or not all(is_identity(tensors, part) for part in parts):
        raise ConfigError(
            f"projection_hidden_act is {act!r}; ours is relu, or a linear layer alone (here: 'linear', the second "
            "layers the identity)"
        )
    return True, any(bool(tensors[f"{part}.linear1.bias"].any()) for part in parts)


def _max_tokens(config: Any, tokenizer: Any) -> int:
    """Return how many tokens of a text are read: the tokenizer's limit, at most the encoder's positions."""
    text = config.text_config
    if len(tokenizer) > text.vocab_size or tokenizer.pad_token_id != text.pad_token_id:
        raise ConfigError(
            f"the tokenizer ({len(tokenizer)} tokens, padding {tokenizer.pad_token_id}) does not fit text_config "
            f"({text.vocab_size}, padding {text.pad_token_id})"
        )
    return int(min(tokenizer.model_max_length, text.max_position_embeddings - text.pad_token_id - 1))


def _check(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, linear: bool) -> dict[str, str]:
    """Return the tensors that are left out, with the reason; raise ConfigError where one that is needed is amiss."""
    needed = expected.keys() - {"logit_scale_t"}
    if missing := sorted(needed - tensors.keys()):
        raise ConfigError(f"{len(missing)} of {len(needed)} tensors are missing, the first {missing[0]}")
    for name in sorted(needed):
        if _shape(tensors, name) != _shape(expected, name):
            raise ConfigError(f"{name} has shape {_shape(tensors, name)}, {_shape(expected, name)} by {CONFIG_FILE}")
    _refuse_not_finite({name: tensors[name] for name in needed})
    dropped = {}
    for name in tensors.keys() - needed:
        if name.endswith(COMPUTED):
            dropped[name] = "follows from the sizes"
        elif name == "logit_scale_t":
            one, other = float(tensors["logit_scale_a"]), float(tensors[name])
            differs = "" if one == other else f" ({one:.6g}; this is {other:.6g})"
            dropped[name] = f"both are meant to be one: logit_scale_a is taken{differs}"
        elif name.startswith(("audio_model.", "text_model.", "audio_projection.", "text_projection.")):
            raise ConfigError(f"{name} has no place in the model that {CONFIG_FILE} describes")
        else:
            dropped[name] = "no part of a ClapModel"
    if linear:
        dropped |= {name: "an identity" for name in needed if ".linear2." in name}
    return dict(sorted(dropped.items()))


def _training_notes(config: Any) -> list[str]:
    """Return what trains otherwise in ours."""
    audio = config.audio_config
    if not (audio.hidden_dropout_prob or audio.attention_probs_dropout_prob):
        return []
    return [
        f"training: dropout of the audio encoder (hidden {audio.hidden_dropout_prob}, attention "
        f"{audio.attention_probs_dropout_prob}) is left out, our HTSAT has drop path instead"
    ]
