"""Our settings as those of transformers' ClapModel and its feature extractor, back again, and what neither can hold.

No files and no tensors here. Names of fields are transformers' own; refusals are sentences, None where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from curation.errors import ConfigError
from training.config import FeatureConfig, HtsatConfig, ModelConfig
from training.recipe import from_dict

MARK = "wavtext5k"
"""Key in config.json that says who wrote the folder: only such a one is written over. transformers keeps it."""

ROBERTAS = ("roberta", "xlm-roberta", "camembert")
"""Text encoders (``model_type``) of ClapTextModel's build: one architecture under three names."""
_TEXT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)
"""All that shapes either side's RoBERTa."""
_FIXED_AUDIO: dict[str, Any] = {
    "enable_fusion": False,
    "hidden_act": "gelu",
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "layer_norm_eps": 1e-5,
    "patch_embed_input_channels": 1,
    "enable_patch_layer_norm": True,
    "flatten_patch_embeds": True,
}
"""Fields of ClapAudioConfig of which our HTSAT knows one value."""


def export_refusal(model: ModelConfig, features: FeatureConfig, text: Mapping[str, Any]) -> str | None:
    """Return why ClapModel cannot hold a model of these settings, and what to do about it.

    Args:
        model: Its settings.
        features: HTSAT's front end.
        text: The text encoder's transformers configuration.
    """
    again = "; the recipe export trains a model that fits"
    if model.audio != "htsat":
        return f"its audio tower is {model.audio}, ClapModel's is HTSAT alone: train with model.audio=htsat{again}"
    if model.text.pooling != "pooler":
        return (
            f"its text pooling is {model.text.pooling!r}, but ClapModel passes the first token through a dense layer "
            f"and tanh, which this model was trained without: train with model.text.pooling=pooler{again}"
        )
    if text["model_type"] not in ROBERTAS:
        return (
            f"its text encoder is {text['model_type']!r}, ClapModel's is RoBERTa, which counts positions and token "
            f"types otherwise: train with a RoBERTa as model.text.encoder{again}"
        )
    if text.get("is_decoder") or text.get("add_cross_attention"):
        return "its text encoder is a decoder, or has cross-attention; ClapModel's has neither"
    if model.projection == "residual":
        return (
            "its projections add their first layer to their second and normalise the sum, ClapModel's do neither: "
            f"train with model.projection=mlp{again}"
        )
    if reason := _unequal_grid(model.htsat, features.n_mels):
        return f"{reason}; choose other model.htsat sizes"
    if extractor_seconds(model, features) < 1:
        return (
            f"ClapFeatureExtractor counts whole seconds, and model.htsat.clip_s={model.htsat.clip_s} with "
            f"{_target_frames(model.htsat, features.n_mels)} frames of {features.hop_length} samples has none"
        )
    return None


def import_refusal(config: Any, features: FeatureConfig) -> str | None:
    """Return why no model of ours is the one that a ClapConfig describes."""
    audio = config.audio_config
    if not config.logit_scale_init_value > 0:
        return f"logit_scale_init_value is {config.logit_scale_init_value}, must be greater than 0"
    for name, value in _FIXED_AUDIO.items():
        if getattr(audio, name) != value:
            other = " (feature fusion: four spectrograms a clip, of HTK mel bands)" if name == "enable_fusion" else ""
            return f"audio_config.{name} is {getattr(audio, name)!r}{other}; our HTSAT has {value!r}"
    if _side(audio.patch_size) is None or _side(audio.patch_size) != _side(audio.patch_stride):
        return (
            f"patches of {audio.patch_size} with a stride of {audio.patch_stride}; ours are square and do not overlap"
        )
    if audio.num_mel_bins != features.n_mels:
        return f"the encoder reads {audio.num_mel_bins} mel bands, preprocessor_config.json makes {features.n_mels}"
    htsat = from_dict(HtsatConfig, _htsat_settings(audio))
    if htsat.spec_size % features.n_mels:
        return f"spec_size ({htsat.spec_size}) is no multiple of the {features.n_mels} mel bands"
    if reason := _unequal_grid(htsat, features.n_mels):
        return reason
    width = htsat.embed_dim * 2 ** (len(htsat.depths) - 1)
    if audio.hidden_size != width:
        return f"audio_config.hidden_size is {audio.hidden_size}, its encoder gives {width}"
    return None


