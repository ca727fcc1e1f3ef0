"""What readers find in the shards: pyarrow, datasets, webdataset, and what two trainers ask of a tar."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import webdataset
import yaml
from webdataset import tariterators

from curation.exports.policy import Policy
from curation.exports.run import export
from curation.exports.selection import ExportOptions
from curation.manifest import SCHEMA, read_manifest, write_manifest
from tests.curation.curated import make_manifest
from tests.support.audio import write_waveform

CLIPS = [
    {"tags": [], "split": "train"},
    {"source": "clotho", "clip_id": "clotho-train-a.b.wav", "captions": ["One, two.", "Drei."], "split": "train"},
    {"title": "Größe | ✓", "split": "val"},
    {"license": "personal-use", "title": "Mine", "split": "train"},
    {"license": "cc0-1.0", "labels": ["bell"], "fold": 3, "split": "test"},
]

TARS = ExportOptions(format="webdataset")

OPENED = """
import json, sys, types
import datasets

cache, *folders = sys.argv[1:]
for folder in folders:
    found = datasets.load_dataset(folder, cache_dir=cache)
    features = {name: repr(feature) for name, feature in found["train"].features.items()}
    column = "audio" if "audio" in features else "flac"
    clip = found["train"].cast_column(column, datasets.Audio(decode=False))[0]
    clip[column]["bytes"] = clip[column]["bytes"].hex()
    print(json.dumps({"rows": {split: len(found[split]) for split in found}, "features": features, "clip": clip}))
    # It cannot store tars' audio without torchcodec, not even bytes that it only passes through.
    sys.modules |= {name: types.ModuleType(name) for name in ("torchcodec", "torchcodec.encoders")}
    sys.modules["torchcodec.encoders"].AudioEncoder = None
"""


@pytest.fixture(scope="module")
def opened(parquet, tmp_path_factory):
    """What datasets finds in an export as Parquet and in one as tars, in another process, without the network."""
    folder = tmp_path_factory.mktemp("opened")
    clips = [{"tags": []}] * 6 + [{"tags": ["late"], "title": "Late"}] * 6
    export(make_manifest(folder / "curated", *clips, seconds=0.01), folder / "out", options=TARS)
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    command = [sys.executable, "-c", OPENED, str(folder / "cache"), str(parquet), str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    return make_manifest(tmp_path_factory.mktemp("curated"), *CLIPS)


@pytest.fixture(scope="module")
def parquet(curated, tmp_path_factory):
    out = tmp_path_factory.mktemp("parquet") / "out"
    export(curated, out)
    return out


@pytest.fixture(scope="module")
def tars(curated, tmp_path_factory):
    out = tmp_path_factory.mktemp("tars") / "out"
    export(curated, out, options=TARS)
    return out


def samples(folder):
    """Return what webdataset makes of a folder's tars; opened here, since it leaves them open."""
    found = []
    for file in sorted(folder.glob("*.tar")):
        with file.open("rb") as stream:
            opened = [{"url": str(file), "stream": stream}]
            clips = tariterators.group_by_keys(tariterators.tar_file_expander(opened))
            found += webdataset.DataPipeline(lambda clips=clips: clips, webdataset.decode())
    return found


def test_a_row_of_parquet_is_a_row_of_the_manifest_with_its_sound(curated, parquet):
    manifest = {clip["clip_id"]: clip for clip in read_manifest(curated).to_pylist()}
    rows = pq.read_table(parquet / "data/train-00000-of-00001.parquet").to_pylist()
    assert [row["clip_id"] for row in rows] == ["clotho-train-a.b.wav", "soundbible-1"]
    for row in rows:
        clip = manifest[row["clip_id"]]
        assert {name: row[name] for name in SCHEMA.names} == clip
        assert row["audio"]["bytes"] == (curated / clip["audio_path"]).read_bytes()
        assert row["audio"]["path"] == f"{row['clip_id']}.flac"
    assert [row["text"] for row in rows] == [["One, two.", "Drei."], ["Bell. A bell."]]


