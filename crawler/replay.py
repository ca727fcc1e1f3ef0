"""Downloads what a published list names into the raw layout, over requests: the clips of a data set that is fading.

Reads the rows of crawler.published; writes records, audio and crawl_report.json as a crawl does, and leaves alone what
one has stored. A row whose link is dead is healed through the clip's page: its number has stayed the same through all
changes of address, and the page names the media that answer today. Title, description and tags are the list's own,
for the replay brings back a data set as it was published; author and licence come from the page, as the list has none.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from crawler import settings
from crawler.items import CRAWL_REPORT, open_whole, take_lock
from crawler.pages.fields import AudioLink, PageError, PageFields, decode_page
from crawler.published import PAGES, PublishedRow, hosts_of
from crawler.rejections import RejectionError, check_audio, rejection_of_status
from crawler.replay_client import (
    Answer,
    BusyError,
    Manners,
    ReservedError,
    SiteClient,
    SiteClosedError,
    StoppedError,
)
from crawler.report import CrawlReport, FailedClip, FailureReason, LeftOut, lasting_failures
from crawler.site import Site
from crawler.store import NEXT_STEP, is_full, record_of, stored_record, words_of, write_clip
from crawler.tdm import page_reserves

CSV_LINK = "csv download_link"
"""What ``extra.selectors.audio`` says of a row whose published link is alive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a replay or a check is to do, but for the rows."""

    raw: Path
    manners: Manners
    base_urls: Mapping[str, str]
    """Source -> another host that serves its pages; a source that is not there is asked at its own."""
    opt_outs: frozenset[str] = frozenset()
    retries_failed: bool = False
    """Ask rows again that failed for a lasting reason within RETRY_FAILED_DAYS."""
    reads_all_pages: bool = True
    """False reads no page for a row whose link is alive: fewer requests, but no author and the licence "unknown"."""


def by_source(rows: Sequence[PublishedRow], limit: int | None) -> dict[str, list[PublishedRow]]:
    """Return the rows of each source, the first ``limit`` of each at most."""
    found: dict[str, list[PublishedRow]] = {}
    for row in rows:
        found.setdefault(row.source, []).append(row)
    return {source: those[:limit] for source, those in found.items()}


def replay(rows: Mapping[str, Sequence[PublishedRow]], job: Job) -> dict[str, CrawlReport]:
    """Store every row that is not stored yet, the sites side by side, and return a report for each.

    Ctrl-C ends it between two requests; a second run goes on where any run ended, however it ended.
    """
    stop = threading.Event()
    replays = {source: SiteReplay(source, those, job, stop) for source, those in rows.items()}
    side_by_side([one.run for one in replays.values()], stop)
    return {source: one.report for source, one in replays.items()}


def side_by_side(works: Sequence[Callable[[], None]], stop: threading.Event) -> None:
    """Run each in a thread of its own until all have ended; Ctrl-C sets the event and waits for them."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]  # daemon: a second Ctrl-C ends at once
    for thread in threads:
        thread.start()
    try:
        _join(threads)
    except KeyboardInterrupt:
        print("ending after what is on its way; Ctrl-C again ends at once", file=sys.stderr, flush=True)
        stop.set()
        _join(threads)


def client_of(source: str, job: Job, stop: threading.Event) -> SiteClient:
    """Return the client of one source."""
    base_url = job.base_urls.get(source, "")
    return SiteClient(Site(PAGES[source].HOME, hosts_of(source), base_url), job.manners, stop)


