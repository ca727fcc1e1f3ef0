"""An index is built in batches, resumed, extended without hearing a clip twice, and never taken half-written."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import retrieval.building
from curation.errors import AudioError, ConfigError
from curation.manifest import read_manifest, write_manifest
from retrieval.building import build_index
from retrieval.index import Index, IndexFolderError
from retrieval.vectorstore import VectorStore, write_tensors
from tests.retrieval.conftest import write_clips, write_run
from training.models.clap import Clap


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def write_undecodable(manifest: Path, number: int) -> None:
    """Make a clip one that cannot be decoded, and the manifest say so much."""
    sound = manifest / "audio" / f"soundbible-{number}.flac"
    sound.write_bytes(b"fLaC and no more")
    rows = read_manifest(manifest).to_pylist()
    rows[number - 1]["sha256"] = hashlib.sha256(sound.read_bytes()).hexdigest()
    write_manifest(manifest, rows)


def test_the_same_again_does_nothing(run: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    built = build_index(run, manifest, out)
    assert (built.was_built, built.embedded) == (True, 7)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    built = build_index(run, manifest, out)
    assert (built.was_built, built.embedded) == (False, 0)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert sorted(path.name.split("-")[0] for path in before) == ["clips", "index.json", "texts", "vectors"]


def test_more_clips_cost_what_is_new(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "index"
    build_index(run, write_clips(tmp_path / "curated", count=7), out)
    first = Index.open(out).embeddings.copy()
    texts: list[str] = []
    embed_text = Clap.embed_text
    monkeypatch.setattr(Clap, "embed_text", lambda self, given: texts.extend(given) or embed_text(self, given))
    built = build_index(run, write_clips(tmp_path / "curated", count=9), out)
    assert (built.embedded, built.info.num_clips) == (2, 9)
    assert texts == ["Tone 8. A bell.", "Tone 9. A bell."]
    index = Index.open(out)
    assert np.array_equal(index.embeddings[:7], first), "bit for bit the old ones"
    assert len(list(out.iterdir())) == 4, "the old index's files are gone"
    rows = read_manifest(tmp_path / "curated").to_pylist()
    write_manifest(tmp_path / "curated", [each | {"title": "Gong"} for each in rows[2:]])
    built = build_index(run, tmp_path / "curated", out)
    assert (built.embedded, built.was_built, built.info.num_clips) == (0, True, 7), "retitled and fewer: none is heard"
    assert Index.open(out).texts.to_pylist() == [{"text": "Gong. A bell.", "row": 0, "clips": 7}]
    assert np.array_equal(Index.open(out).embeddings, index.embeddings[2:])


def test_another_model_or_dtype_embeds_all_again(run: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_index(run, manifest, out)
    assert build_index(run, manifest, out, dtype="bfloat16").embedded == 7
    assert build_index(write_run(tmp_path / "other", seed=1), manifest, out, dtype="bfloat16").embedded == 7
    assert Index.open(out).info.dtype == "bfloat16"


def test_other_settings_with_the_same_weights_are_another_model(run: Path, manifest: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "index", shutil.copytree(run, tmp_path / "other")
    build_index(run, manifest, out)
    config = other / "model" / "config.json"
    assert build_index(other, manifest, out).embedded == 0, "the same model in another place"
    config.write_text(config.read_text().replace('"max_tokens": 64', '"max_tokens": 32'))
    with pytest.raises(IndexFolderError, match="is not the model that made this index"):
        Index.open(out).load_model(other)
    assert build_index(other, manifest, out).embedded == 7


def test_nothing_of_others_is_removed(run: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_index(run, manifest, out)
    (out / "parts" / "photos").mkdir(parents=True)
    for name in ("parts/photos/a.txt", "embeddings-clap.safetensors", "clips-mine.parquet"):
        (out / name).write_text("mine")
    (out / "vectors-0123456789abcdef.safetensors.part").write_text("left by a kill")
    build_index(run, manifest, out)
    write_manifest(manifest, read_manifest(manifest).to_pylist()[1:])
    build_index(run, manifest, out)
    assert (out / "parts" / "photos" / "a.txt").is_file()
    assert {"embeddings-clap.safetensors", "clips-mine.parquet"} <= content_names(out)
    assert not list(out.glob("*.part"))


def content_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_several_manifests(run: Path, tmp_path: Path) -> None:
    """The same clip twice is one row; another sound under the same name is another row, with a key of its own."""
    first, second = write_clips(tmp_path / "a", count=3), write_clips(tmp_path / "b", count=4)
    rows = read_manifest(second).to_pylist()
    shutil.copy(second / "audio" / "soundbible-4.flac", second / "audio" / "soundbible-3.flac")
    rows[2] |= {"sha256": rows[3]["sha256"], "title": "Other"}
    write_manifest(second, rows)
    built = build_index(run, [first, second], tmp_path / "index")
    assert (built.same_clips, built.renamed_clips, built.info.num_clips, built.embedded) == (2, 1, 5, 4)
    index = Index.open(tmp_path / "index")
    assert index.column("key").to_pylist() == [
        *("soundbible-1", "soundbible-2", "soundbible-3"),
        *("soundbible-3~2", "soundbible-4"),
    ]
    assert index.audio_file(3) == (second / "audio" / "soundbible-3.flac").resolve()
    assert index.audio_file(2) == (first / "audio" / "soundbible-3.flac").resolve()
    assert np.array_equal(index.embeddings[3], index.embeddings[4]), "one sound, one vector"
    with pytest.raises(IndexFolderError, match="a manifest is named twice"):
        build_index(run, [first, first / "manifest.parquet"], tmp_path / "index")


def test_clips_without_text_are_indexed(run: Path, tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "own", count=3)
    rows = read_manifest(folder).to_pylist()
    bare = {"title": "", "description": "", "tags": []}
    write_manifest(folder, [each | bare for each in rows])
    assert build_index(run, folder, tmp_path / "index").info.num_texts == 0
    index = Index.open(tmp_path / "index")
    assert [clip.name for clip in index.clips(range(3))] == ["soundbible-1", "soundbible-2", "soundbible-3"]
    write_manifest(folder, [each | bare | {"captions": ["a tone", "a hum", " "]} for each in rows])
    build_index(run, folder, tmp_path / "index")
    assert Index.open(tmp_path / "index").texts.to_pylist() == [
        {"text": "a tone", "row": 0, "clips": 3},
        {"text": "a hum", "row": 0, "clips": 3},
    ]


def test_a_moved_model_and_manifest_are_found_again(run: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    here = shutil.copytree(run, tmp_path / "run")
    build_index(here, manifest, out)
    moved, clips = here.rename(tmp_path / "elsewhere"), manifest.rename(tmp_path / "other")
    with pytest.raises(IndexFolderError, match=r"no model at .*--model"):
        Index.open(out).load_model()
    assert Index.open(out).load_model(moved).embed_dim == 128
    built = build_index(moved, clips, out)
    assert not built.was_built, "the same model at another place needs no new embeddings"
    index = Index.open(out)
    index.load_model()
    assert (index.changed(), index.audio_file(0)) == ([], clips / "audio" / "soundbible-1.flac")


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
    shutil.copy(manifest / "audio" / "soundbible-2.flac", manifest / "audio" / "soundbible-3.flac")
    with pytest.raises(IndexFolderError, match=r"soundbible-3\.flac: not the sound that the manifest names"):
        build_index(run, manifest, out)
    write_undecodable(manifest, 3)
    with pytest.raises(AudioError, match=r"soundbible-3\.flac"):
        build_index(run, manifest, out)
    with pytest.raises(IndexFolderError, match="is not an index"):
        Index.open(out)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(IndexFolderError, match="holds something that is not an index"):
        build_index(run, manifest, tmp_path / "photos")
    (tmp_path / "photos" / "cat.jpg").rename(tmp_path / "photos" / "embeddings-clap.safetensors")
    with pytest.raises(IndexFolderError, match="holds something that is not an index"):
        build_index(run, manifest, tmp_path / "photos")
    (tmp_path / "photos" / "cat.jpg").touch()
    (tmp_path / "photos" / "index.json").write_text('{"name": "my web app"}')
    with pytest.raises(IndexFolderError, match="not an index's"):
        build_index(run, manifest, tmp_path / "photos")
    with pytest.raises(IndexFolderError, match=r"cat\.jpg is a file"):
        build_index(run, manifest, tmp_path / "photos" / "cat.jpg")


def test_an_older_or_damaged_index_is_made_again(run: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_index(run, manifest, out)
    whole = content(out)
    os.truncate(next(out.glob("vectors*")), 5000)
    assert build_index(run, manifest, out).embedded == 7
    assert content(out) == whole
    (out / "index.json").write_text('{"version": 1, "model_sha256": ""}')
    (out / "embeddings-0123456789abcdef.safetensors").write_bytes(b"of version 1")
    assert build_index(run, manifest, out).was_built
    assert content(out) == whole
    (out / "index.json").unlink()  # a kill before the last file
    assert build_index(run, manifest, out).was_built
    assert content(out) == whole


def test_a_failed_build_keeps_what_it_finished(
    run: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval.building, "BATCH", 2)
    build_index(run, manifest, tmp_path / "whole")
    sound = manifest / "audio" / "soundbible-6.flac"
    kept = sound.read_bytes()
    sound.write_bytes(kept[:-1])
    out = tmp_path / "index"
    with pytest.raises(IndexFolderError, match=r"soundbible-6\.flac"):
        build_index(run, manifest, out)
    (damaged, *_) = (out / "parts").rglob("*.safetensors")
    damaged.write_bytes(damaged.read_bytes()[:100])
    sound.write_bytes(kept)
    assert build_index(run, manifest, out).embedded == 7 - 2, "of two whole batches one was damaged"
    assert np.abs(Index.open(out).embeddings - Index.open(tmp_path / "whole").embeddings).max() < 1e-6
    assert not (out / "parts").exists()


def test_a_killed_build_goes_on_to_the_same_bytes(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, out = write_clips(tmp_path / "curated", count=24), tmp_path / "index"
    code = (
        "import sys, retrieval.building as b; from pathlib import Path; b.BATCH = 4; "
        "b.build_index(*map(Path, sys.argv[1:]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(run), str(manifest), str(out)])
    deadline = time.monotonic() + 60
    while len(list(out.rglob("*.safetensors"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)
    if process.poll() is None:
        with pytest.raises(IndexFolderError, match="another wavtext5k-search index is at work there"):
            build_index(run, manifest, out)
        assert not (out / "index.json").exists()
    process.kill()
    process.wait()
    monkeypatch.setattr(retrieval.building, "BATCH", 4)
    assert build_index(run, manifest, out).embedded <= 24 - 3 * 4
    build_index(run, manifest, tmp_path / "whole")
    assert content(out) == content(tmp_path / "whole")


def test_a_full_disk_leaves_the_index_before_it(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "index"
    build_index(run, write_clips(tmp_path / "curated", count=3), out)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(retrieval.building, "write_tensors", full)
    with pytest.raises(OSError, match="No space"):
        build_index(run, write_clips(tmp_path / "more", count=5), out)
    assert len(Index.open(out)) == 3
    monkeypatch.undo()
    assert build_index(run, tmp_path / "more", out).embedded == 0, "nothing embedded was lost"


def test_tensors_are_written_as_safetensors_writes_them(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    tensors = {"a": torch.randn(5, 3), "b": torch.randn(4, 7).bfloat16(), "c": torch.zeros((0, 3))}
    file = tmp_path / "x.safetensors"
    write_tensors(file, {name: (each.dtype, tuple(each.shape), each.split(2)) for name, each in tensors.items()})
    found = load_file(file)
    assert all(torch.equal(found[name], each) for name, each in tensors.items())
    with pytest.raises(ValueError, match="a: 5 rows came, 6 were promised"):
        write_tensors(file, {"a": (torch.float32, (6, 3), [tensors["a"]])})
    assert torch.equal(load_file(file)["a"], tensors["a"]), "the file before it is still there"


def test_a_store_takes_only_its_own_dtype(tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "parts" / "x", dtype=torch.float32)
    with pytest.raises(ValueError, match=r"must be torch\.float32, got torch\.bfloat16"):
        store.add(["a"], torch.zeros(1, 3).bfloat16())


def test_an_index_that_is_up_to_date_leaves_another_build_alone(run: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_index(run, manifest, out)
    part = out / "vectors-0123456789abcdef.safetensors.part"
    part.write_text("of a build under way")
    with retrieval.building._locked(out):
        assert not build_index(run, manifest, out).was_built
    assert part.is_file()
    build_index(run, manifest, out)
    assert not part.exists()


def test_an_index_that_another_build_replaces_stays_the_new_one(
    run: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A touched manifest has a new time to be noted; not in the index that has come in between."""
    out, other = str(tmp_path / "index"), write_clips(tmp_path / "other", count=2)
    build_index(str(run), str(manifest), out)
    os.utime(manifest / "manifest.parquet", ns=(1, 1))

    def is_whole(folder: Path) -> bool:
        monkeypatch.undo()
        return build_index(run, other, folder).was_built

    monkeypatch.setattr("retrieval.building._is_whole", is_whole)
    assert not build_index(run, manifest, out).was_built
    assert len(Index.open(out)) == 2
    with pytest.raises(ValueError, match="no manifest is named"):
        build_index(run, [], out)
