"""Whole models and text encoders: LAION's and transformers' CLAP, and folders such as roberta-base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from curation.errors import ConfigError
from tests.training import published
from tests.training.published import HTSAT, HTSAT_WIDTH, make, roberta
from training.models.clap import Clap
from training.models.convert import convert, convert_to_transformers, read_published
from training.models.htsat import Htsat
from training.models.parts import load_part
from training.tokenizer import load_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory) -> Path:
    return published.save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_a_whole_laion_model_embeds_as_its_makers_code(tmp_path, tokenizer_folder):
    file = make(tmp_path, "laion-630k")
    report = convert(file, tmp_path / "out", tokenizer=tokenizer_folder)
    state = {name.removeprefix("module."): x for name, x in torch.load(file, weights_only=False)["state_dict"].items()}
    assert sorted([*report.matched, *report.dropped]) == sorted(state)
    reasons = [report.dropped[f"audio_branch.tscam_conv.{name}"] for name in ("weight", "bias")]
    assert reasons == ["tagging head, which a CLAP model does not have"] * 2
    assert report.written == {str(tmp_path / "out"): "model"}

    model = Clap.from_pretrained(tmp_path / "out")
    assert float(model.logit_scale.detach()) == 4.0
    texts = ["a dog barks", "rain " * 60]
    ids = model.tokenizer(texts, truncation=True, max_length=38, padding="max_length", return_tensors="pt")
    with torch.inference_mode():
        pooled = roberta()(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).pooler_output
    np.testing.assert_allclose(model.embed_text(texts), _projected(state, "text", pooled), atol=1e-6)

    waveform = torch.rand(1, 480_000) - 0.5
    htsat = Htsat(**read_published(file).parts["htsat"].settings)
    htsat.load_state_dict(read_published(file).parts["htsat"].tensors)
    with torch.inference_mode():
        log_mel = model.audio.features["htsat"](waveform)
        assert log_mel.shape == (1, 1001, 64)
        latent = htsat.eval()(log_mel)
    np.testing.assert_allclose(model.embed_audio(list(waveform)), _projected(state, "audio", latent), atol=1e-6)


def _projected(state, tower: str, pooled: torch.Tensor) -> np.ndarray:
    first, second = ((state[f"{tower}_projection.{n}.weight"], state[f"{tower}_projection.{n}.bias"]) for n in (0, 2))
    return F.normalize(F.linear(F.relu(F.linear(pooled, *first)), *second), dim=1).numpy()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_branch.pooler.dense.weight": None}, "first text_branch.pooler.dense.weight"),
        ({"text_projection.2.bias": None}, "first text_projection.2.bias"),
        ({"logit_scale_a": None}, "first logit_scale_a"),
        (
            {"text_branch.encoder.layer.0.crossattention.x": torch.ones(1)},
            "first text_branch.encoder.layer.0.cross",
        ),
        ({"text_branch.embeddings.token_type_embeddings.weight": torch.ones(2, 32)}, "2 token types, so it is a BERT"),
        ({"text_branch.embeddings.word_embeddings.weight": torch.ones(310, 32)}, "300 tokens and pads with 1, .* 310"),
        ({"text_branch.embeddings.word_embeddings.weight": None}, "word_embeddings.weight is missing; .* no RoBERTa"),
        ({"text_projection.0.bias": torch.full((16,), torch.inf)}, "text_projection.0.bias holds 16 NaN or infinite"),
    ],
)
def test_a_laion_model_that_is_not_whole_is_refused(tmp_path, tokenizer_folder, change, message):
    tensors = published.laion(HTSAT, roberta().state_dict(), audio_width=HTSAT_WIDTH) | change
    file = published.save_laion(tmp_path / "a.pt", {name: x for name, x in tensors.items() if x is not None})
    with pytest.raises(ConfigError, match=message):
        convert(file, tmp_path / "out", tokenizer=tokenizer_folder)
    assert not (tmp_path / "out").exists()


def test_models_go_to_transformers_and_back(tmp_path, tokenizer_folder):
    convert(make(tmp_path, "laion-630k"), tmp_path / "ours", tokenizer=tokenizer_folder)
    written = convert_to_transformers(tmp_path / "ours", tmp_path / "theirs").written
    assert written == {str(tmp_path / "theirs"): "transformers ClapModel"}
    report = convert(tmp_path / "theirs", tmp_path / "back")
    assert (report.kind, report.missing) == ("transformers-clap", [])
    assert sorted([*report.matched, *report.dropped]) == sorted(load_file(tmp_path / "theirs" / "model.safetensors"))
    one, other = (Clap.from_pretrained(tmp_path / name).state_dict() for name in ("ours", "back"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    part = load_part(tmp_path / "theirs", "htsat")
    assert all(torch.equal(x, one[f"audio.encoders.htsat.{name}"]) for name, x in part.tensors.items())
    with pytest.raises(ConfigError, match=r"its config.json says model_type clap, which is not transformers-text"):
        read_published(tmp_path / "theirs", kind="transformers-text")
    with pytest.raises(ConfigError, match=r"ours: is ours already, there is nothing to convert"):
        convert(tmp_path / "ours", tmp_path / "again")


@pytest.fixture
def text_folder(tmp_path, tokenizer_folder) -> Path:
    """A folder such as roberta-base's: with the head of its pretraining, and without a pooler."""
    from transformers import RobertaForMaskedLM

    torch.manual_seed(1)
    folder = tmp_path / "roberta-base"
    shutil.copytree(tokenizer_folder, folder)
    RobertaForMaskedLM(roberta().config).save_pretrained(folder)
    return folder


