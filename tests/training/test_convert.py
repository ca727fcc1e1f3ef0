"""Published checkpoints to ours: every tensor accounted for, values where they belong, and refusals by name."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from curation.errors import ConfigError
from tests.training import published
from tests.training.golden_fill import GOLDEN, noise, signal
from tests.training.published import CNN14, HTSAT, make, save
from training.features import PRESETS, LogMel
from training.models.cnn14 import Cnn14
from training.models.convert import convert, read_published
from training.models.htsat import Htsat
from training.models.report import Report

FULL_CNN14 = (64, 128, 256, 512, 1024, 2048)


COUNTS = {
    "panns-cnn14": ("cnn14", 81, {"front end": 3}, PRESETS["panns-32k"]),
    "htsat-audioset": ("htsat", 126, {"front end": 3, "computed": 11, "never used": 2}, PRESETS["panns-32k"]),
    "msclap-2022": ("cnn14", 81, {"front end": 3, "msclap's": 9, "belongs": 1}, None),
    "msclap-2023": (
        "htsat",
        126,
        {"front end": 3, "msclap's": 9, "belongs": 1, "computed": 11, "never used": 2},
        PRESETS["paper"] | {"f_max": 14_000.0},
    ),
    "laion-630k": (
        "htsat",
        126,
        {"computed": 11, "never used": 2, "a head": 8, "stays at its start": 1, "a whole model": 49},
        PRESETS["laion-48k"],
    ),
}


@pytest.mark.parametrize("kind", COUNTS)
def test_every_tensor_is_matched_or_dropped_for_a_reason(tmp_path, kind):
    file = make(tmp_path, kind)
    encoder, matched, dropped, features = COUNTS[kind]
    report = convert(file, tmp_path / "out")
    content = torch.load(file, weights_only=False)
    names = [name.removeprefix("module.") for name in content.get("model", content.get("state_dict"))]
    assert sorted([*report.matched, *report.dropped]) == sorted(names)
    assert (report.kind, len(report.matched), report.missing) == (kind, matched, [])
    starts = Counter(next(s for s in dropped if reason.startswith(s)) for reason in report.dropped.values())
    assert starts == dropped
    assert report.features == features
    assert report.written == {str(tmp_path / "out"): f"part {encoder}"}
    assert report.next_command == f"wavtext5k-train paper-d init.{encoder}={tmp_path / 'out'}"
    assert Report.from_dict(json.loads((tmp_path / "out" / "converted.json").read_text())) == report


@pytest.mark.parametrize("kind", COUNTS)
def test_values_are_where_they_belong(tmp_path, kind):
    ((name, part),) = read_published(make(tmp_path, kind)).parts.items()
    theirs = CNN14 if name == "cnn14" else HTSAT
    assert part.tensors["bn0.num_batches_tracked"].dtype == torch.int64
    moved = {"bn0.running_var": "bn0.running_var", "fc1.weight": "fc1.weight"}
    if name == "htsat":
        moved = {
            "bn0.running_var": "bn0.running_var",
            "tscam_conv.bias": "tscam_conv.bias",
            "body.norm.weight": "norm.weight",
            "body.patch_embed.proj.weight": "patch_embed.proj.weight",
            "body.layers.1.downsample.reduction.weight": "layers.0.downsample.reduction.weight",
            "body.layers.3.downsample.norm.bias": "layers.2.downsample.norm.bias",
            "body.layers.3.blocks.1.attn.qkv.weight": "layers.3.blocks.1.attn.qkv.weight",
        }
    for ours, name in moved.items():
        assert torch.equal(part.tensors[ours], theirs[name])
    assert all(part.tensors[name].dtype == torch.float32 for name in moved)


def test_full_size_htsat_gives_the_reference_output(tmp_path):
    """The file is filled by the reference's names, the expected output is the reference's."""
    shapes = published.htsat_shapes()
    assert len(shapes) == 200 - 3
    file = published.save_averaged(tmp_path / "HTSAT_AudioSet_Saved_6.ckpt", published.golden_weights(shapes, gain=3))
    part = read_published(file).parts["htsat"]
    model = Htsat(**part.settings)
    model.load_state_dict(part.tensors)
    row, column = np.mgrid[0:256, 0:256]
    image = np.sin(0.05 * row + 0.03 * column) + 0.3 * noise("img", np.arange(256 * 256)).reshape(256, 256)
    golden = np.load(GOLDEN / "htsat.npz")
    with torch.inference_mode():
        latent = model.eval().body(torch.from_numpy(image).float()[None, None])[0].numpy()
    assert np.abs(latent - golden["img_latent_f64"]).max() < 1e-5


@pytest.mark.parametrize(
    "sizes",
    [
        {"spec_size": 128, "embed_dim": 8, "depths": (2, 1, 2, 2), "num_heads": (1, 2, 4, 2), "window_size": 4},
        {"spec_size": 64, "embed_dim": 4, "depths": (2, 2), "num_heads": (2, 4), "window_size": 8},
        {"spec_size": 64, "embed_dim": 4, "depths": (2,), "num_heads": (2,), "window_size": 16},
        {"spec_size": 256, "embed_dim": 16, "depths": (2, 2, 12, 2), "num_heads": (4, 8, 16, 32), "window_size": 8},
    ],
)
def test_htsat_sizes_are_read_from_shapes(tmp_path, sizes):
    tensors = published.weights(published.htsat_shapes(**sizes, classes=5))
    part = read_published(published.save_averaged(tmp_path / "a.ckpt", tensors)).parts["htsat"]
    expected = {name: list(value) if isinstance(value, tuple) else value for name, value in sizes.items()}
    assert part.settings == expected | {"n_mels": 64, "patch_size": 4, "num_classes": 5}


@pytest.mark.long
def test_full_size_cnn14_gives_the_reference_output(tmp_path):
    tensors = published.golden_weights(published.cnn14_shapes(FULL_CNN14), gain=6) | published.front_end("C")
    file = published.save_panns(tmp_path / "Cnn14_mAP=0.431.pth", tensors, old=True)
    part = read_published(file).parts["cnn14"]
    model = Cnn14(**part.settings)
    model.load_state_dict(part.tensors)
    waveform = torch.from_numpy(signal(44_100, 2.0).astype(np.float32))[None]
    golden = np.load(GOLDEN / "cnn14.npz")
    with torch.inference_mode():
        embedding = model.eval()(LogMel(**PRESETS["paper"])(waveform))[0].numpy()
    assert np.abs(embedding - golden["embedding_f64"]).max() < 1e-5


def test_full_size_names_and_numbers_are_the_documented_ones(tmp_path):
    shapes = published.cnn14_shapes(FULL_CNN14)
    assert len(shapes) == 84 - 3
    tensors = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}  # a small file of large tensors
    report = read_published(save(tmp_path / "Cnn14_mAP=0.431.pth", tensors, "model")).report
    buffers = 2 * 64 + 4 * sum(FULL_CNN14) + 13
    assert report.num_parameters == 80_753_615 + buffers


@pytest.mark.parametrize(
    ("bank", "name", "expected"),
    [
        ("A", "a.pth", "paper"),
        ("C", "a.pth", "panns-32k"),
        ("D", "a.pth", "panns-16k"),
        (None, "Cnn14_mAP=0.431.pth", "panns-32k"),
        (None, "Cnn14_16k_mAP=0.438.pth", "panns-16k"),
    ],
)
def test_the_front_end_is_read_off_the_mel_bank(tmp_path, bank, name, expected):
    tensors = CNN14 | (published.front_end(bank) if bank else {})
    report = read_published(save(tmp_path / name, tensors)).report
    assert report.features == PRESETS[expected]
    assert any("the file holds no mel bank" in note for note in report.notes) == (bank is None)


def test_an_unknown_mel_bank_gives_no_front_end(tmp_path):
    strange = published.front_end("C")
    strange["logmel_extractor.melW"] = strange["logmel_extractor.melW"].flip(1)
    report = read_published(save(tmp_path / "a", CNN14 | strange)).report
    assert report.features is None
    assert report.notes == ["front end not known: the mel bank in the file is none of those known here"]
    file = make(tmp_path, "msclap-2022")
    (note,) = read_published(file).report.notes
    assert "44100 Hz sound through the mel bank for 32000 Hz, window 1024" in note
    assert "1.378 times higher" in note


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32_and_are_told(tmp_path, dtype):
    tensors = {name: x.to(dtype) if x.is_floating_point() else x for name, x in CNN14.items()}
    bank = {name: x.to(dtype) for name, x in published.front_end("C").items()}
    found = read_published(save(tmp_path / "a.pth", tensors | bank))
    assert all(x.dtype in (torch.float32, torch.int64) for x in found.parts["cnn14"].tensors.values())
    assert found.report.notes == [f"68 tensors were {str(dtype)[6:]}; written as float32"]
    assert found.report.features == PRESETS["panns-32k"]


def test_counters_may_be_missing_and_head_and_safetensors_are_fine(tmp_path):
    few = {name: x for name, x in CNN14.items() if "num_batches" not in name and "fc_audioset" not in name}
    save_file(few, tmp_path / "a.safetensors")
    found = read_published(tmp_path / "a.safetensors")
    assert len(found.report.missing) == 13
    assert found.parts["cnn14"].tensors["bn0.num_batches_tracked"] == 0
    assert "num_classes" not in found.parts["cnn14"].settings
    frame_wise = few | {"att_block.att.weight": torch.ones(2, 2, 1)}
    report = read_published(save(tmp_path / "Cnn14_DecisionLevelAtt.pth", frame_wise, "model")).report
    assert "attention head for tagging" in report.dropped["att_block.att.weight"]


def without(tensors, *starts):
    return {name: x for name, x in tensors.items() if not name.startswith(starts)}


CNN10 = published.weights(published.cnn14_shapes((4, 4, 8, 8)))
TWICE = {name: x[..., None] if name == "conv_block3.bn1.weight" else x for name, x in CNN14.items()}
BAD_FILES = {
    "missing tensor": (
        without(CNN14, "fc1"),
        r"not a whole CNN14 of PANNs \(panns-cnn14\): 2 of its 81 tensors are missing, first fc1.weight; nothing was",
    ),
    "missing block": (without(CNN14, "conv_block6"), "first conv_block6.conv1.weight"),
    "CNN10": (CNN10, "20 of its 81 tensors are missing, first conv_block5.conv1.weight"),
    "shape": (
        CNN14 | {"conv_block3.bn1.weight": torch.ones(9)},
        r"no CNN14 .* of these sizes: conv_block3.bn1.weight has shape \(9,\), expected \(8,\)",
    ),
    "axes": (TWICE, r"conv_block3.bn1.weight has shape \(8, 1\), expected \(8,\)"),
    "strange": (
        CNN14 | {"pre_block1.conv1.weight": torch.ones(2)},
        "no CNN14 of PANNs .*: 1 tensors have no place in one, first pre_block1.conv1.weight",
    ),
    "few bands": (CNN14 | published.weights(published.batch_norm("bn0", 16)), "no CNN14 of PANNs has the sizes"),
    "not finite": (CNN14 | {"fc1.bias": torch.full((16,), torch.nan)}, "fc1.bias holds 16 NaN or infinite values"),
    "too large": (
        CNN14 | {"fc1.bias": torch.full((16,), 1e300, dtype=torch.float64)},
        "fc1.bias holds 16 NaN or infinite",
    ),
    "integers": (CNN14 | {"fc1.bias": torch.ones(16, dtype=torch.int8)}, "fc1.bias holds torch.int8, not floats"),
    "complex": (CNN14 | {"fc1.bias": torch.ones(16, dtype=torch.cfloat)}, "fc1.bias holds torch.complex64"),
    "sparse": (CNN14 | {"fc1.weight": torch.eye(16).to_sparse()}, "fc1.weight is no plain tensor"),
    "missing table": (
        without(HTSAT, "layers.1.blocks.1.attn.relative_position_bias_table"),
        "1 of its 126 tensors are missing, first layers.1.blocks.1.attn.relative_position_bias_table",
    ),
    "missing stage": (without(HTSAT, "layers.2."), "first layers.2.blocks.0"),
    "missing merging": (without(HTSAT, "layers.2.down"), "first layers.2.downsample.norm.weight"),
    "position embedding": (
        HTSAT | {"absolute_pos_embed": torch.ones(1, 4, 8)},
        "no HTSAT .*: 1 tensors have no place in one, first absolute_pos_embed",
    ),
    "image model": (
        without(HTSAT, "bn0", "tscam") | {"patch_embed.proj.weight": torch.ones(8, 3, 4, 4)},
        "4 of its 124 tensors are missing, first bn0.weight",
    ),
    "three channels": (
        HTSAT | {"patch_embed.proj.weight": torch.ones(8, 3, 4, 4)},
        r"patch_embed.proj.weight has shape \(8, 3, 4, 4\), expected \(8, 1, 4, 4\)",
    ),
    "fusion": (
        {f"audio_branch.{name}": x for name, x in HTSAT.items()}
        | {"audio_branch.patch_embed.mel_conv2d.weight": torch.ones(1)},
        "a fusion model, whose first layer reads four spectrograms .* not 630k-audioset-fusion-best.pt",
    ),
    "something else": ({"conv1.weight": torch.ones(1), "fc.bias": torch.ones(1)}, "which are not near any of these"),
    "other prefix": (
        {f"model.backbone.{name}": x for name, x in CNN14.items()},
        "those of panns-cnn14, with something else in front of their names",
    ),
    "near": (
        {f"encoder.{name}": x for name, x in without(CNN14, "fc1").items()},
        "the nearest is panns-cnn14, of which it lacks 2, first fc1.weight",
    ),
}


@pytest.mark.parametrize(("tensors", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_file_of_something_else_is_refused_whole(tmp_path, tensors, message):
    with pytest.raises(ConfigError, match=message):
        convert(save(tmp_path / "file.pt", tensors), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.pt"]


def test_a_kind_that_is_given_is_the_one_that_is_checked(tmp_path):
    file = save(tmp_path / "file.pt", CNN14)
    assert read_published(file, kind="panns-cnn14").kind == "panns-cnn14"
    with pytest.raises(ConfigError, match=r"not a whole HTSAT \(htsat-audioset\)"):
        read_published(file, kind="htsat-audioset")
    with pytest.raises(ConfigError, match="not a whole audio tower of msclap 2022"):
        read_published(file, kind="msclap-2022")
    with pytest.raises(ConfigError, match="transformers-text is a folder; name the folder"):
        read_published(file, kind="transformers-text")
    with pytest.raises(ValueError, match="kind must be one of panns-cnn14, "):
        read_published(file, kind="resnet")
    with pytest.raises(ConfigError, match="a folder, but panns-cnn14 is a file"):
        read_published(tmp_path, kind="panns-cnn14")
