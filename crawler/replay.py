"""Downloads what a published list names into the raw layout, over requests: the clips of a data set that is fading.

Reads the rows of crawler.published; writes records, audio and crawl_report.json as a crawl does, and leaves alone what
one has stored. A row whose link is dead is healed through the clip's page: its number has stayed the same through all
changes of address, and the page names the media that answer today. A page is read before its audio, as it may reserve
that; only a link that leads to the page itself is asked first. Title, description and tags are the list's own, for the
replay brings back a data set as it was published; author and licence come from the page, as the list has none.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from crawler import settings
from crawler.items import CRAWL_REPORT
from crawler.notices import NOTICES
from crawler.opt_outs import OptOuts
from crawler.pages.fields import AudioLink, PageError, PageFields, decode_page
from crawler.published import PAGES, PublishedRow, hosts_of
from crawler.rejections import RejectionError, check_audio, rejection_of_status, telling
from crawler.replay_client import (
    Answer,
    BusyError,
    Manners,
    OptedOutError,
    ReservedError,
    SiteClient,
    SiteClosedError,
    StoppedError,
)
from crawler.report import (
    CrawlReport,
    FailureReason,
    LeftOut,
    command_of,
    lasting_failures,
    progress_line,
    write_report,
)
from crawler.site import Site
from crawler.store import (
    NEXT_STEP,
    BusyFolderError,
    claim_folder,
    is_full,
    record_of,
    stored_record,
    words_of,
    write_clip,
)
from crawler.tdm import page_reserves

REPLAY_REPORT = "replay_report.json"
"""Of a replay into a folder that a crawl has filled."""
CSV_LINK = "csv download_link"
"""What ``extra.selectors.audio`` says of a row whose published link is alive."""
_LEADS_TO_PAGE = re.compile(r"https://bigsoundbank\.com/UPLOAD/wav/", re.I)
"""Published links that are dead and lead to the clip's own page: one request less than page and link apart."""


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
        line = progress_line(
            self.source,
            f"{self.done} of {self.total} clips",
            failed=self.failed,
            per_s=self.done / (now - self._began),
            left=self.total - self.done,
            last_failure=self.last_failure,
        )
        print(line, file=sys.stderr, flush=True)


