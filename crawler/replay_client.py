"""Asks one site over requests: one request at a time, a delay apart, within what the site allows.

What a crawl gets from Scrapy and its middlewares a replay gets here: robots.txt with its Crawl-delay, reservations of
text and data mining, retries that keep to Retry-After, redirects that stay on the site, a cap on size and a floor on
speed. Retries and redirects are followed here, not by requests and urllib3, since each of them is a request that has
to wait its turn, be allowed, and be counted.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import DecodeError, HTTPError, IncompleteRead, ProtocolError, ReadTimeoutError

from crawler import settings
from crawler.notices import keep_notice
from crawler.pages.fields import absolute
from crawler.rejections import RejectionError, rejection_of_coding, retry_after_s
from crawler.report import FailureReason
from crawler.robots import Rules, read_rules
from crawler.site import BOT_NAME
from crawler.tdm import HEADER, TDMREP, TdmRules, header_reserves, read_tdmrep

if TYPE_CHECKING:
    from crawler.site import Site

PACKED, AS_IT_IS = "gzip, deflate", "identity"
"""How a page, and how audio is asked to come."""
BUSY = (429, 500, 502, 503, 504)
"""Statuses that may be another in a moment."""
MAX_SILENT = 10
"""Addresses in a row that the site was down for, each after its retries: then it is left alone until the next run."""
_DRAIN_BYTES = 1 << 14
"""A body that is not wanted and no larger than this is read, so that its connection can be used again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How a site is asked."""

    agent: str
    """User agent."""
    delay_s: float = settings.DOWNLOAD_DELAY
    """Between an answer and the next request; a larger Crawl-delay of robots.txt holds instead."""
    retries: int = settings.RETRY_TIMES
    timeout_s: float = settings.DOWNLOAD_TIMEOUT
    """Without a byte."""
    max_bytes: int = settings.DOWNLOAD_MAXSIZE
    page_max_bytes: int = settings.PAGE_MAXSIZE
    min_rate: float = settings.DOWNLOAD_MIN_RATE
    """Bytes a second that an answer must keep to on the whole ..."""
    min_rate_after_s: float = settings.DOWNLOAD_MIN_RATE_AFTER
    """... once it has taken this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came, after redirects."""

    url: str
    """Its public address."""
    status: int
    body: bytes
    content_type: str
    length: int | None
    """Content-Length, if it was told."""


class BusyError(RejectionError):
    """No answer that means anything; tomorrow may bring another, so nothing is concluded from it."""


class TooSlowError(BusyError):
    """An answer that came slower than the floor; as a timeout, it is tried once more and no oftener."""


class OptedOutError(Exception):
    """An address is on the opt-out list."""


class ReservedError(Exception):
    """The site reserves text and data mining for an address."""


class SiteClosedError(Exception):
    """Nothing more may be asked of the site in this run; the message says why."""

    def __init__(self, message: str, finish_reason: str = "unreachable") -> None:
        super().__init__(message)
        self.finish_reason = finish_reason


class StoppedError(Exception):
    """The run is being stopped."""


class SiteClient:
    """One site. ``open`` comes first; what it then raises: RejectionError, OptedOutError, ReservedError,
    SiteClosedError, StoppedError."""

    def __init__(self, site: Site, manners: Manners, stop: threading.Event) -> None:
        self.site = site
        self.manners = manners
        self.delay_s = manners.delay_s
        self.requests: Counter[str] = Counter()
        """Status -> answers."""
        self.bytes = 0
        self.notes: list[str] = []
        """What is odd about robots.txt and tdmrep.json, and whether they changed."""
        self.notices: list[str] = []
        """Addresses of those that were kept."""
        self.is_opted_out: Callable[[str], bool] = lambda url: False
        """Whether an address may not be asked."""
        self._stop = stop
        self._free_at = 0.0
        self._silent = 0
        self._rules: Rules | None = None
        self._tdm = TdmRules()
        self._session = _Session()
        # As bytes: a str must be latin-1, and a contact need not be.
        self._session.headers.update({"User-Agent": manners.agent.encode("utf-8", "replace")})
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # no session is needed to see a sound
        self._session.auth = lambda request: request  # else requests sends what ~/.netrc has for the host

    def open(self, notices: Path | None) -> None:
        """Read robots.txt and tdmrep.json, and keep copies of them in a folder.

        Raises:
            SiteClosedError: If the site allows nothing.
            OSError: If a copy cannot be written.
        """
        robots, why = self._notice("/robots.txt", notices)
        status, body = (robots.status, robots.body) if robots else (None, b"")
        rules = read_rules(status, body, agent=BOT_NAME, why=why, max_delay_s=settings.CRAWL_DELAY_MAX_S)
        if rules.parsed is None:
            raise SiteClosedError(f"{self.site.asked}: {rules.note}")
        self.delay_s = max(self.delay_s, rules.crawl_delay_s)
        self._rules = rules
        tdmrep, why = self._notice(TDMREP, notices)
        status, body = (tdmrep.status, tdmrep.body) if tdmrep else (None, b"")
        self._tdm = read_tdmrep(status, body, why=why, kept_in=notices)
        self.notes += filter(None, (rules.note, self._tdm.note))
        if self._tdm.reserves("/"):
            raise SiteClosedError(
                f"{self.site.asked} reserves text and data mining for the whole site ({TDMREP})", "reserved"
            )

    def page(self, url: str) -> Answer:
        """Return the answer to a request for a page, of any status that is not busy."""
        return self._follow("GET", url, self.manners.page_max_bytes, PACKED)

    def audio(self, url: str) -> Answer:
        """Return the answer to a request for audio, of any status that is not busy."""
        return self._follow("GET", url, self.manners.max_bytes)

    def head(self, url: str) -> Answer:
        """Return what the headers of an answer tell; where HEAD is refused, GET is asked and its body is not read."""
        answer = self._follow("HEAD", url, 0)
        return self._follow("GET", url, 0) if answer.status in (400, 403, 405, 501) else answer

    def close(self) -> None:
        """End the connections."""
        self._session.close()

    def _notice(self, path: str, notices: Path | None) -> tuple[Answer | None, str]:
        """Return what the site answers, else None and why it did not."""
        url = self.site.home + path
        try:
            answer = self.page(url)
        except RejectionError as error:
            return None, str(error)
        if notices is None:
            return answer, ""
        if keep_notice(notices, url, status=answer.status, body=answer.body):
            self.notes.append(f"{url} has changed since the last run: read it; both copies are in {notices}")
        if answer.status == 200:
            self.notices.append(url)
        return answer, ""

    def _follow(self, method: str, url: str, max_bytes: int, coding: str = AS_IT_IS) -> Answer:
        for _ in range(settings.REDIRECT_MAX_TIMES + 1):
            asked = self.site.target(url)
            if asked is None:
                raise RejectionError(FailureReason.HTTP_ERROR, f"leads away from the site, to {url}")
            parts = urlsplit(asked)
            if self.is_opted_out(asked):  # also where a redirect leads to
                raise OptedOutError(asked)
            if self._rules is not None:
                if not self._rules.allows(asked):
                    raise RejectionError(FailureReason.ROBOTS, f"robots.txt forbids {parts.path}")
                if self._tdm.reserves_url(asked):
                    raise ReservedError(f"{TDMREP} reserves {parts.path}")
            answer = self._persist(method, asked, max_bytes, coding)
            if isinstance(answer, Answer):
                return answer
            url = answer
        raise RejectionError(FailureReason.HTTP_ERROR, f"max redirections reached: {settings.REDIRECT_MAX_TIMES}")

    def _persist(self, method: str, url: str, max_bytes: int, coding: str) -> Answer | str:
        """Return an answer, or the address that it redirects to; asks again while the site is busy or out of reach."""
        rejection: RejectionError
        timeouts, is_down = 0, False
        for attempt in range(self.manners.retries + 1):
            pause_s = self.delay_s * 2**attempt
            self._wait(self._free_at - time.monotonic())
            try:
                with self._session.request(
                    method,
                    url,
                    headers={"Accept-Encoding": coding},
                    stream=True,
                    allow_redirects=False,
                    timeout=self.manners.timeout_s,
                ) as response:
                    status = response.status_code
                    self.requests[str(status)] += 1
                    if status not in BUSY:
                        check_coding(response.headers.get("Content-Encoding", ""), coding)
                        answer = self._read(response, max_bytes)
                        self._silent = 0
                        return answer
                    rejection, is_down = BusyError(FailureReason.HTTP_ERROR, f"HTTP status {status}"), status != 500
                    pause_s = max(pause_s, self._retry_after_s(response))
                    _drain(response)
            except TooSlowError as error:
                rejection = error
                timeouts += 1
            except (requests.RequestException, HTTPError, ValueError) as error:  # ValueError: an address that is none
                rejection = _rejection_of(error)
                is_down = rejection.reason is FailureReason.NETWORK
                self.requests["no answer"] += is_down
                timeouts += isinstance(error, requests.Timeout | ReadTimeoutError)
            finally:
                self._free_at = time.monotonic() + self.delay_s
            if not isinstance(rejection, BusyError):
                raise rejection
            if attempt == self.manners.retries or timeouts > 1:
                break
            self._free_at = time.monotonic() + pause_s
        self._silent = self._silent + 1 if is_down else 0
        if self._silent >= MAX_SILENT:
            raise SiteClosedError(f"{self.site.asked} was down {MAX_SILENT} times in a row, last: {rejection}")
        raise rejection

    def _read(self, response: requests.Response, max_bytes: int) -> Answer | str:
        if response.is_redirect:
            _drain(response)
            return absolute(response.url, self._session.get_redirect_target(response) or "")
        if response.status_code == 200 and header_reserves(response.headers.get(HEADER)):
            raise ReservedError(f"the header {HEADER} of {self.site.canonical(response.url)}")
        told = response.headers.get("Content-Length", "")
        length = int(told) if told.isascii() and told.isdigit() and len(told) < 20 else None
        body = b""
        if response.status_code != 200:
            _drain(response)
        elif max_bytes:
            body = self._body(response, length, max_bytes)
        return Answer(
            url=self.site.canonical(response.url),
            status=response.status_code,
            body=body,
            content_type=response.headers.get("Content-Type", ""),
            length=length,
        )

    def _body(self, response: requests.Response, length: int | None, max_bytes: int) -> bytes:
        too_large = RejectionError(FailureReason.TOO_LARGE, f"more than {max_bytes} bytes")
        if length is not None and length > max_bytes:
            raise too_large
        began = time.monotonic()
        pieces: list[bytes] = []
        size = 0
        # read1, not iter_content: that waits for a whole piece, and a slow drip would be waited for without end.
        while piece := response.raw.read1(1 << 16, decode_content=True):
            pieces.append(piece)
            size += len(piece)
            self.bytes += len(piece)
            if size > max_bytes:
                raise too_large
            taken_s = time.monotonic() - began
            if taken_s > self.manners.min_rate_after_s and size < self.manners.min_rate * taken_s:
                raise TooSlowError(FailureReason.NETWORK, f"too slow: {size} bytes in {taken_s:.0f} s")
            if self._stop.is_set():
                raise StoppedError
        return b"".join(pieces)

    def _retry_after_s(self, response: requests.Response) -> float:
        told = response.headers.get("Retry-After", "")
        seconds = retry_after_s(told) or 0.0
        if seconds > settings.RETRY_AFTER_MAX_S:
            words = f"{self.site.asked} is busy and says Retry-After: {told}; run the same command again then"
            raise SiteClosedError(words, "told_to_wait")
        return seconds

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(max(0.0, seconds)):
            raise StoppedError


class _Session(requests.Session):
    """A session that leaves redirects alone: requests looks at them even where told not to follow any, and reads
    their bodies to the end, be there one or not."""

    def resolve_redirects(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Return nothing to follow."""
        return iter(())


