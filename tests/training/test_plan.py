"""What a plan says: against published sizes, against real steps and a real run, and where something is missing."""

from __future__ import annotations

import functools
import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from curation.errors import ConfigError
from tests.training.clips import small_config, tone, write_clips
from tests.training.textmodels import write_bert
from training import plan as plan_module
from training import plan_speed
from training.data import Pair
from training.losses import contrastive_loss
from training.models.build import build_clap, clip_samples
from training.models.text import roberta_config, text_model
from training.plan import make_plan
from training.plan_captions import expected_longest, plan_text
from training.plan_cli import plan_app
from training.plan_model import ModelCost, count_model, model_of_shapes
from training.plan_table import table
from training.recipe import UsageError, load_recipe, to_yaml
from training.tokenizer import token_ids, train_tokenizer

GIB, MIB = 2**30, 2**20


_rate_once = functools.cache(plan_speed.measure_rate)
_costs: dict[tuple[object, ...], ModelCost] = {}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Measure the machine once, by one pass, and count a model that another test has counted no second time."""
    monkeypatch.setattr(plan_speed, "_SECONDS", 0.0)
    monkeypatch.setattr(plan_module, "measure_rate", _rate_once)

    def count_once(model, config, *, tokens):
        text = str(model.text.config)
        key = (config.model, config.features, config.optimizer.freeze, config.run.precision, text, tokens)
        if key not in _costs:
            _costs[key] = count_model(model, config, tokens=tokens)
        return _costs[key]

    monkeypatch.setattr(plan_module, "count_model", count_once)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    rows = [{"waveform": tone(200 + 50 * number, 0.3 + 0.05 * number)} for number in range(10)]
    rows += [{"captions": ["one", "another", "a third caption, which is longer"]} for _ in range(2)]
    rows += [{"split": "val"} for _ in range(3)]
    return write_clips(tmp_path_factory.mktemp("manifest"), rows)


@pytest.fixture
def config(tmp_path, manifest):
    return small_config(tmp_path, manifest, data={"val": [{"manifest": str(manifest), "splits": ["val"]}]})


def published(recipe: str, *overrides: str):
    """Return the plan of a bundled recipe's model, whose data, weights and text encoder are not here."""
    config = load_recipe(recipe, ["init.cnn14=none", "init.htsat=none", *overrides])
    text = plan_text(config, [], [], batch_size=128)
    return config, model_of_shapes(config, text.config)


@pytest.mark.parametrize(
    ("recipe", "parts"),
    [
        ("paper-b", {"cnn14": 79_673_792, "text": 124_055_040, "audio_projection": 2_098_176}),
        ("paper-c", {"htsat": 27_534_488, "text": 124_055_040, "audio_projection": 787_456}),
        ("bert-baseline", {"text": 108_891_648}),
    ],
)
def test_parameters_are_those_of_the_published_models(recipe, parts):
    _, model = published(recipe)
    found = {name: sum(p.numel() for p in part.parameters()) for name, part in model.parts().items() if name in parts}
    assert found == parts


def test_the_cost_of_experiment_d_is_the_published_one():
    config, model = published("paper-d")
    cost = count_model(model, config, tokens=32)
    parts = {part.name: part for part in cost.parts}
    assert cost.parameters == cost.trained == 234_935_385
    assert parts["audio_projection"].parameters == 2_884_608
    # forward GFLOP and activations of a pair as counted on real tensors of the reference implementations
    for name, gflop, mib in (("cnn14", 110.7, 384), ("htsat", 11.8, 140), ("text", 5.5, 22)):
        assert parts[name].forward / 1e9 == pytest.approx(gflop, rel=0.01)
        assert parts[name].activation_bytes / MIB == pytest.approx(mib, rel=0.02)
    assert cost.forward.total / 1e9 == pytest.approx(128, rel=0.01)
    assert cost.forward.convolutions / 1e9 == pytest.approx(110.7, rel=0.01)
    assert (cost.forward + cost.backward).total / 1e9 == pytest.approx(384, rel=0.01)
    assert cost.activation_bytes / MIB == pytest.approx(546, rel=0.01)
    memory = plan_module._memory(config, cost, processes=1, at_once=128)
    state = memory.weights + memory.gradients + memory.optimizer
    assert state / GIB == pytest.approx(3.50, abs=0.01)
    assert (memory.average, memory.buckets) == (0, 0)
    assert memory.activations / GIB == pytest.approx(68.4, abs=0.3)


