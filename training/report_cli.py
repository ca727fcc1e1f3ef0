"""The form ``wavtext5k-train report``: curves of runs, and a table that compares them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from curation.errors import ConfigError, exit_on_error
from training.cli import AsJson, Version

TABLE_FILE = "table.md"
FIGURE = "curves"

report_app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


@report_app.command(name="report", epilog="Example: wavtext5k-train report runs/paper-a runs/paper-d --out report")
def report_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; they may be training meanwhile.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of curves.png, curves.svg and table.md.")] = Path(
        "report"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also files of those names that others made.")] = False,
    as_json: AsJson = False,
    version: Version = False,
) -> None:
    """Draw the curves of runs and compare what they scored on data.val, and in which settings they differ."""
    with exit_on_error():
        from crawler.items import open_whole
        from training.report import MARK, markdown, read_runs
        from training.report_figure import draw_curves, figure_bytes

        if out.exists() and not out.is_dir():
            raise typer.BadParameter(f"{out}: --out must be a folder")
        read = read_runs(runs)
        if not overwrite:
            _refuse_others(out)
        text = markdown(read)
        contents = {f"{FIGURE}.{suffix}": content for suffix, content in figure_bytes(draw_curves(read)).items()}
        contents[TABLE_FILE] = f"{text}\n{MARK}\n".encode()
        for name, content in contents.items():
            with open_whole(out / name) as whole:
                whole.write(content)
        files = [str(out / name) for name in contents]
        if as_json:
            print(json.dumps({"runs": [run.as_dict() for run in read], "files": files}, default=str))
        else:
            print(text, end="")
            print(*files, sep="\n", file=sys.stderr)


def _refuse_others(folder: Path) -> None:
    """Refuse to write over what an earlier report did not."""
    from training.report import MARK
    from training.report_figure import SUFFIXES, is_figure

    for file in (folder / name for name in (TABLE_FILE, *(f"{FIGURE}.{suffix}" for suffix in SUFFIXES))):
        if not file.exists():
            continue
        content = file.read_bytes() if file.is_file() else b""
        if not (content.rstrip().endswith(MARK.encode()) if file.suffix == ".md" else is_figure(content)):
            raise ConfigError(f"{file}: not written by wavtext5k-train report; name another --out, or add --overwrite")
