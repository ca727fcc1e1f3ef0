"""The data card of a manifest, or of a caption file alone: README.md, as the Hugging Face Hub and people read it.

Reads manifest.parquet, and beside it dropped.parquet, statistics.json and flags.parquet where they are. The prose is in
``templates/``, written by people; every number is counted when the card is written, so that a card cannot be right
about other data. What templates put out is made plain unless it is Markdown of our own (``curation.markdown``).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from curation import card_counts as counts
from curation.card_notes import TEMPLATES, Notes, facts, source_names
from curation.entries import Collection, Entry
from curation.errors import ConfigError, ManifestError
from curation.exports.policy import REDISTRIBUTABLE
from curation.front_matter import about_sources, front_matter, hub_features, hub_licenses
from curation.manifest import (
    DROPPED_FILE,
    FLAGS_FILE,
    MANIFEST_VERSION,
    REBUILD,
    SCHEMA,
    STATISTICS_FILE,
    manifest_file,
    manifest_folder,
    manifest_hash,
    read_dropped,
    read_flags,
    read_manifest,
)
from curation.markdown import Markdown, code, listing, shown
from curation.marks import BLANK, signed
from curation.text import LICENSE_NAMES

CARD_FILE = "README.md"
MARK = "<!-- Written by wavtext5k-curate card; the rest of this file had sha256 {} -->"
"""The line by which a card is known to be no one's own writing; see ``curation.marks``."""

