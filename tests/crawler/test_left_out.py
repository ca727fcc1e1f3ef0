"""What is reserved or opted out is not asked, wherever it stands: in a list, on a page, or behind a redirect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.crawler.conftest import Crawl, read_records, read_report
from tests.crawler.hostile import Reply, audio_reply, detail, listing, serve_replies

TDMREP = "/.well-known/tdmrep.json"


def reserving(location: str) -> Reply:
    return Reply(body=b'[{"location": "%s", "tdm-reservation": 1}]' % location.encode())


@pytest.fixture
def replies(audio: Path) -> dict[str, Any]:
    """Two clips whose downloads redirect to a file, the second's page moved."""
    wav = (audio / "noise.wav").read_bytes()
    return {
        "/free-sound-effects-1.html": listing(1, 2),
        "/free-sound-effects-2.html": listing(1, 2),
        "/1-S.html": detail(1),
        "/2-S.html": Reply(301, headers={"Location": "/2-New.html"}),
        "/2-New.html": detail(2),
        "/grab.php?id=1&type=wav": Reply(302, headers={"Location": "/wav/one.wav"}),
        "/wav/one.wav": audio_reply(wav),
        "/grab.php?id=2&type=wav": audio_reply(wav),
    }


@pytest.mark.parametrize(
    "location", ["/grab.php?id=1*", "/wav/*", "/wav/one.wav$", "https://soundbible.com/wav/", "wav/"]
)
def test_a_reservation_of_the_audio_leaves_the_clip_out(
    location: str, replies: dict[str, Any], crawl: Crawl, tmp_path: Path
) -> None:
    with serve_replies(replies | {TDMREP: reserving(location)}) as site:
        done = crawl("soundbible", site.base_url)
        assert "/wav/one.wav" not in site.requests
    assert done.returncode == 0, done.stderr
    assert set(read_records(tmp_path / "raw", "soundbible")) == {"2"}
    assert read_report(tmp_path / "raw", "soundbible")["left_out"] == {"tdm_reserved": 1}


def test_a_reservation_of_where_a_page_moved_leaves_the_clip_out(
    replies: dict[str, Any], crawl: Crawl, tmp_path: Path
) -> None:
    with serve_replies(replies | {TDMREP: reserving("/2-New*")}) as site:
        done = crawl("soundbible", site.base_url)
        assert "/2-New.html" not in site.requests
    assert done.returncode == 0, done.stderr
    assert read_report(tmp_path / "raw", "soundbible")["left_out"] == {"tdm_reserved": 1}


def test_a_reservation_holds_while_its_file_cannot_be_read(
    replies: dict[str, Any], crawl: Crawl, tmp_path: Path
) -> None:
    replies[TDMREP] = reserving("/2-*")
    with serve_replies(replies) as site:
        assert crawl("soundbible", site.base_url).returncode == 0
        replies[TDMREP] = Reply(500)
        done = crawl("soundbible", site.base_url, "-s", "RETRY_TIMES=0")
        assert read_report(tmp_path / "raw", "soundbible")["left_out"] == {"tdm_reserved": 1}
        assert "tdmrep.json could not be read (HTTP status 500): its last copy holds" in done.stdout
        replies[TDMREP] = Reply(404)
        assert crawl("soundbible", site.base_url).returncode == 0
    assert set(read_records(tmp_path / "raw", "soundbible")) == {"1", "2"}


def test_an_opt_out_holds_behind_a_redirect_and_for_what_is_stored(
    replies: dict[str, Any], crawl: Crawl, tmp_path: Path
) -> None:
    file = tmp_path / "optout.txt"
    file.write_text("https://soundbible.com/wav/one.wav\nsoundbible-0002\n", encoding="utf-8")
    with serve_replies(replies) as site:
        done = crawl("soundbible", site.base_url, "--opt-out", str(file))
        assert "/wav/one.wav" not in site.requests
        assert read_report(tmp_path / "raw", "soundbible")["left_out"] == {"opted_out": 1}
        assert "warning: opt-out list: soundbible-0002 names no clip that the site lists" in done.stdout
        file.write_text("http://www.soundbible.com/grab.php?id=2&type=wav\n", encoding="utf-8")
        done = crawl("soundbible", site.base_url, "--opt-out", str(file))
    assert read_report(tmp_path / "raw", "soundbible")["left_out"] == {"opted_out": 1}
    assert "warning: clip 2 is stored by an earlier run and now opted_out: delete records/2.json" in done.stdout
