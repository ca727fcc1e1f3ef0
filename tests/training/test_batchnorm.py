"""Batch norm in training: which statistics each mode uses, and that names, weights and files know nothing of it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from curation.errors import ConfigError
from tests.training.clips import small_config
from training.config import InitConfig
from training.models.batchnorm import BATCH_NORMS, batch_norm_held, check_batch_norm, prepare_batch_norm
from training.models.build import new_clap
from training.models.clap import Clap

CAPTIONS = ["rain on a tin roof", "a dog barks twice", "wind in the trees"]
CPU = torch.device("cpu")


def settings(folder, **model):
    return small_config(folder, folder, model={"htsat": {"clip_s": 2.0}, **model})


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Clap:
    """A model as at the start of a run, its statistics those of some batches; an HTSAT that crops at random."""
    torch.manual_seed(0)
    config = settings(tmp_path_factory.mktemp("none"))
    model = new_clap(config.model, config.features, captions=CAPTIONS)
    with torch.no_grad():
        for _ in range(3):
            forward(model, seed=9)
    return model


@pytest.fixture
def model(built) -> Clap:
    return copy.deepcopy(built)


def forward(model: Clap, *, seed: int = 0, pairs: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the embeddings of a batch; whatever is random in the model is drawn alike for one seed."""
    generator = torch.Generator().manual_seed(7)
    waveforms = {
        name: torch.rand(8, size, generator=generator)[:pairs] - 0.5 for name, size in model.audio.clip_samples.items()
    }
    ids = torch.randint(4, 100, (8, 6), generator=generator)[:pairs]
    torch.manual_seed(seed)
    return model(waveforms, ids, torch.ones_like(ids))


def audio_norms(model: Clap) -> list[nn.Module]:
    return [module for module in model.audio.modules() if isinstance(module, _BatchNorm)]


def buffers(model: Clap) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.named_buffers()}


def test_there_is_a_mode_for_each_value_of_the_setting(model, tmp_path):
    for mode in BATCH_NORMS:
        settings(tmp_path, batch_norm=mode)
    with pytest.raises(ConfigError, match=r"model.batch_norm must be one of batch, sync, frozen, got 'none'"):
        settings(tmp_path, batch_norm="none")
    with pytest.raises(ValueError, match="mode must be one of batch, sync, frozen, got 'none'"):
        prepare_batch_norm(model, "none")


def test_frozen_uses_the_stored_statistics_and_trains_the_rest(model):
    prepare_batch_norm(model.train(), "frozen")
    before = buffers(model)
    few, many = (forward(model.eval(), pairs=pairs)[0] for pairs in (2, 4))
    model.train()
    assert all(not norm.training for norm in audio_norms(model))
    assert model.audio.encoders["cnn14"].training
    assert model.audio.encoders["htsat"].spec_augment.training
    audio, text = forward(model)
    (audio * text).sum().backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_buffers())
    for norm in audio_norms(model):
        assert norm.weight.grad.abs().max() > 0
        assert norm.bias.grad.abs().max() > 0
    torch.testing.assert_close(few, many[:2])  # no neighbour in the batch counts


def test_frozen_survives_whatever_sets_training(model):
    prepare_batch_norm(model, "frozen")
    model.freeze(["text"])
    model.embed_text(["rain"])  # evaluates, and goes back to training
    copied = copy.deepcopy(model).eval().train()
    for clap in (model, copied):
        assert clap.training
        assert not any(norm.training for norm in audio_norms(clap))
        assert not clap.text.training
    assert not set(audio_norms(copied)) & set(audio_norms(model))


def test_batch_uses_each_batch_and_takes_it_in(model):
    prepare_batch_norm(model.train(), "batch")
    before = buffers(model)
    forward(model)
    changed = {name for name, tensor in model.named_buffers() if not torch.equal(tensor, before[name])}
    assert changed == {
        name
        for name in before
        if name.startswith("audio.") and name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }


