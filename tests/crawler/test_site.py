from __future__ import annotations

from typing import Any

import pytest
from scrapy import Request

from crawler.pages import soundbible
from crawler.site import Site
from crawler.spiders.base import SiteSpider

HOSTS = ("soundbible.com", "www.soundbible.com")
REAL = Site("https://soundbible.com", HOSTS)
MIRROR = Site("https://soundbible.com", HOSTS, "http://127.0.0.1:8000/")


@pytest.mark.parametrize(
    ("site", "url", "target"),
    [
        (REAL, "https://soundbible.com/a.html", "https://soundbible.com/a.html"),
        (REAL, "http://www.soundbible.com/a.html", "http://www.soundbible.com/a.html"),
        (REAL, "https://soundbible.com.evil.example/a", None),
        (REAL, "http://127.0.0.1:8000/a", None),
        (REAL, "https://soundbible.com:8443/a", "https://soundbible.com/a"),
        (MIRROR, "https://soundbible.com/grab.php?id=1&type=wav", "http://127.0.0.1:8000/grab.php?id=1&type=wav"),
        (MIRROR, "http://www.soundbible.com/mp3/a%20b.mp3", "http://127.0.0.1:8000/mp3/a%20b.mp3"),
        (MIRROR, "http://127.0.0.1:8000/a", "http://127.0.0.1:8000/a"),
        (MIRROR, "http://127.0.0.1:8001/a", None),
        (MIRROR, "http://169.254.1.1/a", None),
    ],
)
def test_target_is_where_the_site_is_asked_and_never_elsewhere(site: Site, url: str, target: str | None) -> None:
    assert site.target(url) == target


@pytest.mark.parametrize(
    ("site", "url", "public"),
    [
        (MIRROR, "http://127.0.0.1:8000/7-Hen.html", "https://soundbible.com/7-Hen.html"),
        (MIRROR, "http://soundbible.com/7-Hen.html", "https://soundbible.com/7-Hen.html"),
        (REAL, "http://www.soundbible.com/7-Hen.html", "https://soundbible.com/7-Hen.html"),
        (MIRROR, "https://example.org/7-Hen.html", "https://example.org/7-Hen.html"),
    ],
)
def test_canonical_is_the_public_address(site: Site, url: str, public: str) -> None:
    assert site.canonical(url) == public


BAD_BASE_URLS = [
    "127.0.0.1:8000",
    "ftp://127.0.0.1",
    "http://",
    "http://host/folder",
    "http://127.0.0.1:99999",
    "http://127.0.0.1:abc",
    "http://127.0.0.1:",
    "http://127.0.0.1:8000?x=1",
    "http://127.0.0.1:8000/?",
    "http://127.0.0.1:8000#f",
    "http://user:secret@127.0.0.1:8000",
    "http://127.0.0.1 :8000",
    " http://127.0.0.1:8000",
    "http://127.0.0.1:8000\n",
    "http://[::zz]:8000",
    "http://höst",
    "  ",
]


@pytest.mark.parametrize("base_url", BAD_BASE_URLS)
def test_base_url_must_be_scheme_and_host(base_url: str) -> None:
    with pytest.raises(ValueError, match=r"base_url must be like http://127\.0\.0\.1:8000, got"):
        Site("https://soundbible.com", HOSTS, base_url)


@pytest.mark.parametrize("base_url", ["http://[::1]:8000", "https://my_site/", "HTTP://LOCALHOST:8000"])
def test_a_request_to_base_url_is_one_that_goes_there(base_url: str) -> None:
    site = Site("https://soundbible.com", HOSTS, base_url)
    target = Request(site.target("https://soundbible.com/a.html") or "").url
    assert target == site.target(target) == f"{base_url.lower().rstrip('/')}/a.html"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"name": ""}, "does not say name"),
        ({"hosts": ()}, "does not say hosts"),
        ({"pages": None}, "does not say pages"),
        ({"name": "Two Words"}, "name must match"),
        ({"home": "https://a.example/"}, "home must be scheme and host alone"),
        ({"home": "https://b.example"}, "the host one of hosts"),
        ({"listings": SiteSpider.listings}, r"does not say listings\(\)"),
    ],
)
def test_a_spider_that_says_too_little_is_no_class(said: dict[str, Any], message: str) -> None:
    whole: dict[str, Any] = {
        "name": "a",
        "home": "https://a.example",
        "hosts": ("a.example",),
        "pages": soundbible,
        "listings": lambda self: [],
    }
    type("WholeSpider", (SiteSpider,), dict(whole))
    with pytest.raises(TypeError, match=message):
        type("PoorSpider", (SiteSpider,), whole | said)
