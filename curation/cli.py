"""The command ``wavtext5k-curate``: parses, calls one function, prints. Heavy imports are inside the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.errors import ConfigError, ManifestError, exit_on_error

if TYPE_CHECKING:
    from curation.build import BuildReport

app = typer.Typer(
    help="Turn raw records into a manifest, and check one.",
    epilog="Example: wavtext5k-curate build --raw data/raw --out data/curated",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


def main() -> None:
    """Run the command line; ends the process with 0 (done), 1 (the data or the run failed) or 2 (wrong usage)."""
    app()


def _version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        print(f"wavtext5k {version('wavtext5k')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command("build", epilog="Example: wavtext5k-curate build --raw data/raw --out data/curated")
@exit_on_error()
def build_command(
    raw: Annotated[Path, typer.Option(help="Folder with one folder a source, as a crawl leaves it.")],
    out: Annotated[
        Path, typer.Option(help="Folder of the manifest; brought up to date if a build made it.", file_okay=False)
    ],
    require: Annotated[str, typer.Option(help="Texts that must not be empty: title,description.")] = "",
    exclude_license: Annotated[str, typer.Option(help="Licences to leave out: personal-use,unknown.")] = "",
    opt_out: Annotated[
        Path | None, typer.Option(help="File of clip_ids and page addresses to leave out.", exists=True, dir_okay=False)
    ] = None,
    min_duration: Annotated[float, typer.Option(help="Seconds.")] = 0.1,
    max_duration: Annotated[float, typer.Option(help="Seconds.")] = 3600.0,
    max_bytes: Annotated[int, typer.Option(help="Of an audio file as served.")] = 2**30,
    val_fraction: Annotated[float, typer.Option(help="Share of the clips in split val.")] = 0.1,
    test_fraction: Annotated[float, typer.Option(help="Share of the clips in split test.")] = 0.1,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes; 0: this one. Default: all cores.")] = None,
    min_kept: Annotated[int, typer.Option(min=0, help="Fail if fewer clips remain.")] = 1,
    max_crawl_failed: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Refuse crawls of which a larger share failed. Default: only say so."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also in a folder that something else made.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Turn raw records into a manifest: check, decode, resample, deduplicate, split, count."""
    from curation.build import BuildOptions, build
    from curation.engine import available_cores
    from curation.filters import Limits, RecordRules
    from curation.folder import check_place
    from curation.progress import Progress
    from curation.records import read_opt_outs, read_verdicts, source_folders
    from curation.splits import SplitFractions

    try:
        options = BuildOptions(
            rules=RecordRules(
                require=_listed(require),
                exclude_licenses=_listed(exclude_license),
                opted_out=read_opt_outs(opt_out) if opt_out else frozenset(),
            ),
            limits=Limits(min_duration_s=min_duration, max_duration_s=max_duration, max_bytes=max_bytes),
            fractions=SplitFractions(val=val_fraction, test=test_fraction),
            min_kept=min_kept,
            max_crawl_failed=max_crawl_failed,
            workers=available_cores() if workers is None else workers,
            overwrite=overwrite,
        )
        check_place(out, raw=raw)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    for verdict in read_verdicts(raw):
        print(f"crawl {verdict}", file=sys.stderr)
    with Progress("curate") as progress:
        report = build(raw, out, options=options, progress=progress)
    if report.unmatched_opt_outs:
        lines = f"{report.unmatched_opt_outs} of {len(options.rules.opted_out)} lines"
        print(f"{opt_out}: {lines} matched no record", file=sys.stderr)
    if report.gone:
        print(f"{report.gone} clips of the earlier manifest are not in this one", file=sys.stderr)
    if as_json:
        print(json.dumps(_build_facts(report, out), ensure_ascii=False))
    else:
        _print_build(report, source_folders(raw), out)


@app.command("validate", epilog="Example: wavtext5k-curate validate data/curated --audio")
@exit_on_error()
def validate_command(
    manifest: Annotated[Path, typer.Argument(help="A manifest's folder, or manifest.parquet itself.")],
    audio: Annotated[bool, typer.Option("--audio", help="Also hash and decode every audio file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the problems as JSON.")] = False,
) -> None:
    """Check that a manifest keeps its contract and that its audio is there; exit 1 if not."""
    from curation.manifest import manifest_file, read_clip_ids, read_manifest, validate_manifest
    from curation.progress import Progress

    file = manifest_file(manifest)
    facts: dict[str, Any] = {"ok": False, "clips": 0, "problems": [], "manifest": str(file)}
    try:
        facts["clips"] = clips = len(read_clip_ids(manifest))
        with Progress("validate") as progress:
            problems = validate_manifest(manifest, read_audio=audio, progress=progress)
    except ManifestError as error:
        if as_json:
            print(json.dumps(facts | {"problems": [str(error)]}))
        raise
    if as_json:
        print(json.dumps(facts | {"ok": not problems, "problems": problems}))
    elif not problems:
        seconds = sum(read_manifest(manifest)["duration_s"].to_pylist())
        audio_said = "audio decoded" if audio else "audio files there"
        print(_line("ok", clips, "clips", [f"{seconds / 3600:.2f} h, {audio_said}", str(file)]))
    else:
        print("\n".join(problems))
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ManifestError(f"{file}: {count}; {_mend(manifest)}")


def _mend(manifest: Path) -> str:
    """Return what to do about the problems of a manifest or, if its rows keep the rules, of its audio."""
    from curation.manifest import REBUILD, read_manifest

    try:
        read_manifest(manifest)
    except ManifestError:
        return REBUILD
    # A build takes finished audio of the right size for good, and writes again what is not there.
    return "remove the files named and run wavtext5k-curate build again"


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _build_facts(report: BuildReport, out: Path) -> dict[str, Any]:
    from curation.folder import STATISTICS_FILE
    from curation.manifest import DROPPED_FILE, MANIFEST_FILE

    keys = ("records", "clips", "dropped", "hours")
    return {key: report.statistics[key] for key in keys} | {
        "worked": report.worked,
        "up_to_date": not report.is_new,
        "manifest": str(out / MANIFEST_FILE),
        "dropped_table": str(out / DROPPED_FILE),
        "statistics": str(out / STATISTICS_FILE),
    }


def _print_build(report: BuildReport, sources: list[Path], out: Path) -> None:
    from curation.manifest import DROPPED_FILE, MANIFEST_FILE

    counts = report.statistics
    reasons = ", ".join(f"{reason} {count}" for reason, count in counts["dropped"].items())
    kept = f"{counts['hours']:.2f} h at 44100 Hz"
    width = max(len(reasons), len(kept))
    print(_line("read", counts["records"], "records", [", ".join(map(str, sources))]))
    print(_line("dropped", sum(counts["dropped"].values()), "records", [reasons.ljust(width), str(out / DROPPED_FILE)]))
    verb = "wrote" if report.is_new else "up to date"
    print(_line(verb, counts["clips"], "clips", [kept.ljust(width), str(out / MANIFEST_FILE)]))


def _line(verb: str, count: int, noun: str, details: list[str]) -> str:
    return f"{verb}{count:>{max(13 - len(verb), len(str(count)) + 1)}} {noun:<11}{'    '.join(details)}"


if __name__ == "__main__":
    main()
