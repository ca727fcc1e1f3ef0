"""Shows that training learns: the demo's sounds, real ones told by class and searched by text, caption templates.

    WAVTEXT5K_DATA=FOLDER python benchmarks/learning.py --table benchmarks/learning.md

Reads the sets ``esc10``, ``tuxpaint-gcompris``, ``effects`` and ``soundbible`` in FOLDER (no part of this repository),
imports them with the project's own command, trains from scratch and writes one Markdown document with intervals and
chance levels. What was finished is found again: after Ctrl-C the same command goes on. It took 37 minutes on two busy
cores; ``--quick`` is a try, of which the scores mean nothing. On a GPU (``--device cuda``) the audio towers have the
paper's width. It measures and does not judge: it exits 0 whatever the scores are.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import _path  # noqa: F401  # curation.py beside this file has the name of a package
import typer
from _learning_data import import_sets
from _learning_runs import Plan
from _machine import cores, cpu_model, versions

from crawler.items import open_whole
from curation.errors import ConfigError, exit_on_error
from demo.__main__ import Stages, run_demo


def main(
    data: Annotated[
        Path | None, typer.Option(envvar="WAVTEXT5K_DATA", help="The folder that holds the real sounds.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where manifests and runs go.")] = Path("runs/learning"),
    table: Annotated[Path | None, typer.Option(help="Write the document there too.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="Of PyTorch; 0 leaves its own choice.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="One fold, one seed, few epochs, no demo.")] = False,
) -> None:
    """Train from scratch on synthesised and on real sounds, and write scores beside chance."""
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before PyTorch is imported: see training.cli
    with exit_on_error():
        if data is None:
            raise ConfigError("name the folder of the real sounds: --data FOLDER, or WAVTEXT5K_DATA=FOLDER")
        document = measure(data, out, device=device, threads=threads, is_quick=quick)
        print(document, end="", flush=True)
        if table is not None:
            with open_whole(table, "w") as file:
                file.write(document)


def measure(data: Path, out: Path, *, device: str, threads: int, is_quick: bool) -> str:
    """Import, train and score all there is; return the document."""
    from _learning_scores import score_classes, score_demo, score_sounds
    from _learning_table import render

    from training.device import choose_device

    started = time.monotonic()
    is_paper_width = choose_device(device, option="--device ").type == "cuda"
    plan = Plan(
        folder=out / (("quick-" if is_quick else "") + ("paper-width" if is_paper_width else "reduced-width")),
        is_quick=is_quick,
        is_paper_width=is_paper_width,
        device=device,
        threads=threads,
        folds=(3,) if is_quick else (1, 2, 3),
        seeds=(0,) if is_quick else (0, 1, 2),
        class_epochs=4 if is_quick else 50,
        sound_epochs=2 if is_quick else 20,
    )
    was_begun = plan.folder.is_dir()
    stages = Stages(total=1)
    with stages.stage("import", "import the real sounds"):
        sets = import_sets(data, out, folds=plan.folds, stages=stages)
    classes = score_classes(plan, sets, say)
    sounds = score_sounds(plan, sets, say)
    demo = None
    if not is_quick:
        report = run_demo(out / "demo", count=900, seed=0, overrides=[])
        demo = (score_demo(out / "demo"), report)
    took = f"{(time.monotonic() - started) / 60:.0f} minutes" + (", the last of several calls," if was_begun else "")
    return render(plan, machine=machine(plan), took=took, demo=demo, classes=classes, sounds=sounds)


def machine(plan: Plan) -> str:
    """Return what the runs ran on."""
    import torch

    from training.device import choose_device

    where = choose_device(plan.device)
    gpu = f"{torch.cuda.get_device_name(where)}, " if where.type == "cuda" else ""
    libraries = ", ".join(f"{name} {number}" for name, number in versions(("torch",)).items())
    return f"{gpu}{cpu_model()}, {cores()} cores, {plan.threads or torch.get_num_threads()} threads; {libraries}"


def say(text: str) -> None:
    print(f"learning  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