def real_step(config, text_config, *, pairs: int, tokens: int) -> dict[str, float]:
    """Return what a real step of a model costs, counted on real tensors."""
    text = text_model(dict(text_config))
    model = build_clap(config.model, config.features, text=text, tokenizer=None)
    model.freeze(config.optimizer.freeze)
    model.train()
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    waveforms = {name: torch.randn(pairs, size) for name, size in clip_samples(config.model, config.features).items()}
    ids = torch.randint(3, 200, (pairs, tokens))
    with FlopCounterMode(display=False) as forward, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        embeds = model(waveforms, ids, torch.ones_like(ids))
    with FlopCounterMode(display=False) as backward:
        contrastive_loss(*embeds, model.logit_scale.exp()).backward()
    return {
        "forward": forward.get_total_flops(),
        "backward": backward.get_total_flops(),
        "kept": sum(tensor.untyped_storage().nbytes() for tensor in kept.values()),
    }


@pytest.mark.parametrize("freeze", [[], ["cnn14", "text"]])
def test_counts_on_shapes_are_those_of_real_steps(tmp_path, manifest, freeze):
    config = small_config(tmp_path, manifest, optimizer={"freeze": freeze})
    text_config = roberta_config(vocab_size=300, hidden_size=16, num_layers=1, num_heads=2, ffn_size=32, max_tokens=64)
    model = model_of_shapes(config, text_config)
    cost = count_model(model, config, tokens=9)
    real = real_step(config, text_config, pairs=5, tokens=9)
    small = real_step(config, text_config, pairs=2, tokens=9)
    assert 5 * cost.forward.total == real["forward"]
    # the loss is of all pairs with all, which a pair alone does not have
    assert 5 * cost.backward.total == pytest.approx(real["backward"], rel=0.01)
    assert 3 * cost.activation_bytes == pytest.approx(real["kept"] - small["kept"], rel=0.01)
    assert 5 * cost.activation_bytes + cost.fixed_bytes == pytest.approx(real["kept"], rel=0.02)
    trained = {part.name: part.trained for part in cost.parts}
    assert (trained["cnn14"] == 0) == bool(freeze)
    assert trained["htsat"] > 0
    if freeze:
        assert cost.trained < cost.parameters
        assert [part.activation_bytes for part in cost.parts if part.name in freeze] == [0, 0]


def test_bfloat16_needs_less_memory_and_frozen_statistics_are_counted(tmp_path, manifest):
    text_config = roberta_config(vocab_size=300, hidden_size=16, num_layers=1, num_heads=2, ffn_size=32, max_tokens=64)
    costs = {}
    for precision, batch_norm in (("float32", "batch"), ("bfloat16", "batch"), ("float32", "frozen")):
        config = small_config(tmp_path, manifest, run={"precision": precision}, model={"batch_norm": batch_norm})
        costs[precision, batch_norm] = count_model(model_of_shapes(config, text_config), config, tokens=9)
    plain, half, frozen = costs.values()
    assert 0.45 < half.activation_bytes / plain.activation_bytes < 0.8
    assert half.fixed_bytes > plain.fixed_bytes
    assert half.forward == plain.forward == frozen.forward


