"""The loss in closed form, against golden values and a plain loop, and against what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.training.golden_fill import GOLDEN, noise, values
from training.losses import contrastive_loss, directed_losses, same_clip_mask

PROJECTION_LOSS = np.load(GOLDEN / "projection_loss.npz")
FIELDS = ["loss", "rows(audio->text)", "cols(text->audio)", "d/dlog_scale", "grad_norm_audio"]
SCALES = {"1_over_0.07": 1 / 0.07, "1_over_0.007": 1 / 0.007, "100": 100.0, "0.007": 0.007, "1": 1.0}


def unit(shape: tuple[int, int], seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=1)


def looped(audio: torch.Tensor, text: torch.Tensor, scale: float, same: torch.Tensor | None = None) -> float:
    """Return the loss pair by pair, in Python's own floats."""
    total = 0.0
    for queries, candidates in ((text.tolist(), audio.tolist()), (audio.tolist(), text.tolist())):
        for i, query in enumerate(queries):
            logits = [scale * math.fsum(a * b for a, b in zip(query, other, strict=True)) for other in candidates]
            kept = [x for j, x in enumerate(logits) if j == i or same is None or not (same[i, j] or same[j, i])]
            most = max(kept)
            total += most + math.log(math.fsum(math.exp(x - most) for x in kept)) - logits[i]
    return total / (2 * len(audio))


def test_equal_similarities_give_log_of_the_batch():
    same = F.normalize(torch.ones(7, 3), dim=1)
    assert contrastive_loss(same, same, torch.tensor(5.0)).item() == pytest.approx(math.log(7))


def test_one_hot_rows():
    rows, scale = torch.eye(5), 3.0
    assert contrastive_loss(rows, rows, torch.tensor(scale)).item() == pytest.approx(math.log(1 + 4 * math.exp(-scale)))


def test_one_pair_has_no_negatives():
    audio = unit((1, 8)).requires_grad_()
    loss = contrastive_loss(audio, unit((1, 8), 1), torch.tensor(100.0))
    loss.backward()
    assert loss.item() == 0
    assert audio.grad.abs().max() == 0


def test_the_golden_file_holds_what_is_tested_here():
    losses = {f"loss_{scale}_{kind}" for scale in SCALES for kind in ("norm", "raw")}
    assert set(PROJECTION_LOSS) == {"concat_first4_last4", "audio_projected", "loss_fields"} | losses
    assert PROJECTION_LOSS["loss_fields"].tolist() == FIELDS


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("kind", ["norm", "raw"])
@pytest.mark.parametrize("scale", SCALES)
def test_golden(scale, kind, dtype, tolerance):
    audio, text = (
        torch.from_numpy(noise(name, np.arange(96)).reshape(6, 16)).to(dtype).requires_grad_()
        for name in ("loss_audio", "loss_text")
    )
    log_scale = torch.tensor(math.log(SCALES[scale]), dtype=dtype, requires_grad=True)
    a, t = (F.normalize(audio, dim=1), F.normalize(text, dim=1)) if kind == "norm" else (audio, text)
    text_to_audio, audio_to_text = directed_losses(a, t, log_scale.exp())
    loss = contrastive_loss(a, t, log_scale.exp())
    loss.backward()
    ours = [*map(torch.Tensor.item, (loss, audio_to_text, text_to_audio, log_scale.grad, audio.grad.norm()))]
    np.testing.assert_allclose(ours, PROJECTION_LOSS[f"loss_{scale}_{kind}"], rtol=tolerance, atol=tolerance)


def test_projection_golden():
    """The concatenated embedding through a linear layer filled like the reference, by the 2-d rule."""
    joined = np.concatenate(
        [np.load(GOLDEN / "cnn14.npz")["embedding_f64"], np.load(GOLDEN / "htsat.npz")["wav44_avg3x689"]]
    )
    np.testing.assert_allclose(np.r_[joined[:4], joined[-4:]], PROJECTION_LOSS["concat_first4_last4"], atol=1e-12)
    layer = torch.nn.Linear(2816, 1024).double()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            filled = values(f"audio_projection.{name}", tuple(parameter.shape), gain=3).astype(np.float32)
            parameter.copy_(torch.from_numpy(filled))
        projected = layer(torch.from_numpy(joined)).numpy()
    np.testing.assert_allclose(projected, PROJECTION_LOSS["audio_projected"], atol=1e-9)


