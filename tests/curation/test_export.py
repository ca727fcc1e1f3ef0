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
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from crawler.items import take_lock
from curation.errors import ConfigError, ManifestError, WavTextError
from curation.exports import folder as export_folder
from curation.exports.policy import Policy
from curation.exports.run import export
from curation.exports.selection import ExportOptions
from curation.manifest import read_manifest, write_manifest
from tests.curation.curated import EXPORTS, SMALL, TARS, make_manifest, make_nine
from tests.curation.support import command, contents, run


@pytest.fixture
def curated(tmp_path):
    return make_nine(tmp_path / "curated")


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
    "kills", [pytest.param([0, 2, 5], id="few"), pytest.param(range(40), id="many", marks=pytest.mark.long)]
)
def test_a_killed_export_is_never_taken_for_whole(tmp_path, kills):
    clips = [{"split": ("train", "val")[number % 2]} for number in range(60)]
    curated = make_manifest(tmp_path / "curated", *clips, seconds=0.5)
    export(curated, tmp_path / "fresh", options=ExportOptions(shard_bytes=150_000))
    out, whole = tmp_path / "out", sorted(file.name for file in (tmp_path / "fresh/data").iterdir())
    assert len(whole) > 10
    for most in kills:
        process = subprocess.Popen(
            command("export", curated, "--out", out, "--shard-size", "150kB"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and len(list(out.glob(".export/data/*.parquet"))) <= most:
            time.sleep(0.001)  # until one shard more than before is finished
        process.kill()
        process.wait()
        if (out / "export.json").exists():
            assert contents(out).items() >= contents(tmp_path / "fresh").items()
        else:
            shards = sorted(file.name for file in out.glob("data/*"))
            assert shards in ([], whole)  # never some of them: not every reader looks for export.json
    export(curated, out, options=ExportOptions(shard_bytes=150_000))
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


PEAK = """
import sys
from pathlib import Path
from curation.exports import run, shards

def peak():  # of this process since it began; the one that getrusage gives comes with the parent's through exec
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024

shards.GROUP_BYTES = int(sys.argv[3])
before = peak()
run.export(Path(sys.argv[1]), Path(sys.argv[2]))
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_holds_one_group_not_one_shard(tmp_path):
    # 24 clips of 4.2 MB each: 100 MB in one shard.
    curated = make_manifest(tmp_path / "curated", *[{}] * 4, seconds=50.0)
    first = read_manifest(curated).to_pylist()
    many = []
    for number in range(10, 34):
        clip_id, made = f"soundbible-{number}", first[number % 4]
        audio_path = f"audio/{clip_id}.flac"
        (curated / audio_path).hardlink_to(curated / made["audio_path"])
        names = {"clip_id": clip_id, "duplicate_group": clip_id, "source_id": str(number), "audio_path": audio_path}
        many.append(made | names)
    write_manifest(curated, many)

    def peak_mib(group_bytes):
        out = tmp_path / f"out-{group_bytes}"
        arguments = [command()[0], "-c", PEAK, str(curated), str(out), str(group_bytes)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        (shard,) = (out / "data").iterdir()
        assert shard.stat().st_size > 90e6
        return float(done.stdout)

    # Measured: 109 MiB with one clip a group, of which 90 are for what it imports; 395 with the whole shard.
    assert 2 * peak_mib(5 * 2**20) < peak_mib(2**30)
