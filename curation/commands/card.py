"""The command ``wavtext5k-curate card``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.commands.options import wrong_usage
from curation.errors import ConfigError, exit_on_error
from curation.progress import line
from curation.storage import place

if TYPE_CHECKING:
    from curation.card_notes import Notes
    from curation.cards import Card

EPILOG = "Example: wavtext5k-curate card data/curated"


@exit_on_error()
def card_command(
    data: Annotated[
        Path,
        typer.Argument(
            parser=place,
            metavar="MANIFEST",
            help="A manifest's folder, or manifest.parquet itself; with --captions, a data set's folder or text file.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            parser=place,
            metavar="PLACE",
            help="Folder for README.md, or a file ending in .md. Default: the manifest's folder.",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(help="What the data set is called. Default: the notes' name, or its sources.")
    ] = "",
    notes: Annotated[
        Path | None,
        typer.Option(
            parser=place,
            metavar="FILE",
            help="YAML that a person writes. Default: card.yaml beside README.md, x.yaml beside x.md, if it is there.",
        ),
    ] = None,
    captions: Annotated[
        str,
        typer.Option(metavar="NAME", help="Describe the texts of a data set on disk, without sound: wavtext5k, ..."),
    ] = "",
    source: Annotated[str, typer.Option(help="With --captions: only clips of this source.")] = "",
    croissant: Annotated[
        bool | None,
        typer.Option("--croissant/--no-croissant", help="Also write croissant.json. Default: beside a manifest only."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also files that someone else wrote, or edited.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write the data card of a manifest (README.md for the Hub and for people) and its Croissant metadata."""
    _check_usage(out=out, captions=captions, source=source, croissant=croissant)
    import dataclasses

    from curation.manifest import manifest_folder
    from curation.storage import write_whole

    try:
        card_file = _card_file(out or manifest_folder(data))
        notes_file, found = _read_notes(card_file, notes)
        if name:
            found = dataclasses.replace(found, name=name)
        beside = card_file.parent == manifest_folder(data)
        with_croissant = not captions and (beside if croissant is None else croissant)
        card, contents = _make(data, card_file, found, captions=captions, source=source, with_croissant=with_croissant)
    except ConfigError as error:
        raise wrong_usage(error) from error
    for file in contents:
        _check_own(file, overwrite=overwrite)
    for file, content in contents.items():
        write_whole(file, content)
    croissant_file = next((file for file in contents if file != card_file), None)
    if as_json:
        facts: dict[str, Any] = {"clips": card.clips, "name": card.name, "licenses": card.licenses}
        files = {"card": card_file, "croissant": croissant_file, "notes": notes_file}
        facts |= {key: None if file is None else str(file) for key, file in files.items()}
        print(json.dumps(facts, ensure_ascii=False))
        return
    print(line("wrote", card.clips, "clips", ["their card", *map(str, [card_file, croissant_file or ""])]).rstrip())
    if notes_file is not None:
        print(f"notes     {notes_file}")


def _check_usage(*, out: Path | None, captions: str, source: str, croissant: bool | None) -> None:
    if captions and out is None:
        raise typer.BadParameter("--captions needs --out: a folder, or a file ending in .md")
    if captions and croissant:
        raise typer.BadParameter("--croissant describes a manifest's files; a caption file has none")
    if source and not captions:
        raise typer.BadParameter("--source goes with --captions")


def _make(
    data: Path, card_file: Path, notes: Notes, *, captions: str, source: str, with_croissant: bool
) -> tuple[Card, dict[Path, bytes]]:
    """Return the card and the content of each file, that of the card last: it is the one that people look for."""
    from curation.cards import captions_card, manifest_card
    from curation.croissant import CROISSANT_FILE, croissant_bytes
    from curation.datasets import read_collection
    from curation.manifest import manifest_folder

    contents = {}
    if captions:
        card = captions_card(read_collection(captions, data), data, notes, source=source)
    else:
        card = manifest_card(data, notes)
        if with_croissant:
            contents[manifest_folder(data) / CROISSANT_FILE] = croissant_bytes(data, card, notes)
    return card, contents | {card_file: card.text.encode()}


def _card_file(out: Path) -> Path:
    from curation.cards import CARD_FILE

    file = out if out.suffix == ".md" and not out.is_dir() else out / CARD_FILE
    if file.is_dir():
        raise ConfigError(f"{file}: a folder, expected a file or nothing")
    if file.parent.exists() and not file.parent.is_dir():
        raise ConfigError(f"{file.parent}: --out must be a folder, or a file ending in .md")
    return file


def _read_notes(card_file: Path, notes: Path | None) -> tuple[Path | None, Notes]:
    """Return the notes and where they were found; none where nobody named a file and none is in its place."""
    from curation.card_notes import NOTES_FILE, Notes, read_notes
    from curation.cards import CARD_FILE

    usual = card_file.parent / NOTES_FILE if card_file.name == CARD_FILE else card_file.with_suffix(".yaml")
    if notes is None and not usual.is_file():
        return None, Notes()
    file = notes or usual
    if not file.is_file():
        raise ConfigError(f"{file}: no such notes file")
    return file, read_notes(file)


def _check_own(file: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file that is not as this command wrote it.

    Raises:
        ConfigError: If it is someone else's, or edited since.
    """
    from curation.cards import MARK
    from curation.croissant import CROISSANT_FILE
    from curation.croissant import MARK as CROISSANT_MARK
    from curation.marks import is_signed, is_unchanged

    if file.is_dir():
        raise ConfigError(f"{file}: a folder, expected a file or nothing")
    if overwrite or not file.is_file():
        return
    content, mark = file.read_bytes(), CROISSANT_MARK if file.name == CROISSANT_FILE else MARK
    if not is_signed(content, mark):
        raise ConfigError(f"{file}: not written by wavtext5k-curate card; name another --out, or add --overwrite")
    if not is_unchanged(content, mark):
        raise ConfigError(
            f"{file}: edited since wavtext5k-curate card wrote it; move what was added into card.yaml, which stays, "
            "and add --overwrite; or name another --out"
        )
