"""``wavtext5k-search``: parse, call one function, print."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from curation.errors import exit_on_error
from retrieval.approximate_cli import approximate
from retrieval.export_cli import export
from retrieval.index_cli import index
from retrieval.query_cli import query
from retrieval.serve_cli import serve

app = typer.Typer(
    epilog='Example: wavtext5k-search query runs/demo/index "a low bell struck twice"',
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"wavtext5k {version('wavtext5k')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Index manifests with a trained model, and find their clips by text or by sound."""


app.command(epilog="Example: wavtext5k-search index runs/demo/run runs/demo/curated --out runs/demo/index")(
    exit_on_error()(index)
)
app.command(epilog='Example: wavtext5k-search query runs/demo/index "rain on a roof" --top 5 --max-s 3')(
    exit_on_error()(query)
)
app.command(epilog="Example: wavtext5k-search approximate data/index")(exit_on_error()(approximate))
app.command(epilog="Example: wavtext5k-search serve runs/demo/index --open")(exit_on_error()(serve))
app.command(epilog="Example: wavtext5k-search export runs/demo/run --to onnx --out runs/demo/onnx")(
    exit_on_error()(export)
)


def main() -> None:
    """Run ``wavtext5k-search``."""
    app(prog_name="wavtext5k-search")


if __name__ == "__main__":
    main()