def test_the_loss_counts_both_directions():
    audio, text, scale = unit((5, 8)), unit((5, 8), 1), torch.tensor(4.0)
    one, other = directed_losses(audio, text, scale)
    assert abs(one - other) > 1e-3
    torch.testing.assert_close(contrastive_loss(audio, text, scale), (one + other) / 2)
    assert directed_losses(text, audio, scale) == (other, one)


KEYS = {
    "all of different clips": [[0, 0], [1, 1], [2, 2], [3, 3], [4, 4], [5, 5]],
    "two captions of a clip": [[0, 0], [1, 1], [1, 2], [2, 3], [3, 4], [3, 5]],
    "one caption of two clips": [[0, 0], [1, 1], [2, 1], [3, 2], [4, 3], [5, 0]],
    "a chain": [[0, 0], [0, 1], [1, 1], [2, 2], [3, 3], [4, 4]],
    "all of one clip": [[0, 0], [0, 1], [0, 2], [0, 3], [0, 4], [0, 5]],
    "one pair, six times": [[0, 0]] * 6,
}


@pytest.mark.parametrize("scale", [0.007, 14.3, 100.0])
@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS.keys())
def test_equals_a_loop_over_the_pairs(keys, scale):
    audio, text = unit((6, 8), dtype=torch.float64).requires_grad_(), unit((6, 8), 1, dtype=torch.float64)
    log_scale = torch.tensor(math.log(scale), dtype=torch.float64, requires_grad=True)
    mask = same_clip_mask(torch.tensor(keys))
    loss = contrastive_loss(audio, text, log_scale.exp(), same_clip=mask)
    loss.backward()
    assert loss.item() == pytest.approx(looped(audio, text, scale, mask), rel=1e-12, abs=1e-15)
    step = 1e-6
    by_difference = (looped(audio, text, scale * (1 + step), mask) - looped(audio, text, scale * (1 - step), mask)) / 2
    assert log_scale.grad.item() == pytest.approx(by_difference / step, rel=1e-5, abs=1e-8)
    assert audio.grad.isfinite().all()
    assert torch.autograd.gradcheck(
        lambda a: contrastive_loss(a, text, torch.tensor(scale), same_clip=mask), audio, atol=1e-6
    )


def test_a_batch_of_one_clip_alone_teaches_nothing():
    audio = unit((4, 8)).requires_grad_()
    same = torch.ones(4, 4, dtype=torch.bool)
    loss = contrastive_loss(audio, unit((4, 8), 1), torch.tensor(100.0), same_clip=same)
    loss.backward()
    assert loss.item() == 0
    assert audio.grad.abs().max() == 0


def test_a_mask_of_none_changes_nothing_and_half_a_mask_counts_as_whole():
    audio, text, scale = unit((4, 8)), unit((4, 8), 1), torch.tensor(4.0)
    none = torch.zeros(4, 4, dtype=torch.bool)
    assert contrastive_loss(audio, text, scale, same_clip=none) == contrastive_loss(audio, text, scale)
    half, whole = none.clone(), none.clone()
    half[1, 2] = whole[1, 2] = whole[2, 1] = True
    masked = contrastive_loss(audio, text, scale, same_clip=half)
    assert masked == contrastive_loss(audio, text, scale, same_clip=whole)
    assert masked < contrastive_loss(audio, text, scale)
    assert masked == contrastive_loss(text, audio, scale, same_clip=half)
    assert not half[2, 1], "the mask was written to"


def test_rows_are_alike_by_clip_or_by_caption_and_not_through_a_third():
    mask = same_clip_mask(torch.tensor([[7, 0], [7, 1], [8, 1], [9, 3]]))
    assert mask.int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    large = 2**62  # beyond what a float tells apart
    assert same_clip_mask(torch.tensor([[large], [large + 1]])).int().tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    audio, text = unit((6, 16)).to(dtype), unit((6, 16), 1).to(dtype)
    loss = contrastive_loss(audio, text, torch.tensor(100.0))
    assert loss.dtype == torch.float32
    assert loss == contrastive_loss(audio.float(), text.float(), torch.tensor(100.0))
    assert loss == contrastive_loss(audio, text.float(), torch.tensor(100.0))


def test_float64_stays_float64():
    audio, text = unit((6, 16), dtype=torch.float64), unit((6, 16), 1)
    assert contrastive_loss(audio, text, torch.tensor(100.0)).dtype == torch.float64
    loss = contrastive_loss(audio, text.double(), torch.tensor(100.0, dtype=torch.float64))
    assert loss.item() == pytest.approx(looped(audio, text.double(), 100.0), rel=1e-13)


