"""The whole of an export: what goes out, what stays, and what is left when it is stopped, repeated or in the way."""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import shutil
import subprocess
import time
from collections import Counter

import pyarrow.parquet as pq
import pytest
from s3fs import S3FileSystem

from crawler.items import take_lock
from curation.errors import ConfigError, ManifestError, WavTextError
from curation.exports import folder as export_folder
from curation.exports.policy import Policy
from curation.exports.run import export
from curation.exports.selection import ExportOptions
from curation.manifest import read_manifest, write_manifest
from curation.storage import place
from tests.curation.curated import make_manifest
from tests.curation.support import command, contents, run
from tests.support.store import other_program, s3_server

SMALL = ExportOptions(shard_bytes=40_000)  # two clips of 0.2 s
TARS = ExportOptions(format="webdataset", shard_bytes=40_000)
EXPORTS = {"parquet": SMALL, "webdataset": TARS}


@pytest.fixture
def curated(tmp_path):
    """Nine clips in three splits."""
    splits = [{"split": split} for split in ("train", "train", "train", "train", "train", "val", "val", "test", "test")]
    return make_manifest(tmp_path / "curated", *splits)


def names(out):
    return sorted(contents(out))


@pytest.mark.parametrize("format_", EXPORTS)
def test_every_clip_is_exported_or_left_out_with_a_reason(tmp_path, format_):
    licenses = ["cc0-1.0", "unknown", "cc-by-nc-3.0", "personal-use", "cc-by-4.0", "remarc"] * 3
    changes = [
        {"license": name, "split": split} for name, split in zip(licenses, ["train", "val", "test"] * 6, strict=True)
    ]
    changes[0] |= {"title": "", "description": "", "tags": []}
    curated = make_manifest(tmp_path / "curated", *changes, seconds=0.01)
    policy = Policy(opted_out=frozenset({"soundbible-3"}), include=("remarc",), splits=("train", "test"))
    report = export(curated, tmp_path / "out", options=ExportOptions(format=format_, policy=policy))
    left_out = pq.read_table(tmp_path / "out/left_out.parquet").to_pylist()
    clips = report.index["clips"]
    assert clips["in_manifest"] == 18 == clips["exported"] + clips["left_out"]
    assert Counter(row["reason"] for row in left_out) == report.index["left_out"]
    assert {row["clip_id"] for row in left_out if row["reason"] == "opted_out"} == {"soundbible-3"}
    assert ("no_text" in report.index["left_out"]) == (format_ == "webdataset")
    assert not [name for name in names(tmp_path / "out") if "val" in name]


def test_the_index_names_every_file_with_its_hash(tmp_path, curated):
    for format_, options in EXPORTS.items():
        export(curated, tmp_path / format_, options=options)
        files = json.loads((tmp_path / format_ / "export.json").read_text())["files"]
        found = contents(tmp_path / format_)
        assert set(found) == {*files, "export.json"}
        for name, file in files.items():
            assert file == {"sha256": hashlib.sha256(found[name]).hexdigest(), "bytes": len(found[name])}
        assert sum(name.endswith((".parquet", ".tar")) for name in files) > 4


@pytest.mark.parametrize("format_", EXPORTS)
def test_a_second_run_does_nothing(tmp_path, curated, format_):
    out = tmp_path / "out"
    first = export(curated, out, options=EXPORTS[format_])
    before = {file: file.stat().st_mtime_ns for file in [out, *out.rglob("*")]}
    shutil.rmtree(curated / "audio")  # not even looked at
    again = export(curated, out, options=EXPORTS[format_])
    assert (first.is_new, again.is_new) == (True, False)
    assert {file: file.stat().st_mtime_ns for file in [out, *out.rglob("*")]} == before
    assert again.index["clips"] == first.index["clips"]