def test_datasets_opens_parquet_with_playable_audio_and_every_split(opened):
    found = opened[0]
    assert found["rows"] == {"train": 2, "val": 1, "test": 1}
    assert found["features"]["audio"].startswith("Audio(sampling_rate=44100, decode=True")
    assert found["features"]["tags"] == "List(Value('string'))"
    assert list(found["features"])[:6] == ["clip_id", "audio", "text", "title", "description", "tags"]
    assert set(found["features"]) == {*SCHEMA.names, "audio", "text"}
    clip = found["clip"]
    waveform, sample_rate = soundfile.read(io.BytesIO(bytes.fromhex(clip["audio"]["bytes"])))
    assert (len(waveform), sample_rate) == (clip["num_samples"], 44_100)
    assert clip["text"] == ["One, two.", "Drei."]


def test_datasets_opens_tars_whose_first_clips_have_no_tags(opened):
    found = opened[1]
    assert found["rows"] == {"train": 12}
    assert "'tag': List(Value('string'))" in found["features"]["json"]


def test_text_goes_out_without_sound_when_asked_for(tmp_path, curated):
    export(curated, tmp_path / "out", options=ExportOptions(keep_text=True))
    rows = pq.read_table(tmp_path / "out/data/train-00000-of-00001.parquet").to_pylist()
    assert [(row["title"], row["audio"] is None) for row in rows] == [("Bell", False), ("Bell", False), ("Mine", True)]
    left_out = pq.read_table(tmp_path / "out/left_out.parquet").to_pylist()
    assert [clip["detail"] for clip in left_out] == ["license is personal-use; its text is in the shards"]


def test_row_groups_are_small_and_pages_are_indexed(tmp_path):
    curated = make_manifest(tmp_path / "curated", *[{}] * 203, seconds=0.01)
    export(curated, tmp_path / "out")
    file = pq.ParquetFile(tmp_path / "out/data/train-00000-of-00001.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(3)] == [100, 100, 3]
    first = file.metadata.row_group(0)
    columns = {first.column(number).path_in_schema: first.column(number) for number in range(first.num_columns)}
    assert all(column.has_offset_index for column in columns.values())
    with_dictionary = {name for name, column in columns.items() if "RLE_DICTIONARY" in column.encodings}
    assert {"license", "split", "tags.list.element"} <= with_dictionary
    assert not with_dictionary & {"audio.bytes", "audio.path", "clip_id", "title", "sha256"}


def test_the_same_export_has_the_same_bytes(tmp_path, curated, parquet, tars):
    for earlier, options in ((parquet, ExportOptions()), (tars, TARS)):
        again = tmp_path / earlier.parent.name
        export(curated, again, options=options)
        files = [file.relative_to(earlier) for file in earlier.rglob("*") if file.is_file()]
        assert len(files) >= 7
        assert all((again / file).read_bytes() == (earlier / file).read_bytes() for file in files)


def test_webdataset_reads_every_clip_whole(curated, tars):
    manifest = {clip["clip_id"]: clip for clip in read_manifest(curated).to_pylist()}
    found = {sample["__key__"]: sample for sample in samples(tars / "train")}
    assert set(found) == {"soundbible-1", "clotho-train-a%2Eb%2Ewav"}  # a dot would end the key there
    dotted = found["clotho-train-a%2Eb%2Ewav"]
    assert dotted["flac"] == (curated / "audio/clotho-train-a.b.wav.flac").read_bytes()
    assert dotted["json"]["original_data"] == manifest["clotho-train-a.b.wav"]
    assert dotted["txt"] == "One, two."
    assert {key for key in dotted if not key.startswith("__")} == {"flac", "json", "txt"}


def test_a_tar_is_what_laion_clap_asks_for(tars):
    # From its code: the folder of a split is train, valid or test; sizes.json names every tar in it and counts its
    # clips; of a clip's json it takes "text", a list that must not be empty, and with classes "tag".
    assert sorted(path.parent.name for path in tars.glob("*/sizes.json")) == ["test", "train", "valid"]
    for sizes in tars.glob("*/sizes.json"):
        counted = json.loads(sizes.read_text())
        assert sorted(counted) == sorted(tar.name for tar in sizes.parent.glob("*.tar"))
        assert sum(counted.values()) == len(samples(sizes.parent)) > 0
    (clip,) = samples(tars / "test")
    assert clip["json"]["text"] == ["Bell. A bell."]
    assert clip["json"]["tag"] == ["bell", "metal"]  # tags and classes, each once


def test_a_tar_is_what_open_clip_asks_for(tars):
    # From its code: flac and one of json, txt and cls; of the json one of "text" by chance, where it is a list.
    for clip in samples(tars / "train"):
        assert isinstance(clip["flac"], bytes)
        assert isinstance(random.choice(clip["json"]["text"]), str)


def test_tars_have_neither_time_nor_owner(tars):
    with tarfile.open(tars / "train/train-000000.tar") as tar:
        members = tar.getmembers()
    assert [member.name.rpartition(".")[2] for member in members] == ["flac", "json", "txt"] * 2
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, 0, "", "")
    }


