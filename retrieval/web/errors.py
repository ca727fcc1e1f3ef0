"""The error that a visitor of the page gets to read: a status of HTTP and a sentence."""

from __future__ import annotations

from curation.errors import WavTextError


class Refused(WavTextError):  # noqa: N818, it says what happens, not that something broke
    """A request that is not done; the message says why, and what to do instead."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
