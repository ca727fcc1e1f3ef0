"""What a person adds to a data card: notes beside the data, in YAML, that regenerating the card keeps; and facts.yaml.

``card.yaml`` in the manifest's folder, or the file that ``--notes`` names, holds the keys of Notes; texts in it are
Markdown and go into the card as they are. ``templates/facts.yaml`` is the same for what is known of licences, reasons
and sources. Numbers of the data are in neither: they are counted.
"""

from __future__ import annotations

import datetime
import difflib
import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import yaml

from curation.errors import ConfigError

NOTES_FILE = "card.yaml"
TEMPLATES = Path(__file__).with_name("templates")

_VERSION = re.compile(r"\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_URL = re.compile(r"https?://\S+")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMBER = re.compile(r"-?[0-9][0-9,]{0,18}(\.[0-9]{1,6})?")  # more digits than Decimal can round are no figure


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFigure:
    """A number that was printed somewhere, to be compared with what is counted here."""

    figure: str
    """Key of a Figure (``curation.card_counts``); "" for one that cannot be counted here."""
    what: str
    printed: str
    where: str
    remark: str = ""

    def verdict(self, value: float | None) -> str:
        """Return whether a count, rounded as the printed number is, equals it."""
        if value is None:
            return "cannot be counted from this"
        printed = Decimal(self.printed.replace(",", ""))
        rounded = Decimal(repr(value)).quantize(Decimal(1).scaleb(printed.as_tuple().exponent), ROUND_HALF_EVEN)  # type: ignore[arg-type]
        return "the same" if rounded == printed else "not the same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What a person says of a data set; all of it may be left out."""

    name: str = ""
    version: str = ""
    """Of the data set: 1.0.0."""
    date_published: str = ""
    """2026-01-31."""
    url: str = ""
    contact: str = ""
    """Where to write about a clip that should go: a mail address, an address of issues."""
    publisher: str = ""
    languages: tuple[str, ...] = ()
    """Two or three letters each. Default: those of the sources."""
    tags: tuple[str, ...] = ()
    """For the Hub, beside those that every card has."""
    summary: str = ""
    """What it is, in a sentence or two."""
    collection: str = ""
    """How it was collected, beside what the data tell."""
    biases: tuple[str, ...] = ()
    not_for: tuple[str, ...] = ()
    overlaps: tuple[str, ...] = ()
    citation: str = ""
    """BibTeX, before the paper's and the toolkit's."""
    sections: Mapping[str, str] = field(default_factory=dict)
    """Further sections: Markdown by heading."""
    published: tuple[PublishedFigure, ...] = ()


def read_notes(file: Path) -> Notes:
    """Return the notes in a file.

    Raises:
        ConfigError: If it is not YAML, or a key or a value of it is none of Notes; names the key.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text ({error})") from error
    try:
        values = yaml.load(text, Loader=_TextLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return Notes()
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: must hold keys such as 'summary:', found {type(values).__name__}")
    known = {field.name: field for field in fields(Notes)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{file}: unknown key {key!r}{hint} Known: {', '.join(known)}")
        _check_unicode(f"{file}: {key}", values[key])
    return Notes(**{key: _value(file, key, value) for key, value in values.items()})


@functools.cache
def facts() -> Mapping[str, Any]:
    """Return what templates/facts.yaml says: licenses, reasons, flags, sources."""
    content: dict[str, Any] = yaml.safe_load((TEMPLATES / "facts.yaml").read_text(encoding="utf-8"))
    return content


def source_names(sources: Iterable[str]) -> list[str]:
    """Return what people call sources; those that nobody described go by their own name."""
    return [facts()["sources"].get(source, {"name": source})["name"] for source in sources]


class _TextLoader(yaml.SafeLoader):
    """Reads plain scalars as the text that stands there: 1.10 is no number, 2026-01-31 no date, "no" no Boolean."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands twice, of which YAML would take the last in silence."""
        keys = [key.value for key, _ in node.value]
        if repeated := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"key {repeated[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _value(file: Path, key: str, value: Any) -> Any:
    where = f"{file}: {key}"
    if key == "published":
        return tuple(_published(where, item) for item in _listed(where, value))
    if key == "sections":
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in [*value, *value.values()]):
            raise ConfigError(f"{where} must be texts by heading, such as 'Maintenance: Once a year.', got {value!r}")
        return value
    if isinstance(getattr(Notes(), key), tuple):
        texts = _listed(where, value)
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise ConfigError(f"{where} must be a list of texts, got {value!r}; quote a text that has ': ' in it")
        if key == "languages" and not all(_LANGUAGE.fullmatch(text) for text in texts):
            raise ConfigError(f"{where} must be codes of two or three letters, such as en, got {value!r}")
        return tuple(texts)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigError(f"{where} must be a text, got {value!r}; quote a text that has ': ' in it")
    _check_text(where, key, value)
    return value.strip()


def _check_text(where: str, key: str, value: str) -> None:
    if key == "version" and not _VERSION.fullmatch(value):
        raise ConfigError(f"{where} must be a semantic version such as 1.0.0, got {value!r}")
    if key == "url" and not _URL.fullmatch(value):
        raise ConfigError(f"{where} must be an http or https address, got {value!r}")
    if key == "date_published" and not _is_day(value):
        raise ConfigError(f"{where} must be a day such as 2026-01-31, got {value!r}")
    if key == "name" and ("\n" in value.strip() or not value.strip()):
        raise ConfigError(f"{where} must be one line, got {value!r}")


def _is_day(text: str) -> bool:
    try:
        return bool(_DAY.fullmatch(text) and datetime.date.fromisoformat(text))
    except ValueError:
        return False


def _check_unicode(where: str, value: Any) -> None:
    """Refuse half a character, which YAML can write ("\\ud800") and a file cannot hold."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{where}: not Unicode text: {error.object[error.start]!r} is half a character") from error


def _published(where: str, item: Any) -> PublishedFigure:
    names = [field.name for field in fields(PublishedFigure)]
    if not isinstance(item, dict) or not set(item) <= set(names) or not {"what", "printed", "where"} <= set(item):
        raise ConfigError(f"{where}: each must have what, printed and where, and may have figure, remark; got {item!r}")
    if not all(isinstance(text, str) for text in item.values()):
        raise ConfigError(f"{where}: values must be texts, got {item!r}")
    if not _NUMBER.fullmatch(item["printed"]):
        raise ConfigError(f"{where}: printed must be a number such as 4,525 or 12.50, got {item['printed']!r}")
    return PublishedFigure(**({"figure": ""} | item))


def _listed(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"{where} must be a list, got {value!r}")
    return value
