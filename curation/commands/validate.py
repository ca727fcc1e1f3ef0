"""The command ``wavtext5k-curate validate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from curation.errors import ManifestError, exit_on_error
from curation.progress import line
from curation.storage import place

EPILOG = "Example: wavtext5k-curate validate data/curated --audio"


@exit_on_error()
def validate_command(
    manifest: Annotated[
        Path, typer.Argument(parser=place, metavar="MANIFEST", help="A manifest's folder, or manifest.parquet itself.")
    ],
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
        print(line("ok", clips, "clips", [f"{seconds / 3600:.2f} h, {audio_said}", str(file)]))
    else:
        print("\n".join(problems))
    if problems:
        number = sum(map(_rows_of, problems))
        count = f"{number} problem{'s' if number > 1 else ''}"
        raise ManifestError(f"{file}: {count}; {_mend(manifest)}")


def _rows_of(problem: str) -> int:
    """Return how many rows a line of ``validate_manifest`` speaks of: "19 more rows: ..." of 19."""
    number, more, _ = problem.partition(" more rows: ")
    return int(number) if more else 1


def _mend(manifest: Path) -> str:
    """Return what to do about the problems of a manifest or, if its rows keep the rules, of its audio."""
    from curation.manifest import REBUILD, read_manifest

    try:
        read_manifest(manifest)
    except ManifestError:
        return REBUILD
    # A build takes finished audio of the right size for good, and writes again what is not there.
    return "remove the files named and run wavtext5k-curate build again"
