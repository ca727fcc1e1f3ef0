"""The loss in closed form, against golden values, and against what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.training.golden_fill import GOLDEN, noise, values
from training.losses import contrastive_loss


def unit(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_equal_similarities_give_log_of_the_batch():
    same = F.normalize(torch.ones(7, 3), dim=1)
    assert contrastive_loss(same, same, torch.tensor(5.0)).item() == pytest.approx(math.log(7))


def test_one_hot_rows():
    rows, scale = torch.eye(5), 3.0
    assert contrastive_loss(rows, rows, torch.tensor(scale)).item() == pytest.approx(math.log(1 + 4 * math.exp(-scale)))


@pytest.mark.parametrize("scale", ["1_over_0.07", "1_over_0.007", "100", "0.007", "1"])
@pytest.mark.parametrize("kind", ["norm", "raw"])
def test_golden(scale, kind):
    golden = np.load(GOLDEN / "projection_loss.npz")
    expected = dict(zip(golden["loss_fields"].tolist(), golden[f"loss_{scale}_{kind}"].tolist(), strict=True))
    audio, text = (
        torch.from_numpy(noise(name, np.arange(96)).reshape(6, 16)).requires_grad_()
        for name in ("loss_audio", "loss_text")
    )
    value = 1 / float(scale.removeprefix("1_over_")) if scale.startswith("1_over") else float(scale)
    log_scale = torch.tensor(math.log(value), dtype=torch.float64, requires_grad=True)
    a, t = (F.normalize(audio, dim=1), F.normalize(text, dim=1)) if kind == "norm" else (audio, text)
    loss = contrastive_loss(a, t, log_scale.exp())
    loss.backward()
    ours = [loss.item(), log_scale.grad.item(), audio.grad.norm().item()]
    names = list(expected)
    wanted = [expected[names[0]], expected[names[3]], expected[names[4]]]
    np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-12)
    assert (expected[names[1]] + expected[names[2]]) / 2 == pytest.approx(loss.item())


def test_projection_golden():
    """The concatenated embedding through a linear layer filled like the reference, by the 2-d rule."""
    golden = np.load(GOLDEN / "projection_loss.npz")
    joined = np.concatenate(
        [np.load(GOLDEN / "cnn14.npz")["embedding_f64"], np.load(GOLDEN / "htsat.npz")["wav44_avg3x689"]]
    )
    np.testing.assert_allclose(np.r_[joined[:4], joined[-4:]], golden["concat_first4_last4"], atol=1e-12)
    layer = torch.nn.Linear(2816, 1024).double()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            filled = values(f"audio_projection.{name}", tuple(parameter.shape), gain=3).astype(np.float32)
            parameter.copy_(torch.from_numpy(filled))
        projected = layer(torch.from_numpy(joined)).numpy()
    np.testing.assert_allclose(projected, golden["audio_projected"], atol=1e-6)


def test_the_loss_counts_both_directions():
    audio, text, scale = unit((5, 8)), unit((5, 8), 1), torch.tensor(4.0)
    logits, target = scale * text @ audio.T, torch.arange(5)
    one = F.cross_entropy(logits, target)
    other = F.cross_entropy(logits.T, target)
    assert abs(one - other) > 1e-3
    torch.testing.assert_close(contrastive_loss(audio, text, scale), (one + other) / 2)
    torch.testing.assert_close(contrastive_loss(text, audio, scale), (one + other) / 2)


def test_captions_of_one_clip_are_no_negatives_when_masked():
    audio, text, scale = unit((4, 8)), unit((4, 8), 1), torch.tensor(4.0)
    clips = torch.tensor([0, 1, 1, 2])
    mask = clips[:, None] == clips
    masked = contrastive_loss(audio, text, scale, same_clip=mask)
    logits = scale * text @ audio.T
    logits[1, 2] = logits[2, 1] = float("-inf")
    target = torch.arange(4)
    torch.testing.assert_close(masked, (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2)
    none = torch.eye(4, dtype=torch.bool)
    unmasked = contrastive_loss(audio, text, scale)
    torch.testing.assert_close(contrastive_loss(audio, text, scale, same_clip=none), unmasked)


def test_half_precision_is_computed_in_float32():
    audio, text = unit((6, 16)).bfloat16(), unit((6, 16), 1).bfloat16()
    loss = contrastive_loss(audio, text, torch.tensor(100.0))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, contrastive_loss(audio.float(), text.float(), torch.tensor(100.0)))


@pytest.mark.parametrize(("audio", "text"), [((2, 3), (3, 3)), ((2, 3), (2, 4)), ((6,), (6,))])
def test_refuses_shapes(audio, text):
    with pytest.raises(ValueError, match=r"two \(B, D\) matrices of one shape"):
        contrastive_loss(torch.zeros(audio), torch.zeros(text), torch.tensor(1.0))


def test_refuses_a_mask_that_does_not_fit():
    with pytest.raises(ValueError, match=r"same_clip must be \(2, 2\), got \(2,\)"):
        contrastive_loss(torch.eye(2), torch.eye(2), torch.tensor(1.0), same_clip=torch.ones(2, dtype=torch.bool))
