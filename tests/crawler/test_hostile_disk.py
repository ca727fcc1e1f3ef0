"""Audio too large for the cap, and disks too small for the audio, at their real sizes."""

from __future__ import annotations

import gzip
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crawler.conftest import command, environment, read_report
from tests.crawler.hostile import (
    Reply,
    audio_reply,
    checked_records,
    crawl_hostile,
    detail,
    flood,
    listing,
    names_under,
    serve_replies,
)

MEGABYTE = 2**20


def test_of_400_megabytes_no_more_is_taken_than_the_cap_and_the_next_format_is_asked(
    audio: Path, tmp_path: Path
) -> None:
    wav, mp3 = (audio / "noise.wav").read_bytes(), (audio / "noise.mp3").read_bytes()
    bomb = gzip.compress(bytes(16 * MEGABYTE)) * 64  # 1 MiB that unpacks to 1 GiB
    replies = {
        "/free-sound-effects-1.html": listing(1, 2, 3, 4),
        "/free-sound-effects-2.html": listing(1),
        **{f"/{n}-S.html": detail(n) for n in (1, 2, 3, 4)},
        "/grab.php?id=1&type=wav": audio_reply(flood(wav, 400), length=400 * MEGABYTE + len(wav)),
        "/grab.php?id=1&type=mp3": audio_reply(mp3),
        "/grab.php?id=2&type=wav": audio_reply(flood(wav, 400), framing="chunked"),
        "/grab.php?id=2&type=mp3": audio_reply(mp3),
        "/grab.php?id=3&type=wav": audio_reply(bomb, headers={"Content-Encoding": "gzip"}),
        "/grab.php?id=3&type=mp3": audio_reply(mp3),
        "/grab.php?id=4&type=wav": audio_reply(flood(wav, 400), length=400 * MEGABYTE + len(wav)),
        "/grab.php?id=4&type=mp3": audio_reply(flood(mp3, 400), length=400 * MEGABYTE + len(mp3)),
    }
    with serve_replies(replies) as site:
        crawled = crawl_hostile(tmp_path, site.base_url, "--max-failed", "1")
    assert crawled.returncode == 0, crawled.stderr
    assert crawled.reasons == {4: "too_large"}
    assert crawled.details[4].count("larger than download max size (209715200)") == 2
    for number in (1, 2, 3):
        record = crawled.records[number]
        assert record["audio_file"] == f"audio/{number}.mp3"
        why = "http_error" if number == 3 else "too_large"  # a bomb is not unpacked: audio is asked for as it is
        assert record["extra"]["audio_not_used"] == {f"https://soundbible.com/grab.php?id={number}&type=wav": why}
    assert site.sent("/grab.php?id=1&type=wav") < 20 * MEGABYTE, "its length said enough"
    assert site.sent("/grab.php?id=2&type=wav") < 250 * MEGABYTE


def five_clips(body: bytes) -> dict[str, Reply]:
    """Return a site of five clips with one audio."""
    return {
        "/free-sound-effects-1.html": listing(1, 2, 3, 4, 5),
        "/free-sound-effects-2.html": listing(1),
        **{f"/{n}-S.html": detail(n) for n in range(1, 6)},
        **{f"/grab.php?id={n}&type=wav": audio_reply(body) for n in range(1, 6)},
    }


LIMITED = (
    "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))\nfrom crawler.cli import main\nmain()"
)


def test_a_disk_that_is_full_mid_file_ends_the_crawl_and_the_next_run_goes_on(audio: Path, tmp_path: Path) -> None:
    small = (audio / "noise.wav").read_bytes()
    replies = five_clips(small) | {"/grab.php?id=3&type=wav": audio_reply(small + bytes(300_000))}
    with serve_replies(replies) as site:
        line = command("soundbible", site.base_url, tmp_path / "raw", "-s", "CONCURRENT_REQUESTS_PER_DOMAIN=1")
        # A file that would pass this limit fails as on a full disk, half-way through.
        done = subprocess.run(
            [sys.executable, "-B", "-c", LIMITED.format(200_000), *line[3:]],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment(),
        )
        assert done.returncode == 1
        assert "no space left on the disk; mend that and run the same command again" in done.stderr
        assert "Traceback" not in done.stderr
        report = read_report(tmp_path / "raw", "soundbible")
        assert (report["finish_reason"], report["failed"]) == ("no_space", {"io_error": 1})
        before = checked_records(tmp_path / "raw/soundbible")
        assert 3 not in before
        site.asked.clear()
        crawled = crawl_hostile(tmp_path, site.base_url)
    assert crawled.returncode == 0, crawled.stderr
    assert set(crawled.records) == {1, 2, 3, 4, 5}
    assert not [number for number in before if f"/grab.php?id={number}&type=wav" in site.requests]


def can_mount() -> bool:
    """Return whether a user without rights may mount a disk in a namespace of its own here."""
    line = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=1m none /tmp"]
    return (
        shutil.which("unshare") is not None and subprocess.run(line, capture_output=True, check=False).returncode == 0
    )


def test_a_real_disk_that_is_full_and_then_has_room(audio: Path, tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("no unprivileged mounts on this system")
    raw, kept = tmp_path / "raw", tmp_path / "kept"
    raw.mkdir()
    kept.mkdir()
    body = (audio / "noise.wav").read_bytes() + bytes(300_000)
    with serve_replies(five_clips(body)) as site:
        crawl = shlex.join(command("soundbible", site.base_url, raw, "-s", "CONCURRENT_REQUESTS_PER_DOMAIN=1"))
        # The disk is there for these commands alone, hence the copies.
        steps = f"""
            mount -t tmpfs -o size=1m none {raw} || exit 99
            {crawl} > {kept}/1.out 2> {kept}/1.err; echo $? >> {kept}/1.out
            mkdir {kept}/1 && cp -a {raw}/. {kept}/1 && mount -o remount,size=64m {raw} || exit 98
            {crawl} > {kept}/2.out 2> {kept}/2.err; echo $? >> {kept}/2.out
            mkdir {kept}/2 && cp -a {raw}/. {kept}/2
        """
        done = subprocess.run(["unshare", "-rm", "sh", "-c", steps], env=environment(), timeout=120, check=False)
    assert done.returncode == 0
    first, second = ((kept / f"{run}.err").read_text(encoding="utf-8") for run in (1, 2))
    assert (kept / "1.out").read_text(encoding="utf-8").splitlines()[-1] == "1"
    assert "no space left on the disk; mend that and run the same command again" in first
    assert "Traceback" not in first + second
    report = read_report(kept / "1", "soundbible")
    assert (report["finish_reason"], report["failed"]) in [("no_space", {"io_error": 1}), ("running", {})]
    assert len(checked_records(kept / "1/soundbible")) < 5
    assert (kept / "2.out").read_text(encoding="utf-8").splitlines()[-1] == "0", second
    assert set(checked_records(kept / "2/soundbible")) == {1, 2, 3, 4, 5}
    assert not names_under(raw), "the disk was only ever in its namespace"
