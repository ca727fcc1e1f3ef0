"""CNN14 of other sizes than the published one, in training, folded, exported, and given what it cannot read."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from training.models.cnn14 import Cnn14, fold_batch_norm


def tiny(**settings) -> Cnn14:
    """Return a small model whose batch norms are not at their start values, in evaluation."""
    torch.manual_seed(0)
    model = Cnn14(**({"n_mels": 32, "channels": (4, 6, 8)} | settings))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("channels", [(4,), (8, 8, 16), (4, 4, 4, 4, 4, 6), (2,) * 6])
def test_any_width_and_depth(channels):
    model = Cnn14(n_mels=32, channels=channels, num_classes=3)
    for frames in (model.min_frames, model.min_frames + 1, 100):
        assert model.train()(torch.randn(2, frames, 32)).shape == (2, channels[-1])
        assert model.eval().tag(torch.randn(1, frames, 32)).shape == (1, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_mels": 32, "channels": (1,) * 7}, "7 blocks need at least 64 mel bands, got 32"),
        ({"channels": ()}, r"one positive number for each block, got \(\)"),
        ({"channels": (4, 0)}, r"one positive number for each block, got \(4, 0\)"),
    ],
)
def test_refuses_sizes(settings, message):
    with pytest.raises(ValueError, match=message):
        Cnn14(**settings)


@pytest.mark.parametrize(
    ("log_mel", "error", "message"),
    [
        (torch.zeros(1, 31, 64), ValueError, "CNN14 needs at least 32 frames, got 31"),
        (torch.zeros(1, 0, 64), ValueError, "at least 32 frames, got 0"),
        (torch.zeros(100, 64), ValueError, r"\(B, T, 64\), got \(100, 64\)"),
        (torch.zeros(1, 1, 100, 64), ValueError, r"\(B, T, 64\), got \(1, 1, 100, 64\)"),
        (torch.zeros(64), ValueError, r"\(B, T, 64\), got \(64,\)"),
        (torch.zeros(1, 100, 40), ValueError, r"64 mel bands, got 40 in \(1, 100, 40\)$"),
        (torch.zeros(1, 64, 100), ValueError, "64 mel bands, got 100 .* transpose the last two axes"),
        (torch.zeros(0, 100, 64), ValueError, "CNN14 got an empty batch"),
        (torch.zeros(1, 100, 64, dtype=torch.int16), TypeError, "a tensor of floats, got torch.int16"),
        (torch.zeros(1, 100, 64).numpy(), TypeError, "a tensor of floats, got ndarray"),
    ],
)
def test_names_what_it_cannot_read(log_mel, error, message):
    model = Cnn14(channels=(2,) * 6, num_classes=2).eval()
    for read in (model, model.pooled, model.tag):
        with pytest.raises(error, match=message):
            read(log_mel)


def test_tagging_needs_a_head():
    with pytest.raises(ValueError, match=r"without a tagging head: Cnn14\(num_classes=527\)"):
        tiny().tag(torch.zeros(1, 40, 32))


def test_starts_as_panns():
    """Xavier: uniform within sqrt(6 / (fan in + fan out)), so of deviation bound / sqrt(3); biases 0, norms 1 and 0."""
    torch.manual_seed(0)
    for module in Cnn14(channels=(16, 32, 64), num_classes=50).requires_grad_(False).modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            area = module.weight[0, 0].numel()
            bound = math.sqrt(6 / (area * (module.weight.shape[0] + module.weight.shape[1])))
            assert 0.9 * bound < module.weight.abs().max() <= bound
            assert module.weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
        if getattr(module, "bias", None) is not None:
            assert not module.bias.any()


def test_dropout_stands_where_panns_has_it():
    """A dropout of 1 leaves zeros behind it: after each block, before fc1, and after fc1 on the embedding alone."""
    log_mel = torch.randn(4, 40, 32)
    blocks = tiny(block_dropout=1.0, head_dropout=0.0).train()
    assert not blocks.pooled(log_mel).any()

    head = tiny(block_dropout=0.0, head_dropout=1.0, num_classes=3).train()
    nn.init.ones_(head.fc1.bias)
    assert head.pooled(log_mel).any()
    assert not head(log_mel).any()
    ones = torch.ones(4, head.num_features)  # fc1 of zeros is its bias, which the tagging head reads undropped
    assert torch.allclose(head.tag(log_mel), torch.sigmoid(head.fc_audioset(ones)))


def test_masks_in_training_after_the_batch_norm():
    class Everything(nn.Module):
        def forward(self, log_mel):
            return log_mel * 0 if self.training else log_mel

    model = tiny(spec_augment=Everything(), block_dropout=0.0, head_dropout=0.0)
    loud, soft = torch.randn(2, 40, 32) + 9, torch.randn(2, 40, 32) - 9
    assert not torch.equal(model(loud), model(soft))
    assert torch.equal(model.train()(loud), model(soft))


@pytest.mark.parametrize("channels", [(4,), (4, 6, 8)])
def test_folded_equals_the_model_and_leaves_it_alone(channels):
    model = tiny(channels=channels, num_classes=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    log_mel = torch.randn(2, 40, 32)
    expected, tags = model(log_mel), model.tag(log_mel)
    folded = fold_batch_norm(model)
    assert torch.allclose(folded(log_mel), expected, rtol=1e-5, atol=1e-5)
    assert torch.allclose(folded.tag(log_mel), tags, rtol=1e-5, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())

    assert all(parameter.requires_grad for parameter in model.parameters())
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(model(log_mel), expected)


def test_folding_is_refused_where_it_would_be_wrong():
    model = tiny()
    with pytest.raises(ValueError, match="folded already"):
        fold_batch_norm(fold_batch_norm(model))
    model.conv_block2.bn1.train()
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        fold_batch_norm(model)
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        fold_batch_norm(model.train())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_runs_under_autocast(dtype):
    model, log_mel = tiny(), torch.randn(2, 40, 32)
    expected = model(log_mel)
    with torch.autocast("cpu", dtype=dtype):
        embedding = model(log_mel)
        model.train()(log_mel).sum().backward()
    assert torch.allclose(embedding.float(), expected, rtol=0.05, atol=0.05)
    assert model.conv_block1.conv1.weight.grad.isfinite().all()


@pytest.mark.parametrize("change", [lambda model: model, fold_batch_norm])
def test_exports_with_any_batch_and_length(change):
    model = change(tiny())
    dynamic = {"log_mel": {0: torch.export.Dim("B", min=1), 1: torch.export.Dim("T", min=2 * model.min_frames)}}
    exported = torch.export.export(model, (torch.randn(2, 40, 32),), dynamic_shapes=dynamic).module()
    for shape in ((1, 8, 32), (3, 77, 32)):
        log_mel = torch.randn(shape)
        assert torch.allclose(exported(log_mel), model(log_mel), atol=1e-6)
