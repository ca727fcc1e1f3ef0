"""Why an answer is not a clip's audio: statuses and bodies onto the closed list of reasons. No Scrapy."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from crawler.report import LASTING, FailureReason
from crawler.sniffing import EMPTY_BYTES, audio_extension, describe


class RejectionError(Exception):
    """One address that gave no audio, with its reason; the message is the detail."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def rejection_of_status(status: int) -> RejectionError:
    """Return the reason that an HTTP status other than 200 means."""
    if status in (404, 410):
        reason = FailureReason.NOT_FOUND
    elif status in (401, 403, 451):
        reason = FailureReason.FORBIDDEN
    else:
        reason = FailureReason.HTTP_ERROR
    return RejectionError(reason, f"HTTP status {status}")


def rejection_of_coding(coding: str) -> RejectionError:
    """Return the reason that audio is refused which comes packed: its end may be missing, and nothing would show it."""
    words = f"comes as {coding}, though asked for as it is: whether it is whole cannot be told"
    return RejectionError(FailureReason.HTTP_ERROR, words)


def telling(rejections: Iterable[RejectionError]) -> RejectionError:
    """Return the one of a clip's rejections, of which there is one or more, that says what became of the clip.

    What may come tomorrow goes before what is gone for good: such a clip must not be left alone for a week.
    """
    those = list(rejections)
    return next((rejection for rejection in those if rejection.reason not in LASTING), those[0])


def retry_after_s(value: str) -> float | None:
    """Return the seconds that a Retry-After header asks for, given as seconds or as a date; None if it says nothing.

    >>> retry_after_s("120"), retry_after_s("soon")
    (120.0, None)
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        when = parsedate_to_datetime(value)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, (when - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError, TypeError):
        return None


def check_audio(status: int, body: bytes) -> str:
    """Return the extension of an answer that is audio, judged by status, size and first bytes.

    Raises:
        RejectionError: With the reason it is not.
    """
    if status != 200:
        raise rejection_of_status(status)
    if not body:
        raise RejectionError(FailureReason.EMPTY_AUDIO, "0 bytes")
    extension = audio_extension(body)
    if extension is None:
        raise RejectionError(FailureReason.NOT_AUDIO, f"the first bytes are {describe(body)}")
    if len(body) <= EMPTY_BYTES:
        raise RejectionError(FailureReason.EMPTY_AUDIO, f"{len(body)} bytes, a header at most")
    return extension
