"""The stand-in site, asked over real HTTP: what it shows, what leaks, what fails, and how it starts and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import pytest
import requests
from parsel import Selector

from demo.site import (
    FAULTS,
    LAYOUTS,
    CatalogueError,
    Clip,
    SiteError,
    read_catalogue,
    serve,
    write_catalogue,
)
from tests.demo.standin import audio_path, detail_path, fetch, make_clip, read

TITLES = (
    "Low Bell Twice",
    "Quote \" and ' mark",
    "Cats & dogs <b>not bold</b>",
    "AC/DC 50% #1 ?x=y",
    "Glöckchen 鐘 🔔",
    "  spaces  inside  ",
    "back\\slash; semi: colon",
    "</script><h1>break out</h1>",
)
DATA = os.environ.get("WAVTEXT5K_DATA")


def json_ld(page: Selector) -> dict[str, object]:
    """Return the AudioObject, past the block that is not JSON."""
    first, second = page.css('script[type="application/ld+json"]::text').getall()
    with pytest.raises(json.JSONDecodeError):
        json.loads(first)
    (node,) = [node for node in json.loads(second) if node["@type"] == "AudioObject"]
    return dict(node)


@pytest.mark.parametrize("layout", ["soundbible", "soundbible-old"])
def test_listing_shows_every_clip_once_newest_first_nine_a_page(audio: Path, layout: str) -> None:
    clips = [make_clip(clip_id) for clip_id in (3, 50, 7, *range(100, 117))]
    found: list[int] = []
    with serve(clips, audio, layout=layout) as site:
        for number in (1, 2, 3):
            page = read(fetch(site, f"/free-sound-effects-{number}.html"))
            links = page.css("#courses h3 a::attr(href), #content table tr.row-b td a::attr(href)").getall()
            assert len(links) == (2 if number == 3 else 9)
            found += [int(link.split("-")[0]) for link in links]
            pages = page.css(".pagination a::attr(href), #content table tr:first-child td a::attr(href)").getall()
            assert pages[-1] == "free-sound-effects-3.html"
        past = fetch(site, "/free-sound-effects-4.html")
        assert past.status_code == 200
        assert not read(past).css("#courses h3 a, tr.row-b td a")
    assert found == sorted((clip.id for clip in clips), reverse=True)


@pytest.mark.parametrize("title", TITLES)
def test_soundbible_page_gives_back_every_sign_of_a_text(audio: Path, title: str) -> None:
    clip = make_clip(5, title=title, description=f"About {title}", tags=(title, "bell"), author=title)
    with serve([clip, make_clip(6)], audio) as site:
        (link,) = [link for link in read(fetch(site, "/")).css("#courses h3 a::attr(href)").getall() if link[0] == "5"]
        assert re.fullmatch(r"5-[^/?#]*\.html", link)
        page = read(fetch(site, f"/{link}"))
        assert page.css("section#course-details h3::text").get() == title
        assert (page.css("section#course-details h3 + p::text").get() or "").strip() == f"About {title}".strip()
        assert page.css("#icon_tag_list a::text").getall() == [title, "bell"]
        assert page.css("i.icofont-user-male + a::text").get() == title
        (tag, _) = page.css("#icon_tag_list a::attr(href)").getall()
        assert read(fetch(site, f"/{tag}")).css("#courses h3 a::attr(href)").getall() == [link]
        source = page.css("#course-details [data-source]::attr(data-source)").get() or ""
        assert fetch(site, f"/{quote(source)}").content == (audio / "tone.mp3").read_bytes()


@pytest.mark.parametrize("title", TITLES)
def test_old_page_gives_back_every_sign_of_a_text(audio: Path, title: str) -> None:
    clip = make_clip(5, title=title, description=f"About {title}", tags=(title, "bell"), author=title)
    with serve([clip, make_clip(6, license="Personal Use Only")], audio, layout="soundbible-old") as site:
        page = read(fetch(site, "/5-x.html"))
    assert page.css("#main h2::text").get() == f"{title} Sound"
    assert page.css('[property="v:summary"]::text').get() == f"About {title}"
    block = "".join(page.css('[typeof="v:Review-aggregate"]').xpath(".//text()").getall())
    assert "License: Attribution 3.0 |" in block
    assert f"Recorded by {title} |" in block
    links = page.xpath("//h3[.='Sound Tags:']/following-sibling::div[1]//a/text()").getall()
    assert links == [title, "bell", "all sounds"]
    assert page.css("tr.row-b td:last-child::text").getall()[0] == "Personal Use Only"


@pytest.mark.parametrize("title", TITLES)
def test_bigsoundbank_page_gives_back_every_sign_of_a_text(audio: Path, title: str) -> None:
    clip = make_clip(2715, title=title, description=f"About {title}", license="Public Domain", author=title)
    with serve([clip, make_clip(6)], audio, layout="bigsoundbank") as site:
        sitemap = Selector(fetch(site, "/sitemap_bsb.xml").text, type="xml")
        sitemap.remove_namespaces()
        (loc,) = [loc for loc in sitemap.xpath("//loc/text()").getall() if "-s2715.html" in loc]
        assert loc.startswith("https://bigsoundbank.com/")
        page = read(fetch(site, urlsplit(loc).path))
    assert page.css("h1::text").getall() == [title]
    node = json_ld(page)
    assert node["name"] == f"{title} — Free sound effect"
    assert node["description"] == f"About {title}"
    text = " ".join("".join(page.xpath("//main//text()").getall()).split())
    assert "Sound number: 2,715 Author:" in text
    assert "License CC0 (public domain): Free and royalty-free" in text
    assert "License CC0" not in "".join(page.xpath("//text()[contains(., 'License')]").getall())


def test_present_page_leaks_what_the_real_one_leaks(audio: Path) -> None:
    with serve([make_clip(clip_id) for clip_id in range(1, 12)], audio) as site:
        page = read(fetch(site, "/4-x.html"))
    assert page.css("meta[name=author]::attr(content)").get() == "Mike Koenig"
    assert len(page.css("meta[name=keywords]")) == 2
    assert len(page.css("[data-source]")) == 4
    assert len(page.css("#course-details [data-source]")) == 1
    assert len(page.css("[id=ag1]")) == 4
    assert len(page.css("#cource-details-tabs .course-item")) == 3
    assert len(page.css("footer a[href^='http://soundbible.com/tags-']")) > 4
    assert page.css("a[href*=grab]::attr(href)").getall() == [
        "http://soundbible.com/grab.php?id=4&type=mp3",
        "http://soundbible.com/grab.php?id=4&type=wav",
    ]


@pytest.mark.skipif(DATA is None, reason="WAVTEXT5K_DATA names no folder with archived pages")
@pytest.mark.parametrize(
    ("archived", "layout", "selectors"),
    [
        (
            "sites/soundbible_2083_detail_2026.html",
            "soundbible",
            (
                "section#course-details .col-lg-8 h3",
                "section#course-details h3 + p",
                "#course-details [data-source]",
                "[data-source]",
                "[id=ag1]",
                "meta[name=keywords]",
                "meta[name=author]",
                "#course-details h5 + p",
                "i.icofont-user-male + a",
                ".course-item > a",
                "a[href*='http://soundbible.com/grab.php']",
                "#icon_tag_list ul",
            ),
        ),
        (
            "soundbible/pages/1526-Ninja-Samurai-Sword.html",
            "soundbible-old",
            (
                "#wrap #content #main h2",
                '[typeof="v:Review-aggregate"]',
                '[property="v:summary"]',
                "a[href^='grab.php']",
                "#main > div p > a[href='free-sound-effects-1.html']",
                "#sidebar ul.sidemenu:first-of-type > li > a[href^='/']",
                "meta[name=keywords]",
            ),
        ),
    ],
)
def test_selectors_hit_as_often_as_on_the_archived_page(
    audio: Path, archived: str, layout: str, selectors: tuple[str, ...]
) -> None:
    real = Selector((Path(DATA or "") / archived).read_text(encoding="utf-8"))
    with serve([make_clip(clip_id) for clip_id in range(1, 30)], audio, layout=layout) as site:
        ours = read(fetch(site, "/20-x.html"))
    counts = {selector: (len(real.css(selector)), len(ours.css(selector))) for selector in selectors}
    assert {name: pair for name, pair in counts.items() if pair[0] != pair[1]} == {}


@pytest.mark.parametrize(
    ("query", "status", "file"),
    [
        ("id=1&type=wav", 200, "tone.wav"),
        ("id=1&type=mp3", 200, "tone.mp3"),
        ("id=2&type=wav", 404, None),
        ("id=2&type=mp3", 200, "tone.mp3"),
        ("id=3&type=wav", 200, "tone.flac"),
        ("id=1&type=zip", 404, None),
        ("id=99&type=wav", 404, None),
        ("id=x&type=wav", 404, None),
        ("id=" + "9" * 5000, 404, None),
        ("", 404, None),
    ],
)
def test_grab_redirects_to_a_file_that_is_held(audio: Path, query: str, status: int, file: str | None) -> None:
    clips = [make_clip(1), make_clip(2, audio="tone.mp3"), make_clip(3, audio="tone.flac")]
    with serve(clips, audio) as site:
        response = fetch(site, f"/grab.php?{query}")
        assert response.status_code == status
        if file is not None:
            (step,) = response.history
            assert step.status_code == 302
            assert re.match(r"/(wav|mp3)/", step.headers["Location"])
            assert response.content == (audio / file).read_bytes()
            assert response.headers["Content-Type"].startswith("audio/")


def test_bigsoundbank_serves_its_folders_and_redirects_its_old_addresses(audio: Path) -> None:
    files = {kind: f"tone.{kind}" for kind in ("wav", "mp3", "flac", "ogg")}
    with serve([make_clip(7, audio=files), make_clip(8)], audio, layout="bigsoundbank") as site:
        page = read(fetch(site, "/x-s0007.html"))
        sources = page.css("audio source::attr(src)").getall()
        assert len(sources) == 4
        for source in sources:
            kind = source.rsplit(".", 1)[1]
            assert fetch(site, source).content == (audio / files[kind]).read_bytes()
        assert {media["contentUrl"] for media in json_ld(page)["encoding"]} == {  # type: ignore[attr-defined]
            "https://bigsoundbank.com/UPLOAD/mp3/0007.mp3",
            "https://bigsoundbank.com/UPLOAD/ogg/0007.ogg",
        }
        for old in ("/UPLOAD/wav/0007.wav", "/detail-0007-any.html", "/sound-0007-any.html"):
            response = fetch(site, old)
            assert [step.status_code for step in response.history] in ([301], [302])
            assert urlsplit(response.url).path == "/bell-7-s0007.html"
            assert response.headers["Content-Type"].startswith("text/html")
        assert urlsplit(fetch(site, "/s0007.html").url).path == "/"
        assert fetch(site, "/UPLOAD/flac/0008.flac").status_code == 404
        assert read(fetch(site, "/search?q=bell 7")).css(".resultat_0 h2 a::text").getall() == ["Bell 7"]
        assert fetch(site, "/sound-1000-hz-s0008.html").history == []
        form = page.css('form[action="https://bigsoundbank.com/download.php"]')
        assert form.css("[name=id]::attr(value)").get() == "0007"
        assert requests.post(site.base_url + "/download.php", data={"id": "7"}, timeout=10).status_code == 200


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_shows_and_only_at_its_clip(audio: Path, layout: str, fault: str) -> None:
    with serve([make_clip(1, fault=fault), make_clip(2)], audio, layout=layout) as site:
        for clip_id in (1, 2):
            pages = [fetch(site, detail_path(layout, clip_id)) for _ in range(2)]
            sounds = [fetch(site, audio_path(layout, clip_id)) for _ in range(2)]
            is_faulty = clip_id == 1
            is_busy = is_faulty and fault == "busy"
            assert [page.status_code for page in pages] == ([503, 200] if is_busy else [200, 200])
            if is_busy:
                assert [sound.status_code for sound in sounds] == [503, 200]
                assert int(pages[0].headers["Retry-After"]) <= 1
            assert (f"A bell that rings {clip_id} times." not in pages[1].text) == (
                is_faulty and fault == "no_description"
            )
            wrong = {"dead": 404, "html": 200, "empty": 200} if is_faulty else {}
            if fault not in wrong:
                assert sounds[1].content == (audio / "tone.wav").read_bytes()
                continue
            assert sounds[1].status_code == wrong[fault]
            assert sounds[1].url.endswith(".wav")
            assert sounds[1].headers["Content-Type"].startswith("audio" if fault == "empty" else "text/html")
            assert (sounds[1].content == b"") == (fault == "empty")


def test_robots_forbids_search_and_can_be_replaced(audio: Path) -> None:
    with serve([make_clip(1)], audio) as site:
        assert "Disallow: /search.php" in fetch(site, "/robots.txt").text
    with serve([make_clip(1)], audio, layout="bigsoundbank") as site:
        assert "Sitemap: https://bigsoundbank.com/sitemap_bsb.xml" in fetch(site, "/robots.txt").text
    with serve([make_clip(1)], audio, robots="User-agent: *\nDisallow: /\n") as site:
        assert fetch(site, "/robots.txt").text.endswith("Disallow: /\n")


def test_what_is_not_there_answers_404_and_every_request_is_noted(audio: Path) -> None:
    with serve([make_clip(1)], audio) as site:
        for path in (
            "/nothing",
            "/2-x.html",
            "/wav/x.wav",
            "/mp3/../tone.mp3",
            "/tags-none.htm",
            "/wav/x-500000097.wav",
        ):
            assert fetch(site, path).status_code == 404
        assert fetch(site, "/about.php").status_code == fetch(site, "/terms").status_code == 200
        assert requests.head(site.base_url + "/1-x.html", timeout=10).headers["Content-Length"] != "0"
        assert requests.post(site.base_url + "/grab.php", data="x", timeout=10).status_code == 405
        assert site.requests[0] == ("GET", "/nothing", 404)
        assert site.requests[-1] == ("POST", "/grab.php", 405)
        assert len(site.requests) == 10


def test_a_clip_without_text_or_alone_in_the_catalogue_has_a_page(audio: Path) -> None:
    clip = Clip(id=3, audio="tone.wav")
    for layout in LAYOUTS:
        with serve([clip], audio, layout=layout) as site:
            assert fetch(site, detail_path(layout, 3)).status_code == 200
            listing = {"bigsoundbank": "/sitemap_bsb.xml", "pebbles": "/browse/other"}.get(
                layout, "/free-sound-effects-1.html"
            )
            link = {"bigsoundbank": "/-s0003.html", "pebbles": "/sound/p-0003"}.get(layout, "3-.html")
            assert link in fetch(site, listing).text
        with serve([], audio, layout=layout) as site:
            assert fetch(site, "/").status_code == 200


def test_many_clients_at_once_get_every_clip_in_seconds(audio: Path) -> None:
    clips = [make_clip(clip_id) for clip_id in range(1, 301)]
    with serve(clips, audio) as site, requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=8))

        def visit(clip: Clip) -> int:
            page = session.get(f"{site.base_url}/{clip.id}-x.html", timeout=10)
            sound = session.get(f"{site.base_url}/grab.php?id={clip.id}&type=wav", timeout=10)
            return page.status_code + len(sound.content)

        start = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            results = set(pool.map(visit, clips))
        assert time.monotonic() - start < 15  # about 1 s on an idle core
        assert results == {200 + (audio / "tone.wav").stat().st_size}
        assert len(site.requests) == 900


def test_closing_ends_kept_alive_connections_and_frees_the_port(audio: Path) -> None:
    site = serve([make_clip(1)], audio)
    with requests.Session() as session:
        session.get(site.base_url, timeout=10)
        start = time.monotonic()
        site.close()
        site.close()
        assert time.monotonic() - start < 3
        with pytest.raises(requests.ConnectionError):
            session.get(site.base_url, timeout=10)
    with serve([make_clip(1)], audio, port=urlsplit(site.base_url).port or 0) as again:
        assert again.base_url == site.base_url


def test_catalogue_file_keeps_every_field(tmp_path: Path) -> None:
    clips = [
        Clip(id=1, title="Ü\u2028 “x”\n", description="d", tags=("a", ""), author="b", license="c", audio="e.wav"),
        make_clip(2, fault="busy"),
    ]
    write_catalogue(tmp_path / "c.jsonl", clips)
    assert read_catalogue(tmp_path / "c.jsonl") == clips


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"id": 1, "audio": "tone.wav"}\n\n{"id": 2,', r"c\.jsonl: line 3: not JSON: Expecting"),
        ("[" * 100_000, r"c\.jsonl: line 1: not JSON"),
        ("[1]", r"line 1: must be a JSON object, got list"),
        ('{"id": 1, "audio": "tone.wav"}\n{"id": 1, "audio": "tone.wav"}', r"line 2: id 1 is already that of line 1"),
        ('{"id": 1, "audio": "tone.wav", "fault": "ded"}', r"line 1: fault 'ded' is not one of dead, html, empty"),
        ('{"id": 1, "audio": "tone.wav", "titel": "x"}', r"unknown key 'titel'; did you mean 'title'\?"),
        ('{"id": 1, "audio": "tone.wav", "zzz": "x"}', r"unknown key 'zzz'; known are id, title"),
        ('{"id": 1}', r"line 1: missing: audio"),
        ('{"audio": "tone.wav"}', r"line 1: missing: id"),
        ('{"id": "1", "audio": "tone.wav"}', r"id must be a whole number, 1 or more, got '1'"),
        ('{"id": 0, "audio": "tone.wav"}', r"1 or more, got 0"),
        ('{"id": 1, "audio": "tone.wav", "title": null}', r"title must be a string, got None"),
        ('{"id": 1, "audio": "tone.wav", "tags": "x"}', r"tags must be strings, got 'x'"),
        ('{"id": 1, "audio": "tone.wav", "title": "\\ud800"}', r"is not Unicode text"),
        ('{"id": 1, "audio": {}}', r"audio must name a file"),
        ('{"id": 1, "audio": 5}', r"audio must name a file, or a file for each kind, got 5"),
        ('{"id": 1, "audio": "../../etc/passwd"}', r"must be a file inside the audio folder"),
        ('{"id": 1, "audio": "/etc/passwd"}', r"must be a file inside the audio folder"),
        ('{"id": 1, "audio": {"wav": "tone.wav", "mp3": "gone.mp3"}}', r"id 1 \(''\): audio file 'gone.mp3' is not in"),
    ],
)
def test_wrong_catalogue_is_refused_with_its_place(tmp_path: Path, audio: Path, lines: str, message: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(CatalogueError, match=message):
        serve(path, audio)


def test_catalogue_that_cannot_be_read_is_refused(tmp_path: Path, audio: Path) -> None:
    with pytest.raises(CatalogueError, match=r"none\.jsonl: no such file; make one with: python -m demo\.sounds"):
        serve(tmp_path / "none.jsonl", audio)
    (tmp_path / "latin.jsonl").write_bytes(b'{"title": "\xfc"}')
    with pytest.raises(CatalogueError, match=r"latin\.jsonl: not UTF-8 text: .* at byte 11"):
        serve(tmp_path / "latin.jsonl", audio)
    with pytest.raises(CatalogueError, match="Is a directory"):
        serve(tmp_path, audio)
    with pytest.raises(CatalogueError, match="no such folder of audio files"):
        serve([make_clip(1)], tmp_path / "none")
    with pytest.raises(CatalogueError, match=r"id 1 \('Bell 1'\) is in the catalogue twice"):
        serve([make_clip(1), make_clip(1)], audio)
    with pytest.raises(ValueError, match=r"must be one of soundbible, soundbible-old, bigsoundbank, pebbles, got 'x'"):
        serve([make_clip(1)], audio, layout="x")


def test_busy_port_is_named_with_what_to_do(audio: Path) -> None:
    with (
        serve([make_clip(1)], audio) as site,
        pytest.raises(SiteError, match=rf"cannot listen on port {urlsplit(site.base_url).port} .*--port 0"),
    ):
        serve([make_clip(1)], audio, port=urlsplit(site.base_url).port or 0)


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "demo.site", *options]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_prints_its_address_serves_and_ends_on_a_signal(tmp_path: Path, audio: Path, number: int) -> None:
    write_catalogue(tmp_path / "c.jsonl", [make_clip(1)])
    options = ("--catalogue", str(tmp_path / "c.jsonl"), "--audio", str(audio), "--port", "0", "--verbose")
    with subprocess.Popen(command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        address = first.split()[0]
        assert requests.get(urljoin(address, "/1-Bell-1.html"), timeout=10).status_code == 200
        process.send_signal(number)
        _, err = process.communicate(timeout=10)
    assert "soundbible, 1 clips" in first
    assert process.returncode == 0
    assert "Traceback" not in err
    assert '"GET /1-Bell-1.html HTTP/1.1" 200' in err


def test_command_exits_1_for_data_and_2_for_usage(tmp_path: Path, audio: Path) -> None:
    write_catalogue(tmp_path / "c.jsonl", [make_clip(1)])
    catalogue = ("--catalogue", str(tmp_path / "c.jsonl"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        cases = {
            (*catalogue, "--audio", str(audio), "--port", port): (1, f"error: cannot listen on port {port}"),
            (*catalogue, "--audio", str(tmp_path)): (1, "audio file 'tone.wav' is not in"),
            (*catalogue, "--audio", str(audio), "--layout", "myspace"): (2, "'myspace' is not one of soundbible"),
            catalogue: (2, "--audio"),
        }
        for options, (code, message) in cases.items():
            done = subprocess.run(command(*options), capture_output=True, text=True, timeout=30, check=False)
            assert (done.returncode, done.stdout) == (code, "")
            assert message in done.stderr
            assert "Traceback" not in done.stderr
