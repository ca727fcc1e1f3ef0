"""torch.compile of the encoders, in place: the same names and the same training, by one graph each."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from tests.training.clips import small_config
from training.models.batchnorm import batch_norm_held
from training.models.build import new_clap
from training.models.clap import Clap

STILL = {
    "spec_augment": None,
    "text": {"dropout": 0.0},
    "cnn14": {"channels": [4, 4], "block_dropout": 0.0, "head_dropout": 0.0},
    "htsat": {"clip_s": 2.0, "depths": [2], "num_heads": [2], "drop_path_rate": 0.0},
}
"""Small, and nothing is drawn but HTSAT's crops of two seconds, which are more than its square holds."""

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # by inductor itself


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def build(**changes) -> Clap:
    torch.manual_seed(0)
    config = small_config(Path("unused"), Path("unused"), model={**STILL, **changes})
    return new_clap(config.model, config.features, captions=["Rain on a roof.", "A dog barks."]).train()


def compiled(model: Clap, backend: str) -> Clap:
    twin = copy.deepcopy(model)
    for encoder in (*twin.audio.encoders.values(), twin.text):
        encoder.compile(backend=backend, fullgraph=True)  # what cannot be one graph raises
    return twin


def step(model: Clap, *, seed: int, tokens: int = 6) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return embeddings and gradients of one batch."""
    generator = torch.Generator().manual_seed(1)
    waveforms = {
        name: torch.rand(3, size, generator=generator) - 0.5 for name, size in model.audio.clip_samples.items()
    }
    ids = torch.randint(4, 100, (3, tokens), generator=generator)
    model.zero_grad()
    torch.manual_seed(seed)
    audio, text = model(waveforms, ids, torch.ones_like(ids))
    ((audio @ text.T) * torch.arange(9.0).reshape(3, 3).sin()).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return torch.cat([audio, text]).detach(), gradients


def assert_close(model: Clap, twin: Clap, *, seed: int, tokens: int = 6) -> None:
    (ours, ours_gradients), (theirs, theirs_gradients) = (step(m, seed=seed, tokens=tokens) for m in (model, twin))
    torch.testing.assert_close(theirs, ours, atol=2e-6, rtol=0)
    assert theirs_gradients.keys() == ours_gradients.keys()
    largest = max(gradient.abs().max() for gradient in ours_gradients.values())
    for name, gradient in ours_gradients.items():
        torch.testing.assert_close(theirs_gradients[name], gradient, atol=2e-6 * float(largest), rtol=1e-4, msg=name)
    for (name, ours), theirs in zip(model.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5, msg=name)


def test_names_stay_and_each_encoder_is_one_graph():
    model = build()
    twin = compiled(model, "eager")
    assert list(twin.state_dict()) == list(model.state_dict())
    assert [name for name, _ in twin.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert_close(model, twin, seed=1)
    assert counters["stats"]["unique_graphs"] == 3
    for seed in (2, 3):  # other crops
        with batch_norm_held(twin):
            step(twin, seed=seed)
        step(twin, seed=seed)
    assert counters["stats"]["unique_graphs"] == 3


@pytest.mark.long
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_training_equals_that_of_python(backend):
    model = build()
    twin = compiled(model, backend)
    assert_close(model, twin, seed=1)
    for tokens in (9, 7):
        assert_close(model, twin, seed=2, tokens=tokens)
    assert counters["stats"]["unique_graphs"] == 4  # of the text encoder one more, for any length


@pytest.mark.long
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_two_compiled_passes_from_one_state_draw_the_same(backend):
    """What gradient caching needs: one graph for both, with masks and dropout in it."""
    twin = compiled(build(spec_augment={}, text={"dropout": 0.3}), backend)
    with batch_norm_held(twin):
        first, other = step(twin, seed=4)[0], step(twin, seed=5)[0]
    assert torch.equal(step(twin, seed=4)[0], first)
    assert not torch.equal(other, first)
    assert counters["stats"]["unique_graphs"] == 3
