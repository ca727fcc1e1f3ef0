"""The form ``wavtext5k-train convert``: published checkpoints to ours, and models of ours to transformers."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from curation.errors import exit_on_error
from training.cli import AsJson, Version


class Kind(StrEnum):
    """training.models.convert.ALL_KINDS, said again because importing that takes seconds; a test compares them."""

    PANNS_CNN14 = "panns-cnn14"
    HTSAT_AUDIOSET = "htsat-audioset"
    MSCLAP_2022 = "msclap-2022"
    MSCLAP_2023 = "msclap-2023"
    LAION_630K = "laion-630k"
    TRANSFORMERS_CLAP = "transformers-clap"
    TRANSFORMERS_TEXT = "transformers-text"


class To(StrEnum):
    """What is written."""

    OURS = "ours"
    TRANSFORMERS = "transformers"


convert_app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


@convert_app.command(name="convert", epilog="Example: wavtext5k-train convert Cnn14_mAP=0.431.pth --out weights/cnn14")
def convert_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="A published checkpoint or transformers folder; a run for --to transformers."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    kind: Annotated[Kind | None, typer.Option(help="What SOURCE is; default: found by its tensors.")] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of roberta-base's tokenizer: makes a whole model of a LAION file.")
    ] = None,
    to: Annotated[To, typer.Option(help="transformers: write a model of ours as a ClapModel folder.")] = To.OURS,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Let the file run code of its own; for files you trust only.")
    ] = False,
    as_json: AsJson = False,
    version: Version = False,
) -> None:
    """Convert a published checkpoint to weights that training starts from; accounts for every tensor of it."""
    if to is To.TRANSFORMERS and (kind or tokenizer or allow_pickle):
        raise typer.BadParameter("--to transformers takes no --kind, --tokenizer or --allow-pickle")
    from training.cli import named_imports  # which dispatches to here

    with exit_on_error(), named_imports():
        from training.models.convert import convert, convert_to_transformers

        if to is To.TRANSFORMERS:
            report = convert_to_transformers(source, out)
        else:
            report = convert(source, out, kind=kind and kind.value, tokenizer=tokenizer, allow_pickle=allow_pickle)
        print(json.dumps(report.as_dict()) if as_json else report.text())
