"""The command ``wavtext5k-train``: parse, call one function, print; and where its other forms begin.

Heavy imports are inside the commands, so that ``--help`` is instant. Under torchrun every process runs this; the first
prints what a run came to, the others only what they alone know.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from curation.errors import WavTextError, exit_on_error
from training.recipe import UsageError, load_recipe, to_yaml

if TYPE_CHECKING:
    from training.engine import TrainResult

FORMS = {
    "convert": "training.convert_cli:convert_app",
    "plan": "training.plan_cli:plan_app",
    "report": "training.report_cli:report_app",
}
"""Names that are no recipes: the command's other forms."""

train_app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


def train_main() -> None:
    """Run wavtext5k-train; ends the process with 0 (done), 1 (the data or the run failed) or 2 (wrong usage)."""
    _share_cores()
    if sys.argv[1:2] and sys.argv[1] in FORMS:
        form = sys.argv.pop(1)
        module, _, name = FORMS[form].partition(":")
        getattr(importlib.import_module(module), name)(prog_name=f"wavtext5k-train {form}")
    train_app(prog_name="wavtext5k-train")


def evaluate_main() -> None:
    """Run wavtext5k-evaluate; ends the process as train_main does."""
    _share_cores()
    from training.evaluate_cli import evaluate_app

    evaluate_app(prog_name="wavtext5k-evaluate")


def _share_cores() -> None:
    """Let OpenMP's threads soon sleep when they wait for each other; must come before PyTorch is imported.

    By default they spin for milliseconds, and where another program has the core that one of them needs, the others
    burn theirs: on two busy cores a step of the tiny recipe took 4 s so, and half a second with this; on quiet ones it
    takes the same. Said to libgomp, which PyTorch's Linux wheels bring; others do not read it.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        print(f"wavtext5k {version('wavtext5k')}")
        raise typer.Exit


RECIPES = (
    "A bundled recipe (tiny, export, paper-a to paper-d, paper-d-description, paper-b-sounddescs-macs, bert-baseline), "
    "or a YAML file."
)
Version = Annotated[
    bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@train_app.command(epilog="Example: wavtext5k-train tiny run.name=first run.epochs=2")
def train_command(
    recipe: Annotated[str, typer.Argument(help=RECIPES)],
    settings: Annotated[list[str] | None, typer.Argument(metavar="SECTION.KEY=VALUE", help="Overrides.")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print every setting and stop.")] = False,
    as_json: AsJson = False,
    version: Version = False,
) -> None:
    """Train a CLAP model by a recipe; the same run.name goes on where it stopped.

    Other forms, each with its own --help: plan RECIPE says what a recipe will cost before it runs, report RUN... draws
    runs and compares them, convert makes published checkpoints into weights to start from. Several GPUs:
    torchrun --nproc-per-node 8 -m training RECIPE.
    """
    with exit_on_error(), named_imports(), _of_one_process():
        config = load_recipe(recipe, settings or ())
        if print_config:
            print(to_yaml(config), end="")
            return
        from training.engine import train

        result = train(config)
        if result.is_first:
            print(json.dumps(_result(result)) if as_json else _summary(result))


def _result(result: TrainResult) -> dict[str, object]:
    return {
        "folder": str(result.folder),
        "steps": result.steps,
        "epochs": result.epochs,
        "seconds": round(result.seconds, 2),
        "was_finished": result.was_finished,
        "best": result.best,
    }


def _summary(result: TrainResult) -> str:
    done = "was finished before" if result.was_finished else f"trained in {result.seconds:.0f} s"
    lines = [f"{done}: {result.epochs} epochs, {result.steps} steps    {result.folder}"]
    if result.best:
        t2a, a2t = result.best["text_to_audio"], result.best["audio_to_text"]
        lines.append(
            f"best on val: epoch {result.best['epoch']}, mAP@10 {t2a['map_at_10']:.3f} text to audio, "
            f"{a2t['map_at_10']:.3f} audio to text    {result.folder / 'model'}"
        )
    else:
        lines.append(f"model of the last epoch    {result.folder / 'model'}")
    return "\n".join(lines)


@contextmanager
def _of_one_process() -> Iterator[None]:
    """Say an error once: most of them all processes meet alike, and the first says it."""
    rank = int(os.environ.get("RANK", "0")) if "WORLD_SIZE" in os.environ else 0
    try:
        yield
    except KeyboardInterrupt as error:
        if rank == 0:
            raise
        raise typer.Exit(130) from error
    except WavTextError as error:
        if rank == 0:
            raise
        from training.runlog import ProcessError

        if isinstance(error, ProcessError):
            sys.stderr.write(f"error: process {rank}: {error}\n")  # in one piece: the others write too
        raise typer.Exit(1) from error


@contextmanager
def named_imports() -> Iterator[None]:
    """Say how to install what is missing; end with exit code 2 after wrong usage."""
    try:
        yield
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("torch", "timm", "transformers", "omegaconf", "safetensors"):
            print(
                f"error: training needs the train extra ({error.name}): pip install 'wavtext5k[train]'", file=sys.stderr
            )
            raise typer.Exit(1) from error
        raise
