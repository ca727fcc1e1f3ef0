"""Tokenizer and text encoder: nothing unknown, always cut, padding without effect, folders load again."""

from __future__ import annotations

import pytest
import torch

from curation.errors import ConfigError
from training.models.text import TextEncoder, local_or_fetched, pretrained_text_model, roberta_config, text_model
from training.tokenizer import SPECIAL_TOKENS, load_tokenizer, pad, token_ids, train_tokenizer

CAPTIONS = ["A low bell struck twice, fading slowly.", "Heavy rain on a tin roof.", "A dog barks twice."]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CAPTIONS, vocab_size=320, max_tokens=24)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = roberta_config(vocab_size=320, hidden_size=32, num_layers=2, num_heads=4, ffn_size=64, max_tokens=24)
    return text_model(config).eval()


def test_special_tokens_have_robertas_ids(tokenizer):
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2, 3, 4]
    ids = token_ids(tokenizer, ["A dog barks."], max_tokens=24)[0]
    assert (ids[0], ids[-1]) == (0, 2)


@pytest.mark.parametrize("text", ["A dog barks.", "Ünïcode 🐕 犬", "tabs\tand\nlines", "\u0000"])
def test_no_text_is_unknown_and_all_come_back_in_small_letters(tokenizer, text):
    ids = token_ids(tokenizer, [text], max_tokens=1000)[0]
    assert 3 not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == f" {text.lower()}"


def test_case_and_place_make_no_other_word(tokenizer):
    first, second, third = token_ids(tokenizer, ["Dog barks", "dog barks", "DOG BARKS"], max_tokens=24)
    assert first == second == third
    alone = token_ids(tokenizer, ["dog"], max_tokens=24)[0][1:-1]
    assert token_ids(tokenizer, ["a dog"], max_tokens=24)[0][-1 - len(alone) : -1] == alone


def test_texts_are_cut(tokenizer, model):
    ids = token_ids(tokenizer, ["word " * 600], max_tokens=24)
    assert len(ids[0]) == 24
    assert ids[0][-1] == 2
    assert TextEncoder(model)(*pad(ids, pad_id=1)).shape == (1, 32)


def test_training_is_deterministic_and_a_folder_gives_the_same(tokenizer, tmp_path):
    again = train_tokenizer(CAPTIONS, vocab_size=320, max_tokens=24)
    assert again.get_vocab() == tokenizer.get_vocab()
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    texts = [*CAPTIONS, "something else, 1234"]
    assert token_ids(loaded, texts, max_tokens=24) == token_ids(tokenizer, texts, max_tokens=24)


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_padding_and_neighbours_have_no_effect(tokenizer, model, pooling):
    encoder = TextEncoder(model, pooling=pooling)
    ids = token_ids(tokenizer, CAPTIONS, max_tokens=24)
    with torch.inference_mode():
        together = encoder(*pad(ids, pad_id=1))
        alone = torch.cat([encoder(*pad([row], pad_id=1)) for row in ids])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    assert not torch.allclose(together[0], together[1])


def test_there_is_no_pooler_and_the_config_builds_it_again(model):
    encoder = TextEncoder(model)
    assert model.pooler is None
    names = {name: tensor.shape for name, tensor in model.state_dict().items()}
    again = text_model(encoder.config)
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == names


def test_a_folder_is_a_pretrained_encoder(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = pretrained_text_model(str(tmp_path)).eval()
    ids = torch.tensor([[0, 10, 11, 2]])
    torch.testing.assert_close(
        TextEncoder(loaded)(ids, torch.ones_like(ids)), TextEncoder(model)(ids, torch.ones_like(ids))
    )


def test_what_cannot_be_loaded_says_how_to_go_on(tmp_path):
    with pytest.raises(
        ConfigError, match=r"'roberta-base' could not be loaded .*model.text.encoder=/path/to/roberta-base"
    ):
        pretrained_text_model("roberta-base")
    with pytest.raises(ConfigError, match="'roberta-base' could not be loaded"):
        load_tokenizer("roberta-base")
    with pytest.raises(ConfigError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)


def test_a_dead_network_is_asked_once(monkeypatch):
    """Without an address to go to; the libraries by themselves ask six times, 23 seconds in all."""
    asked = []

    def dead(url, **options):
        asked.append(options["timeout"])
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", dead)
    calls = []

    def load(source, **options):
        calls.append(options)
        raise OSError("not here")

    with pytest.raises(OSError, match="not on this machine, and not to be fetched: no route"):
        local_or_fetched(load, "roberta-base")
    assert (asked, calls) == ([5], [{"local_files_only": True}])


def test_refuses():
    with pytest.raises(ConfigError, match="vocab_size=200 must be at least 261"):
        train_tokenizer(CAPTIONS, vocab_size=200, max_tokens=24)
    with pytest.raises(ValueError, match="pooling must be first or mean"):
        TextEncoder(None, pooling="max")
