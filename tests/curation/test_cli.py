from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.errors import exit_on_error
from curation.manifest import SCHEMA
from tests.curation.support import add_record, add_tone, contents, crawl_report, row, run
from tests.support.audio import write_html

MEND = "remove the files named and run wavtext5k-curate build again"


def loaded_by(module):
    code = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    for number in range(3):
        add_tone(folder, number)
    add_tone(folder, 4, source="bigsoundbank")
    add_tone(folder, 5, title="", description="")
    page = write_html(folder / "soundbible" / "audio" / "6.wav")
    add_record(folder, page, source_id="6")
    return folder


def test_build_prints_what_it_read_dropped_and_wrote(raw, tmp_path):
    out = tmp_path / "out"
    done = run("build", "--raw", raw, "--out", out, "--workers", "0")
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [
            f"read        6 records    {raw}/bigsoundbank, {raw}/soundbible",
            f"dropped     2 records    no_text 1, not_audio 1    {out}/dropped.parquet",
            f"flagged     3 findings   near_text 3               {out}/flags.parquet",
            f"wrote       4 clips      0.00 h at 44100 Hz        {out}/manifest.parquet",
        ],
    )
    assert "curate: 5 of 5 clips, dropped 1" in done.stderr
    again = run("build", "--raw", raw, "--out", out, "--workers", "0")
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1].startswith("up to date  4 clips      0.00 h at 44100 Hz")
    assert again.stderr == ""


def test_build_prints_json_for_programs(raw, tmp_path):
    done = run("build", "--raw", raw, "--out", tmp_path / "out", "--workers", "0", "--json")
    facts = json.loads(done.stdout)
    assert (facts["records"], facts["clips"], facts["dropped"]) == (6, 4, {"no_text": 1, "not_audio": 1})
    assert (facts["worked"], facts["up_to_date"]) == (5, False)
    assert facts["manifest"] == str(tmp_path / "out" / "manifest.parquet")


def test_build_says_what_the_crawl_lost(raw, tmp_path):
    (raw / "soundbible" / "crawl_report.json").write_text(crawl_report(8, {"not_found": 3}))
    done = run("build", "--raw", raw, "--out", tmp_path / "out", "--workers", "0")
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == "crawl soundbible: 3 of 8 clips failed (not_found 3)"
    (raw / "bigsoundbank" / "crawl_report.json").write_text(crawl_report(1, {}))
    refused = run("build", "--raw", raw, "--out", tmp_path / "out", "--max-crawl-failed", "0.1", "--workers", "0")
    assert refused.returncode == 1
    assert "more than --max-crawl-failed 0.1 allows" in refused.stderr


def test_build_says_which_crawl_did_not_finish(raw, tmp_path):
    (raw / "bigsoundbank" / "crawl_report.json").write_text(crawl_report(1, {}))
    (raw / "soundbible" / "crawl_report.json").write_text(crawl_report(0, {}, finish_reason="running"))
    refused = run("build", "--raw", raw, "--out", tmp_path / "out", "--max-crawl-failed", "1", "--workers", "0")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[1] == "crawl soundbible: did not finish (running)"
    assert "did not finish (running), so --max-crawl-failed cannot be judged" in refused.stderr.splitlines()[-1]
    done = run("build", "--raw", raw, "--out", tmp_path / "out", "--workers", "0")
    assert (done.returncode, done.stderr.splitlines()[1]) == (0, "crawl soundbible: did not finish (running)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--require", "caption"], "require: 'caption' is not title or description"),
        (["--exclude-license", "mit"], "mit is not one of cc0-1.0"),
        (["--val-fraction", "0.8", "--test-fraction", "0.8"], "val_fraction=0.8 and test_fraction=0.8"),
        (["--min-duration", "9", "--max-duration", "1"], "min_duration_s=9.0 and max_duration_s=1.0"),
        (["--max-duration", "inf"], "max_duration_s=inf"),
        (["--max-crawl-failed", "nan"], "--max-crawl-failed"),
        (["--workers", "-1"], "--workers"),
        (["--colour"], "No such option"),
    ],
)
def test_wrong_usage_exits_2(raw, tmp_path, options, message):
    done = run("build", "--raw", raw, "--out", tmp_path / "out", *options)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("raw", "--out must be another folder than --raw"),
        ("raw/soundbible", "which is read; name a folder of its own"),
        (".", "which is read; name a folder beside it"),
        ("raw/soundbible/audio/0.wav", "--out must be a folder"),
    ],
)
def test_a_wrong_place_for_the_output_exits_2(raw, tmp_path, place, message):
    before = contents(raw)
    done = run("build", "--raw", raw, "--out", tmp_path / place, "--overwrite", env=os.environ | {"COLUMNS": "500"})
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert contents(raw) == before