def test_a_plan_of_data_that_are_there_is_what_training_does(config, manifest):
    from training.engine import train

    config = replace(config, data=replace(config.data, train=(replace(config.data.train[0], weight=2.5),)))
    plan = make_plan(config)
    assert plan.problems == []
    assert plan.is_ready
    source, val = plan.data.sources
    assert (source.clips, source.captions, source.pairs, source.visits) == (12, 10 * 3 + 2 * 3, 16, 40)
    assert (val.role, val.clips, val.captions, val.pairs) == ("val", 3, 9, None)
    assert source.hours == pytest.approx((sum(0.3 + 0.05 * n for n in range(10)) + 2 * 0.4) / 3600, rel=1e-3)
    samples = sum(round((0.3 + 0.05 * n) * 44_100) for n in range(10)) + 2 * round(0.4 * 44_100)
    assert plan.data.pcm_bytes == 2 * samples
    assert (plan.data.steps_per_epoch, plan.steps) == (10, 20)
    said = table(plan)
    assert f"train {manifest} (train)" in said
    assert "steps       10 an epoch, 20 in all" in said
    assert said.endswith("ready       training would begin")
    result = train(config)
    assert result.steps == plan.steps
    from training.checkpoint import load_model

    model = load_model(result.folder / "model")
    assert plan.model.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_tokens_are_those_of_the_longest_caption_of_a_batch(config, tmp_path):
    plan = make_plan(config)
    longest = 2 + len("a third caption, which is longer")  # no more, whatever the tokenizer learned
    assert 5 <= plan.model.tokens <= longest
    assert not [note for note in plan.notes if "tokens" in note]
    folder = write_bert(tmp_path)
    text = replace(config.model.text, encoder=str(folder), max_tokens=24)
    plan = make_plan(replace(config, model=replace(config.model, text=text)))
    sizes = {part.name: part.parameters for part in plan.model.parts}
    bert = text_model({"model_type": "bert", **json.loads((folder / "config.json").read_text())})
    assert sizes["text"] == sum(parameter.numel() for parameter in bert.parameters())
    assert plan.problems == []


def test_a_caption_counts_as_often_as_it_is_drawn(config):
    long = "a b c d e f g h i j k l m n o p q r s t"
    pairs = [Pair(clip=0, captions=("a b",)), Pair(clip=1, captions=(long, "a b"))]
    found = [plan_text(config, pairs, weights, batch_size=1).tokens for weights in ([1.0, 1.0], [7.0, 1.0])]
    tokenizer = train_tokenizer(["a b", long], vocab_size=300, max_tokens=64)
    short, most = (len(ids) for ids in token_ids(tokenizer, ["a b", long], max_tokens=64))
    assert found == [math.ceil((3 * short + most) / 4), math.ceil((15 * short + most) / 16)]


def test_the_longest_of_a_batch_by_all_draws():
    lengths, shares = np.array([3, 9, 5]), np.array([2.0, 1.0, 1.0])
    draws = itertools.product([3, 3, 9, 5], repeat=3)
    assert expected_longest(lengths, shares, 3) == pytest.approx(np.mean([max(draw) for draw in draws]))
    assert expected_longest(lengths, shares, 1) == pytest.approx(5.0)
    assert expected_longest(np.array([7]), np.array([1.0]), 128) == 7.0


def test_what_is_missing_is_listed_and_the_rest_is_planned(tmp_path):
    config = load_recipe(
        "tiny", ["data.train=[{manifest: data/clotho},{manifest: data/own}]", "init.cnn14=weights/a.pth"]
    )
    plan = make_plan(config)
    assert not plan.is_ready
    clotho, own, val, weights = sorted(plan.problems, key=lambda problem: problem.startswith("init"))
    assert clotho.endswith("make it with: wavtext5k-curate import clotho FOLDER --out data/clotho")
    assert own.endswith("make it with: wavtext5k-curate build --raw data/raw --out data/own")
    assert val.startswith("data/curated: no such manifest")
    assert weights.startswith("init.cnn14=weights/a.pth: no such file or folder")
    assert (plan.steps, plan.hours) == (None, None)
    assert [source.clips for source in plan.data.sources] == [None] * 3
    assert plan.model.tokens == 32
    assert "captions of 32 tokens are assumed: data.train could not be read" in plan.notes
    assert plan.model.parameters > 10**6
    said = table(plan)
    assert "not ready   training would stop at the problems above" in said
    assert "problem     data/curated: no such manifest" in said
    json.dumps(plan.as_dict())


