"""Croissant 1.1 metadata (JSON-LD) of a manifest: what Google Dataset Search, mlcroissant and others read.

Describes manifest.parquet, dropped.parquet and the FLAC files that lie beside croissant.json; every column is a field.
The records of ``clips`` are the manifest's rows; ``sounds`` joins each row with the content of its file. mlcroissant
1.1.1 validates both and reads ``clips``; it has no reader of FLAC, so ``sounds`` is for those that have. Made of plain
dictionaries because mlcroissant weighs 343 MB; it judges the result in the tests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.card_notes import Notes, facts
from curation.cards import Card
from curation.manifest import DROPPED_FILE, DROPPED_SCHEMA, MANIFEST_VERSION, SCHEMA, manifest_file, manifest_folder
from curation.marks import BLANK, signed
from curation.text import LICENSE_NAMES

CROISSANT_FILE = "croissant.json"
_WRITTEN = "written by wavtext5k-curate card; the rest of this file had sha256 {}"
MARK = f'"identifier": "{_WRITTEN}",'
"""The line by which a file is known to be no one's own writing; see ``curation.marks``."""

_CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
_MANIFEST, _DROPPED = "manifest-table", "dropped-table"  # an @id is of one thing only, and "dropped" are records
_PAPER = "Deshmukh, Elizalde, Wang: Audio Retrieval with WavText5K and CLAP Training, 2022, arXiv:2209.14275"
_TYPES = {
    pa.string(): "sc:Text",
    pa.int16(): "cr:Int16",
    pa.int32(): "cr:Int32",
    pa.int64(): "cr:Int64",
    pa.float32(): "cr:Float32",
    pa.float64(): "cr:Float64",
}
_CR_TERMS = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileProperty fileObject fileSet format "
    "includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
    "samplingRate separator source subField transform"
)
# The standard's own @context, word for word: readers compare it.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{term: f"cr:{term}" for term in _CR_TERMS.split()},
}


def croissant_bytes(place: Path, card: Card, notes: Notes) -> bytes:
    """Return the content of croissant.json for a manifest named by its folder or file.

    Args:
        place: The manifest; croissant.json is to lie beside it.
        card: The card of the same manifest.
        notes: What a person adds: version, url, date_published, publisher, citation.

    Raises:
        ConfigError: If a name is not Unicode text.
    """
    folder = manifest_folder(place)
    has_dropped = (folder / DROPPED_FILE).is_file()
    manifest = _file_object(_MANIFEST, manifest_file(place), f"one row a clip, manifest version {MANIFEST_VERSION}")
    files = [manifest, _AUDIO]
    records = [_record_set("clips", "The clips.", _MANIFEST, SCHEMA), _SOUNDS]
    if has_dropped:
        files.append(_file_object(_DROPPED, folder / DROPPED_FILE, "one row a record that is not a clip"))
        records.append(_record_set("dropped", "What was left out, and why.", _DROPPED, DROPPED_SCHEMA))
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _CONFORMS_TO,
        "identifier": _WRITTEN.format(BLANK),
        "name": card.name,
        "description": card.summary,
        "url": notes.url,
        "version": notes.version or f"1.0.0+{manifest['sha256'][:12]}",
        # Readers want a day; until someone publishes it, the one on which the last clip was stored stands for it.
        "datePublished": notes.date_published or card.last_retrieved,
        "inLanguage": list(card.languages),
        "license": _licenses(list(card.licenses)),
        "citeAs": notes.citation or _PAPER,
        "keywords": ["audio", "sound effects", "audio-text retrieval", "captions", *notes.tags],
        "publisher": {"@type": "sc:Organization", "name": notes.publisher} if notes.publisher else None,
        "distribution": files,
        "recordSet": records,
    }
    said = {key: value for key, value in document.items() if value}
    return signed(json.dumps(said, ensure_ascii=False, indent=1) + "\n", MARK).encode()


def _licenses(license_ids: Sequence[str]) -> list[str]:
    about = facts()["licenses"]
    return [about[license_id]["url"] or LICENSE_NAMES[license_id] for license_id in license_ids]


