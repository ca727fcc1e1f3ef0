"""A ClapModel folder opens in transformers and in sentence-transformers, and gives the model's own embeddings there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from retrieval.exports import checks
from tests.retrieval.exports.support import (
    HTSAT_ONLY,
    difference,
    invoke,
    loaded,
    noise,
    run_snippet,
    small_run,
    snippets,
)
from training.models.clap import Clap

RATE = 44_100


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("clap") / "bells", **HTSAT_ONLY)


@pytest.fixture(scope="module")
def made(run: Path) -> tuple[Path, Clap]:
    out = run.parent / "out"
    code, shown, said = invoke(run, "--to", "transformers", "--out", out)
    assert code == 0, said
    assert [line.split()[0] for line in shown.splitlines()] == ["exported", "compared", *["differs"] * 3, "card"]
    assert said.splitlines()[1:] == ["writing the ClapModel", "comparing its embeddings with the model's own"]
    return out, loaded(run)


def test_sentence_transformers_opens_it(made: tuple[Path, Clap]) -> None:
    from sentence_transformers import SentenceTransformer

    folder, clap = made
    model = SentenceTransformer(str(folder), device="cpu")
    texts = ["rain", "A low bell struck twice, fading slowly.", "a dog barks " * 50]
    assert difference(model.encode(texts), clap.embed_text(texts)) < 1e-6
    waveforms = [noise(samples, seed=seed) for seed, samples in enumerate((RATE, RATE - 1, RATE // 3, 999))]
    sounds = model.encode([{"array": waveform, "sampling_rate": RATE} for waveform in waveforms])
    assert difference(sounds, clap.embed_audio(waveforms)) < 1e-5
    assert np.abs(sounds[0] - sounds[1]).max() > 1e-3, "the sounds differ, so equality says something"
    assert model.similarity_fn_name == "cosine"
    assert np.allclose(np.linalg.norm(sounds, axis=1), 1, atol=1e-6)


def test_a_tokenizer_that_was_saved_with_its_last_call_is_mended(run: Path, tmp_path: Path) -> None:
    """As models of earlier versions have it: max_length would reach the sounds, and cut them to as many samples."""
    from transformers import ClapProcessor

    shutil.copytree(run, tmp_path / "run")
    clap = loaded(run)
    clap.embed_text(["a dog barks"])
    clap.tokenizer.save_pretrained(tmp_path / "run" / "model")
    assert json.loads((tmp_path / "run" / "model" / "tokenizer.json").read_text())["truncation"] is not None
    out = tmp_path / "out"
    code, _, said = invoke(tmp_path / "run", "--to", "transformers", "--out", out)
    assert code == 0, said
    for folder in (out, run / "model"):
        assert json.loads((folder / "tokenizer.json").read_text())["truncation"] is None
        assert "max_length" not in json.loads((folder / "tokenizer_config.json").read_text())
    processor = ClapProcessor.from_pretrained(out)
    inputs = processor(audio=[noise(RATE, seed=1)], sampling_rate=RATE, return_tensors="pt")
    assert inputs["input_features"].shape[2] > 1


def test_the_cards_code_runs(made: tuple[Path, Clap]) -> None:
    folder, clap = made
    front = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert front["pipeline_tag"] == "zero-shot-audio-classification"
    with_transformers, with_sentence_transformers = snippets(folder / "README.md")
    sound, texts = noise(30_000, seed=2), ["a dog barks", "rain on a roof"]
    names = run_snippet(with_transformers, folder, sound=sound, sample_rate=RATE)
    assert difference(names["found"].audio_embeds, clap.embed_audio([sound])) < 1e-5
    assert difference(names["found"].text_embeds, clap.embed_text(texts)) < 1e-6
    names = run_snippet(with_sentence_transformers, folder, sound=sound, sample_rate=RATE)
    assert difference(names["sounds"], clap.embed_audio([sound])) < 1e-5
    assert difference(names["texts"], clap.embed_text(texts)) < 1e-6


def test_the_pipeline_of_its_tag_runs(made: tuple[Path, Clap]) -> None:
    from transformers import pipeline

    folder, clap = made
    sound, labels = noise(30_000, seed=1), ["a dog", "the rain"]
    found = pipeline("zero-shot-audio-classification", model=str(folder))(
        sound, candidate_labels=labels, hypothesis_template="{}"
    )
    logits = float(clap.logit_scale.detach().exp()) * clap.embed_text(labels) @ clap.embed_audio([sound])[0]
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert {each["label"]: each["score"] for each in found} == pytest.approx(
        dict(zip(labels, expected.tolist(), strict=True)), abs=1e-4
    )


def test_the_config_says_whose_it_is(made: tuple[Path, Clap]) -> None:
    folder, clap = made
    ours = json.loads((folder / "config.json").read_text())["wavtext5k"]
    assert (ours["kind"], ours["model_sha256"]) == ("transformers", clap.sha256)
    assert 0 < ours["checked"]["audio"] < 1e-5
    present = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert set(ours["files"]) == present >= {"README.md", "modules.json", "1_Normalize/config.json"}


def test_a_model_that_a_clap_model_cannot_hold_is_refused(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    code, _, said = invoke(run, "--to", "transformers", "--out", tmp_path / "out")
    assert (code, os.path.lexists(tmp_path / "out")) == (1, False)
    assert "ClapModel cannot hold this model: its audio tower is cnn14+htsat" in said


def test_a_clip_of_parts_of_seconds_is_compared_at_the_whole_ones(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", **HTSAT_ONLY | {"htsat": HTSAT_ONLY["htsat"] | {"clip_s": 1.5}})
    code, shown, said = invoke(run, "--to", "transformers", "--out", tmp_path / "out")
    assert code == 0, said
    assert "ClapFeatureExtractor reads 1 s where model.htsat.clip_s is 1.5" in shown
    assert "ClapFeatureExtractor reads 1 s" in (tmp_path / "out" / "README.md").read_text()


def test_embeddings_that_differ_leave_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LIMIT", 1e-12)
    code, shown, said = invoke(run, "--to", "transformers", "--out", tmp_path / "out")
    assert (code, shown, os.path.lexists(tmp_path / "out")) == (1, "", False)
    assert "embeddings of sounds differ from the model's own by" in said


def test_a_model_with_nan_is_refused(run: Path, tmp_path: Path) -> None:
    clap: Any = loaded(run)
    clap.text_projection.linear1.bias.data[3] = float("nan")
    clap.save_pretrained(tmp_path / "run" / "model")
    code, _, said = invoke(tmp_path / "run", "--to", "transformers", "--out", tmp_path / "out")
    assert (code, os.path.lexists(tmp_path / "out")) == (1, False)
    assert "text_projection.linear1.bias has NaN or infinite values: the model is broken" in said
