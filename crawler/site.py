"""Where a site stands: its public addresses, and the host that is really asked.

Spiders, pages and records know the public address alone (``https://soundbible.com/2083-...html``), so the same
catalogue gives the same records wherever a mirror of it stands. Who sends a request (crawler.politeness.StayOnSite, or
the replay's client) asks ``target`` where it goes, and lets none leave the site, whatever a page or a redirect says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

BOT_NAME = "wavtext5k-crawl"
"""What the user agent begins with, and robots.txt may name."""


def user_agent(contact: str) -> str:
    """Return the user agent: name, version, and whom to ask if that is said."""
    contact = " ".join(contact.split())  # a line end would begin a header of its own
    return f"{BOT_NAME}/{version('wavtext5k')}" + (f" (+{contact})" if contact else "")


_BASE_URL = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?/?", re.I)


@dataclass(frozen=True, slots=True)
class Site:
    """One site, and where it is asked."""

    home: str
    """Public address, without a slash at the end: ``https://soundbible.com``."""
    hosts: tuple[str, ...]
    """Every host name that the site's own links use."""
    base_url: str = ""
    """Another host that serves the same pages, scheme and host alone; "" asks the site itself."""

    def __post_init__(self) -> None:
        if not self.base_url:
            return
        wrong = f"base_url must be like http://127.0.0.1:8000, got {self.base_url!r}"
        if not _BASE_URL.fullmatch(self.base_url):
            raise ValueError(wrong)
        try:
            _ = urlsplit(self.base_url).port  # a port over 65535, or brackets around what is no address
        except ValueError as error:
            raise ValueError(f"{wrong}: {error}") from error

    @property
    def asked(self) -> str:
        """Scheme and host that requests go to."""
        return self.base_url.rstrip("/").lower() or self.home  # lower: a request's host is, and the two are compared

    def canonical(self, url: str) -> str:
        """Return the public form of an address of the site or of its mirror; a foreign address as it is."""
        parts = urlsplit(url)
        if parts.hostname in self.hosts or parts.netloc == urlsplit(self.asked).netloc:
            home = urlsplit(self.home)
            return parts._replace(scheme=home.scheme, netloc=home.netloc).geturl()
        return url

    def asked_url(self, url: str) -> str:
        """Return the address that a request for an address of the site goes to; a foreign address as it is."""
        return self.target(url) or url

    def target(self, url: str) -> str | None:
        """Return the address that a request goes to, None if it leads away from the site."""
        parts, asked = urlsplit(url), urlsplit(self.asked)
        if parts.netloc == asked.netloc or (not self.base_url and parts.netloc in self.hosts):
            return url
        if parts.hostname in self.hosts:
            return parts._replace(scheme=asked.scheme, netloc=asked.netloc).geturl()
        return None