def _file_object(key: str, file: Path, what: str) -> dict[str, Any]:
    content = file.read_bytes()
    return {
        "@type": "cr:FileObject",
        "@id": key,
        "name": file.name,
        "description": what,
        "contentUrl": file.name,
        "contentSize": f"{len(content)} B",
        "encodingFormat": "application/x-parquet",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _record_set(key: str, what: str, file: str, schema: pa.Schema) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": key,
        "name": key,
        "description": what,
        "key": {"@id": f"{key}/clip_id"},
        "field": [_column(f"{key}/{field.name}", field, file) for field in schema],
    }


def _column(key: str, field: pa.Field, file: str) -> dict[str, Any]:
    is_list = pa.types.is_list(field.type)
    return {
        "@type": "cr:Field",
        "@id": key,
        "name": field.name,
        "description": _MEANINGS[field.name],
        "dataType": _TYPES[field.type.value_type if is_list else field.type],
        **({"isArray": True, "arrayShape": "-1"} if is_list else {}),
        "source": {"fileObject": {"@id": file}, "extract": {"column": field.name}},
    }


def _field(key: str, data_type: str, source: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    name = key.split("/")[1]
    return {"@type": "cr:Field", "@id": key, "name": name, "dataType": data_type, "source": source, **more}


_MEANINGS = {
    "clip_id": "Name of the clip, unique.",
    "source": "Site or data set.",
    "source_id": "The clip's own key there.",
    "origin": "Where the recording itself comes from; empty where not known.",
    "origin_id": "Its key there.",
    "page_url": "The clip's page; empty where there is none.",
    "audio_url": "Where the audio was fetched.",
    "retrieved_at": "When it was stored, UTC, ISO 8601.",
    "title": "Cleaned; empty where there is none.",
    "description": "Cleaned; empty where there is none.",
    "tags": "Lower case, each once, in page order.",
    "captions": "What human annotators wrote; empty for crawled clips.",
    "labels": "Classes of a classification set; empty elsewhere.",
    "fold": "Its cross-validation fold; -1 elsewhere.",
    "author": "As the source names the author.",
    "license": "The clip's licence, of a closed list.",
    "license_url": "Address of the licence's text.",
    "attribution": "A ready line that credits the clip.",
    "audio_path": "The clip's file, relative to manifest.parquet.",
    "sha256": "Of that file.",
    "pcm_sha256": "Of the decoded source's samples.",
    "duplicate_group": "The same for clips that are one recording: the clip_id of the first.",
    "sample_rate": "Hz.",
    "num_samples": "Per channel.",
    "duration_s": "Seconds.",
    "peak_dbfs": "dB re full scale, after resampling.",
    "rms_dbfs": "dB re full scale, after resampling.",
    "source_sample_rate": "Hz, as served.",
    "source_channels": "As served.",
    "source_subtype": "Encoding, as served.",
    "modifications": "What was done to the sound, in order.",
    "split": "train, val or test, or the data set's own name for one.",
    "reason": "Why the record is not a clip, of a closed list.",
    "detail": "What was found.",
}

_AUDIO = {
    "@type": "cr:FileSet",
    "@id": "audio",
    "name": "audio",
    "description": "One file a clip: mono, 44.1 kHz.",
    "encodingFormat": "audio/flac",
    "includes": "audio/*.flac",
}

_SOUNDS = {
    "@type": "cr:RecordSet",
    "@id": "sounds",
    "name": "sounds",
    "description": "The clips with the content of their files.",
    "key": {"@id": "sounds/clip_id"},
    "field": [
        _field("sounds/clip_id", "sc:Text", {"fileObject": {"@id": _MANIFEST}, "extract": {"column": "clip_id"}}),
        _field(
            "sounds/audio_path",
            "sc:Text",
            # The pattern makes text of a path, which readers could not compare with the column.
            {"fileSet": {"@id": "audio"}, "extract": {"fileProperty": "fullpath"}, "transform": {"regex": "(.+)"}},
            references={"fileObject": {"@id": _MANIFEST}, "extract": {"column": "audio_path"}},
        ),
        _field("sounds/audio", "sc:AudioObject", {"fileSet": {"@id": "audio"}, "extract": {"fileProperty": "content"}}),
    ],
}
