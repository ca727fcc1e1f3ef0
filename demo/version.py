"""The ``--version`` option that the demo's three commands share."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer


def _show(asked: bool) -> None:
    if asked:
        print(f"wavtext5k {version('wavtext5k')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_show, is_eager=True, help="Print the version.")]
