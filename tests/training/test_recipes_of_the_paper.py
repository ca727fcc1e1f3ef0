"""The recipes of the paper: what it states, how they differ from each other, and that each trains, made small.

The files repeat each other's lines, so that each can be read alone; that none drifts is seen to here.
"""

from __future__ import annotations

import math
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.clips import write_clips
from tests.training.textmodels import write_bert
from training.config import ManifestConfig
from training.data import Pair, make_pairs, read_clips
from training.engine import train
from training.models.build import build_clap
from training.models.compat import prepare_torchvision
from training.models.text import roberta_config, text_model
from training.recipe import flatten, load_recipe, to_dict
from training.sampling import EpochSampler

CLOTHO = {"manifest": "data/clotho", "splits": ["train", "val"], "weight": 1.0}
AUDIOCAPS = {"manifest": "data/audiocaps", "splits": ["train"], "weight": 1.0}
WAVTEXT5K = {"manifest": "data/wavtext5k", "splits": ["train", "val", "test"], "weight": 1.0}
SOUNDDESCS = {"manifest": "data/sounddescs", "splits": ["train", "val", "test"], "weight": 1.0}
MACS = {"manifest": "data/macs", "splits": ["train"], "weight": 1.0}

CNN14_ALONE = {"model.audio": "cnn14", "init.htsat": None}
DIFFERENCES: dict[str, dict[str, Any]] = {
    "paper-d": {},
    "paper-a": {**CNN14_ALONE, "data.train": [CLOTHO, AUDIOCAPS]},
    "paper-b": CNN14_ALONE,
    "paper-c": {"model.audio": "htsat", "init.cnn14": None},
    "paper-d-description": {"data.templates": ["{description}"]},
    "paper-b-sounddescs-macs": {**CNN14_ALONE, "data.train": [CLOTHO, AUDIOCAPS, WAVTEXT5K, SOUNDDESCS, MACS]},
    "bert-baseline": {
        **CNN14_ALONE,
        "data.train": [CLOTHO, AUDIOCAPS],
        "model.text.encoder": "bert-base-uncased",
    },
}
"""From paper-d, beside run.name."""

STATED = {
    "features": {
        "sample_rate": 44_100,
        "n_fft": 1024,
        "hop_length": 320,
        "n_mels": 64,
        "f_min": 50.0,
        "f_max": 8_000.0,
    },
    "model.embed_dim": 1024,
    "model.projection": "linear",
    "model.initial_temperature": 0.007,
    "model.cnn14.clip_s": 20.0,
    "model.htsat.clip_s": 10.0,
    "model.text.encoder": "roberta-base",
    "data.train": [CLOTHO, AUDIOCAPS, WAVTEXT5K],
    "data.val": [],
    "data.templates": ["{title}. {description}"],
    "data.captions": "each",
    "loss.mask_same_clip": False,
    "optimizer.name": "adam",
    "optimizer.lr": 1e-4,
    "schedule": {"name": "step", "warmup_steps": 0, "step_epochs": 20, "gamma": 0.1},
    "run.epochs": 45,
    "run.batch_size": 128,
}
"""By the paper; sections 4.1, 4.2 and 5.2, equations 2 and 4."""

PAIRS = {
    "data/clotho": 24_420,
    "data/audiocaps": 40_582,
    "data/wavtext5k": 4_348,
    "data/sounddescs": 32_979,
    "data/macs": 17_275,
}
"""By the paper: section 4.1 and Table 1."""

UNMARKED = {"time_stripes", "time_width", "freq_stripes", "freq_width", "step_epochs", "gamma", "workers", "log_every"}
"""Settings that the line above them speaks for, or that change nothing but speed and lines of a log."""


