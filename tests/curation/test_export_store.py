"""Exports from and to an object store."""

from __future__ import annotations

import pytest
from s3fs import S3FileSystem

from curation.exports import folder as export_folder
from curation.exports.run import export
from curation.exports.selection import ExportOptions
from curation.storage import place
from tests.curation.curated import EXPORTS, SMALL, make_nine
from tests.curation.support import contents
from tests.support.store import other_program, s3_server


@pytest.fixture
def curated(tmp_path):
    return make_nine(tmp_path / "curated")


@pytest.fixture
def s3(monkeypatch):
    with s3_server() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()  # fsspec keeps connections to the server of an earlier test
        yield other_program(variables)
    S3FileSystem.clear_instance_cache()


def in_bucket(client, prefix):
    listed = client.list_objects_v2(Bucket="bucket", Prefix=prefix)["Contents"]
    bodies = {item["Key"]: client.get_object(Bucket="bucket", Key=item["Key"])["Body"].read() for item in listed}
    return {key.removeprefix(prefix): body for key, body in bodies.items()}


def test_a_store_gets_the_same_bytes_and_gives_them_too(tmp_path, curated, s3):
    for name, content in contents(curated).items():
        s3.put_object(Bucket="bucket", Key=f"curated/{name}", Body=content)
    manifest = place("s3://bucket/curated")
    for format_, options in EXPORTS.items():
        export(curated, tmp_path / format_, options=options)
        out = place(f"s3://bucket/{format_}")
        assert export(manifest, out, options=ExportOptions(format=format_, shard_bytes=20_000)).is_new
        assert export(manifest, out, options=options).is_new
        assert not export(manifest, out, options=options).is_new
        assert in_bucket(s3, f"{format_}/") == contents(tmp_path / format_)


def test_an_export_to_a_store_that_is_stopped_has_no_index_and_goes_on(tmp_path, curated, s3, monkeypatch):
    out = place("s3://bucket/out")
    export(curated, out, options=ExportOptions(shard_bytes=20_000))
    written = []

    def stop(place, local, real=export_folder.put_whole):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(place)
        real(place, local)

    with monkeypatch.context() as patched:
        patched.setattr(export_folder, "put_whole", stop)
        with pytest.raises(KeyboardInterrupt):
            export(curated, out, options=SMALL)
    assert "export.json" not in in_bucket(s3, "out/")
    with monkeypatch.context() as patched:
        patched.setattr(
            export_folder,
            "put_whole",
            lambda place, local, real=export_folder.put_whole: (written.append(place), real(place, local)),
        )
        export(curated, out, options=SMALL)
    shards = [place.name for place in written if place.parent.name == "data"]
    assert len(shards) == len(set(shards)) == 5
    export(curated, tmp_path / "fresh", options=SMALL)
    assert in_bucket(s3, "out/") == contents(tmp_path / "fresh")
