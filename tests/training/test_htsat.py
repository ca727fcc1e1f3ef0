"""HTSAT of other sizes than the published one: long clips, training, tagging, export, and what it cannot read."""

from __future__ import annotations

import pytest
import torch
from timm.layers import set_fused_attn
from timm.models.swin_transformer import PatchEmbed, WindowAttention
from torch import nn

from training.models.htsat import LONG_CLIPS, Htsat

TINY = {"n_mels": 32, "spec_size": 32, "embed_dim": 8, "depths": (2, 1), "num_heads": (2, 2), "window_size": 4}
"""32 frames in the square; 8x8 tokens in 4x4 windows, then 4x4 tokens; the second block's windows are shifted."""


def tiny(**settings) -> Htsat:
    torch.manual_seed(0)
    return Htsat(**(TINY | settings)).eval()


@pytest.mark.parametrize("rule", LONG_CLIPS)
@pytest.mark.parametrize(("spec_size", "n_mels", "depths"), [(64, 32, (1, 1)), (128, 64, (1, 1, 1)), (64, 64, (2,))])
def test_any_width_depth_and_number_of_frames(spec_size, n_mels, depths, rule):
    heads = (2,) * len(depths)
    model = Htsat(
        n_mels=n_mels, spec_size=spec_size, embed_dim=8, depths=depths, num_heads=heads, num_classes=3, long_clips=rule
    )
    target = model.target_frames
    assert target == spec_size**2 // n_mels
    for frames in (1, 2, target - 1, target, target + 1, 2 * target + 2):
        log_mel = torch.randn(2, frames, n_mels)
        assert model.train()(log_mel).shape == (2, model.num_features) == (2, 8 * 2 ** (len(depths) - 1))
        tags = model.eval().tag(log_mel)
        assert tags.shape == (2, 3)
        assert tags.isfinite().all()


def test_one_frame_is_stretched_to_a_constant():
    model, frame = tiny(), torch.randn(1, 1, 32)
    assert torch.allclose(model.stretch(frame), frame.expand(1, 32, 32), atol=1e-6)
    assert torch.allclose(model(frame), model(frame.expand(1, 32, 32)), atol=1e-5)


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def _steps(node, names: set[str]) -> set[str]:
    """Return the names of all steps back from a result."""
    names.add(type(node).__name__)
    for source, _ in node.next_functions:
        if source is not None:
            _steps(source, names)
    return names


