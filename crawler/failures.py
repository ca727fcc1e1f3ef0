"""Why a request of Scrapy's brought no clip: its exceptions onto the closed list of reasons."""

from __future__ import annotations

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

from crawler.downloads import TooSlowError
from crawler.rejections import RejectionError, rejection_of_status
from crawler.report import FailureReason, LeftOut

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


class LeftOutError(IgnoreRequest):
    """An address that may not be asked: opted out, or reserved from text and data mining."""

    def __init__(self, why: LeftOut, url: str) -> None:
        super().__init__(f"{why}: {url}")
        self.why = why


class RobotsForbidError(IgnoreRequest):
    """An address that robots.txt forbids, or would have to allow and cannot be read."""


def rejection_of(error: BaseException | None) -> RejectionError:
    """Return the reason that an exception of a download means."""
    if isinstance(error, HttpError):
        return rejection_of_status(error.response.status)
    if isinstance(error, RobotsForbidError):
        return RejectionError(FailureReason.ROBOTS, str(error))
    if isinstance(error, IgnoreRequest):  # a foreign host, too many redirects, an answer that unpacks to too much
        bomb = "DOWNLOAD_MAXSIZE" in str(error)
        return RejectionError(FailureReason.TOO_LARGE if bomb else FailureReason.HTTP_ERROR, str(error))
    if isinstance(error, ResponseDataLossError):
        return RejectionError(FailureReason.TRUNCATED, "the connection closed before the whole answer came")
    if isinstance(error, DownloadCancelledError):
        return RejectionError(FailureReason.TOO_LARGE, str(error) or "larger than DOWNLOAD_MAXSIZE or PAGE_MAXSIZE")
    if isinstance(error, TooSlowError):
        return RejectionError(FailureReason.NETWORK, str(error))
    words = _NETWORK.get(type(error)) or f"{type(error).__name__}: {error}".rstrip(": ")
    return RejectionError(FailureReason.NETWORK, words)


_NETWORK: dict[type, str] = {
    CannotResolveHostError: "no such host",
    DownloadConnectionRefusedError: "connection refused",
    DownloadTimeoutError: "no answer in time",
}
