"""A clip for the stand-in site's catalogue, and a client that reads its pages."""

from __future__ import annotations

import requests
from parsel import Selector

from demo.site import Clip, Site


def make_clip(clip_id: int, **changes: object) -> Clip:
    """Return a clip for the catalogue: make_clip(7, fault="dead")."""
    values: dict[str, object] = {
        "title": f"Bell {clip_id}",
        "description": f"A bell that rings {clip_id} times.",
        "tags": ("bell", "low  bell", "ring/ding"),
        "author": "Ada Quill",
        "license": "Attribution 3.0",
        "audio": {"wav": "tone.wav", "mp3": "tone.mp3"},
    }
    return Clip(**(values | {"id": clip_id} | changes))  # type: ignore[arg-type]


def fetch(site: Site, path: str, **headers: str) -> requests.Response:
    """Return the answer to a path, after redirects; If_None_Match="x" sends such a header."""
    return requests.get(
        site.base_url + path, timeout=10, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def read(response: requests.Response) -> Selector:
    """Return a page; past the early ``</html>`` of the old listings, which an HTML parser stops at."""
    return Selector(response.content.decode().replace("<html><head></head><body></body></html>", ""))


def detail_path(layout: str, clip_id: int) -> str:
    """Return the address of a clip's page; SoundBible's and BigSoundBank's only need the number in it."""
    paths = {"bigsoundbank": f"/x-s{clip_id:04}.html", "pebbles": f"/sound/p-{clip_id:04}"}
    return paths.get(layout, f"/{clip_id}-x.html")


def audio_path(layout: str, clip_id: int) -> str:
    """Return the address of a clip's WAV."""
    paths = {"bigsoundbank": f"/UPLOAD/bwf-en/{clip_id:04}.wav", "pebbles": f"/files/p-{clip_id:04}.wav"}
    return paths.get(layout, f"/grab.php?id={clip_id}&type=wav")