def opted_out(site: Site, opt_outs: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the ids of a site's clips that an opt-out list names, by clip_id or page, and its other addresses."""
    source = next(name for name, pages in PAGES.items() if site.home == pages.HOME)
    urls = {_canonical(site, line) for line in opt_outs if "://" in line}
    ids = {line.removeprefix(f"{source}-") for line in opt_outs if line.startswith(f"{source}-")}
    pages = {url for url in urls if urlsplit(url).hostname in site.hosts}
    return frozenset(ids | {PAGES[source].id_of(url) or "" for url in pages}), frozenset(urls)


Rejected = list[tuple[AudioLink, RejectionError]]
"""The addresses of a row that gave no audio, in the order they were asked."""


@dataclass(frozen=True, slots=True)
class Got:
    """An address that gave audio."""

    link: AudioLink
    answer: Answer
    extension: str


class Progress:
    """A line on stderr every some seconds: how much of a site's rows is done, at which rate, and the last failure."""

    def __init__(self, source: str, total: int) -> None:
        self.source = source
        self.total = total
        self.done = 0
        self.failed = 0
        self.last_failure = ""
        self._began = self._shown = time.monotonic()

    def show(self) -> None:
        """Count one more row, and write a line if the last one is some seconds old."""
        self.done += 1
        now = time.monotonic()
        if now - self._shown < settings.PROGRESS_SECONDS:
            return
        self._shown = now
        rate = self.done / (now - self._began)
        left_s = round((self.total - self.done) / rate)
        parts = [f"{self.source}: {self.done} of {self.total} clips", f"{self.failed} failed", f"{rate:.1f} clips/s"]
        parts += [f"{left_s // 60}:{left_s % 60:02} left"] + [self.last_failure] * bool(self.last_failure)
        print(", ".join(parts), file=sys.stderr, flush=True)


class SiteReplay:
    """The rows of one site on their way to disk; fills the report of it."""

    def __init__(self, source: str, rows: Sequence[PublishedRow], job: Job, stop: threading.Event) -> None:
        self.source = source
        self.rows = rows
        self.job = job
        self.pages = PAGES[source]
        self.client = client_of(source, job, stop)
        self.folder = job.raw / source
        self.report = CrawlReport(source, self.client.site.asked)
        self.report.known = {row.source_id for row in rows}
        self.opted_out_ids, self.opted_out_urls = opted_out(self.client.site, job.opt_outs)
        self.progress = Progress(source, 0)

    def run(self) -> None:
        """Replay the rows, and write the report before and after, as a crawl does."""
        report = self.report
        try:
            with self._lock():
                missing = self._missing()
                self._write_report()
                try:
                    report.finish_reason = self._replay(missing)
                finally:
                    self.client.close()
                    report.seconds = time.monotonic() - report.started
                    report.delay_s, report.requests = self.client.delay_s, self.client.requests
                    report.bytes = self.client.bytes
                    report.warnings += self.client.notes
                self._write_report()
        except BlockingIOError:
            report.finish_reason, report.error = (
                "busy",
                f"another crawl is at work in {self.folder}; wait for it to end",
            )
        except OSError as error:
            report.finish_reason = "no_space" if is_full(error) else "io_error"
            report.error = report.error or f"cannot write to {self.folder}: {words_of(error)}; {NEXT_STEP}"

    def _replay(self, missing: list[PublishedRow]) -> str:
        """Return why it ended: a crawl's finish_reason."""
        try:
            self.progress = Progress(self.source, len(missing))
            if missing:
                self.client.open(self.folder / "site")
            for row in missing:
                self._row(row)
                self.progress.show()
        except StoppedError:
            return "shutdown"
        except SiteClosedError as error:
            self.report.error = str(error)
            return error.finish_reason
        return "finished"

    def _missing(self) -> list[PublishedRow]:
        """Return the rows to ask, and note those that are stored, opted out, or failed for good lately."""
        missing = []
        if not self.job.retries_failed:
            since = datetime.now(UTC) - timedelta(days=settings.RETRY_FAILED_DAYS)
            path = self.folder / CRAWL_REPORT
            self.report.remembered = lasting_failures(path, self.report.base_url, since=since)
        for row in self.rows:
            if row.source_id in self.opted_out_ids or row.audio_url in self.opted_out_urls:
                self.report.left_out[row.source_id] = LeftOut.OPTED_OUT
                if stored_record(self.job.raw, self.source, row.source_id):
                    words = f"clip {row.source_id} is stored by an earlier run and now {LeftOut.OPTED_OUT}"
                    where = f"delete records/{row.source_id}.json and its audio in {self.folder}"
                    self.report.warnings.append(f"{words}: {where}")
            elif stored_record(self.job.raw, self.source, row.source_id):
                self.report.already.add(row.source_id)
                self.report.stored.add(row.source_id)
            elif failure := self.report.remembered.get(row.source_id):
                self.report.failures[row.source_id] = failure
            else:
                missing.append(row)
        return missing

    def _row(self, row: PublishedRow) -> None:
        """Store one row, or note why it was not."""
        try:
            self._store(row)
        except RejectionError as rejection:
            self._failed(row, rejection.reason, str(rejection))
        except ReservedError:
            self.report.left_out[row.source_id] = LeftOut.TDM_RESERVED
        except OSError as error:
            self._failed(row, FailureReason.IO_ERROR, f"cannot write to {self.folder}: {words_of(error)}")
            raise
        except (StoppedError, SiteClosedError):
            raise
        except Exception as error:  # noqa: BLE001  a bug costs one clip, and the report names it
            self._failed(row, FailureReason.CRAWLER_ERROR, f"{type(error).__name__}: {error}"[:300])

    def _store(self, row: PublishedRow) -> None:
        link = AudioLink(self.client.site.canonical(row.audio_url), CSV_LINK)
        rejected: Rejected = []
        page: Answer | None = None
        got: Got | None = None
        try:
            if not row.audio_url:
                raise RejectionError(FailureReason.NOT_FOUND, "the list names no address")
            answer = self.client.audio(link.url)
            if answer.status == 200 and self.pages.id_of(answer.url) == row.source_id:
                page = answer  # BigSoundBank's dead links lead to the very page that heals them
            got = Got(link, answer, check_audio(answer.status, answer.body))
        except RejectionError as rejection:
            rejected.append((link, rejection))
        is_alive = got is not None
        fields = self._fields(row, page, rejected)
        if any(self.client.site.canonical(other.url) in self.opted_out_urls for other in fields.audio):
            self.report.left_out[row.source_id] = LeftOut.OPTED_OUT
            return
        got = got or self._healed(fields, link, rejected)
        extra = {"replay": "alive"} if is_alive else {"replay": "healed", "dead_link": row.audio_url}
        fields = dataclasses.replace(
            fields,
            title=row.title,
            description=row.description,
            tags=row.tags,
            extra=fields.extra | extra,
            selectors=fields.selectors | dict.fromkeys(("title", "description", "tags"), "csv"),
        )
        self._write_clip(fields, got, rejected)

    def _write_clip(self, fields: PageFields, got: Got, rejected: Rejected) -> None:
        record = record_of(
            self.source,
            fields,
            got.link,
            body=got.answer.body,
            extension=got.extension,
            content_type=got.answer.content_type,
            rejected=rejected,
        )
        write_clip(self.job.raw, record, got.answer.body)
        self.report.stored.add(fields.source_id)
        for name, selector in (record.extra["selectors"] | {"replay": fields.extra["replay"]}).items():
            self.report.selectors[name][selector] += 1

    def _fields(self, row: PublishedRow, page: Answer | None, rejected: Rejected) -> PageFields:
        """Return what the row's page tells, or of a live row without a page nothing but its address."""
        nothing = PageFields(
            source_id=row.source_id,
            page_url=self.client.site.canonical(row.page_url),
            title="",
            description="",
            tags=(),
            author="",
            license_raw="",
            license_url="",
            audio=(),
        )
        is_alive = not rejected
        if is_alive and not self.job.reads_all_pages:
            return nothing
        try:
            return self._page_fields(row, page or self.client.page(nothing.page_url))
        except RejectionError as rejection:
            # A page that is gone says nothing more; one that is out of reach may yet say the licence, another time.
            if is_alive and not isinstance(rejection, BusyError):
                return dataclasses.replace(nothing, extra={"page": f"{rejection.reason}: {rejection}"})
            details = "; ".join([*map(_words, rejected), f"its page: {rejection}"])
            raise type(rejection)(rejection.reason, details) from rejection

    def _page_fields(self, row: PublishedRow, page: Answer) -> PageFields:
        if page.status != 200:
            raise rejection_of_status(page.status)
        html = decode_page(page.body, page.content_type)
        if page_reserves(html):
            raise ReservedError(page.url)
        try:
            fields: PageFields = self.pages.parse_detail(html, page.url)
            if fields.source_id != row.source_id:
                raise PageError(f"the site answers with clip {fields.source_id}")
        except PageError as error:
            raise RejectionError(FailureReason.NO_PAGE, str(error)) from error
        return fields

    def _healed(self, fields: PageFields, dead: AudioLink, rejected: Rejected) -> Got:
        """Return the first of the page's media addresses that gives audio; adds those before it to the rejected."""
        for link in fields.audio:
            link = AudioLink(self.client.site.canonical(link.url), link.selector)
            if link.url == dead.url:
                continue
            try:
                answer = self.client.audio(link.url)
                return Got(link, answer, check_audio(answer.status, answer.body))
            except RejectionError as rejection:
                rejected.append((link, rejection))
        # What was only busy is not gone for good, whatever the others are.
        why = next((why for _, why in rejected if isinstance(why, BusyError)), rejected[0][1])
        raise RejectionError(why.reason, "; ".join(map(_words, rejected)))

    def _failed(self, row: PublishedRow, reason: FailureReason, detail: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.report.failures[row.source_id] = FailedClip(row.source_id, row.page_url, reason, detail, now)
        self.progress.failed += 1
        self.progress.last_failure = f"last failure {row.source_id} {reason}"

    def _lock(self) -> IO[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = take_lock(self.folder / ".lock")  # a crawl beside this one would remove what this one is writing
        for part in self.folder.glob("**/*.part"):  # what a killed run left half-written
            part.unlink(missing_ok=True)
        return lock

    def _write_report(self) -> None:
        with open_whole(self.folder / CRAWL_REPORT) as file:
            file.write(self.report.to_json().encode("utf-8", "backslashreplace"))


def _words(rejected: tuple[AudioLink, RejectionError]) -> str:
    return f"{rejected[0].url}: {rejected[1]}"


def _canonical(site: Site, line: str) -> str:
    try:
        return site.canonical(line)
    except ValueError:  # http://[ is no address
        return ""


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # a join without end would not hear Ctrl-C everywhere
