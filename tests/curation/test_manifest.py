from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import audio
from curation.audio import write_flac
from curation.errors import ManifestError
from curation.manifest import (
    DROPPED_SCHEMA,
    MANIFEST_VERSION,
    SCHEMA,
    dropped_table,
    manifest_folder,
    manifest_hash,
    read_manifest,
    validate_manifest,
    write_manifest,
)
from curation.rules import SAMPLE_RATE
from tests.curation.support import row


def write_unchecked(path, rows, schema=SCHEMA):
    """What any other program may have written."""
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def test_columns_are_those_of_the_contract():
    contract = (
        "clip_id source source_id origin origin_id page_url audio_url retrieved_at title description tags captions "
        "labels fold author license license_url attribution audio_path sha256 pcm_sha256 duplicate_group sample_rate "
        "num_samples duration_s peak_dbfs rms_dbfs source_sample_rate source_channels source_subtype "
        "modifications split"
    )
    assert " ".join(SCHEMA.names) == contract
    assert " ".join(DROPPED_SCHEMA.names) == "clip_id source source_id reason detail"
    kinds = {name: str(SCHEMA.field(name).type) for name in ("fold", "sample_rate", "num_samples", "source_channels")}
    assert kinds == {"fold": "int16", "sample_rate": "int32", "num_samples": "int64", "source_channels": "int16"}


def test_rows_come_back_in_order_and_equal(tmp_path):
    write_manifest(tmp_path, [row(2), row(1), row(10)])
    table = read_manifest(tmp_path)
    assert table.to_pylist() == [row(1), row(10), row(2)]
    assert table.to_pandas().loc[0, "title"] == "Bell"
    assert read_manifest(tmp_path / "manifest.parquet").equals(table)
    assert manifest_folder(tmp_path) == manifest_folder(tmp_path / "manifest.parquet") == tmp_path


def test_the_same_rows_give_the_same_bytes(tmp_path):
    write_manifest(tmp_path / "a", [row(1), row(2)])
    write_manifest(tmp_path / "b", [row(2), row(1)])
    assert manifest_hash(tmp_path / "a") == manifest_hash(tmp_path / "b")


def test_metadata_carries_version_and_features(tmp_path):
    write_manifest(tmp_path, [row(1)])
    metadata = pq.read_schema(tmp_path / "manifest.parquet").metadata
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    assert metadata[b"manifest_version"] == MANIFEST_VERSION.encode()
    assert list(features) == SCHEMA.names
    assert features["tags"] == {"_type": "List", "feature": {"_type": "Value", "dtype": "string"}}
    assert features["duration_s"] == {"_type": "Value", "dtype": "float64"}
    assert features["peak_dbfs"] == {"_type": "Value", "dtype": "float32"}


def test_a_manifest_may_be_empty(tmp_path):
    write_manifest(tmp_path, [])
    assert len(read_manifest(tmp_path)) == 0
    assert validate_manifest(tmp_path, read_audio=True) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": None}, "title is None, must not be null"),
        ({"loudness": 3}, "unknown key 'loudness'; known: clip_id, "),
        ({"num_samples": 1.5}, r"num_samples is 1\.5, must be a whole number"),
        ({"num_samples": True}, "num_samples is True, must be a whole number"),
        ({"fold": 40_000}, "fold is 40000, must fit into int16"),
        ({"title": 3}, "title is 3, must be a string"),
        ({"title": "\ud800"}, r"title is .*, must be valid Unicode"),
        ({"tags": "bell"}, "tags is 'bell', must be a list of strings"),
        ({"tags": ["bell", None]}, r"tags is .*, in it must be a string"),
        ({"duration_s": "1"}, "duration_s is '1', must be a number"),
        ({"peak_dbfs": float("-inf")}, "peak_dbfs is -inf, must be finite"),
    ],
)
def test_what_arrow_takes_in_silence_is_refused(tmp_path, change, message):
    with pytest.raises(ManifestError, match=rf"manifest\.parquet: row 1 \(clip_id 'soundbible-2'\): {message}"):
        write_manifest(tmp_path, [row(1), row(2, **change)])
    assert list(tmp_path.iterdir()) == []


