"""``wavtext5k-search export``: parse, call one function, print. Heavy imports are inside, so that --help is instant."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from curation.errors import WavTextError

_EXTRA = ("torch", "timm", "transformers", "tokenizers", "torchvision", "omegaconf", "safetensors")
"""Of the train extra: what the model needs."""


class To(StrEnum):
    """What is written."""

    ONNX = "onnx"
    TRANSFORMERS = "transformers"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a model folder.", show_default=False)],
    to: Annotated[
        To,
        typer.Option(
            help="onnx: audio.onnx and text.onnx, of any model; transformers: a ClapModel, of a model of HTSAT alone, "
            "which sentence-transformers opens too.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder to make.", show_default=False)],
    scores: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For the model card: what wavtext5k-evaluate RUN --json printed."),
    ] = None,
    license_id: Annotated[
        str | None,
        typer.Option("--license", metavar="NAME", help="For the model card: of the weights, such as cc-by-4.0."),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Also into a folder that holds something else, whose files of other names stay."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Write a model in a form that other programs open, compared with the model itself, with a model card."""
    try:
        from retrieval.exports.job import Request, export_model
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise WavTextError(
            f'exports need the train extra ({error.name} is missing): pip install -e ".[train]"'
        ) from error

    request = Request(run=run, to=to.value, out=out, scores=scores, license_id=license_id, overwrite=overwrite)
    made = export_model(request, say=lambda what: print(what, file=sys.stderr))
    if as_json:
        print(json.dumps(made))
        return
    size_mb = sum(made["bytes"].values()) / 1e6
    print(f"exported   {len(made['bytes'])} files, {size_mb:,.1f} MB    {out}")
    checked = made["checked"]
    print(f"compared   largest difference {checked['audio']:.1e} for sounds, {checked['text']:.1e} for texts")
    for note in made["notes"]:
        print(f"differs    {note}")
    if scores is None:
        print("card       without scores; --scores FILE adds them, from wavtext5k-evaluate --json")
