"""The command ``wavtext5k-curate export``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curation.commands.options import listed, wrong_usage
from curation.errors import ConfigError, exit_on_error
from curation.progress import line
from curation.storage import place

if TYPE_CHECKING:
    from curation.exports.run import ExportReport

EPILOG = "Example: wavtext5k-curate export data/curated --out data/hub --format parquet"

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?)B?|B)?", re.I)
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@exit_on_error()
def export_command(
    manifest: Annotated[
        Path, typer.Argument(parser=place, metavar="MANIFEST", help="A manifest's folder, or manifest.parquet itself.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            parser=place, metavar="FOLDER", help="Folder of the export, or s3://...; brought up to date if it is one."
        ),
    ],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="parquet: for datasets and the Hugging Face Hub; webdataset: tars, for LAION-CLAP and open_clip.",
        ),
    ] = "parquet",
    license_policy: Annotated[
        str, typer.Option(help="redistributable: clips whose licence lets anyone pass them on; or all.")
    ] = "redistributable",
    include_license: Annotated[str, typer.Option(help="Licences to let out besides: remarc,personal-use.")] = "",
    exclude_license: Annotated[str, typer.Option(help="Licences to keep back: cc-by-nc-3.0,cc-by-nc-4.0.")] = "",
    keep_text: Annotated[
        bool, typer.Option("--keep-text", help="Let the text of clips out whose licence keeps the sound back.")
    ] = False,
    opt_out: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="File of clip_ids and page or audio addresses to leave out."),
    ] = None,
    split: Annotated[str, typer.Option(help="Splits to export: train,val. Default: all.")] = "",
    template: Annotated[
        str, typer.Option(help="Makes the caption of clips without one, of {title}, {description} and {tags}.")
    ] = "{title}. {description}",
    shard_size: Annotated[str, typer.Option(help="Of audio in one shard: 500MB, 1GiB.")] = "500MB",
    sample_rate: Annotated[
        int, typer.Option(help="Hz, of the audio that goes out; LAION-CLAP wants 48000 and does not resample.")
    ] = 44_100,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also in a folder that something else made, or of the other format.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Write a manifest and its audio as self-contained Parquet or tar shards that others open."""
    from curation.exports.policy import Policy
    from curation.exports.run import prepare_export, write_export
    from curation.exports.selection import ExportOptions
    from curation.progress import Progress
    from curation.records import read_opt_outs

    try:
        options = ExportOptions(
            format=format_,
            policy=Policy(
                licenses=license_policy,
                include=listed(include_license),
                exclude=listed(exclude_license),
                splits=listed(split),
                opted_out=read_opt_outs(opt_out) if opt_out else frozenset(),
            ),
            template=template,
            shard_bytes=_bytes(shard_size),
            sample_rate=sample_rate,
            keep_text=keep_text,
            overwrite=overwrite,
        )
        chosen = prepare_export(manifest, out, options=options)
    except ConfigError as error:
        raise wrong_usage(error) from error
    with Progress("export") as progress:
        report = write_export(chosen, out, options=options, progress=progress)
    _say_notes(report, out, opt_out, lines=len(options.policy.opted_out))
    if as_json:
        print(json.dumps(dict(report.index) | {"up_to_date": not report.is_new, "out": str(out)}, ensure_ascii=False))
    else:
        _print_counts(report, manifest, out)


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"--shard-size {text!r} is no size; write it as 500MB, 1GiB or a number of bytes")
    number, unit, binary = found.groups(default="")
    return int(float(number) * (1024 if binary else 1000) ** _UNITS[unit.upper()])


def _say_notes(report: ExportReport, out: Path, opt_out: Path | None, *, lines: int) -> None:
    """Tell on stderr what a person should know before the export is passed on."""
    if report.unmatched_opt_outs:
        print(f"{opt_out}: {report.unmatched_opt_outs} of {lines} lines name no clip", file=sys.stderr)
    if report.index["not_redistributable"]:
        print(
            f"{report.index['not_redistributable']} clips may not be passed on: this export is for your own use only",
            file=sys.stderr,
        )
    if report.index["non_commercial"]:
        print(f"{report.index['non_commercial']} clips may not be used for profit (column license)", file=sys.stderr)
    if report.readme_kept:
        print(
            f"{out / 'README.md'}: not written by this command, or edited since: left as it is; "
            "remove it and run again to have a new one",
            file=sys.stderr,
        )


def _print_counts(report: ExportReport, manifest: Path, out: Path) -> None:
    from curation.exports.folder import INDEX_FILE
    from curation.exports.run import LEFT_OUT_FILE
    from curation.manifest import manifest_file

    index = report.index
    clips = index["clips"]
    reasons = ", ".join(f"{reason} {count}" for reason, count in index["left_out"].items())
    splits = ", ".join(f"{split} {counts['clips']}" for split, counts in index["splits"].items())
    shards = sum(counts["shards"] for counts in index["splits"].values())
    wrote = f"{index['hours']:.2f} h in {shards} shard{'s' if shards > 1 else ''}: {splits}"
    width = max(len(reasons), len(wrote))
    print(line("read", clips["in_manifest"], "clips", [str(manifest_file(manifest))]))
    print(line("left out", clips["left_out"], "clips", [reasons.ljust(width), str(out / LEFT_OUT_FILE)]))
    verb = "wrote" if report.is_new else "up to date"
    print(line(verb, clips["exported"], "clips", [wrote.ljust(width), str(out / INDEX_FILE)]))