def test_a_long_name_goes_into_a_tar(tmp_path):
    clip_id = "soundbible-" + "x" * 180
    curated = make_manifest(tmp_path / "curated", {"clip_id": clip_id})
    export(curated, tmp_path / "out", options=TARS)
    (clip,) = samples(tmp_path / "out/train")
    assert clip["__key__"] == clip_id


def test_other_rates_are_declared(tmp_path, curated):
    for format_ in ("parquet", "webdataset"):
        export(curated, tmp_path / format_, options=ExportOptions(format=format_, sample_rate=48_000))
    (clip,) = samples(tmp_path / "webdataset/test")
    assert soundfile.info(io.BytesIO(clip["flac"])).samplerate == 48_000
    assert clip["json"]["original_data"]["sample_rate"] == 48_000
    table = pq.read_table(tmp_path / "parquet/data/test-00000-of-00001.parquet")
    assert soundfile.info(io.BytesIO(table["audio"][0]["bytes"].as_py())).samplerate == 48_000
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["audio"] == {"sampling_rate": 48_000, "_type": "Audio"}


def test_a_shard_keeps_its_columns_when_pandas_reads_it(parquet):
    frame = pq.read_table(parquet / "data/val-00000-of-00001.parquet").to_pandas()
    assert frame.loc[0, "title"] == "Größe | ✓"
    assert frame.loc[0, "audio"]["bytes"].startswith(b"fLaC")


def test_the_readme_says_what_is_where_and_under_which_licence(curated, parquet, tars):
    for folder, paths in (
        (parquet, ["data/train-*", "data/val-*", "data/test-*"]),
        (tars, ["train/*.tar", "valid/*.tar", "test/*.tar"]),
    ):
        text = (folder / "README.md").read_text(encoding="utf-8")
        front = yaml.safe_load(text.split("---")[1])
        (config,) = front["configs"]
        assert [(file["split"], file["path"]) for file in config["data_files"]] == list(
            zip(("train", "val", "test"), paths, strict=True)
        )
        assert (front["license"], front["license_name"]) == ("other", "mixed-see-each-clip")
        assert "| CC0 1.0 | 1 | yes | none |" in text
        assert (front["pretty_name"], front["language"]) == ("Clotho and SoundBible", ["en"])
        assert {"audio", "sound-effects", "clap"} <= set(front["tags"])
        assert "| `license_excluded` | 1 |" in text
    assert "--sample-rate 48000" in (tars / "README.md").read_text(encoding="utf-8")


