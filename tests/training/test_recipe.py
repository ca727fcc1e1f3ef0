"""Recipes: what is bundled loads, what cannot be is refused by name, overrides arrive as typed."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
import torch

from curation.errors import ConfigError
from training.config import FeatureConfig, TrainConfig
from training.models.build import build_clap
from training.models.text import roberta_config, text_model
from training.recipe import UsageError, flatten, from_dict, load_recipe, recipe_names, to_dict, to_yaml


@pytest.mark.parametrize("name", recipe_names())
def test_bundled_recipes_load_and_survive_their_own_text(name, tmp_path):
    config = load_recipe(name)
    assert config.run.name == name
    (tmp_path / "again.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert load_recipe(str(tmp_path / "again.yaml")) == config
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_overrides_arrive_as_typed():
    config = load_recipe(
        "paper-d",
        [
            "optimizer.lr=3e-5",
            "model.audio=cnn14",
            "model.cnn14.channels=[4, 8]",
            "data.train=[{manifest: data/x, splits: [train, val]}, {manifest: y}]",
            "model.spec_augment=null",
            "model.cnn14.clip_s=5",
        ],
    )
    assert (config.optimizer.lr, config.model.audio, config.model.cnn14.channels) == (3e-5, "cnn14", (4, 8))
    assert [(source.manifest, source.splits) for source in config.data.train] == [
        ("data/x", ("train", "val")),
        ("y", ("train",)),
    ]
    assert config.model.spec_augment is None
    assert config.model.cnn14.clip_s == 5.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.learning_rate=1"], "no setting 'optimizer.learning_rate'"),
        (["optimizer.weight_deacy=1"], "did you mean 'optimizer.weight_decay'?"),
        (["lr=1"], "did you mean 'optimizer.lr'?"),
        (["modle.audio=cnn14"], "no setting 'modle'; did you mean 'model'?"),
        (["run.epochs=many"], "run.epochs must be a whole number, got 'many'"),
        (["run.epochs=1.5"], "run.epochs must be a whole number, got 1.5"),
        (["run.epochs=true"], "run.epochs must be a whole number, got True"),
        (["optimizer.lr=fast"], "optimizer.lr must be a number, got 'fast'"),
        (["optimizer.name=sgd"], "optimizer.name must be one of adam, adamw, got 'sgd'"),
        (["model.cnn14.channels=4"], "model.cnn14.channels must be a list, got 4"),
        (["model.cnn14=4"], "model.cnn14 must hold keys"),
        (["data.train=[{splits: [train]}]"], "data.train[0] lacks manifest"),
        (["data.train=[{manifest: x, split: train}]"], "did you mean 'data.train[0].splits'?"),
        (["data.train=[]"], "data.train names no manifest"),
        (["model.audio=htsat+cnn14"], "model.audio='htsat+cnn14' must be one of cnn14, htsat, cnn14+htsat"),
        (["features.f_max=30000"], "0 <= f_min < f_max <= sample_rate / 2 = 22050.0"),
        (["run.batch_size=1"], "a pair alone has no negatives"),
        (["run.device=gpu"], "must be auto, cpu, cuda or cuda:N"),
        (["run.name=a/b"], "must be a plain folder name"),
        (["model.htsat.depths=[1]"], "must name the same number of stages"),
        (["model.text.dropout=1"], "must be in [0, 1)"),
        (["run.seed=-1"], "run.seed=-1 must be 0 or more"),
        (["run.seed=9223372036854775808"], "must be below 2**63"),
        (["model.cnn14.clip_s=0.000001"], "model.cnn14.clip_s=1e-06 is too short"),
        (["model.htsat.clip_s=0.001"], "model.htsat.clip_s=0.001 is too short"),
        (["model.cnn14.clip_s=.inf"], "model.cnn14.clip_s=inf must be greater than 0, and finite"),
        (["model.text.max_tokens=1"], "must be at least 3"),
        (["optimizer.lr=.nan"], "optimizer.lr=nan must be greater than 0, and finite"),
        (["optimizer.weight_decay=.nan"], "optimizer.weight_decay=nan must be 0 or more, and finite"),
        (["schedule.gamma=.inf"], "schedule.gamma=inf must be greater"),
        (["data.gain_db=.inf"], "data.gain_db=inf must be 0 or more, and finite"),
        (["model.spec_augment.time_stripes=-2"], "model.spec_augment.time_stripes=-2 must be 0 or more"),
        (["data.train[0].manifest=x"], "give the whole list, such as 'data.train=[{manifest: FOLDER"),
        (["data.train.0.manifest=x"], "give the whole list, such as 'data.train=[{manifest: FOLDER"),
        (["data.val=[{manifest: x, splits: []}]"], "data.val[0].splits is empty"),
        (["run.name=2024"], "run.name must be text, got 2024; quote it: 'run.name=\"2024\"'"),
        (["run.name=on"], "quote it: 'run.name=\"on\"'"),
        (["optimizer.lr"], "'optimizer.lr' is not section.key=value"),
    ],
)
def test_what_cannot_be_is_refused(overrides, message):
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load_recipe("tiny", overrides)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there():
    with pytest.raises(ConfigError, match=r"did you mean tiny\? bundled are .*paper-d.*tiny"):
        load_recipe("tinny")
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file"):
        load_recipe("none.yaml")


def test_a_broken_recipe_file(tmp_path):
    (tmp_path / "r.yaml").write_text("run: [1, 2", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"recipe .*r\.yaml"):
        load_recipe(str(tmp_path / "r.yaml"))
    (tmp_path / "r.yaml").write_text("- run", encoding="utf-8")
    with pytest.raises(ConfigError, match="must hold sections"):
        load_recipe(str(tmp_path / "r.yaml"))
    (tmp_path / "r.yaml").write_text("tiny", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"must hold sections .*not 'tiny'"):
        load_recipe(str(tmp_path / "r.yaml"))


def test_an_empty_section_means_its_defaults(tmp_path):
    (tmp_path / "r.yaml").write_text("features:\nrun:\n  epochs: 3\n", encoding="utf-8")
    assert load_recipe(str(tmp_path / "r.yaml")).features == FeatureConfig()
    assert load_recipe(str(tmp_path / "r.yaml"), ["features.n_fft=512"]).features.n_fft == 512


def test_flatten():
    assert flatten({"a": {"b": 1, "c": [1]}, "d": None}) == {"a.b": 1, "a.c": [1], "d": None}


def test_paper_d_has_the_parameters_of_the_paper():
    """Counted on the meta device: no memory, no download. The count is that of the parts' references."""
    config = load_recipe("paper-d")
    with torch.device("meta"):
        text = text_model(
            roberta_config(
                vocab_size=50_265,
                hidden_size=768,
                num_layers=12,
                num_heads=12,
                ffn_size=3072,
                max_tokens=512,
            )
        )
        model = build_clap(config.model, config.features, text=text, tokenizer=None)
    assert sum(p.numel() for p in text.parameters()) == 124_055_040
    assert sum(p.numel() for p in model.parameters()) == 234_935_385
    assert model.audio.num_features == 2048 + 768
    assert model.audio.clip_samples == {"cnn14": 882_000, "htsat": 441_000}


