"""One encoder's weights: written and read back, taken out of runs and published files, refused when not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from curation.errors import ConfigError
from tests.training import published
from tests.training.clips import small_config
from training.features import PRESETS
from training.models.cnn14 import Cnn14
from training.models.htsat import Htsat
from training.models.parts import Part, load_part, save_part

CNN14 = published.weights(published.cnn14_shapes())


def made(file: Path) -> Path:
    return published.save_panns(file, CNN14 | published.front_end("C"))


@pytest.fixture
def folder(tmp_path) -> Path:
    save_part(load_part(made(tmp_path / "Cnn14.pth"), "cnn14"), tmp_path / "part")
    return tmp_path / "part"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run's folder with an untrained model."""
    from training.models.build import new_clap

    config = small_config(tmp_path_factory.mktemp("run"), Path("none"), model={"audio": "cnn14+htsat"})
    torch.manual_seed(0)
    model = new_clap(config.model, config.features, captions=["a dog", "rain"])
    folder = Path(config.run.folder) / "run"
    model.save_pretrained(folder / "model")
    return folder


def same(one: Part, other: Part) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors
    )


def test_a_part_comes_back_as_it_was(tmp_path, folder):
    before, after = load_part(tmp_path / "Cnn14.pth", "cnn14"), load_part(folder, "cnn14")
    assert same(before, after)
    assert (before.settings, before.features, before.sha256) == (after.settings, after.features, after.sha256)
    assert after.source == "Cnn14.pth (panns-cnn14)"
    assert after.features == PRESETS["panns-32k"]
    assert after.settings == {"channels": list(published.NARROW), "n_mels": 64, "num_classes": 527}
    Cnn14(**after.settings).load_state_dict(after.tensors)
    assert (folder / "model.safetensors").read_bytes() == _again(before, tmp_path / "again").read_bytes()


def _again(part: Part, folder: Path) -> Path:
    save_part(part, folder)
    return folder / "model.safetensors"


@pytest.mark.parametrize(("name", "encoder"), [("cnn14", Cnn14), ("htsat", Htsat)])
def test_a_run_gives_its_encoders(run, name, encoder):
    part = load_part(run, name)
    stored = load_file(run / "model" / "model.safetensors")
    prefix = f"audio.encoders.{name}."
    assert {prefix + key for key in part.tensors} == {key for key in stored if key.startswith(prefix)}
    assert all(torch.equal(value, stored[prefix + key]) for key, value in part.tensors.items())
    encoder(**part.settings).load_state_dict(part.tensors)
    assert (
        part.features["sample_rate"]
        == json.loads((run / "model" / "config.json").read_text())["features"]["sample_rate"]
    )
    assert same(part, load_part(run / "model", name))


def test_a_front_end_of_its_own_goes_before_the_shared_one(tmp_path, run):
    other = tmp_path / "model"
    other.mkdir()
    config = json.loads((run / "model" / "config.json").read_text())
    config["model"]["htsat"]["features"] = PRESETS["panns-32k"] | {"n_mels": config["features"]["n_mels"]}
    (other / "config.json").write_text(json.dumps(config))
    (other / "model.safetensors").write_bytes((run / "model" / "model.safetensors").read_bytes())
    assert load_part(other, "htsat").features["sample_rate"] == 32_000
    assert load_part(other, "cnn14").features == config["features"]


def _config(**change):
    def edit(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(values | change))

    return edit


def _weights(change):
    def edit(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return edit


DAMAGES = {
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        "part: damaged .model.safetensors is missing.; remove",
    ),
    "cut": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
        "cut off, or no safetensors file",
    ),
    "config": (lambda f: (f / "config.json").write_text("{"), "config.json: not JSON"),
    "list": (lambda f: (f / "config.json").write_text("[]"), "config.json: must hold an object"),
    "format": (_config(format=2), "config.json has format 2, this code reads 1"),
    "no settings": (_config(settings=None), "damaged .config.json: TypeError"),
    "settings": (_config(settings={"channels": [4] * 9}), "damaged .no cnn14 has such sizes: 9 blocks need"),
    "strange setting": (_config(settings={"width": 4}), "damaged .no cnn14 has such sizes: TypeError"),
    "other settings": (
        _config(settings={"channels": [4, 4, 8, 8, 16, 32], "num_classes": 527}),
        r"conv_block6.bn1.bias has shape \(16,\) in model.safetensors, \(32,\) by config.json",
    ),
    "missing": (_weights(lambda x: x.pop("fc1.bias")), r"fc1.bias has shape none in model.safetensors, \(16,\) by"),
    "strange": (_weights(lambda x: x.update(z=torch.ones(1))), r"z has shape \(1,\) in model.safetensors, none by"),
    "not finite": (_weights(lambda x: x["fc1.bias"].fill_(torch.inf)), "fc1.bias holds 16 NaN or infinite values"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_folder_is_named(folder, damage, message):
    damage(folder)
    with pytest.raises(ConfigError, match=message):
        load_part(folder, "cnn14")


def test_what_holds_no_such_part_is_named(tmp_path, folder, run):
    with pytest.raises(ConfigError, match=r"none: missing; name weights of htsat .*, or none for random ones"):
        load_part(tmp_path / "none", "htsat")
    with pytest.raises(ConfigError, match="part: holds weights of cnn14, not of htsat"):
        load_part(folder, "htsat")
    with pytest.raises(ConfigError, match=r"Cnn14.pth: panns-cnn14 holds cnn14, not htsat"):
        load_part(tmp_path / "Cnn14.pth", "htsat")
    with pytest.raises(ConfigError, match="no transformers folder"):
        load_part(tmp_path, "htsat")
    with pytest.raises(ValueError, match="a part is one of cnn14, htsat, got 'text'"):
        load_part(folder, "text")
    unfinished = tmp_path / "unfinished"
    (unfinished / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigError, match="unfinished: the run has no model yet; train it on"):
        load_part(unfinished, "cnn14")


def test_a_model_without_the_encoder_or_damaged_is_named(tmp_path, run):
    other = tmp_path / "model"
    other.mkdir()
    (other / "model.safetensors").write_bytes((run / "model" / "model.safetensors").read_bytes())
    config = json.loads((run / "model" / "config.json").read_text())
    for change, message in (
        ({"audio": "cnn14"}, r"the model has no htsat \(model.audio=cnn14\)"),
        ({"htsat": {}}, "damaged .config.json: KeyError: 'spec_size'"),
        ({"htsat": config["model"]["htsat"] | {"depths": [1, 2]}}, "has shape none in model.safetensors"),
    ):
        (other / "config.json").write_text(json.dumps(config | {"model": config["model"] | change}))
        with pytest.raises(ConfigError, match=message):
            load_part(other, "htsat")


def test_pickles_are_run_only_on_demand(tmp_path):
    torch.save(Cnn14(channels=published.NARROW), tmp_path / "whole.pt")
    with pytest.raises(ConfigError, match="--allow-pickle"):
        load_part(tmp_path / "whole.pt", "cnn14")
    assert load_part(tmp_path / "whole.pt", "cnn14", allow_pickle=True).settings["channels"] == list(published.NARROW)
