"""The YAML block on top of README.md, by which the Hugging Face Hub lists a data set and shows its table.

One for data cards and for exports. Values are checked here against the Hub's closed lists: its own library writes any
nonsense, and its check needs the network. What is known of licences and sources is in ``templates/facts.yaml``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import yaml

from curation.card_notes import facts
from curation.errors import ConfigError

_ALLOWED = {
    "license": "cc0-1.0 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-nc-3.0 cc-by-nc-4.0 mit other unknown",
    "task_categories": "text-to-audio audio-classification audio-text-to-text feature-extraction text-retrieval other",
    "annotations_creators": "crowdsourced found expert-generated machine-generated no-annotation other",
    "language_creators": "crowdsourced found expert-generated machine-generated other",
    "source_datasets": "original extended",
}
_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
    (10**10, "1B<n<10B"),
    (10**11, "10B<n<100B"),
    (10**12, "100B<n<1T"),
)
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .:_+-]{0,63}")
_TAGS = ("audio", "sound-effects", "audio-text-retrieval", "audio-captioning", "clap")
_FROM_ANNOTATIONS = {"no-annotation": "found"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutSources:
    """What is known of the sources of a data set, all together."""

    languages: tuple[str, ...]
    annotations: tuple[str, ...]
    """How their texts came about: found, crowdsourced, ..."""
    is_original: bool
    """No source is a data set that others published."""


def about_sources(sources: Iterable[str]) -> AboutSources:
    """Return what templates/facts.yaml says of sources; one that is not there is its owner's files."""
    known = [facts()["sources"].get(source) for source in sources]
    return AboutSources(
        languages=tuple(sorted({language for about in known if about for language in about["languages"]})),
        annotations=tuple(sorted({about["annotations"] if about else "other" for about in known})),
        is_original=all(about is None or about["kind"] == "site" for about in known),
    )


def hub_licenses(license_ids: Iterable[str]) -> dict[str, str]:
    """Return licences, each with its name on the Hub, "" where the Hub has none."""
    return {license_id: facts()["licenses"][license_id]["hub"] for license_id in license_ids}


def front_matter(
    *,
    name: str,
    clips: int,
    license_ids: Mapping[str, str],
    languages: Sequence[str],
    annotations: Sequence[str],
    is_original: bool,
    has_labels: bool,
    tags: Sequence[str] = (),
    files: Mapping[str, str | Sequence[Mapping[str, str]]] | None = None,
    features: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Return the block, from "---" to "---".

    Args:
        name: As people call the data set.
        clips: How many there are.
        license_ids: The clips' licences, as ``hub_licenses`` gives them.
        languages: Codes of the texts' languages.
        annotations: How the texts came about: found, crowdsourced, ...
        is_original: Whether it was collected here, not taken from another data set.
        has_labels: Whether clips have classes.
        tags: Beside those that every card has.
        files: Data files by configuration, the default one first, as a loader finds them beside the card: one file, or
            a "path" for each "split".
        features: Columns of the default configuration, for readers that cannot tell them from the files.

    Raises:
        ConfigError: If a value is none of those that the Hub knows.
    """
    block: dict[str, Any] = {"pretty_name": name, **_license(license_ids)}
    if languages:
        block["language"] = list(languages)
    block["task_categories"] = ["text-to-audio", *(["audio-classification"] if has_labels else [])]
    block["size_categories"] = [next((size for most, size in _SIZES if clips < most), "n>1T")]
    block["source_datasets"] = ["original" if is_original else "extended"]
    block["annotations_creators"] = sorted(set(annotations))
    block["language_creators"] = sorted({_FROM_ANNOTATIONS.get(made, made) for made in annotations})
    block["tags"] = list(dict.fromkeys([*_TAGS, *tags]))
    if files:
        default = next(iter(files))
        block["configs"] = [
            {"config_name": config, "data_files": found, **({"default": True} if config == default else {})}
            for config, found in files.items()
        ]
        if features is not None:
            block["dataset_info"] = [{"config_name": default, "features": list(features)}]
    _check(block)
    return f"---\n{yaml.safe_dump(block, sort_keys=False, allow_unicode=True, width=110)}---\n"


def hub_features(schema: pa.Schema) -> list[dict[str, str]]:
    """Return a table's columns as ``dataset_info`` lists them, from its own "huggingface" metadata."""
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    return [
        {"name": name, "list": kind["feature"]["dtype"]}
        if kind["_type"] == "List"
        else {"name": name, "dtype": kind.get("dtype", kind["_type"].lower())}
        for name, kind in features.items()
    ]


def _license(license_ids: Mapping[str, str]) -> dict[str, str]:
    if len(license_ids) != 1:
        return {"license": "other", "license_name": "mixed-see-each-clip"} if license_ids else {"license": "unknown"}
    ((license_id, hub),) = license_ids.items()
    return {"license": hub} if hub else {"license": "other", "license_name": license_id}


def _check(block: Mapping[str, Any]) -> None:
    for key, allowed in _ALLOWED.items():
        values = block[key] if isinstance(block[key], list) else [block[key]]
        for value in values:
            if value not in allowed.split():
                raise ConfigError(f"card: {key} is {value!r}, the Hub knows: {allowed.replace(' ', ', ')}")
    for tag in block["tags"]:
        if not _TAG.fullmatch(tag):
            raise ConfigError(f"card: tag {tag!r} must be letters, digits, spaces and . : _ + -, at most 64")
