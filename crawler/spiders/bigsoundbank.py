"""bigsoundbank.com: the sitemap names every sound; without it, categories and searches name most of them.

Sitemaps come first: those that robots.txt names, then the known ones. Where none names a sound, the spider reads the
categories and all their pages, then searches for one word at a time out of the titles it has found, and last the home
page. Nothing says then that the list is whole, and the report warns of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from scrapy import Request
from scrapy.http import Response
from scrapy.spidermiddlewares.httperror import HttpError
from twisted.python.failure import Failure

from crawler.failures import RobotsForbidError, rejection_of
from crawler.pages import bigsoundbank as pages
from crawler.pages.fields import absolute
from crawler.pages.sitemaps import sitemap_indexes, sitemap_text
from crawler.spiders.base import SiteSpider

SITEMAPS_MAX = 50
"""Sitemaps that are read; the site has one."""

BARREN_SEARCHES_MAX = 25
"""Searches in a row that bring no new sound; then the words are used up, whatever is left of them."""


class BigSoundBankSpider(SiteSpider):
    """About 3,600 sounds, CC0 since 2026."""

    name = "bigsoundbank"
    home = pages.HOME
    hosts = ("bigsoundbank.com", "www.bigsoundbank.com")
    pages = pages
    terms = (f"{pages.HOME}/licenses.html", f"{pages.HOME}/droit.html")

    def listings(self) -> Iterator[Request]:
        self.to_read = deque(self._on_site(self.sitemaps) or [pages.SITEMAP])
        self.known_sitemaps = [pages.SITEMAP, pages.SITEMAP_INDEX]
        self.why_not = self.first_failure = ""
        self.sitemaps_read: set[str] = set()
        self.seen: dict[pages.Question, set[str]] = {}
        self.words: dict[str, None] = {}
        self.to_search: deque[str] = deque()
        self.may_search = True
        self.searches = self.barren = self.known_before = 0
        yield from self._next_sitemap()

    def sitemap(self, response: Response) -> Iterator[Request]:
        """Yield the clips of a sitemap, then the next one, or the pages to look at instead if none names a sound."""
        text = sitemap_text(response.body) if self.listing_text(response) else ""
        links, inner = pages.sitemap_links(text), sitemap_indexes(text)
        self.to_read.extendleft(reversed(self._on_site(inner)))
        if not links and not inner:
            self.why_not = self.why_not or "it names no sound"
        yield from self.clips(links)
        yield from self._next_sitemap()

    def sitemap_failed(self, failure: Failure) -> Iterator[Request]:
        """Yield what to read instead of a sitemap that is not there; one that cannot be had now ends the list."""
        error = failure.value
        is_gone = isinstance(error, HttpError) and error.response.status in (401, 403, 404, 410, 451)
        if not (is_gone or isinstance(error, RobotsForbidError)):
            self.listing_failed(failure)
            return
        self.reporter.listing_answered(is_page=False)
        rejection = rejection_of(failure.value)
        self.why_not = self.why_not or str(rejection)
        url = failure.request.url  # type: ignore[attr-defined]
        self.first_failure = self.first_failure or f"{url} could not be read: {rejection}"
        yield from self._next_sitemap()

    def results(self, response: Response) -> Iterator[Request]:
        """Yield the clips of a page of results, of the categories or of the home page, then the next such page."""
        html, url = self.listing_text(response), self.site.canonical(response.url)
        links = pages.page_links(html, url)
        words = dict.fromkeys(word for link in links.values() for word in pages.title_words(link))
        self.to_search.extend(word for word in words if word not in self.words)
        self.words |= words
        yield from self.terms_found(html, url)
        yield from self.clips(links)
        question = pages.question_of(url)
        seen = self.seen.setdefault(question, set())
        goes_on = not seen.issuperset(links)  # a list that repeats itself has ended
        seen.update(links)
        further = pages.category_links(html, url) + pages.more_pages(html, url)
        self.queue_listings(link for link in further if goes_on or pages.question_of(link) != question)
        yield from self._next_results()

    def results_failed(self, failure: Failure) -> Iterator[Request]:
        """Note a page that did not come: one of many ways to a clip, so no more than a warning; and go on."""
        self.reporter.listing_answered(is_page=False)
        url = self.site.canonical(failure.request.url)  # type: ignore[attr-defined]
        path = pages.question_of(url)[0]
        if isinstance(failure.value, RobotsForbidError):
            self.reporter.warn(f"robots.txt forbids {self.home}{path}: clips that only stand there are not known")
            self.may_search = self.may_search and path != pages.SEARCH
        else:
            self.reporter.warn(f"{url} could not be read: {rejection_of(failure.value)}")
        yield from self._next_results()

    def _on_site(self, urls: Iterable[str]) -> list[str]:
        """Return the public form of those addresses that are the site's own."""
        addresses = (absolute(f"{self.home}/", url) for url in urls)
        return [self.site.canonical(address) for address in addresses if self.site.target(address)]

    def _next_sitemap(self) -> Iterator[Request]:
        while self.to_read and len(self.sitemaps_read) < SITEMAPS_MAX and not self.has_enough:
            if (url := self.to_read.popleft()) not in self.sitemaps_read:
                self.sitemaps_read.add(url)
                yield self.listing(url, self.sitemap, self.sitemap_failed)
                return
        if self.reporter.report.known:
            self.reporter.warn(self.first_failure)
            return
        while self.known_sitemaps:
            if (url := self.known_sitemaps.pop(0)) not in self.sitemaps_read:
                self.to_read.append(url)
                yield from self._next_sitemap()
                return
        self.reporter.warn(
            f"{pages.SITEMAP} cannot be used ({self.why_not}); only clips in categories, searches and on the home page "
            "are known"
        )
        self.queue_listings([pages.CATEGORIES])
        yield from self._next_results()

    def _next_results(self) -> Iterator[Request]:
        """Yield the next page of results: what the pages before it link to, then a search, then the home page."""
        while not self.waiting and (search := self._next_search()):
            self.queue_listings([search])
        if not self.waiting:
            self.queue_listings([f"{pages.HOME}/"])
        if not self.waiting and not self.reporter.report.known:
            self.reporter.listing_broke(self.first_failure or "neither a sitemap nor any other page names a sound")
        yield from self.next_listing(self.results, self.results_failed)

    def _next_search(self) -> str:
        """Return the address of a search for the next word, "" if the searches are at their end."""
        known = len(self.reporter.report.known)
        self.barren = 0 if known > self.known_before else self.barren + 1
        self.known_before = known
        most = self.settings.getint("BIGSOUNDBANK_SEARCHES_MAX")
        if not (self.may_search and self.to_search) or self.barren >= BARREN_SEARCHES_MAX or self.searches >= most:
            return ""
        self.searches += 1
        return f"{pages.HOME}{pages.SEARCH}?q={quote(self.to_search.popleft())}"
