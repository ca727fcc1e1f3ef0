"""Reads MACS (Martín-Morató and Mesaros 2021, doi.org/10.5281/zenodo.5114771) into entries.

3,930 clips of TAU Urban Acoustic Scenes 2019 (10 s, airport, park, public square) with 2 to 5 captions each, 17,275 in
all. MACS publishes no split, and its clips are cut from longer recordings: a split by hash would put parts of one
recording on both sides, so all of it is train. Captions come by their annotator's estimated competence, the best first,
where the file of competences is there; else as in MACS.yaml. Written from the published description of the format: no
file of MACS was at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curation.datasets.places import Sounds, is_file_name, sounds_under, title_of, wrong_layout
from curation.datasets.tables import read_table, read_text
from curation.entries import Collection, Entry
from curation.errors import ManifestError
from curation.text import clean_tags, clean_text

LAYOUT = """\
MACS.yaml                files: [{filename, annotations: [{annotator_id, sentence, tags: [...]}]}]
MACS_competence.csv      tab between annotator_id and competence, 0 to 1 (optional)
<any folders>/*.wav      the development set of TAU Urban Acoustic Scenes 2019, as its parts unpack
                         (TAU-urban-acoustic-scenes-2019-development/audio), or only the files that MACS names
or as aac-datasets lays it out: MACS/MACS.yaml and MACS/audio/*.wav; or MACS.yaml alone: text only
"""

PUBLISHED = 3930
"""Clips."""

_DEEPEST = 20  # nested lists and dictionaries; MACS.yaml has 5
_LICENSE_PAGE = "https://zenodo.org/records/2589280"  # TAU's own terms: research and non-commercial


def read(place: Path, *, audio: Path | None) -> Collection:
    """Return MACS's clips; a clip whose audio is not there has the audio_file where it should be.

    Args:
        place: The folder as LAYOUT has it, or MACS.yaml.
        audio: The folder in and under which the audio lies, if not the same.

    Raises:
        ManifestError: If files are missing or not as documented; names the file and the clip.
    """
    table = _captions_file(place)
    root = audio if audio is not None else (place if place.is_dir() else None)
    sounds = sounds_under(root)
    competences = _read_competences(table.with_name("MACS_competence.csv"))
    entries: dict[str, Entry] = {}
    for number, item in enumerate(_read_items(table)):
        entry = _entry(item, competences, sounds, where=f"{table}: files[{number}]")
        if entry.source_id in entries:
            raise ManifestError(f"{table}: files[{number}]: {entry.source_id} stands there twice")
        entries[entry.source_id] = entry
    notes = ["MACS has no split: all of it is train", f"the audio has its own terms: {_LICENSE_PAGE}"]
    if len(entries) != PUBLISHED:
        notes.append(f"{len(entries)} clips; as published: {PUBLISHED}")
    if not competences:
        notes.append("no MACS_competence.csv: captions are in the order of MACS.yaml")
    return Collection(entries=list(entries.values()), root=root, keep_duplicates=True, notes=notes)


def _captions_file(place: Path) -> Path:
    if place.is_file():
        return place
    for file in (place / "MACS.yaml", place / "MACS" / "MACS.yaml"):
        if file.is_file():
            return file
    raise wrong_layout(place, "no MACS.yaml", LAYOUT)


def _read_items(file: Path) -> list[Any]:
    content = _read_yaml(file)
    items = content.get("files") if isinstance(content, dict) else None
    if not isinstance(items, list):
        raise wrong_layout(file, "no list under files", LAYOUT)
    return items


def _read_yaml(file: Path) -> Any:
    """Return lists, dictionaries and texts; every scalar stays a text, a caption "No" too.

    Built here from the parser's events: six times as fast as PyYAML's loaders, which also end the process at a hundred
    thousand nested lists.
    """
    import yaml

    text = read_text(file)
    opened: list[list[Any]] = [[]]  # the collections around the next event, each with what it holds so far
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader)):
            if isinstance(event, yaml.AliasEvent) or len(opened) > _DEEPEST:
                break
            if isinstance(event, yaml.ScalarEvent):
                opened[-1].append(event.value)
            elif isinstance(event, yaml.CollectionStartEvent):
                opened.append([])
            elif isinstance(event, yaml.CollectionEndEvent):
                held = opened.pop()
                is_list = isinstance(event, yaml.SequenceEndEvent)
                opened[-1].append(held if is_list else dict(zip(held[::2], held[1::2], strict=True)))
        else:
            return opened[0][0] if opened[0] else None
    except yaml.MarkedYAMLError as error:
        line = f": line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ManifestError(f"{file}{line}: not YAML ({error.problem})") from error
    except (yaml.YAMLError, TypeError) as error:  # TypeError: a list as a key
        raise ManifestError(f"{file}: not YAML that can be read ({error})") from error
    raise ManifestError(f"{file}: aliases, or lists in lists in lists, which MACS.yaml has not")


def _read_competences(file: Path) -> dict[str, float]:
    """Return each annotator's estimated competence, 0 to 1; none if there is no such file."""
    if not file.is_file():
        return {}
    competences = {}
    for line, row in read_table(file, required=["competence"], delimiter="\t"):
        annotator = row.get("annotator_id", row.get("id", ""))  # the paper's page calls the column id
        try:
            competences[annotator.strip()] = float(row["competence"])
        except ValueError as error:
            raise ManifestError(
                f"{file}: line {line}: competence is {row['competence']!r}, must be a number from 0 to 1"
            ) from error
    return competences


def _entry(item: Any, competences: Mapping[str, float], sounds: Sounds, *, where: str) -> Entry:
    name = _text(item, "filename", where)
    if not is_file_name(name):
        raise ManifestError(f"{where}: filename is {name!r}, must be the name of a file")
    annotations = item.get("annotations")
    if not isinstance(annotations, list):
        raise ManifestError(f"{where} ({name}): annotations must be a list, found {type(annotations).__name__}")
    where = f"{where} ({name}): annotations"
    annotations = sorted(
        annotations, key=lambda found: competences.get(_text(found, "annotator_id", where), 0.0), reverse=True
    )
    captions = (clean_text(_text(annotation, "sentence", where)) for annotation in annotations)
    stem = title_of(name)
    return Entry(
        source="macs",
        source_id=name,
        origin="tau_urban_2019",
        origin_id=stem,
        tags=tuple(clean_tags(tag for annotation in annotations for tag in _tags(annotation, where))),
        captions=tuple(filter(None, captions)),
        license_url=_LICENSE_PAGE,
        split="train",
        audio_file=sounds.find(stem) or f"audio/{name}",
    )


def _text(item: Any, key: str, where: str) -> str:
    value = item.get(key) if isinstance(item, dict) else None
    if not isinstance(value, str):
        raise ManifestError(f"{where}: {key} is missing or not a text; expected as in:\n{LAYOUT.rstrip()}")
    return value


def _tags(annotation: Mapping[str, Any], where: str) -> list[str]:
    tags = annotation.get("tags") or []  # an annotator may give none
    if not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise ManifestError(f"{where}: tags must be a list of texts, found {tags!r:.80}")
    return tags
