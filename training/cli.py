"""The commands ``wavtext5k-train`` and ``wavtext5k-evaluate``: parse, call one function, print.

Heavy imports are inside the commands, so that ``--help`` is instant.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curation.errors import ConfigError, exit_on_error
from training.recipe import UsageError, load_recipe, to_yaml

if TYPE_CHECKING:
    from training.engine import TrainResult

OTHER_FORMS = ("plan", "report")
"""Names that are no recipes: later forms of the command."""

train_app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
evaluate_app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


def train_main() -> None:
    """Run wavtext5k-train; ends the process with 0 (done), 1 (the data or the run failed) or 2 (wrong usage)."""
    _share_cores()
    if sys.argv[1:2] == ["convert"]:
        from training.convert_cli import convert_app

        sys.argv.pop(1)
        convert_app(prog_name="wavtext5k-train convert")
    train_app(prog_name="wavtext5k-train")


def evaluate_main() -> None:
    """Run wavtext5k-evaluate; ends the process as train_main does."""
    _share_cores()
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


Version = Annotated[
    bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@train_app.command(epilog="Example: wavtext5k-train tiny run.name=first run.epochs=2")
def train_command(
    recipe: Annotated[str, typer.Argument(help="A bundled recipe (export, paper-d, tiny), or a YAML file.")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="SECTION.KEY=VALUE", help="Overrides.")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print every setting and stop.")] = False,
    as_json: AsJson = False,
    version: Version = False,
) -> None:
    """Train a CLAP model by a recipe; the same run.name goes on where it stopped.

    wavtext5k-train convert makes published checkpoints into weights to start from: see its --help.
    """
    with exit_on_error(), named_imports():
        if recipe in OTHER_FORMS:
            raise UsageError(f"wavtext5k-train {recipe} is not there yet; name a recipe")
        config = load_recipe(recipe, settings or ())
        if print_config:
            print(to_yaml(config), end="")
            return
        from training.engine import train

        result = train(config)
        print(json.dumps(_result(result)) if as_json else _summary(result))


@evaluate_app.command(epilog="Example: wavtext5k-evaluate runs/tiny --manifest data/curated --split test")
def evaluate_command(
    run: Annotated[Path, typer.Argument(help="A run folder, or a model folder.")],
    manifest: Annotated[Path, typer.Option(help="Folder of the manifest to evaluate on.")],
    split: Annotated[str, typer.Option(help="Which clips.")] = "test",
    ids: Annotated[
        Path | None, typer.Option(help="File of clip_ids, one a line, to evaluate on instead of a split.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="Caption template of clips without human captions; default: the run's first.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows of sound encoded at once.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: AsJson = False,
    version: Version = False,
) -> None:
    """Score a trained model on held-out clips: the paper's metrics, both directions, with the chance level beside."""
    with exit_on_error(), named_imports():
        from training.evaluate import evaluate_run

        names = None if ids is None else _read_ids(ids)
        evaluation = evaluate_run(
            run, manifest, split=split, ids=names, template=template, batch_size=batch_size, device=device
        )
        if as_json:
            print(json.dumps(evaluation.as_dict()))
            return
        what = f"split {split}" if ids is None else f"ids of {ids}"
        print(
            f"{manifest}, {what}: {evaluation.num_clips} clips, {evaluation.num_captions} captions, "
            f"list sha256 {evaluation.list_sha256[:12]}"
        )
        print(evaluation.table())


def _read_ids(path: Path) -> list[str]:
    """Return the ids in a file, one a line; empty lines and lines that begin with # are skipped."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise ConfigError(f"{path}: the list of ids is empty; write one clip_id a line")
    return names


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
