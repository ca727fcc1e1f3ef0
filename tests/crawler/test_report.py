from __future__ import annotations

import json

import pytest

from crawler.report import CrawlReport, FailedClip, FailureReason


def report_of(*, stored: int, failed: int) -> CrawlReport:
    report = CrawlReport("soundbible", "https://soundbible.com")
    report.finish_reason = "finished"
    report.stored = {f"s{number}" for number in range(stored)}
    for number in range(failed):
        report.failures[f"f{number}"] = FailedClip(
            f"f{number}", "https://soundbible.com/x", FailureReason.NOT_FOUND, ""
        )
    report.known = report.stored | report.failures.keys()
    return report


def test_one_page_is_no_pages() -> None:
    report = report_of(stored=1, failed=0)
    report.listing_pages = 1
    assert "of 1 listed on 1 page\n" in report.table()
    assert "lists 1 clip on 1 page;" in report.plan()
    report.known.add("another")
    assert "would ask 2 pages and 2 audio files: about 4 requests" in report.plan()


def test_asked_is_stored_plus_failed() -> None:
    values = json.loads(report_of(stored=7, failed=2).to_json())
    assert (values["asked"], values["stored"], values["failed"]) == (9, 7, {"not_found": 2})
    assert values["asked"] == values["stored"] + sum(values["failed"].values()) == values["known"]


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (report_of(stored=9, failed=1), None),
        (report_of(stored=8, failed=2), "2 of 10 clips failed (not_found 2), more than --max-failed 0.1"),
        (report_of(stored=0, failed=0), "lists no clip"),
    ],
)
def test_verdict_counts_failures_against_the_asked(report: CrawlReport, message: str | None) -> None:
    verdict = report.verdict(0.1)
    if message is None:
        assert verdict is None
    else:
        assert message in str(verdict)


def test_verdict_of_a_crawl_that_was_stopped_says_to_run_it_again() -> None:
    report = report_of(stored=9, failed=0)
    report.finish_reason = "shutdown"
    assert "run the same command again" in (report.verdict(1.0) or "")