def test_an_opt_out_that_names_no_clip_changes_nothing(tmp_path, curated):
    export(curated, tmp_path / "out")
    again = export(
        curated, tmp_path / "out", options=ExportOptions(policy=Policy(opted_out=frozenset({"soundbible-99"})))
    )
    assert (again.is_new, again.unmatched_opt_outs) == (False, 1)


@pytest.mark.parametrize("format_", EXPORTS)
def test_a_later_export_leaves_nothing_of_the_one_before(tmp_path, curated, format_):
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    export(curated, out, options=EXPORTS[format_])
    options = ExportOptions(
        format=format_, shard_bytes=60_000, policy=Policy(opted_out=frozenset({"soundbible-1"}), splits=("train",))
    )
    assert export(curated, out, options=options).is_new
    export(curated, fresh, options=options)
    assert contents(out) == contents(fresh)


def test_what_is_lost_is_written_again(tmp_path, curated):
    out = tmp_path / "out"
    export(curated, out, options=SMALL)
    whole = contents(out)
    (out / "data/val-00000-of-00001.parquet").write_bytes(b"")
    (out / "ATTRIBUTION.txt").unlink()
    assert export(curated, out, options=SMALL).is_new
    assert contents(out) == whole


def test_the_other_format_is_not_replaced_unasked(tmp_path, curated):
    out = tmp_path / "out"
    export(curated, out, options=SMALL)
    with pytest.raises(ConfigError, match="out: holds an export as parquet; name another folder, or add --overwrite"):
        export(curated, out, options=TARS)
    export(curated, out, options=ExportOptions(format="webdataset", shard_bytes=40_000, overwrite=True))
    export(curated, tmp_path / "fresh", options=TARS)
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_readme_that_someone_wrote_stays(tmp_path, curated):
    out = tmp_path / "out"
    export(curated, out)
    (out / "README.md").write_text("mine")
    assert not export(curated, out).is_new
    report = export(curated, out, options=SMALL)
    assert report.is_new
    assert report.readme_kept
    assert (out / "README.md").read_text() == "mine"
    (out / "README.md").unlink()
    assert not export(curated, out, options=ExportOptions(shard_bytes=20_000)).readme_kept
    assert not export(curated, out, options=SMALL).readme_kept  # ours, and brought up to date


def test_a_folder_of_something_else_is_refused(tmp_path, curated):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="out: not made by wavtext5k-curate export; name another folder, or add"):
        export(curated, out)
    assert names(out) == ["notes.txt"]
    assert export(curated, out, options=ExportOptions(overwrite=True)).is_new
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("format_", EXPORTS)
def test_a_stranger_among_the_shards_is_refused(tmp_path, curated, format_):
    out = tmp_path / "out"
    stranger = out / {"parquet": "data/train-00000-of-00009.parquet", "webdataset": "train/other.tar"}[format_]
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"")
    options = ExportOptions(format=format_, overwrite=True)
    with pytest.raises(ConfigError, match=f"{stranger.name}: not of this export, but its readers would take it"):
        export(curated, out, options=options)
    stranger.unlink()
    assert export(curated, out, options=options).is_new


def test_what_someone_keeps_where_the_work_goes_is_not_touched(tmp_path, curated):
    kept = tmp_path / "out" / export_folder.WORK_FOLDER / "notes.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"\.export: not of this command, which needs that name; move it away"):
            export(curated, tmp_path / "out", options=ExportOptions(overwrite=overwrite))
    assert kept.read_text() == "mine"


def test_work_that_is_left_over_is_taken_away(tmp_path, curated):
    export(curated, tmp_path / "out")
    (tmp_path / "out" / export_folder.WORK_FOLDER / "data").mkdir(parents=True)
    assert not export(curated, tmp_path / "out").is_new
    assert not (tmp_path / "out" / export_folder.WORK_FOLDER).exists()


