"""What an opt-out list says of one site. No Scrapy: the spiders and the replay share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

from crawler.site import Site


class OptOuts:
    """Clips, named by clip_id or by an address of their page, past or present, and addresses of any kind."""

    def __init__(self, source: str, site: Site, id_of: Callable[[str], str | None], lines: Iterable[str]) -> None:
        """Read the lines of ``crawler.items.read_opt_outs``.

        Args:
            source: The site's name; clip_ids of other sites are not looked at.
            site: Where it stands.
            id_of: The clip that an address of the site shows.
            lines: clip_ids and addresses.
        """
        self._source = source
        self._site = site
        names = list(lines)
        self._urls = {site.canonical(name) for name in names if "://" in name}
        self._ids = {name.removeprefix(f"{source}-") for name in names if name.startswith(f"{source}-")}
        self._by_id = set(self._ids)
        on_site = (url for url in self._urls if site.target(url) is not None)
        self._ids |= {source_id for url in on_site if (source_id := id_of(url))}

    def names(self, source_id: str, *urls: str) -> bool:
        """Return whether a clip is on the list, by its id or by one of its addresses."""
        return source_id in self._ids or any(map(self.names_address, urls))

    def names_address(self, url: str) -> bool:
        """Return whether an address is on the list."""
        return bool(self._urls) and self._site.canonical(url) in self._urls

    def unmatched(self, known: Set[str]) -> list[str]:
        """Return the clip_ids on the list that are none of the site's clips."""
        return sorted(f"{self._source}-{source_id}" for source_id in self._by_id - known)