class SiteReplay:
    """The rows of one site on their way to disk; fills the report of it."""

    def __init__(self, source: str, rows: Sequence[PublishedRow], job: Job, stop: threading.Event) -> None:
        self.source = source
        self.rows = rows
        self.job = job
        self.pages = PAGES[source]
        self.client = client_of(source, job, stop)
        self.folder = job.raw / source
        self.report = CrawlReport(source, self.client.site.asked, "replay")
        self.report.known = {row.source_id for row in rows}
        self.opt_outs = OptOuts(source, self.client.site, self.pages.id_of, job.opt_outs)
        self.client.is_opted_out = self.opt_outs.names_address
        self.progress = Progress(source, 0)

    def run(self) -> None:
        """Replay the rows, and write the report before and after, as a crawl does."""
        report = self.report
        try:
            with claim_folder(self.folder):
                missing = self.missing()
                write_report(self.report_path, report)
                try:
                    report.finish_reason = self._replay(missing)
                finally:
                    self.client.close()
                    report.seconds = time.monotonic() - report.started
                    report.delay_s, report.requests = self.client.delay_s, self.client.requests
                    report.bytes, report.notices = self.client.bytes, self.client.notices
                    for note in self.client.notes:
                        report.warn(note)
                write_report(self.report_path, report)
        except BusyFolderError as error:
            report.finish_reason, report.error = "busy", str(error)
        except OSError as error:
            report.finish_reason = "no_space" if is_full(error) else "io_error"
            report.error = report.error or f"cannot write to {self.folder}: {words_of(error)}; {NEXT_STEP}"

    def _replay(self, missing: list[PublishedRow]) -> str:
        """Return why it ended: a crawl's finish_reason."""
        try:
            self.progress = Progress(self.source, len(missing))
            if missing:
                self.client.open(self.folder / NOTICES)
            for row in missing:
                self._row(row)
                self.progress.show()
        except StoppedError:
            return "shutdown"
        except SiteClosedError as error:
            self.report.error = str(error)
            return error.finish_reason
        return "finished"

    @property
    def report_path(self) -> Path:
        """Where the report goes: not over that of a crawl of the whole site, which says more of the folder."""
        path = self.folder / CRAWL_REPORT
        return path if command_of(path) in ("", "replay") else self.folder / REPLAY_REPORT

    def missing(self) -> list[PublishedRow]:
        """Return the rows to ask, and note those that are stored, opted out, or failed for good lately."""
        missing = []
        if not self.job.retries_failed:
            since = datetime.now(UTC) - timedelta(days=settings.RETRY_FAILED_DAYS)
            for path in (self.folder / CRAWL_REPORT, self.folder / REPLAY_REPORT):
                failed = lasting_failures(path, self.report.base_url, command="replay", since=since)
                self.report.remembered |= failed
        for row in self.rows:
            is_stored = stored_record(self.job.raw, self.source, row.source_id) is not None
            if self.opt_outs.names(row.source_id, row.audio_url):
                self.report.leave_out(row.source_id, LeftOut.OPTED_OUT, stored_in=self.folder if is_stored else None)
            elif is_stored:
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
            self.report.leave_out(row.source_id, LeftOut.TDM_RESERVED)
        except OptedOutError:
            self.report.leave_out(row.source_id, LeftOut.OPTED_OUT)
        except OSError as error:
            self._failed(row, FailureReason.IO_ERROR, f"cannot write to {self.folder}: {words_of(error)}")
            raise
        except (StoppedError, SiteClosedError):
            raise
        except Exception as error:  # noqa: BLE001  a bug costs one clip, and the report names it
            self._failed(row, FailureReason.CRAWLER_ERROR, f"{type(error).__name__}: {error}"[:300])

    def _store(self, row: PublishedRow) -> None:
        link = AudioLink(self.client.site.canonical(row.audio_url), CSV_LINK)
        nothing = self._nothing(row)
        rejected: Rejected = []
        told: PageFields | RejectionError | None = None
        got: Got | None = None
        page: Answer | None = None
        if self.job.reads_all_pages and not _LEADS_TO_PAGE.match(link.url):
            told = self._told(row, None)
        if not isinstance(told, BusyError):  # else the licence may be had another time, and the audio with it
            got, page = self._published(row, link, rejected)
        is_alive = got is not None
        if told is None:
            told = self._told(row, page) if self.job.reads_all_pages or not is_alive else nothing
        if isinstance(told, RejectionError):
            if not is_alive or isinstance(told, BusyError):
                why = telling([told, *(why for _, why in rejected)])
                raise RejectionError(why.reason, "; ".join([*map(_words, rejected), f"its page: {told}"]))
            told = dataclasses.replace(nothing, extra={"page": f"{told.reason}: {told}"})  # it is gone: all is said
        got = got or self._healed(told, link, rejected)
        extra = {"replay": "alive"} if is_alive else {"replay": "healed", "dead_link": row.audio_url}
        fields = dataclasses.replace(
            told,
            title=row.title,
            description=row.description,
            tags=row.tags,
            extra=told.extra | extra,
            selectors=told.selectors | dict.fromkeys(("title", "description", "tags"), "csv"),
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

    def _nothing(self, row: PublishedRow) -> PageFields:
        """Return what is known of a row without its page: its address."""
        return PageFields(
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

    def _published(self, row: PublishedRow, link: AudioLink, rejected: Rejected) -> tuple[Got | None, Answer | None]:
        """Return the audio that the published link gives, else None and the clip's page if the link leads there."""
        page = None
        try:
            if not row.audio_url:
                raise RejectionError(FailureReason.NOT_FOUND, "the list names no address")
            answer = self.client.audio(link.url)
            if answer.status == 200 and self.pages.id_of(answer.url) == row.source_id:
                page = answer
            return Got(link, answer, check_audio(answer.status, answer.body)), None
        except RejectionError as rejection:
            rejected.append((link, rejection))
            return None, page

    def _told(self, row: PublishedRow, page: Answer | None) -> PageFields | RejectionError:
        """Return what the row's page tells, be it here already or not, or why it tells nothing."""
        try:
            return self._page_fields(row, page or self.client.page(self.client.site.canonical(row.page_url)))
        except RejectionError as rejection:
            return rejection

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
        if self.opt_outs.names(fields.source_id, *(link.url for link in fields.audio)):
            raise OptedOutError
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
        why = telling(why for _, why in rejected)
        raise RejectionError(why.reason, "; ".join(map(_words, rejected)))

    def _failed(self, row: PublishedRow, reason: FailureReason, detail: str) -> None:
        self.report.fail(row.source_id, row.page_url, reason, detail)
        self.progress.failed += 1
        self.progress.last_failure = f"last failure {row.source_id} {reason}"


def _words(rejected: tuple[AudioLink, RejectionError]) -> str:
    return f"{rejected[0].url}: {rejected[1]}"


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # a join without end would not hear Ctrl-C everywhere
