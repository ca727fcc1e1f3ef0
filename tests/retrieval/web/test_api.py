"""Every answer of the API keeps to the schema that the API publishes, and every parameter that it documents is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from jsonschema import Draft202012Validator

from retrieval.index import Index
from retrieval.search import search_like, search_text
from retrieval.web.forms import PARAMETERS
from retrieval.web.schema import SOUND_NAMES, openapi
from tests.retrieval.web.conftest import ENDLESS, FILE, GONE, HOSTILE, NUM_TONES, OTHER, SCRIPT, SILENT
from tests.support.audio import write_tone
from tests.support.webserver import ask, form
from training.models.clap import Clap

DOCUMENT = openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]


def strict(schema: Any) -> Any:
    """Return a schema in which an object has nothing that is not named."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "properties" in schema else {}
    return closed | {name: strict(value) for name, value in schema.items()}


COMPONENTS = strict(DOCUMENT["components"])


def problems(value: Any, schema: str) -> list[str]:
    """Return where an answer breaks one of the published schemas."""
    checker = Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": COMPONENTS})
    return sorted(f"{error.json_path}: {error.message}" for error in checker.iter_errors(value))


def get(address: str, path: str, schema: str, status: int = 200) -> Any:
    """Return an answer that keeps to its schema."""
    answer = ask(address, path)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json"), answer.text
    found = json.loads(answer.body)
    assert problems(found, schema) == []
    return found


def search(address: str, status: int = 200, **parameters: Any) -> Any:
    path = f"/api/search?{urlencode(parameters, doseq=True)}"
    return get(address, path, "Results" if status == 200 else "Error", status)


def test_the_schemas_are_schemas_and_strict_ones() -> None:
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
    good = {"rank": 1, "score": 0.5, "text": "rain", "count": 2, "key": "a-1"}
    assert problems(good, "Word") == []
    for bad in ({"rank": 0}, {"rank": "1"}, {"text": None}, {"more": 1}):
        assert len(problems(good | bad, "Word")) == 1, bad
    assert len(problems({"total": 0, "hits": [{}], "words": [], "notes": [], "next": 3}, "Results")) == 4


def test_a_text_finds_what_the_library_finds(address: str, index: Index, model: Clap) -> None:
    found = search(address, q="a low tone", top=5)
    hits = search_text(index, model, "a low tone", top=5)
    assert [(hit["rank"], hit["clip"]["key"]) for hit in found["hits"]] == [(hit.rank, hit.clip.key) for hit in hits]
    assert [hit["score"] for hit in found["hits"]] == pytest.approx([hit.score for hit in hits])
    assert (found["total"], found["words"], found["notes"]) == (len(index), [], [])


@pytest.mark.parametrize("top", [1, 5, 7])
def test_pages_follow_each_other_and_end(address: str, index: Index, model: Clap, top: int) -> None:
    path, keys = f"/api/search?{urlencode({'q': 'a low tone', 'top': top})}", []
    while path:
        found = get(address, path, "Results")
        keys += [hit["clip"]["key"] for hit in found["hits"]]
        path = found["next"]
    assert keys == [hit.clip.key for hit in search_text(index, model, "a low tone", top=len(index))]
    assert search(address, q="a low tone", page=50)["hits"] == []


def test_a_clip_finds_others(address: str, index: Index) -> None:
    found = search(address, like="soundbible-4", top=3)
    assert [hit["clip"]["key"] for hit in found["hits"]] == [
        hit.clip.key for hit in search_like(index, "soundbible-4", top=3)
    ]
    assert found["total"] == len(index) - 1
    assert search(address, like="soundbible-4", tag="even")["total"] == NUM_TONES // 2 - 1


@pytest.mark.parametrize(
    ("filters", "total"),
    [
        ({"tag": "even"}, 6),
        ({"tag": ["even", "TONE"]}, 6),
        ({"tag": ["even", "lost"]}, 0),
        ({"source": "bigsoundbank"}, 1),
        ({"source": ["bigsoundbank", "soundbible"]}, 18),
        ({"license": "cc0-1.0"}, 3),
        ({"split": "test"}, 1),
        ({"min_s": "1.75", "max_s": 2}, 2),
        ({"tag": "a&b=c#d"}, 1),
    ],
)
def test_filters_leave_fewer_clips(address: str, filters: dict[str, Any], total: int) -> None:
    found = search(address, q="a low tone", top=100, **filters)
    assert (found["total"], len(found["hits"])) == (total, total)