_SPLITS = {"train": 0, "val": 1, "test": 2}
_MOST_COLUMNS = 4  # sources side by side in a table


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card and what it says in short."""

    text: str
    name: str
    clips: int
    summary: str
    """One sentence of plain text."""
    languages: Sequence[str]
    last_retrieved: str
    """Day, "" where none is recorded."""
    licenses: Mapping[str, int]
    """Clips by licence."""


def manifest_card(place: Path, notes: Notes) -> Card:
    """Return the card of a manifest named by its folder or file.

    Raises:
        ManifestError: If there is none, it breaks a rule, or a file beside it is of another build.
        ConfigError: If a note cannot go into a card.
    """
    frame = read_manifest(place).to_pandas()
    folder = manifest_folder(place)
    dropped = read_dropped(place).to_pandas() if (folder / DROPPED_FILE).is_file() else None
    flags = read_flags(place).to_pandas() if (folder / FLAGS_FILE).is_file() else None
    options = _options(folder / STATISTICS_FILE, clips=len(frame), dropped=dropped)
    lost = pd.DataFrame(columns=["source", "reason"]) if dropped is None else dropped
    sources = sorted({*frame["source"], *lost["source"]})
    files = {"default": manifest_file(place).name}
    if len(lost):
        files["dropped"] = DROPPED_FILE
    rows = [_source_row(source, frame, lost) for source in sources]
    context = {
        "file": manifest_file(place).name,
        "file_sha256": manifest_hash(place),
        "sources": rows,
        "sound": counts.sound_figures(frame),
        "crawled": any(row["first"] and row["about"] and row["about"]["kind"] == "site" for row in rows),
        "splits": sorted(counts.shares(frame, "split"), key=lambda share: (_SPLITS.get(share.name, 3), share.name)),
        "groups": counts.groups(frame),
        "both_sides": counts.texts_on_both_sides(frame),
        "may_share": _together(frame[frame["license"].isin(REDISTRIBUTABLE)]),
        "licenses": [(share, facts()["licenses"][share.name]) for share in counts.shares(frame, "license")],
        "authors": counts.authors(frame),
        "unnamed": int((frame["author"] == "").sum()),
        "samples": counts.samples(frame, REDISTRIBUTABLE),
        "rates": counts.counted(f"{rate:,} Hz" for rate in frame["source_sample_rate"]),
        "channels": counts.counted(map(str, frame["source_channels"])),
        "subtypes": counts.counted(frame["source_subtype"]),
        "modifications": counts.modifications(frame),
        "drops": None if dropped is None else _drop_rows(dropped),
        "flags": None if flags is None else _flag_rows(flags),
        "options": options,
    }
    return _card("manifest.md.j2", frame, sources, notes, context, files=files)


def captions_card(collection: Collection, file: Path, notes: Notes, *, source: str = "") -> Card:
    """Return the card of what a data set's text files say, without any sound.

    Args:
        collection: As a reader of ``curation.datasets`` gives it.
        file: What it was read from; a file is named in the card with its sha256.
        notes: What a person adds.
        source: Only clips of this source; "": of all.

    Raises:
        ConfigError: If there is no clip of that source, or a note cannot go into a card.
    """
    entries = [entry for entry in collection.entries if source in ("", entry.source)]
    if not entries:
        known = ", ".join(sorted({entry.source for entry in collection.entries})) or "none"
        raise ConfigError(f"{file}: no clip of source {source!r}; sources there: {known}")
    frame = _text_frame(entries)
    sources = sorted(set(frame["source"]))
    context = {
        "file": file.name or file.resolve().name,
        "file_sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "",
        "source": source,
        "left_out": len(collection.entries) - len(entries),
        "sources": [_source_row(name, frame, None) for name in sources],
        "reading": collection.notes,
        "licenses": counts.counted(frame["license"]),
        "has_unknown_licenses": bool((frame["license"] == "unknown").any()),
        "license_facts": facts()["licenses"],
    }
    return _card("captions.md.j2", frame, sources, notes, context)


def _card(
    template: str,
    frame: pd.DataFrame,
    sources: Sequence[str],
    notes: Notes,
    context: Mapping[str, Any],
    *,
    files: Mapping[str, str] | None = None,
) -> Card:
    known = [facts()["sources"].get(source) for source in sources]
    described = [found for found in known if found]
    licenses = counts.counted(frame["license"])
    names = source_names(sources)
    name = notes.name or " and ".join(names) or "Data set without clips"
    about = about_sources(sources)
    languages = notes.languages or about.languages
    front = front_matter(
        name=name,
        clips=len(frame),
        license_ids=hub_licenses(licenses),
        languages=languages,
        annotations=about.annotations,
        is_original=about.is_original,
        has_labels=bool(frame["labels"].map(len).any()),
        tags=notes.tags,
        files=files,
        features=hub_features(SCHEMA) if files else None,
    )
    figures = _side_by_side(frame, sources)
    text = (
        _environment()
        .get_template(template)
        .render(
            **context,
            front=Markdown(front),
            license_names=LICENSE_NAMES,
            redistributable=REDISTRIBUTABLE,
            mark=Markdown(MARK.format(BLANK)),
            name=name,
            source_names=names,
            kinds={found["kind"] if found else "own" for found in known},
            described=described,
            notes=notes,
            clips=len(frame),
            text=figures,
            published=_published(notes, [*(figure for figure, _ in figures["rows"]), *context.get("sound", [])]),
            versions={"manifest": MANIFEST_VERSION, "toolkit": _toolkit_version()},
        )
    )
    text = signed(re.sub(r"\n{3,}", "\n\n", text), MARK)  # where a part of the template had nothing to say
    summary = notes.summary or f"{len(frame)} sounds with the texts that describe them, from {', '.join(names)}."
    return Card(
        text=text,
        name=name,
        clips=len(frame),
        summary=" ".join(summary.split()),
        languages=languages,
        last_retrieved=counts.dates(frame)[1],
        licenses=licenses,
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # for HTML; see finalize
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"code": code, "listing": listing, "markdown": Markdown, "percent": _percent}
    return environment


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "0.0 %"


def _text_frame(entries: Sequence[Entry]) -> pd.DataFrame:
    columns = ("source", "title", "description", "tags", "captions", "labels", "license", "retrieved_at", "split")
    return pd.DataFrame(
        {name: pd.Series([getattr(entry, name) for entry in entries], dtype=object) for name in columns}
    )


def _source_row(source: str, frame: pd.DataFrame, dropped: pd.DataFrame | None) -> dict[str, Any]:
    part = frame[frame["source"] == source]
    first, last = counts.dates(part)
    row = {"source": source, "about": facts()["sources"].get(source), "clips": len(part), "first": first, "last": last}
    if dropped is None:
        return row
    lost = int((dropped["source"] == source).sum())
    return row | {"records": len(part) + lost, "dropped": lost, "hours": counts.hours(part["duration_s"])}


def _together(frame: pd.DataFrame) -> counts.Share:
    return counts.Share(name="", clips=len(frame), hours=counts.hours(frame["duration_s"]))


def _in_words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _drop_rows(dropped: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each reason with its records and what it means."""
    meanings = facts()["reasons"]
    return [
        {"reason": reason, "records": records, "meaning": meanings.get(reason, "not described")}
        for reason, records in counts.counted(dropped["reason"]).items()
    ]