def test_of_several_manifests_those_that_are_there_are_counted(config, manifest):
    other = replace(config.data.train[0], manifest="data/wavtext5k")
    plan = make_plan(replace(config, data=replace(config.data, train=(config.data.train[0], other))))
    assert [source.clips for source in plan.data.sources] == [12, None, 3]
    assert plan.steps is None
    assert "--require title,description --out data/wavtext5k" in plan.problems[0]
    twice = (config.data.train[0], replace(config.data.train[0], weight=2.0))
    plan = make_plan(replace(config, data=replace(config.data, train=twice)))
    assert "has weight" in plan.problems[0]
    assert [source.clips for source in plan.data.sources] == [12, 12, 3]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"run": {"device": "cuda"}}, "run.device=cuda, but PyTorch finds no such GPU here"),
        ({"run": {"precision": "bfloat16"}}, "run.precision=bfloat16 is for a GPU, and this run has none"),
        ({"run": {"batch_size": 64}}, "run.batch_size=64 is larger than the data set: 16 pairs"),
        ({"run": {"trackers": ["tensorboard"]}}, None),
        ({"data": {"exclude": ["no-such-list"]}}, "data.exclude: no-such-list: No such file"),
        ({"data": {"templates": ["{no_such}"]}}, "data.templates"),
        ({"init": {"clap": "runs/no-such"}}, "init.clap=runs/no-such: no such file or folder"),
        ({"model": {"text": {"encoder": "nobody/none-such"}}}, "'nobody/none-such' could not be loaded"),
        ({"model": {"text": {"encoder": "roberta-base"}}}, None),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without a GPU says")
def test_what_training_would_refuse_is_a_problem(tmp_path, manifest, overrides, message):
    plan = make_plan(small_config(tmp_path, manifest, **overrides))
    if message is None:
        assert plan.problems == []
    else:
        assert len(plan.problems) == 1
        assert message in plan.problems[0]
    assert plan.model.parameters > 0
    if overrides.get("run", {}).get("device") == "cuda":
        assert "there is no GPU here: the time is that of this CPU alone" in plan.notes
        assert plan.device_bytes is None
    if overrides.get("model") == {"text": {"encoder": "roberta-base"}}:
        assert {part.name: part.parameters for part in plan.model.parts}["text"] == 124_055_040
        assert any("training fetches it" in note for note in plan.notes)


def test_chunks_processes_and_averages_in_memory_and_work(config):
    whole = make_plan(config)
    run = replace(config.run, chunk_size=2)
    chunked = make_plan(replace(config, run=run, optimizer=replace(config.optimizer, ema_decay=0.9)))
    shared = make_plan(config, processes=2)
    assert (whole.at_once, chunked.at_once, shared.at_once) == (4, 2, 2)
    assert 2 * chunked.memory.sound == whole.memory.sound
    assert chunked.memory.average == whole.memory.weights
    assert (whole.memory.average, whole.memory.buckets) == (0, 0)
    assert shared.memory.buckets == shared.memory.gradients == 4 * whole.model.trained
    extra = chunked.operations_a_pair - whole.operations_a_pair
    assert extra == whole.model.forward.total
    assert "of which one forward pass for run.chunk_size" in table(chunked)
    assert chunked.is_chunked
    assert not replace(chunked, at_once=4).is_chunked
    with pytest.raises(UsageError, match=r"--gpus 3: run\.batch_size=4 cannot be shared equally"):
        make_plan(config, processes=3)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (3.5, "; run.chunk_size=2 fits, for one more forward pass"),
        (0.0, ": not even two pairs at once fit"),
        (100, None),
    ],
)
def test_too_much_for_the_memory_names_a_chunk_that_fits(config, monkeypatch, pairs, message):
    count = plan_module.count_model
    costs = []

    def counted(*arguments, **options):
        costs.append(count(*arguments, **options))
        return costs[-1]

    def memory(device):
        """Return the memory that so many pairs fill as far as a plan fills it."""
        cost = costs[-1]
        state = 2 * cost.state_bytes + 8 * cost.trained
        return int((state + cost.fixed_bytes + pairs * (cost.activation_bytes + cost.sound_bytes)) / 0.8)

    monkeypatch.setattr(plan_module, "count_model", counted)
    monkeypatch.setattr(plan_module, "_memory_of", memory)
    if pairs == 0:
        with pytest.raises(ConfigError, match="--measure: not even two pairs"):
            make_plan(config, measure=True)
    warnings = make_plan(config).warnings
    assert [message in warning for warning in warnings] == ([] if message is None else [True])


