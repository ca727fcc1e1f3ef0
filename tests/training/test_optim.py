"""Groups by part and decay, learning rates of their own, and parts that do not move at all."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import Any

import pytest
import torch

from curation.errors import ConfigError
from tests.training.clips import small_config
from training.config import LrFactors, OptimizerConfig, TrainConfig
from training.losses import contrastive_loss
from training.models.build import new_clap
from training.models.clap import Clap
from training.optim import make_optimizer
from training.recipe import from_dict
from training.tokenizer import pad, token_ids

TEXTS = ["A low bell.", "Rain on a roof.", "A dog barks.", "Wind."]
ALL_PARTS = ["cnn14", "htsat", "text", "audio_projection", "text_projection", "logit_scale"]


@pytest.fixture
def build(tmp_path):
    def _build(**model: Any) -> Clap:
        config = small_config(tmp_path, tmp_path, model=model)
        torch.manual_seed(0)
        return new_clap(config.model, config.features, captions=TEXTS)

    return _build


def step(model: Clap, optimizer: torch.optim.Optimizer) -> None:
    """Take one step on the same noise, with the same dropout, whatever was frozen before."""
    model.train()
    generator = torch.Generator().manual_seed(1)
    waveforms = {
        name: 0.1 * torch.randn(len(TEXTS), size, generator=generator)
        for name, size in model.audio.clip_samples.items()
    }
    ids, mask = pad(token_ids(model.tokenizer, TEXTS, max_tokens=model.max_tokens), pad_id=1)
    torch.manual_seed(2)
    loss = contrastive_loss(*model(waveforms, ids, mask), model.logit_scale.exp())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def tensors_of(part: Any) -> dict[str, torch.Tensor]:
    """Return copies of a part's parameters and buffers."""
    state = {"": part} if isinstance(part, torch.Tensor) else part.state_dict()
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def test_every_parameter_is_in_one_group_of_its_part(build):
    model = build()
    optimizer = make_optimizer(model, OptimizerConfig(name="adamw", weight_decay=0.1, lr_factors=LrFactors(text=0.5)))
    seen: dict[str, list[torch.Tensor]] = defaultdict(list)
    for group in optimizer.param_groups:
        assert group["weight_decay"] == (0.1 if group["params"][0].ndim >= 2 else 0.0)
        assert len({parameter.ndim >= 2 for parameter in group["params"]}) == 1
        assert group["lr_factor"] == (0.5 if group["part"] == "text" else 1.0)
        assert group["lr"] == 1e-4 * group["lr_factor"]
        seen[group["part"]] += group["params"]
    assert list(seen) == ALL_PARTS
    for name, part in model.parts().items():
        expected = [part] if isinstance(part, torch.Tensor) else list(part.parameters())
        assert {id(parameter) for parameter in expected} == {id(parameter) for parameter in seen[name]}
    assert sum(len(parameters) for parameters in seen.values()) == len(list(model.parameters()))


def test_decay_spares_biases_norms_and_the_logit_scale(build):
    model = build()
    optimizer = make_optimizer(model, OptimizerConfig(name="adamw", weight_decay=0.1))
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decayed}
    assert {"audio_projection.weight", "audio.encoders.cnn14.conv_block1.conv1.weight"} <= names
    assert not [name for name in names if name.endswith("bias") or ".bn" in name or "norm" in name.lower()]
    assert "logit_scale" not in names


@pytest.mark.parametrize("part", ALL_PARTS)
def test_a_frozen_part_does_not_move_and_the_others_do(build, part):
    model = build()
    model.freeze([part])
    before = {name: tensors_of(module) for name, module in model.parts().items()}
    optimizer = make_optimizer(model, OptimizerConfig(lr=0.01, weight_decay=0.1, freeze=(part,)))
    assert part not in {group["part"] for group in optimizer.param_groups}
    for _ in range(2):
        step(model, optimizer)
    after = {name: tensors_of(module) for name, module in model.parts().items()}
    for name, tensors in before.items():
        same = [torch.equal(tensor, after[name][key]) for key, tensor in tensors.items()]
        assert all(same) if name == part else not all(same), name


