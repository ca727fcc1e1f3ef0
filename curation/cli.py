"""The command ``wavtext5k-curate``: one module a command in ``curation.commands``, each parses, calls, prints."""

from __future__ import annotations

from typing import Annotated

import typer

from curation.commands import build, card, export, figures, import_, leakage, stats, validate
from curation.commands.sets import PairsCommand

app = typer.Typer(
    help="Turn raw records or a data set on disk into a manifest; check, count, describe and export it.",
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


app.command("build", epilog=build.EPILOG)(build.build_command)
app.command("import", epilog=import_.EPILOG)(import_.import_command)
app.command("validate", epilog=validate.EPILOG)(validate.validate_command)
app.command("stats", cls=PairsCommand, epilog=stats.EPILOG)(stats.stats_command)
app.command("figures", cls=PairsCommand, epilog=figures.EPILOG)(figures.figures_command)
app.command("card", epilog=card.EPILOG)(card.card_command)
app.command("export", epilog=export.EPILOG)(export.export_command)
app.command("leakage", epilog=leakage.EPILOG)(leakage.leakage_command)


if __name__ == "__main__":
    main()