def test_bad_data_exits_1_with_one_line(raw, tmp_path):
    (raw / "soundbible" / "records" / "0.json").write_text("{")
    done = run("build", "--raw", raw, "--out", tmp_path / "out", "--workers", "0")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {raw}/soundbible/records/0.json: not JSON")


def test_opted_out_clips_are_left_out(raw, tmp_path):
    (tmp_path / "optout.txt").write_text("soundbible-1\nsoundbible-99\n")
    done = run(
        "build",
        "--raw",
        raw,
        "--out",
        tmp_path / "out",
        "--opt-out",
        tmp_path / "optout.txt",
        "--json",
        "--workers",
        "0",
    )
    assert json.loads(done.stdout)["dropped"] == {"no_text": 1, "not_audio": 1, "opted_out": 1}
    assert done.stderr.splitlines()[-1] == f"{tmp_path}/optout.txt: 1 of 2 lines matched no record"
    (tmp_path / "optout.txt").write_bytes(b"soundbible-\xff\n")
    bad = run("build", "--raw", raw, "--out", tmp_path / "out", "--opt-out", tmp_path / "optout.txt", "--workers", "0")
    assert (bad.returncode, "not UTF-8 text" in bad.stderr) == (2, True)


def test_clips_of_the_earlier_manifest_do_not_go_unsaid(raw, tmp_path):
    assert run("build", "--raw", raw, "--out", tmp_path / "out", "--workers", "0").returncode == 0
    shutil.rmtree(raw / "bigsoundbank")
    done = run("build", "--raw", raw, "--out", tmp_path / "out", "--workers", "0")
    assert (done.returncode, done.stderr) == (0, "1 clips of the earlier manifest are not in this one\n")


def test_validate_lists_problems_and_fails(raw, tmp_path):
    out = tmp_path / "out"
    assert run("build", "--raw", raw, "--out", out, "--workers", "0").returncode == 0
    good = run("validate", out, "--audio")
    assert (good.returncode, good.stdout) == (
        0,
        f"ok          4 clips      0.00 h, audio decoded    {out}/manifest.parquet\n",
    )
    (out / "audio" / "soundbible-1.flac").unlink()
    (out / "audio" / "soundbible-2.flac").write_bytes(b"fLaC")
    bad = run("validate", out / "manifest.parquet")
    assert (bad.returncode, bad.stdout) == (
        1,
        "row 2 (clip_id 'soundbible-1'): audio/soundbible-1.flac: no such file\n",
    )
    assert bad.stderr.splitlines()[-1] == f"error: {out}/manifest.parquet: 1 problem; {MEND}"
    worse = run("validate", out, "--audio", "--json")
    report = json.loads(worse.stdout)
    assert (worse.returncode, report["ok"], len(report["problems"])) == (1, False, 2)
    assert "row 3 (clip_id 'soundbible-2'): audio/soundbible-2.flac: sha256 is" in report["problems"][1]
    assert report["clips"] == 4


