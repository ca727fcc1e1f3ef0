from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import soundfile

from curation.build import BuildOptions, _useful, build, curate
from curation.engine import available_cores
from curation.entries import Collection, Entry
from curation.errors import ConfigError, ManifestError, WavTextError
from curation.filters import Limits, RecordRules
from curation.folder import claim_folder
from curation.manifest import read_dropped, read_manifest, validate_manifest
from curation.splits import SplitFractions
from tests.curation.support import add_noises, add_record, add_tone, contents, crawl_report, run
from tests.support.audio import truncate, write_html, write_noise, write_silence, write_tone, write_waveform

SERIAL = BuildOptions(workers=0)


def reasons(out):
    return {clip["clip_id"]: clip["reason"] for clip in read_dropped(out).to_pylist()}


def details(out):
    return {clip["clip_id"]: clip["detail"] for clip in read_dropped(out).to_pylist()}


def with_audio(raw, number, make, **fields):
    """A record whose audio ``make`` writes."""
    audio = raw / "soundbible" / "audio" / f"{number}.wav"
    audio.parent.mkdir(parents=True, exist_ok=True)
    make(audio)
    add_record(raw, audio, source_id=str(number), **fields)


def test_a_row_says_what_the_record_and_the_sound_say(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    audio = write_tone(raw / "soundbible/audio/7.wav", seconds=0.5, sample_rate=48_000, channels=2, amplitude=0.5)
    add_record(raw, audio, source_id="7", title=" Rock &amp; roll\n", tags=("Loud", "loud", "Rock"))
    build(raw, out, options=SERIAL)
    (clip,) = read_manifest(out).to_pylist()
    assert clip["clip_id"] == clip["duplicate_group"] == "soundbible-7"
    assert (clip["origin"], clip["origin_id"]) == ("soundbible", "7")
    assert (clip["title"], clip["tags"]) == ("Rock & roll", ["loud", "rock"])
    assert (clip["captions"], clip["labels"], clip["fold"]) == ([], [], -1)
    assert clip["attribution"] == (
        '"Rock & roll" by Ann (http://127.0.0.1/soundbible/7), CC BY 3.0 (http://127.0.0.1/by)'
    )
    assert clip["audio_path"] == "audio/soundbible-7.flac"
    assert (clip["num_samples"], clip["duration_s"]) == (22_050, 0.5)
    assert clip["peak_dbfs"] == pytest.approx(-6.02, abs=0.1)
    assert clip["rms_dbfs"] == pytest.approx(-9.03, abs=0.1)
    assert (clip["source_sample_rate"], clip["source_channels"], clip["source_subtype"]) == (48_000, 2, "PCM_16")
    assert clip["modifications"] == ["downmixed: mean of 2 channels", "resampled: 48000 to 44100 Hz"]
    assert validate_manifest(out, read_audio=True) == []


def test_nothing_disappears_without_its_reason(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_tone(raw, 1)
    add_tone(raw, 2, title="", description=" ")
    add_tone(raw, 3, license="personal-use")
    add_tone(raw, 4)
    add_tone(raw, 5, title="")
    add_record(raw, None, source_id="10")
    with_audio(raw, 11, write_html)
    with_audio(raw, 12, lambda path: path.write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt "))
    with_audio(raw, 13, lambda path: path.write_bytes(b""))
    with_audio(raw, 14, lambda path: truncate(write_tone(path)))
    with_audio(raw, 15, lambda path: write_tone(path, seconds=0.05))
    with_audio(raw, 16, lambda path: write_tone(path, seconds=2.5))
    with_audio(raw, 17, lambda path: write_noise(path, seconds=5))
    with_audio(raw, 18, write_silence)
    with_audio(raw, 19, lambda path: write_waveform(path, np.full(9000, np.nan), subtype="FLOAT"))
    with_audio(raw, 20, lambda path: shutil.copy(raw / "soundbible/audio/1.wav", path))
    same_sound = raw / "soundbible" / "audio" / "21.aiff"
    write_tone(same_sound, seconds=0.2, freq=210.0)
    add_record(raw, same_sound, source_id="21")
    rules = RecordRules(
        require=("title",), exclude_licenses=("personal-use",), opted_out=frozenset({"http://127.0.0.1/soundbible/4"})
    )
    limits = Limits(max_duration_s=2.0, max_bytes=400_000)
    report = build(raw, out, options=BuildOptions(workers=0, rules=rules, limits=limits))
    assert reasons(out) == {
        "soundbible-10": "missing_audio",
        "soundbible-11": "not_audio",
        "soundbible-12": "undecodable",
        "soundbible-13": "empty_audio",
        "soundbible-14": "truncated",
        "soundbible-15": "too_short",
        "soundbible-16": "too_long",
        "soundbible-17": "too_large",
        "soundbible-18": "silent",
        "soundbible-19": "not_finite",
        "soundbible-2": "no_text",
        "soundbible-20": "duplicate_bytes",
        "soundbible-21": "duplicate_pcm",
        "soundbible-3": "license_excluded",
        "soundbible-4": "opted_out",
        "soundbible-5": "required_text_missing",
    }
    assert read_manifest(out)["clip_id"].to_pylist() == ["soundbible-1"]
    statistics = json.loads((out / "statistics.json").read_text())
    assert statistics == report.statistics
    assert statistics["records"] == 17 == statistics["clips"] + sum(statistics["dropped"].values())
    said = details(out)
    assert said["soundbible-11"] == "soundbible/audio/11.wav: not audio: the first bytes are '<!DOCTYPE html>\\n'"
    assert said["soundbible-21"] == "same as soundbible-1"
    assert said["soundbible-10"] == "soundbible/audio/gone.wav: No such file or directory"
    assert [path.name for path in (out / "audio").iterdir()] == ["soundbible-1.flac"]


def test_audio_that_is_not_what_the_record_describes_is_not_used(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_tone(raw, 1)
    truncate(add_tone(raw, 2), keep=0.9)
    write_tone(add_tone(raw, 3), seconds=0.2, freq=999)
    add_tone(raw, 4).write_bytes(b"")
    build(raw, out, options=SERIAL)
    assert reasons(out) == {
        "soundbible-2": "truncated",
        "soundbible-3": "missing_audio",
        "soundbible-4": "empty_audio",
    }
    assert "not the file that the record describes: sha256 is" in details(out)["soundbible-3"]
    assert details(out)["soundbible-3"].endswith("; delete it and crawl again")
    assert "bytes, the record says" in details(out)["soundbible-2"]


def test_sound_above_full_scale_is_scaled_and_says_by_how_much(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    with_audio(raw, 1, lambda path: write_waveform(path, 2 * np.sin(np.arange(9000) / 7), subtype="FLOAT"))
    build(raw, out, options=SERIAL)
    (clip,) = read_manifest(out).to_pylist()
    assert clip["modifications"] == ["scaled: -6.02 dB"]
    assert clip["peak_dbfs"] == pytest.approx(0, abs=1e-3)


def test_serial_and_two_workers_give_the_same_bytes(tmp_path):
    raw = tmp_path / "raw"
    add_noises(raw, 12)
    with_audio(raw, 90, write_html)
    add_tone(raw, 91, source="bigsoundbank")
    build(raw, tmp_path / "serial", options=SERIAL)
    build(raw, tmp_path / "two", options=BuildOptions(workers=2))
    assert contents(tmp_path / "serial") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "two")) == 5 + 13


def test_the_folders_names_are_not_in_the_output(tmp_path):
    for name in ("a", "b"):
        add_noises(tmp_path / name / "raw", 3)
        with_audio(tmp_path / name / "raw", 90, write_html)
        build(tmp_path / name / "raw", tmp_path / name / "out", options=SERIAL)
    assert contents(tmp_path / "a" / "out") == contents(tmp_path / "b" / "out")


def test_a_second_run_finds_everything_done(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_noises(raw, 4)
    with_audio(raw, 90, write_html)
    with_audio(raw, 91, lambda path: shutil.copy(raw / "soundbible/audio/0.wav", path))
    first = build(raw, out, options=SERIAL)
    before = contents(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.is_file()}
    second = build(raw, out, options=SERIAL)
    assert (first.worked, first.is_new) == (6, True)
    assert (second.worked, second.is_new) == (0, False)
    assert contents(out) == before
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.is_file()} == times


def test_a_copied_raw_folder_is_read_but_not_decoded_again(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_noises(raw, 3)
    build(raw, out, options=SERIAL)
    inodes = {path: path.stat().st_ino for path in (out / "audio").iterdir()}
    for path in (raw / "soundbible" / "audio").iterdir():
        os.utime(path, (1, 1))
    report = build(raw, out, options=SERIAL)
    assert (report.worked, report.is_new) == (3, False)
    assert {path: path.stat().st_ino for path in (out / "audio").iterdir()} == inodes
    assert build(raw, out, options=SERIAL).worked == 0


def test_only_what_changed_is_worked_on(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_noises(raw, 4)
    build(raw, out, options=SERIAL)
    inodes = {path.name: path.stat().st_ino for path in (out / "audio").iterdir()}
    add_record(raw, raw / "soundbible/audio/1.wav", source_id="1", title="Another title")
    assert build(raw, out, options=SERIAL).worked == 0
    assert read_manifest(out)["title"].to_pylist()[1] == "Another title"
    audio = write_noise(raw / "soundbible/audio/2.wav", seconds=0.3, seed=77)
    add_record(raw, audio, source_id="2")
    add_tone(raw, 5)
    assert build(raw, out, options=SERIAL).worked == 2
    after = {path.name: path.stat().st_ino for path in (out / "audio").iterdir()}
    assert {name for name in after if after[name] != inodes.get(name)} == {"soundbible-2.flac", "soundbible-5.flac"}
    build(raw, tmp_path / "fresh", options=SERIAL)
    assert contents(out) == contents(tmp_path / "fresh")


def test_other_options_redo_what_they_touch(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_noises(raw, 3)
    add_tone(raw, 5, title="")
    build(raw, out, options=SERIAL)
    strict = BuildOptions(workers=0, rules=RecordRules(require=("title",)), fractions=SplitFractions(val=0, test=0))
    assert build(raw, out, options=strict).worked == 0
    assert set(read_manifest(out)["split"].to_pylist()) == {"train"}
    assert not (out / "audio" / "soundbible-5.flac").exists()
    relaxed = BuildOptions(workers=0, limits=Limits(min_duration_s=0.05))
    assert build(raw, out, options=relaxed).worked == 1, "only the audio that was removed is written again"
    assert len(read_manifest(out)) == 4


@pytest.mark.parametrize(
    ("limits", "worked", "dropped"),
    [
        ({}, 0, {"too_short": 1, "silent": 1, "not_audio": 1}),
        ({"min_duration_s": 0.3}, 2, {"too_short": 2, "silent": 1, "not_audio": 1}),
        ({"min_duration_s": 0.04}, 2, {"silent": 1, "not_audio": 1}),
        ({"silent_peak_dbfs": -150.0}, 2, {"too_short": 1, "not_audio": 1}),
        ({"silent_peak_dbfs": -5.0}, 2, {"silent": 4, "not_audio": 1, "too_short": 1}),
        ({"max_duration_s": 1.0}, 3, {"too_short": 1, "silent": 1, "not_audio": 1, "too_long": 1}),
        ({"max_duration_s": 7200.0}, 2, {"too_short": 1, "silent": 1, "not_audio": 1}),
        ({"max_bytes": 100_000}, 2, {"too_short": 1, "silent": 1, "not_audio": 1, "too_large": 1}),
    ],
)
def test_another_limit_decodes_only_what_the_old_one_dropped(tmp_path, limits, worked, dropped):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_tone(raw, 1)
    add_tone(raw, 2, seconds=0.4)
    with_audio(raw, 3, lambda path: write_tone(path, seconds=0.05))
    with_audio(raw, 4, lambda path: write_tone(path, amplitude=2e-5, subtype="FLOAT"))
    with_audio(raw, 5, lambda path: write_noise(path, seconds=1.5))
    with_audio(raw, 6, write_html)
    build(raw, out, options=SERIAL)
    options = BuildOptions(workers=0, limits=Limits(**limits), min_kept=0)
    report = build(raw, out, options=options)
    assert report.statistics["dropped"] == dropped
    build(raw, tmp_path / "fresh", options=options)
    assert contents(out) == contents(tmp_path / "fresh")
    assert report.worked == worked
    build(raw, out, options=SERIAL)
    build(raw, tmp_path / "plain", options=SERIAL)
    assert contents(out) == contents(tmp_path / "plain")


def test_another_bit_depth_writes_all_audio_again(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_noises(raw, 2)
    build(raw, out, options=SERIAL)
    assert build(raw, out, options=BuildOptions(workers=0, bits=24)).worked == 2
    assert soundfile.info(out / "audio" / "soundbible-1.flac").subtype == "PCM_24"
    assert validate_manifest(out, read_audio=True) == []
    with pytest.raises(ConfigError, match="bits=12 must be 16 or 24"):
        BuildOptions(bits=12)


def test_clip_ids_that_differ_in_case_alone_need_a_disk_that_tells_them_apart(tmp_path):
    twins = []
    for number, key in enumerate(("A", "a")):
        write_tone(tmp_path / "in" / f"{number}.wav", freq=300.0 + 400 * number)
        twins.append(Entry(source="own", source_id=key, title=key, audio_file=f"{number}.wav"))
    collection = Collection(entries=twins, root=tmp_path / "in")
    curate(collection, tmp_path / "out", made_by="import csv", options=SERIAL)
    assert len(read_manifest(tmp_path / "out")) == 2
    (tmp_path / "out" / ".WORK").mkdir()  # as a disk that ignores case shows it
    with pytest.raises(ManifestError, match="own-A and own-a would be one file on this disk"):
        curate(collection, tmp_path / "out", made_by="import csv", options=SERIAL)


def test_a_clip_id_that_two_entries_share_is_refused(tmp_path):
    twins = [Entry(source="own", source_id="1", title="a"), Entry(source="own", source_id="1", title="b")]
    with pytest.raises(ManifestError, match="two clips of own are both own-1"):
        curate(Collection(entries=twins, root=tmp_path), tmp_path / "out", made_by="import csv", options=SERIAL)


def test_another_data_set_does_not_take_a_folders_place(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_tone(raw, 1)
    build(raw, out, options=SERIAL)
    other = Collection(entries=[Entry(source="own", source_id="1", title="a", audio_file="1.wav")], root=raw)
    with pytest.raises(ConfigError, match="made by wavtext5k-curate build, not made by wavtext5k-curate import csv"):
        curate(other, out, made_by="import csv", options=SERIAL)
    assert len(read_manifest(out)) == 1


def test_parts_of_one_recording_are_on_one_side_of_a_split(tmp_path):
    entries = []
    for number in range(24):
        write_tone(tmp_path / "in" / f"{number}.wav", freq=200.0 + 50 * number)
        recording = {"origin": "freesound", "origin_id": str(number // 4)}
        entries.append(
            Entry(source="own", source_id=str(number), title="A tone", audio_file=f"{number}.wav", **recording)
        )
    fractions = SplitFractions(val=0.3, test=0.3)
    options = BuildOptions(workers=0, fractions=fractions)
    curate(Collection(entries=entries, root=tmp_path / "in"), tmp_path / "out", made_by="import own", options=options)
    sides = {}
    for clip in read_manifest(tmp_path / "out").to_pylist():
        sides.setdefault(clip["origin_id"], set()).add(clip["split"])
    assert [len(splits) for splits in sides.values()] == [1] * 6
    assert len(set.union(*sides.values())) > 1


def test_a_clip_without_a_split_goes_where_its_recording_is_published(tmp_path):
    entries = []
    for number in range(12):
        write_tone(tmp_path / "in" / f"{number}.wav", freq=200.0 + 50 * number)
        entry = Entry(
            source="own",
            source_id=f"{number:02d}",
            title="A tone",
            audio_file=f"{number}.wav",
            origin="freesound",
            origin_id="1",
            split="test" if number == 5 else "",
        )
        entries.append(entry)
    curate(Collection(entries=entries, root=tmp_path / "in"), tmp_path / "out", made_by="import own", options=SERIAL)
    assert read_manifest(tmp_path / "out")["split"].to_pylist() == ["test"] * 12


def test_a_published_data_set_keeps_its_duplicates_together_and_its_splits(tmp_path):
    write_tone(tmp_path / "in" / "a.wav")
    for name in ("b.wav", "c.wav"):
        shutil.copy(tmp_path / "in" / "a.wav", tmp_path / "in" / name)
    entries = [
        Entry(source="own", source_id=key, captions=("A tone.",), split=split, audio_file=f"{key}.wav")
        for key, split in (("a", "train"), ("b", "test"), ("c", ""))
    ]
    collection = Collection(entries=entries, root=tmp_path / "in", keep_duplicates=True)
    curate(collection, tmp_path / "out", made_by="import own", options=SERIAL)
    clips = read_manifest(tmp_path / "out").to_pylist()
    assert [clip["duplicate_group"] for clip in clips] == ["own-a"] * 3
    assert [clip["split"] for clip in clips][:2] == ["train", "test"]
    assert clips[0]["captions"] == ["A tone."]


def test_clips_that_left_the_crawl_leave_the_folder(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_noises(raw, 3)
    build(raw, out, options=SERIAL)
    (raw / "soundbible" / "records" / "1.json").unlink()
    (out / "audio" / "soundbible-0.flac.part").write_bytes(b"half")
    build(raw, out, options=SERIAL)
    assert sorted(path.name for path in (out / "audio").iterdir()) == ["soundbible-0.flac", "soundbible-2.flac"]
    assert not (out / ".work" / "soundbible-1.json").exists()


def test_a_duplicate_comes_back_when_the_first_of_them_goes(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_tone(raw, 1)
    with_audio(raw, 2, lambda path: shutil.copy(raw / "soundbible/audio/1.wav", path))
    build(raw, out, options=SERIAL)
    assert reasons(out) == {"soundbible-2": "duplicate_bytes"}
    (raw / "soundbible" / "records" / "1.json").unlink()
    build(raw, out, options=SERIAL)
    assert read_manifest(out)["clip_id"].to_pylist() == ["soundbible-2"]
    assert validate_manifest(out, read_audio=True) == []


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"cut")])
def test_a_lost_or_cut_flac_is_written_again(tmp_path, spoil):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_noises(raw, 2)
    build(raw, out, options=SERIAL)
    before = contents(out)
    spoil(out / "audio" / "soundbible-1.flac")
    assert build(raw, out, options=SERIAL).worked == 1
    assert contents(out) == before


def test_a_spoilt_journal_entry_is_no_entry(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_noises(raw, 2)
    build(raw, out, options=SERIAL)
    before = contents(out)
    journal = out / ".work" / "soundbible-1.json"
    entry = json.loads(journal.read_text())
    for spoilt in (
        b"\0\0\0",
        b"{}",
        b"[]",
        b"7",
        b"[" * 100_000,
        b"9" * 5_000,
        json.dumps(entry | {"sound": None}).encode(),
        json.dumps(entry | {"sound": {"sha256": "0"}}).encode(),
        json.dumps(entry | {"sound": entry["sound"] | {"num_samples": "many"}}).encode(),
        json.dumps(entry | {"sound": entry["sound"] | {"modifications": [1]}}).encode(),
        json.dumps(entry | {"sound": entry["sound"] | {"fingerprint": "*"}}).encode(),
        json.dumps(entry | {"sound": entry["sound"] | {"fingerprint": "AAAA"}}).encode(),
        json.dumps(entry | {"sound": entry["sound"] | {"fingerprint": ""}}).encode(),
        json.dumps(entry | {"sound": entry["sound"] | {"peak_dbfs": float("nan")}}).encode(),
        json.dumps(entry | {"sound": entry["sound"] | {"sha256": "zz"}}).encode(),
        json.dumps(entry | {"sound": entry["sound"] | {"num_samples": -5}}).encode(),
        json.dumps(entry | {"sound": entry["sound"] | {"source_channels": 10**9}}).encode(),
        json.dumps(entry | {"sound": entry["sound"] | {"flac_bytes": 1}}).encode(),
        json.dumps(entry | {"source_version": ["many", 1]}).encode(),
        json.dumps(entry | {"code": "another"}).encode(),
        json.dumps({key: value for key, value in entry.items() if key != "code"}).encode(),
    ):
        journal.write_bytes(spoilt)
        assert build(raw, out, options=SERIAL).worked == 1, spoilt
        assert contents(out) == before
        assert json.loads(journal.read_text()) == entry


def test_a_pipe_among_the_audio_is_dropped_instead_of_waited_for(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_tone(raw, 1)
    pipe = add_tone(raw, 2)
    pipe.unlink()
    os.mkfifo(pipe)
    done = run("build", "--raw", raw, "--out", out, "--workers", "0")
    assert done.returncode == 0
    assert reasons(out) == {"soundbible-2": "missing_audio"}
    assert details(out)["soundbible-2"] == "soundbible/audio/2.wav: not a regular file"


def test_a_build_that_keeps_too_little_fails_and_publishes_nothing(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    with_audio(raw, 1, write_html)
    with pytest.raises(
        ManifestError, match=r"0 of 1 records kept, --min-kept asks for 1; no manifest .*soundbible-1: not_audio"
    ):
        build(raw, out, options=SERIAL)
    assert contents(out) == {}
    assert (out / ".work" / "dropped.parquet").is_file()
    with pytest.raises(ManifestError, match="the build there is not finished"):
        read_manifest(out)
    build(raw, out, options=BuildOptions(workers=0, min_kept=0))
    assert len(read_manifest(out)) == 0


def test_a_failed_build_leaves_the_last_good_one(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_noises(raw, 3)
    build(raw, out, options=SERIAL)
    before = contents(out)
    for number in (1, 2):
        (raw / "soundbible" / "records" / f"{number}.json").unlink()
    stands = r"asks for 3; .*manifest\.parquet still is that of an earlier build; every drop"
    with pytest.raises(ManifestError, match=f"1 of 1 records kept, --min-kept {stands}"):
        build(raw, out, options=BuildOptions(workers=0, min_kept=3))
    assert contents(out) == before
    assert validate_manifest(out, read_audio=True) == []


def test_a_crawl_that_failed_too_often_is_refused_before_any_work(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_tone(raw, 1)
    (raw / "soundbible" / "crawl_report.json").write_text(crawl_report(4, {"not_found": 3}))
    with pytest.raises(ManifestError, match=r"3 of 4 clips failed \(not_found 3\)"):
        build(raw, out, options=BuildOptions(workers=0, max_crawl_failed=0.5))
    assert not out.exists()
    assert build(raw, out, options=SERIAL).statistics["clips"] == 1


def test_a_folder_of_something_else_is_refused_unless_told(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_tone(raw, 1)
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"out: not made by wavtext5k-curate build; .*--overwrite"):
        build(raw, out, options=SERIAL)
    build(raw, out, options=BuildOptions(workers=0, overwrite=True))
    assert (out / "thesis.txt").read_text() == "years of work"
    assert len(read_manifest(out)) == 1


def test_the_raw_records_are_safe_from_a_build(tmp_path):
    raw = tmp_path / "data" / "raw"
    audio = write_tone(raw / "soundbible" / "audio" / "1.flac")
    add_record(raw, audio, source_id="1")
    before = contents(raw)
    (tmp_path / "link").symlink_to(raw / "soundbible")
    for place in ("data/raw/soundbible", "data/raw/soundbible/curated", "data/raw/soundbible/audio", "link"):
        for overwrite in (False, True):
            with pytest.raises(ConfigError, match=r"--out lies in .*raw/soundbible, which is read; name a folder"):
                build(raw, tmp_path / place, options=BuildOptions(workers=0, overwrite=overwrite))
    for place in ("data", "."):
        with pytest.raises(ConfigError, match=r"--out holds .*, which is read; name a folder beside it"):
            build(raw, tmp_path / place, options=BuildOptions(workers=0, overwrite=True))
    assert contents(raw) == before
    build(raw, raw / "curated", options=SERIAL)
    assert not build(raw, raw / "curated", options=SERIAL).is_new
    assert len(read_manifest(raw / "curated")) == 1


def test_audio_of_someone_else_stays_in_a_folder_taken_over(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "music"
    add_tone(raw, 1)
    song, half = write_tone(out / "audio" / "song.flac"), out / "audio" / "song.flac.part"
    half.write_bytes(b"half a song")
    notes = out / ".work" / "notes.json"
    notes.parent.mkdir()
    notes.write_text('{"years": "of work"}')
    before = contents(out)
    with pytest.raises(ConfigError, match=r"music: not made by wavtext5k-curate build; .*--overwrite"):
        build(raw, out, options=SERIAL)
    assert not (out / ".work" / "lock").exists()
    build(raw, out, options=BuildOptions(workers=0, overwrite=True))
    build(raw, out, options=SERIAL)
    assert {name: content for name, content in contents(out).items() if name in before} == before
    assert (song.is_file(), half.is_file(), notes.is_file()) == (True, True, True)
    assert len(read_manifest(out)) == 1


def test_a_work_folder_of_something_else_marks_nothing(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_tone(raw, 1)
    (out / ".work").mkdir(parents=True)
    (out / ".work" / "README").write_text("How I work.")
    with pytest.raises(ConfigError, match="not made by wavtext5k-curate build"):
        build(raw, out, options=SERIAL)
    (out / ".work" / "README").rename(out / ".work" / "lock")  # killed before the folder was marked
    build(raw, out, options=SERIAL)
    assert len(read_manifest(out)) == 1


def test_a_build_counts_the_clips_that_went_and_the_opt_outs_that_met_none(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_noises(raw, 4)
    assert build(raw, out, options=SERIAL).gone == 0
    (raw / "soundbible" / "records" / "3.json").unlink()
    opted_out = frozenset({"soundbible-1", "http://127.0.0.1/soundbible/2", "soundbible-99"})
    report = build(raw, out, options=BuildOptions(workers=0, rules=RecordRules(opted_out=opted_out)))
    assert (report.gone, report.unmatched_opt_outs) == (3, 1)


def test_no_more_processes_are_started_than_can_be_of_use(tmp_path):
    assert _useful(100_000, [None] * 3) == 3
    assert _useful(100_000, [None] * 100_000) == max(64, available_cores())


@pytest.mark.parametrize("share", [float("nan"), -0.1, 1.1])
def test_a_share_of_failures_is_a_share(share):
    with pytest.raises(ConfigError, match=r"max_crawl_failed=.* must be between 0 and 1"):
        BuildOptions(max_crawl_failed=share)


def test_out_must_be_a_folder_of_its_own(tmp_path):
    raw = tmp_path / "raw"
    add_tone(raw, 1)
    with pytest.raises(ConfigError, match="--out must be another folder than --raw"):
        build(raw, raw, options=SERIAL)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="--out must be a folder"):
        build(raw, tmp_path / "file", options=SERIAL)


def test_two_builds_do_not_share_a_folder(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_tone(raw, 1)
    with (
        claim_folder(out, made_by="build", overwrite=False),
        pytest.raises(WavTextError, match="another build is at work in this folder"),
    ):
        build(raw, out, options=SERIAL)
    assert build(raw, out, options=SERIAL).is_new


def test_progress_counts_to_the_end(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    add_noises(raw, 3)
    with_audio(raw, 90, write_html)
    seen = []
    build(raw, out, options=SERIAL, progress=lambda *call: seen.append(call))
    assert [call[:2] for call in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert seen[-1][2] == 1