@pytest.mark.parametrize("frames", [1, 5, 31, 47])
def test_the_deterministic_stretch_is_the_same_without_bicubics_gradient(frames, request):
    """47 frames are shrunk, as by the rule ``resize``."""
    model, log_mel = tiny(), torch.randn(2, frames, 32, requires_grad=True)
    weights = torch.randn(2, 32, 32)
    expected = model.stretch(log_mel)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), log_mel)
    assert "UpsampleBicubic2DBackward0" in _steps(expected.grad_fn, set())
    request.getfixturevalue("deterministic")
    stretched = model.stretch(log_mel)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.stretch(log_mel), stretched)
    (gradient,) = torch.autograd.grad((stretched * weights).sum(), log_mel)
    assert "UpsampleBicubic2DBackward0" not in _steps(stretched.grad_fn, set())
    torch.testing.assert_close(stretched, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rule", ["centre", "resize", "windows"])
def test_only_halves_has_a_longest_clip(rule):
    halves = tiny(long_clips="halves")
    message = "at most 66 frames, got 67; cut the clip first, or use long_clips='windows' or 'resize'"
    for read in (halves, halves.cut):
        with pytest.raises(ValueError, match=message):
            read(torch.zeros(1, 67, 32))
    assert halves.train()(torch.zeros(2, 1000, 32)).shape == (2, 16)  # a random crop
    assert tiny(long_clips=rule)(torch.zeros(1, 1000, 32)).shape == (1, 16)


def starts_and_sizes(model: Htsat, frames: int) -> list[tuple[int, int]]:
    windows = model.cut(torch.arange(float(frames))[None, :, None].expand(1, frames, model.n_mels))
    return [(int(window[0, 0, 0]), window.shape[1]) for window in windows]


@pytest.mark.parametrize(
    ("rule", "frames", "expected"),
    [
        ("halves", 1379, [(0, 689), (344, 689), (688, 689)]),  # msclap's own numbers, for 10 s at 44.1 kHz
        ("halves", 1024, [(0, 1024)]),
        ("halves", 1025, [(0, 512), (256, 512), (512, 512)]),
        ("halves", 2050, [(0, 1024), (512, 1024), (1024, 1024)]),
        ("centre", 1379, [(177, 1024)]),
        ("centre", 1025, [(0, 1024)]),
        ("windows", 1379, [(0, 1024), (355, 1024)]),
        ("windows", 1025, [(0, 1024), (1, 1024)]),
        ("windows", 2757, [(0, 1024), (866, 1024), (1733, 1024)]),
        ("resize", 2757, [(0, 2757)]),
    ],
)
def test_the_windows_of_the_paper_size(rule, frames, expected):
    model = Htsat(embed_dim=8, depths=(1,), num_heads=(2,), long_clips=rule).eval()
    assert starts_and_sizes(model, frames) == expected


def test_halves_cut_every_length_as_the_original():
    model = Htsat(embed_dim=8, depths=(1,), num_heads=(2,), n_mels=32, spec_size=64).eval()
    for frames in range(model.target_frames + 1, 2 * model.target_frames + 3):
        size = (frames - 1) // 2
        original = [(start, size) for start in range(0, frames - size, (frames - 1) // 4)]
        assert starts_and_sizes(model, frames) == original
        assert len(original) == 3
        assert original[-1][0] + size >= frames - 4  # what of the clip's end no window reads


@pytest.mark.parametrize("rule", LONG_CLIPS)
def test_crops_at_random_in_training_and_never_in_evaluation(rule):
    model = tiny(long_clips=rule, drop_path_rate=0.0)
    clip = torch.randn(2, 60, 32)
    assert torch.equal(model(clip), model(clip))
    crops = [model.train().cut(clip)[0] for _ in range(2)]
    assert torch.equal(*crops) == (rule == "resize")


def test_the_random_crop_draws_every_start_that_fits_for_each_clip():
    model = tiny().train()
    clips = torch.arange(34.0)[None, :, None].expand(300, 34, 32)
    (crop,) = model.cut(clips)
    assert crop.shape == (300, 32, 32)
    starts = crop[:, 0, 0]
    assert torch.equal(crop[:, -1, 0], starts + 31)
    assert starts.unique().tolist() == [0, 1, 2]  # the original stops before the last


def test_framewise_steps_are_what_tag_averages_in_the_order_of_time():
    model = tiny(n_mels=16, num_classes=3).double()  # two segments of 32 frames, 8 steps
    clip = torch.randn(2, 64, 16, dtype=torch.float64)
    steps = model.framewise(clip)
    assert steps.shape == (2, 8, 3)
    assert torch.allclose(torch.sigmoid(torch.logit(steps).mean(dim=1)), model.tag(clip), atol=1e-12)

    # Segments stand one below the other in the grid of tokens. Tokens that carry their own time must come out sorted.
    model.body.forward_features = lambda image: torch.arange(16.0).view(1, 4, 4, 1).expand(2, 4, 4, 16).double()
    nn.init.zeros_(model.tscam_conv.weight)
    nn.init.zeros_(model.tscam_conv.bias)
    model.tscam_conv.weight.data[:, 0, :, 1] = torch.tensor([1.0, 0.0])  # the upper row of bands, this step
    seen = torch.logit(model.framewise(clip))[0, :, 0]
    assert torch.allclose(seen, torch.tensor([0, 1, 2, 3, 8, 9, 10, 11], dtype=torch.float64), atol=1e-6)


def test_framewise_reads_one_window():
    model = tiny(num_classes=3)
    with pytest.raises(ValueError, match="long_clips='halves' cuts 3 of 40 frames; use long_clips='resize'"):
        model.framewise(torch.zeros(1, 40, 32))
    assert tiny(num_classes=3, long_clips="resize").framewise(torch.zeros(1, 40, 32)).shape == (1, 4, 3)


def test_tagging_needs_a_head():
    model = tiny()
    for read in (model.tag, model.framewise):
        with pytest.raises(ValueError, match=r"without a tagging head: Htsat\(num_classes=527\)"):
            read(torch.zeros(1, 20, 32))


def test_attention_is_fused_and_equals_the_plain_one():
    clip = torch.randn(2, 60, 32, dtype=torch.float64)
    fused = tiny().double()
    assert all(module.fused_attn for module in fused.modules() if isinstance(module, WindowAttention))
    set_fused_attn(False)
    try:
        plain = tiny().double()
    finally:
        set_fused_attn(True)
    assert not any(module.fused_attn for module in plain.modules() if isinstance(module, WindowAttention))
    assert torch.allclose(fused(clip), plain(clip), rtol=0, atol=1e-12)


def test_starts_as_the_original():
    """Linear layers and tables of relative positions are normal of deviation 0.02; biases 0, norms 1 and 0."""
    model = Htsat(embed_dim=48, depths=(1, 1), num_heads=(4, 4), num_classes=5).requires_grad_(False)
    for module in model.body.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std() == pytest.approx(0.02, rel=0.1)
            assert abs(module.weight.mean()) < 0.002
        if isinstance(module, WindowAttention):
            assert module.relative_position_bias_table.std() == pytest.approx(0.02, rel=0.1)
        if isinstance(module, nn.LayerNorm):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
        if isinstance(module, nn.LayerNorm | nn.Linear) and module.bias is not None:
            assert not module.bias.any()
        if isinstance(module, PatchEmbed):  # torch's own start for convolutions: uniform within 1 / sqrt(fan in)
            assert 0.9 / 4 < module.proj.weight.abs().max() <= 1 / 4


def test_drop_path_grows_over_the_blocks():
    model = Htsat(embed_dim=8, depths=(2, 2, 6, 2), num_heads=(2,) * 4)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for layer in model.body.layers for block in layer.blocks]
    assert rates == pytest.approx([0.1 * i / 11 for i in range(12)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_mels": 60}, r"spec_size \(256\) must be a multiple of n_mels \(60\)"),
        ({"n_mels": 512}, r"spec_size \(256\) must be a multiple of n_mels \(512\)"),
        ({"long_clips": "cut"}, "one of halves, centre, resize, windows, got 'cut'"),
        ({"patch_size": 5}, r"spec_size \(256\) must be a multiple of patch_size \* 2\*\*\(stages - 1\) = 40"),
        ({"spec_size": 64, "patch_size": 16}, r"spec_size \(64\) must be a multiple .* = 128"),
        ({"window_size": 7}, r"stage 0 has 64 tokens a side, which window_size \(7\) must divide"),
        ({"window_size": 12}, r"stage 0 has 64 tokens a side, which window_size \(12\) must divide"),
        ({"spec_size": 320}, r"stage 2 has 20 tokens a side, which window_size \(8\) must divide"),
        ({"num_heads": (4, 8, 16)}, r"depths \(2, 2, 6, 2\) and num_heads \(4, 8, 16\) must name the same stages"),
        ({"depths": (), "num_heads": ()}, "must name the same stages, one at least"),
        ({"num_heads": (5, 8, 16, 32)}, r"stage 0 is 96 wide, which num_heads\[0\] \(5\) must divide"),
        ({"embed_dim": 0}, "all sizes must be at least 1"),
        ({"depths": (2, 0, 6, 2)}, "all sizes must be at least 1"),
        ({"patch_size": 0}, "all sizes must be at least 1"),
        ({"n_mels": 16, "num_classes": 2}, r"n_mels \(16\) must be a multiple of .* = 32; use fewer stages"),
    ],
)
def test_refuses_sizes_that_timm_would_pad_or_cut(settings, message):
    with pytest.raises(ValueError, match=message):
        Htsat(**settings)


@pytest.mark.parametrize(
    ("log_mel", "error", "message"),
    [
        (torch.zeros(1, 0, 32), ValueError, "HTSAT needs at least 1 frames, got 0"),
        (torch.zeros(20, 32), ValueError, r"\(B, T, 32\), got \(20, 32\)"),
        (torch.zeros(1, 1, 32, 32), ValueError, r"\(B, T, 32\), got \(1, 1, 32, 32\)"),
        (torch.zeros(1, 20, 64), ValueError, "32 mel bands, got 64"),
        (torch.zeros(1, 32, 20), ValueError, "32 mel bands, got 20 .* transpose the last two axes"),
        (torch.zeros(0, 20, 32), ValueError, "HTSAT got an empty batch"),
        (torch.zeros(1, 20, 32, dtype=torch.int64), TypeError, "a tensor of floats, got torch.int64"),
        ([[0.0]], TypeError, "a tensor of floats, got list"),
    ],
)
def test_names_what_it_cannot_read(log_mel, error, message):
    model = tiny(num_classes=2)
    for read in (model, model.tag, model.framewise):
        with pytest.raises(error, match=message):
            read(log_mel)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_runs_under_autocast(dtype):
    model, log_mel = tiny(num_classes=3), torch.randn(2, 60, 32)
    expected = model(log_mel), model.tag(log_mel)
    with torch.autocast("cpu", dtype=dtype):
        found = model(log_mel), model.tag(log_mel)
        model.train()(log_mel).sum().backward()
    assert torch.allclose(found[0].float(), expected[0], atol=0.05)
    assert torch.allclose(found[1].float(), expected[1], atol=0.05)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def test_a_clip_gives_the_same_in_any_batch():
    model, clips = tiny(), torch.randn(5, 60, 32)
    alone = torch.cat([model(clip[None]) for clip in clips])
    assert torch.allclose(model(clips), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [20, 60])
def test_exports_with_any_batch(frames):
    model = tiny()
    dynamic = {"log_mel": {0: torch.export.Dim("B", min=1)}}
    with torch.no_grad():
        exported = torch.export.export(model, (torch.randn(2, frames, 32),), dynamic_shapes=dynamic)
        assert not any("mkldnn" in str(node.target) for node in exported.graph.nodes)
        for batch in (1, 3):
            log_mel = torch.randn(batch, frames, 32)
            assert torch.allclose(exported.module()(log_mel), model(log_mel), atol=1e-5)
