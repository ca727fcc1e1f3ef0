"""The options that ``build`` and ``import`` share, and what both print."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.errors import ConfigError
from curation.filters import Limits
from curation.progress import line
from curation.storage import place

if TYPE_CHECKING:
    from curation.build import BuildOptions, BuildReport

LIMITS = Limits()
"""The defaults of the options that set them."""

Out = Annotated[
    Path,
    typer.Option(
        parser=place, metavar="FOLDER", help="Folder of the manifest, or s3://...; brought up to date if it is one."
    ),
]
OptOut = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="File of clip_ids and page or audio addresses to leave out."),
]
Require = Annotated[str, typer.Option(help="Texts that must not be empty: title,description.")]
ExcludeLicense = Annotated[str, typer.Option(help="Licences to leave out: personal-use,unknown.")]
MinDuration = Annotated[float, typer.Option(help="Seconds.")]
MaxDuration = Annotated[float, typer.Option(help="Seconds.")]
MaxBytes = Annotated[int, typer.Option(help="Of an audio file as served.")]
SilentPeak = Annotated[float, typer.Option(help="dB re full scale: sound whose peak is under it is dropped.")]
Bits = Annotated[int, typer.Option(help="Of the FLAC files: 16 or 24.")]
ValFraction = Annotated[float, typer.Option(help="Share of the clips in split val, where there is no split yet.")]
TestFraction = Annotated[float, typer.Option(help="Share of the clips in split test, likewise.")]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes on this machine; 0: none but this one. Default: all cores.")
]
Scheduler = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Let a Dask cluster do the work: tcp://host:8786. Default: this machine.")
]
MinKept = Annotated[int, typer.Option(min=0, help="Fail if fewer clips remain.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Also in a folder that something else made.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")]


def build_options(
    *,
    opt_out: Path | None,
    require: str,
    exclude_license: str,
    min_duration: float,
    max_duration: float,
    max_bytes: int,
    silent_peak: float,
    bits: int,
    val_fraction: float,
    test_fraction: float,
    workers: int | None,
    scheduler: str,
    min_kept: int,
    overwrite: bool,
    max_crawl_failed: float | None = None,
) -> BuildOptions:
    """Return what the options say.

    Raises:
        ConfigError: If they cannot be.
    """
    from curation.build import BuildOptions
    from curation.engine import available_cores
    from curation.filters import RecordRules
    from curation.records import read_opt_outs
    from curation.splits import SplitFractions

    return BuildOptions(
        rules=RecordRules(
            require=listed(require),
            exclude_licenses=listed(exclude_license),
            opted_out=read_opt_outs(opt_out) if opt_out else frozenset(),
        ),
        limits=Limits(
            min_duration_s=min_duration,
            max_duration_s=max_duration,
            max_bytes=max_bytes,
            silent_peak_dbfs=silent_peak,
        ),
        fractions=SplitFractions(val=val_fraction, test=test_fraction),
        bits=bits,  # type: ignore[arg-type]  # BuildOptions checks it
        min_kept=min_kept,
        max_crawl_failed=max_crawl_failed,
        workers=available_cores() if workers is None else workers,
        scheduler=scheduler,
        overwrite=overwrite,
    )


def wrong_usage(error: ConfigError) -> typer.BadParameter:
    """Return a ConfigError as what ends a command with exit code 2."""
    return typer.BadParameter(str(error))


def say_report(
    report: BuildReport,
    out: Path,
    *,
    read: Sequence[Path],
    opt_out: Path | None,
    options: BuildOptions,
    as_json: bool,
) -> None:
    """Print what a build did: counts to stdout, what a person should know to stderr."""
    if report.unmatched_opt_outs:
        lines = f"{report.unmatched_opt_outs} of {len(options.rules.opted_out)} lines"
        print(f"{opt_out}: {lines} matched no record", file=sys.stderr)
    if report.gone:
        print(f"{report.gone} clips of the earlier manifest are not in this one", file=sys.stderr)
    for detail in report.missing:
        print(f"missing_audio: {detail}", file=sys.stderr)
    missing = report.statistics["dropped"].get("missing_audio", 0)
    if missing > len(report.missing):
        print(f"missing_audio: and {missing - len(report.missing)} more, all in dropped.parquet", file=sys.stderr)
    if as_json:
        print(json.dumps(_facts(report, out), ensure_ascii=False))
    else:
        _print_report(report, read, out)


def listed(text: str) -> tuple[str, ...]:
    """Return the parts of an option's value that commas separate."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _facts(report: BuildReport, out: Path) -> dict[str, Any]:
    from curation.manifest import DROPPED_FILE, FLAGS_FILE, MANIFEST_FILE, STATISTICS_FILE

    keys = ("records", "clips", "dropped", "flags", "hours")
    return {key: report.statistics[key] for key in keys} | {
        "worked": report.worked,
        "up_to_date": not report.is_new,
        "manifest": str(out / MANIFEST_FILE),
        "dropped_table": str(out / DROPPED_FILE),
        "flags_table": str(out / FLAGS_FILE),
        "statistics": str(out / STATISTICS_FILE),
    }


def _print_report(report: BuildReport, read: Sequence[Path], out: Path) -> None:
    from curation.manifest import DROPPED_FILE, FLAGS_FILE, MANIFEST_FILE

    counts = report.statistics
    dropped = counts["dropped"]
    flags = {kind: found["rows"] for kind, found in counts["flags"].items()}
    said = {"dropped": _joined(dropped), "flagged": _joined(flags), "kept": f"{counts['hours']:.2f} h at 44100 Hz"}
    width = max(map(len, said.values()))
    print(line("read", counts["records"], "records", [", ".join(map(str, read))]))
    print(line("dropped", sum(dropped.values()), "records", [said["dropped"].ljust(width), str(out / DROPPED_FILE)]))
    if flags:
        print(line("flagged", sum(flags.values()), "findings", [said["flagged"].ljust(width), str(out / FLAGS_FILE)]))
    verb = "wrote" if report.is_new else "up to date"
    print(line(verb, counts["clips"], "clips", [said["kept"].ljust(width), str(out / MANIFEST_FILE)]))


def _joined(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
