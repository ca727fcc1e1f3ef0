"""Configs to models: the only place where settings become arguments. A new audio encoder is one function here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from curation.errors import ConfigError
from training.config import FeatureConfig, ModelConfig, SpecAugmentConfig
from training.features import LogMel, SpecAugment
from training.models.audio_tower import AudioTower
from training.models.clap import Clap
from training.models.cnn14 import Cnn14
from training.models.htsat import Htsat
from training.models.linear import use_fast_linear
from training.models.text import TextEncoder, pretrained_text_model, roberta_config, text_model, usable_positions
from training.recipe import from_dict, to_dict
from training.tokenizer import check_vocabulary, load_tokenizer, train_tokenizer

FORMAT = 1
"""Of config.json in a model folder."""


def new_clap(
    model: ModelConfig,
    features: FeatureConfig,
    *,
    captions: Sequence[str],
    start: tuple[Any, dict[str, Any]] | None = None,
) -> Clap:
    """Return a model to train: text encoder pretrained, or built from scratch with a tokenizer of the captions.

    Args:
        model: The model's settings.
        features: The front end that encoders without one of their own share.
        captions: Texts that the tokenizer of a text encoder from scratch is trained on.
        start: Tokenizer and text encoder's configuration of a whole model whose weights will be loaded
            (training.init.clap_start); its text encoder starts random here. The recipe's dropout replaces that of a
            "scratch" one, as it does in the audio encoders.

    Raises:
        ConfigError: If the text encoder cannot be loaded, or sizes do not fit each other.
    """
    settings = model.text
    pooler = settings.pooling == "pooler"
    if start is not None:
        tokenizer, text_config = start
        if settings.encoder == "scratch":  # a RoBERTa; dropout is of the training, not of the weights
            rates = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), settings.dropout)
            text_config = {**text_config, **rates}
        text = text_model(text_config, pooler=pooler)
    elif settings.encoder == "scratch":
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
            ),
            pooler=pooler,
        )
    else:
        text = pretrained_text_model(settings.encoder, pooler=pooler)
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
    text = text_model(description["text_encoder"], pooler=model.text.pooling == "pooler")
    return build_clap(model, features, text=text, tokenizer=tokenizer)


def build_clap(model: ModelConfig, features: FeatureConfig, *, text: Any, tokenizer: Any) -> Clap:
    """Return a model around a transformers text encoder and its tokenizer.

    Raises:
        ConfigError: If sizes do not fit each other.
    """
    try:
        front_ends = {config: LogMel(**to_dict(config)) for config in _front_ends(model, features).values()}
        encoders = {name: _ENCODERS[name](model, _of(model, name, features).n_mels) for name in model.audio_encoders}
        text_encoder = TextEncoder(text, pooling=model.text.pooling)
    except (ValueError, AssertionError) as error:
        raise ConfigError(f"model.{model.audio}: {error}") from error
    use_fast_linear(text)
    if tokenizer is not None:  # a model for sounds alone has none
        check_vocabulary(tokenizer, text)
    return Clap(
        AudioTower(
            {name: front_ends[config] for name, config in _front_ends(model, features).items()},
            encoders,
            clip_samples=clip_samples(model, features),
        ),
        text_encoder,
        tokenizer,
        sample_rate=features.sample_rate,
        embed_dim=model.embed_dim,
        projection=model.projection,
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
    """Return how many samples each audio encoder of a model reads, at the rate of its front end."""
    return {
        name: round(getattr(model, name).clip_s * config.sample_rate)
        for name, config in _front_ends(model, features).items()
    }


def encoder_rates(model: ModelConfig, features: FeatureConfig) -> dict[str, int]:
    """Return the rate of what each audio encoder of a model reads, Hz."""
    return {name: config.sample_rate for name, config in _front_ends(model, features).items()}


def _front_ends(model: ModelConfig, features: FeatureConfig) -> dict[str, FeatureConfig]:
    return {name: _of(model, name, features) for name in model.audio_encoders}


def _of(model: ModelConfig, name: str, features: FeatureConfig) -> FeatureConfig:
    """Return the front end of an encoder: its own, or the one that all share."""
    own: FeatureConfig | None = getattr(model, name).features
    return own or features


def _max_tokens(model: ModelConfig, text: Any) -> int:
    usable = usable_positions(text.config)
    if usable is not None and model.text.max_tokens > usable:
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
