"""Linear layers by oneDNN: where they are used, that they are the same, and that training is left alone."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from training.models.linear import FastLinear, use_fast_linear


class Operators(TorchDispatchMode):
    """Collects the names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def is_fast(run) -> bool:
    with Operators() as operators:
        run()
    return any(name.startswith("mkldnn._linear_pointwise") for name in operators.names)


def layer_of(bias: bool = True) -> FastLinear:
    torch.manual_seed(0)
    layer = nn.Linear(24, 40, bias=bias)
    use_fast_linear(layer)
    assert type(layer) is FastLinear
    return layer


onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (1, 24), (7, 24), (2, 3, 5, 24), (0, 24)])
def test_equals_torch_in_inference(shape, bias):
    layer, x = layer_of(bias), torch.randn(shape)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert torch.allclose(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-5)
            assert layer(x).shape == (*shape[:-1], 40)
            assert torch.equal(layer(x), layer(x))
            strided = torch.stack([x, x], dim=-1)[..., 0]
            assert torch.equal(layer(strided), layer(x))


@onednn
def test_is_used_in_float32_inference_alone():
    layer, x = layer_of(), torch.randn(7, 24)
    with torch.no_grad():
        assert is_fast(lambda: layer(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not is_fast(lambda: layer(x))
            assert layer(x).dtype == torch.bfloat16
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.backends.mkldnn, "enabled", False)
            assert not is_fast(lambda: layer(x))
        assert not is_fast(lambda: copy.deepcopy(layer).double()(x.double()))
    assert not is_fast(lambda: layer(x))


def test_training_is_that_of_torch():
    layer, x = layer_of(), torch.randn(7, 24)
    plain = nn.Linear(24, 40)
    plain.load_state_dict(layer.state_dict())
    for module in (layer, plain):
        module(x).square().sum().backward()
    assert torch.equal(layer.weight.grad, plain.weight.grad)


def test_a_module_keeps_its_names_and_can_be_copied():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2)))
    names, parameters = list(model.state_dict()), list(model.parameters())
    use_fast_linear(model)
    assert [type(module) for module in model.modules() if isinstance(module, nn.Linear)] == [FastLinear, FastLinear]
    assert list(model.state_dict()) == names
    assert all(before is after for before, after in zip(parameters, model.parameters(), strict=True))
    x = torch.randn(2, 3)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))


def test_wrong_widths_are_named_as_by_torch():
    with torch.no_grad(), pytest.raises(RuntimeError, match="24"):
        layer_of()(torch.randn(7, 23))
