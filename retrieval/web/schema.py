"""The API in words of its own: an OpenAPI 3.1 document, its parameters made from the table that reads them.

Answers are described here and built in ``api``; a test checks each answer against its schema, which allow nothing
that is not named.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from retrieval.web.forms import FILTER_NAMES, MOST_SECONDS, MOST_VALUES, PARAMETERS, Parameter

SOUND_NAMES = (*FILTER_NAMES, "top")
"""Parameters of an upload, whose question is the sound."""

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_COSINE: Json = {"type": "number", "minimum": -1.001, "maximum": 1.001, "description": "Cosine similarity."}
_SECONDS: Json = {"type": "number", "minimum": 0}


def _object(description: str, /, **properties: Json) -> Json:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _counts(description: str) -> Json:
    return {"type": "object", "description": description, "additionalProperties": _COUNT}


SCHEMAS: Json = {
    "Clip": _object(
        "A clip of the index. Texts are as its source gives them, untrusted; a missing one is empty.",
        key=_TEXT | {"description": "Its name in this index, for addresses."},
        clip_id=_TEXT,
        source=_TEXT,
        source_id=_TEXT | {"description": "Its source's own key for it; of an imported folder, the file."},
        name=_TEXT | {"description": "What to call it: title, else first caption, else its clip_id."},
        title=_TEXT,
        description=_TEXT,
        captions=_list(_TEXT),
        tags=_list(_TEXT),
        author=_TEXT,
        license=_TEXT | {"description": "One of the project's identifiers of licences."},
        license_url=_TEXT | {"description": "By http or https, or empty."},
        attribution=_TEXT | {"description": "A line that gives credit."},
        page_url=_TEXT | {"description": "Where it comes from, by http or https, or empty."},
        duration_s=_SECONDS,
        split=_TEXT,
        has_audio={"type": "boolean", "description": "Whether its file is still there."},
        page=_TEXT | {"description": "Address of its page, like those below relative to this server."},
        audio=_TEXT | {"description": "Address of its FLAC, which answers range requests."},
        thumbnail=_TEXT | {"description": "Address of a PNG: waveform above, spectrogram below."},
    ),
    "Hit": _object("A clip found.", rank={"type": "integer", "minimum": 1}, score=_COSINE, clip=_ref("Clip")),
    "Word": _object(
        "A text of the index that fits a sound.",
        rank={"type": "integer", "minimum": 1},
        score=_COSINE,
        text=_TEXT,
        count=_COUNT | {"description": "Clips that have it."},
        key=_TEXT | {"description": "Key of the first of them."},
    ),
    "Results": _object(
        "Clips found, best first.",
        total=_COUNT | {"description": "Clips that pass the filters, all of them ranked."},
        hits=_list(_ref("Hit")),
        words=_list(_ref("Word")) | {"description": "For an uploaded sound; else empty."},
        notes=_list(_TEXT) | {"description": "What to know of this search."},
        next={"type": ["string", "null"], "description": "Address of the next page of results."},
    ),
    "Uploaded": _object(
        "An uploaded sound, and the clips like it.",
        token=_TEXT | {"description": "Names it in later searches (sound=), until others have taken its place."},
        name=_TEXT,
        duration_s=_SECONDS,
        results=_ref("Results"),
    ),
    "Index": _object(
        "What the index holds; counts are of clips, most first.",
        clips=_COUNT,
        embed_dim=_COUNT,
        model_sha256=_TEXT,
        total_s=_SECONDS,
        longest_s=_SECONDS,
        sources=_counts("By source."),
        licenses=_counts("By licence."),
        splits=_counts("By split."),
        tags=_counts("By tag, the most common ones."),
        changed=_list(_TEXT) | {"description": "A sentence for each manifest that has changed since."},
    ),
    "Error": _object("Why there is no answer.", error=_TEXT),
}


_EXAMPLES: dict[str, Callable[[str], Any]] = {
    "text": str,
    "texts": lambda value: [value],
    "seconds": float,
    "whole": int,
}
"""By kind of parameter, what makes its example of the schema's type."""


