"""Every kind of model as ONNX, text encoders of other architectures, and kills at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from retrieval.exports.onnx_graph import text_graph
from tests.retrieval.exports.support import difference, invoke, loaded, noise, small_run
from training.models.build import build_clap
from training.models.text import text_model
from training.recipe import load_recipe
from training.tokenizer import train_tokenizer

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[3]
COMMAND = """
from curation.errors import exit_on_error
from retrieval.export_cli import export
import typer

typer.run(exit_on_error()(export))
"""
MODELS: dict[str, dict[str, Any]] = {
    "cnn14, residual, first": {"audio": "cnn14", "projection": "residual", "text": {"pooling": "first"}},
    "htsat, mlp, pooler": {"audio": "htsat", "projection": "mlp", "text": {"pooling": "pooler"}},
    "halves": {"audio": "htsat", "htsat": {"clip_s": 6.0}},
    "centre": {"audio": "htsat", "htsat": {"clip_s": 6.0, "long_clips": "centre"}},
    "resize": {"audio": "htsat", "htsat": {"clip_s": 6.0, "long_clips": "resize"}},
    "windows": {"audio": "htsat", "htsat": {"clip_s": 9.0, "long_clips": "windows"}},
    "panns-32k beside the paper's": {
        "cnn14": {"features": "paper"},
        "htsat": {"features": "panns-32k", "spec_size": 64},
    },
    "one front end, one window": {"cnn14": {"clip_s": 0.4}, "projection_bias": False},
}


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_is_itself_in_onnx(tmp_path: Path, name: str) -> None:
    run, out = small_run(tmp_path / "run", **MODELS[name]), tmp_path / "out"
    code, _, said = invoke(run, "--to", "onnx", "--out", out)
    assert code == 0, said
    clap, graph = loaded(run), onnxruntime.InferenceSession(out / "audio.onnx")
    rates = {each.name: int(each.name.removeprefix("waveform_")) for each in graph.get_inputs()}
    assert len(rates) == (2 if "panns" in name else 1)
    if len(rates) == 1:
        for samples in (1, 999, 300_000):
            waveforms = np.stack([noise(samples, seed=seed) for seed in range(2)])
            found = graph.run(None, dict.fromkeys(rates, waveforms))[0]
            assert difference(found, clap.embed_audio(list(waveforms))) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_stored_in_half_precision_are_exported_as_they_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    run, out = small_run(tmp_path / "run"), tmp_path / "out"
    file = run / "model" / "model.safetensors"
    save_file({name: x.to(dtype) if x.is_floating_point() else x for name, x in load_file(file).items()}, file)
    code, _, said = invoke(run, "--to", "onnx", "--out", out)
    assert code == 0, said
    graph, waveform = onnxruntime.InferenceSession(out / "audio.onnx"), noise(5000, seed=1)
    found = graph.run(None, {"waveform_44100": waveform[None]})[0]
    assert difference(found, loaded(run).embed_audio([waveform])) < 1e-6


@pytest.mark.parametrize(
    "kind",
    [
        *("albert", "bert", "big_bird", "camembert", "data2vec-text", "deberta", "deberta-v2", "distilbert"),
        *("electra", "ernie", "eurobert", "megatron-bert", "mobilebert", "modernbert", "mpnet", "roformer"),
        *("roberta", "roberta-prelayernorm", "xlm-roberta"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # what transformers says of sizes that no published model has
def test_text_encoders_of_other_architectures(kind: str) -> None:
    from transformers import AutoConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = AutoConfig.for_model(kind, **sizes, vocab_size=300, pad_token_id=1).to_dict()
    if kind == "distilbert":
        config |= {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    recipe = load_recipe("tiny", ["model.audio=cnn14", "model.text.max_tokens=40"])
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a dog barks"], vocab_size=300, max_tokens=40)
    clap = build_clap(recipe.model, recipe.features, text=text_model(config), tokenizer=tokenizer).eval()
    graph = onnxruntime.InferenceSession(text_graph(clap).SerializeToString())
    for tokens in (1, 2, 9, 40):
        for batch in (1, 3):
            ids = torch.randint(5, 300, (batch, tokens))
            mask = torch.ones_like(ids)
            for row in range(1, batch):
                ids[row, max(1, tokens - row) :], mask[row, max(1, tokens - row) :] = 1, 0
            found = graph.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
            with torch.inference_mode():
                expected = F.normalize(clap.text_projection(clap.text(ids, mask)), dim=1)
            assert difference(found, expected.numpy()) < 1e-6, (tokens, batch)


def test_killed_at_any_moment_it_is_no_export_and_is_made_when_run_again(tmp_path: Path) -> None:
    run, out = small_run(tmp_path / "run"), tmp_path / "out"
    words = [sys.executable, "-c", COMMAND, str(run), "--to", "onnx", "--out", str(out)]
    began = time.monotonic()
    assert subprocess.run(words, cwd=ROOT, capture_output=True, check=False).returncode == 0
    takes_s = time.monotonic() - began
    whole = {file.name: file.read_bytes() for file in out.iterdir()}
    killed = 0
    for share in np.linspace(0.2, 1.0, 9):
        for file in out.iterdir() if share < 0.6 else ():  # into nothing, then over the old one
            file.unlink() if file.is_file() else None
        before = sorted(file.name for file in out.iterdir() if file.is_file())
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(share * takes_s)
            process.kill()
        killed += process.returncode == -signal.SIGKILL
        left = {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()}
        assert left == whole or ("config.json" not in left and sorted(left) == before)
    assert killed >= 5
    assert subprocess.run(words, cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert {file.name: file.read_bytes() for file in out.iterdir()} == whole
    assert not os.path.lexists(out / ".part")
