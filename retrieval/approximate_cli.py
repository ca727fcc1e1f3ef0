"""``wavtext5k-search approximate``: the command's words, and the table of what it costs in recall."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def approximate(
    index: Annotated[Path, typer.Argument(help="An index folder.", show_default=False)],
    cells: Annotated[
        int | None, typer.Option(min=1, help="Cells; default: those there, else 4 times the clips' root.")
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="Queries that recall is measured with.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Make an index searchable approximately (faiss), and print what that costs in recall.

    Worth its while for many millions of clips; below, exact search is fast enough. query --probes N then uses it.
    """
    from retrieval.approximate import faiss_file, make_cells
    from retrieval.index import Index

    opened = Index.open(index)
    made, is_new = make_cells(opened, cells=cells)
    file, num = faiss_file(opened), made.num
    table = [made.recall(probes=probes, queries=queries) for probes in _probes(num)]
    if as_json:
        print(json.dumps({"file": str(file), "cells": num, "recall": [asdict(row) for row in table]}))
        return
    print(f"{'wrote' if is_new else 'kept':<11}{num} cells of {len(opened):,} clips    {file}")
    print("--probes   recall@10 against exact   ms a query, approximate   exact")
    for row in table:
        print(f"{row.probes:8d}   {row.recall_at_10:23.3f}   {row.approximate_ms:23.2f}   {row.exact_ms:5.2f}")


def _probes(cells: int) -> list[int]:
    return sorted({min(probes, cells) for probes in (1, 4, 16, 64)})