def test_a_text_folder_keeps_its_encoder_alone(tmp_path, text_folder):
    from transformers import AutoModel, RobertaForMaskedLM

    report = convert(text_folder, tmp_path / "out")
    theirs = load_file(text_folder / "model.safetensors")
    assert (report.kind, len(report.matched)) == ("transformers-text", 37)
    assert set(report.dropped) == {name for name in theirs if name.startswith("lm_head.")}
    assert report.next_command == f"wavtext5k-train paper-d model.text.encoder={tmp_path / 'out'}"
    model, loaded = AutoModel.from_pretrained(tmp_path / "out", add_pooling_layer=False, output_loading_info=True)
    assert not any(loaded[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = torch.tensor([[0, 9, 8, 7, 2]])
    with torch.inference_mode():
        expected = RobertaForMaskedLM.from_pretrained(text_folder).roberta(ids).last_hidden_state
        assert torch.equal(model(ids).last_hidden_state, expected)


def _other_tokenizer(folder: Path, tokenizer_folder: Path) -> Path:
    """Write a folder whose tokenizer has as many tokens, but others."""
    shutil.copytree(tokenizer_folder, folder)
    words = [f"seven cows moo behind fence {number} and a gate creaks" for number in range(60)]
    tokenizer = train_tokenizer([*words, *published.WORDS], vocab_size=300, max_tokens=38)
    assert len(tokenizer) == 300
    tokenizer.save_pretrained(folder)
    return folder


def test_another_tokenizer_is_no_conversion_that_was_done(tmp_path, tokenizer_folder, text_folder):
    other = _other_tokenizer(tmp_path / "other", tokenizer_folder)
    for source, given in ((make(tmp_path, "laion-630k"), tokenizer_folder), (text_folder, None)):
        out = tmp_path / f"out-{source.name}"
        made = convert(source, out, tokenizer=given)
        assert not made.was_done
        assert "tokenizer.json" in made.inputs
        assert convert(source, out, tokenizer=given).was_done
        kept = {path.name: path.read_bytes() for path in out.iterdir()}
        with pytest.raises(ConfigError, match=rf"of {source}, made with another tokenizer.json; name another folder"):
            convert(source, out, tokenizer=other)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == kept
        assert not convert(source, tmp_path / f"new-{source.name}", tokenizer=other).was_done


def test_a_tokenizer_may_be_a_published_ones_name(tmp_path, tokenizer_folder, text_folder, monkeypatch):
    found = load_tokenizer(tokenizer_folder)
    monkeypatch.setattr("training.tokenizer.load_tokenizer", lambda source: found)
    report = convert(text_folder, tmp_path / "out", tokenizer=Path("its-makers/tokenizer"))
    assert list(report.inputs) == ["tokenizer", "config.json"]
    assert convert(text_folder, tmp_path / "out", tokenizer=Path("its-makers/tokenizer")).was_done
    with pytest.raises(ConfigError, match="made with another tokenizer; name another folder"):
        convert(text_folder, tmp_path / "out", tokenizer=Path("others/tokenizer"))


def test_another_configuration_is_no_conversion_that_was_done(tmp_path, tokenizer_folder):
    convert(make(tmp_path, "laion-630k"), tmp_path / "ours", tokenizer=tokenizer_folder)
    assert not convert_to_transformers(tmp_path / "ours", tmp_path / "theirs").was_done
    assert convert_to_transformers(tmp_path / "ours", tmp_path / "theirs").was_done
    assert not convert(tmp_path / "theirs", tmp_path / "back").was_done
    (tmp_path / "theirs" / "README.md").write_text("said, not read")
    assert convert(tmp_path / "theirs", tmp_path / "back").was_done
    for folder, file, change, again in (
        (
            "ours",
            "config.json",
            ("10.0", "5.0"),
            lambda: convert_to_transformers(tmp_path / "ours", tmp_path / "theirs"),
        ),
        ("theirs", "preprocessor_config.json", ("10", "5"), lambda: convert(tmp_path / "theirs", tmp_path / "back")),
    ):
        text = (tmp_path / folder / file).read_text()
        key = '"clip_s": ' if folder == "ours" else '"max_length_s": '
        assert key + change[0] in text
        (tmp_path / folder / file).write_text(text.replace(key + change[0], key + change[1]))
        with pytest.raises(ConfigError, match=f"made with another {file}; name another folder"):
            again()


def test_our_own_is_named_as_such(tmp_path, tokenizer_folder):
    convert(make(tmp_path, "laion-630k"), tmp_path / "run" / "model", tokenizer=tokenizer_folder)
    advice = r"is ours already, .* start from it with init.clap=.*run.* with init.cnn14=.* --to transformers"
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        with pytest.raises(ConfigError, match=advice):
            convert(folder, tmp_path / "out")
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigError, match="begun: the run has no model yet"):
        convert(tmp_path / "begun", tmp_path / "out")
    convert(make(tmp_path, "panns-cnn14"), tmp_path / "part")
    with pytest.raises(ConfigError, match=r"is ours already, .*; start from it with init.cnn14=.*part$"):
        convert(tmp_path / "part", tmp_path / "out")
    with pytest.raises(ConfigError, match="holds cnn14 alone, and a ClapModel is a whole model"):
        convert_to_transformers(tmp_path / "part", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_of_old_bert_files_and_half_precision(tmp_path, tokenizer_folder):
    from transformers import BertConfig, BertForPreTraining, BertModel

    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=300,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        dtype="float16",
    )
    bert = BertForPreTraining(config).eval()
    folder = tmp_path / "bert"
    shutil.copytree(tokenizer_folder, folder)
    config.save_pretrained(folder)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x.half()
        for name, x in bert.state_dict().items()
    }
    torch.save(old | {"bert.embeddings.position_ids": torch.arange(512)[None]}, folder / "pytorch_model.bin")
    report = convert(folder, tmp_path / "out")
    assert report.notes == ["21 tensors were float16; written as float32"]
    assert "pooler" in report.dropped["bert.pooler.dense.weight"]
    assert report.dropped["bert.embeddings.position_ids"] == "computed from the sizes"
    assert report.dropped["cls.seq_relationship.weight"].startswith("head of its pretraining")
    model = BertModel.from_pretrained(tmp_path / "out", add_pooling_layer=False)
    assert model.dtype == torch.float32
    ids = torch.tensor([[2, 9, 8, 3]])
    with torch.inference_mode():
        expected = bert.half().float().bert(ids).last_hidden_state
        assert torch.allclose(model(ids).last_hidden_state, expected, atol=1e-6)


