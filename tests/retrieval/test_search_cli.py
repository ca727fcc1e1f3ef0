"""The commands: what they print, what they refuse, with which exit code. And the searches under them, filtered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.manifest import read_manifest, write_manifest
from retrieval.building import build_index
from retrieval.cli import app
from retrieval.filters import Filters
from retrieval.index import Index
from retrieval.search import embed_sound, search_audio, search_like, search_text, search_vector, texts_for
from tests.retrieval.conftest import write_clips, write_run

FILE = "cats/a\xa0long \x1b[2Jpurr می\u200cرود \u202e.wav"
SHOWN_FILE = "cats/a\xa0long \\x1b[2Jpurr می\u200cرود \\u202e.wav"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips: the odd ones have the tag dog, the even ones are under cc0; the fourth is known by its file."""
    folder = write_clips(tmp_path_factory.mktemp("data") / "curated", count=6)
    rows = read_manifest(folder).to_pylist()
    rows[3]["source_id"] = FILE
    for number, each in enumerate(rows, start=1):
        each |= {"tags": ["dog", "loud"], "split": "test"} if number % 2 else {"tags": ["cat", "loud"]}
        each |= {} if number % 2 else {"license": "cc0-1.0"}
    write_manifest(folder, rows)
    return folder


@pytest.fixture(scope="module")
def index(run: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("indexes") / "index"
    build_index(run, clips, out)
    return out


def invoke(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.stdout, done.stderr


def test_a_sound_finds_itself_and_a_text_ranks_every_clip(index: Path, clips: Path) -> None:
    opened = Index.open(index)
    model = opened.load_model()
    best, second = search_audio(opened, model, clips / "audio" / "soundbible-4.flac", top=2)
    assert best.clip.clip_id == "soundbible-4"
    assert best.score == pytest.approx(1, abs=1e-5)
    assert second.score < best.score
    hits = search_text(opened, model, "a tone", top=50)
    assert [hit.rank for hit in hits] == list(range(1, 7))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert Path(hits[0].audio).is_file()
    for text, message in (("  ", "the text is empty"), ("a" * 10_000, "has 10,000 characters, 1,000 are allowed")):
        with pytest.raises(ValueError, match=message):
            search_text(opened, model, text)
    for text in ("звон колокола", "鐘の音", "🔔🔔", "\x00\u202e", "a" * 1_000):
        assert len(search_text(opened, model, text)) == 6, "another script is ranked, whatever it is worth"


def test_more_like_this_leaves_the_clip_itself_out(index: Path) -> None:
    opened = Index.open(index)
    hits = search_like(opened, "soundbible-2", top=10)
    assert len(hits) == 5
    assert "soundbible-2" not in {hit.clip.key for hit in hits}
    with pytest.raises(KeyError, match="nix"):
        search_like(opened, "nix")


def test_texts_are_found_for_a_sound(index: Path, clips: Path) -> None:
    opened = Index.open(index)
    model = opened.load_model()
    vector = embed_sound(model, 0.1 * model.embed_audio([clips / "audio" / "soundbible-1.flac"])[0], 44_100)
    hits = texts_for(opened, vector, top=3)
    cosines = opened.text_vectors.numpy() @ vector
    assert [hit.text for hit in hits] == [f"Tone {row + 1}. A bell." for row in (-cosines).argsort()[:3]]
    assert (hits[0].count, hits[0].key) == (1, f"soundbible-{(-cosines).argmin() + 1}")


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        (Filters(), {1, 2, 3, 4, 5, 6}),
        (Filters(tags=("dog",)), {1, 3, 5}),
        (Filters(tags=(" DOG ", "loud")), {1, 3, 5}),
        (Filters(tags=("dog", "cat")), set()),
        (Filters(licenses=("cc0-1.0",)), {2, 4, 6}),
        (Filters(licenses=("cc0-1.0", "cc-by-3.0")), {1, 2, 3, 4, 5, 6}),
        (Filters(splits=("test",), licenses=("cc0-1.0",)), set()),
        (Filters(sources=("soundbible",), splits=("test",)), {1, 3, 5}),
        (Filters(sources=("elsewhere",)), set()),
        (Filters(min_s=1.0, max_s=1.0), {1, 2, 3, 4, 5, 6}),
        (Filters(min_s=1.01), set()),
        (Filters(max_s=0.99), set()),
    ],
)
def test_filters(index: Path, filters: Filters, numbers: set[int]) -> None:
    opened = Index.open(index)
    hits = search_vector(opened, opened.embeddings[0], top=10, filters=filters)
    assert {hit.clip.clip_id for hit in hits} == {f"soundbible-{number}" for number in numbers}
    assert [hit.rank for hit in hits] == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    ("durations", "message"),
    [
        ({"min_s": -1.0}, "min_s must be 0 or more seconds, got -1.0"),
        ({"max_s": float("nan")}, "max_s must be 0 or more seconds, got nan"),
        ({"min_s": 3.0, "max_s": 2.0}, "min_s=3 is above max_s=2"),
    ],
)
def test_durations_that_cannot_be(durations: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Filters(**durations)  # type: ignore[arg-type]


def test_one_string_for_several_is_refused() -> None:
    with pytest.raises(TypeError, match=r"tags must be a tuple of strings, got one string: \('bell',\)"):
        Filters(tags="bell")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"sources must be strings, got b'x'"):
        Filters(sources=(b"x",))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"tags: '\\ud800' is not valid Unicode"):
        Filters(tags=("\ud800",))


