"""The command ``wavtext5k-curate build``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from curation.commands import options as shared
from curation.errors import ConfigError, exit_on_error
from curation.storage import place

EPILOG = "Example: wavtext5k-curate build --raw data/raw --out data/curated"


@exit_on_error()
def build_command(
    raw: Annotated[
        Path, typer.Option(parser=place, metavar="FOLDER", help="With one folder a source, as a crawl leaves it.")
    ],
    out: shared.Out,
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
    max_crawl_failed: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Refuse crawls of which a larger share failed. Default: only say so."),
    ] = None,
    overwrite: shared.Overwrite = False,
    as_json: shared.AsJson = False,
) -> None:
    """Turn raw records into a manifest: check, decode, resample, deduplicate, split, count."""
    from curation.build import build
    from curation.folder import check_place
    from curation.progress import Progress
    from curation.records import read_verdicts, source_folders

    try:
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
            max_crawl_failed=max_crawl_failed,
        )
        check_place(out, source=raw, parts=source_folders(raw))
    except ConfigError as error:
        raise shared.wrong_usage(error) from error
    for verdict in read_verdicts(raw):
        print(f"crawl {verdict}", file=sys.stderr)
    with Progress("curate") as progress:
        report = build(raw, out, options=options, progress=progress)
    shared.say_report(report, out, read=source_folders(raw), opt_out=opt_out, options=options, as_json=as_json)
