"""How every sound is found in the layouts without a plain listing: BigSoundBank's without its sitemap, and Pebbles'."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from parsel import Selector

from demo.pages.bigsoundbank import CATEGORIES, category
from demo.site import Clip, Site, serve
from tests.demo.standin import fetch, make_clip, read

SUBJECTS = ("bell", "rain", "cat", "door")


@pytest.fixture(scope="module")
def spread() -> list[Clip]:
    """120 clips of four subjects, which is more than 20 of each."""
    return [make_clip(n, title="A sound", description="", tags=(SUBJECTS[n % 4],)) for n in range(1, 121)]


def hits(page: Selector) -> list[int]:
    """Return the numbers of a result page's own sounds, without those of its blocks."""
    links = page.css("[class^=resultat_] h2 a::attr(href)").getall()
    return [int(re.sub(r".*-s(\d+)\.html", r"\1", link)) for link in links]


def all_pages(site: Site, path: str) -> list[list[int]]:
    """Return the hits of each page of a search, as far as its links to further pages lead."""
    page = read(fetch(site, path))
    pages = [hits(page)]
    while (further := f"{path}&page={len(pages) + 1}") in page.css(".pages a::attr(href)").getall():
        page = read(fetch(site, further))
        pages.append(hits(page))
    return pages


def test_categories_lead_to_all_but_every_tenth_sound_and_a_search_to_those(audio: Path, spread: list[Clip]) -> None:
    found: list[int] = []
    with serve(spread, audio, layout="bigsoundbank") as site:
        links = read(fetch(site, "/categories.html")).css(".categories a::attr(href)").getall()
        assert {link.removeprefix("/search?CatID=") for link in links} == {category(clip) for clip in spread} - {None}
        for link in links:
            pages = all_pages(site, link)
            assert {len(page) for page in pages[:-1]} <= {20}
            assert 1 <= len(pages[-1]) <= 20
            found += [number for page in pages for number in page]
        assert max(len(all_pages(site, link)) for link in links) > 1
        assert sorted(found) == [clip.id for clip in spread if clip.id % 10]
        searched = [number for word in SUBJECTS for page in all_pages(site, f"/search?q={word}") for number in page]
        assert sorted(searched) == [clip.id for clip in spread]


def test_a_search_takes_words_and_category_and_tells_nothing_of_no_hit(audio: Path, spread: list[Clip]) -> None:
    with serve(spread, audio, layout="bigsoundbank") as site:
        bell = spread[3]
        both = all_pages(site, f"/search?q=bell&CatID={category(bell)}")
        bells = [clip.id for clip in spread if clip.tags == bell.tags and clip.id % 10]
        assert sorted(number for page in both for number in page) == bells
        for nothing in ("/search?q=no such", "/search", "/search?CatID=NONE", "/search?q=bell&page=99"):
            page = fetch(site, nothing)
            assert page.status_code == 200
            assert hits(read(page)) == []
            assert len(read(page).css("ul.bloc a[href*='-s0']")) == 8
        assert hits(read(fetch(site, "/search?q=bell&page=0"))) == hits(read(fetch(site, "/search?q=bell")))


def test_a_result_block_is_as_known_of_the_site(audio: Path) -> None:
    with serve([make_clip(7)], audio, layout="bigsoundbank") as site:
        text = fetch(site, "/search?q=bell").text
    assert "<div class='resultat_0'><h2 style='margin:0;'><a href='/bell-7-s0007.html'>Bell 7</a></h2>" in text
    assert "<div style='text-align:justify;'>A bell that rings 7 times. Length: 00:00.</div>" in text


def test_sitemap_index_leads_to_the_sitemap(audio: Path) -> None:
    with serve([make_clip(7)], audio, layout="bigsoundbank") as site:
        index = Selector(fetch(site, "/sitemap.xml").text, type="xml")
        index.remove_namespaces()
        (loc,) = index.xpath("/sitemapindex/sitemap/loc/text()").getall()
        assert loc == "https://bigsoundbank.com/sitemap_bsb.xml"
        assert "-s0007.html</loc>" in fetch(site, urlsplit(loc).path).text


