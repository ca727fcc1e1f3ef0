"""Replay of the whole published list against two stand-in sites of which some rows are alive, some healed, some gone.

    WAVTEXT5K_DATA=FOLDER python benchmarks/replay.py [CSV] [--out runs/replay]

Reads WavText5K.csv (captions/wavtext5k/ under WAVTEXT5K_DATA, not part of this repository) and serves its 4,525 rows on
this machine in the pages of either site, each with one of a few small synthesised sounds. What becomes of a row is
fixed before: SHARES by a hash of its id. Prints the tables of ``--check`` and of the replay, and ends with 1 if one row
came out otherwise than planned. Politeness is off, since the sites are ours: on the real ones the same requests stand
a second apart.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import _path  # noqa: F401  # curation.py beside this file has the name of a package
import numpy as np
import soundfile
import typer

from crawler.published import PublishedRow, read_published
from crawler.replay import Job, by_source, replay
from crawler.replay_check import Table, check, read_table, table_text
from crawler.replay_client import Manners
from crawler.report import CrawlReport
from demo.site import Clip, Site, serve

SHARES = {
    "soundbible": {"alive": 0.90, "healed": 0.06, "removed": 0.02, "dead": 0.01, "html": 0.01},
    "bigsoundbank": {"healed": 0.95, "removed": 0.03, "dead": 0.01, "html": 0.01},
}
"""Of the rows of each site. BigSoundBank's published links lead to a page, so none of its rows is alive. The last three
are gone: no page and no audio; a page whose audio answers 404; a page whose audio is another page."""
KINDS = ("wav", "flac", "mp3")
SOUNDS = 5


def fate_of(row: PublishedRow) -> str:
    """Return what is planned for a row."""
    place = zlib.crc32(f"{row.source}-{row.source_id}".encode()) / 2**32
    for fate, share in SHARES[row.source].items():
        place -= share
        if place < 0:
            return fate
    return fate


def write_sounds(folder: Path) -> None:
    """Write a few short noises in each format."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(7)
    for number in range(SOUNDS):
        waveform = (0.2 * random.standard_normal(4_000 + 1_000 * number)).astype(np.float32)
        for kind in KINDS:
            soundfile.write(folder / f"{number}.{kind}", waveform, 22_050)


def clips_of(rows: Sequence[PublishedRow]) -> list[Clip]:
    """Return the clips that a site still has."""
    clips = []
    for row in rows:
        fate, number = fate_of(row), int(row.source_id)
        if fate == "removed":
            continue
        kinds = ("mp3",) if row.source == "soundbible" and fate == "healed" else KINDS
        clips.append(
            Clip(
                id=number,
                title=row.title,
                description=row.description,
                tags=row.tags,
                author="A. Recordist",
                license="Attribution 3.0" if row.source == "soundbible" else "CC0",
                audio={kind: f"{number % SOUNDS}.{kind}" for kind in kinds},
                fault=fate if fate in ("dead", "html") else None,
            )
        )
    return clips


def planned(rows: Sequence[PublishedRow]) -> dict[str, str]:
    """Return source_id -> alive, healed or gone."""
    fates = {row.source_id: fate_of(row) for row in rows}
    return {source_id: fate if fate in ("alive", "healed") else "gone" for source_id, fate in fates.items()}


def replayed(report: CrawlReport, raw: Path) -> dict[str, str]:
    """Return source_id -> alive, healed or gone, as the records and the report tell."""
    states = dict.fromkeys(report.failures, "gone")
    for source_id in report.stored:
        record = json.loads((raw / report.source / "records" / f"{source_id}.json").read_text("utf-8"))
        states[source_id] = record["extra"]["replay"]
    return states


def print_outcome(name: str, sites: Mapping[str, Site], seconds: float) -> None:
    """Print the time, and what the sites were asked."""
    requests = sum(len(site.requests) for site in sites.values())
    print(f"{name}: {seconds:.1f} s, {requests} requests, {requests / seconds:.0f} a second over both sites\n")
    for site in sites.values():
        site.requests.clear()


def main(
    published: Annotated[Path | None, typer.Argument(metavar="CSV", help="By default WavText5K.csv.")] = None,
    out: Annotated[Path, typer.Option(help="Where everything goes; it is emptied first.")] = Path("runs/replay"),
) -> None:
    """Check and replay a published list against stand-in sites."""
    path = published or Path(os.environ.get("WAVTEXT5K_DATA", ".")) / "captions/wavtext5k/WavText5K.csv"
    if not path.is_file():
        sys.exit(f"error: {path}: no such file; name the list, or set WAVTEXT5K_DATA")
    shutil.rmtree(out, ignore_errors=True)
    write_sounds(out / "audio")
    rows = by_source(read_published(path).rows, None)
    plan = {source: planned(those) for source, those in rows.items()}
    for source, fates in plan.items():
        shares = ", ".join(f"{fate} {share:.0%}" for fate, share in SHARES[source].items())
        print(f"planned: {source:14}{len(fates)} rows ({shares}): {dict(Counter(fates.values()))}")
    first, second = (serve(clips_of(rows[source]), out / "audio", layout=source) for source in SHARES)
    with first, second:
        sites = dict(zip(SHARES, (first, second), strict=True))
        manners = Manners(agent="wavtext5k-crawl benchmark", delay_s=0.0)
        job = Job(raw=out / "raw", manners=manners, base_urls={name: site.base_url for name, site in sites.items()})

        began = time.monotonic()
        with Table(out / "replay_check.csv", again=False) as table:
            verdict = check(rows, job, table)
        print(f"\n{table_text(verdict)}")
        print_outcome("check", sites, time.monotonic() - began)

        began = time.monotonic()
        reports = replay(rows, job)
        for report in reports.values():
            print(f"{report.source}\n{report.table()}")
        print_outcome("replay", sites, time.monotonic() - began)

        began = time.monotonic()
        replay(rows, job)
        print_outcome("second replay", sites, time.monotonic() - began)
    wrong = 0
    checked = read_table(out / "replay_check.csv")
    for source, fates in plan.items():
        found = replayed(reports[source], out / "raw")
        for source_id, state in fates.items():
            states = {"check": str(checked[source, source_id].state), "replay": found.get(source_id, "missing")}
            for name, got in states.items():
                if got != state:
                    wrong += 1
                    print(f"{name}: {source} {source_id}: planned {state}, got {got}")
    print(f"{2 * sum(map(len, plan.values()))} outcomes, {wrong} otherwise than planned")
    sys.exit(1 if wrong or verdict.error or any(report.error for report in reports.values()) else 0)


if __name__ == "__main__":
    typer.run(main)