def test_sync_is_batch_where_there_is_one_process(model):
    twin = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    prepare_batch_norm(model.train(), "sync")
    assert {type(norm) for norm in audio_norms(model)} == {nn.SyncBatchNorm}
    outputs = [forward(clap.train()) for clap in (model, twin)]
    assert all(torch.equal(*pair) for pair in zip(*outputs, strict=True))
    assert all(torch.equal(*pair) for pair in zip(buffers(model).values(), buffers(twin).values(), strict=True))
    known = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    assert set(model.parameters()) == known  # an optimiser made before goes on with the same tensors


def test_sync_leaves_a_frozen_encoder_frozen(model):
    model.freeze(["cnn14"])
    prepare_batch_norm(model, "sync")
    model.train()
    before = buffers(model)
    forward(model)
    assert not model.audio.encoders["cnn14"].bn0.training
    assert torch.equal(model.audio.encoders["cnn14"].bn0.running_mean, before["audio.encoders.cnn14.bn0.running_mean"])
    assert (
        model.audio.encoders["htsat"].bn0.num_batches_tracked
        == before["audio.encoders.htsat.bn0.num_batches_tracked"] + 1
    )


@pytest.mark.parametrize("mode", BATCH_NORMS)
def test_files_know_nothing_of_the_mode(model, built, tmp_path, mode):
    prepare_batch_norm(model.train(), mode)
    assert list(model.state_dict()) == list(built.state_dict())
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in built.named_parameters()]
    model.load_state_dict(built.state_dict())
    model.save_pretrained(tmp_path)
    loaded = Clap.from_pretrained(tmp_path)
    assert {type(norm) for norm in audio_norms(loaded)} == {nn.BatchNorm1d, nn.BatchNorm2d}
    assert all(torch.equal(tensor, built.state_dict()[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("mode", BATCH_NORMS)
def test_two_passes_from_one_state_are_equal_and_the_first_leaves_no_trace(model, mode):
    """What gradient caching stands on: dropout, masking, drop path and random crops included."""
    prepare_batch_norm(model.train(), mode)
    before = buffers(model)
    with batch_norm_held(model):
        first = [rows.detach() for rows in forward(model, seed=3)]
        other = [rows.detach() for rows in forward(model, seed=4)]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_buffers())
    again = forward(model, seed=3)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not any(torch.equal(*pair) for pair in zip(first, other, strict=True))
    count = "audio.encoders.cnn14.bn0.num_batches_tracked"
    assert buffers(model)[count] == before[count] + (mode != "frozen")


def test_held_statistics_are_let_go_after_an_error_and_nest(model):
    model.train()
    with pytest.raises(RuntimeError, match="stop"), batch_norm_held(model), batch_norm_held(model):
        raise RuntimeError("stop")
    before = buffers(model)
    forward(model)
    name = "audio.encoders.cnn14.bn0.num_batches_tracked"
    assert buffers(model)[name] == before[name] + 1


def test_frozen_statistics_of_random_weights_are_warned_of(tmp_path):
    frozen = settings(tmp_path, batch_norm="frozen").model
    text = check_batch_norm(frozen, InitConfig(), device=CPU)
    assert text.startswith("warning: model.batch_norm=frozen keeps the statistics that cnn14 and htsat came with, and ")
    assert text.endswith("Name weights with init.cnn14=PATH and init.htsat=PATH, or set model.batch_norm=batch")
    text = check_batch_norm(frozen, InitConfig(cnn14="a"), device=CPU)
    assert "that htsat came with, and it starts from random weights" in text
    for init in (InitConfig(clap="run"), InitConfig(cnn14="a", htsat="b")):
        assert check_batch_norm(frozen, init, device=CPU) == ""
    alone = settings(tmp_path, batch_norm="frozen", audio="cnn14").model
    assert check_batch_norm(alone, InitConfig(cnn14="a"), device=CPU) == ""
    for mode in ("batch", "sync"):
        assert check_batch_norm(settings(tmp_path, batch_norm=mode).model, InitConfig(), device=CPU) == ""


def test_sync_on_cpus_is_refused_before_the_first_layer_would(tmp_path):
    sync = settings(tmp_path, batch_norm="sync").model
    with pytest.raises(ConfigError, match=r"between GPUs, and this run has none; set model.batch_norm=batch"):
        check_batch_norm(sync, InitConfig(), device=CPU, world_size=2)
    assert check_batch_norm(sync, InitConfig(), device=torch.device("cuda"), world_size=2) == ""
