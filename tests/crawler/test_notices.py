from __future__ import annotations

import json
from pathlib import Path

import pytest

from crawler.notices import keep_notice, notice_name

URL = "https://soundbible.com/terms.php"


def test_a_text_that_changes_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    assert not keep_notice(tmp_path, URL, status=200, body=b"one")
    assert not keep_notice(tmp_path, URL, status=200, body=b"one")
    assert keep_notice(tmp_path, URL, status=200, body=b"two")
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "notices.json"}
    assert files.pop("terms.php.html") == b"two"
    assert list(files.values()) == [b"one"]
    entry = json.loads((tmp_path / "notices.json").read_text())["terms.php.html"]
    assert (entry["url"], entry["status"]) == (URL, 200)


def test_a_page_whose_tokens_change_has_not_changed(tmp_path: Path) -> None:
    for token in ("a1", "b2"):
        page = f"<meta name=csrf content={token}><script>t='{token}'</script><p>Our   terms</p>"
        assert not keep_notice(tmp_path, URL, status=200, body=page.encode())
    assert keep_notice(tmp_path, URL, status=200, body=b"<p>Other terms</p>")


def test_an_error_page_does_not_replace_a_text(tmp_path: Path) -> None:
    keep_notice(tmp_path, URL, status=200, body=b"one")
    assert not keep_notice(tmp_path, URL, status=404, body=b"gone")
    assert (tmp_path / "terms.php.html").read_bytes() == b"one"
    assert json.loads((tmp_path / "notices.json").read_text())["terms.php.html"]["status"] == 404
    assert keep_notice(tmp_path, URL, status=200, body=b"two"), "the text of before the error is not forgotten"


@pytest.mark.parametrize("junk", [b"", b"[]", b"{", b'{"terms.php.html": 3}', b"\xff"])
def test_an_index_that_is_damaged_is_written_anew(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "notices.json").write_bytes(junk)
    keep_notice(tmp_path, URL, status=200, body=b"one")
    assert json.loads((tmp_path / "notices.json").read_text())["terms.php.html"]["status"] == 200


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.example/robots.txt", "robots.txt"),
        ("https://a.example/", "index.html"),
        ("https://a.example/legal?id=3", "legal-id-3.html"),
        ("https://a.example/..%2F..%2Fetc", "2F..-2Fetc.html"),
        ("https://a.example/fr/terms.html", "fr-terms.html"),
        ("https://a.example/.well-known/tdmrep.json", "tdmrep.json"),
        ("https://a.example/notices.json", "notices.json.html"),
        ("https://a.example/" + "x" * 500 + ".html", "x" * 80 + ".html"),
    ],
)
def test_names_are_safe(url: str, name: str) -> None:
    assert notice_name(url) == name