def test_a_sound_stands_in_one_category_at_most() -> None:
    assert {category(make_clip(number)) for number in (10, 20, 3590)} == {None}
    assert category(make_clip(1)) == category(make_clip(2, title="Another")) != category(make_clip(1, tags=("rain",)))
    assert category(make_clip(1, tags=())) in CATEGORIES


def test_pebbles_index_leads_to_every_sound(audio: Path) -> None:
    titles = ["Ünder water", "under the bridge", "7 steps", "", "鐘", *(f"Bell {n}" for n in range(30))]
    clips = [make_clip(number, title=title) for number, title in enumerate(titles, start=1)]
    found: dict[str, list[str]] = {}
    with serve(clips, audio, layout="pebbles") as site:
        letters = read(fetch(site, "/")).css("nav a::attr(href)").getall()
        assert letters == ["/browse/b", "/browse/u", "/browse/other"]
        for path in letters:
            here: str | None = path
            while here:
                page = read(fetch(site, here))
                found.setdefault(path, []).extend(page.css("ol.pebbles a::attr(href)").getall())
                here = page.css("a[rel=next]::attr(href)").get()
        asked = [path for _, path, _ in site.requests]
        assert [path for path in asked if path.startswith("/browse/b")] == [
            "/browse/b", "/browse/b/2", "/browse/b/3",
        ]  # fmt: skip
        for gone in ("/browse/b/4", "/browse/z", "/browse/bb", "/sound/p-0099", "/sound/1", "/files/p-0001.ogg"):
            assert fetch(site, gone).status_code == 404
    assert sorted(link for links in found.values() for link in links) == [f"/sound/p-{clip.id:04}" for clip in clips]
    assert len(found["/browse/u"]) == 2


@pytest.mark.parametrize("title", ["Low Bell", "Cats & dogs <b>not bold</b>", "Glöckchen 鐘 🔔", "</dl><h1>out</h1>"])
def test_pebbles_page_gives_back_every_sign_of_a_text(audio: Path, title: str) -> None:
    files = {"mp3": "tone.mp3", "flac": "tone.flac"}
    clip = make_clip(12, title=title, description=f"About {title}", tags=(title, "bell"), author=title, audio=files)
    with serve([clip, make_clip(6, author="Someone", license="Public Domain")], audio, layout="pebbles") as site:
        page = read(fetch(site, "/sound/p-0012"))
        pebble = page.css("#pebble")
        assert pebble.css("h1::text").get() == title
        assert pebble.css("figcaption::text").get() == f"About {title}"
        names = [name.strip() for name in pebble.css("dl > *::text, dl a::text").getall() if name.strip()]
        assert names == [
            "Found by", title, "Licence", "Attribution 3.0", "Filed under", title, "bell", "Length", "0:00",
        ]  # fmt: skip
        (filed, _) = pebble.css("dl a::attr(href)").getall()
        assert read(fetch(site, filed)).css("ol.pebbles a::attr(href)").getall() == ["/sound/p-0012"]
        (download,) = pebble.css("a[download]::attr(href)").getall()
        (played,) = pebble.css("audio source::attr(src)").getall()
        assert (download, played) == ("/files/p-0012.flac", "/files/p-0012.mp3")
        for path, kind in ((download, "flac"), (played, "mp3")):
            assert fetch(site, path).content == (audio / f"tone.{kind}").read_bytes()


def test_pebbles_page_leaks_other_sounds_and_a_licence_of_its_own(audio: Path) -> None:
    clips = [make_clip(number, author=f"Finder {number}") for number in range(1, 6)]
    with serve(clips, audio, layout="pebbles") as site:
        page = read(fetch(site, "/sound/p-0003"))
    assert len(page.css("aside audio source")) == len(page.css("aside h3 a")) == 2
    assert not page.css("aside").xpath(".//dd[.='Finder 3']")
    assert "These pages: all rights reserved" in page.css("footer dd::text").getall()
    assert page.css("link[rel=canonical]::attr(href)").get() == "https://pebblesounds.example/sound/p-0003"
