"""soundbible.com: follow the listing, newest sounds first, until a page brings none that is new."""

from __future__ import annotations

from collections.abc import Iterator

from scrapy import Request
from scrapy.http import Response
from scrapy.spidermiddlewares.httperror import HttpError
from twisted.python.failure import Failure

from crawler.pages import soundbible as pages
from crawler.spiders.base import SiteSpider


class SoundBibleSpider(SiteSpider):
    """About 2,100 sounds, each with its own licence."""

    name = "soundbible"
    home = pages.HOME
    hosts = ("soundbible.com", "www.soundbible.com")
    pages = pages

    last_linked = 0
    """Highest listing page that a page with new clips has linked to."""

    def listings(self) -> Iterator[Request]:
        yield self._listing_page(1)

    def listing_page(self, response: Response, number: int) -> Iterator[Request]:
        """Yield the clips of a listing page, then the next page if this one brought anything new."""
        html, url = self.listing_text(response), self.site.canonical(response.url)
        links = pages.listing_links(html, url)
        is_new = any(source_id not in self.reporter.report.known for source_id in links)
        yield from self.terms_found(html, url)
        yield from self.clips(links)
        if is_new:
            self.last_linked = max(self.last_linked, pages.last_listing_page(html))
        elif number < self.last_linked and not self.has_enough:
            self.reporter.listing_broke(f"{response.url} lists no new clip, though page {self.last_linked} is linked")
        if is_new or number < self.last_linked:
            yield from self._next_page(number)

    def listing_page_failed(self, failure: Failure) -> Iterator[Request]:
        """End the listing, or go on behind a gap in it.

        Past its end the site may answer 404, which is no failure unless it is the first page or a later one is linked.
        """
        error = failure.value
        number = failure.request.cb_kwargs["number"]  # type: ignore[attr-defined]
        is_gone = isinstance(error, HttpError) and error.response.status in (404, 410)
        if is_gone and number > max(1, self.last_linked):
            self.reporter.listing_answered(is_page=False)
            return
        self.listing_failed(failure)
        if isinstance(error, HttpError) and number < self.last_linked:
            yield from self._next_page(number)

    def _next_page(self, number: int) -> Iterator[Request]:
        self.queue_listings([pages.listing_url(number + 1)])
        yield from self.next_listing(self.listing_page, self.listing_page_failed, number=number + 1)

    def _listing_page(self, number: int) -> Request:
        return self.listing(pages.listing_url(number), self.listing_page, self.listing_page_failed, number=number)
