"""An open index gives vectors, clips, texts and facets, and an index that is damaged, moved or another's is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from curation.manifest import read_manifest, write_manifest
from retrieval.building import build_index
from retrieval.index import Index, IndexFolderError
from retrieval.layout import INDEX_VERSION, read_info, vectors_file
from tests.retrieval.conftest import write_clips, write_run
from training.models.clap import Clap


@pytest.fixture
def built(run: Path, manifest: Path, tmp_path: Path) -> Path:
    build_index(run, manifest, tmp_path / "index")
    return tmp_path / "index"


def test_rows_are_the_models_embeddings_in_the_manifests_order(run: Path, manifest: Path, built: Path) -> None:
    index = Index.open(built)
    assert index.embeddings.shape == (len(index), index.info.embed_dim) == (7, 128)
    assert index.column("clip_id").to_pylist() == [f"soundbible-{number}" for number in range(1, 8)]
    model = Clap.from_pretrained(run)
    for row in (0, 3, 6):
        expected = model.embed_audio([manifest / index.clips([row])[0].audio_path])[0]
        assert np.abs(index.embeddings[row] - expected).max() < 1e-5


def test_any_safetensors_reader_opens_the_vectors(built: Path) -> None:
    index = Index.open(built)
    tensors = load_file(vectors_file(built, index.info.key))
    assert np.array_equal(tensors["embeddings"], index.embeddings)
    assert tensors["codes"].dtype == np.int8
    assert tensors["text_embeddings"].shape == (7, 128)


def test_texts_are_those_the_model_was_trained_with(run: Path, built: Path) -> None:
    index = Index.open(built)
    assert index.texts["text"].to_pylist() == [f"Tone {number}. A bell." for number in range(1, 8)]
    expected = Clap.from_pretrained(run).embed_text(["Tone 3. A bell."])[0]
    assert np.abs(index.text_vectors[2].numpy() - expected).max() < 1e-5


def test_a_clip_says_all_that_a_result_shows(manifest: Path, built: Path) -> None:
    index = Index.open(built)
    later, first = index.clips([4, 0])
    assert index.clips([2, 2, 2])[0] == index.clips([2])[0], "a row may be asked twice"
    assert (later.row, later.key, later.name, first.name) == (4, "soundbible-5", "Tone 5", "Tone 1")
    assert (first.tags, first.license, first.duration_s) == (("bell", "metal"), "cc-by-3.0", 1.0)
    assert index.audio_file(4) == (manifest / "audio" / "soundbible-5.flac").resolve()
    assert index.row("soundbible-5") == 4
    for unknown in ("", "soundbible-50", "../audio", "\udcff", "a" * 10_000):
        assert index.row(unknown) is None
    for row in (7, -1):
        with pytest.raises(IndexError, match="between 0 and 6"):
            index.clips([row])


def test_a_file_of_the_user_s_own_is_named_though_its_clip_id_says_it(built: Path) -> None:
    clip = replace(Index.open(built).clips([0])[0], clip_id="mine-a.wav", source="mine", source_id="a.wav")
    assert (clip.file, replace(clip, page_url="").file) == ("", "a.wav")
    assert replace(clip, clip_id="mine-a_b-12345678", source_id="a/b.wav").file == "a/b.wav"


def test_an_index_opens_without_the_models_libraries() -> None:
    code = "import sys, retrieval.search; print({'torchvision', 'timm', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n", "they take seconds to import"


def test_several_threads_may_ask(built: Path) -> None:
    index = Index.open(built)
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda row: (index.clips([row % 7])[0].title, index.facets().tags["bell"]), range(200)))
    assert names == [(f"Tone {row % 7 + 1}", 7) for row in range(200)]


def test_facets_count_what_there_is(run: Path, tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "some", count=3)
    rows = read_manifest(folder).to_pylist()
    rows[0] |= {"license": "cc0-1.0", "tags": ["bell"]}
    rows[1] |= {"tags": [], "split": "test"}
    write_manifest(folder, rows)
    build_index(run, folder, tmp_path / "index")
    facets = Index.open(tmp_path / "index").facets()
    assert facets.licenses == {"cc-by-3.0": 2, "cc0-1.0": 1}
    assert list(facets.tags.items()) == [("bell", 2), ("metal", 1)]
    assert (facets.splits, facets.total_s) == ({"train": 2, "test": 1}, 3.0)


def test_no_path_outside_the_manifests_folder_is_given(run: Path, manifest: Path, built: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.flac").write_bytes(b"secret")
    sound = manifest / "audio" / "soundbible-2.flac"
    sound.unlink()
    assert Index.open(built).audio_file(1) is None, "a file that is gone"
    sound.symlink_to(tmp_path / "secret.flac")
    assert Index.open(built).audio_file(1) is None, "a link that leads outside"
    (clips,) = built.glob("clips-*.parquet")
    table = pq.read_table(clips)
    for path in ("../secret.flac", str(tmp_path / "secret.flac"), "audio/../../secret.flac", "audio", ""):
        paths = pa.array([path, *table["audio_path"].to_pylist()[1:]])
        pq.write_table(table.set_column(table.column_names.index("audio_path"), "audio_path", paths), clips)
        assert Index.open(built).audio_file(0) is None, path


def test_a_changed_manifest_is_told_and_one_merely_touched_is_not(
    manifest: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Index.open(built).changed() == []
    file = manifest / "manifest.parquet"
    os.utime(file, ns=(1, 1))
    index = Index.open(built)
    assert index.changed() == []
    monkeypatch.setattr("retrieval.index.manifest_hash", lambda path: pytest.fail("read twice in one state"))
    assert index.changed() == []
    monkeypatch.undo()
    write_manifest(manifest, read_manifest(file).to_pylist()[:-1])
    (said,) = Index.open(built).changed()
    assert said.startswith("curated/manifest.parquet: the manifest has changed since it was indexed")
    file.unlink()
    (said,) = Index.open(built).changed()
    assert "the manifest is gone" in said


def test_an_index_that_another_replaces_while_it_is_opened_opens_as_that(
    run: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_info(built)
    build_index(run, write_clips(tmp_path / "curated", count=8), built)
    infos = [read_info(built), before]
    monkeypatch.setattr("retrieval.index.read_info", lambda folder: infos.pop())
    assert len(Index.open(built)) == 8
    assert infos == []


def test_an_open_index_goes_on_when_another_takes_its_place(
    run: Path, manifest: Path, built: Path, tmp_path: Path
) -> None:
    index = Index.open(built)
    build_index(run, write_clips(tmp_path / "curated", count=8), built)
    assert [clip.title for clip in index.clips([6, 0])] == ["Tone 7", "Tone 1"]
    assert len(index.texts) == len(index.embeddings) == len(index.column("title")) == 7
    write_clips(tmp_path / "curated", count=3)
    (said,) = index.changed()
    assert "the index has been made again since; start this program again" in said
    assert "the manifest has changed" in Index.open(built).changed()[0]


def test_a_notebook_cannot_change_the_vectors_that_are_searched(run: Path, manifest: Path, tmp_path: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        build_index(run, manifest, tmp_path / dtype, dtype=dtype)
        embeddings = Index.open(tmp_path / dtype).embeddings
        with pytest.raises(ValueError, match="read-only"):
            embeddings -= embeddings.mean(axis=0)


def test_another_model_is_refused(built: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", seed=1)
    with pytest.raises(IndexFolderError, match="is not the model that made this index"):
        Index.open(built).load_model(other)


BARE = json.dumps({"version": INDEX_VERSION, "model_sha256": ""})


def rewrite(out: Path, **changes: object) -> None:
    values = json.loads((out / "index.json").read_text())
    (out / "index.json").write_text(json.dumps(values | changes))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda out: (out / "index.json").unlink(), "is not an index"),
        (lambda out: (out / "index.json").write_text("{"), "not JSON"),
        (lambda out: (out / "index.json").write_text("[" * 100_000), "not JSON"),
        (lambda out: rewrite(out, version=99), f"index version 99, this code reads {INDEX_VERSION}"),
        (lambda out: (out / "index.json").write_text(BARE), "manifests"),
        (lambda out: (out / "index.json").write_text('{"name": "my web app"}'), "not an index's"),
        (lambda out: rewrite(out, num_clips="7"), "num_clips must be int, got '7'"),
        (lambda out: rewrite(out, manifests=[]), "names no manifest"),
        (lambda out: rewrite(out, key="../x"), "no key"),
        (lambda out: rewrite(out, dtype="float8"), "unknown dtype"),
        (lambda out: rewrite(out, num_clips=8), "speaks of 8 clips"),
        (lambda out: rewrite(out, num_texts=1), "and 1 texts"),
        (lambda out: rewrite(out, dtype="bfloat16"), "vectors of torch.float32"),
        (lambda out: next(out.glob("vectors*")).write_bytes(b"short"), "damaged"),
        (lambda out: os.truncate(next(out.glob("vectors*")), 5000), "damaged"),
        (lambda out: next(out.glob("clips*")).unlink(), "damaged"),
        (lambda out: next(out.glob("texts*")).unlink(), "damaged"),
        (lambda out: os.truncate(next(out.glob("clips*")), 5000), "damaged"),
        (lambda out: pq.write_table(pa.table({"key": ["a"]}), next(out.glob("clips*"))), "no column 'manifest'"),
    ],
)
def test_a_damaged_index_is_named(built: Path, harm: object, message: str) -> None:
    harm(built)  # type: ignore[operator]
    with pytest.raises(IndexFolderError, match=message):
        Index.open(built)


def test_bfloat16_takes_half_the_room_and_ranks_alike(run: Path, manifest: Path, built: Path, tmp_path: Path) -> None:
    build_index(run, manifest, tmp_path / "half", dtype="bfloat16")
    half, whole = Index.open(tmp_path / "half"), Index.open(built)
    assert (half.vectors.dtype, half.text_vectors.dtype) == (torch.bfloat16, torch.bfloat16)
    assert np.abs(half.embeddings - whole.embeddings).max() < 2**-8
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16, got 'float16'"):
        build_index(run, manifest, tmp_path / "half", dtype="float16")
