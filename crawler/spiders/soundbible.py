"""soundbible.com: follow the listing, newest sounds first, until a page brings none that is new."""

from __future__ import annotations

from collections.abc import Iterator

from scrapy import Request
from scrapy.http import Response
from scrapy.spidermiddlewares.httperror import HttpError
from twisted.python.failure import Failure

from crawler.pages import soundbible as pages
from crawler.spiders.base import READ_ON, SiteSpider


class SoundBibleSpider(SiteSpider):
    """About 2,100 sounds, each with its own licence."""

    name = "soundbible"
    home = pages.HOME
    hosts = ("soundbible.com", "www.soundbible.com")
    pages = pages

    def listings(self) -> Iterator[Request]:
        yield self._listing_page(1)

    def listing_page(self, response: Response, number: int) -> Iterator[Request]:
        """Yield the clips of a listing page, then the next page if this one brought anything new."""
        html, url = self.listing_text(response), self.site.canonical(response.url)
        links = pages.listing_links(html, url)
        is_new = any(source_id not in self.reporter.report.known for source_id in links)
        yield from self.terms_found(html, url)
        yield from self.clips(links)
        last, most = pages.last_listing_page(html), self.settings.getint("LISTING_PAGES_MAX")
        if is_new and not self.has_enough and number < most:
            yield self._listing_page(number + 1)
        elif is_new and not self.has_enough:
            self.reporter.listing_broke(f"{response.url} still lists new clips, after {most} listing pages; {READ_ON}")
        elif not links and number < last:
            self.reporter.listing_broke(f"{response.url} lists no clip, though page {last} is linked")

    def listing_page_failed(self, failure: Failure) -> None:
        """End the listing: past its end the site may answer 404, which is no failure unless it is the first page."""
        error = failure.value
        number = failure.request.cb_kwargs["number"]  # type: ignore[attr-defined]
        if number > 1 and isinstance(error, HttpError) and error.response.status in (404, 410):
            self.reporter.listing_answered(is_page=False)
            return
        self.listing_failed(failure)

    def _listing_page(self, number: int) -> Request:
        return self.listing(pages.listing_url(number), self.listing_page, self.listing_page_failed, number=number)
