"""The command ``wavtext5k-curate stats``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.commands.sets import Captions, Manifests, read_sets
from curation.errors import exit_on_error
from curation.storage import place

if TYPE_CHECKING:
    import pandas as pd

EPILOG = "Example: wavtext5k-curate stats data/curated --captions wavtext5k WavText5K.csv --word dog"

_COLUMNS = (
    ("", "data set", "data_set", "{}"),
    ("", "counted from", "counted_from", "{}"),
    ("", "hours", "hours", "{:,.2f}"),
    ("", "audios", "audios", "{:,}"),
    ("", "captions", "captions", "{:,}"),
    ("duration (s)", "max", "max_duration_s", "{:,.2f}"),
    ("duration (s)", "mean", "mean_duration_s", "{:,.2f}"),
    ("words per caption", "max", "max_words_per_caption", "{:,}"),
    ("words per caption", "mean", "mean_words_per_caption", "{:.2f}"),
    ("words per caption", "bare", "mean_bare_words_per_caption", "{:.2f}"),
    ("words per audio", "max", "max_words_per_audio", "{:,}"),
    ("words per audio", "mean", "mean_words_per_audio", "{:.2f}"),
    ("words per audio", "bare", "mean_bare_words_per_audio", "{:.2f}"),
    ("not empty", "titles", "titles", "{:,}"),
    ("not empty", "descriptions", "descriptions", "{:,}"),
    ("not empty", "tag lists", "tag_lists", "{:,}"),
)
"""Group, heading, column of ``curation.tables.table_1``, how its numbers look."""

_RULES = {
    "captions": "those of annotators; a clip without any has {made}",
    "words": "pieces between white space; the longest caption and the mean",
    "bare": "the mean once ASCII punctuation is removed, so that a dash standing alone is no word",
    "per audio": "all words of an audio's captions; an audio without a caption counts, with 0 words",
}


@exit_on_error()
def stats_command(
    manifests: Manifests = None,
    captions: Captions = None,
    word: Annotated[str, typer.Option(help="Also Table 2: one caption a data set that mentions this word.")] = "",
    seed: Annotated[int, typer.Option(help="Chooses the captions of Table 2.")] = 0,
    template: Annotated[
        str, typer.Option(help='Makes captions of clips that have none: "{title}. {description}".')
    ] = "",
    csv: Annotated[Path | None, typer.Option(parser=place, metavar="FILE", help="Also write Table 1 there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
) -> None:
    """Print the paper's Table 1 for manifests, or for caption data sets from their text alone, and Table 2."""
    from curation.storage import write_whole
    from curation.tables import table_1, table_2
    from curation.text import parse_template

    if word and not word.split():
        raise typer.BadParameter("must not be blank", param_hint="--word")
    if template:
        try:
            parse_template(template)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--template") from error
    sets = read_sets(manifests, captions)
    first = table_1(sets, template=template or None)
    second = table_2(sets, word=word, seed=seed, template=template or None) if word else None
    made = f"what {template!r} makes of its text" if template else "its description"
    rules = {name: rule.format(made=made) for name, rule in _RULES.items()}
    if csv is not None:
        write_whole(csv, first.to_csv(index=False, lineterminator="\n").encode())
    if as_json:
        tables: dict[str, Any] = {"table_1": _records(first), "rules": rules}
        if second is not None:
            tables["table_2"] = {"word": word, "seed": seed, "rows": _records(second)}
        print(json.dumps(tables, ensure_ascii=False))
        return
    print("\n".join([*_table_1_lines(first), "", *(f"{name}: {rule}" for name, rule in rules.items())]))
    for row in _records(first):
        if row["remark"]:
            print(f"{row['data_set']} in the paper: {row['remark']}")
    if second is not None:
        print("\n".join(["", *_table_2_lines(second, word=word, seed=seed)]))


def _table_1_lines(table: pd.DataFrame) -> list[str]:
    """Return the table as text, columns of one group under its heading; what is not known is a dash."""
    columns = [
        [heading, *("-" if value is None else look.format(value) for value in _values(table, name))]
        for _, heading, name, look in _COLUMNS
    ]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in zip(*columns, strict=True)
    ]
    return [line.rstrip() for line in [_group_line(widths), *lines]]


def _group_line(widths: Sequence[int]) -> str:
    groups: list[tuple[str, int]] = []
    for (group, *_), width in zip(_COLUMNS, widths, strict=True):
        if group and groups and groups[-1][0] == group:
            groups[-1] = (group, groups[-1][1] + 2 + width)
        else:
            groups.append((group, width))
    return "  ".join(group.rjust(width) for group, width in groups)


def _table_2_lines(table: pd.DataFrame, *, word: str, seed: int) -> list[str]:
    rows = _records(table)
    width = max(len(row["data_set"]) for row in rows)
    lines = [f'captions that mention "{word}", or it with s or es behind, as a word; one each, by seed {seed}']
    for row in rows:
        counted = f"{row['mentions']:,} of {row['captions']:,}"
        lines.append(f"{row['data_set'].ljust(width)}  {counted:>18}  {row['caption'] or '-'}")
    return lines


def _values(table: pd.DataFrame, column: str) -> list[Any]:
    """Return a column as Python's own values, None where one is not known."""
    return [
        None if is_missing else value
        for value, is_missing in zip(table[column].tolist(), table[column].isna(), strict=True)
    ]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    columns = {str(name): _values(table, str(name)) for name in table.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
