"""Text encoder: what its poolings mean, padding without effect, and what cannot stand for a text."""

from __future__ import annotations

import json
import types

import pytest
import torch

from curation.errors import ConfigError
from tests.training.textmodels import CAPTIONS, LENGTHS, SIZES, embed, tiny_roberta, transformers, write_bert
from training.models.text import TextEncoder, pretrained_text_model, text_model, usable_positions
from training.tokenizer import load_tokenizer, pad, token_ids, train_tokenizer

DISTIL = {"model_type": "distilbert", "dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 64, **LENGTHS}
TINY_GPT2 = {"model_type": "gpt2", "vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CAPTIONS, vocab_size=320, max_tokens=24)


@pytest.fixture(scope="module")
def model():
    return text_model(tiny_roberta()).eval()


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize("pooling", ["first", "mean", "pooler"])
def test_padding_and_neighbours_have_no_effect(tokenizer, pooling):
    encoder = TextEncoder(text_model(tiny_roberta(), pooler=pooling == "pooler"), pooling=pooling)
    together = embed(encoder, tokenizer, CAPTIONS)
    alone = torch.cat([embed(encoder, tokenizer, [caption]) for caption in CAPTIONS])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    assert not torch.allclose(together[0], together[1])


def test_a_tokenizer_that_pads_on_the_left_changes_nothing(bert_folder):
    """Its own padding is not used: the first token stays first."""
    encoder, right = TextEncoder(pretrained_text_model(str(bert_folder))), load_tokenizer(bert_folder)
    left = transformers.AutoTokenizer.from_pretrained(bert_folder, padding_side="left")
    texts = ["a dog barks .", "rain"]
    assert torch.equal(embed(encoder, left, texts), embed(encoder, right, texts))


def test_what_the_poolings_mean(tokenizer):
    model = text_model(tiny_roberta(), pooler=True).eval()
    ids, mask = pad(token_ids(tokenizer, CAPTIONS, max_tokens=24), pad_id=1)
    with torch.inference_mode():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = torch.tanh(model.pooler.dense(hidden[:, 0]))
        found = {pooling: TextEncoder(model, pooling=pooling)(ids, mask) for pooling in ("first", "mean", "pooler")}
    mean = torch.stack([row[: kept.sum()].mean(dim=0) for row, kept in zip(hidden, mask, strict=True)])
    torch.testing.assert_close(found["first"], hidden[:, 0])
    torch.testing.assert_close(found["mean"], mean)
    torch.testing.assert_close(found["pooler"], pooled)


def test_the_mean_of_16_bit_numbers_is_taken_in_32(model):
    """bfloat16 cannot even count to 401: its sum of a long text's mask is 400."""
    encoder = TextEncoder(model, pooling="mean")
    hidden = torch.randn(3, 401, 32, generator=torch.Generator().manual_seed(0)).bfloat16() + 1
    encoder.model = torch.nn.Module()
    encoder.model.forward = lambda **inputs: types.SimpleNamespace(last_hidden_state=hidden)
    ids = torch.zeros(3, 401, dtype=torch.long)
    assert torch.equal(encoder(ids, torch.ones_like(ids)), hidden.double().mean(dim=1).bfloat16())


def test_autocast_stays_near_float32(tokenizer, model):
    encoder = TextEncoder(model, pooling="mean")
    exact = embed(encoder, tokenizer, CAPTIONS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(embed(encoder, tokenizer, CAPTIONS).float(), exact, atol=0.03, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("pooling", ["first", "mean", "pooler"])
def test_other_types_of_numbers_are_accepted(pooling, dtype):
    encoder = TextEncoder(text_model(tiny_roberta(), pooler=True).to(dtype), pooling=pooling).eval()
    ids = torch.tensor([[0, 5, 6, 2]])
    assert encoder(ids, torch.ones_like(ids)).dtype == dtype
    with pytest.raises(ConfigError, match="first token sees nothing"):
        TextEncoder(text_model(TINY_GPT2).to(dtype))


def test_what_has_no_part_in_a_vector_needs_no_gradient():
    """Several processes would wait for its gradient, and with PyTorch's checks end the run."""
    layoutlm = {"model_type": "layoutlm", **SIZES, **LENGTHS}
    encoder = TextEncoder(text_model(layoutlm), pooling="mean").train()
    frozen = {name for name, parameter in encoder.named_parameters() if not parameter.requires_grad}
    assert frozen == {"model.pooler.dense.weight", "model.pooler.dense.bias"}
    ids = torch.tensor([[4, 5, 6]])
    encoder(ids, torch.ones_like(ids)).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters() if parameter.requires_grad)
    model = text_model(layoutlm)
    with torch.inference_mode():
        TextEncoder(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    TextEncoder(model.requires_grad_(False))
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_trying_a_model_out_leaves_no_trace():
    model = text_model(tiny_roberta(dropout=0.5)).train()
    weights, random_state = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state()
    TextEncoder(model)
    assert model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("pooler", [False, True])
def test_the_config_builds_it_again(tmp_path, pooler):
    text_model(tiny_roberta(), pooler=pooler).save_pretrained(tmp_path)
    encoder = TextEncoder(pretrained_text_model(str(tmp_path), pooler=pooler), pooling="pooler" if pooler else "first")
    assert (encoder.model.pooler is not None) == pooler
    assert str(tmp_path) not in json.dumps(encoder.config)
    again = text_model(encoder.config, pooler=pooler)
    shapes = {name: tensor.shape for name, tensor in encoder.model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == shapes


@pytest.mark.parametrize(
    ("config", "pooling", "message"),
    [
        (TINY_GPT2, "first", "in gpt2 models the first token sees nothing .*=mean"),
        ({**tiny_roberta(), "is_decoder": True}, "first", "in roberta models the first token sees nothing"),
        (tiny_roberta(), "pooler", r"roberta models cannot .*pooling=pooler: it was built without its pooler"),
        (DISTIL, "pooler", r"distilbert models cannot .* no attribute 'pooler_output'"),
        (
            {"model_type": "convbert", "embedding_size": 32, **LENGTHS, **SIZES},
            "mean",
            "convbert models let padding into their output",
        ),
    ],
)
def test_what_cannot_stand_for_a_text_is_refused(config, pooling, message):
    """By what it does, not by its name."""
    model = text_model(config)
    with pytest.raises(ConfigError, match=message):
        TextEncoder(model, pooling=pooling)


def test_a_kind_without_pooler_has_none_to_build():
    with pytest.raises(ConfigError, match=r"distilbert models have no pooler; use .*=first or mean"):
        text_model(DISTIL, pooler=True)


def test_weights_that_are_not_finite_are_refused():
    model = text_model(tiny_roberta())
    torch.nn.init.constant_(model.embeddings.LayerNorm.weight, float("nan"))
    with pytest.raises(ConfigError, match="its output is not finite"):
        TextEncoder(model)


def test_the_width_is_that_of_the_vectors():
    """Not a setting's, which has another name in each kind of model."""
    assert TextEncoder(text_model(DISTIL)).num_features == 32


def test_a_model_of_shapes_alone_has_a_width_too():
    with torch.device("meta"):
        assert TextEncoder(text_model(tiny_roberta())).num_features == 32


@pytest.mark.parametrize(
    ("config", "usable"),
    [
        (tiny_roberta(), 24),
        ({"model_type": "xlm-roberta", **LENGTHS, **SIZES}, 18),
        ({"model_type": "mpnet", **LENGTHS, **SIZES}, 18),
        ({"model_type": "bert", **LENGTHS, **SIZES}, 20),
        (DISTIL, 20),
        ({"model_type": "deberta-v2", **LENGTHS, **SIZES}, 20),
    ],
)
def test_positions_are_counted_as_the_model_counts_them(config, usable):
    model = text_model(config).eval()
    assert usable_positions(model.config) == usable
    encoder = TextEncoder(model)
    ids = torch.full((1, usable + 1), 5)
    assert encoder(ids[:, :-1], torch.ones_like(ids[:, :-1])).shape == (1, 32)
    with pytest.raises((IndexError, RuntimeError)):
        encoder(ids, torch.ones_like(ids))


def test_relative_positions_have_no_end():
    config = {"model_type": "xlnet", "d_model": 32, "n_layer": 1, "n_head": 4, "d_inner": 64, "vocab_size": 50}
    assert usable_positions(text_model(config).config) is None


def test_another_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling must be one of first, mean, pooler, got 'max'"):
        TextEncoder(None, pooling="max")
