"""Finds out which rows of a published list are alive, healed or gone, from headers alone, and writes a table of it.

Reads the rows of crawler.published and asks for headers: of the published link, and where that is dead, of the other
addresses at which the sites are known to keep the same clip. Writes CSV (COLUMNS), a line as soon as a row is known, so
that a kill loses nothing finished; a second run goes on from there and asks again only what had no clear answer. It
reads no page and no audio, so what it calls alive is what the site's headers call audio.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import TracebackType

from crawler.items import open_whole, take_lock
from crawler.opt_outs import OptOuts
from crawler.published import PAGES, PublishedRow
from crawler.rejections import RejectionError, rejection_of_status
from crawler.replay import Job, Progress, client_of, side_by_side
from crawler.replay_client import Answer, BusyError, OptedOutError, ReservedError, SiteClosedError, StoppedError
from crawler.report import FailureReason
from crawler.sniffing import EMPTY_BYTES
from crawler.store import NEXT_STEP, words_of

STANDARD_LINKS = {
    "soundbible": ("/grab.php?id={id}&type=wav", "/grab.php?id={id}&type=mp3"),
    "bigsoundbank": tuple(
        f"/UPLOAD/{folder}/{{id}}.{extension}"
        for folder, extension in (("flac", "flac"), ("bwf-en", "wav"), ("aiff", "aiff"), ("ogg", "ogg"), ("mp3", "mp3"))
    ),
}
"""Where each site keeps a clip's audio, best first."""


class State(StrEnum):
    """What became of a row."""

    ALIVE = "alive"
    """The published link answers with audio."""
    HEALED = "healed"
    """It does not, but another address of the same clip does."""
    GONE = "gone"
    """None does."""
    UNKNOWN = "unknown"
    """The site was busy, out of reach, or does not let us ask."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A line of the table."""

    source: str
    source_id: str
    state: State
    content_type: str = ""
    bytes: str = ""
    """As the headers tell; "" if they do not."""
    url: str = ""
    """The address that answers with audio; "" if none does."""
    detail: str = ""
    """Why the addresses before that one do not."""


COLUMNS = tuple(field.name for field in fields(Checked))
Done = dict[tuple[str, str], Checked]
"""Source and id -> what an earlier check found out."""


class TableError(ValueError):
    """A table that cannot be gone on with; the message names it and the way out."""


class Table:
    """The table on disk, one line a row; held by one process at a time, to the end of its ``with`` block."""

    def __init__(self, path: Path, *, again: bool) -> None:
        """Open it, keeping what an earlier check found out; ``again`` starts anew.

        Raises:
            TableError: If another check is at work on it, or it is another kind of file.
            OSError: If it cannot be read or written.
        """
        self.path = path
        self._writing = threading.Lock()
        self._error: OSError | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = take_lock(path.with_name(f".{path.name}.lock"))
        except BlockingIOError as error:
            raise TableError(f"{path}: another check is at work on it; wait for it to end") from error
        try:
            self.done: Done = {} if again else read_table(path)
            with open_whole(path, "w") as file:  # without the half line that a kill may have left
                file.writelines([_line(COLUMNS), *map(_line_of, self.done.values())])
            self._file = path.open("ab", buffering=0)
        except BaseException:
            self._lock.close()
            raise

    def add(self, checked: Checked) -> None:
        """Write a line; it is in the system's hands when this returns."""
        with self._writing:
            if self._error:  # a whole line after half a one would be lost with it
                raise self._error
            line = _line_of(checked).encode("utf-8", "replace")
            try:
                if self._file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                self._error = error
                raise
            self.done[checked.source, checked.source_id] = checked

    def __enter__(self) -> Table:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.close()


def read_table(path: Path) -> Done:
    """Return what an earlier check found out for good, by source and id; {} where there is no table yet.

    Raises:
        TableError: If it is another kind of file.
        OSError: If it cannot be read.
    """
    if not path.exists():
        return {}
    text = path.read_bytes().decode("utf-8", "replace")
    text = text[: text.rfind("\n") + 1]  # without the half line that a kill may have left
    lines = list(csv.reader(text.splitlines()))
    if text and tuple(lines[0]) != COLUMNS:
        raise TableError(f"{path}: not the table of a check: it begins {text[:60]!r}; name another file with --out")
    done: Done = {}
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(COLUMNS) or line[2] not in set(State):
            raise TableError(f"{path}: line {number} is not one of a check; mend it, or start anew with --again")
        if line[2] != State.UNKNOWN:
            done[line[0], line[1]] = Checked(line[0], line[1], State(line[2]), *line[3:])
    return done


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a check ended."""

    states: Mapping[str, Counter[str]]
    """Source -> state -> rows of the list; a row that is left out is in none."""
    left_out: Mapping[str, int]
    unchecked: Mapping[str, int]
    """The rest of each source's rows: an error kept them from being asked."""
    requests: Mapping[str, int]
    warnings: tuple[str, ...]
    error: str
    """What kept it from its end; "" if nothing did."""


