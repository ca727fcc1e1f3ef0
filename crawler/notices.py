"""Copies of what a site says of itself: robots.txt, tdmrep.json, terms. They go with the crawl, as its grounds.

Writes ``<raw>/<source>/site/<name>`` and, when a later crawl finds another text there, keeps the older copy beside it
under the day it was fetched. ``notices.json`` says where and when each was fetched, and with which status.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bs4 import BeautifulSoup

from crawler.items import open_whole

NOTICES = "site"
"""Their folder, beside the records."""
INDEX = "notices.json"


def notice_name(url: str) -> str:
    """Return the file name of a notice: the path of its address, safe on any disk.

    >>> notice_name("https://soundbible.com/.well-known/tdmrep.json"), notice_name("https://x.org/fr/legal?id=3")
    ('tdmrep.json', 'fr-legal-id-3.html')
    """
    parts = urlsplit(url)
    path = parts.path.removeprefix("/.well-known") + (f"-{parts.query}" if parts.query else "")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path).strip(".-")[:80] or "index"
    return name if re.search(r"\.(?:txt|json|html?)$", name) and name != INDEX else f"{name}.html"


def keep_notice(folder: Path, url: str, *, status: int, body: bytes) -> bool:
    """Keep a copy of a notice, and say whether its text is another than that of the last copy.

    Args:
        folder: ``<raw>/<source>/site``.
        url: Where it was asked, in its public form.
        status: Of the answer. Only a text that came (200) is kept as a file; the status is noted in any case.
        body: Of the answer.

    Returns:
        True if there was a copy and this text is another one.

    Raises:
        OSError: If it cannot be written.
    """
    name, now = notice_name(url), datetime.now(UTC)
    index = _read_index(folder)
    last = index.get(name, {})
    sha256 = hashlib.sha256(_words(body)).hexdigest() if status == 200 else ""
    path = folder / name
    before = hashlib.sha256(_words(path.read_bytes())).hexdigest() if path.is_file() else ""
    changed = bool(before and sha256) and sha256 != before
    if changed:
        day = re.sub(r"[^0-9]", "", str(last.get("retrieved_at", "")))[:14] or "earlier"
        path.replace(path.with_name(f"{path.stem}.{day}{path.suffix}"))
    if status == 200 and (changed or not before):
        with open_whole(path) as file:
            file.write(body)
    index[name] = {
        "url": url,
        "status": status,
        "sha256": sha256 or last.get("sha256", ""),
        "retrieved_at": now.isoformat(timespec="seconds"),
    }
    with open_whole(folder / INDEX, "w") as file:
        file.write(json.dumps(index, indent=1, sort_keys=True) + "\n")
    return changed


def _read_index(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {name: entry for name, entry in index.items() if isinstance(entry, dict)} if isinstance(index, dict) else {}


def _words(body: bytes) -> bytes:
    """Return what a reader sees: a page's tokens and scripts are other ones each time."""
    if b"<" not in body:
        return body
    return " ".join(BeautifulSoup(body, "html.parser").get_text(" ").split()).encode()
