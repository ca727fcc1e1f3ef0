"""wavtext5k-evaluate as a person types it: scores with intervals, chance and leakage; vectors alone; refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.training.clips import tone, write_clips
from tests.training.small_models import save_small_model, trained_on
from training.checkpoint import model_hash
from training.evaluate_cli import PROMPT, TieRule, evaluate_app
from training.metrics import METRICS
from training.models.clap import Clap
from training.paper_table import TABLE_3
from training.zeroshot import PROMPT as LIBRARY_PROMPT


def invoke(*arguments: object):
    return CliRunner().invoke(evaluate_app, [str(argument) for argument in arguments])


def scores(*arguments: object) -> dict:
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    rows = [{"waveform": tone(200 + 100 * number, 0.4)} for number in range(6)]
    rows += [
        {
            "split": "test",
            "waveform": tone(250 + 100 * number, 0.3 + 0.3 * number),
            "captions": [f"Tone {number}.", f"A tone, the {number}th."] if number else [],
            "origin": "youtube",
            "origin_id": f"video{number}",
        }
        for number in range(5)
    ]
    return write_clips(tmp_path_factory.mktemp("manifest"), rows)


@pytest.fixture(scope="module")
def run(tmp_path_factory, manifest) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    return save_small_model(folder, data=[trained_on(manifest, "train")], caption_templates=["{title}", "unused"])


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("runs") / "other", seed=1, caption_templates=["{description}"])


@pytest.fixture(scope="module")
def vectors(run, manifest, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("vectors") / "first.npz"
    done = invoke(run, "--manifest", manifest, "--save-embeddings", file)
    assert done.exit_code == 0, done.stderr
    assert f"saved     5 clips, 9 captions    {file}" in done.stderr
    return file


def test_help_and_version_load_nothing_heavy():
    code = (
        "import sys; from training.evaluate_cli import evaluate_app\n"
        "try: evaluate_app([sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'omegaconf', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    for option, shown in (("--help", "Example: wavtext5k-evaluate runs/tiny --manifest"), ("--version", "wavtext5k ")):
        done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, check=True)
        assert shown in done.stdout
        assert done.stdout.endswith("[]\n")


def test_the_module_is_the_command():
    """As the demo starts it."""
    command = [sys.executable, "-X", "importtime", "-m", "training.evaluate", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("error: name the RUN to evaluate")
    assert "typer" in done.stderr
    assert "torch" not in done.stderr


def test_what_is_said_again_in_the_light_module_is_so():
    assert PROMPT == LIBRARY_PROMPT
    assert [str(rule) for rule in TieRule] == ["index", "optimistic", "pessimistic"]


def test_both_directions_with_intervals_chance_and_leakage(run, manifest):
    done = invoke(run, "--manifest", manifest)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{manifest}, split test: 5 clips, 9 captions, list sha256 ")
    assert len(lines[0].rpartition(" ")[2]) == 64
    assert lines[1] == "captions of 1 clips are made by the template '{title}'"
    rows = ["text_to_audio", "interval", "chance", "audio_to_text", "interval", "chance", "DCASE"]
    assert [line.split()[0] for line in lines[3:10]] == rows
    assert lines[5].split()[1:] == ["20.00", "100.00", "100.00", "100.00", "45.67", "3.0"]
    assert lines[10] == "interval: 95 % of 2000 lists of clips drawn again, seed 0"
    assert lines[11].startswith("tied queries: ")
    assert lines[12].startswith("leakage: none found, compared with ")
    assert len(lines) == 13


def test_json_has_the_contracts_names_and_what_was_measured(run, manifest, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("\ufeff# three of them\nyoutube:video1\ntest-007\n\ntest-008\n")
    found = scores(run, "--manifest", manifest, "--ids", ids)
    assert (found["num_clips"], found["num_captions"], found["num_templated"]) == (2, 4, 0)
    for report in (found, found["chance"], found["intervals"]):
        for direction in ("text_to_audio", "audio_to_text"):
            assert list(report[direction]) == list(METRICS)
    assert found["chance"]["text_to_audio"]["recall_at_1"] == pytest.approx(1 / 2)
    low, high = found["intervals"]["text_to_audio"]["map_at_10"]
    assert low <= found["text_to_audio"]["map_at_10"] <= high
    assert "fractional_recall_at_10" in found["details"]["audio_to_text"]
    assert (found["leakage"]["leaked"], found["missing_ids"], found["ids"]) == (0, [], str(ids))
    assert found["model_sha256"] == model_hash(run)
    assert scores(run, "--manifest", manifest, "--ids", ids, "--batch-size", 1) == found


def test_ids_that_are_nowhere_end_it_or_are_counted(run, manifest, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("youtube:video1\nyoutube:video2\nyoutube:gone\n")
    done = invoke(run, "--manifest", manifest, "--ids", ids)
    assert done.exit_code == 1
    assert "1 of 3 ids are not in it, the first is 'youtube:gone'; --allow-missing goes on without them" in done.stderr
    done = invoke(run, "--manifest", manifest, "--ids", ids, "--allow-missing")
    assert done.exit_code == 0, done.stderr
    assert "1 ids of the list were not found and are left out, the first is 'youtube:gone'" in done.stdout
    assert scores(run, "--manifest", manifest, "--ids", ids, "--allow-missing")["missing_ids"] == ["youtube:gone"]


def test_leakage_with_the_training_clips_is_printed(run, manifest):
    done = invoke(run, "--manifest", manifest, "--split", "train")
    assert "leakage: 6 of 6 clips are in training (6 by same_clip), compared with" in done.stdout
    assert "leakage" not in invoke(run, "--manifest", manifest, "--split", "train", "--no-leakage").stdout
    assert scores(run, "--manifest", manifest, "--split", "train", "--no-leakage")["leakage"] is None


def test_saved_vectors_alone_have_the_runs_scores(run, manifest, vectors):
    whole, alone = scores(run, "--manifest", manifest), scores("--embeddings", vectors)
    for name in ("text_to_audio", "audio_to_text", "intervals", "list_sha256", "num_captions", "details"):
        assert alone[name] == whole[name]
    assert alone["leakage"] is None
    placed = scores("--embeddings", vectors, "--manifest", manifest, "--train-manifest", manifest)
    assert placed["text_to_audio"] == whole["text_to_audio"]
    assert placed["leakage"]["by"] == {"same_clip": 5}
    done = invoke("--embeddings", vectors)
    assert done.stdout.startswith(f"{vectors}: 5 clips, 9 captions, list sha256 {whole['list_sha256']}\n")


def test_vectors_of_a_pool_are_scored_on_a_part_of_it(run, manifest, vectors, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("test-010\ntest-007\n")
    part = scores("--embeddings", vectors, "--ids", ids)
    by_origin = tmp_path / "origins.txt"
    by_origin.write_text("youtube:video4\nyoutube:video1\n")
    placed = scores("--embeddings", vectors, "--manifest", manifest, "--ids", by_origin)
    of_run = scores(run, "--manifest", manifest, "--ids", ids)
    for found in (part, placed):
        assert (found["num_clips"], found["list_sha256"]) == (2, of_run["list_sha256"])
        assert found["text_to_audio"] == of_run["text_to_audio"]
    ids.write_text("test-010\ntest-007\ntest-000\n")
    assert "1 of 3 clips have no embedding" in invoke("--embeddings", vectors, "--ids", ids).stderr
    assert scores("--embeddings", vectors, "--ids", ids, "--allow-missing")["missing_ids"] == ["test-000"]


def test_vectors_without_names(vectors, manifest, tmp_path):
    with np.load(vectors) as arrays:
        np.savez(tmp_path / "bare.npz", **{name: arrays[name] for name in ("text", "audio", "owner")})
    done = invoke("--embeddings", tmp_path / "bare.npz")
    assert done.exit_code == 0, done.stderr
    assert "list sha256 unknown (the clips have no names)" in done.stdout
    whole = scores("--embeddings", vectors)
    placed = scores("--embeddings", tmp_path / "bare.npz", "--manifest", manifest)
    assert placed["list_sha256"] == whole["list_sha256"]
    assert placed["text_to_audio"] == whole["text_to_audio"]
    done = invoke("--embeddings", tmp_path / "bare.npz", "--manifest", manifest, "--split", "train")
    assert done.exit_code == 1
    assert "5 clips without clip_ids, and" in done.stderr
    assert "has 6; put clip_ids into the file" in done.stderr


def test_vectors_are_scored_by_cosine_unless_asked_otherwise(tmp_path):
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(20, 8))
    text = audio + 0.8 * rng.normal(size=(20, 8))
    plain, loud = tmp_path / "plain.npz", tmp_path / "loud.npz"
    np.savez(plain, text=text, audio=audio, owner=np.arange(20))
    np.savez(loud, text=7 * text, audio=audio * np.arange(1, 21)[:, None], owner=np.arange(20))
    done = invoke("--embeddings", loud)
    assert "loud.npz are not of length 1 and are scored by cosine; --no-normalise: by dot product" in done.stderr
    assert scores("--embeddings", loud)["details"] == scores("--embeddings", plain)["details"]
    assert invoke("--embeddings", loud, "--no-normalise").stderr == ""
    assert scores("--embeddings", loud, "--no-normalise")["details"] != scores("--embeddings", plain)["details"]


def test_two_models_are_compared_on_one_list(run, other, vectors, manifest):
    done = invoke(run, "--manifest", manifest, "--compare", other)
    assert done.exit_code == 0, done.stderr
    assert f"{other} minus {run}, on the same lists of clips drawn again:" in done.stdout
    assert "note: captions are made by '{title}' for both" in done.stderr
    assert "trained with '{description}'" in done.stderr
    assert done.stdout.count("leakage: ") == 2
    found = scores(run, "--manifest", manifest, "--compare", other)
    second = scores(other, "--manifest", manifest, "--template", "{title}")
    assert found["compared"]["text_to_audio"] == second["text_to_audio"]
    difference = found["difference"]["text_to_audio"]["map_at_10"]
    assert difference["difference"] == pytest.approx(
        second["text_to_audio"]["map_at_10"] - found["text_to_audio"]["map_at_10"]
    )
    assert difference["low"] <= difference["difference"] <= difference["high"]
    same = scores(run, "--manifest", manifest, "--compare", vectors)["difference"]["audio_to_text"]["recall_at_1"]
    assert (same["difference"], same["low"], same["high"], same["p_value"]) == (0, 0, 0, 1)
    both = scores("--embeddings", vectors, "--compare", vectors)
    assert both["difference"]["text_to_audio"]["recall_at_5"]["difference"] == 0


def test_models_on_other_lists_are_not_compared(run, vectors, manifest, tmp_path):
    done = invoke(run, "--manifest", manifest, "--split", "train", "--compare", vectors)
    assert done.exit_code == 1
    assert "6 of 6 clips have no embedding" in done.stderr
    with np.load(vectors) as arrays:
        bare = {name: arrays[name] for name in ("text", "audio", "owner")}
    np.savez(tmp_path / "bare.npz", **bare | {"owner": bare["owner"][::-1]})
    done = invoke(run, "--manifest", manifest, "--compare", tmp_path / "bare.npz")
    assert done.exit_code == 1
    assert "or in another order: the two cannot be compared" in done.stderr
    done = invoke("--embeddings", vectors, "--compare", tmp_path / "bare.npz")
    assert done.exit_code == 1
    assert "cannot be compared: text_to_audio: the two have different queries" in done.stderr
    done = invoke("--embeddings", vectors, "--compare", run)
    assert done.exit_code == 2
    assert f"give the run first and compare it with the file: wavtext5k-evaluate {run} --manifest" in done.stderr


def test_a_random_piece_of_long_clips_on_request(run, manifest):
    rule = scores(run, "--manifest", manifest)
    first, again, other = (
        scores(run, "--manifest", manifest, "--crop", "random", "--crop-seed", seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert (rule["crop_seed"], first["crop_seed"], other["crop_seed"]) == (None, 0, 1)
    done = invoke(run, "--manifest", manifest, "--crop", "random")
    assert "one random piece of each long clip was read (seed 0)" in done.stdout


def test_ties_are_broken_as_asked(tmp_path):
    file = tmp_path / "collapsed.npz"
    ones = np.ones((10, 4), np.float32) / 2
    np.savez(file, text=ones, audio=ones[:5], owner=np.repeat(np.arange(5), 2))
    recall = {rule: scores("--embeddings", file, "--ties", rule)["text_to_audio"]["recall_at_1"] for rule in TieRule}
    assert recall == {"index": 0.2, "optimistic": 1.0, "pessimistic": 0.0}
    assert "tied queries: 10 text to audio, 5 audio to text (--ties index)" in invoke("--embeddings", file).stdout


def test_markdown_in_the_layout_of_table_3(run, other, manifest, tmp_path):
    done = invoke(run, "--manifest", manifest, "--markdown", "--compare", other, "--dataset", "audiocaps")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    paper = [row for row in TABLE_3 if row.dataset == "AudioCaps"]
    assert sum(line.startswith("| paper: ") for line in lines) == len(paper) + 1
    assert any(line.startswith(f"| {run} | {manifest.name} | AudioCaps | ") for line in lines)
    assert any(line.startswith(f"| {other} | - | AudioCaps | ") for line in lines)
    assert any(line.startswith(f"- {run}: leakage: none found") for line in lines)
    done = invoke(run, "--manifest", manifest, "--markdown")
    assert "paper:" not in done.stdout
    clotho = write_clips(
        tmp_path, [{"clip_id": f"clotho-{number}", "source": "clotho", "split": "test"} for number in range(3)]
    )
    done = invoke(run, "--manifest", clotho, "--markdown", "--no-leakage")
    assert "| paper: D - CNN+HTSAT | AC, Cl, WT5K | Clotho |" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name the RUN to evaluate, or a file of vectors with --embeddings"),
        (("RUN",), "name what to evaluate on with --manifest FOLDER"),
        (("RUN", "--embeddings", "FILE"), "--embeddings and RUN cannot be given together"),
        (("RUN", "-m"), "No such option"),
        (("--embeddings", "FILE", "--split", "test"), "--split needs --manifest"),
        (("--embeddings", "FILE", "--train-manifest", "M"), "--train-manifest needs --manifest"),
        (("--embeddings", "FILE", "--template", "{title}"), "--embeddings and --template cannot be given together"),
        (("--embeddings", "FILE", "--zero-shot"), "--embeddings and --zero-shot cannot be given together"),
        (("RUN", "--manifest", "M", "--json", "--markdown"), "--json and --markdown cannot be given together"),
        (("RUN", "--manifest", "M", "--crop-seed", "1"), "--crop-seed is for --crop random"),
        (("RUN", "--manifest", "M", "--fold", "1"), "--fold is for --zero-shot"),
        (("RUN", "--manifest", "M", "--prompt", "{label}"), "--prompt is for --zero-shot"),
        (("RUN", "--manifest", "M", "--dataset", "clotho"), "--dataset is for --markdown"),
        (("RUN", "--manifest", "M", "--allow-missing"), "--allow-missing is for --ids"),
        (("RUN", "--manifest", "M", "--no-normalise"), "--no-normalise is for --embeddings or --compare"),
        (("RUN", "--manifest", "M", "--split", ""), "--split is empty"),
        (("RUN", "--manifest", "M", "--no-leakage", "--train-manifest", "T"), "cannot be given together"),
        (("RUN", "--manifest", "M", "--ties", "lucky"), "Invalid value for '--ties'"),
        (("RUN", "--manifest", "M", "--resamples", "0"), "Invalid value for '--resamples'"),
        (("RUN", "--manifest", "M", "--device", "tpu"), "error: --device tpu must be auto, cpu, cuda or cuda:N"),
        (("RUN", "--manifest", "M", "--device", "mps"), "error: --device mps must be auto, cpu, cuda or cuda:N"),
        (("RUN", "--manifest", "M", "--template", ""), "error: --template"),
        (("RUN", "--manifest", "M", "--template", "{x}"), "error: --template"),
    ],
)
def test_wrong_usage(run, manifest, vectors, arguments, message):
    names = {"RUN": run, "M": manifest, "FILE": vectors}
    done = invoke(*(names.get(argument, argument) for argument in arguments))
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""
    assert "data.templates" not in done.stderr


def test_too_little_memory_is_said_in_a_line(run, manifest, monkeypatch):
    def embed_audio(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Clap, "embed_audio", embed_audio)
    done = invoke(run, "--manifest", manifest, "--batch-size", 512)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: out of memory with --batch-size 512; lower it")


def test_what_is_not_there_is_refused(run, manifest, tmp_path):
    (tmp_path / "text.npz").write_text("no")
    (tmp_path / "nobody.txt").write_text("nobody\n")
    (tmp_path / "one.txt").write_text("test-007\n")
    (tmp_path / "empty.txt").write_text("")
    np.savez(tmp_path / "one.npz", text=np.eye(2), audio=np.eye(2), owner=np.zeros(2, int))
    on = ("--manifest", manifest)
    for arguments, message in (
        ((tmp_path, *on), "not a run"),
        ((run, "--manifest", tmp_path), "manifest.parquet"),
        ((run, *on, "--split", "val"), "split 'val' has no clips (there are test, train)"),
        ((run, *on, "--ids", tmp_path / "none"), "No such file"),
        ((run, *on, "--ids", tmp_path / "empty.txt"), "empty.txt: the list of ids is empty"),
        ((run, *on, "--ids", tmp_path / "nobody.txt"), "1 of 1 ids are not in it, the first is 'nobody'"),
        ((run, *on, "--ids", tmp_path / "one.txt"), "one clip was chosen"),
        ((run, *on, "--device", "cuda:99"), "no such GPU here; use --device cpu"),
        ((run, *on, "--compare", tmp_path), "not a run"),
        ((run, *on, "--compare", tmp_path / "nothing", "--template", "{title}", "--no-leakage"), "not a run"),
        ((run, *on, "--train-manifest", tmp_path), "no such manifest"),
        ((run, *on, "--save-embeddings", tmp_path / "text.npz"), "is there already, and holds no embeddings"),
        ((run, *on, "--save-embeddings", tmp_path), "a folder; name the file to write"),
        ((run, *on, "--zero-shot"), "no clip has a label"),
        (("--embeddings", tmp_path / "none.npz"), "none.npz: No such file"),
        (("--embeddings", tmp_path), "Is a directory"),
        (("--embeddings", tmp_path / "text.npz"), "text.npz: not an npz file"),
        (("--embeddings", tmp_path / "one.npz"), "captions describe one clip alone"),
    ):
        done = invoke(*arguments)
        assert (done.exit_code, message in done.stderr) == (1, True), done.stderr
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1


def test_one_manifest_under_two_names_counts_once(run, vectors, manifest):
    once = scores(run, "--manifest", manifest)
    twice = scores(run, "--manifest", manifest, "--manifest", manifest / "manifest.parquet")
    assert len(twice.pop("manifests")) == 2
    assert twice == {name: value for name, value in once.items() if name != "manifests"}
    of_file = scores("--embeddings", vectors, "--manifest", manifest, "--manifest", manifest / "manifest.parquet")
    assert of_file["num_clips"] == 5


def test_a_clip_of_two_manifests_is_refused(run, manifest, tmp_path):
    again = write_clips(tmp_path / "again", [{"split": "test", "clip_id": f"test-{n:03}"} for n in range(6, 9)])
    done = invoke(run, "--manifest", manifest, "--manifest", again)
    assert done.exit_code == 1
    assert "error: clip 'test-006' is in " in done.stderr


def test_files_are_compared_by_clip_whatever_their_order(vectors, tmp_path):
    with np.load(vectors) as whole:
        arrays = dict(whole)
    order = np.random.default_rng(0).permutation(len(arrays["owner"]))
    for name in ("text", "owner", "captions"):
        arrays[name] = arrays[name][order]
    np.savez(shuffled := tmp_path / "shuffled.npz", **arrays)
    for first, second in ((shuffled, shuffled), (shuffled, vectors), (vectors, shuffled)):
        done = invoke("--embeddings", first, "--compare", second, "--json")
        assert done.exit_code == 0, done.stderr
    done = invoke("--embeddings", vectors, "--compare", tmp_path / "none.npz")
    assert "there is no such file" in done.stderr
