"""The whole job on real SoundBible clips: serve, crawl, build, train with the demo's sounds, evaluate, query.

    WAVTEXT5K_DATA=FOLDER python benchmarks/real_clips.py --demo runs/demo --out runs/real

Reads ``soundbible/metadata.csv`` and its audio under WAVTEXT5K_DATA (not part of this repository) and the manifest
that ``make demo`` made; prints what each stage took and what came of it, scores beside chance. The metadata has a
title, description, tags, id, format and sometimes an uploader and a licence for each file; a clip with a WAV and an
MP3 is served as both.
"""

from __future__ import annotations

import ast
import csv
import json
import os
from pathlib import Path
from typing import Annotated

import _path  # noqa: F401  # curation.py beside this file has the name of a package
import typer

from curation.errors import ConfigError, exit_on_error
from demo.__main__ import METRICS, UNHURRIED, WAYS, Stages
from demo.site import Clip, serve

QUERIES = ("an alarm clock beeping", "a gun being fired", "birds singing", "water", "someone laughing")


def clips_of(metadata: Path) -> list[Clip]:
    """Return one clip a SoundBible id, with each of its files by format; of two files of a format the first is kept."""
    clips: dict[int, dict[str, object]] = {}
    with metadata.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            clip = clips.setdefault(
                int(row["soundbible_id"]),
                {
                    "title": row["title"],
                    "description": row["description"],
                    "tags": tuple(ast.literal_eval(row["tags"] or "[]")),
                    "author": row["file_uploader"] or row["wavcaps_author"],
                    "license": row["licence_stated"],
                    "audio": {},
                },
            )
            clip["audio"].setdefault(row["format"].split("/")[0].lower(), Path(row["file"]).name)  # type: ignore[attr-defined]
    return [Clip(id=number, fault=None, **clip) for number, clip in sorted(clips.items())]  # type: ignore[arg-type]


def main(
    demo: Annotated[Path, typer.Option(help="The demo's folder, whose manifest is trained on as well.")] = Path(
        "runs/demo"
    ),
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("runs/real"),
    epochs: Annotated[int, typer.Option(help="Of the recipe tiny.")] = 30,
) -> None:
    """Run the whole job on real clips."""
    with exit_on_error():
        if not os.environ.get("WAVTEXT5K_DATA"):
            raise ConfigError("set WAVTEXT5K_DATA to the folder that holds soundbible/metadata.csv")
        run(Path(os.environ["WAVTEXT5K_DATA"]) / "soundbible", demo=demo, out=out, epochs=epochs)


def run(data: Path, *, demo: Path, out: Path, epochs: int) -> None:
    """Run each stage and print what came of it."""
    stages = Stages(total=5)
    clips = clips_of(data / "metadata.csv")
    with stages.stage("crawl", f"crawl {len(clips)} real clips"), serve(clips, data / "audio") as site:
        settings = [part for setting in UNHURRIED for part in ("-s", setting)]
        stages.run("wavtext5k-crawl", "soundbible", "--base-url", site.base_url, "--raw", f"{out}/raw", *settings)
    with stages.stage("curate", "build the manifest"):
        fractions = ("--val-fraction", "0.1", "--test-fraction", "0.4")
        stages.run("wavtext5k-curate", "build", "--raw", f"{out}/raw", "--out", f"{out}/curated", *fractions)
    with stages.stage("train", "train the tiny recipe on these and the demo's sounds"):
        manifests = [f"{{manifest: {folder}/curated, splits: [train]}}" for folder in (demo, out)]
        val = f"data.val=[{{manifest: {demo}/curated, splits: [val]}}]"
        settings = ["run.name=run", f"run.folder={out}", f"run.epochs={epochs}"]
        stages.run("wavtext5k-train", "tiny", *settings, f"data.train=[{', '.join(manifests)}]", val)
    with stages.stage("evaluate", "score the held-out real clips"):
        command = ("wavtext5k-evaluate", f"{out}/run", "--manifest", f"{out}/curated", "--split", "test", "--json")
        scores = json.loads(stages.run(*command))
    with stages.stage("index", "index every real clip"):
        stages.run("wavtext5k-search", "index", f"{out}/run", f"{out}/curated", "--out", f"{out}/index")
    crawl = json.loads((out / "raw" / "soundbible" / "crawl_report.json").read_text("utf-8"))
    built = json.loads((out / "curated" / "statistics.json").read_text("utf-8"))
    print(f"asked {crawl['asked']}, stored {crawl['stored']}, failed {crawl['failed']}")
    print(f"records {built['records']}, dropped {built['dropped']}, clips {built['clips']}, hours {built['hours']:.3f}")
    print(f"seconds {stages.seconds}")
    print(f"held out {scores['num_clips']} clips")
    for key, name in METRICS.items():
        cells = [f"{scores[way][key]:.3f} (chance {scores['chance'][way][key]:.3f})" for way in WAYS]
        print(f"{name:<7} text to audio {cells[0]}   audio to text {cells[1]}")
    for query in QUERIES:
        hits = json.loads(stages.run("wavtext5k-search", "query", f"{out}/index", query, "--top", "3", "--json"))
        print(f'"{query}": ' + "; ".join(f"{hit['title']} {hit['score']:+.2f}" for hit in hits))


if __name__ == "__main__":
    typer.run(main)
