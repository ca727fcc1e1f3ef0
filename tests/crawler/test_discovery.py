"""How bigsoundbank's sounds are found: by sitemaps, and without one by categories, searches and the home page."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from demo.pages.answers import Answer
from demo.site import Clip, Site, serve
from tests.crawler.conftest import Crawl, read_records, read_report

MakeClip = Callable[..., Clip]

CLIPS = range(1, 46)
INDEX = '<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{}</sitemapindex>'
HOST = "https://bigsoundbank.com"


@pytest.fixture
def clips(make_clip: MakeClip) -> list[Clip]:
    """45 sounds whose titles share a word with the next one, so that one search leads to another."""
    words = [f"{first}{second}" for first in ("oak", "elm", "ash", "fir", "yew", "box", "bay") for second in "abcdefgh"]
    return [
        make_clip(number, title=f"{words[number].title()} {words[number + 1]} {number}", tags=(words[number // 5],))
        for number in CLIPS
    ]


def hide(site: Site, *hidden: str) -> None:
    """Let addresses that hold one of these words answer 404."""
    answer = site.answer
    site.answer = lambda method, target: answer(  # type: ignore[method-assign]
        method, "/gone" if any(word in target for word in hidden) else target
    )


def rename(site: Site, names: dict[str, str], packed: Iterable[str] = ()) -> None:
    """Let the site answer under other addresses; bodies of the packed ones come gzipped, as files are."""
    answer = site.answer

    def respond(method: str, target: str) -> Answer:
        if target in names and names[target].startswith("<"):
            given = dataclasses.replace(answer(method, "/sitemap_bsb.xml"), body=names[target].encode())
        else:
            given = answer(method, names.get(target, target))
        if target in packed:
            assert isinstance(given.body, bytes)
            return dataclasses.replace(given, body=gzip.compress(given.body), content_type="application/x-gzip")
        return given

    site.answer = respond  # type: ignore[method-assign]


def all_ids() -> set[str]:
    return {f"{number:04d}" for number in CLIPS}


def asked(site: Site) -> list[str]:
    return [path for _, path, _ in site.requests]


def test_without_a_sitemap_every_clip_is_found(audio: Path, clips: list[Clip], crawl: Crawl, tmp_path: Path) -> None:
    with serve(clips, audio, layout="bigsoundbank") as site:
        hide(site, "sitemap")
        done = crawl("bigsoundbank", site.base_url)
        paths = asked(site)
    assert done.returncode == 0, done.stderr
    assert set(read_records(tmp_path / "raw", "bigsoundbank")) == all_ids()
    assert "sitemap_bsb.xml cannot be used (HTTP status 404); only clips in categories, searches" in done.stdout
    lists = [path for path in paths if path.startswith(("/search", "/categories", "/sitemap")) or path == "/"]
    assert len(lists) == len(set(lists)), "no list is read twice"
    assert lists[:3] == ["/sitemap_bsb.xml", "/sitemap.xml", "/categories.html"]
    assert lists[-1] == "/"
    assert max(place for place, path in enumerate(lists) if "CatID" in path) < min(
        place for place, path in enumerate(lists) if "?q=" in path
    )
    assert "/download.php" not in paths


def test_with_searches_forbidden_the_rest_is_found_and_the_report_warns(
    audio: Path, clips: list[Clip], crawl: Crawl, tmp_path: Path
) -> None:
    robots = "User-agent: *\nDisallow: /search\n"
    with serve(clips, audio, layout="bigsoundbank", robots=robots) as site:
        hide(site, "sitemap")
        done = crawl("bigsoundbank", site.base_url)
        assert not [path for path in asked(site) if path.startswith("/search")]
    assert done.returncode == 0, done.stderr
    newest = {f"{number:04d}" for number in sorted(CLIPS)[-12:]}
    assert set(read_records(tmp_path / "raw", "bigsoundbank")) == newest, "what the home page lists"
    warnings = read_report(tmp_path / "raw", "bigsoundbank")["warnings"]
    assert len([text for text in warnings if "robots.txt forbids https://bigsoundbank.com/search" in text]) == 1


def test_without_categories_the_home_pages_titles_are_searched_for(
    audio: Path, clips: list[Clip], crawl: Crawl, tmp_path: Path
) -> None:
    with serve(clips, audio, layout="bigsoundbank") as site:
        hide(site, "sitemap", "categor", "CatID")
        done = crawl("bigsoundbank", site.base_url)
    assert done.returncode == 0, done.stderr
    assert set(read_records(tmp_path / "raw", "bigsoundbank")) == all_ids()
    assert "/categories.html could not be read: HTTP status 404" in done.stdout


def test_searches_end_when_they_bring_nothing_or_at_the_cap(
    audio: Path, make_clip: MakeClip, crawl: Crawl, tmp_path: Path
) -> None:
    words = " ".join(f"{first}{second}xyz" for first in "abcdefgh" for second in "abcdefgh")
    with serve([make_clip(1, title=words)], audio, layout="bigsoundbank") as site:
        hide(site, "sitemap")
        crawl("bigsoundbank", site.base_url)
        assert len([path for path in asked(site) if "?q=" in path]) == 25
        site.requests.clear()
        crawl("bigsoundbank", site.base_url, "-s", "BIGSOUNDBANK_SEARCHES_MAX=3", raw=tmp_path / "capped")
        assert len([path for path in asked(site) if "?q=" in path]) == 3


def test_the_sitemaps_that_robots_txt_names_are_read_and_no_other(
    audio: Path, clips: list[Clip], crawl: Crawl, tmp_path: Path
) -> None:
    named = (f"{HOST}/news.xml", f"{HOST}/maps.xml", "http://other.example/s.xml", "http://[/")
    robots = "User-agent: *\n" + "".join(f"Sitemap: {url}\n" for url in named)
    indexed = (f"{HOST}/maps.xml", "http://[/", f"{HOST}/all.xml.gz")
    maps = INDEX.format("".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in indexed))
    with serve(clips, audio, layout="bigsoundbank", robots=robots) as site:
        rename(site, {"/news.xml": "<urlset/>", "/maps.xml": maps, "/all.xml.gz": "/sitemap_bsb.xml"}, ["/all.xml.gz"])
        done = crawl("bigsoundbank", site.base_url)
        lists = [path for path in asked(site) if ".xml" in path]
    assert done.returncode == 0, done.stderr
    assert lists == ["/news.xml", "/maps.xml", "/all.xml.gz"], "an index that names itself is read once"
    assert set(read_records(tmp_path / "raw", "bigsoundbank")) == all_ids()
    assert read_report(tmp_path / "raw", "bigsoundbank")["warnings"] == []


def test_a_dead_sitemap_in_robots_txt_gives_way_to_the_known_ones(
    audio: Path, clips: list[Clip], crawl: Crawl, tmp_path: Path
) -> None:
    with serve(clips, audio, layout="bigsoundbank", robots=f"User-agent: *\nSitemap: {HOST}/old.xml\n") as site:
        done = crawl("bigsoundbank", site.base_url, "--limit", "4")
        lists = [path for path in asked(site) if ".xml" in path]
    assert done.returncode == 0, done.stderr
    assert lists == ["/old.xml", "/sitemap_bsb.xml"]
    assert "/old.xml could not be read: HTTP status 404" in done.stdout
    assert len(read_records(tmp_path / "raw", "bigsoundbank")) == 4


def test_pages_of_results_without_end_are_left(audio: Path, clips: list[Clip], crawl: Crawl, tmp_path: Path) -> None:
    with serve(clips, audio, layout="bigsoundbank") as site:
        answer = site.answer
        endless = b"<a href='/search?CatID=ANMLCat&page=%d'>next</a><a href='/oaka-s0001.html'>s</a>"

        def respond(method: str, target: str) -> Answer:
            if "CatID" in target or target == "/categories.html":
                number = int(target.rpartition("page=")[2]) if "page=" in target else 0
                return dataclasses.replace(answer(method, "/"), body=endless % (number + 1))
            return answer(method, "/gone" if "sitemap" in target else target)

        site.answer = respond  # type: ignore[method-assign]
        done = crawl("bigsoundbank", site.base_url)
        assert len([path for path in asked(site) if "CatID" in path]) == 2
    assert done.returncode == 0, done.stderr
