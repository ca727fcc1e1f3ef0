"""bigsoundbank.com: the sitemap names every sound; without it, what the category pages and the home page link to."""

from __future__ import annotations

from collections.abc import Iterator

from scrapy import Request
from scrapy.http import Response
from scrapy.spidermiddlewares.httperror import HttpError
from twisted.python.failure import Failure

from crawler.failures import rejection_of
from crawler.pages import bigsoundbank as pages
from crawler.pages.fields import PageFields
from crawler.spiders.base import SiteSpider

CATEGORY_CAP = 400
"""Category pages at most, should the sitemap be gone and the categories link to each other without end."""


class BigSoundBankSpider(SiteSpider):
    """About 3,600 sounds, CC0 since 2026."""

    name = "bigsoundbank"
    home = pages.HOME
    hosts = ("bigsoundbank.com", "www.bigsoundbank.com")

    terms = (f"{pages.HOME}/licenses.html",)

    def listings(self) -> Iterator[Request]:
        self.categories: set[str] = set()
        yield self.listing(pages.SITEMAP, self.sitemap, self.sitemap_failed)

    def parse_detail(self, html: str, url: str) -> PageFields:
        return pages.parse_detail(html, url)

    def id_of(self, url: str) -> str | None:
        return pages.id_of(url)

    def sitemap(self, response: Response) -> Iterator[Request]:
        """Yield the clips of the sitemap, or the pages to look at instead if it names none."""
        links = pages.sitemap_links(self.listing_text(response))
        yield from self.clips(links) if links else self._without_sitemap("it names no sound")

    def sitemap_failed(self, failure: Failure) -> Iterator[Request]:
        """Yield the pages to look at instead of the sitemap, if the site answers at all."""
        if not isinstance(failure.value, HttpError):
            self.listing_failed(failure)
        else:
            self.reporter.listing_answered(is_page=False)
            yield from self._without_sitemap(f"HTTP status {failure.value.response.status}")

    def category(self, response: Response) -> Iterator[Request]:
        """Yield the clips that a category page, or the home page, links to, and further category pages."""
        html, url = self.listing_text(response), self.site.canonical(response.url)
        yield from self.terms_found(html, url)
        yield from self.clips(pages.page_links(html, url))
        if not self.has_enough:
            yield from self._category_pages(pages.category_links(html, url))

    def category_failed(self, failure: Failure) -> None:
        """Note a category page that did not come: one of many ways to a clip, so no more than a warning."""
        self.reporter.listing_answered(is_page=False)
        url = failure.request.url  # type: ignore[attr-defined]
        self.reporter.warn(f"{url} could not be read: {rejection_of(failure.value)}")

    def _without_sitemap(self, why: str) -> Iterator[Request]:
        self.reporter.warn(
            f"{pages.SITEMAP} cannot be used ({why}); only clips on category pages and the home page are known"
        )
        yield from self._category_pages([pages.CATEGORIES, f"{pages.HOME}/"])

    def _category_pages(self, urls: list[str]) -> Iterator[Request]:
        for url in urls:
            if url not in self.categories and len(self.categories) < CATEGORY_CAP:
                self.categories.add(url)
                yield self.listing(url, self.category, self.category_failed)