def test_a_sound_is_uploaded_once_and_asked_often(address: str, tmp_path: Path) -> None:
    wav = write_tone(tmp_path / "my tone.wav", seconds=1.0, freq=600.0).read_bytes()
    kind, body = form(("sound", "my tone.wav", wav))
    for headers, sent, name in (
        ({"Content-Type": kind}, body, "my tone.wav"),
        ({"Content-Type": "audio/wav"}, wav, ""),
    ):
        answer = ask(address, "/api/sound?top=4&tag=tone", method="POST", headers=headers, body=sent)
        assert answer.status == 200, answer.text
        found = json.loads(answer.body)
        assert problems(found, "Uploaded") == []
        assert (found["name"], found["duration_s"]) == (name, 1.0)
        assert len(found["results"]["hits"]) == 4
        assert [word["rank"] for word in found["results"]["words"]] == [1, 2, 3, 4, 5]
        assert found["results"] == search(address, sound=found["token"], top=4, tag="tone")
    assert search(address, sound=found["token"], split="test")["total"] == 1


def test_clips_are_told_as_they_are_and_links_only_if_they_are_of_the_web(address: str) -> None:
    hostile = get(address, f"/api/clips/{HOSTILE}", "Clip")
    assert (hostile["title"], hostile["source_id"], hostile["page_url"]) == (SCRIPT, FILE, "")
    assert hostile["license_url"] == "https://creativecommons.org/licenses/by/3.0/"
    assert get(address, f"/api/clips/{SILENT}", "Clip")["name"] == SILENT
    assert get(address, f"/api/clips/{OTHER}", "Clip")["name"] == "A bell rings two times."
    assert get(address, f"/api/clips/{GONE}", "Clip")["has_audio"] is False
    assert get(address, f"/api/clips/{ENDLESS}", "Clip")["title"] == "x" * 5000
    tone = get(address, "/api/clips/soundbible-2", "Clip")
    assert tone["page_url"] == "https://sounds.example/2"
    for name, kind in (("page", "text/html; charset=utf-8"), ("audio", "audio/flac"), ("thumbnail", "image/png")):
        answer = ask(address, tone[name])
        assert (answer.status, answer.headers["content-type"]) == (200, kind)


def test_the_index_is_described(address: str, index: Index) -> None:
    found = get(address, "/api/index", "Index")
    assert (found["clips"], found["embed_dim"]) == (len(index), index.info.embed_dim)
    assert found["model_sha256"] == index.info.model_sha256
    assert found["sources"] == {"soundbible": 17, "bigsoundbank": 1}
    assert found["tags"]["even"] == 6
    assert found["total_s"] == pytest.approx(sum(index.column("duration_s").to_pylist()))
    assert found["changed"] == []


def test_why_nothing_is_found_is_said(address: str) -> None:
    found = search(address, q="a", tag="evn", split="train")
    assert (found["total"], found["hits"]) == (0, [])
    assert found["notes"] == ["No clip has the tag “evn”.", "17 clips are in the split train."]


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/api/search", 400, "Say what to look for: q=TEXT, like=KEY or sound=TOKEN."),
        ("/api/search?q=+", 400, "Say what to look for"),
        ("/api/search?tag=even", 400, "Say what to look for"),
        ("/api/search?q=a&like=b", 400, "Ask one thing at a time"),
        ("/api/search?q=a&tags=b&min_s=x", 400, "did you mean tag? The shortest duration must be a number"),
        ("/api/search?q=" + "x" * 10_000, 400, "The query has 10,000 characters"),
        ("/api/search?like=no-1", 404, "There is no such clip in this index."),
        ("/api/search?sound=beef", 404, "That upload is not here any more"),
        ("/api/clips/no-1", 404, "There is no such clip in this index."),
        ("/api/nothing", 404, "Nothing lies at this address."),
        ("/api/sound", 405, "This address does not answer GET requests."),
    ],
)
def test_errors_are_sentences_in_json(address: str, path: str, status: int, sentence: str) -> None:
    assert sentence in get(address, path, "Error", status)["error"]


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/api/sound", b"no sound at all", 415),
        ("/api/sound?q=rain", b"", 400),
        ("/api/sound?min_s=abc", b"", 400),
    ],
)
def test_uploads_that_cannot_be_read_are_refused_in_json(address: str, path: str, content: bytes, status: int) -> None:
    answer = ask(address, path, method="POST", headers={"Content-Type": "audio/wav"}, body=content)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json"), answer.text
    assert problems(json.loads(answer.body), "Error") == []


