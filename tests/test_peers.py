"""The comparison with the peers' own classes: its verdict, the table in the repository, and what the fixtures claim.

The comparison itself takes minutes and packages that are not installed here; ``benchmarks/peers.py`` is run by hand.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
CHECKPOINTS = (
    "Cnn14_mAP=0.431.pth",
    "Cnn14_16k_mAP=0.438.pth",
    "HTSAT_AudioSet_Saved_1.ckpt",
    "CLAP_weights_2022.pth",
    "CLAP_weights_2023.pth",
    "630k-audioset-best.pt",
    "laion/clap-htsat-unfused",
    "roberta-base",
)
HAS_PEERS = all(importlib.util.find_spec(name) for name in ("panns_inference", "laion_clap", "msclap", "torchlibrosa"))


@pytest.fixture
def modules(monkeypatch):
    """Let the benchmarks' own modules be imported, behind the packages whose names they share."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])


@pytest.fixture
def result(modules):
    from _peers_result import Result

    from training.models.report import Report

    return Result(name="file", peer="class", layout="", account=Report(kind="", source="", sha256=""))


@pytest.mark.parametrize(
    ("ours", "by_design", "failed"),
    [
        ([1.0, 2.0], False, False),
        ([1.0, 2.00001], False, False),
        ([1.0, 2.0001], False, True),
        ([1.0, 2.0001], True, False),
        ([1.0, float("nan")], False, True),
    ],
)
def test_a_difference_above_its_tolerance_fails(result, ours, by_design, failed):
    result.add("1 s", "log-mel", {"out": torch.tensor([1.0, 2.0])}, {"out": torch.tensor(ours)}, by_design=by_design)
    assert result.failed is failed


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (torch.zeros(2), torch.zeros(2)),  # a dead output would agree with any
        (torch.tensor([float("nan")]), torch.tensor([float("nan")])),
        (torch.ones(2), torch.ones(1, 2)),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
    ],
)
def test_outputs_that_cannot_be_compared_fail(result, theirs, ours):
    result.add("1 s", "log-mel", {"out": theirs}, {"out": ours})
    assert result.failed


def test_the_table_has_every_checkpoint_and_no_failure():
    page = (BENCHMARKS / "peers.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^## (.+)$", page, re.M)) == CHECKPOINTS
    assert "**failed**" not in page


def test_the_peers_are_pinned_without_addresses():
    lines = (BENCHMARKS / "peers.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert all(re.fullmatch(r"[a-z0-9_-]+==[0-9.]+", pin) for pin in pins)


@pytest.mark.filterwarnings("ignore")  # of the peers
@pytest.mark.skipif(not HAS_PEERS, reason="the peers are not here: see benchmarks/peers.txt")
def test_made_files_have_the_names_and_shapes_of_the_peers_own_classes(modules):
    from _peers_setup import import_peers

    from tests.training.published import cnn14_shapes, front_end, htsat_shapes

    peers = import_peers(None)
    front = {name: tuple(tensor.shape) for name, tensor in front_end().items()}
    settings = {"sample_rate": 32_000, "window_size": 1024, "hop_size": 320, "mel_bins": 64, "fmin": 50, "fmax": 14_000}
    cnn14 = peers.panns.Cnn14(**settings, classes_num=527)
    htsat = peers.msclap_htsat.HTSAT_Swin_Transformer(config=peers.msclap_htsat.config)
    wide = cnn14_shapes((64, 128, 256, 512, 1024, 2048))
    for model, made in ((cnn14, wide), (htsat, htsat_shapes())):
        assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == front | made
