"""The command ``wavtext5k-curate figures``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curation.commands.sets import Captions, Manifests, read_sets
from curation.errors import ConfigError, exit_on_error
from curation.storage import place

if TYPE_CHECKING:
    import pandas as pd

EPILOG = "Example: wavtext5k-curate figures data/curated --out data/figures"


@exit_on_error()
def figures_command(
    manifests: Manifests = None,
    captions: Captions = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=place,
            metavar="FOLDER",
            help="Folder of the figures; of several data sets, one each in it. Default: figures.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also files of those names that others made.")] = False,
) -> None:
    """Draw frequent words, durations, sample rates, licences, text lengths, drops and splits, as PNG and SVG."""
    from curation import figures
    from curation.entries import safe_key
    from curation.storage import write_whole

    out = out or Path("figures")
    _check_folder(out)
    sets = read_sets(manifests, captions, columns=figures.COLUMNS)
    folders = [out / safe_key(named.name) if len(sets) > 1 else out for named in sets]
    for folder in folders:
        _check_folder(folder)
    stale = {file for folder in folders for file in _earlier(folder, overwrite=overwrite)}
    tables = [*(_dropped(manifest) for manifest in manifests or ()), *(None for _ in captions or ())]
    for named, folder, dropped in zip(sets, folders, tables, strict=True):
        for name, figure in figures.draw_figures(named.name, named.clips, dropped).items():
            for suffix, content in figures.figure_bytes(figure).items():
                file = folder / f"{name}.{suffix}"
                write_whole(file, content)
                stale.discard(file)
                print(file)
    for file in stale:
        file.unlink()


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise typer.BadParameter(f"{folder}: --out must be a folder")


def _earlier(folder: Path, *, overwrite: bool) -> list[Path]:
    """Return the figures that an earlier run left.

    Raises:
        ConfigError: If a file has a figure's name and was not drawn by this command, unless it may be overwritten.
    """
    from curation import figures

    files = [folder / f"{name}.{suffix}" for name in figures.NAMES for suffix in figures.SUFFIXES]
    found = [file for file in files if file.exists()]
    own = [file for file in found if file.is_file() and figures.is_figure(file.read_bytes())]
    if not overwrite and (others := [file for file in found if file not in own]):
        raise ConfigError(f"{others[0]}: not drawn by wavtext5k-curate figures; name another --out, or add --overwrite")
    return own


def _dropped(manifest: Path) -> pd.DataFrame | None:
    """Return a manifest's drop table; none stands beside a manifest that was copied alone."""
    from curation.manifest import DROPPED_FILE, manifest_folder, read_dropped

    if not (manifest_folder(manifest) / DROPPED_FILE).is_file():
        return None
    table: pd.DataFrame = read_dropped(manifest).to_pandas()
    return table