def test_the_document_is_served_and_holds_together(address: str) -> None:
    served = json.loads(ask(address, "/api/openapi.json").body)
    assert served == json.loads(json.dumps(DOCUMENT))
    assert served["openapi"] == "3.1.0"
    names = [operation["operationId"] for path in served["paths"].values() for operation in path.values()]
    assert sorted(names) == ["audio", "clip", "index", "search", "sound", "thumbnail"]
    for path in ("/clip/{key}/audio.flac", "/clip/{key}/thumbnail.png"):
        (media_type,) = served["paths"][path]["get"]["responses"]["200"]["content"]
        assert ask(address, path.replace("{key}", OTHER)).headers["content-type"] == media_type
    references = [part.split('"')[0] for part in json.dumps(served).split("#/components/schemas/")[1:]]
    assert set(references) <= set(SCHEMAS)
    assert set(SCHEMAS) <= set(references)


def documented(path: str, method: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in DOCUMENT["paths"][path][method]["parameters"]}


def test_examples_are_of_their_schemas() -> None:
    for parameter in documented("/api/search", "get").values():
        Draft202012Validator(parameter["schema"]).validate(parameter["example"])


def test_every_answer_with_a_file_is_documented(address: str) -> None:
    documents = DOCUMENT["paths"]["/clip/{key}/audio.flac"]["get"]["responses"]
    for value, status in (("bytes=0-9", 206), ("bytes=0-1,5-9", 206), (f"bytes={10**9}-", 416)):
        answer = ask(address, f"/clip/{OTHER}/audio.flac", headers={"Range": value})
        assert answer.status == status
        assert answer.headers["content-type"].split(";")[0] in documents[str(status)]["content"]
    etag = ask(address, f"/clip/{OTHER}/audio.flac").headers["etag"]
    assert ask(address, f"/clip/{OTHER}/audio.flac", headers={"If-None-Match": etag}).status == 304
    assert "304" in documents


def test_what_is_documented_is_what_is_read() -> None:
    assert list(documented("/api/search", "get")) == [parameter.name for parameter in PARAMETERS]
    assert sorted(documented("/api/sound", "post")) == sorted(SOUND_NAMES)


@pytest.mark.parametrize("parameter", documented("/api/search", "get").values(), ids=lambda each: each["name"])
def test_bounds_hold_as_documented(address: str, parameter: dict[str, Any]) -> None:
    name, schema = parameter["name"], parameter["schema"]
    example = parameter["example"] if schema["type"] != "array" else parameter["example"][0]
    edges = {
        "string": lambda: ("x" * schema["maxLength"], "x" * (schema["maxLength"] + 1)),
        "number": lambda: (str(schema["exclusiveMaximum"] - 1), str(schema["exclusiveMaximum"])),
        "integer": lambda: (str(schema["maximum"]), str(schema["maximum"] + 1)),
        "array": lambda: (
            [f"a{number}" for number in range(schema["maxItems"])],
            [f"a{number}" for number in range(schema["maxItems"] + 1)],
        ),
    }
    good, bad = edges[schema["type"]]()
    other = {} if name in ("q", "like", "sound") else {"q": "rain"}
    if name == "page":
        other["top"] = "1"  # together at most 1,000, as its description says
        assert "at most 1000" in parameter["description"]

    def status(value: Any) -> int:
        return ask(address, "/api/search?" + urlencode(other | {name: value}, doseq=True, quote_via=quote)).status

    assert status(example) in (200, 404)
    assert status(good) in (200, 404)
    assert status(bad) == 400
    if schema["type"] == "integer":
        assert status(schema["minimum"] - 1) == 400
        assert search(address, q="rain") == search(address, q="rain", **{name: schema["default"]})