def test_what_cannot_be_searched_for_is_named(index: Path) -> None:
    opened = Index.open(index)
    model = opened.load_model(opened.info.model)
    with pytest.raises(TypeError, match="the text must be a string, got int"):
        search_text(opened, model, 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"the vector must be one, of shape \(D,\), got \(2, "):
        search_vector(opened, opened.embeddings[:2])
    with pytest.raises(KeyError, match="no column 'tag'; the row map has key, manifest"):
        opened.column("tag")
    assert search_vector(opened, 1.001 * opened.embeddings[0], top=1)[0].score == 1.0
    assert search_vector(opened, opened.embeddings[0], filters=Filters(min_s=10**30)) == []


def test_spellings_of_unicode_are_one(index: Path) -> None:
    opened = Index.open(index)
    model = opened.load_model()
    composed, decomposed = (search_text(opened, model, text, top=3) for text in ("caf\u00e9", "cafe\u0301"))
    assert [hit.score for hit in composed] == [hit.score for hit in decomposed]


def test_index_command(run: Path, tmp_path: Path) -> None:
    first, second, out = write_clips(tmp_path / "a", count=2), write_clips(tmp_path / "b", count=3), tmp_path / "index"
    code, shown, said = invoke("index", run, first, "--out", out)
    assert (code, shown) == (0, f"indexed    2 clips x 128    {out}\n")
    assert "embedding  2 of 2 clips" in said
    assert "embedding  2 of 2 texts" in said
    assert invoke("index", run, first, "--out", out)[1].startswith("up to date 2 clips")
    code, shown, _ = invoke("index", run, first, second, "--out", out)
    assert shown.splitlines()[1:] == [
        "embedded   1 clips, the others were done",
        "left out   2 clips that an earlier manifest has too",
    ]
    code, shown, _ = invoke("index", run, first, second, "--out", out, "--json")
    made = json.loads(shown)
    assert (made["num_clips"], made["was_built"], len(made["manifests"])) == (3, False, 2)
    for words, message in ((("--dtype", "int4"), "must be float32 or bfloat16"), (("--device", "abacus"), "abacus")):
        code, shown, said = invoke("index", run, first, "--out", out, *words)
        assert (code, shown) == (2, "")
        assert message in said