def clap_config(model: ModelConfig, features: FeatureConfig, text: Mapping[str, Any]) -> Any:
    """Return the ClapConfig of a model that ``export_refusal`` finds nothing against."""
    from transformers import ClapConfig

    htsat = model.htsat
    audio = _FIXED_AUDIO | {
        "num_mel_bins": features.n_mels,
        "spec_size": htsat.spec_size,
        "patch_size": htsat.patch_size,
        "patch_stride": [htsat.patch_size, htsat.patch_size],
        "patch_embeds_hidden_size": htsat.embed_dim,
        "depths": list(htsat.depths),
        "num_attention_heads": list(htsat.num_heads),
        "window_size": htsat.window_size,
        "hidden_size": htsat.embed_dim * 2 ** (len(htsat.depths) - 1),
        "drop_path_rate": htsat.drop_path_rate,
        "hidden_dropout_prob": 0.0,  # ClapAudioConfig's default, 0.1, would be new to these weights
        "attention_probs_dropout_prob": 0.0,
    }
    settings: dict[str, Any] = {
        "audio_config": audio,
        "text_config": {name: text[name] for name in _TEXT_FIELDS},
        "projection_dim": model.embed_dim,
        "projection_hidden_act": "linear" if model.projection == "linear" else "relu",
        "logit_scale_init_value": 1 / model.initial_temperature,
        "architectures": ["ClapModel"],
        "dtype": "float32",
        MARK: {"format": 1},
    }
    return ClapConfig(**settings)


def roberta_settings(config: Any) -> dict[str, Any]:
    """Return the configuration of the RoBERTa that a ClapConfig's text tower is."""
    from transformers import RobertaConfig

    return dict(RobertaConfig(**{name: getattr(config.text_config, name) for name in _TEXT_FIELDS}).to_dict())


def model_config(config: Any, *, clip_s: float, max_tokens: int, linear: bool, bias: bool) -> ModelConfig:
    """Return our settings of the model that a ClapConfig describes.

    Raises:
        ConfigError: If a value cannot be.
    """
    text = config.text_config
    settings = {
        "audio": "htsat",
        "embed_dim": config.projection_dim,
        "projection": "linear" if linear else "mlp",
        "projection_bias": bias,
        "initial_temperature": 1 / config.logit_scale_init_value,
        "spec_augment": None,
        "htsat": {"clip_s": clip_s} | _htsat_settings(config.audio_config),
        "text": {
            "encoder": "scratch",  # no name is stored: the sizes below are the encoder
            "pooling": "pooler",
            "max_tokens": max_tokens,
            "vocab_size": text.vocab_size,
            "hidden_size": text.hidden_size,
            "num_layers": text.num_hidden_layers,
            "num_heads": text.num_attention_heads,
            "ffn_size": text.intermediate_size,
            "dropout": text.hidden_dropout_prob,
        },
    }
    return from_dict(ModelConfig, settings)


def feature_extractor(model: ModelConfig, features: FeatureConfig) -> Any:
    """Return the ClapFeatureExtractor whose spectrograms are those of our front end.

    ``rand_trunc`` is its one way of cutting that takes the Slaney bank, and ``repeat`` fills short clips as we do.
    """
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(
        feature_size=features.n_mels,
        sampling_rate=features.sample_rate,
        hop_length=features.hop_length,
        fft_window_size=features.n_fft,
        frequency_min=features.f_min,
        frequency_max=features.f_max,
        max_length_s=extractor_seconds(model, features),
        truncation="rand_trunc",
        padding="repeat",
    )


def extractor_seconds(model: ModelConfig, features: FeatureConfig) -> int:
    """Return the whole seconds, at most ``clip_s``, whose frames the square holds: others ClapModel refuses."""
    held = (_target_frames(model.htsat, features.n_mels) * features.hop_length - 1) / features.sample_rate
    return math.floor(min(model.htsat.clip_s, held))


