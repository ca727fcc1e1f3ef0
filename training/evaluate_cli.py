"""The command ``wavtext5k-evaluate``: parse, call one function, print.

Heavy imports are inside the command, so that ``--help`` is instant.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curation.errors import exit_on_error
from training.cli import AsJson, Version, named_imports
from training.recipe import UsageError

if TYPE_CHECKING:
    from training.evaluate_job import Request


class TieRule(StrEnum):
    """training.metrics.Ties."""

    INDEX = "index"
    OPTIMISTIC = "optimistic"
    PESSIMISTIC = "pessimistic"


class Crop(StrEnum):
    """How a clip longer than an encoder's window is read."""

    RULE = "rule"
    RANDOM = "random"


PROMPT = "This is a sound of {label}."
"""training.zeroshot.PROMPT, said again because importing that takes seconds; a test compares them."""

evaluate_app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


@evaluate_app.command(epilog="Example: wavtext5k-evaluate runs/tiny --manifest data/curated --split test")
def evaluate_command(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run folder, or a model folder.")] = None,
    manifest: Annotated[
        list[Path] | None, typer.Option(help="Folder of a manifest to evaluate on; may be repeated.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which clips.  [default: test, or with --ids every one]")] = None,
    ids: Annotated[
        Path | None,
        typer.Option(
            help="File of the clips to take, one a line: a clip_id, or origin:origin_id (youtube:1vSURiEVYl8)."
        ),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out, and count, ids that are in no manifest.")
    ] = False,
    template: Annotated[
        str | None, typer.Option(help="Caption template of clips without human captions; default: the run's first.")
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Score vectors of any model instead of a run: npz with text (K, D), audio (N, D), owner (K,), and "
            "clip_ids (N,) if you like.",
        ),
    ] = None,
    no_normalise: Annotated[
        bool, typer.Option("--no-normalise", help="Score vectors by dot product as they are, not by cosine.")
    ] = False,
    save_embeddings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the run's embeddings, as --embeddings reads them.")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Another run, or file of embeddings, to compare with on the same clips."),
    ] = None,
    crop: Annotated[
        Crop,
        typer.Option(
            help="rule: long clips by windows that cover them; random: one random piece, as its authors' code."
        ),
    ] = Crop.RULE,
    crop_seed: Annotated[int | None, typer.Option(min=0, help="Which random pieces.  [default: 0]")] = None,
    ties: Annotated[
        TieRule, typer.Option(help="Among equal scores: the lower index first, right ones first, right ones last.")
    ] = TieRule.INDEX,
    resamples: Annotated[int, typer.Option(min=100, help="Lists of clips drawn for the 95 % intervals.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of those draws.")] = 0,
    no_leakage: Annotated[
        bool, typer.Option("--no-leakage", help="Do not compare the clips with the training manifests.")
    ] = False,
    train_manifest: Annotated[
        list[Path] | None,
        typer.Option(
            help="Where a manifest of the training lies now, for that comparison; of one that the model does not know, "
            "all splits. May be repeated."
        ),
    ] = None,
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help="Tell the clips' classes (column labels) by their names instead.")
    ] = False,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help=f"Text of a class; several are averaged.  [default: {PROMPT}]", show_default=False),
    ] = None,
    fold: Annotated[
        list[int] | None, typer.Option(help="Only clips of this cross-validation fold; may be repeated.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows of sound encoded at once.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a table in the layout of the paper's Table 3, with its rows.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option(help="Whose rows of the paper: audiocaps or clotho.  [default: by the clips' ids]")
    ] = None,
    as_json: AsJson = False,
    version: Version = False,
) -> None:
    """Score a trained model, or anyone's embeddings: the paper's metrics both ways, with intervals and chance beside.

    Clips that are also in the training data are counted with every score of a run.

    --zero-shot measures instead how well clips are told apart by the names of their classes.
    """
    with exit_on_error(), named_imports():
        if crop_seed is not None and crop is not Crop.RANDOM:
            raise UsageError("--crop-seed is for --crop random")
        if split == "":
            raise UsageError("--split is empty; name one, such as test")
        _check(
            {"RUN": run, "--embeddings": embeddings, "--zero-shot": zero_shot},
            {
                "--manifest": manifest,
                "--split": split,
                "--ids": ids,
                "--allow-missing": allow_missing,
                "--template": template,
                "--no-normalise": no_normalise,
                "--save-embeddings": save_embeddings,
                "--compare": compare,
                "--crop random": crop is Crop.RANDOM,
                "--prompt": prompt,
                "--fold": fold,
                "--markdown": markdown,
                "--dataset": dataset,
                "--json": as_json,
                "--no-leakage": no_leakage,
                "--train-manifest": train_manifest,
                "--ties": ties is not TieRule.INDEX,
                "--device": device != "auto",
            },
        )
        from training.evaluate_job import Request

        request = Request(
            run=run,
            embeddings=embeddings,
            manifests=tuple(dict.fromkeys(manifest or ())),
            split=split,
            ids=ids,
            allow_missing=allow_missing,
            template=template,
            batch_size=batch_size,
            device=device,
            crop_seed=(crop_seed or 0) if crop is Crop.RANDOM else None,
            normalise=not no_normalise,
            ties=ties.value,
            resamples=resamples,
            seed=seed,
            other=compare,
            save=save_embeddings,
            check_leaks=not no_leakage,
            train_manifests=tuple(train_manifest or ()),
            prompts=tuple(prompt or [PROMPT]) if zero_shot else (),
            folds=tuple(fold or ()),
        )
        print(_printed(request, zero_shot=zero_shot, as_json=as_json, markdown=markdown, dataset=dataset))


_NOT_WITH = {
    "--embeddings": ("--template", "--save-embeddings", "--crop random", "--device", "--zero-shot", "RUN"),
    "--zero-shot": (
        *("--template", "--save-embeddings", "--compare", "--markdown", "--dataset", "--ties", "--no-normalise"),
    ),
    "--json": ("--markdown",),
    "--no-leakage": ("--train-manifest",),
}
"""By option: what has no meaning beside it."""

_ONLY_WITH = {
    "--prompt": ("--zero-shot",),
    "--fold": ("--zero-shot",),
    "--dataset": ("--markdown",),
    "--allow-missing": ("--ids",),
    "--no-normalise": ("--embeddings", "--compare"),
}
"""By option: what gives it a meaning, any of these."""


def _check(subjects: dict[str, object], options: dict[str, object]) -> None:
    """Refuse options that would be ignored (UsageError), before anything is read."""
    given = {name for name, value in (subjects | options).items() if value}
    for option, others in _NOT_WITH.items():
        if option in given and (beside := [other for other in others if other in given]):
            raise UsageError(f"{option} and {beside[0]} cannot be given together")
    for option, others in _ONLY_WITH.items():
        if option in given and not given & set(others):
            raise UsageError(f"{option} is for {' or '.join(others)}")
    if not given & {"RUN", "--embeddings"}:
        raise UsageError("name the RUN to evaluate, or a file of vectors with --embeddings")
    if "RUN" in given and "--manifest" not in given:
        raise UsageError("name what to evaluate on with --manifest FOLDER")
    if "--manifest" not in given and (needy := given & {"--split", "--train-manifest"}):
        raise UsageError(f"{min(needy)} needs --manifest: vectors alone do not say whose they are")


def _printed(request: Request, *, zero_shot: bool, as_json: bool, markdown: bool, dataset: str | None) -> str:
    from training import evaluate_report as report
    from training.evaluate_job import evaluate_retrieval, evaluate_zero_shot

    if zero_shot:
        classified = evaluate_zero_shot(request)
        return json.dumps(report.zero_shot_dict(classified)) if as_json else report.zero_shot_text(classified)
    result = evaluate_retrieval(request)
    if markdown:
        return report.as_markdown(result, dataset=dataset).rstrip()
    return json.dumps(report.as_dict(result)) if as_json else report.as_text(result)


if __name__ == "__main__":
    from training.cli import evaluate_main

    evaluate_main()