def test_a_key_named_after_a_preset_changes_that_preset():
    config = load_recipe("paper-d", ["model.htsat.features=panns-32k", "model.htsat.features.n_mels=32"])
    own = config.model.htsat.features
    assert own is not None
    assert (own.sample_rate, own.f_max, own.n_mels) == (32_000, 14_000, 32)


PANNS = FeatureConfig(sample_rate=32_000, n_fft=1024, hop_length=320, n_mels=64, f_min=50.0, f_max=14_000.0)


@pytest.mark.parametrize(
    ("stated", "overrides", "expected"),
    [
        ("panns-32k", ["n_mels=32"], dataclasses.replace(PANNS, n_mels=32)),
        ("panns-32k", ["n_mels=32", "n_fft=2048"], dataclasses.replace(PANNS, n_mels=32, n_fft=2048)),
        ("panns-32k", ["={n_mels: 32}"], dataclasses.replace(PANNS, n_mels=32)),
        ("panns-16k", ["n_mels=32", "=panns-32k"], PANNS),
        ("panns-16k", ['="panns-32k"', "n_mels=32"], dataclasses.replace(PANNS, n_mels=32)),
        ("{n_mels: 32}", ["=panns-32k"], PANNS),
    ],
)
@pytest.mark.parametrize("place", ["features", "model.htsat.features", "model.cnn14.features"])
def test_a_preset_in_a_recipe_is_refined_by_overrides(tmp_path, place, stated, overrides, expected):
    (tmp_path / "r.yaml").write_text(_nested(place, stated), encoding="utf-8")
    typed = [f"{place}{override}" if override[0] == "=" else f"{place}.{override}" for override in overrides]
    config = load_recipe(str(tmp_path / "r.yaml"), typed)
    found = config.features if place == "features" else getattr(config.model, place.split(".")[1]).features
    assert found == expected


