"""Weights to start from: taken over bit for bit, or refused with the setting to change; never a silent random start."""

from __future__ import annotations

import dataclasses
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from curation.errors import ConfigError
from tests.training import published
from tests.training.clips import small_config, tone, write_clips
from training.config import InitConfig, TrainConfig
from training.engine import train
from training.init import check_init, clap_start, initialise
from training.models.build import new_clap
from training.models.clap import Clap
from training.models.parts import Part, load_part, save_part

TEXTS = ["A low bell struck twice.", "Rain.", "A dog barks at the door."]
NARROW = {"channels": list(published.NARROW), "features": "panns-32k"}
"""A CNN14 as PANNs', in miniature."""
SMALL = {name: list(size) if isinstance(size, tuple) else size for name, size in published.SMALL.items()} | {
    "spec_size": 256,
    "patch_size": 4,
    "window_size": 8,
}
"""An HTSAT of published shapes, in miniature."""


def config_of(folder: Path, **sections: Any) -> TrainConfig:
    return small_config(folder, folder, **sections)


def build(config: TrainConfig, *, seed: int = 0, texts: list[str] = TEXTS) -> Clap:
    torch.manual_seed(seed)
    return new_clap(config.model, config.features, captions=texts)


def assert_same(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, tensors[name].to(tensor.dtype)), name


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return config_of(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def source(config, tmp_path_factory):
    """A model folder of the small configuration, whose weights are not those of ``build``."""
    folder = tmp_path_factory.mktemp("source")
    model = build(config, seed=1)
    model.audio.encoders["cnn14"].bn0.running_mean.fill_(-30.0)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def panns(tmp_path_factory):
    """A file as PANNs publishes, in miniature."""
    tensors = published.weights(published.cnn14_shapes()) | published.front_end("C")
    return published.save_panns(tmp_path_factory.mktemp("panns") / "Cnn14_mAP=0.431.pth", tensors)


@pytest.fixture
def model(config):
    return build(config)


def test_nothing_named_leaves_the_model_as_it_is(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert initialise(model, InitConfig(cnn14="none")) == {}
    assert_same(model, before)


def test_a_published_cnn14_is_taken_over(tmp_path, panns, capfd):
    model = build(config_of(tmp_path, model={"cnn14": NARROW}))
    origin = initialise(model, InitConfig(cnn14=str(panns)))
    tensors = torch.load(panns, weights_only=False)["model"]
    assert_same(model.audio.encoders["cnn14"], tensors)
    assert origin["cnn14"]["features"]["f_max"] == 14_000
    assert origin["cnn14"]["path"] == str(panns)
    assert len(origin["cnn14"]["sha256"]) == 64
    assert json.loads(json.dumps(origin)) == origin
    said = capfd.readouterr().err
    assert "left out" in said
    assert "fc_audioset.bias, fc_audioset.weight" in said
    assert "warning" not in said


def test_another_front_end_is_said(tmp_path, panns, capfd):
    shared = {"features": {"n_mels": 64, "n_fft": 1024, "hop_length": 320}, "model": {"htsat": SMALL}}
    model = build(config_of(tmp_path, **shared | {"model": {"cnn14": NARROW | {"features": None}, "htsat": SMALL}}))
    initialise(model, InitConfig(cnn14=str(panns)))
    said = capfd.readouterr().err
    assert re.search(
        r"warning: init.cnn14: Cnn14_mAP=0.431.pth .*32000 Hz.*50-14000 Hz; the recipe gives it 44100 Hz.*50-8000 Hz"
        r".*bn0.*model.cnn14.features=panns-32k\n",
        said,
    )


def test_a_published_htsat_is_taken_over(tmp_path):
    tensors = published.weights(published.htsat_shapes(**published.SMALL)) | published.front_end("C")
    file = published.save_averaged(tmp_path / "HTSAT_AudioSet_Saved_1.ckpt", tensors)
    model = build(config_of(tmp_path, model={"audio": "htsat", "htsat": SMALL | {"features": "panns-32k"}}))
    initialise(model, InitConfig(htsat=str(file)))
    assert_same(model.audio.encoders["htsat"], load_part(file, "htsat").tensors)
    assert torch.equal(model.audio.encoders["htsat"].bn0.weight, tensors["bn0.weight"])


@pytest.mark.parametrize("name", ["cnn14", "htsat", "text"])
def test_one_part_of_a_model_folder_is_taken_over_and_no_other(model, source, name):
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    origin = initialise(model, InitConfig(**{name: str(source)}))
    weights = load_file(source / "model.safetensors")
    prefix = "text." if name == "text" else f"audio.encoders.{name}."
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, (weights if key.startswith(prefix) else before)[key]), key
    assert list(origin) == [name]


def test_a_part_folder_is_taken_over(model, source, tmp_path):
    part = load_part(source, "cnn14")
    save_part(part, tmp_path / "part")
    initialise(model, InitConfig(cnn14=str(tmp_path / "part")))
    assert_same(model.audio.encoders["cnn14"], part.tensors)


def test_a_transformers_folder_of_the_same_tokenizer_is_taken_over(model, config, tmp_path):
    other = build(config, seed=5)
    other.text.model.save_pretrained(tmp_path)
    other.tokenizer.save_pretrained(tmp_path)
    origin = initialise(model, InitConfig(text=str(tmp_path)))
    assert_same(model.text, other.text.state_dict())
    assert len(origin["text"]["sha256"]) == 64


def test_a_whole_model_gives_the_same_embeddings(config, source):
    expected = Clap.from_pretrained(source)
    start = clap_start(str(source), config.model, config.features)
    model = new_clap(config.model, config.features, captions=["Other words."], start=start)
    origin = initialise(model, InitConfig(clap=str(source)))
    assert_same(model, expected.state_dict())
    sounds = [tone(300, 0.3), tone(900, 1.2)]
    assert np.array_equal(model.embed_audio(sounds), expected.embed_audio(sounds))
    assert np.array_equal(model.embed_text(TEXTS), expected.embed_text(TEXTS))
    assert origin["clap"]["sha256"] == expected.sha256


def test_single_parts_go_over_a_whole_model(config, source, tmp_path, capfd):
    other = build(config, seed=7)
    other.save_pretrained(tmp_path)
    model, state = build(config), torch.get_rng_state()
    initialise(model, InitConfig(clap=str(source), htsat=str(tmp_path)))
    assert_same(model.audio.encoders["htsat"], load_part(tmp_path, "htsat").tensors)
    assert_same(model.audio.encoders["cnn14"], load_part(source, "cnn14").tensors)
    assert torch.equal(torch.get_rng_state(), state)
    assert "init.htsat replaced parts of init.clap" in capfd.readouterr().err


def test_dropout_is_the_recipes_and_not_that_of_the_weights(tmp_path, source):
    config = config_of(tmp_path, model={"text": {"dropout": 0.35}})
    model = new_clap(
        config.model, config.features, captions=TEXTS, start=clap_start(str(source), config.model, config.features)
    )
    initialise(model, InitConfig(clap=str(source)))
    rates = {module.p for module in model.text.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.35}
    assert_same(model, Clap.from_pretrained(source).state_dict())
    model.save_pretrained(tmp_path / "model")
    again = Clap.from_pretrained(tmp_path / "model").text.config
    assert (again["hidden_dropout_prob"], again["attention_probs_dropout_prob"]) == (0.35, 0.35)


def test_a_run_starts_from_them_holds_what_is_frozen_and_remembers(source, tmp_path):
    manifest = write_clips(tmp_path / "curated", [{} for _ in range(4)])
    config = small_config(
        tmp_path / "runs",
        manifest,
        init={"clap": str(source)},
        optimizer={"freeze": ["cnn14", "text"], "lr_factors": {"htsat": 0.1}},
        run={"epochs": 1},
    )
    folder = train(config).folder
    trained, start = Clap.from_pretrained(folder), Clap.from_pretrained(source)
    assert_same(trained.audio.encoders["cnn14"], start.audio.encoders["cnn14"].state_dict())
    assert_same(trained.text, start.text.state_dict())
    assert not torch.equal(trained.audio_projection.weight, start.audio_projection.weight)
    assert trained.tokenizer.get_vocab() == start.tokenizer.get_vocab()
    origin = json.loads((folder / "model" / "config.json").read_text())["init"]
    assert origin["clap"]["sha256"] == start.sha256


def test_a_run_with_a_missing_file_leaves_nothing_behind(tmp_path):
    manifest = write_clips(tmp_path / "curated", [{} for _ in range(4)])
    config = small_config(tmp_path / "runs", manifest, init={"cnn14": "no.pth"})
    with pytest.raises(ConfigError, match=r"init.cnn14=no.pth: no such file"):
        train(config)
    assert not (tmp_path / "runs").exists()


def test_a_missing_file_is_the_first_thing_a_user_meets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Cnn14_mAP%3D0.431.pth").write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        check_init(InitConfig(cnn14="Cnn14_mAP=0.431.pth", htsat="/nowhere/HTSAT.ckpt"), ["cnn14", "htsat"])
    cnn14, htsat = str(caught.value).split("\n")
    assert cnn14 == (
        "init.cnn14=Cnn14_mAP=0.431.pth: no such file or folder (did you mean Cnn14_mAP%3D0.431.pth, which lies in "
        f"{tmp_path}?); PANNs publishes CNN14 on Zenodo, record 3987831: Cnn14_mAP=0.431.pth (32 kHz) and "
        "Cnn14_16k_mAP=0.438.pth (16 kHz). Set init.cnn14=PATH, or init.cnn14=none to start from random weights on "
        "purpose"
    )
    assert htsat.startswith("init.htsat=/nowhere/HTSAT.ckpt: no such file or folder (there is no folder /nowhere)")
    assert "RetroCirce/HTS-Audio-Transformer" in htsat


@pytest.mark.parametrize(
    ("init", "encoders", "message"),
    [
        ({"htsat": "x"}, ["cnn14"], r"init.htsat=x: the model has no htsat \(model.audio=cnn14\); set init.htsat=none"),
        ({"cnn14": "x"}, ["htsat"], r"the model has no cnn14 .*or model.audio=cnn14\+htsat"),
        ({"clap": "runs/none"}, ["cnn14"], "init.clap=runs/none: no such file or folder .*wavtext5k-train convert"),
        ({"text": "/no/roberta"}, ["cnn14"], "init.text=/no/roberta: no such .* init.text=none to keep the weights"),
        ({"text": "~/no/roberta"}, ["cnn14"], "no such file or folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(init, encoders, message):
    with pytest.raises(ConfigError, match=message):
        check_init(InitConfig(**init), encoders)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"cnn14": {"channels": [4, 8, 16]}},
            r"weights are for model.cnn14.channels \[4,8,8\], the recipe has model.cnn14.channels \[4,8,16\]; set "
            r"'model.cnn14.channels=\[4,8,8\]', or init.cnn14=none to start from random",
        ),
        ({"cnn14": {"channels": [4, 8]}}, r"set 'model.cnn14.channels=\[4,8,8\]'"),
        ({"htsat": {"num_heads": [2, 4]}}, r"set 'model.htsat.num_heads=\[2,2\]', or init.htsat=none"),
        ({"htsat": {"depths": [1, 2]}}, r"set 'model.htsat.depths=\[1,1\]'"),
        ({"htsat": {"window_size": 8, "embed_dim": 16}}, "set model.htsat.embed_dim=8 model.htsat.window_size=4"),
    ],
)
def test_an_encoder_of_other_sizes_is_refused_with_the_override(tmp_path, source, change, message):
    (name,) = change
    with pytest.raises(ConfigError, match=f"init.{name}=.*{message}"):
        initialise(build(config_of(tmp_path, model=change)), InitConfig(**{name: str(source)}))


