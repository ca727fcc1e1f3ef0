"""Tokenizer: nothing unknown, every text cut and with its ends, never another model's."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer

from curation.errors import ConfigError
from tests.training.textmodels import CAPTIONS, embed, tiny_roberta, transformers, write_bert
from training.models.text import TextEncoder, pretrained_text_model, text_model
from training.tokenizer import SPECIAL_TOKENS, check_vocabulary, load_tokenizer, token_ids, train_tokenizer

ODD_TEXTS = ["", "   ", "🐕 犬が吠える", "a\0b", "\n\t\u200b", "word " * 600, "x" * 20_000, " " * 20_000, "</s>[SEP]"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CAPTIONS, vocab_size=320, max_tokens=24)


@pytest.fixture(scope="module")
def model():
    return text_model(tiny_roberta()).eval()


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


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


@pytest.mark.parametrize("length", [24, 3])
def test_every_text_is_cut_and_has_its_ends(tokenizer, model, bert_folder, length, capfd):
    """Whatever it is, and whatever length and sides the tokenizer itself would like."""
    unlimited = load_tokenizer(bert_folder)
    unlimited.model_max_length, unlimited.padding_side = int(1e30), "left"
    for each, first, last in ((tokenizer, 0, 2), (unlimited, 2, 3)):
        ids = token_ids(each, ODD_TEXTS, max_tokens=length)
        assert max(map(len, ids)) == length
        assert {(row[0], row[-1]) for row in ids} == {(first, last)}
    vectors = embed(TextEncoder(model), tokenizer, ODD_TEXTS, max_tokens=length)
    assert vectors.shape == (len(ODD_TEXTS), 32)
    assert vectors.isfinite().all()
    assert capfd.readouterr() == ("", "")


def test_no_room_for_a_token_is_refused(tokenizer):
    with pytest.raises(ValueError, match="max_tokens=2 leaves no room beside 2 special tokens"):
        token_ids(tokenizer, ["a"], max_tokens=2)


def test_training_is_deterministic_and_a_folder_gives_the_same(tokenizer, tmp_path):
    again = train_tokenizer(CAPTIONS, vocab_size=320, max_tokens=24)
    assert again.get_vocab() == tokenizer.get_vocab()
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    texts = [*CAPTIONS, "something else, 1234"]
    assert token_ids(loaded, texts, max_tokens=24) == token_ids(tokenizer, texts, max_tokens=24)


def test_a_tokenizer_of_another_model_is_refused(tokenizer, model, bert_folder):
    bert, bert_tokenizer = pretrained_text_model(str(bert_folder)), load_tokenizer(bert_folder)
    check_vocabulary(tokenizer, model)
    check_vocabulary(bert_tokenizer, bert)
    with pytest.raises(ConfigError, match=r"its ids end with 3\d\d \('.*'\), and the bert model has 15 embeddings"):
        check_vocabulary(tokenizer, bert)
    with pytest.raises(ConfigError, match="it pads with id 0, and the roberta model with 1"):
        check_vocabulary(bert_tokenizer, model)
    bert_tokenizer.add_tokens(["woof"])
    with pytest.raises(ConfigError, match=r"end with 15 \('woof'\), and the bert model has 15 embeddings"):
        check_vocabulary(bert_tokenizer, bert)


def test_a_tokenizer_without_padding_or_ends_is_refused(tokenizer, model):
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    bare = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(backend)))
    with pytest.raises(ConfigError, match="tokenizer of the roberta model has no padding token"):
        check_vocabulary(bare, model)
    endless = Tokenizer.from_str(json.dumps(backend | {"post_processor": None}))
    endless = transformers.PreTrainedTokenizerFast(tokenizer_object=endless, pad_token="<pad>")
    with pytest.raises(ConfigError, match="marks no ends: an empty text would have no token at all"):
        check_vocabulary(endless, model)


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ConfigError, match="vocab_size=200 must be at least 261"):
        train_tokenizer(CAPTIONS, vocab_size=200, max_tokens=24)