def _flag_rows(flags: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each kind of flag with its rows, the clips in them, and what it means."""
    rows = []
    for flag, part in flags.groupby("flag"):
        clips = {*part["clip_id"], *part["other_clip_id"]} - {""}
        meaning = Markdown(facts()["flags"].get(flag, "not described"))
        rows.append({"flag": str(flag), "rows": len(part), "clips": len(clips), "meaning": meaning})
    return rows


def _side_by_side(frame: pd.DataFrame, sources: Sequence[str]) -> dict[str, Any]:
    """Return the text figures: of all clips, and beside them of each source where there are a few."""
    columns = [counts.text_figures(frame)]
    has_columns = 1 < len(sources) <= _MOST_COLUMNS
    if has_columns:
        columns += [counts.text_figures(frame[frame["source"] == source]) for source in sources]
    values = [{figure.key: figure.value for figure in column} for column in columns]
    return {
        "heads": ["all", *source_names(sources)] if has_columns else [],
        "rows": [(figure, [column.get(figure.key, 0) for column in values]) for figure in columns[0]],
    }


def _published(notes: Notes, figures: Sequence[counts.Figure]) -> list[dict[str, Any]]:
    """Return what was printed beside what was counted; nothing was where the figure needs sound that is not there.

    Raises:
        ConfigError: If a note names a figure that no card has.
    """
    found: dict[str, float] = {"captions": 0} | {figure.key: figure.value for figure in figures}
    for item in notes.published:
        if item.figure and item.figure not in counts.FIGURES:
            raise ConfigError(f"notes: published: figure {item.figure!r} is not one of {', '.join(counts.FIGURES)}")
    return [
        {"note": item, "here": found.get(item.figure), "verdict": item.verdict(found.get(item.figure))}
        for item in notes.published
    ]


def _options(file: Path, *, clips: int, dropped: pd.DataFrame | None) -> dict[str, str]:
    """Return the options of a build as its statistics.json has them, in words; {} where there is none.

    Raises:
        ManifestError: If it is not JSON of a build, or of another build than the manifest beside it.
    """
    if not file.is_file():
        return {}
    try:
        statistics = json.loads(file.read_bytes())
        said = statistics["clips"], sum(statistics["dropped"].values())
        options = dict(statistics.get("options", {}))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ManifestError(f"{file}: not the counts of a build ({error!r}); {REBUILD}") from error
    found = clips, said[1] if dropped is None else len(dropped)
    if said != found:
        raise ManifestError(
            f"{file}: counts {said[0]} clips and {said[1]} dropped, the tables beside it hold {found[0]} and "
            f"{found[1]}: they are of two builds; {REBUILD}"
        )
    return {str(name): _in_words(value) for name, value in options.items()}


def _toolkit_version() -> str:
    from importlib.metadata import version

    return version("wavtext5k")