def test_other_mel_bands_are_refused(tmp_path, source):
    shared = build(config_of(tmp_path, features={"n_mels": 16}))
    with pytest.raises(ConfigError, match=r"for features.n_mels 32, the recipe has features.n_mels 16; set features.n"):
        initialise(shared, InitConfig(cnn14=str(source)))
    own = build(config_of(tmp_path, model={"cnn14": {"features": "paper"}}))
    with pytest.raises(ConfigError, match=r"set model.cnn14.features.n_mels=32, or"):
        initialise(own, InitConfig(cnn14=str(source)))


def test_a_folder_without_the_part_is_refused(tmp_path, source, panns):
    htsat = build(config_of(tmp_path, model={"audio": "htsat"}))
    htsat.save_pretrained(tmp_path / "htsat")
    model = build(config_of(tmp_path))
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished" / "checkpoints").mkdir(parents=True)
    save_part(load_part(source, "cnn14"), tmp_path / "part")
    for init, message in [
        ({"cnn14": tmp_path / "htsat"}, r"init.cnn14=.*the model has no cnn14 \(model.audio=htsat\)"),
        ({"htsat": panns}, "init.htsat=.*holds cnn14, not htsat"),
        ({"htsat": tmp_path / "part"}, "init.htsat=.*holds weights of cnn14, not of htsat"),
        ({"cnn14": tmp_path / "empty"}, "init.cnn14=.*/empty: "),
        ({"cnn14": tmp_path / "unfinished"}, "init.cnn14=.*the run has no model yet"),
        ({"text": tmp_path / "unfinished"}, "init.text=.*the run has no model yet"),
        ({"clap": tmp_path / "unfinished"}, "init.clap=.*the run has no model yet"),
        ({"clap": tmp_path / "empty"}, "init.clap=.*not a model of ours: it takes a run .*wavtext5k-train convert"),
        ({"clap": tmp_path / "part"}, "init.clap=.*it holds cnn14 alone; set init.cnn14=.*part, or init.clap=none"),
        ({"clap": panns}, "init.clap=.*not a model of ours: .*wavtext5k-train convert FILE --out FOLDER"),
        ({"text": tmp_path / "empty"}, "init.text=.*/empty: "),
        ({"text": tmp_path / "part"}, "init.text=.*/part: "),
        ({"text": panns}, "init.text=.*is a file"),
        ({"text": "nobody/no-model"}, "init.text=.*not on this machine.*; name a folder .* or set init.text=none"),
    ]:
        with pytest.raises(ConfigError, match=message):
            initialise(model, InitConfig(**{name: str(path) for name, path in init.items()}))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"model": {"embed_dim": 8}},
            r"another model, with model.embed_dim 8; for this one set model.embed_dim=16; or",
        ),
        ({"model": {"projection": "mlp"}}, "set model.projection=linear; or"),
        ({"model": {"projection_bias": False}}, "set model.projection_bias=true; or"),
        ({"model": {"audio": "cnn14"}}, r"set model.audio=cnn14\+htsat; or"),
        ({"model": {"cnn14": {"channels": [4, 8]}}}, r"set 'model.cnn14.channels=\[4,8,8\]'; or"),
        ({"model": {"htsat": {"num_heads": [4, 4]}}}, r"set 'model.htsat.num_heads=\[2,2\]'; or"),
        ({"model": {"text": {"encoder": "roberta-base"}}}, "set model.text.encoder=scratch; or"),
        ({"model": {"text": {"hidden_size": 32}, "embed_dim": 8}}, "set model.embed_dim=16 model.text.hidden_size=16;"),
        ({"model": {"text": {"pooling": "first"}}}, "set model.text.pooling=mean; or"),
        ({"features": {"f_max": 14000.0}}, r"set 'features=\{sample_rate: 44100, .*f_max: 8000.0\}'; or"),
        ({"model": {"htsat": {"features": "paper"}}}, "set model.htsat.features=null; or"),
    ],
)
def test_a_whole_model_of_other_settings_is_refused_with_the_overrides(tmp_path, source, sections, message):
    config = config_of(tmp_path, **sections)
    with pytest.raises(ConfigError, match=f"init.clap=.*: the recipe describes .*{message}"):
        clap_start(str(source), config.model, config.features)


