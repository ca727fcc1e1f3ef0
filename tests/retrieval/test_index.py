"""An index holds each clip's embedding, belongs to one model and one manifest, and is never taken half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from curation.errors import AudioError, ConfigError
from curation.manifest import write_manifest
from retrieval.cli import app
from retrieval.index import Index, IndexFolderError, build_index
from retrieval.search import search_audio, search_text
from tests.retrieval.conftest import write_clips, write_run
from training.models.clap import Clap


def invoke(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.stdout, done.stderr


def test_rows_are_the_models_embeddings_in_the_manifests_order(run: Path, manifest: Path, tmp_path: Path) -> None:
    info, was_built = build_index(run, manifest, tmp_path / "index")
    index = Index.open(tmp_path / "index")
    assert was_built
    assert (info.num_clips, info.embed_dim) == index.embeddings.shape == (7, 128)
    assert index.clips["clip_id"].to_pylist() == [f"soundbible-{number}" for number in range(1, 8)]
    model = Clap.from_pretrained(run)
    for row in (0, 3, 6):
        expected = model.embed_audio([manifest / index.clips["audio_path"][row].as_py()])[0]
        assert np.abs(index.embeddings[row] - expected).max() < 1e-5


def test_a_sound_finds_itself_and_a_text_ranks_every_clip(run: Path, manifest: Path, tmp_path: Path) -> None:
    build_index(run, manifest, tmp_path / "index")
    index = Index.open(tmp_path / "index")
    model = index.load_model()
    best, second = search_audio(index, model, manifest / "audio" / "soundbible-4.flac", top=2)
    assert best.clip_id == "soundbible-4"
    assert best.score == pytest.approx(1, abs=1e-5)
    assert second.score < best.score
    hits = search_text(index, model, "a tone", top=50)
    assert [hit.rank for hit in hits] == list(range(1, 8))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert Path(hits[0].audio).is_file()
    with pytest.raises(ValueError, match="the query is empty"):
        search_text(index, model, "  ")


def test_the_same_again_does_nothing_and_another_manifest_replaces_it(
    run: Path, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "index"
    build_index(run, manifest, out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    _, was_built = build_index(run, manifest, out)
    assert not was_built
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    info, was_built = build_index(run, write_clips(tmp_path / "more", count=9), out)
    assert was_built
    assert info.num_clips == len(Index.open(out).clips) == 9
    assert len(list(out.iterdir())) == 3, "the old index's files are gone"


def test_a_moved_model_and_manifest_are_found_again(run: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    here = shutil.copytree(run, tmp_path / "run")
    build_index(here, manifest, out)
    moved = here.rename(tmp_path / "elsewhere")
    with pytest.raises(IndexFolderError, match=r"no model at .*--model"):
        Index.open(out).load_model()
    assert Index.open(out).load_model(moved).embed_dim == 128
    _, was_built = build_index(moved, manifest, out)
    assert not was_built, "the same model at another place needs no new embeddings"
    Index.open(out).load_model()


def test_another_model_is_refused(run: Path, manifest: Path, tmp_path: Path) -> None:
    build_index(run, manifest, tmp_path / "index")
    other = write_run(tmp_path / "other", seed=1)
    with pytest.raises(IndexFolderError, match="is not the model that made this index"):
        Index.open(tmp_path / "index").load_model(other)


def test_what_cannot_be_indexed_is_named(run: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    with pytest.raises(ConfigError, match="not a run"):
        build_index(tmp_path, manifest, out)
    write_manifest(tmp_path / "empty", [])
    with pytest.raises(IndexFolderError, match="holds no clip"):
        build_index(run, tmp_path / "empty", out)
    (manifest / "audio" / "soundbible-3.flac").unlink()
    with pytest.raises(IndexFolderError, match=r"1 of 7 audio files are missing.*soundbible-3\.flac"):
        build_index(run, manifest, out)
    (manifest / "audio" / "soundbible-3.flac").write_bytes(b"fLaC and no more")
    with pytest.raises(AudioError, match=r"soundbible-3\.flac"):
        build_index(run, manifest, out)
    assert not out.exists(), "nothing half-written"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(IndexFolderError, match="holds something that is not an index"):
        build_index(run, manifest, tmp_path / "photos")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda out: (out / "index.json").unlink(), "is not an index"),
        (lambda out: (out / "index.json").write_text("{"), "not JSON"),
        (lambda out: (out / "index.json").write_text('{"version": 99}'), "index version 99, this code reads 1"),
        (lambda out: (out / "index.json").write_text('{"version": 1}'), "missing"),
        (lambda out: next(out.glob("*.safetensors")).write_bytes(b"short"), "damaged"),
        (lambda out: next(out.glob("*.parquet")).unlink(), "damaged"),
        (
            lambda out: pq.write_table(pa.table({"clip_id": ["a"]}), next(out.glob("*.parquet"))),
            "no column 'source'",
        ),
    ],
)
def test_a_damaged_index_is_named(run: Path, manifest: Path, tmp_path: Path, harm: object, message: str) -> None:
    out = tmp_path / "index"
    build_index(run, manifest, out)
    harm(out)  # type: ignore[operator]
    with pytest.raises(IndexFolderError, match=message):
        Index.open(out)


def test_the_commands(run: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    code, shown, _ = invoke("index", run, manifest, "--out", out)
    assert (code, shown.split()[:4]) == (0, ["indexed", "7", "clips", "x"])
    assert invoke("index", run, manifest, "--out", out)[1].startswith("up to date 7 clips")
    code, shown, _ = invoke("query", out, "a tone", "--top", 3)
    assert code == 0
    assert [line.split()[0] for line in shown.splitlines()[::2]] == ["1", "2", "3"]
    code, shown, _ = invoke("query", out, "--audio", manifest / "audio" / "soundbible-2.flac", "--json")
    assert json.loads(shown)[0]["clip_id"] == "soundbible-2"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "either a text or --audio"),
        (("a", "--audio", "b.wav"), 2, "either a text or --audio"),
        ((" ",), 2, "the text is empty"),
        (("\udcff",), 2, "not valid Unicode"),
        (("--audio", "/tmp"), 1, "not a file"),
        (("a", "--top", "0"), 2, "top"),
        (("--audio", "no.wav"), 1, "no.wav: no such file"),
        (("--audio", __file__), 1, "not audio"),
    ],
)
def test_wrong_queries_end_with_a_line_and_a_code(
    run: Path, manifest: Path, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    build_index(run, manifest, tmp_path / "index")
    found, shown, said = invoke("query", tmp_path / "index", *words)
    assert (found, shown) == (code, "")
    assert message in said
