"""``python -m demo``: the whole job, offline: a site, a crawl, a manifest, a model, its scores, three answers.

Every stage is the command that a person would type, run in a process of its own and shown before it runs; only the
stand-in sites live in this process. Everything lies under one folder, and every stage keeps what it has finished, so
a second run only looks and finds nothing to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from curation.errors import WavTextError, exit_on_error
from demo.version import Version

QUERIES = ("a low bell struck twice", "heavy rain", "a slow heartbeat")
LAYOUTS = {"soundbible": 2 / 3, "bigsoundbank": 1 / 3}
"""Each stand-in site, and its share of the clips."""

UNHURRIED = ("DOWNLOAD_DELAY=0", "AUTOTHROTTLE_ENABLED=False", "CONCURRENT_REQUESTS_PER_DOMAIN=8")
"""Crawl settings for a site on 127.0.0.1, which nobody else needs. Real sites keep the polite defaults."""

MODULES = {
    "wavtext5k-crawl": "crawler.cli",
    "wavtext5k-curate": "curation.cli",
    "wavtext5k-train": "training",
    "wavtext5k-evaluate": "training.evaluate",
    "wavtext5k-search": "retrieval.cli",
}

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class StageError(WavTextError):
    """A command of the demo ended with an error, which it has told already."""


class Stages:
    """Runs the commands one after another and keeps the time of each stage."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str, title: str) -> Iterator[None]:
        """Announce a stage and time it."""
        print(f"\n[{len(self.seconds) + 1}/{self.total}] {title}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)

    def run(self, *command: str) -> str:
        """Run one of our commands, shown as a person would type it; show and return what it printed."""
        print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
        argv = [sys.executable, "-m", MODULES[command[0]], *command[1:]]
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise StageError(f"the demo stopped: {command[0]} ended with exit code {done.returncode}")
        if "--json" not in command:
            print(done.stdout, end="", file=sys.stderr, flush=True)
        return done.stdout


@app.command(epilog="Example: python -m demo --out runs/demo")
def demo(
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("runs/demo"),
    count: Annotated[int, typer.Option(min=60, help="How many sounds to synthesise.")] = 900,
    seed: Annotated[int, typer.Option(help="Decides the sounds.")] = 0,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings of the recipe tiny, such as run.epochs=2.")
    ] = None,
    version: Version = False,
) -> None:
    """Crawl, curate, train, evaluate and search on synthesised sounds, offline."""
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # threads that wait give a busy core away: see training.cli
    with exit_on_error():
        report = run_demo(out, count=count, seed=seed, overrides=overrides or [])
        print(render_report(report, out))


