"""pebblesounds.example: the home page links every letter, a letter's page its clips and the letter's next page.

Browse pages are asked one after another, so that a crawl with a limit does not ask all letters first.
"""

from __future__ import annotations

from collections.abc import Iterator

from scrapy import Request
from scrapy.http import Response
from twisted.python.failure import Failure

from crawler.pages import pebbles as pages
from crawler.spiders.base import SiteSpider


class PebblesSpider(SiteSpider):
    """Small sounds by letter, each with its own licence."""

    name = "pebbles"
    home = pages.HOME
    hosts = ("pebblesounds.example", "www.pebblesounds.example")
    pages = pages

    def listings(self) -> Iterator[Request]:
        yield self.listing(f"{self.home}/", self.browse_page, self.browse_failed)

    def browse_page(self, response: Response) -> Iterator[Request]:
        """Yield the clips of a page, then the next page of those that are linked so far."""
        html, url = self.listing_text(response), self.site.canonical(response.url)
        links, more = pages.listing_links(html, url), pages.browse_links(html, url)
        if not links and not (more and url == f"{self.home}/"):
            self.reporter.listing_broke(f"{response.url} lists no clip and no letter")
        self.queue_listings(more)
        yield from self.terms_found(html, url)
        yield from self.clips(links)
        yield from self.next_listing(self.browse_page, self.browse_failed)

    def browse_failed(self, failure: Failure) -> Iterator[Request]:
        """Note that the list is not whole, and go on: the other letters' clips are known all the same."""
        self.listing_failed(failure)
        yield from self.next_listing(self.browse_page, self.browse_failed)