def test_statistics_of_a_frozen_encoders_batch_norm_are_held(build):
    model = build()
    model.freeze(["cnn14"])
    step(model, make_optimizer(model, OptimizerConfig(freeze=("cnn14",))))
    buffers = dict(model.audio.encoders["cnn14"].named_buffers())
    assert all(counter == 0 for name, counter in buffers.items() if name.endswith("num_batches_tracked"))
    assert torch.equal(buffers["bn0.running_mean"], torch.zeros_like(buffers["bn0.running_mean"]))
    assert model.audio.encoders["htsat"].bn0.num_batches_tracked == 1


def test_a_factor_of_a_tenth_moves_a_part_by_a_tenth(build):
    moved = {}
    for factor in (1.0, 0.1):
        model = build().double()
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        step(model, make_optimizer(model, OptimizerConfig(lr=1e-3, lr_factors=LrFactors(htsat=factor, text=factor))))
        moved[factor] = {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}
    for name, whole in moved[1.0].items():
        share = 0.1 if name.startswith(("audio.encoders.htsat.", "text.")) else 1.0
        torch.testing.assert_close(moved[0.1][name], share * whole, rtol=1e-6, atol=1e-12)
    assert moved[1.0]["audio.encoders.htsat.body.norm.bias"].abs().max() > 1e-4


def test_its_state_goes_through_a_checkpoint_and_on(build):
    config = OptimizerConfig(lr=0.01, lr_factors=LrFactors(cnn14=0.1), freeze=("text",))
    models = [build(), build()]
    for model in models:
        model.freeze(config.freeze)
    optimizers = [make_optimizer(model, config) for model in models]
    step(models[0], optimizers[0])
    buffer = io.BytesIO()
    torch.save({"model": models[0].state_dict(), "optimizer": optimizers[0].state_dict()}, buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    models[1].load_state_dict(state["model"])
    optimizers[1].load_state_dict(state["optimizer"])
    for model, optimizer in zip(models, optimizers, strict=True):
        step(model, optimizer)
    assert optimizers[1].param_groups[0]["part"] == "cnn14"
    assert optimizers[1].param_groups[0]["lr_factor"] == 0.1
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, models[1].state_dict()[name]), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": ["cnn41"]}, "optimizer.freeze names 'cnn41'"),
        ({"freeze": "text"}, "optimizer.freeze must be a list"),
        ({"lr_factors": {"text": 0}}, r"optimizer.lr_factors.text=0(\.0)?"),
        ({"lr_factors": {"text": -1.0}}, r"optimizer.lr_factors.text=-1.0"),
        ({"lr_factors": {"text": float("inf")}}, r"optimizer.lr_factors.text=inf"),
        ({"lr_factors": {"txt": 1.0}}, r"no setting 'optimizer.lr_factors.txt'; did you mean .*text"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(TrainConfig, {"optimizer": settings})


def test_a_model_that_is_frozen_as_a_whole_is_refused(build):
    model = build()
    model.freeze(ALL_PARTS)
    with pytest.raises(
        ConfigError, match=r"optimizer.freeze=\[cnn14,.*\] leaves nothing to train; .* leave at least one"
    ):
        make_optimizer(model, OptimizerConfig(freeze=tuple(ALL_PARTS)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": ["htsat"]}, "optimizer.freeze names htsat, which this model lacks; its parts are cnn14, text"),
        ({"lr_factors": {"htsat": 0.1}}, "optimizer.lr_factors.htsat=0.1: this model has no htsat.*lr_factors.htsat=1"),
    ],
)
def test_settings_of_an_encoder_that_is_not_there_are_refused(build, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_optimizer(build(audio="cnn14"), from_dict(OptimizerConfig, settings))