def test_autocast_does_not_reach_the_loss():
    audio, text, scale = unit((6, 16)).requires_grad_(), unit((6, 16), 1), torch.tensor(100.0)
    expected = contrastive_loss(audio, text, scale)
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_loss(audio, text, scale)
        assert (text @ audio.T).dtype == torch.bfloat16, "autocast was not on"
    assert loss.dtype == torch.float32
    assert loss == expected
    assert torch.equal(*(torch.autograd.grad(each, audio)[0] for each in (loss, expected)))


def test_a_large_batch_at_a_large_scale():
    audio = unit((1024, 64))
    text = F.normalize(audio + 2 * unit((1024, 64), 1), dim=1)
    grads = []
    for dtype in (torch.float32, torch.float64):
        leaf = audio.detach().to(dtype).requires_grad_()
        log_scale = torch.tensor(math.log(100), dtype=dtype, requires_grad=True)
        loss = contrastive_loss(leaf, text.to(dtype), log_scale.exp())
        loss.backward()
        grads.append((loss.double(), leaf.grad.double(), log_scale.grad.double()))
    assert 1 < grads[1][0] < 10, "the batch is too easy or too hard to show anything"
    for ours, exact in zip(*grads, strict=True):
        assert (ours - exact).norm() <= 5e-6 * exact.norm()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("place", ["audio", "text", "scale"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("width", [1, 2, 8])
def test_what_is_not_finite_shows(value, place, masked, width):
    for seed in range(5):
        given = {
            "audio": unit((4, width), seed),
            "text": unit((4, width), seed + 100),
            "scale": torch.tensor(14.3),
        }
        tensor = given[place]
        tensor.view(-1)[seed % tensor.numel()] = value
        mask = same_clip_mask(torch.tensor([[0], [1], [1], [0]])) if masked else None
        loss = contrastive_loss(given["audio"], given["text"], given["scale"], same_clip=mask).item()
        assert math.isnan(loss) or (math.isinf(loss) and not math.isnan(value))


@pytest.mark.parametrize(
    ("audio", "text"), [((2, 3), (3, 3)), ((2, 3), (2, 4)), ((6,), (6,)), ((0, 3), (0, 3)), ((3, 0), (3, 0))]
)
def test_refuses_shapes(audio, text):
    with pytest.raises(ValueError, match=r"two \(B, D\) matrices of one shape, neither B nor D 0, got \("):
        contrastive_loss(torch.zeros(audio), torch.zeros(text), torch.tensor(1.0))


def test_refuses_whole_numbers():
    with pytest.raises(ValueError, match=r"embeddings must be floats, got torch.int64 and torch.float32"):
        contrastive_loss(torch.ones(2, 2, dtype=torch.int64), torch.eye(2), torch.tensor(1.0))


@pytest.mark.parametrize(
    ("scale", "found"), [(torch.ones(2), r"\(2,\)"), (torch.ones(1), r"\(1,\)"), (14.3, "float"), (None, "NoneType")]
)
def test_refuses_a_scale_that_is_no_one_number(scale, found):
    with pytest.raises(ValueError, match=rf"scale must be a 0-d tensor, model.logit_scale.exp\(\), got {found}"):
        contrastive_loss(torch.eye(2), torch.eye(2), scale)


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (torch.ones(2, dtype=torch.bool), r"\(2,\) of torch.bool"),
        (torch.ones(3, 3, dtype=torch.bool), r"\(3, 3\) of torch.bool"),
        (torch.ones(2, 2), r"\(2, 2\) of torch.float32"),
        (torch.ones(2, 2, dtype=torch.int64), r"\(2, 2\) of torch.int64"),
    ],
)
def test_refuses_a_mask_that_does_not_fit(mask, found):
    with pytest.raises(ValueError, match=rf"same_clip must be \(2, 2\) of bool, got {found}"):
        contrastive_loss(torch.eye(2), torch.eye(2), torch.tensor(1.0), same_clip=mask)


@pytest.mark.parametrize(
    ("keys", "found"), [(torch.ones(3, 1), r"\(3, 1\) of torch.float32"), (torch.tensor([1, 2]), r"\(2,\)")]
)
def test_refuses_keys_that_are_no_whole_numbers(keys, found):
    with pytest.raises(ValueError, match=rf"keys must be whole numbers \(B, K\), got {found}"):
        same_clip_mask(keys)