def parameter_schema(parameter: Parameter) -> Json:
    """Return the JSON schema of a parameter's value."""
    if parameter.kind == "text":
        return {"type": "string", "minLength": 1, "maxLength": parameter.most}
    if parameter.kind == "texts":
        return {"type": "array", "maxItems": MOST_VALUES, "items": {"type": "string", "maxLength": parameter.most}}
    if parameter.kind == "seconds":
        return {"type": "number", "minimum": 0, "exclusiveMaximum": MOST_SECONDS}
    return {"type": "integer", "minimum": 1, "maximum": parameter.most, "default": parameter.default}


def openapi() -> Json:
    """Return the document."""
    search = [_parameter(parameter) for parameter in PARAMETERS]
    filters = [_parameter(parameter) for parameter in PARAMETERS if parameter.name in SOUND_NAMES]
    key = {"name": "key", "in": "path", "required": True, "schema": _TEXT, "description": "Key of the clip."}
    binary: Json = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
    form = {"type": "object", "properties": {"sound": {"type": "string", "format": "binary"}}, "required": ["sound"]}
    body = {
        "required": True,
        "description": "The file as a form's field, or bare.",
        "content": {"multipart/form-data": {"schema": form}, "audio/*": binary, "application/octet-stream": binary},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "WavText5K search",
            "version": version("wavtext5k"),
            "description": "Finds the clips of one index by a text, a sound or a clip.",
        },
        "paths": {
            "/api/search": {"get": _operation("search", "Rank clips for one of q, like and sound.", "Results", search)},
            "/api/sound": {
                "post": _operation("sound", "Upload a sound and rank clips for it.", "Uploaded", filters)
                | {"requestBody": body}
            },
            "/api/clips/{key}": {"get": _operation("clip", "Return one clip.", "Clip", [key])},
            "/api/index": {"get": _operation("index", "Return what the index holds.", "Index", [])},
            "/clip/{key}/audio.flac": {
                "get": _file("audio", "Return a clip's FLAC, whole or in ranges.", "audio/flac", key, has_ranges=True)
            },
            "/clip/{key}/thumbnail.png": {
                "get": _file("thumbnail", "Return a picture of a clip's sound.", "image/png", key)
            },
        },
        "components": {"schemas": SCHEMAS},
    }


def _parameter(parameter: Parameter) -> Json:
    documented: Json = {
        "name": parameter.name,
        "in": "query",
        "description": parameter.summary,
        "schema": parameter_schema(parameter),
        "example": _EXAMPLES[parameter.kind](parameter.example),
    }
    return documented | ({"style": "form", "explode": True} if parameter.kind == "texts" else {})


def _operation(name: str, summary: str, answer: str, parameters: list[Json]) -> Json:
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": SCHEMAS[answer]["description"], "content": _json(answer)},
            "default": {"description": "An error, with a fitting status.", "content": _json("Error")},
        },
    }


def _file(name: str, summary: str, media_type: str, key: Json, *, has_ranges: bool = False) -> Json:
    """Return an operation that answers with a file; its errors are pages, as the address is one of the page's."""
    ranges = {
        "206": {"description": "The ranges asked for.", "content": {media_type: {}, "multipart/byteranges": {}}},
        "416": {"description": "The file ends before the ranges begin.", "content": {"text/plain": {}}},
    }
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [key],
        "responses": {
            "200": {"description": "The file.", "content": {media_type: {}}},
            "304": {"description": "The client has it already: If-None-Match or If-Modified-Since was right."},
            **(ranges if has_ranges else {}),
            "default": {"description": "An error, with a fitting status.", "content": {"text/html": {}}},
        },
    }


def _json(schema: str) -> Json:
    return {"application/json": {"schema": _ref(schema)}}