def read_extractor(values: Mapping[str, Any]) -> tuple[FeatureConfig, float, list[str]]:
    """Return the front end that preprocessor_config.json states, its seconds, and notes on what ours does otherwise.

    Raises:
        ConfigError: If a value is missing or cannot be, or its spectrograms are not of our kind.
    """
    kind = values.get("feature_extractor_type")
    if kind != "ClapFeatureExtractor":
        raise ConfigError(f"feature_extractor_type is {kind!r}, not 'ClapFeatureExtractor'")
    names = {
        "sample_rate": "sampling_rate",
        "n_fft": "fft_window_size",
        "hop_length": "hop_length",
        "n_mels": "feature_size",
        "f_min": "frequency_min",
        "f_max": "frequency_max",
    }
    if missing := [name for name in (*names.values(), "max_length_s", "truncation", "padding") if name not in values]:
        raise ConfigError(f"it lacks {', '.join(missing)}")
    if values["truncation"] != "rand_trunc":
        raise ConfigError(
            f"truncation is {values['truncation']!r}, whose mel bands are HTK's; our front end has the Slaney bands "
            "of 'rand_trunc'"
        )
    seconds = values["max_length_s"]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise ConfigError(f"max_length_s must be a number of seconds, got {seconds!r}")
    features = from_dict(FeatureConfig, {ours: values[theirs] for ours, theirs in names.items()})
    notes = [f"sounds over {seconds:g} s: ours averages windows that cover them, theirs takes a random {seconds:g} s"]
    if values["padding"] != "repeat":
        notes.append(
            f"sounds under {seconds:g} s: ours go round until they fill it, padding={values['padding']!r} of theirs "
            "ends in silence"
        )
    return features, float(seconds), notes


def export_notes(model: ModelConfig, features: FeatureConfig, *, max_tokens: int) -> list[str]:
    """Return what an exported model does otherwise than ours, a sentence each."""
    seconds, clip_s = extractor_seconds(model, features), model.htsat.clip_s
    notes = [
        f"sounds over {seconds} s: ClapFeatureExtractor takes a random {seconds} s, ours averages windows that cover "
        "the sound; shorter ones both repeat",
        f"texts: ClapProcessor cuts to {max_tokens} tokens only where it is given truncation=True",
        "training there: no masking of spectrograms, drop path in the attention branch alone (timm: in both), and "
        "return_loss=True counts text-to-audio twice; write the loss",
    ]
    if seconds != clip_s:
        notes.insert(
            0,
            f"ClapFeatureExtractor reads {seconds} s where model.htsat.clip_s is {clip_s:g}: it counts whole seconds, "
            f"and ClapModel takes at most {_target_frames(model.htsat, features.n_mels)} frames; embeddings of "
            "waveforms differ",
        )
    if model.projection == "linear":
        notes.append(
            "projections: the linear layer, then an identity; exact, but for TF32, which rounds what passes through it"
        )
    return notes


def _htsat_settings(audio: Any) -> dict[str, Any]:
    return {
        "spec_size": audio.spec_size,
        "patch_size": _side(audio.patch_size),
        "embed_dim": audio.patch_embeds_hidden_size,
        "depths": audio.depths,
        "num_heads": audio.num_attention_heads,
        "window_size": audio.window_size,
        "drop_path_rate": float(audio.drop_path_rate),
    }


def _unequal_grid(htsat: HtsatConfig, n_mels: int) -> str | None:
    """Return where a size that our HTSAT has would be another model in ClapAudioModel, or none.

    A window wider than its stage's grid is cut to it in timm, with its table of relative positions, but without the
    table in ClapAudioModel. Grids that windows or halving do not divide, on which the two part ways too, our HTSAT does
    not have.
    """
    grid = htsat.spec_size // htsat.patch_size // 2 ** (len(htsat.depths) - 1)
    if grid < htsat.window_size:
        return f"the last grid of HTSAT, {grid} x {grid} tokens, is smaller than window_size={htsat.window_size}"
    ratio = htsat.spec_size // n_mels
    if grid < ratio or grid % (grid // ratio):
        return (
            f"the last grid of HTSAT, {grid} x {grid} tokens, does not divide into the {ratio} time segments that "
            f"spec_size={htsat.spec_size} holds of {n_mels} mel bands"
        )
    return None


def _target_frames(htsat: HtsatConfig, n_mels: int) -> int:
    return htsat.spec_size**2 // n_mels


def _side(size: Any) -> int | None:
    """Return the side of a square that is written as one number or as two; None if it is no square."""
    if isinstance(size, list | tuple):
        return size[0] if len(size) == 2 and size[0] == size[1] else None
    return int(size)