def check_coding(came: str, asked: str) -> None:
    """Refuse a file that comes packed though asked for as it is.

    Raises:
        RejectionError: urllib3 unpacks what it can of a gzip body that was cut, and says nothing.
    """
    if asked == AS_IT_IS and came.strip().lower() not in ("", "identity"):
        raise rejection_of_coding(came)


def _drain(response: requests.Response) -> None:
    """Read a small rest, so that the connection can be used again; a large one ends with its connection."""
    rest = response.raw.length_remaining
    if rest is not None and rest <= _DRAIN_BYTES:
        response.raw.drain_conn()


def _rejection_of(error: Exception) -> RejectionError:
    """Return the reason that an exception of requests or urllib3 means."""
    broke_off = isinstance(error, ProtocolError) and not isinstance(error, requests.RequestException)
    if isinstance(error, IncompleteRead) or broke_off:
        return BusyError(FailureReason.TRUNCATED, "the connection closed before the whole answer came")
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return BusyError(FailureReason.NETWORK, "no answer in time")
    if isinstance(error, requests.ConnectionError):
        words = "connection refused" if "refused" in str(error) else "no connection"
        return BusyError(FailureReason.NETWORK, words)
    if isinstance(error, DecodeError):
        return RejectionError(FailureReason.NETWORK, "the answer does not decompress")
    return RejectionError(FailureReason.NETWORK, f"{type(error).__name__}: {error}"[:300])
