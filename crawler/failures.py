"""Why a request brought no clip: exceptions, statuses and bodies onto the closed list of reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadCancelledError,
    DownloadConnectionRefusedError,
    DownloadFailedError,
    DownloadTimeoutError,
    IgnoreRequest,
    NotSupported,
    ResponseDataLossError,
    UnsupportedURLSchemeError,
)
from scrapy.spidermiddlewares.httperror import HttpError
from twisted.internet.error import ConnectError, ConnectionClosed

from crawler.report import FailureReason
from crawler.site import LeftSite
from crawler.sniffing import EMPTY_BYTES, audio_extension, describe

if TYPE_CHECKING:
    from scrapy.http import Response

DOWNLOAD_ERRORS = (
    CannotResolveHostError,
    ConnectError,
    ConnectionClosed,
    DownloadCancelledError,
    DownloadConnectionRefusedError,
    DownloadFailedError,
    DownloadTimeoutError,
    IgnoreRequest,
    NotSupported,
    OSError,  # an answer that does not decompress
    ResponseDataLossError,
    UnsupportedURLSchemeError,
    ValueError,  # an address that is none
)
"""What asking for an address may raise when the address or the site is at fault."""


class RejectionError(Exception):
    """One address that gave no audio, with its reason; the message is the detail."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def rejection_of(error: BaseException | None) -> RejectionError:
    """Return the reason that an exception of a download means."""
    if isinstance(error, HttpError):
        return rejection_of_status(error.response.status)
    if isinstance(error, LeftSite):
        return RejectionError(FailureReason.HTTP_ERROR, str(error))
    if isinstance(error, IgnoreRequest):
        forbidden = "robots.txt" in str(error)
        return RejectionError(FailureReason.ROBOTS if forbidden else FailureReason.HTTP_ERROR, str(error))
    if isinstance(error, ResponseDataLossError):
        return RejectionError(FailureReason.TRUNCATED, "the connection closed before the whole answer came")
    if isinstance(error, DownloadCancelledError):
        return RejectionError(FailureReason.TOO_LARGE, str(error))
    words = _NETWORK.get(type(error)) or f"{type(error).__name__}: {error}".rstrip(": ")
    return RejectionError(FailureReason.NETWORK, words)


_NETWORK: dict[type, str] = {
    CannotResolveHostError: "no such host",
    DownloadConnectionRefusedError: "connection refused",
    DownloadTimeoutError: "no answer in time",
}


def rejection_of_status(status: int) -> RejectionError:
    """Return the reason that an HTTP status other than 200 means."""
    if status in (404, 410):
        reason = FailureReason.NOT_FOUND
    elif status in (401, 403, 451):
        reason = FailureReason.FORBIDDEN
    else:
        reason = FailureReason.HTTP_ERROR
    return RejectionError(reason, f"HTTP status {status}")


def reject_body(response: Response) -> str:
    """Return the extension of an answer that is audio, judged by status, size and first bytes.

    Raises:
        RejectionError: With the reason it is not.
    """
    if response.status != 200:
        raise rejection_of_status(response.status)
    body = response.body
    if not body:
        raise RejectionError(FailureReason.EMPTY_AUDIO, "0 bytes")
    extension = audio_extension(body)
    if extension is None:
        raise RejectionError(FailureReason.NOT_AUDIO, f"the first bytes are {describe(body)}")
    if len(body) <= EMPTY_BYTES:
        raise RejectionError(FailureReason.EMPTY_AUDIO, f"{len(body)} bytes, a header at most")
    return extension
