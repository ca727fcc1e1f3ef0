"""The command ``wavtext5k-curate figures``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curation.commands.sets import Captions, Manifests, read_sets
from curation.errors import exit_on_error
from curation.storage import place

if TYPE_CHECKING:
    import pandas as pd

EPILOG = "Example: wavtext5k-curate figures data/curated --out data/figures"


@exit_on_error()
def figures_command(
    manifests: Manifests = None,
    captions: Captions = None,
    out: Annotated[
        Path,
        typer.Option(
            parser=place, metavar="FOLDER", help="Folder of the figures; of several data sets, one each in it."
        ),
    ] = Path("figures"),
) -> None:
    """Draw frequent words, durations, sample rates, licences, text lengths, drops and splits, as PNG and SVG."""
    from curation import figures
    from curation.entries import safe_key
    from curation.storage import write_whole

    sets = read_sets(manifests, captions, columns=figures.COLUMNS)
    tables = [*(_dropped(manifest) for manifest in manifests or ()), *(None for _ in captions or ())]
    for named, dropped in zip(sets, tables, strict=True):
        folder = out / safe_key(named.name) if len(sets) > 1 else out
        for name, figure in figures.draw_figures(named.name, named.clips, dropped).items():
            for suffix, content in figures.figure_bytes(figure).items():
                file = folder / f"{name}.{suffix}"
                write_whole(file, content)
                print(file)


def _dropped(manifest: Path) -> pd.DataFrame | None:
    """Return a manifest's drop table; none stands beside a manifest that was copied alone."""
    from curation.manifest import DROPPED_FILE, manifest_folder, read_dropped

    if not (manifest_folder(manifest) / DROPPED_FILE).is_file():
        return None
    table: pd.DataFrame = read_dropped(manifest).to_pandas()
    return table