def test_overrides_name_presets_and_both_front_ends(tmp_path, config):
    theirs = config_of(tmp_path, features={"n_mels": 64}, model={"audio": "htsat", "htsat": {"features": "laion-48k"}})
    build(theirs).save_pretrained(tmp_path / "there")
    with pytest.raises(ConfigError, match=r"set model.audio=htsat model.htsat.features=laion-48k 'features=\{"):
        clap_start(str(tmp_path / "there"), config.model, config.features)


def test_settings_of_training_alone_are_the_recipes(tmp_path, source):
    free = {
        "spec_augment": None,
        "initial_temperature": 0.5,
        "cnn14": {"clip_s": 1.0, "head_dropout": 0.0},
        "htsat": {"drop_path_rate": 0.0, "long_clips": "centre"},
        "text": {"dropout": 0.0},
    }
    config = config_of(tmp_path, model=free)
    tokenizer, _ = clap_start(str(source), config.model, config.features)
    assert tokenizer.get_vocab() == Clap.from_pretrained(source).tokenizer.get_vocab()


def test_a_text_encoder_of_another_vocabulary_is_refused(config, source, tmp_path):
    other = build(config, texts=["Zebras zigzag.", "Quartz quivers."])
    for init in (InitConfig(text=str(source)), InitConfig(clap=str(source))):
        with pytest.raises(ConfigError, match=r"its tokenizer reads texts otherwise .*init.clap=RUN"):
            initialise(other, init)
    other.text.model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="holds no tokenizer"):
        initialise(other, InitConfig(text=str(tmp_path)))


