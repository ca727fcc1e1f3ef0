from __future__ import annotations

import re

import pytest

from curation.errors import ConfigError, ManifestError
from curation.records import check_crawls, read_opt_outs, read_records, read_verdicts, source_folders
from tests.curation.support import add_record, crawl_report


def write_report(raw, source, asked, failed, **values):
    (raw / source).mkdir(parents=True, exist_ok=True)
    (raw / source / "crawl_report.json").write_text(crawl_report(asked, failed, **values))


def test_records_of_several_sources_come_in_order_of_clip_id(tmp_path):
    add_record(tmp_path, None, source="soundbible", source_id="9")
    add_record(tmp_path, None, source="soundbible", source_id="10")
    add_record(tmp_path, None, source="bigsoundbank", source_id="0001")
    (tmp_path / "notes").mkdir()
    assert list(read_records(tmp_path)) == ["bigsoundbank-0001", "soundbible-10", "soundbible-9"]


def test_a_missing_raw_folder_says_how_to_get_one(tmp_path):
    with pytest.raises(ManifestError, match=r"none: no such folder; crawl first: wavtext5k-crawl"):
        read_records(tmp_path / "none")


def test_an_empty_raw_folder_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"no records: looked for <source>/records"):
        source_folders(tmp_path)


def test_a_source_folder_given_as_raw_folder_is_explained(tmp_path):
    add_record(tmp_path, None)
    with pytest.raises(ManifestError, match=f"name the folder above it: --raw {tmp_path}$"):
        read_records(tmp_path / "soundbible")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON: .*line 1"),
        (b"[]", "must be a JSON object"),
        (b"\xff\xfe", "codec can't decode"),
        (b'{"source": "soundbible"}', "missing: audio_file"),
    ],
)
def test_a_broken_record_stops_the_build_and_names_the_file(tmp_path, content, message):
    file = add_record(tmp_path, None, source_id="7")
    file.write_bytes(content)
    with pytest.raises(ManifestError, match=rf"records/7\.json: .*{message}"):
        read_records(tmp_path)


def test_a_record_in_the_wrong_place_is_refused(tmp_path):
    file = add_record(tmp_path, None, source_id="7")
    file.rename(file.with_name("8.json"))
    with pytest.raises(ManifestError, match=r"8\.json: the record is of source 'soundbible' and source_id '7'"):
        read_records(tmp_path)


def test_crawl_reports_are_judged_by_their_share_of_failures(tmp_path):
    add_record(tmp_path, None)
    write_report(tmp_path, "soundbible", 10, {"not_found": 2, "not_audio": 1, "robots": 0})
    assert [str(verdict) for verdict in read_verdicts(tmp_path)] == [
        "soundbible: 3 of 10 clips failed (not_audio 1, not_found 2)"
    ]
    check_crawls(tmp_path, 0.3)
    with pytest.raises(ManifestError, match=r"3 of 10 clips failed .*more than --max-crawl-failed 0\.2 allows"):
        check_crawls(tmp_path, 0.2)


def test_a_crawl_without_report_cannot_be_judged(tmp_path):
    add_record(tmp_path, None)
    assert read_verdicts(tmp_path) == []
    with pytest.raises(ManifestError, match=r"crawl_report\.json: no such file"):
        check_crawls(tmp_path, 0.5)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"finish_reason": "running"}, "did not finish (running)"),
        (
            {"finish_reason": "unreachable", "error": "http://x/: no\nanswer"},
            "did not finish (unreachable): http://x/: no answer",
        ),
        ({"asked": 9, "finish_reason": "shutdown"}, "did not finish (shutdown); 0 of 9 clips failed"),
        (
            {"asked": 9, "failed": {"not_found": 1}, "finish_reason": "no_space", "error": "no space left"},
            "did not finish (no_space): no space left; 1 of 9 clips failed (not_found 1)",
        ),
        ({"asked": 9, "error": "half a list"}, "did not finish (finished): half a list; 0 of 9 clips failed"),
        ({}, "met no clip"),
    ],
)
def test_a_crawl_that_did_not_finish_says_so_and_cannot_be_judged(tmp_path, values, said):
    add_record(tmp_path, None)
    write_report(tmp_path, "soundbible", values.pop("asked", 0), values.pop("failed", {}), **values)
    assert [str(verdict) for verdict in read_verdicts(tmp_path)] == [f"soundbible: {said}"]
    with pytest.raises(ManifestError, match=rf"{re.escape(said)}, so --max-crawl-failed cannot be judged; let the"):
        check_crawls(tmp_path, 1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"asked": "many"}', "KeyError"),
        ("[" * 100_000, "RecursionError"),
        ('{"asked": ' + "9" * 5_000 + "}", "ValueError"),
        (crawl_report(-1, {}), "a count of clips must be a whole number, 0 or more, got -1"),
        (crawl_report(4, {"network": -3}), "got -3"),
        (crawl_report(4, {"network": 1.5}), r"got 1\.5"),
        (crawl_report(4, {"network": True}), "got True"),
        (crawl_report(4, {"network": 5}), "5 clips failed, 4 were asked"),
        (crawl_report(4, {}, finish_reason=None), "must be strings, got None"),
        (crawl_report(4, {}, error=["x"]), r"must be strings, got \['x'\]"),
    ],
)
def test_a_broken_crawl_report_is_named(tmp_path, content, message):
    add_record(tmp_path, None)
    (tmp_path / "soundbible" / "crawl_report.json").write_text(content)
    with pytest.raises(ManifestError, match=rf"crawl_report\.json: not a crawl report \(.*{message}"):
        read_verdicts(tmp_path)


def test_files_that_a_file_system_leaves_beside_records_are_no_records(tmp_path):
    file = add_record(tmp_path, None, source_id="7")
    file.with_name("._7.json").write_bytes(b"\0\5\x16\7")
    assert list(read_records(tmp_path)) == ["soundbible-7"]


def test_an_opt_out_list_of_another_encoding_is_named(tmp_path):
    file = tmp_path / "optout.txt"
    file.write_bytes("# für später\nsoundbible-1\n".encode("utf-16"))
    with pytest.raises(ConfigError, match=r"optout\.txt: not UTF-8 text .*; save it as UTF-8"):
        read_opt_outs(file)
    file.write_text("soundbible-1\n", encoding="utf-8-sig")
    assert read_opt_outs(file) == {"soundbible-1"}


def test_an_opt_out_list_has_comments_and_empty_lines(tmp_path):
    file = tmp_path / "optout.txt"
    file.write_text("# asked on 2026-01-01\n\nsoundbible-1 \nhttp://x/2\n")
    assert read_opt_outs(file) == {"soundbible-1", "http://x/2"}
