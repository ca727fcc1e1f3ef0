"""The text encoder: any transformers encoder, pooled to one vector a text.

RoBERTa's published weights hold no pooler, so none is built: the vector is the first token's last hidden state (the
reading that the authors' released code supports), or the mean over tokens for encoders trained that way.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from curation.errors import ConfigError
from training.models.compat import prepare_torchvision


class TextEncoder(nn.Module):
    """Token ids to one vector a text."""

    def __init__(self, model: Any, *, pooling: str = "first") -> None:
        """Wrap a transformers encoder.

        Args:
            model: Gives ``last_hidden_state`` for ``input_ids`` and ``attention_mask``.
            pooling: "first" token, or "mean" over the tokens that the mask keeps.
        """
        super().__init__()
        if pooling not in ("first", "mean"):
            raise ValueError(f"pooling must be first or mean, got {pooling!r}")
        self.model, self.pooling = model, pooling
        self.num_features: int = model.config.hidden_size

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return text vectors (B, num_features) of token ids (B, L) and their mask (B, L), 1 for tokens."""
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "first":
            return hidden[:, 0]
        weight = attention_mask.unsqueeze(2).to(hidden.dtype)
        return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)

    @property
    def config(self) -> dict[str, Any]:
        """The encoder's transformers configuration, from which ``text_model`` builds it again."""
        return dict(self.model.config.to_dict())


def text_model(config: dict[str, Any]) -> Any:
    """Return a transformers encoder of a configuration, with random weights and no pooler."""
    prepare_torchvision()
    from transformers import AutoConfig, AutoModel
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    models: Any = AutoModel
    settings = {key: value for key, value in config.items() if key != "model_type"}
    built = AutoConfig.for_model(config["model_type"], **settings)
    return models.from_config(built, **_without_pooler(MODEL_MAPPING[type(built)]))


def pretrained_text_model(source: str) -> Any:
    """Return a transformers encoder with its weights.

    Args:
        source: A folder, or the name of a published model that is on this machine or can be fetched.

    Raises:
        ConfigError: If it cannot be loaded; says how to name a folder.
    """
    prepare_torchvision()
    from transformers import AutoConfig, AutoModel
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        config = local_or_fetched(AutoConfig.from_pretrained, source)
        options = {"config": config, **_without_pooler(MODEL_MAPPING[type(config)])}
        return local_or_fetched(AutoModel.from_pretrained, source, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(not_loaded(source, error)) from error


def local_or_fetched(load: Callable[..., Any], source: str, **options: Any) -> Any:
    """Return what a from_pretrained function loads: from this machine if it is there, otherwise over the network.

    The network is asked one short question first: the libraries would try a dead one again and again, for minutes.

    Raises:
        OSError: If it is neither here nor to be had.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        return load(source, local_files_only=True, **options)
    except OSError:
        if Path(source).is_dir():
            raise
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        get_hf_file_metadata(hf_hub_url(source, "config.json"), timeout=5)
    except Exception as error:
        raise OSError(f"not on this machine, and not to be fetched: {error}") from error
    return load(source, **options)


def not_loaded(source: str, error: Exception) -> str:
    """Return the message for a text encoder or tokenizer that cannot be loaded."""
    reason = str(error).strip().partition("\n")[0]
    return (
        f"model.text.encoder: {source!r} could not be loaded ({reason}); fetch it on a machine with a network and name "
        "its folder: model.text.encoder=/path/to/roberta-base, or train a small one: model.text.encoder=scratch"
    )


def roberta_config(
    *,
    vocab_size: int,
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    ffn_size: int,
    max_tokens: int,
    dropout: float = 0.1,
) -> dict[str, Any]:
    """Return the configuration of a RoBERTa of any size, whose special tokens have RoBERTa's ids."""
    prepare_torchvision()
    from transformers import RobertaConfig

    config = RobertaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        intermediate_size=ffn_size,
        max_position_embeddings=max_tokens + 2,  # positions start behind the padding id, 1
        type_vocab_size=1,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    return dict(config.to_dict())


def _without_pooler(model_class: Any) -> dict[str, bool]:
    """Return the argument that leaves the pooler out, for the classes that know it."""
    parameters = inspect.signature(model_class.__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in parameters else {}