def test_the_folder_of_the_manifest_and_a_file_are_no_places(tmp_path, curated):
    for manifest in (curated, curated / "manifest.parquet"):
        with pytest.raises(ConfigError, match="--out must be another folder than the manifest's"):
            export(manifest, curated, options=ExportOptions(overwrite=True))
    with pytest.raises(ConfigError, match="--out must be a folder"):
        export(curated, curated / "manifest.parquet")
    assert export(curated / "manifest.parquet", tmp_path / "out").is_new


def test_one_export_at_a_time_in_a_folder(tmp_path, curated):
    out = tmp_path / "out"
    (out / export_folder.WORK_FOLDER).mkdir(parents=True)
    with (
        take_lock(out / export_folder.WORK_FOLDER / "lock"),
        pytest.raises(WavTextError, match="another export is at work in this folder"),
    ):
        export(curated, out)
    assert export(curated, out).is_new
    assert not (out / export_folder.WORK_FOLDER).exists()


def test_an_index_that_leads_out_of_the_folder_is_not_ours(tmp_path, curated):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    out = tmp_path / "out"
    export(curated, out)
    index = json.loads((out / "export.json").read_text())
    for name in ("../precious.txt", str(precious)):
        (out / "export.json").write_text(json.dumps(index | {"files": {name: {"sha256": "", "bytes": 1}}}))
        with pytest.raises(ConfigError, match="not made by wavtext5k-curate export"):
            export(curated, out, options=SMALL)
    facts = json.dumps({name: index[name] for name in ("made_by", "inputs", "files")})
    for broken in ("", "[]", "{", json.dumps({"made_by": index["made_by"]}), json.dumps(index | {"files": []}), facts):
        (out / "export.json").write_text(broken)
        with pytest.raises(ConfigError, match="not made by wavtext5k-curate export"):
            export(curated, out, options=SMALL)
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("format_", EXPORTS)
def test_an_export_that_fails_leaves_the_one_before_and_goes_on_later(tmp_path, curated, format_):
    out = tmp_path / "out"
    export(curated, out, options=EXPORTS[format_])
    before = contents(out)
    options = ExportOptions(format=format_, shard_bytes=20_000)
    flac = curated / read_manifest(curated)["audio_path"][8].as_py()
    whole = flac.read_bytes()
    flac.write_bytes(whole[:-1] + b"x")
    with pytest.raises(ManifestError, match=r"soundbible-9\.flac: not the file of the manifest"):
        export(curated, out, options=options)
    assert {name: content for name, content in contents(out).items() if not name.startswith(".export/")} == before
    flac.write_bytes(whole)
    finished = {file.name: file.stat().st_mtime_ns for file in (out / ".export").rglob("*.[pt]a*") if file.is_file()}
    assert len(finished) > 2
    assert export(curated, out, options=options).is_new
    after = {file.name: file.stat().st_mtime_ns for file in out.rglob("*.[pt]a*") if file.is_file()}
    kept = [name for name, changed in finished.items() if after.get(name) == changed]
    assert len(kept) == len(finished)
    export(curated, tmp_path / "fresh", options=options)
    assert contents(out) == contents(tmp_path / "fresh")


def test_shards_of_another_plan_are_not_kept(tmp_path, curated):
    """A file that was cut moved the borders between shards; one of the old borders would lose clips."""
    flac = curated / "audio/soundbible-5.flac"
    whole = flac.read_bytes()
    flac.write_bytes(b"")
    with pytest.raises(ManifestError, match="not the file of the manifest"):
        export(curated, tmp_path / "out", options=SMALL)
    flac.write_bytes(whole)
    export(curated, tmp_path / "out", options=SMALL)
    export(curated, tmp_path / "fresh", options=SMALL)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_an_export_stopped_between_any_two_files_goes_on(tmp_path, curated, monkeypatch):
    """Stops after one file more each time, so also while files get their names."""
    options = ExportOptions(shard_bytes=20_000)
    export(curated, tmp_path / "fresh", options=options)
    steps = stopped = 0

    def counted(real):
        def step(*arguments, **named):
            nonlocal steps
            steps += 1
            if steps > stopped:
                raise KeyboardInterrupt
            return real(*arguments, **named)

        return step

    for stopped in range(100):
        out = tmp_path / str(stopped)
        export(curated, out, options=SMALL)
        steps = 0
        with monkeypatch.context() as patched:
            for name in ("open_whole", "put_whole", "write_whole"):
                patched.setattr(export_folder, name, counted(getattr(export_folder, name)))
            with contextlib.suppress(KeyboardInterrupt):
                export(curated, out, options=options)
        if (out / "export.json").exists():
            files = json.loads((out / "export.json").read_text())["files"]
            assert all((out / name).stat().st_size == file["bytes"] for name, file in files.items())
        export(curated, out, options=options)
        assert contents(out) == contents(tmp_path / "fresh")
        if steps <= stopped:
            break
    assert 20 < stopped < 99


