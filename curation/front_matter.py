"""The YAML block on top of a data card, by which the Hugging Face Hub lists a data set and shows its table.

Values are checked here against the Hub's closed lists: its own library writes any nonsense, and its check needs the
network. Reads nothing, writes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml

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
)
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .:_+-]{0,63}")
_TAGS = ("audio", "sound-effects", "audio-text-retrieval", "audio-captioning", "clap")
_FROM_ANNOTATIONS = {"no-annotation": "found"}


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
    files: Mapping[str, str] | None = None,
    schema: pa.Schema | None = None,
) -> str:
    """Return the block, from "---" to "---".

    Args:
        name: As people call the data set.
        clips: How many there are.
        license_ids: The clips' licences, each with its name on the Hub, "" where the Hub has none.
        languages: Codes of the texts' languages.
        annotations: How the texts came about: found, crowdsourced, ...
        is_original: Whether it was collected here, not taken from another data set.
        has_labels: Whether clips have classes.
        tags: Beside those that every card has.
        files: Data file by configuration, the default one first, as a loader finds them beside the card.
        schema: Of the default configuration's table.

    Raises:
        ConfigError: If a value is none of those that the Hub knows.
    """
    block: dict[str, Any] = {"pretty_name": name, **_license(license_ids)}
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
            {"config_name": config, "data_files": file, **({"default": True} if config == default else {})}
            for config, file in files.items()
        ]
        if schema is not None:
            block["dataset_info"] = [{"config_name": default, "features": hub_features(schema)}]
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