def _spread(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")


def _rewrite(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def _no_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


def _config(**change):
    def edit(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(values | change))

    return edit


LAYER = "roberta.encoder.layer.0.attention.self.query.bias"
BAD_FOLDERS = {
    "spread": (_spread, "spread over several files .*max_shard_size"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights .neither model.safetensors nor"),
    "no config": (
        lambda f: (f / "config.json").unlink(),
        "no transformers folder .* name the file: .*\\.safetensors",
    ),
    "bad config": (lambda f: (f / "config.json").write_text("{"), "config.json: not JSON"),
    "unknown model": (_config(model_type="nonesuch"), "describes no text encoder known here"),
    "decoder too": (_config(model_type="bart"), "bart models are encoders with decoders"),
    "image model": (_config(model_type="vit"), "vit models are no encoders of text alone"),
    "no tokenizer": (_no_tokenizer, "holds no tokenizer .*; name a folder that has it: --tokenizer FOLDER"),
    "missing tensor": (
        lambda f: _rewrite(f, lambda x: x.pop(LAYER)),
        "not a whole text encoder .* 1 of its 37",
    ),
    "strange tensor": (
        lambda f: _rewrite(f, lambda x: x.update({"roberta.adapter.x": torch.ones(1)})),
        "holds roberta.adapter.x, for which RobertaConfig has no place",
    ),
    "other sizes": (_config(intermediate_size=128), r"has shape \(64,\), expected \(128,\)"),
    "not finite": (lambda f: _rewrite(f, lambda x: x[LAYER].fill_(torch.nan)), f"{LAYER} holds 32 NaN or infinite"),
    "many tokens": (
        lambda f: [_config(vocab_size=200)(f), _rewrite(f, _fewer_words)],
        "300 tokens.* 200",
    ),
}


def _fewer_words(tensors) -> None:
    name = "roberta.embeddings.word_embeddings.weight"
    tensors[name] = tensors[name][:200].clone()


@pytest.mark.parametrize(("damage", "message"), BAD_FOLDERS.values(), ids=BAD_FOLDERS.keys())
def test_a_text_folder_that_is_not_whole_is_refused(tmp_path, text_folder, damage, message):
    damage(text_folder)
    with pytest.raises(ConfigError, match=message):
        convert(text_folder, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["roberta-base"]


def test_a_file_out_of_a_folder_points_to_the_folder(tmp_path, text_folder):
    with pytest.raises(ConfigError, match=r"the folder that it is in may be meant: .*roberta-base"):
        convert(text_folder / "model.safetensors", tmp_path / "out")
    with pytest.raises(ConfigError, match="fetch the whole folder"):
        convert(tmp_path, tmp_path / "out")