@pytest.mark.parametrize(
    "kills", [pytest.param([0.3, 0.9, 1.1], id="few"), pytest.param([0.02] * 100, id="many", marks=pytest.mark.long)]
)
def test_a_killed_export_is_never_taken_for_whole(tmp_path, kills):
    clips = [{"split": ("train", "val")[number % 2]} for number in range(60)]
    curated = make_manifest(tmp_path / "curated", *clips, seconds=0.5)
    options = ExportOptions(shard_bytes=150_000)
    export(curated, tmp_path / "fresh", options=options)
    out, whole = tmp_path / "out", sorted(file.name for file in (tmp_path / "fresh/data").iterdir())
    delay = 0.2
    for wait in kills:
        delay = wait if wait > 0.1 else delay + wait
        process = subprocess.Popen(
            command("export", curated, "--out", out, "--shard-size", "150kB"), stdout=subprocess.PIPE, stderr=-3
        )
        time.sleep(delay)
        process.kill()
        process.communicate()
        if (out / "export.json").exists():
            assert contents(out).items() >= contents(tmp_path / "fresh").items()
        else:
            shards = sorted(file.name for file in out.glob("data/*"))
            assert shards in ([], whole)  # never some of them: not every reader looks for export.json
    export(curated, out, options=options)
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_full_disk_is_named_and_leaves_no_half_files(tmp_path, curated):
    def no_space():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    for format_ in EXPORTS:
        out = tmp_path / format_
        done = run("export", curated, "--out", out, "--format", format_, "--shard-size", "1MB", preexec_fn=no_space)
        assert done.returncode == 1
        assert "error: no space left on the disk: " in done.stderr
        assert "Traceback" not in done.stderr
        assert not [name for name in names(out) if name.endswith(".part") or not name.startswith(".export/")]
        assert export(curated, out, options=ExportOptions(format=format_, shard_bytes=10**6)).is_new


