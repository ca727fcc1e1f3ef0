"""Configs to models: the only place where settings become arguments. A new audio encoder is one function here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from curation.errors import ConfigError
from training.config import FeatureConfig, ModelConfig, SpecAugmentConfig
from training.features import LogMel, SpecAugment
from training.models.clap import AudioTower, Clap
from training.models.cnn14 import Cnn14
from training.models.htsat import Htsat
from training.models.text import TextEncoder, pretrained_text_model, roberta_config, text_model
from training.recipe import from_dict, to_dict
from training.tokenizer import load_tokenizer, train_tokenizer

FORMAT = 1
"""Of config.json in a model folder."""


def new_clap(model: ModelConfig, features: FeatureConfig, *, captions: Sequence[str]) -> Clap:
    """Return a model to train: text encoder pretrained, or built from scratch with a tokenizer of the captions.

    Raises:
        ConfigError: If the text encoder cannot be loaded, or sizes do not fit each other.
    """
    settings = model.text
    if settings.encoder == "scratch":
        tokenizer = train_tokenizer(captions, vocab_size=settings.vocab_size, max_tokens=settings.max_tokens)
        text = text_model(
            roberta_config(
                vocab_size=len(tokenizer),
                hidden_size=settings.hidden_size,
                num_layers=settings.num_layers,
                num_heads=settings.num_heads,
                ffn_size=settings.ffn_size,
                max_tokens=settings.max_tokens,
                dropout=settings.dropout,
            )
        )
    else:
        text = pretrained_text_model(settings.encoder)
        tokenizer = load_tokenizer(settings.encoder)
    return build_clap(model, features, text=text, tokenizer=tokenizer)


def clap_of(description: dict[str, Any], tokenizer: Any) -> Clap:
    """Return the model that config.json of a model folder describes, with random weights.

    Raises:
        ConfigError: If it is of another format.
    """
    if description.get("format") != FORMAT:
        raise ConfigError(f"config.json has format {description.get('format')!r}, this code reads {FORMAT}")
    model, features = from_dict(ModelConfig, description["model"]), from_dict(FeatureConfig, description["features"])
    return build_clap(model, features, text=text_model(description["text_encoder"]), tokenizer=tokenizer)


def build_clap(model: ModelConfig, features: FeatureConfig, *, text: Any, tokenizer: Any) -> Clap:
    """Return a model around a transformers text encoder and its tokenizer.

    Raises:
        ConfigError: If sizes do not fit each other.
    """
    front_end = LogMel(
        sample_rate=features.sample_rate,
        n_fft=features.n_fft,
        hop_length=features.hop_length,
        n_mels=features.n_mels,
        f_min=features.f_min,
        f_max=features.f_max,
    )
    try:
        encoders = {name: _ENCODERS[name](model, features.n_mels) for name in model.audio_encoders}
    except (ValueError, AssertionError) as error:
        raise ConfigError(f"model.{model.audio}: {error}") from error
    text_encoder = TextEncoder(text, pooling=model.text.pooling)
    return Clap(
        AudioTower(front_end, encoders, clip_samples=clip_samples(model, features)),
        text_encoder,
        tokenizer,
        embed_dim=model.embed_dim,
        projection_bias=model.projection_bias,
        initial_temperature=model.initial_temperature,
        max_tokens=_max_tokens(model, text),
        description={
            "format": FORMAT,
            "model": to_dict(model),
            "features": to_dict(features),
            "text_encoder": text_encoder.config,
        },
    )


def clip_samples(model: ModelConfig, features: FeatureConfig) -> dict[str, int]:
    """Return how many samples each audio encoder of a model reads."""
    return {name: round(getattr(model, name).clip_s * features.sample_rate) for name in model.audio_encoders}


def _max_tokens(model: ModelConfig, text: Any) -> int:
    positions = getattr(text.config, "max_position_embeddings", None)
    if positions is None:
        return model.text.max_tokens
    usable = positions - (text.config.pad_token_id + 1 if text.config.model_type == "roberta" else 0)
    if model.text.max_tokens > usable:
        raise ConfigError(f"model.text.max_tokens={model.text.max_tokens}: the text encoder has {usable} positions")
    return model.text.max_tokens


def _spec_augment(config: SpecAugmentConfig | None) -> nn.Module | None:
    if config is None:
        return None
    return SpecAugment(
        time_stripes=config.time_stripes,
        time_width=config.time_width,
        freq_stripes=config.freq_stripes,
        freq_width=config.freq_width,
    )


def _cnn14(model: ModelConfig, n_mels: int) -> nn.Module:
    return Cnn14(
        n_mels=n_mels,
        channels=model.cnn14.channels,
        block_dropout=model.cnn14.block_dropout,
        head_dropout=model.cnn14.head_dropout,
        spec_augment=_spec_augment(model.spec_augment),
    )


def _htsat(model: ModelConfig, n_mels: int) -> nn.Module:
    return Htsat(
        n_mels=n_mels,
        spec_size=model.htsat.spec_size,
        patch_size=model.htsat.patch_size,
        embed_dim=model.htsat.embed_dim,
        depths=model.htsat.depths,
        num_heads=model.htsat.num_heads,
        window_size=model.htsat.window_size,
        drop_path_rate=model.htsat.drop_path_rate,
        long_clips=model.htsat.long_clips,
        spec_augment=_spec_augment(model.spec_augment),
    )


_ENCODERS: dict[str, Callable[[ModelConfig, int], nn.Module]] = {"cnn14": _cnn14, "htsat": _htsat}