def test_kinds_of_strings_and_numbers_are_strings_and_numbers(tmp_path):
    write_manifest(tmp_path, [row(1, peak_dbfs=np.float64(-6), source_subtype=np.str_("PCM_16"), duration_s=0.5)])
    assert read_manifest(tmp_path).to_pylist() == [row(1)]


def test_a_missing_key_is_refused(tmp_path):
    short = row(1)
    del short["captions"]
    with pytest.raises(ManifestError, match=r"row 0 \(clip_id 'soundbible-1'\): captions is missing"):
        write_manifest(tmp_path, [short])


BROKEN = [
    ({"clip_id": "soundbible-2/../x"}, "clip_id is .*must match"),
    ({"clip_id": "soundbible-" + "2" * 200}, "clip_id is .*at most 200 characters"),
    ({"clip_id": "soundbible-1"}, "clip_id is 'soundbible-1', must come after the clip_id of the row before"),
    ({"clip_id": "tother-2"}, "clip_id is 'tother-2', must begin with the source"),
    ({"audio_path": "/audio/a.flac"}, "audio_path is '/audio/a.flac', must be relative"),
    ({"audio_path": "audio/../../a.flac"}, "audio_path is .*must be relative"),
    ({"audio_path": "audio\\a.flac"}, "audio_path is .*must be relative"),
    ({"audio_path": ""}, "audio_path is '', must be relative"),
    ({"license": "mit"}, "license is 'mit', must be one of cc0-1.0, "),
    ({"sha256": "00"}, "sha256 is '00', must be 64 hexadecimal digits"),
    ({"pcm_sha256": "G" * 64}, "pcm_sha256 is .*hexadecimal"),
    ({"duplicate_group": ""}, "duplicate_group is '', must match"),
    ({"sample_rate": 48_000}, "sample_rate is 48000, must be 44100"),
    ({"num_samples": 0, "duration_s": 0.0}, "num_samples is 0, must be greater than 0"),
    ({"duration_s": 0.0}, r"duration_s is 0\.0, must be greater than 0"),
    ({"duration_s": 0.6}, r"duration_s is 0\.6, must be num_samples / sample_rate"),
    ({"peak_dbfs": 0.5}, r"peak_dbfs is 0\.5, must be finite and at most 0"),
    ({"rms_dbfs": -1.0}, r"rms_dbfs is -1\.0, must be at most peak_dbfs"),
    ({"source_sample_rate": 0}, "source_sample_rate is 0, must be greater than 0"),
    ({"source_channels": 0}, "source_channels is 0, must be greater than 0"),
    ({"fold": -2}, "fold is -2, must be -1 or more"),
    ({"split": ""}, "split is '', must not be empty"),
    ({"tags": ["a", "b", "a"]}, r"tags is \['a', 'b', 'a'\], must be unique"),
    ({"tags": ["Dog"]}, r"tags is \['Dog'\], must be lower case"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_a_row_that_breaks_a_rule_is_named(tmp_path, change, message):
    rows = [row(1), row(2, **change)]
    file = write_unchecked(tmp_path / "manifest.parquet", rows)
    with pytest.raises(ManifestError, match=rf"manifest\.parquet: row 1 \(clip_id '.*'\): {message}"):
        read_manifest(file)
    assert any(problem.startswith("row 1 ") for problem in validate_manifest(file))


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("column", ["peak_dbfs", "rms_dbfs", "duration_s"])
def test_numbers_that_are_none_are_found_on_reading(tmp_path, column, value):
    file = write_unchecked(tmp_path / "manifest.parquet", [row(1, **{column: value})])
    with pytest.raises(ManifestError, match=rf"row 0 .*{column} is {value}"):
        read_manifest(file)


@pytest.mark.parametrize(
    ("change", "message"), [({"title": None}, "title is null"), ({"tags": ["a", None]}, "tags has a null in it")]
)
def test_nulls_are_found_on_reading(tmp_path, change, message):
    nullable = pa.schema(
        [pa.field(f.name, pa.list_(pa.string()) if pa.types.is_list(f.type) else f.type) for f in SCHEMA],
        metadata=SCHEMA.metadata,
    )
    file = tmp_path / "manifest.parquet"
    pq.write_table(pa.Table.from_pylist([row(1), row(2, **change)], schema=nullable), file)
    with pytest.raises(ManifestError, match=rf"(row 1 \(clip_id 'soundbible-2'\): {message}|column 'tags' is of type)"):
        read_manifest(file)


def test_every_bad_row_is_counted_and_twenty_are_named(tmp_path):
    rows = [row(number, split="") for number in range(100, 150)]
    file = write_unchecked(tmp_path / "manifest.parquet", rows)
    problems = validate_manifest(file)
    assert len(problems) == 21
    assert problems[-1] == "30 more rows: split must not be empty"
    with pytest.raises(ManifestError, match=r"and 49 more: wavtext5k-curate validate .*manifest\.parquet\)"):
        read_manifest(file)


def test_another_version_is_named_with_the_way_out(tmp_path):
    file = tmp_path / "manifest.parquet"
    old = pa.schema([field for field in SCHEMA if field.name != "captions"])
    write_unchecked(file, [{key: value for key, value in row(1).items() if key != "captions"}], schema=old)
    with pytest.raises(ManifestError) as caught:
        read_manifest(file)
    assert str(caught.value) == (
        f"{file}: column 'captions' is missing (manifest version 0, this code reads 1); "
        "rebuild it with: wavtext5k-curate build"
    )


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            SCHEMA.with_metadata({"manifest_version": "2"}),
            r"written by another version \(manifest version 2, this code",
        ),
        (SCHEMA.append(pa.field("extra", pa.string())), "column 'extra' is not part of a manifest"),
        (
            SCHEMA.set(SCHEMA.get_field_index("fold"), pa.field("fold", pa.int64())),
            "column 'fold' is of type int64, must be int16",
        ),
    ],
)
def test_other_columns_are_refused(tmp_path, schema, message):
    file = write_unchecked(tmp_path / "manifest.parquet", [row(1)], schema=schema)
    with pytest.raises(ManifestError, match=message):
        read_manifest(file)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"manifest\.parquet: no such manifest; build it with"):
        read_manifest(tmp_path)
    (tmp_path / ".work").mkdir()
    with pytest.raises(ManifestError, match="the build there is not finished"):
        manifest_hash(tmp_path)
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ManifestError, match="not a whole Parquet file"):
        read_manifest(tmp_path)