def text_of(name: str) -> str:
    return (resources.files("training") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def test_paper_d_states_what_the_paper_states():
    config = to_dict(load_recipe("paper-d"))
    for place, value in STATED.items():
        found: Any = config
        for key in place.split("."):
            found = found[key]
        assert found == value, place


@pytest.mark.parametrize(("name", "differences"), DIFFERENCES.items())
def test_recipes_differ_from_paper_d_in_what_they_are_for(name, differences):
    ours, theirs = flatten(to_dict(load_recipe(name))), flatten(to_dict(load_recipe("paper-d")))
    assert {place: value for place, value in ours.items() if value != theirs[place]} == (
        differences | ({} if name == "paper-d" else {"run.name": name})
    )


@pytest.mark.parametrize(("name", "differences"), DIFFERENCES.items())
def test_lines_that_recipes_share_are_the_same(name, differences):
    """Comments do not drift either: a setting that equals paper-d's stands on paper-d's line."""
    theirs = text_of("paper-d").splitlines()
    own = [line for line in text_of(name).splitlines() if line not in theirs and not line.lstrip().startswith("#")]
    keys = {match[1] for line in own if (match := re.match(r"\s*(\w+):", line))}
    assert keys <= {place.rpartition(".")[2] for place in differences} | {"last_batch"}
    assert {line for line in own if line.startswith("    - {manifest")} <= {
        f"    - {{manifest: {source['manifest']}, splits: [{', '.join(source['splits'])}]}}"
        for source in differences.get("data.train", [])
    }


@pytest.mark.parametrize("name", DIFFERENCES)
def test_every_line_says_where_it_is_from(name):
    lines = text_of(name).splitlines()
    assert max(map(len, lines)) <= 120
    init = lines.index("init:")
    assert lines[init + 1].startswith("  # chosen:")
    for number, line in enumerate(lines):
        key = line.partition(":")[0].strip()
        is_setting = re.match(r"\s+\w+: \S", line) is not None
        if is_setting and key not in UNMARKED and not init < number < lines.index("data:"):
            assert re.search(r"# (paper|chosen)\b", line), line


@pytest.mark.parametrize("name", DIFFERENCES)
def test_nothing_is_trained_on_that_is_scored(name):
    config = load_recipe(name)
    trained = {(source.manifest, split) for source in config.data.train for split in source.splits}
    assert not trained & {("data/clotho", "test"), ("data/audiocaps", "test"), ("data/audiocaps", "val")}
    assert config.data.val == ()


@pytest.mark.parametrize("name", DIFFERENCES)
def test_steps_of_an_epoch_are_those_that_the_comment_counts(name, tmp_path):
    config = load_recipe(name)
    pairs = sum(PAIRS[source.manifest] for source in config.data.train)
    clips = read_clips([ManifestConfig(manifest=str(write_clips(tmp_path, [{}])))], ["{title}"])
    steps = {
        last_batch: EpochSampler(
            [Pair(clip=0, captions=("a",))] * pairs, clips, batch_size=128, seed=0, world_size=8, last_batch=last_batch
        ).steps_per_epoch
        for last_batch in ("fill", "drop")
    }
    assert steps == {"fill": math.ceil(pairs / 128), "drop": pairs // 128}
    assert config.data.last_batch == "fill"
    assert (
        f"# chosen: {steps['fill']} steps an epoch, {steps['fill'] * 128 - pairs} of {pairs:,} pairs come twice; "
        f"drop: {steps['drop']} steps, without {pairs - steps['drop'] * 128}"
    ) in text_of(name)


@pytest.mark.parametrize(
    ("name", "text", "parameters"),
    [
        ("paper-a", "roberta", 206_614_465),
        ("paper-b", "roberta", 206_614_465),
        ("paper-c", "roberta", 153_164_441),
        ("bert-baseline", "bert", 191_451_073),
    ],
)
def test_models_have_the_parameters_of_their_parts(name, text, parameters):
    """Counted on the meta device: no memory, no download. paper-d's stand in test_recipe.py."""
    prepare_torchvision()
    import transformers

    sizes = {"vocab_size": 50_265, "hidden_size": 768, "num_layers": 12, "num_heads": 12, "ffn_size": 3072}
    whole = {
        "roberta": roberta_config(**sizes, max_tokens=512),
        "bert": transformers.BertConfig().to_dict(),
    }
    config = load_recipe(name)
    with torch.device("meta"):
        model = build_clap(config.model, config.features, text=text_model(whole[text]), tokenizer=None)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Two clips of each split of each data set under the names that the recipes have."""
    monkeypatch.chdir(tmp_path)
    for folder, splits, captions in (
        ("clotho", ("train", "val", "test"), 5),
        ("audiocaps", ("train", "val", "test"), 1),
        ("wavtext5k", ("train", "val", "test"), 0),
        ("sounddescs", ("train", "val", "test"), 1),
        ("macs", ("train",), 3),
    ):
        rows = [
            {
                "clip_id": f"{folder}-{split}-{number}",
                "source": folder,
                "source_id": f"{split}-{number}",
                "split": split,
                "title": "" if captions else f"Title {split} {number}",
                "description": "" if captions else f"Description {split} {number}.",
                "captions": [f"Caption {caption} of {folder} {split} {number}." for caption in range(captions)],
            }
            for split in splits
            for number in range(2)
        ]
        write_clips(Path("data") / folder, rows)


NUM_PAIRS = {"data/clotho": 20, "data/audiocaps": 2, "data/wavtext5k": 6, "data/sounddescs": 6, "data/macs": 6}
"""Of the stand-ins: Clotho's two splits of two clips with five captions each, and so on."""

SMALL = (
    *("init.cnn14=none", "init.htsat=none", "model.embed_dim=16", "model.spec_augment.time_width=8"),
    *("model.cnn14.clip_s=0.5", "model.cnn14.channels=[4, 8]", "model.htsat.clip_s=0.3", "model.htsat.spec_size=64"),
    *("model.htsat.patch_size=8", "model.htsat.embed_dim=8", "model.htsat.depths=[1, 1]"),
    *(
        "model.htsat.num_heads=[2, 2]",
        "model.htsat.window_size=4",
        "model.text.max_tokens=24",
        "model.text.vocab_size=300",
    ),
    *("model.text.hidden_size=16", "model.text.num_layers=1", "model.text.num_heads=2", "model.text.ffn_size=32"),
    *("run.epochs=1", "run.batch_size=8", "run.threads=1", "run.device=cpu", "data.workers=0"),
)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_recipes_read_the_pairs_and_captions_of_the_paper(name, stand_ins):
    config = load_recipe(name)
    clips = read_clips(config.data.train, config.data.templates)
    pairs = make_pairs(clips, config.data.captions)
    assert len(pairs) == sum(NUM_PAIRS[source.manifest] for source in config.data.train)
    assert not any(re.match("clotho-test|audiocaps-(val|test)", clip.clip_id) for clip in clips)
    made = {clip.captions for clip in clips if clip.clip_id == "wavtext5k-test-0"}
    if name in ("paper-a", "bert-baseline"):
        assert made == set()
    elif name == "paper-d-description":
        assert made == {("Description test 0.",)}
    else:
        assert made == {("Title test 0. Description test 0.",)}


@pytest.mark.parametrize("name", ["paper-b", "paper-c", "paper-d", "bert-baseline"])
def test_recipes_train(name, stand_ins):
    encoder = "scratch"
    if name == "bert-baseline":
        encoder = "bert"
        Path(encoder).mkdir()
        write_bert(Path(encoder))
    config = load_recipe(name, [*SMALL, f"model.text.encoder={encoder}"])
    result = train(config)
    assert result.steps == math.ceil(sum(NUM_PAIRS[source.manifest] for source in config.data.train) / 8)
    assert result.best == {}
    assert (result.folder / "model" / "model.safetensors").is_file()
