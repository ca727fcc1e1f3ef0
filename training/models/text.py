"""The text encoder: any transformers encoder, pooled to one vector a text.

Reads a folder as transformers' ``save_pretrained`` writes it, or a published model by its name; runs no code that
comes with one. The vector is the first token's last hidden state (RoBERTa and BERT: the reading that the authors'
released code supports, which needs no pooler, and RoBERTa's published weights hold none), the mean over tokens for
encoders trained that way, or transformers' pooler, as in LAION's CLAP.

transformers itself gives random weights to whatever a file lacks; here such a file is refused.
"""

from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curation.errors import ConfigError
from training.models.compat import prepare_torchvision
from training.models.hub import folder_or_name, local_or_fetched, not_loaded
from training.runlog import say

POOLINGS = ("first", "mean", "pooler")

_POSITIONS_BEHIND_PADDING = (
    *("camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm"),
    *("xlm-roberta", "xlm-roberta-xl"),
)
"""Kinds that number positions from the padding id on, so that many rows of their position table stay unused."""


class TextEncoder(nn.Module):
    """Token ids to one vector a text."""

    def __init__(self, model: Any, *, pooling: str = "first") -> None:
        """Wrap a transformers encoder.

        Parameters of it that have no part in a text's vector (LayoutLM's and SqueezeBERT's poolers, say) need no
        gradient from now on: several processes would wait for one that never comes.

        Args:
            model: Gives ``last_hidden_state`` for ``input_ids`` and ``attention_mask``, padded on the right.
            pooling: "first" token, "mean" over the tokens that the mask keeps, or "pooler": transformers' dense layer
                and tanh on the first token; the model must have been built with it.

        Raises:
            ConfigError: If the model cannot stand for a text in this way; it is tried on two short ones.
        """
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
        self.num_features = _try_out(model, pooling)
        self.model, self.pooling = model, pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return text vectors (B, num_features) of token ids (B, L) and their mask (B, L), 1 for tokens."""
        return _pooled(self.model(input_ids=input_ids, attention_mask=attention_mask), attention_mask, self.pooling)

    @property
    def config(self) -> dict[str, Any]:
        """The encoder's transformers configuration, from which ``text_model`` builds it again."""
        config: dict[str, Any] = self.model.config.to_dict()
        return {key: value for key, value in config.items() if key != "_name_or_path"}  # a place on this machine


def text_model(config: dict[str, Any], *, pooler: bool = False) -> Any:
    """Return a transformers encoder of a configuration, in float32 with random weights.

    Args:
        config: As ``TextEncoder.config`` and ``roberta_config`` give it.
        pooler: Build its pooler too.

    Raises:
        ConfigError: If it is no text encoder, or has no pooler to build.
    """
    prepare_torchvision()
    from transformers import AutoConfig, AutoModel

    models: Any = AutoModel
    settings = {key: value for key, value in config.items() if key != "model_type"}
    built = AutoConfig.for_model(config["model_type"], **settings)
    return models.from_config(built, **_options(built, pooler))


def pretrained_text_model(source: str, *, pooler: bool = False) -> Any:
    """Return a transformers encoder with its weights, in float32 whatever the file's.

    What of the file is left out, and a pooler that it does not hold and that starts at random, are said on stderr.

    Args:
        source: A folder, or the name of a published model that is on this machine or can be fetched.
        pooler: Build its pooler too.

    Raises:
        ConfigError: If it cannot be loaded, is no text encoder, or if the file leaves any other tensor unset.
    """
    prepare_torchvision()
    from transformers import AutoConfig, AutoModel

    source = folder_or_name(source)
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise ConfigError(f"{source}: holds no config.json, so it is not the folder of a transformers model")
    try:
        config = local_or_fetched(AutoConfig.from_pretrained, source, trust_remote_code=False)
        options = {"config": config, "output_loading_info": True, **_options(config, pooler)}
        try:
            model, loaded = local_or_fetched(AutoModel.from_pretrained, source, **options)
        except RuntimeError as error:
            if "ignore_mismatched_sizes" not in str(error):
                raise
            # loaded again for the names alone: _check_loaded refuses it
            model, loaded = local_or_fetched(AutoModel.from_pretrained, source, ignore_mismatched_sizes=True, **options)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    except Exception as error:  # files of all kinds, read by four libraries, each with its own errors
        raise ConfigError(not_loaded(source, error)) from error
    _check_loaded(source, model, loaded)
    return model


def usable_positions(config: Any) -> int | None:
    """Return how many tokens a text may have at most for an encoder of this transformers configuration.

    None where nothing is said: positions are relative. Where they are relative and a length is stated all the same
    (DeBERTa, ModernBERT), it is the length that the encoder was trained for.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    return positions - (config.pad_token_id + 1 if config.model_type in _POSITIONS_BEHIND_PADDING else 0)


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


def _pooled(output: Any, attention_mask: Tensor, pooling: str) -> Tensor:
    """Return one vector a text (B, D) of an encoder's output."""
    if pooling == "pooler":
        pooled: Tensor = output.pooler_output
        return pooled
    hidden: Tensor = output.last_hidden_state
    if pooling == "first":
        return hidden[:, 0]
    wide = torch.promote_types(hidden.dtype, torch.float32)  # a sum of many 16-bit numbers would lose digits
    weight = attention_mask.unsqueeze(2).to(wide)
    return ((hidden.to(wide) * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)).to(hidden.dtype)