def test_validate_finds_what_is_wrong_with_audio(tmp_path):
    pcm = np.arange(22_050, dtype=np.int16)
    digest = write_flac(tmp_path / "audio" / "soundbible-1.flac", pcm)
    write_flac(tmp_path / "audio" / "soundbible-2.flac", pcm[:100])
    short = write_flac(tmp_path / "audio" / "soundbible-3.flac", pcm[:100])
    rows = [row(1, sha256=digest), row(2), row(3, sha256=short), row(4)]
    write_manifest(tmp_path, rows)
    absent = "row 3 (clip_id 'soundbible-4'): audio/soundbible-4.flac: no such file"
    assert validate_manifest(tmp_path) == [absent]
    assert validate_manifest(tmp_path, read_audio=True) == [
        f"row 1 (clip_id 'soundbible-2'): audio/soundbible-2.flac: sha256 is {short}, must be {'0' * 64}",
        "row 2 (clip_id 'soundbible-3'): audio/soundbible-3.flac: 100 samples, must be 22050",
        absent,
    ]


def test_a_drop_reason_is_one_of_the_contracts(tmp_path):
    drop = {"clip_id": "soundbible-1", "source": "soundbible", "source_id": "1", "reason": "silent", "detail": ""}
    assert dropped_table([drop], file=tmp_path).to_pylist() == [drop]
    with pytest.raises(ManifestError, match=r"row 0 \(clip_id 'soundbible-1'\): reason is 'boring', must be one of"):
        dropped_table([drop | {"reason": "boring"}], file=tmp_path)


def test_rules_and_decoder_agree_on_the_rate():
    assert SAMPLE_RATE == audio.SAMPLE_RATE
