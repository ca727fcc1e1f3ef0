"""The command ``wavtext5k-curate import``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from curation.commands import options as shared
from curation.datasets import READERS, read_collection, reader_of
from curation.errors import ConfigError, exit_on_error
from curation.storage import place

EPILOG = "Example: wavtext5k-curate import clotho downloads/clotho --out data/clotho"


@exit_on_error()
def import_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"Of the data set: {', '.join(READERS)}.")],
    folder: Annotated[
        Path | None,
        typer.Argument(
            parser=place, metavar="FOLDER", help="The data set as its publishers lay it out, or one caption file of it."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=place, metavar="FOLDER", help="Folder of the manifest, or s3://...; brought up to date if it is one."
        ),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(parser=place, metavar="FOLDER", help="Where the sounds lie, if not where the layout says."),
    ] = None,
    layout: Annotated[bool, typer.Option("--layout", help="Show what NAME's folder should hold, and exit.")] = False,
    require: shared.Require = "",
    exclude_license: shared.ExcludeLicense = "",
    opt_out: shared.OptOut = None,
    min_duration: shared.MinDuration = shared.LIMITS.min_duration_s,
    max_duration: shared.MaxDuration = shared.LIMITS.max_duration_s,
    max_bytes: shared.MaxBytes = shared.LIMITS.max_bytes,
    silent_peak: shared.SilentPeak = shared.LIMITS.silent_peak_dbfs,
    bits: shared.Bits = 16,
    val_fraction: shared.ValFraction = 0.1,
    test_fraction: shared.TestFraction = 0.1,
    workers: shared.Workers = None,
    scheduler: shared.Scheduler = "",
    min_kept: shared.MinKept = 1,
    overwrite: shared.Overwrite = False,
    as_json: shared.AsJson = False,
) -> None:
    """Turn a data set already on disk, or your own sounds, into a manifest; missing audio is counted and named."""
    try:
        reader = reader_of(name)
        if layout:
            print(reader.LAYOUT.rstrip())
            return
        if folder is None or out is None:
            missing = "argument FOLDER" if folder is None else "option --out"
            raise ConfigError(f"missing {missing}; see: wavtext5k-curate import {name} --layout")
        _check_places(folder, audio, out)
        options = shared.build_options(
            opt_out=opt_out,
            require=require,
            exclude_license=exclude_license,
            min_duration=min_duration,
            max_duration=max_duration,
            max_bytes=max_bytes,
            silent_peak=silent_peak,
            bits=bits,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            workers=workers,
            scheduler=scheduler,
            min_kept=min_kept,
            overwrite=overwrite,
        )
        collection = read_collection(name, folder, audio=audio)
        if collection.root is None:
            raise ConfigError(f"{folder}: captions alone make no manifest; say where their sounds lie: --audio FOLDER")
    except ConfigError as error:
        raise shared.wrong_usage(error) from error
    for note in collection.notes:
        print(f"note: {note}", file=sys.stderr)

    from curation.build import curate
    from curation.progress import Progress

    with Progress("curate") as progress:
        report = curate(collection, out, made_by=f"import {name}", options=options, progress=progress)
    shared.say_report(report, out, read=[folder], opt_out=opt_out, options=options, as_json=as_json)


def _check_places(folder: Path, audio: Path | None, out: Path) -> None:
    from curation.folder import check_place

    for read, called in ((folder, "FOLDER"), (audio, "--audio")):
        if read is None:
            continue
        if not read.exists():
            raise ConfigError(f"{read}: no such file or folder")
        check_place(out, source=read, called=called, parts=[read] if read.is_dir() else [])
    if audio is not None and not audio.is_dir():
        raise ConfigError(f"{audio}: --audio must be a folder")