def _try_out(model: Any, pooling: str) -> int:
    """Return the width of an encoder's vectors, having tried it on two texts of two tokens, which differ in the second.

    Freezes the parameters that have no part in them.

    Raises:
        ConfigError: If it takes no token ids, lets padding in, or gives both texts one vector. What a model does is
            asked, not its name: transformers has hundreds of kinds.
    """
    device = next(model.parameters()).device
    if device.type == "meta":  # a model of shapes alone cannot be tried
        return int(model.config.hidden_size)
    kind, pad_id = model.config.model_type, getattr(model.config, "pad_token_id", None) or 0
    first, second, third = [i for i in range(4) if i != pad_id][:3]
    ids = torch.tensor([[first, second, pad_id], [first, third, pad_id]], device=device)
    mask = (ids != pad_id).long()
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            alone = _pooled(model(input_ids=ids[:, :2], attention_mask=mask[:, :2]), mask[:, :2], pooling)
        with torch.no_grad():
            padded = _pooled(model(input_ids=ids, attention_mask=mask), mask, pooling)
        if alone is None:
            raise ValueError("it was built without its pooler")
        if alone.shape[:-1] != (2,):
            raise ValueError(f"two texts give {tuple(alone.shape)}, not two vectors")
        if not alone.isfinite().all():
            raise ValueError("its output is not finite")
    except Exception as error:
        raise ConfigError(f"{kind} models cannot encode a text with model.text.pooling={pooling}: {error}") from error
    finally:
        model.train(was_training)
    _freeze_unused(model, alone)
    alone = alone.detach()
    size = alone.abs().max()
    if (padded - alone).abs().max() > 1000 * torch.finfo(alone.dtype).eps * size:
        raise ConfigError(
            f"{kind} models let padding into their output: a text's vector would depend on its neighbours in the batch"
        )
    if (alone[0] - alone[1]).abs().max() <= 1e-6 * size:
        raise ConfigError(
            f"in {kind} models the first token sees nothing of the text behind it; use model.text.pooling=mean"
        )
    return int(alone.shape[1])


def _freeze_unused(model: nn.Module, vectors: Tensor) -> None:
    """Set ``requires_grad`` off for what has no part in the vectors, by their graph."""
    if vectors.grad_fn is None:  # all are frozen, or this is torch.inference_mode
        return
    nodes, seen, used = [vectors.grad_fn], set(), set()
    while nodes:
        if (node := nodes.pop()) not in seen:
            seen.add(node)
            used.add(id(getattr(node, "variable", None)))
            nodes += [source for source, _ in node.next_functions if source is not None]
    for parameter in model.parameters():
        if id(parameter) not in used:
            parameter.requires_grad_(False)


def _options(config: Any, pooler: bool) -> dict[str, Any]:
    """Return the arguments that build an encoder of a transformers configuration, with or without pooler.

    Raises:
        ConfigError: If there is no such encoder of text.
    """
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    kind = config.model_type
    model_class: Any = MODEL_MAPPING.get(type(config), None)
    model_class = model_class[0] if isinstance(model_class, tuple) else model_class
    reads = inspect.signature(model_class.forward).parameters if model_class is not None else {}
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(f"{kind} models are encoders with decoders; use one of BERT's or RoBERTa's kind")
    if not {"input_ids", "attention_mask"} <= set(reads) or config.sub_configs:
        raise ConfigError(f"{kind} models are no encoders of text alone; use one of BERT's or RoBERTa's kind")
    has_pooler = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    if pooler and not has_pooler:
        raise ConfigError(f"{kind} models have no pooler; use model.text.pooling=first or mean")
    options: dict[str, Any] = {"dtype": torch.float32, "trust_remote_code": False}
    return options | ({"add_pooling_layer": pooler} if has_pooler else {})


def _check_loaded(source: str, model: Any, loaded: dict[str, Any]) -> None:
    """Refuse weights that do not fill an encoder, its pooler apart; say what they hold beyond it."""
    kind, tensors = model.config.model_type, model.state_dict()
    if loaded["mismatched_keys"]:
        name, found, expected = min(loaded["mismatched_keys"])
        raise ConfigError(f"{source}: {name} is {tuple(found)} in the weights, but {tuple(expected)} by config.json")
    pooler = {name for name in tensors if name.startswith("pooler.")}
    missing = sorted(loaded["missing_keys"])
    if pooler and set(missing) == pooler:
        say(f"text      {source} holds no pooler: it starts from random weights")
    elif missing:
        raise ConfigError(
            f"{source}: the weights lack {len(missing)} of the {len(tensors)} tensors of this {kind} model, the first "
            f"is {missing[0]}; they are cut short, or of another architecture"
        )
    if loaded["unexpected_keys"]:
        groups = Counter(name.partition(".")[0] for name in sorted(loaded["unexpected_keys"]))
        left = ", ".join(f"{name} ({count})" for name, count in groups.items())
        say(f"text      {source}: tensors that the encoder has no use for are left out: {left}")
