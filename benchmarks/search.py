"""How fast search is: exact top 10 of a million vectors, opening such an index, indexing, the page.

    PYTHONPATH=. python benchmarks/search.py exact              # 9 GB of memory; faiss-cpu beside, if installed
    PYTHONPATH=. python benchmarks/search.py open               # 6 GB in the temporary folder
    PYTHONPATH=. python benchmarks/search.py index              # paper-d's audio towers, random weights
    PYTHONPATH=. python benchmarks/search.py page runs/demo/index

``exact``: one query's ten best of N x 1,024 unit vectors, float32 and bfloat16, beside torch.sum over the same matrix
with the same threads, which is about the least that reading it once can take; and 32 queries beside faiss's flat index
of the same vectors. They are normal vectors, spread evenly; with ``--clusters`` they lie in tight clusters, so that
many rows come near the best. Search reads codes of 8 bits that an index holds beside the vectors: less than the sum.
``open``: Index.open of such an index, in a process of its own each time, the files in the page cache.
``index``: build_index from FLAC to files, beside the same model on the same windows, decoded before the clock starts;
both load the model. ``page``: ``serve`` in a process of its own; the first answer to a text, then others, each of
another text, over one connection. What is compared runs in turn, the order turned round every other repeat, and a ratio
is of one repeat. Nothing is judged by an exit code.
"""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import _path  # noqa: F401  # curation.py beside this file has the name of a package
import numpy as np
import torch
import typer
from _machine import cores, cpu_model, spread, versions

from retrieval.building import build_index
from retrieval.codes import encode, is_fast
from retrieval.exact import top_rows
from tests.retrieval.conftest import write_clips, write_vectors
from training.models.clap import Clap, windows

DIM = 1_024
BATCH = 32
BARS = {"one": 1.3, "batch": 1.0, "index": 0.85}
OPENED = """
import json, sys, time
from retrieval.index import Index
from retrieval.search import Filters, search_vector
times = [time.perf_counter()]
index = Index.open(sys.argv[1])
times.append(time.perf_counter())
for row, filters in enumerate((Filters(), Filters(), Filters(tags=("bell",)), Filters(tags=("bell",)))):
    search_vector(index, index.vectors[row].float().numpy(), filters=filters)
    times.append(time.perf_counter())
print(json.dumps([after - before for before, after in zip(times, times[1:])]))
"""
"""What a process of its own does with an index, and how long each part takes."""
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Repeats = Annotated[int, typer.Option(min=1)]


