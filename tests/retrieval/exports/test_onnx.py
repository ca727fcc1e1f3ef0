"""ONNX graphs give the model's own embeddings for sounds and texts of any length; the folder says how to use them."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
import yaml

from curation.audio import resample
from retrieval.exports.folder import ExportError
from retrieval.exports.onnx_folder import _save
from retrieval.exports.onnx_parts import FrontEnd, to_onnx
from tests.retrieval.exports.support import difference, invoke, loaded, noise, run_snippet, small_run, snippets
from training.features import LogMel
from training.models.clap import Clap

RATES = {"waveform_44100": 44_100, "waveform_32000": 32_000}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Clap, dict[str, Any], str]:
    """An export of a model whose encoders read at two rates, in windows of two lengths; what was printed."""
    folder = tmp_path_factory.mktemp("onnx")
    run = small_run(folder / "bells", htsat={"features": {"sample_rate": 32_000}}, projection="residual")
    code, shown, said = invoke(run, "--to", "onnx", "--out", folder / "out", "--json")
    assert code == 0, said
    return folder / "out", loaded(run), json.loads(shown), said


def session(folder: Path, name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])


def at_rates(waveforms: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: np.stack([resample(each, source_rate=44_100, target_rate=rate) for each in waveforms])
        for name, rate in RATES.items()
    }


def test_sounds_of_any_length_alone_and_in_batches(made: tuple[Path, Clap, Any, str]) -> None:
    folder, clap, _, _ = made
    graph = session(folder, "audio.onnx")
    assert [(each.name, each.shape) for each in graph.get_inputs()] == [
        (name, ["batch", f"samples_{rate}"]) for name, rate in RATES.items()
    ]
    window = clap.audio.clip_samples["cnn14"]
    for samples, batch in (
        (700, 3),
        (window - 1, 1),
        (window, 1),
        (window + 1, 3),
        (2 * window, 1),
        (9 * window + 77, 3),
    ):
        waveforms = [noise(samples, seed=seed) for seed in range(batch)]
        found = graph.run(None, at_rates(waveforms))[0]
        assert difference(found, clap.embed_audio(waveforms)) < 1e-6, (samples, batch)
    assert np.abs(found[0] - found[1]).max() > 1e-3, "the sounds differ, so equality says something"


def test_one_sample_goes_round(made: tuple[Path, Clap, Any, str]) -> None:
    folder, clap, _, _ = made
    found = session(folder, "audio.onnx").run(None, dict.fromkeys(RATES, np.full((1, 1), 0.25, np.float32)))[0]
    windows = {name: torch.full((1, size), 0.25) for name, size in clap.audio.clip_samples.items()}
    with torch.inference_mode():
        expected = F.normalize(clap.audio_projection(clap.audio(windows)), dim=1)
    assert difference(found, expected.numpy()) < 1e-6


def test_texts_of_one_token_to_the_most(made: tuple[Path, Clap, Any, str]) -> None:
    folder, clap, _, _ = made
    graph = session(folder, "text.onnx")
    assert [(each.name, each.shape) for each in graph.get_inputs()] == [
        (name, ["batch", "tokens"]) for name in ("input_ids", "attention_mask")
    ]
    generator = torch.Generator().manual_seed(0)
    for tokens in (1, 2, 17, clap.max_tokens):
        for batch in (1, 3):
            ids = torch.randint(5, 250, (batch, tokens), generator=generator)
            mask = torch.ones_like(ids)
            for row in range(1, batch):  # padded on the right, each more than the one before
                ids[row, max(1, tokens - row) :], mask[row, max(1, tokens - row) :] = 1, 0
            found = graph.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
            with torch.inference_mode():
                expected = F.normalize(clap.text_projection(clap.text(ids, mask)), dim=1)
            assert difference(found, expected.numpy()) < 1e-6, (tokens, batch)


def test_a_pure_tone_differs_by_what_the_model_itself_gets_wrong() -> None:
    """The front end of the graph is exact where float32 transforms are not."""
    time_s = np.arange(44_100) / 44_100
    tone = torch.from_numpy(0.95 * np.sin(2 * np.pi * 1000 * time_s))[None]
    ours, exact = LogMel(), LogMel(dtype=torch.float64)
    expected = exact(tone)
    found = FrontEnd(ours)(tone.float())
    assert (found - expected).abs().max() < 0.05  # dB
    assert (ours(tone.float()) - expected).abs().max() > 0.05


def test_the_config_says_all_that_a_program_needs(made: tuple[Path, Clap, Any, str]) -> None:
    folder, clap, printed, said = made
    config = json.loads((folder / "config.json").read_text())
    assert {name: entry["sample_rate"] for name, entry in config["audio"]["inputs"].items()} == RATES
    assert config["audio"]["windows"] == [
        {"encoders": ["cnn14"], "input": "waveform_44100", "samples": 22_050},
        {"encoders": ["htsat"], "input": "waveform_32000", "samples": 12_800},
    ]
    assert (config["embed_dim"], config["text"]["max_tokens"]) == (16, clap.max_tokens)
    assert config["scale"] == pytest.approx(float(clap.logit_scale.detach().exp()))
    for name, sha256 in config["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
    ours = config["wavtext5k"]
    assert ours["model_sha256"] == clap.sha256 == printed["model_sha256"]
    assert 0 < ours["checked"]["audio"] < 1e-6
    assert 0 < ours["checked"]["text"] < 1e-6
    assert {"torch", "onnx", "onnxruntime", "onnxscript", "transformers", "wavtext5k"} <= ours["versions"].keys()
    assert ours["files"] == sorted(file.name for file in folder.iterdir()) == sorted(printed["bytes"])
    assert len(said.splitlines()) == 4, "nothing of what the exporter says of itself"


def test_the_graphs_are_sound_and_tell_nothing_of_this_machine(made: tuple[Path, Clap, Any, str]) -> None:
    for name in ("audio.onnx", "text.onnx"):
        onnx.checker.check_model(made[0] / name, full_check=True)
        content = (made[0] / name).read_bytes()
        assert b"/training/" not in content
        assert str(Path(sys.prefix)).encode() not in content


def test_the_cards_code_runs(made: tuple[Path, Clap, Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, clap, _, _ = made
    front = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert (front["license"], front["library_name"]) == ("unknown", "onnx")
    (code,) = snippets(folder / "README.md")
    sound = noise(30_000, seed=2)
    names = run_snippet(code, folder, sound=sound, sample_rate=44_100)
    assert difference(names["sounds"], clap.embed_audio([sound])) < 1e-4
    assert difference(names["texts"], clap.embed_text(["a dog barks", "rain on a roof"])) < 1e-6


def test_weights_over_the_limit_lie_beside_the_graph(made: tuple[Path, Clap, Any, str], tmp_path: Path) -> None:
    folder = made[0]
    graph = onnx.load(folder / "audio.onnx")
    expected = session(folder, "audio.onnx").run(None, at_rates([noise(50_000, seed=1)]))[0]
    _save(graph, tmp_path / "audio.onnx", largest_bytes=1000)
    beside = tmp_path / "audio.onnx.data"
    assert beside.stat().st_size > 20_000 > 0
    assert beside.stat().st_mode == (tmp_path / "audio.onnx").stat().st_mode
    assert (tmp_path / "audio.onnx").stat().st_size < (folder / "audio.onnx").stat().st_size - 20_000
    assert difference(session(tmp_path, "audio.onnx").run(None, at_rates([noise(50_000, seed=1)]))[0], expected) == 0


@pytest.mark.parametrize("absent", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_named_with_its_extra(
    made: tuple[Path, Clap, Any, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    run = small_run(tmp_path / "run")
    code, _, said = invoke(run, "--to", "onnx", "--out", tmp_path / "out")
    assert (code, os.path.lexists(tmp_path / "out")) == (1, False)
    assert f'needs {absent}, of the export extra: pip install -e ".[export]"' in said


def test_what_pytorch_cannot_export_is_named() -> None:
    class Choosy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportError, match=r"PyTorch cannot export the choosy encoder to ONNX: \w+: "):
        to_onnx(Choosy(), {"x": torch.ones(2, 3)}, output="y", dynamic={0: "batch"}, what="the choosy encoder")