def test_one_licence_is_named_as_the_hub_knows_it(tmp_path, curated):
    for policy, expected in (
        (Policy(splits=("test",)), {"license": "cc0-1.0"}),
        (Policy(include=("personal-use",), exclude=("cc0-1.0", "cc-by-3.0")), {"license": "other"}),
    ):
        export(curated, tmp_path, options=ExportOptions(policy=policy))
        front = yaml.safe_load((tmp_path / "README.md").read_text(encoding="utf-8").split("---")[1])
        assert front.items() >= expected.items()
    assert front["license_name"] == "personal-use"
    assert "| personal use only | 1 | no | personal use only |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "may not be passed on: this export is for your own use only" in (tmp_path / "README.md").read_text(
        encoding="utf-8"
    )


def test_everyone_is_credited_in_one_line(curated, parquet):
    lines = (parquet / "ATTRIBUTION.txt").read_text(encoding="utf-8").splitlines()
    credited = [line for line in lines if line.startswith(("soundbible-", "clotho-"))]
    assert len(credited) == 4
    assert credited[1] == 'soundbible-1: "Bell" by Ann, CC BY 3.0; changed: resampled: 48000 to 44100 Hz'


def credits_of(folder):
    lines = (folder / "ATTRIBUTION.txt").read_text(encoding="utf-8").splitlines()
    return {line.partition(": ")[0]: line for line in lines if line.startswith("soundbible-")}


@pytest.mark.parametrize("format_", ["parquet", "webdataset"])
def test_credits_say_what_the_rows_say_was_changed(tmp_path, format_):
    curated = make_manifest(tmp_path / "curated", {}, {"modifications": []}, {"license": "personal-use"})
    square = np.sign(np.sin(2 * np.pi * 1000 * np.arange(8_820) / 44_100 + 0.1)) * 32_767 / 32_768
    loud = write_waveform(curated / "audio/soundbible-2.flac", square).read_bytes()
    rows = read_manifest(curated).to_pylist()
    rows[1] |= {"sha256": hashlib.sha256(loud).hexdigest(), "num_samples": 8_820, "duration_s": 0.2}
    write_manifest(curated, rows)
    out = tmp_path / "out"
    keep_text = format_ == "parquet"
    options = ExportOptions(format=format_, sample_rate=48_000, shard_bytes=1000, keep_text=keep_text)
    with pytest.MonkeyPatch.context() as patched:  # stopped after all shards, so that they are not read again
        patched.setattr("curation.exports.run._write_tables", lambda *arguments: sys.exit(9))
        with pytest.raises(SystemExit):
            export(curated, out, options=options)
    export(curated, out, options=options)
    if format_ == "parquet":
        found = [row for file in sorted(out.glob("data/*")) for row in pq.read_table(file).to_pylist()]
    else:
        found = [sample["json"]["original_data"] for sample in samples(out / "train")]
    said = {row["clip_id"]: row["modifications"] for row in found}
    assert said["soundbible-1"] == ["resampled: 48000 to 44100 Hz", "resampled: 44100 to 48000 Hz"]
    assert said["soundbible-2"][0] == "resampled: 44100 to 48000 Hz"
    assert said["soundbible-2"][1].startswith("scaled: -")
    assert ("soundbible-3" in said) == keep_text
    credited = credits_of(out)
    assert credited.keys() == said.keys()
    for clip_id, line in credited.items():
        assert line.endswith(f"; changed: {', '.join(said[clip_id])}")


def test_left_out_is_a_table_that_says_why(parquet):
    table = pq.read_table(parquet / "left_out.parquet")
    assert table.schema.field("reason").type == pa.string()
    assert table.to_pylist() == [
        {
            "clip_id": "soundbible-4",
            "source": "soundbible",
            "source_id": "4",
            "license": "personal-use",
            "reason": "license_excluded",
            "detail": "license is personal-use",
        }
    ]