def test_query_command(index: Path, clips: Path) -> None:
    code, shown, _ = invoke("query", index, "a tone", "--top", 3)
    assert code == 0
    assert [line.split()[0] for line in shown.splitlines() if line[:3].strip()] == ["1", "2", "3"]
    sound = clips / "audio" / "soundbible-2.flac"
    (hit,) = json.loads(invoke("query", index, "--audio", sound, "--json", "--top", 1)[1])
    assert {key: hit[key] for key in ("rank", "clip_id", "title", "license", "tags", "audio")} == {
        "rank": 1,
        "clip_id": "soundbible-2",
        "title": "Tone 2",
        "license": "cc0-1.0",
        "tags": ["cat", "loud"],
        "audio": str(sound.resolve()),
    }
    code, shown, _ = invoke("query", index, "--like", "soundbible-2", "--tag", "cat")
    lines = shown.splitlines()
    assert {line.split()[2] for line in lines if line[:3].strip()} == {"soundbible-4", "soundbible-6"}
    known, filed = (
        next(place for place, line in enumerate(lines) if each in line) for each in ("soundbible-4", SHOWN_FILE)
    )
    assert filed == known + 1
    assert [line.strip() for line in lines].count(SHOWN_FILE) == 1
    code, shown, _ = invoke("query", index, "--audio", sound, "--words", "--top", 2)
    assert shown.splitlines()[0].endswith(". A bell.")
    assert json.loads(invoke("query", index, "--like", "soundbible-1", "--words", "--json")[1])[0]["count"] == 1
    code, shown, _ = invoke("query", index, "a tone", "--max-s", 0.5)
    assert (code, shown) == (0, "no clip has all of what was asked; ask for less\n")
    assert invoke("query", index, "a tone", "--max-s", 0.5, "--json")[1] == "[]\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "either a text, or --audio"),
        (("a", "--audio", "b.wav"), 2, "either a text, or --audio"),
        (("a", "--like", "b"), 2, "either a text, or --audio"),
        (("a", "--words"), 2, "--words ranks texts for a sound"),
        (("--like", "soundbible-1", "--words", "--tag", "dog"), 2, "leave filters and --probes out"),
        (("--like", "soundbible-1", "--words", "--probes", "3"), 2, "leave filters and --probes out"),
        ((" ",), 2, "the text is empty"),
        (("a" * 10_000,), 2, "10,000 characters"),
        (("\udcff",), 2, "not valid Unicode"),
        (("--audio", "/tmp"), 1, "not a file"),
        (("a", "--top", "0"), 2, "top"),
        (("--audio", "no.wav"), 1, "no.wav: no such file"),
        (("--audio", __file__), 1, "not audio"),
        (("--like", "soundbible-99"), 1, "no clip 'soundbible-99'"),
        (("a", "--tag", "dgo"), 1, "--tag dgo: no clip of the index has it; it has dog"),
        (("a", "--license", "CC-BY-3"), 1, "--license CC-BY-3: no clip of the index has it; it has cc-by-3.0"),
        (("a", "--license", "cc0"), 1, "--license cc0: no clip of the index has it; it has cc0-1.0"),
        (("a", "--min-s", "-1"), 2, "0 or more seconds"),
    ],
)
def test_wrong_queries_end_with_a_line_and_a_code(index: Path, words: tuple[str, ...], code: int, message: str) -> None:
    found, shown, said = invoke("query", index, *words)
    assert (found, shown) == (code, "")
    assert message in " ".join(said.replace("│", " ").split())


def test_a_changed_manifest_or_another_model_is_refused(run: Path, tmp_path: Path) -> None:
    manifest, out = write_clips(tmp_path / "curated", count=3), tmp_path / "index"
    build_index(run, manifest, out)
    write_manifest(manifest, read_manifest(manifest).to_pylist()[:2])
    code, shown, said = invoke("query", out, "a tone")
    assert (code, shown) == (1, "")
    assert "the manifest has changed since it was indexed" in said
    assert "--stale" in said
    assert invoke("query", out, "a tone", "--stale")[0] == 0
    other = write_run(tmp_path / "other", seed=1)
    code, _, said = invoke("query", out, "a tone", "--stale", "--model", other)
    assert code == 1
    assert "is not the model that made this index" in said