def test_a_text_encoder_of_other_sizes_is_refused(tmp_path, source):
    config = config_of(tmp_path, model={"text": {"num_heads": 4, "ffn_size": 16}})
    with pytest.raises(
        ConfigError, match="it has num_attention_heads 2, intermediate_size 32, the model num_attention"
    ):
        initialise(build(config), InitConfig(text=str(source)))


def changed(part: Part, **tensors: torch.Tensor | None) -> Part:
    """Return a part with tensors replaced, added or (None) left out."""
    kept = {name: tensor for name, tensor in {**part.tensors, **tensors}.items() if tensor is not None}
    return dataclasses.replace(part, tensors=kept)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"fc1.weight": None}, r"it lacks fc1.weight \(1 of \d+ tensors are missing\); init.cnn14=none"),
        ({"fc1.bias": torch.zeros(3)}, r"fc1.bias has shape \(3,\), the model's \(8,\)"),
        ({"conv_block9.conv1.weight": torch.zeros(1)}, "it holds conv_block9.conv1.weight, for which the model has no"),
        ({"fc1.bias": torch.full((8,), torch.nan)}, "fc1.bias is not finite"),
    ],
)
def test_a_part_that_does_not_fill_the_encoder_is_refused(model, source, monkeypatch, tensors, message):
    """load_part checks its files itself; this is what stands behind it."""
    part = changed(load_part(source, "cnn14"), **tensors)
    monkeypatch.setattr("training.init.load_part", lambda path, name: part)
    with pytest.raises(ConfigError, match=message):
        initialise(model, InitConfig(cnn14=str(source)))


def test_a_file_that_is_a_program_is_sent_through_convert(model, tmp_path):
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:  # what marks a TorchScript archive
        archive.writestr("program/constants.pkl", b"")
    with pytest.raises(
        ConfigError, match=r"init.cnn14=.*convert .*program.pt --out FOLDER --allow-pickle, then init.c"
    ):
        initialise(model, InitConfig(cnn14=str(tmp_path / "program.pt")))


def test_weights_that_are_not_finite_are_refused(model, source, tmp_path):
    weights = load_file(source / "model.safetensors")
    weights["text_projection.bias"][3] = torch.inf
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"init.clap=.*text_projection.bias is not finite"):
        initialise(model, InitConfig(clap=str(tmp_path)))


def test_a_damaged_model_folder_is_named_with_the_setting(model, source, tmp_path):
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text("{")
    for name in ("clap", "text", "cnn14"):
        with pytest.raises(ConfigError, match=rf"init.{name}=.*config.json: not JSON"):
            initialise(model, InitConfig(**{name: str(tmp_path)}))