@pytest.mark.parametrize("shared", ["panns-32k", "{sample_rate: 32000, f_max: 14000.0}", "typed"])
@pytest.mark.parametrize("own", ["{n_mels: 32}", "typed"])
def test_a_front_end_of_its_own_takes_the_rest_from_the_shared_one(tmp_path, shared, own):
    text, overrides = "run:\n  epochs: 3\n", []
    for place, value, key in (("features", shared, "=panns-32k"), ("model.htsat.features", own, ".n_mels=32")):
        if value == "typed":
            overrides.append(place + key)
        else:
            text += _nested(place, value)
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    config = load_recipe(str(tmp_path / "r.yaml"), overrides)
    assert config.model.htsat.features == dataclasses.replace(PANNS, n_mels=32)
    assert config.features == PANNS
    assert config.model.cnn14.features is None
    (tmp_path / "again.yaml").write_text(to_yaml(config), encoding="utf-8")
    again = load_recipe(str(tmp_path / "again.yaml"), ["features=paper"])
    assert again.model.htsat.features == config.model.htsat.features  # a whole one takes nothing
    assert from_dict(
        TrainConfig, {"features": "panns-32k", "model": {"htsat": {"features": {"n_mels": 32}}}}
    ).model == (dataclasses.replace(TrainConfig().model, htsat=config.model.htsat))


def test_a_front_end_of_its_own_is_taken_away_by_null(tmp_path):
    (tmp_path / "r.yaml").write_text(_nested("model.htsat.features", "panns-32k"), encoding="utf-8")
    assert load_recipe(str(tmp_path / "r.yaml"), ["model.htsat.features=null"]).model.htsat.features is None


@pytest.mark.parametrize(
    ("stated", "overrides", "message"),
    [
        ("panns-64k", [], "features=panns-64k: there is no such front end; presets are paper, panns-32k, "),
        ("panns-64k", ["features.n_mels=32"], "features=panns-64k: there is no such front end"),
        ("panns-32k", ["features.n_mel=32"], "did you mean 'features.n_mels'?"),
        ("panns-32k", ["features=[1]"], "keys for a list, or a list for keys"),
        ("[panns-32k]", [], "features must hold keys (sample_rate, "),
        ("panns-32k", ["model.htsat.features.sample_rate=16000"], "f_max <= sample_rate / 2 = 8000.0"),
        ("panns-32k", ["model.htsat.features.n_mel=3"], "did you mean 'model.htsat.features.n_mels'?"),
        ("panns-32k", ["model.htsat=3"], "model.htsat must hold keys"),
        ("panns-32k", ["model=3"], "model must hold keys"),
    ],
)
def test_front_ends_that_cannot_be(tmp_path, stated, overrides, message):
    (tmp_path / "r.yaml").write_text(_nested("features", stated), encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(message)):
        load_recipe(str(tmp_path / "r.yaml"), overrides)


def _nested(place: str, value: str) -> str:
    """Return a dotted setting as a recipe has it."""
    *sections, key = place.split(".")
    lines = [f"{'  ' * depth}{section}:\n" for depth, section in enumerate(sections)]
    return "".join(lines) + f"{'  ' * len(sections)}{key}: {value}\n"


def test_paper_d_states_what_the_paper_states():
    config = load_recipe("paper-d")
    assert (config.run.epochs, config.run.batch_size, config.model.embed_dim) == (45, 128, 1024)
    assert (config.optimizer.name, config.optimizer.lr) == ("adam", 1e-4)
    assert (config.schedule.name, config.schedule.step_epochs, config.schedule.gamma) == ("step", 20, 0.1)
    assert config.model.initial_temperature == 0.007
    features = config.features
    assert (features.sample_rate, features.n_fft, features.hop_length, features.n_mels) == (44_100, 1024, 320, 64)
    assert (features.f_min, features.f_max) == (50, 8000)
