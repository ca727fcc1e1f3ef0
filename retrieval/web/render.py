"""The page's templates, compiled once, and what they call: how numbers, licences and texts of strangers are shown.

Every text of a clip is untrusted: Jinja escapes it, ``shown`` bounds it and takes from it what is not seen itself but
turns or hides what is, and ``web_link`` lets only http and https become a link.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2

from curation.text import LICENSE_NAMES
from retrieval.index import Clip

TEMPLATES = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_UNSEEN = re.compile("[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff]")
JOINERS = "\u200c\u200d"
"""Spelling in Persian and Hindi, and what holds emoji together: never taken out, here or in ``curation.text``."""
_LICENSE_PAGES = {
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "cc-by-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "cc-by-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "cc-by-sa-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "cc-by-nc-3.0": "https://creativecommons.org/licenses/by-nc/3.0/",
    "cc-by-nc-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "cc-sampling-plus-1.0": "https://creativecommons.org/licenses/sampling+/1.0/",
}
"""Where a manifest gives no address."""


@dataclass(frozen=True)
class Assets:
    """The static files, in memory, each under an address that changes with its content and may be cached for good."""

    folder: Path = STATIC

    @cached_property
    def files(self) -> dict[str, tuple[bytes, str]]:
        """Content and media type by the name in the address: style.0123abcd.css."""
        found = {}
        for path in sorted(path for path in self.folder.iterdir() if path.suffix in _TYPES):
            content = path.read_bytes()
            version = hashlib.sha256(content).hexdigest()[:8]
            found[f"{path.stem}.{version}{path.suffix}"] = (content, _TYPES[path.suffix])
        return found

    @cached_property
    def _addresses(self) -> dict[str, str]:
        return {re.sub(r"\.[0-9a-f]{8}(?=\.)", "", name): f"/static/{name}" for name in self.files}

    def address(self, name: str) -> str:
        """Return the address of a file by its own name."""
        return self._addresses[name]


class Renderer:
    """The templates."""

    def __init__(self, assets: Assets, **known: Any) -> None:
        """Compile them all; ``known`` is what every one of them may use."""
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters |= {
            "counted": counted,
            "duration": duration,
            "ending": ending,
            "license_name": license_name,
            "named": named,
            "shown": shown,
            "web_link": web_link,
        }
        self._environment.globals |= {
            "asset": assets.address,
            "clip_address": clip_address,
            "license_link": license_link,
            "license_names": LICENSE_NAMES,
            **known,
        }
        self._templates = {name: self._environment.get_template(name) for name in self._environment.list_templates()}

    def page(self, template: str, values: Mapping[str, Any]) -> str:
        """Return a page."""
        return self._templates[template].render(values)


def clip_address(clip: Clip, part: str = "") -> str:
    """Return the address of a clip's page, or of its audio or its thumbnail."""
    return f"/clip/{clip.key}/{part}" if part else f"/clip/{clip.key}"


def named(clip: Clip, most: int) -> str:
    """Return what to call a clip, in at most so many characters."""
    return shown(clip.name, most) or clip.key


def shown(text: str, most: int) -> str:
    """Return a plain text of at most so many characters, its end cut off visibly."""
    text = plain(text)
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def ending(path: str, most: int) -> str:
    """Return a path in at most so many characters: the beginning goes first, the file's own name is at its end."""
    path = plain(path)
    return path if len(path) <= most else "…" + path[len(path) - most + 1 :].lstrip()


def plain(text: str) -> str:
    """Return a text on one line without characters that cannot be seen, such as those that turn its direction."""
    return " ".join(_UNSEEN.sub(" ", text).split())


def counted(number: int) -> str:
    """Return so many clips: 1 clip, 1,234 clips."""
    return f"{number:,} clip{'s' if number != 1 else ''}"


def duration(seconds: float) -> str:
    """Return how long something is: 2.3 s, 1:05 min, 2:01:05 h."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def license_name(license_id: str) -> str:
    """Return how a licence is called."""
    return LICENSE_NAMES.get(license_id, license_id)


def license_link(clip: Clip) -> str:
    """Return the address of a clip's licence, or ""."""
    return web_link(clip.license_url) or _LICENSE_PAGES.get(clip.license, "")


def web_link(address: str) -> str:
    """Return an address that may be linked: that of a page by http or https; "" for any other."""
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return ""
    return address if known and not _UNSEEN.search(address) and " " not in address else ""