@app.command()
def exact(
    rows: Annotated[int, typer.Option(min=1000)] = 1_000_000,
    repeats: Repeats = 15,
    clusters: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Measure exact search beside torch.sum and beside faiss's flat index."""
    _head(f"{rows:,} x {DIM:,}, {'evenly spread' if not clusters else f'{clusters:,} clusters'}")
    vectors, queries = _vectors(rows, clusters), _vectors(BATCH, 0).numpy()
    print(f"coded scan: {is_fast()}, torch threads: {torch.get_num_threads()}\n")
    for dtype in (torch.float32, torch.bfloat16):
        kept = vectors.to(dtype)
        codes = encode(kept)
        found = _in_turn(
            {
                "sum": lambda kept=kept: kept.sum(),
                "one": lambda kept=kept, codes=codes: top_rows(kept, queries[:1], top=10, codes=codes),
            },
            repeats,
        )
        name = str(dtype).removeprefix("torch.")
        _line(f"{name}: torch.sum, ms", [1000 * each for each in found["sum"]])
        _line(f"{name}: top 10, one query, ms", [1000 * each for each in found["one"]])
        ratios = [one / whole for one, whole in zip(found["one"], found["sum"], strict=True)]
        _line(f"{name}: top 10 / sum", ratios, f"bar {BARS['one']} at most")
        if dtype == torch.float32:
            floats = _in_turn({"one": lambda kept=kept: top_rows(kept, queries[:1], top=10)}, 3)
            _line(f"{name}: without codes (no VNNI), ms", [1000 * each for each in floats["one"]])
            _beside_faiss(kept, codes, queries, max(repeats // 3, 3))


def _beside_faiss(vectors: torch.Tensor, codes: object, queries: np.ndarray, repeats: int) -> None:
    try:
        import faiss
    except ImportError:
        print("faiss-cpu is not installed: nothing beside the batch")
        return
    faiss.omp_set_num_threads(torch.get_num_threads())
    flat = faiss.IndexFlatIP(DIM)
    flat.add(vectors.numpy())
    found = _in_turn(
        {
            "ours": lambda: top_rows(vectors, queries, top=10, codes=codes),  # type: ignore[arg-type]
            "faiss": lambda: flat.search(queries, 10),
        },
        repeats,
    )
    _line(f"float32: top 10, {BATCH} queries, ms", [1000 * each for each in found["ours"]])
    _line(f"float32: faiss Flat, {BATCH} queries, ms", [1000 * each for each in found["faiss"]])
    ratios = [theirs / ours for theirs, ours in zip(found["faiss"], found["ours"], strict=True)]
    _line("float32: times as fast as faiss", ratios, f"bar {BARS['batch']} at least")
    ours = [set(rows.tolist()) for rows, _ in top_rows(vectors, queries, top=10, codes=codes)]  # type: ignore[arg-type]
    theirs = [set(rows.tolist()) for rows in flat.search(queries, 10)[1]]
    print(f"queries for which both name the same ten: {sum(a == b for a, b in zip(ours, theirs, strict=True))}/{BATCH}")


@app.command("open")
def open_index(rows: Annotated[int, typer.Option(min=1000)] = 1_000_000, repeats: Repeats = 9) -> None:
    """Measure how long opening a large index takes, and the first answer after it."""
    _head(f"opening an index of {rows:,} x {DIM:,}, float32")
    with tempfile.TemporaryDirectory() as folder:
        index = write_vectors(Path(folder) / "index", _vectors(rows, 0), _vectors(1000, 0))
        found = []
        for _ in range(repeats):
            done = subprocess.run(
                [sys.executable, "-c", OPENED, str(index)], check=True, capture_output=True, text=True
            )
            found.append(json.loads(done.stdout))
    names = ("open", "first search", "second search", "first with a tag", "second with a tag")
    for name, times in zip(names, zip(*found, strict=True), strict=True):
        _line(f"{name}, ms", [1000 * each for each in times], "cap 1,000" if name == "open" else "")


@app.command()
def index(
    clips: Annotated[int, typer.Option(min=1)] = 48,
    repeats: Repeats = 3,
    tiny: Annotated[bool, typer.Option(help="A model for trying this program.")] = False,
) -> None:
    """Measure indexing beside the bare audio tower on the same clips."""
    from training.models.build import new_clap
    from training.recipe import load_recipe

    _head(f"indexing {clips} clips of 1 s, {'tiny' if tiny else 'the audio towers of paper-d'}, random weights, CPU")
    small_text = ["model.text.encoder=scratch", "model.text.vocab_size=300", "model.text.hidden_size=64"]
    paper = ["init.cnn14=none", "init.htsat=none", *small_text, "model.text.num_layers=1", "model.text.num_heads=4"]
    config = load_recipe("tiny", ["model.text.vocab_size=300"]) if tiny else load_recipe("paper-d", paper)
    with tempfile.TemporaryDirectory() as folder:
        run, manifest = Path(folder) / "run", write_clips(Path(folder) / "clips", count=clips)
        model = new_clap(config.model, config.features, captions=["a tone", "a bell"])
        model.save_pretrained(run / "model")
        print(f"{sum(each.numel() for each in model.parameters()):,} parameters\n")
        cut = _cut(model, sorted((manifest / "audio").iterdir()))
        del model
        numbers = iter(range(10**6))
        found = _in_turn(
            {
                "bare": lambda: _bare(run, cut),
                "build": lambda: build_index(run, manifest, Path(folder) / f"index-{next(numbers)}"),
            },
            repeats,
        )
    _line("bare tower, clips a second", [clips / each for each in found["bare"]])
    _line("build_index, clips a second", [clips / each for each in found["build"]])
    ratios = [bare / build for bare, build in zip(found["bare"], found["build"], strict=True)]
    _line("throughput beside the bare tower", ratios, f"bar {BARS['index']} at least")


def _cut(model: Clap, files: list[Path]) -> dict[str, torch.Tensor]:
    from curation.audio import load_waveform

    return {
        name: torch.from_numpy(
            np.stack(
                [
                    window
                    for file in files
                    for window in windows(
                        load_waveform(file, sample_rate=model.audio.front_end(name).sample_rate), size
                    )
                ]
            )
        )
        for name, size in model.audio.clip_samples.items()
    }


@torch.inference_mode()
def _bare(run: Path, cut: dict[str, torch.Tensor]) -> None:
    model = Clap.from_pretrained(run)
    for start in range(0, len(next(iter(cut.values()))), BATCH):
        model.audio_projection(model.audio({name: each[start : start + BATCH] for name, each in cut.items()}))


@app.command()
def page(
    folder: Annotated[Path, typer.Argument(help="An index folder whose model is there.")], repeats: Repeats = 30
) -> None:
    """Measure how long the page takes to answer a text, over real HTTP."""
    _head(f"the page of {folder}")
    began = time.perf_counter()
    command = [sys.executable, "-m", "retrieval.cli", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = next(word for line in server.stdout for word in line.split() if word.startswith("http://"))
            print(f"ready after {time.perf_counter() - began:.1f} s\n")
            connection = http.client.HTTPConnection(address.removeprefix("http://").strip("/"))
            times = [_asked(connection, f"/?q={quote(f'a low bell struck {n} times')}") for n in range(repeats)]
            again = [_asked(connection, f"/?q={quote(f'a low bell struck {n} times')}") for n in range(repeats)]
        finally:
            server.terminate()
    print(f"the very first answer      {1000 * times[0]:.0f} ms   cap 300")
    _line("a new text, ms", [1000 * each for each in times[1:]], "cap 300")
    _line("the same texts again, ms", [1000 * each for each in again])


def _asked(connection: http.client.HTTPConnection, address: str) -> float:
    began = time.perf_counter()
    connection.request("GET", address)
    answer = connection.getresponse()
    body = answer.read()
    took = time.perf_counter() - began
    assert answer.status == 200, answer.status
    assert b"<audio" in body
    return took


def _vectors(rows: int, clusters: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows)
    out = torch.empty(rows, DIM)
    centres = torch.randn(max(clusters, 1), DIM, generator=generator)
    for start in range(0, rows, 2**15):
        part = out[start : start + 2**15]
        part.normal_(generator=generator)
        if clusters:
            part.mul_(0.3).add_(centres[torch.randint(clusters, (len(part),), generator=generator)])
        torch.nn.functional.normalize(part, dim=1, out=part)
    return out


def _in_turn(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each run in each repeat, after one that does not count."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name in list(runs)[:: -1 if repeat % 2 else 1]:
            began = time.perf_counter()
            runs[name]()
            found[name].append(time.perf_counter() - began)
    return {name: times[1:] for name, times in found.items()}


def _head(what: str) -> None:
    libraries = versions(("torch", "faiss-cpu", "pyarrow", "starlette", "uvicorn"))
    print(f"{what}\n{cpu_model()}, {cores()} cores; " + ", ".join(f"{name} {each}" for name, each in libraries.items()))


def _line(name: str, values: list[float], note: str = "") -> None:
    digits = 1 if statistics.median(values) >= 20 else 3
    print(f"{name:<40} {spread(values, digits):<32} of {len(values)}   {note}".rstrip())


if __name__ == "__main__":
    app()