def test_broken_manifests_and_missing_audio_are_refused(tmp_path, curated):
    with pytest.raises(ManifestError, match="no such manifest"):
        export(tmp_path / "nowhere", tmp_path / "out")
    write_manifest(tmp_path / "empty", [])
    with pytest.raises(ManifestError, match=r"no clip may be exported \(it has no clips\)"):
        export(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ManifestError, match=r"no clip may be exported \(license_excluded 9\); --include-license"):
        export(curated, tmp_path / "out", options=ExportOptions(policy=Policy(exclude=("cc-by-3.0",))))
    shutil.rmtree(curated / "audio")
    with pytest.raises(ManifestError, match=r"soundbible-1\.flac: no such file; .*\(and 8 more clips\)"):
        export(curated, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("split", ["a b", "../train", "all", "val-2", "é", ".hidden"])
def test_a_split_that_readers_cannot_name_is_refused(tmp_path, split):
    curated = make_manifest(tmp_path / "curated", {}, {"split": split})
    with pytest.raises(ManifestError, match="is no name for one"):
        export(curated, tmp_path / "out")
    report = export(curated, tmp_path / "out", options=ExportOptions(policy=Policy(splits=("train",))))
    assert report.index["left_out"] == {"other_split": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tar"}, "format is 'tar', must be one of parquet, webdataset"),
        ({"template": "{name}"}, r"caption template '\{name\}' must be made of"),
        ({"shard_bytes": 0}, "shard_bytes=0 must be greater than 0"),
        ({"sample_rate": 0}, "sample_rate=0 must be between 8000 and 192000 Hz"),
        ({"format": "webdataset", "keep_text": True}, "text without sound goes into parquet only"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ExportOptions(**options)


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


def test_memory_holds_one_group_not_one_shard(tmp_path):
    # 24 clips of 4.2 MB each: 100 MB in one shard; groups of 20 MB.
    curated = make_manifest(tmp_path / "curated", *[{}] * 4, seconds=50.0)
    rows_ = read_manifest(curated).to_pylist()
    many = [
        rows_[number % 4] | {"clip_id": f"soundbible-{number}", "source_id": str(number)} for number in range(10, 34)
    ]
    write_manifest(curated, many)
    code = (
        "import resource, sys; from pathlib import Path; from curation.exports import shards, run\n"
        "shards.GROUP_BYTES = 20 * 2**20\n"
        "export = lambda *a, **k: run.export(*map(Path, a), **k)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "export(*sys.argv[1:]); print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)\n"
    )
    arguments = [command()[0], "-c", code, str(curated), str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    (shard,) = (tmp_path / "out/data").iterdir()
    assert shard.stat().st_size > 90e6
    assert float(done.stdout) < 85


def test_the_command_prints_counts_and_notes(tmp_path):
    clips = [{}, {"license": "unknown"}, {"license": "cc-by-nc-3.0", "split": "val"}, {}]
    curated = make_manifest(tmp_path / "curated", *clips)
    (tmp_path / "out.txt").write_text("soundbible-4 # asked\nsoundbible-9\n")
    arguments = ["export", curated, "--out", tmp_path / "out", "--opt-out", tmp_path / "out.txt"]
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[:4] for line in lines] == [
        ["read", "4", "clips", str(curated / "manifest.parquet")],
        ["left", "out", "2", "clips"],
        ["wrote", "2", "clips", "0.00"],
    ]
    assert "license_excluded 1, opted_out 1" in done.stdout
    assert "in 2 shards: train 1, val 1" in done.stdout
    assert "1 of 2 lines name no clip" in done.stderr
    assert "1 clips may not be used for profit" in done.stderr
    again = run(*arguments, "--json")
    facts = json.loads(again.stdout)
    assert facts["up_to_date"]
    assert facts["clips"] == {"in_manifest": 4, "exported": 2, "left_out": 2, "text_only": 0}
    assert "up to date" not in again.stdout.replace("up_to_date", "")
    assert "may not be passed on" not in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "zip"], "format is 'zip'"),
        (["--shard-size", "0"], "shard_bytes=0"),
        (["--shard-size", "-5MB"], "is no size; write it as 500MB"),
        (["--shard-size", "5 apples"], "is no size"),
        (["--include-license", "mit"], "mit is not one of"),
        (["--license-policy", "any"], "license policy is 'any'"),
        (["--template", "no field"], "must be made of"),
        (["--sample-rate", "1"], "must be between"),
        (["--format", "webdataset", "--keep-text"], "into parquet only"),
        (["--opt-out", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_wrong_usage_exits_with_2(tmp_path, arguments, message):
    from typer.testing import CliRunner

    from curation.cli import app

    done = CliRunner().invoke(app, ["export", str(tmp_path), "--out", str(tmp_path / "out"), *arguments])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 500_000_000), ("1GiB", 2**30), ("1.5 kB", 1500), ("10", 10), ("2B", 2), ("3m", 3 * 10**6)],
)
def test_sizes_are_read_as_people_write_them(text, size):
    from curation.commands.export import _bytes

    assert _bytes(text) == size