def test_damage_that_keeps_the_size_is_mended_as_validate_says(raw, tmp_path):
    out = tmp_path / "out"
    build = ["build", "--raw", raw, "--out", out, "--workers", "0"]
    assert run(*build).returncode == 0
    before = contents(out)
    flac = out / "audio" / "soundbible-1.flac"
    flac.write_bytes(flac.read_bytes()[:-1] + bytes([flac.read_bytes()[-1] ^ 1]))
    assert run(*build).stdout.splitlines()[-1].startswith("up to date")
    bad = run("validate", out, "--audio")
    assert (bad.returncode, bad.stderr.splitlines()[-1].endswith(f": 1 problem; {MEND}")) == (1, True)
    flac.unlink()
    assert run(*build).returncode == 0
    assert contents(out) == before


def test_validate_prints_json_whatever_it_finds(raw, tmp_path):
    out = tmp_path / "out"
    missing = run("validate", out, "--json")
    facts = json.loads(missing.stdout)
    assert (missing.returncode, facts["ok"], facts["clips"]) == (1, False, 0)
    assert "no such manifest" in facts["problems"][0]
    (out / "audio").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([row(1), row(2, split="")], schema=SCHEMA), out / "manifest.parquet")
    broken = run("validate", out, "--json")
    facts = json.loads(broken.stdout)
    assert (broken.returncode, facts["ok"], facts["clips"], len(facts["problems"])) == (1, False, 2, 1)
    assert broken.stderr.endswith(".parquet: 1 problem; rebuild it with: wavtext5k-curate build\n")


def test_a_folder_whose_name_is_not_utf_8_can_be_built_and_checked(raw, tmp_path):
    out = os.fsencode(tmp_path) + b"/o\xff"
    env = os.environ | {"PYTHONIOENCODING": "utf-8"}
    nothing = run("validate", os.fsdecode(out), env=env)
    assert (nothing.returncode, nothing.stderr[:6]) == (1, "error:")
    assert run("build", "--raw", raw, "--out", os.fsdecode(out), "--workers", "0", env=env).returncode == 0
    good = run("validate", os.fsdecode(out), "--audio", env=env)
    assert (good.returncode, good.stdout[:16], "Traceback" in good.stderr) == (0, "ok          4 cl", False), (
        good.stderr
    )


def test_validate_without_manifest_exits_1(tmp_path):
    done = run("validate", tmp_path)
    assert done.returncode == 1
    assert (
        done.stderr == f"error: {tmp_path}/manifest.parquet: no such manifest; build it with: wavtext5k-curate build\n"
    )


COMMANDS = ("build", "import", "validate", "stats", "figures", "card", "export", "leakage")


@pytest.mark.parametrize("arguments", [(), *((command,) for command in COMMANDS)])
def test_help_is_one_sentence_first_and_an_example_last(arguments):
    shown = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    paragraphs = shown.output.strip().split("\n\n")
    assert re.fullmatch(r"[A-Z](?:[^.]|\.(?=\w))*\.", " ".join(paragraphs[1].split())), paragraphs[1]
    assert paragraphs[-1].strip().startswith("Example: wavtext5k-curate ")


def test_version():
    assert run("--version").stdout.startswith("wavtext5k ")


@pytest.mark.parametrize(
    "module",
    [
        "curation",
        "curation.cli",
        "curation.manifest",
        "curation.audio",
        "curation.text",
        "curation.build",
        "curation.clips",
    ],
)
def test_curation_loads_neither_torch_nor_scrapy(module):
    assert loaded_by(module) & {"torch", "scrapy", "twisted", "pandas"} == set()


def test_the_command_line_loads_nothing_heavy():
    assert loaded_by("curation.cli") & {"numpy", "pyarrow", "soundfile", "ftfy"} == set()


@pytest.mark.parametrize("command", ["build", "stats"])
def test_a_store_that_does_not_answer_is_said(raw, command):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        store = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{closed.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }
        arguments = ("--raw", raw, "--out", "s3://bucket/out") if command == "build" else ("s3://bucket/out",)
        done = run(command, *arguments, env=os.environ | store)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: the object store does not answer as it should: Could not connect")


def test_a_closed_output_is_no_failure(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)  # what Python makes of >&-
    with exit_on_error():
        print("to nobody")