def test_the_work_of_a_measurement_is_what_torch_counts(monkeypatch):
    counted = []

    def rate(run, operations, device):
        with FlopCounterMode(display=False) as counter:
            run().sum().backward()
        counted.append((operations, counter.get_total_flops()))
        return 1.0

    monkeypatch.setattr(plan_speed, "_rate", rate)
    plan_speed.measure_rate(torch.device("cpu"), precision="float32")
    assert len(counted) == 2
    assert all(stated == found for stated, found in counted)


def test_a_rate_is_that_of_the_fastest_pass(monkeypatch):
    passes = iter([0.5, 0.25, 0.5, 0.5])
    now = [0.0]

    def run():
        now[0] += next(passes)
        return torch.zeros(1, requires_grad=True)

    monkeypatch.setattr(plan_speed, "_SECONDS", 1.5)
    monkeypatch.setattr(plan_speed, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    assert plan_speed._rate(run, 1000, torch.device("cpu")) == 4000
    assert next(passes, None) is None


def test_the_time_is_work_over_rate_or_what_real_steps_took(config):
    plan = make_plan(config)
    work = plan.rate.seconds(plan.model.forward) + plan.rate.seconds(plan.model.backward)
    assert plan.seconds_a_step == pytest.approx(4 * work / plan.utilisation)
    assert plan.hours == pytest.approx(plan.steps * plan.seconds_a_step / 3600)
    once = plan.rate.seconds(plan.model.forward)
    assert replace(plan, at_once=2).seconds_a_step == pytest.approx(4 * (work + once) / plan.utilisation)
    on_gpus = replace(plan, processes=2, is_on_cpu=False)
    assert on_gpus.seconds_a_step == pytest.approx(plan.seconds_a_step / 2)
    measured = make_plan(config, measure=True)
    steps = measured.measured
    assert (steps.pairs, steps.peak_bytes) == (4, None)
    assert measured.seconds_a_step == pytest.approx(4 * steps.seconds_a_pair + steps.seconds_a_step)
    passes = 4 * steps.seconds_a_pair * (1 + once / work)
    assert replace(measured, at_once=2).seconds_a_step == pytest.approx(passes + steps.seconds_a_step)
    assert "steps of 4 pairs" in table(measured)
    assert not [note for note in measured.notes if "--measure" in note]


def invoke(*arguments: object):
    return CliRunner().invoke(plan_app, [str(argument) for argument in arguments])


def test_the_command(tmp_path, config):
    recipe = tmp_path / "small.yaml"
    recipe.write_text(to_yaml(config))
    done = invoke(recipe, "run.epochs=3", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["ready"], found["steps_per_epoch"], found["steps"]) == (True, 4, 12)
    assert found["training_flop"] == found["training_flop_per_pair"] * 4 * 12
    assert found["memory"]["total"] == sum(value for key, value in found["memory"].items() if key != "total")
    assert found["hours"] > 0
    done = invoke(recipe, "data.train=[{manifest: none}]", "--gpus", 2)
    assert done.exit_code == 0
    assert "problem     none: no such manifest" in done.stdout
    assert "2 processes" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("tinny",), 2, "there is no recipe 'tinny'"),
        (("tiny", "run.epoch=3"), 2, "did you mean 'run.epochs'?"),
        (("tiny", "--gpus", "3"), 2, "--gpus 3: run.batch_size=64 cannot be shared equally"),
        (("tiny", "model.htsat.num_heads=[2,4,7]"), 1, "num_heads"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(arguments, code, message):
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr


def test_help_is_light():
    code = (
        "import sys; from training.plan_cli import plan_app\n"
        "try: plan_app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'omegaconf', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    assert "Example: wavtext5k-train plan paper-d" in done.stdout
