"""robots.txt as RFC 9309 reads it. Pure: an answer in, rules out; the spiders and the replay share it.

protego reads the text, as it does inside Scrapy. What is ours is what an answer that is no text means: a site without
the file allows everything (section 2.3.1.3), a site that cannot answer allows nothing (2.3.1.4). Scrapy takes both for
"everything".
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from protego import Protego

MAX_BYTES = 500 * 1024
"""What RFC 9309, section 2.5, asks a crawler to read at least; the rest is not read."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a site's robots.txt allows one agent."""

    agent: str
    parsed: Protego | None
    """None: nothing is allowed."""
    note: str = ""
    """What is odd about the answer, for the report; "" if nothing is."""

    def allows(self, url: str) -> bool:
        """Return whether an address may be asked."""
        return self.parsed is not None and bool(self.parsed.can_fetch(url, self.agent))

    @property
    def crawl_delay_s(self) -> float:
        """Seconds between two requests that the site asks for, 0.0 if it asks for none."""
        delay = self.parsed.crawl_delay(self.agent) if self.parsed is not None else None
        return max(0.0, float(delay or 0.0))

    @property
    def sitemaps(self) -> tuple[str, ...]:
        """Addresses of the sitemaps that the file names."""
        return tuple(self.parsed.sitemaps) if self.parsed is not None else ()


def read_rules(
    status: int | None, body: bytes, *, agent: str, why: str = "no answer", max_delay_s: float = math.inf
) -> Rules:
    """Return what an answer to the request for robots.txt means.

    Args:
        status: Of the answer, after redirects; None if none came.
        body: Of the answer.
        agent: The name that the rules are looked up for.
        why: What happened instead of an answer.
        max_delay_s: A site that asks for a longer Crawl-delay is not asked at all.
    """
    if status is None or status >= 500 or status in (304, 429):
        words = why if status is None else f"HTTP status {status}"
        return Rules(agent, None, f"robots.txt could not be read ({words}), so nothing may be asked")
    if status != 200:
        note = "" if status in (404, 410) else f"robots.txt answers with HTTP status {status}: taken for no rules"
        return Rules(agent, Protego.parse(""), note)
    text = body[:MAX_BYTES].decode("utf-8-sig", errors="replace")
    if _HTML.match(text):
        return Rules(agent, Protego.parse(""), "robots.txt answers with a web page: taken for no rules")
    rules = Rules(agent, Protego.parse(text))
    if rules.crawl_delay_s > max_delay_s:
        note = f"robots.txt asks for a Crawl-delay of {rules.crawl_delay_s:g} s, more than {max_delay_s:g}"
        return Rules(agent, None, f"{note} (CRAWL_DELAY_MAX_S), so nothing is asked")
    return rules


_HTML = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml|!--)", re.I)