def check(rows: Mapping[str, Sequence[PublishedRow]], job: Job, table: Table) -> Verdict:
    """Check every row that the table does not have yet, the sites side by side."""
    stop = threading.Event()
    checks = [SiteCheck(source, those, job, table.done, stop) for source, those in rows.items()]
    side_by_side([partial(one.run, table) for one in checks], stop)
    return Verdict(
        states={one.source: one.states() for one in checks},
        left_out={one.source: len(one.left_out) for one in checks},
        unchecked={one.source: len(one.rows) - len(one.left_out) - one.states().total() for one in checks},
        requests={one.source: one.client.requests.total() for one in checks},
        warnings=tuple(note for one in checks for note in one.client.notes),
        error="; ".join(one.error for one in checks if one.error),
    )


class SiteCheck:
    """The rows of one site on their way to the table."""

    def __init__(self, source: str, rows: Sequence[PublishedRow], job: Job, done: Done, stop: threading.Event) -> None:
        self.source = source
        self.rows = rows
        self.done = done
        """What the table has; it grows as rows are checked."""
        self.client = client_of(source, job, stop)
        self.left_out: set[str] = set()
        self.error = ""
        self._opt_outs = OptOuts(source, self.client.site, PAGES[source].id_of, job.opt_outs)
        self.client.is_opted_out = self._opt_outs.names_address

    def states(self) -> Counter[str]:
        """Return how many of the site's rows are in each state; one that is left out now is in none."""
        rows = (row for row in self.rows if row.source_id not in self.left_out)
        found = (self.done.get((self.source, row.source_id)) for row in rows)
        return Counter(str(checked.state) for checked in found if checked)

    def missing(self) -> list[PublishedRow]:
        """Return the rows to ask, and note those that are opted out."""
        missing = []
        for row in self.rows:
            if self._opt_outs.names(row.source_id, row.audio_url):
                self.left_out.add(row.source_id)
            elif (self.source, row.source_id) not in self.done:
                missing.append(row)
        return missing

    def run(self, table: Table) -> None:
        """Check the rows that the table does not have."""
        missing = self.missing()
        progress = Progress(self.source, len(missing))
        try:
            if missing:
                self.client.open(None)
            for row in missing:
                self._row(row, table, progress)
                progress.show()
        except StoppedError:
            self.error = f"the check of {self.source} was stopped; run the same command again to go on"
        except SiteClosedError as error:
            self.error = str(error)
        except OSError as error:
            self.error = f"cannot write to {table.path}: {words_of(error)}; {NEXT_STEP}"
        finally:
            self.client.close()

    def _row(self, row: PublishedRow, table: Table, progress: Progress) -> None:
        try:
            checked = self._checked(row)
        except (OptedOutError, ReservedError):
            self.left_out.add(row.source_id)
            return
        table.add(checked)
        if checked.state in (State.GONE, State.UNKNOWN):
            progress.failed += 1
            progress.last_failure = f"last {row.source_id} {checked.state}"

    def _checked(self, row: PublishedRow) -> Checked:
        published = self.client.site.canonical(row.audio_url)
        links = [self.client.site.home + link.format(id=row.source_id) for link in STANDARD_LINKS[self.source]]
        reasons: list[str] = []
        is_unknown = False
        for url in dict.fromkeys(filter(None, [published, *links])):
            try:
                answer = self.client.head(url)
                _check_headers(answer)
            except RejectionError as rejection:
                open_reasons = (FailureReason.ROBOTS, FailureReason.FORBIDDEN)
                is_unknown |= isinstance(rejection, BusyError) or rejection.reason in open_reasons
                reasons.append(f"{url}: {rejection}")
                continue
            state = State.ALIVE if url == published else State.HEALED
            length = "" if answer.length is None else str(answer.length)
            detail = "; ".join(reasons)
            return Checked(self.source, row.source_id, state, answer.content_type, length, url, detail)
        state = State.UNKNOWN if is_unknown else State.GONE
        return Checked(self.source, row.source_id, state, detail="; ".join(reasons))


def _check_headers(answer: Answer) -> None:
    """Raise RejectionError if the headers of an answer are not those of audio."""
    if answer.status != 200:
        raise rejection_of_status(answer.status)
    kind = answer.content_type.partition(";")[0].strip().lower()
    if kind.startswith("text/") or kind in ("application/xhtml+xml", "application/json"):
        raise RejectionError(FailureReason.NOT_AUDIO, f"{kind} instead of audio")
    if answer.length is not None and answer.length <= EMPTY_BYTES:
        raise RejectionError(FailureReason.EMPTY_AUDIO, f"{answer.length} bytes")


def _line_of(checked: Checked) -> str:
    return _line([str(getattr(checked, name)) for name in COLUMNS])


def _line(values: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([" ".join(value.split()) for value in values])
    return text.getvalue()


def table_text(verdict: Verdict) -> str:
    """Return the closing table: what became of each site's rows, and the requests that took."""
    lines = [
        f"{'':14}" + "".join(f"{state:>9}" for state in State) + f"{'left out':>10}{'unchecked':>11}{'requests':>10}"
    ]
    for source, states in verdict.states.items():
        counts = "".join(f"{states[state]:>9}" for state in State)
        others = f"{verdict.left_out[source]:>10}{verdict.unchecked[source]:>11}{verdict.requests[source]:>10}"
        lines.append(f"{source:14}{counts}{others}")
    return "\n".join(lines + [f"warning: {warning}" for warning in verdict.warnings])