def run_demo(out: Path, *, count: int, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Run every stage and write ``report.json`` and ``report.png``; return the report.

    Raises:
        WavTextError: If a stage fails, the folder is another demo's, or an override names the run.
    """
    for override in overrides:
        if override.partition("=")[0] in ("run.name", "run.folder"):
            raise WavTextError(f"{override}: the demo's run is {out}/run; choose another --out instead")
    if "${" in str(out):
        raise WavTextError(f"--out {out}: recipes read ${{...}} as a reference; choose another folder")
    stages = Stages(total=7)
    with stages.stage("sounds", f"synthesise {count} sound effects"):
        catalogues = make_sounds(out / "site", count=count, seed=seed)
    with stages.stage("crawl", "crawl two stand-in sites on 127.0.0.1"):
        crawl_sites(stages, catalogues, out)
    with stages.stage("curate", "build the manifest"):
        fractions = ("--val-fraction", "0.08", "--test-fraction", "0.16")
        stages.run("wavtext5k-curate", "build", "--raw", f"{out}/raw", "--out", f"{out}/curated", *fractions)
    with stages.stage("train", "train a small CLAP"):
        manifest = _quoted(out / "curated")
        data = [f"data.{split}=[{{manifest: {manifest}, splits: [{split}]}}]" for split in ("train", "val")]
        stages.run("wavtext5k-train", "tiny", "run.name=run", f"run.folder={out}", *data, *overrides)
    with stages.stage("index", "index every clip"):
        index = ("index", f"{out}/run", f"{out}/curated", "--out", f"{out}/index", "--json")
        info = json.loads(stages.run("wavtext5k-search", *index))
    with stages.stage("evaluate", "score the held-out clips"):
        scores = evaluate(stages, out, key=info["key"])
    with stages.stage("query", "answer three queries"):
        queries = answer(out / "index")
    report = {"made_from": info["key"], **collect(out, scores=scores, queries=queries, seconds=stages.seconds)}
    keep_earlier_cost(report, out / "report.json")
    write_report(report, out)
    return report


def make_sounds(folder: Path, *, count: int, seed: int) -> dict[str, Path]:
    """Write the sounds and one catalogue for each layout, unless they are there; return the catalogues."""
    from crawler.items import open_whole
    from demo.site import write_catalogue
    from demo.sounds import write_sounds

    catalogues = {layout: folder / f"{layout}.jsonl" for layout in LAYOUTS}
    done = folder / "made.json"
    wanted = json.dumps({"count": count, "seed": seed})
    if done.is_file():
        if done.read_text(encoding="utf-8") != wanted:
            raise WavTextError(
                f"{folder} holds another demo's sounds ({done.read_text(encoding='utf-8')}, wanted {wanted}); "
                "choose another --out, or remove the folder"
            )
        print("the sounds are there already", file=sys.stderr)
        return catalogues
    clips = write_sounds(folder / "audio", count=count, seed=seed)
    start = 0
    for layout, share in LAYOUTS.items():
        end = start + round(share * len(clips))
        write_catalogue(catalogues[layout], clips[start:end])
        start = end
    with open_whole(done, "w") as file:
        file.write(wanted)
    return catalogues


def crawl_sites(stages: Stages, catalogues: dict[str, Path], out: Path) -> None:
    """Serve each catalogue on 127.0.0.1 and crawl it with the real spider."""
    from demo.site import serve

    settings = [part for setting in UNHURRIED for part in ("-s", setting)]
    for layout, catalogue in catalogues.items():
        with serve(catalogue, catalogue.parent / "audio", layout=layout) as site:
            stages.run("wavtext5k-crawl", layout, "--base-url", site.base_url, "--raw", f"{out}/raw", *settings)


def evaluate(stages: Stages, out: Path, *, key: str) -> dict[str, Any]:
    """Return the scores on the test split, from the last report where model and manifest are still the same."""
    path = out / "evaluation.json"
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["key"] == key:
            print("the scores of this model on this manifest are known", file=sys.stderr)
            return dict(known["scores"])
    from crawler.items import open_whole

    command = ("wavtext5k-evaluate", f"{out}/run", "--manifest", f"{out}/curated", "--split", "test", "--json")
    scores: dict[str, Any] = json.loads(stages.run(*command))
    with open_whole(path, "w") as file:
        json.dump({"key": key, "scores": scores}, file, indent=1)
    return scores


def answer(folder: Path) -> list[dict[str, Any]]:
    """Return the three best clips for each of QUERIES."""
    from retrieval.index import Index
    from retrieval.search import search_text

    index = Index.open(folder)
    model = index.load_model()
    answers = []
    for text in QUERIES:
        hits = search_text(index, model, text, top=3)
        best = [{"clip_id": hit.clip.clip_id, "title": hit.clip.title, "score": round(hit.score, 4)} for hit in hits]
        answers.append({"text": text, "best": best})
    return answers


def collect(
    out: Path, *, scores: dict[str, Any], queries: list[dict[str, Any]], seconds: dict[str, float]
) -> dict[str, Any]:
    """Return the report: the keys that the contract names, and what the screen shows beside them."""
    crawls = [json.loads((out / "raw" / layout / "crawl_report.json").read_text("utf-8")) for layout in LAYOUTS]
    statistics = json.loads((out / "curated" / "statistics.json").read_text("utf-8"))
    failed: dict[str, int] = {}
    for crawl in crawls:
        for reason, number in crawl["failed"].items():
            failed[reason] = failed.get(reason, 0) + number
    return {
        "records": statistics["records"],
        "dropped": statistics["dropped"],
        "clips": statistics["clips"],
        "hours": statistics["hours"],
        "held_out_clips": scores["num_clips"],
        "text_to_audio": scores["text_to_audio"],
        "audio_to_text": scores["audio_to_text"],
        "chance": scores["chance"],
        "queries": queries,
        "seconds": seconds,
        "asked": sum(crawl["asked"] for crawl in crawls),
        "stored": sum(crawl["stored"] for crawl in crawls),
        "failed": dict(sorted(failed.items())),
        "largest_process_mib": round(_largest_process_mib()),
    }


def keep_earlier_cost(report: dict[str, Any], path: Path) -> None:
    """Keep what the work took when it was done, where this run only found it done."""
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, AttributeError):
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if earlier.get("made_from") == report["made_from"]:
            report |= {key: earlier[key] for key in ("seconds", "largest_process_mib")}


def write_report(report: dict[str, Any], out: Path) -> None:
    """Write ``report.json`` and its figure."""
    from crawler.items import open_whole
    from demo.figure import draw_report

    with open_whole(out / "report.json", "w") as file:
        file.write(json.dumps(report, indent=1) + "\n")
    draw_report(report, out)


def render_report(report: dict[str, Any], out: Path) -> str:
    """Return the closing screen."""
    lines = [
        "",
        f"crawled   {report['stored']:5d} stored of {report['asked']} asked, not stored: {_counts(report['failed'])}",
        f"curated   {report['records']:5d} records, dropped: {_counts(report['dropped'])}",
        f"clips     {report['clips']:5d} clips, {report['hours']:.2f} h",
        "",
        f"held out  {report['held_out_clips']:5d} clips      text to audio         audio to text",
        "                            model   chance        model   chance",
    ]
    for key, name in METRICS.items():
        cells = [f"{report[way][key]:9.1%} {report['chance'][way][key]:8.1%}" for way in WAYS]
        lines.append(f"  {name:<22}{'    '.join(cells)}")
    for query in report["queries"]:
        lines += ["", f'"{query["text"]}"']
        lines += [f"  {hit['score']:+.3f}  {hit['clip_id']:<20} {hit['title']}" for hit in query["best"]]
    stages = ", ".join(f"{name} {value:.0f}" for name, value in report["seconds"].items())
    search = shlex.join([f"{_bin()}wavtext5k-search", "query", f"{out}/index", "a dog barks twice"])
    page = shlex.join([f"{_bin()}wavtext5k-search", "serve", f"{out}/index", "--open"])
    lines += [
        "",
        f"took      {sum(report['seconds'].values()):5.0f} s: {stages}",
        f"          {report['largest_process_mib']:5d} MiB in the largest process",
        f"wrote     {out}/raw/  {out}/curated/  {out}/run/  {out}/index/",
        f"          {out}/report.json  {out}/report.png",
        f"now try   {search}",
        f"or        {page}    (a page in the browser)",
    ]
    return "\n".join(lines)


WAYS = ("text_to_audio", "audio_to_text")
METRICS = {"recall_at_1": "R@1", "recall_at_5": "R@5", "recall_at_10": "R@10", "map_at_10": "mAP@10"}


def _quoted(path: Path) -> str:
    """Return a path as a recipe's YAML takes it: plain where it can be."""
    return str(path) if re.fullmatch(r"[\w./-]+", str(path)) else json.dumps(str(path))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in counts.items() if number) or "none"


def _bin() -> str:
    """Return the folder of this environment's commands, relative where it can be, "" where the shell finds them."""
    folder = Path(sys.executable).parent
    if shutil.which("wavtext5k-search") == str(folder / "wavtext5k-search"):
        return ""
    return f"{folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder}/"


def _largest_process_mib() -> float:
    usages = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return max(usages) / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    app(prog_name="python -m demo")
