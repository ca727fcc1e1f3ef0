"""The command ``wavtext5k-curate leakage``."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curation.commands.options import wrong_usage
from curation.datasets import READERS, check_named, read_collection
from curation.errors import ConfigError, ManifestError, exit_on_error
from curation.storage import place

if TYPE_CHECKING:
    from curation.leakage import LeakageReport, Side

EPILOG = "Example: wavtext5k-curate leakage data/train data/test --max-leaked 0"

_SET = "A manifest's folder or file; or NAME:FILE, a data set whose text alone is read (clotho:clotho_test.csv)."
_JOINS = "clip,origin,sound,text"
_SUFFIXES = (".csv", ".parquet")
_LONGEST = 60  # characters of an example's text


@exit_on_error()
def leakage_command(
    a: Annotated[str, typer.Argument(metavar="A", help=_SET)],
    b: Annotated[str, typer.Argument(metavar="B", help="The same: the set whose clips should not be in A.")],
    split_a: Annotated[str, typer.Option(help="Only this split of A: train, val, test, ...")] = "",
    split_b: Annotated[str, typer.Option(help="Only this split of B.")] = "",
    by: Annotated[str, typer.Option(help="What to compare.")] = _JOINS,
    max_leaked: Annotated[
        float | None, typer.Option(min=0, max=1, help="Fail if a larger share of B's clips is in A.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(parser=place, metavar="FILE", help="Also write every pair there: .csv or .parquet.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Tell which clips of one set are in another: the same recording, the same sound, the same text."""
    from curation.leakage import JOINS, find_leakage

    joins = [join.strip() for join in by.split(",") if join.strip()]
    if not joins or set(joins) - set(JOINS):
        raise typer.BadParameter(f"must be of {', '.join(JOINS)}, got {by!r}", param_hint="--by")
    if out is not None and out.suffix.lower() not in _SUFFIXES:
        raise typer.BadParameter(f"{out}: must end in {' or '.join(_SUFFIXES)}", param_hint="--out")
    try:
        for text in (a, b):
            _check_named(text)
        sides = [_side(text, split) for text, split in ((a, split_a), (b, split_b))]
    except ConfigError as error:
        raise wrong_usage(error) from error
    report = find_leakage(*sides, by=joins)
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    if out is not None:
        _write_pairs(report, out)
    print(json.dumps(report.to_dict(), ensure_ascii=False) if as_json else "\n".join(_lines(report)))
    if max_leaked is not None and report.share_of_b > max_leaked:
        raise ManifestError(
            f"{report.leaked_b} of {len(report.b.clips)} clips of {report.b.name} are in {report.a.name}: "
            f"a share of {report.share_of_b:.4f}, more than --max-leaked {max_leaked:g}"
        )


def _check_named(text: str) -> None:
    """Refuse what names no set, before the other one is read, which may take minutes."""
    name, path = _set_named(text)
    if name:
        check_named(name, path)
    elif path.is_file() and path.suffix != ".parquet":
        raise ConfigError(f"{text}: no manifest; of a data set say whose layout it has, such as clotho:{text}")


def _side(text: str, split: str) -> Side:
    from curation.leakage import side_of_collection, side_of_manifest

    name, path = _set_named(text)
    if not name:
        return side_of_manifest(path, split=split)
    collection = read_collection(name, path)
    for note in collection.notes:
        print(f"note: {text}: {note}", file=sys.stderr)
    return side_of_collection(text, collection, split=split)


def _set_named(text: str) -> tuple[str, Path]:
    """Return the reader's name, "" for a manifest, and the place."""
    name, colon, file = text.partition(":")
    if colon and not file.startswith("//") and (name in READERS or not place(text).exists()):
        return name, place(file)
    return "", place(text)


def _write_pairs(report: LeakageReport, out: Path) -> None:
    from curation.storage import write_whole

    if out.suffix.lower() == ".csv":
        content = report.pairs.to_csv(index=False, lineterminator="\n").encode("utf-8")
    else:
        buffer = io.BytesIO()
        report.pairs.to_parquet(buffer, index=False)
        content = buffer.getvalue()
    write_whole(out, content)
    print(f"wrote {len(report.pairs)} pairs to {out}", file=sys.stderr)


def _lines(report: LeakageReport) -> list[str]:
    facts = report.to_dict()
    width = max(len(facts[side]["name"]) for side in "ab")
    lines = [
        f"{side.upper()}  {facts[side]['name'].ljust(width)}  {facts[side]['clips']:>9,} clips"
        f"  {facts[side]['texts']:>9,} texts"
        for side in "ab"
    ]
    return [*lines, "", *_table_lines(report), *_example_lines(report)]


def _table_lines(report: LeakageReport) -> list[str]:
    from curation.leakage import KINDS

    found = {row["kind"]: row for row in report.to_dict()["found"]}
    headings = ("found by", "clips of A", "clips of B", "new in B", "texts of A", "texts of B")
    names = ("clips_a", "clips_b", "first_b", "texts_a", "texts_b")
    cells: list[tuple[str, ...]] = [headings]
    for kind, (words, _) in KINDS.items():
        counts = (found.get(kind, {}).get(name) for name in names)
        cells.append((words, *("-" if count is None else f"{count:,}" for count in counts)))
    leaked = found["any"]
    cells.append(("any of these", f"{leaked['clips_a']:,}", f"{leaked['clips_b']:,}", "", "", ""))
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]
    verdict = f"{leaked['clips_b']:,} of {len(report.b.clips):,} clips of B are in A: {report.share_of_b:.2%}"
    return [*(line.rstrip() for line in lines), "", verdict]


def _example_lines(report: LeakageReport) -> list[str]:
    from curation.leakage import KINDS

    lines, before = [], ""
    for pair in report.to_dict()["examples"]:
        kind, detail = pair["kind"], pair["detail"]
        if kind != before:
            count = (report.pairs["kind"] == kind).sum()
            lines += ["", f"{KINDS[kind][0]}, the first of {count:,} pairs (A, B):"]
        before = kind
        detail = detail if len(detail) <= _LONGEST else f"{detail[:_LONGEST]}..."
        lines.append(f"  {pair['clip_a']}  {pair['clip_b']}  {detail}".rstrip())
    return lines
