"""What two sets have in common: by record, by recording, by sound, by text."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner

from curation.build import BuildOptions, curate
from curation.cli import app
from curation.datasets import read_collection
from curation.entries import Collection, Entry
from curation.errors import ConfigError
from curation.leakage import LeakageReport, Side, find_leakage, side_of_collection, side_of_manifest
from curation.manifest import write_manifest
from tests.curation.support import row, run
from tests.support.audio import write_noise, write_waveform


def side(name: str, *entries: Entry, split: str = "") -> Side:
    return side_of_collection(name, Collection(entries=entries, root=None), split=split)


def clip(key: str, **values: object) -> Entry:
    return Entry(source="a", source_id=key, **values)  # type: ignore[arg-type]


def counts(report: LeakageReport) -> dict[str, tuple[int, int]]:
    """Return clips of A and of B by kind, where there are any."""
    rows = report.table.itertuples()
    return {row.kind: (row.clips_a, row.clips_b) for row in rows if row.clips_a or row.clips_b}


def manifest(folder: Path, *rows: dict[str, object]) -> Path:
    write_manifest(folder, rows)
    return folder


def unlike(number: int, **values: object) -> dict[str, object]:
    """Return a row that has nothing in common with that of another number."""
    own = {
        "origin_id": str(number),
        "pcm_sha256": f"{number:064x}",
        "title": "Wind",
        "description": f"Recording number {number}.",
    }
    return row(number, **(own | values))


@pytest.mark.parametrize(
    ("of_a", "of_b", "kind"),
    [
        ({"origin": "freesound", "origin_id": "7"}, {"origin": "freesound", "origin_id": "7"}, "same_origin"),
        ({"origin": "freesound", "origin_id": "7"}, {"origin": "youtube", "origin_id": "7"}, None),
        ({"origin": "", "origin_id": "7"}, {"origin": "", "origin_id": "7"}, None),
        ({"origin": "freesound"}, {"origin": "freesound"}, None),
        ({"captions": ("A dog barks.",)}, {"captions": ("Rain.", "A dog barks.")}, "same_text"),
        ({"captions": ("A dog barks.",)}, {"description": "A dog barks."}, "same_text"),
        ({"captions": ("A dog's bark!",)}, {"captions": ("a  Dogs bark",)}, "same_words"),
        ({"captions": ("Une école, là",)}, {"captions": ("une École; LÀ",)}, "same_words"),
        ({"captions": ("A dog barks.",)}, {"captions": ("A cat barks.",)}, None),
        ({"captions": ("...",)}, {"captions": ("!",)}, None),
        ({"title": "Wind"}, {"title": "Wind"}, None),  # a title alone is no sign
        ({"tags": ("wind",)}, {"tags": ("wind",)}, None),
        ({}, {}, None),
    ],
)
def test_each_sign(of_a, of_b, kind):
    report = find_leakage(side("A", clip("1", **of_a)), side("B", clip("2", **of_b)))
    first = list(report.pairs["kind"])
    assert first == ([kind] if kind else [])
    assert report.leaked_b == (1 if kind else 0)
    assert report.share_of_b == report.leaked_b


def test_a_clip_is_counted_where_it_is_found_first_and_once_in_all():
    text = {"captions": ("A dog barks.",)}
    a = side("A", clip("1", origin="bbc", origin_id="1", **text), clip("2", **text), clip("3"))
    b = side("B", clip("1", **text), clip("5", origin="bbc", origin_id="1", **text), clip("6", **text), clip("7"))
    table = find_leakage(a, b).table.set_index("kind")
    assert table["clips_b"].to_dict() == {"same_clip": 1, "same_origin": 1, "same_text": 3, "same_words": 3, "any": 3}
    assert table["first_b"].to_dict() == {"same_clip": 1, "same_origin": 1, "same_text": 1, "same_words": 0, "any": 3}
    assert table["first_a"].to_dict() == {"same_clip": 1, "same_origin": 0, "same_text": 1, "same_words": 0, "any": 2}
    assert table["texts_b"].fillna(-1).to_dict() == {
        "same_clip": -1,
        "same_origin": -1,
        "any": -1,
        "same_text": 3,
        "same_words": 3,
    }


def test_every_pair_is_listed_once_at_its_surest_kind():
    text = {"captions": ("A dog barks.", "a dog barks"), "description": "A dog barks."}
    a = side("A", clip("1", origin="bbc", origin_id="1", **text), clip("2", **text))
    b = side("B", clip("5", origin="bbc", origin_id="1", **text), clip("6", **text))
    pairs = find_leakage(a, b).pairs
    assert pairs[["kind", "clip_a", "clip_b"]].to_numpy().tolist() == [
        ["same_origin", "a-1", "a-5"],
        ["same_text", "a-2", "a-5"],
        ["same_text", "a-1", "a-6"],
        ["same_text", "a-2", "a-6"],
    ]
    assert pairs["detail"].tolist()[:2] == ["bbc 1", "A dog barks."]


def test_counts_equal_those_of_the_slow_way():
    chance = random.Random(0)
    words = ["dog", "Dog", "rain!", "rain", "wind"]

    def clips(first: int, count: int) -> list[Entry]:
        return [
            clip(
                str(first + at),
                origin=chance.choice(["", "freesound", "bbc"]),
                origin_id=chance.choice(["", *map(str, range(60))]),
                captions=tuple(" ".join(chance.choices(words, k=3)) for _ in range(chance.randrange(3))),
            )
            for at in range(count)
        ]

    of_a, of_b = clips(0, 80), clips(60, 70)

    def bare(text: str) -> str:
        return text.lower().replace("!", "")

    signs = {
        "same_clip": lambda x, y: x.clip_id == y.clip_id,
        "same_origin": lambda x, y: (
            bool(x.origin and x.origin_id) and (x.origin, x.origin_id) == (y.origin, y.origin_id)
        ),
        "same_text": lambda x, y: bool(set(x.captions) & set(y.captions)),
        "same_words": lambda x, y: bool(set(map(bare, x.captions)) & set(map(bare, y.captions))),
    }
    report = find_leakage(side("A", *of_a), side("B", *of_b))
    every: set[tuple[str, str]] = set()
    for kind, sign in signs.items():
        pairs = {(x.clip_id, y.clip_id) for x, y in itertools.product(of_a, of_b) if sign(x, y)}
        found = report.table.set_index("kind").loc[kind]
        assert (found["clips_a"], found["clips_b"]) == (len({x for x, _ in pairs}), len({y for _, y in pairs})), kind
        listed = report.pairs[report.pairs["kind"] == kind]
        assert set(zip(listed["clip_a"], listed["clip_b"], strict=True)) == pairs - every, kind
        every |= pairs
    assert len(every) > 100


def test_a_text_that_everyone_has_lists_no_square_of_pairs():
    a = side("A", *(clip(f"a{number}", description="Rain.") for number in range(300)))
    b = side("B", *(clip(f"b{number}", description="Rain.") for number in range(200)))
    report = find_leakage(a, b)
    assert counts(report)["same_text"] == (300, 200)
    assert len(report.pairs) == 300 + 200 - 1
    assert set(report.pairs["clip_a"]) == set(a.clips["clip_id"].to_pylist())
    assert set(report.pairs["clip_b"]) == set(b.clips["clip_id"].to_pylist())
    assert any("not every pair of them is listed" in note for note in report.notes)


def test_two_splits_of_one_manifest_and_the_whole_against_itself(tmp_path):
    folder = manifest(
        tmp_path,
        unlike(1, split="train"),
        unlike(2, split="test", pcm_sha256=f"{1:064x}"),
        unlike(3, split="test"),
        unlike(4, split="train", origin="", origin_id="", description="Recording number 3."),
    )
    report = find_leakage(side_of_manifest(folder, split="train"), side_of_manifest(folder, split="test"))
    assert counts(report) == {
        "same_sound": (1, 1),
        "same_text": (1, 1),
        "same_words": (1, 1),
        "any": (2, 2),
    }
    whole = find_leakage(side_of_manifest(folder), side_of_manifest(folder))
    assert counts(whole)["same_clip"] == counts(whole)["any"] == (4, 4)
    assert whole.notes[0].startswith("A and B hold the same clips, so every clip of B is in A")
    with pytest.raises(ConfigError, match="no clip is in split 'valid'; it has test, train"):
        side_of_manifest(folder, split="valid")


def test_what_cannot_be_compared_is_said(tmp_path):
    built = side_of_manifest(manifest(tmp_path / "a", unlike(1)))
    text = side("captions.csv", clip("1"))
    assert "sound was not compared: of captions.csv there is text alone" in find_leakage(built, text).notes
    (note,) = find_leakage(built, side_of_manifest(manifest(tmp_path / "b", unlike(2)))).notes
    assert "near-same sound was not looked for: no fingerprints.parquet beside" in note
    assert str(tmp_path / "a") in note
    assert str(tmp_path / "b") in note
    assert find_leakage(built, text, by=["origin"]).notes == ()


def test_empty_sets_and_wrong_joins():
    report = find_leakage(side("A"), side("B"))
    assert (report.share_of_b, len(report.pairs), report.table["clips_b"].tolist()[-1]) == (0.0, 0, 0)
    assert find_leakage(side("A"), side("B", clip("1", description="x"))).leaked_b == 0
    with pytest.raises(ValueError, match="by must be of clip, origin, sound, text, got title"):
        find_leakage(side("A"), side("B"), by=["title"])
    with pytest.raises(ValueError, match="got nothing"):
        find_leakage(side("A"), side("B"), by=[])


def test_a_re_encoded_and_cut_sound_is_found_by_its_fingerprint(tmp_path):
    samples = soundfile.read(write_noise(tmp_path / "noise.wav", seconds=4, seed=1))[0]
    # Noise that swells, so that its parts differ.
    swell = samples * [abs((at / 9_000) % 2 - 1) for at in range(len(samples))]
    write_waveform(tmp_path / "a" / "first.wav", swell)
    write_noise(tmp_path / "a" / "other.wav", seconds=4, seed=2)
    write_waveform(tmp_path / "b" / "again.ogg", 0.5 * swell[4_000:])
    write_noise(tmp_path / "b" / "third.wav", seconds=4, seed=3)
    for name in ("a", "b"):
        collection = read_collection("folder", tmp_path / name)
        curate(collection, tmp_path / f"{name}-out", made_by="import folder", options=BuildOptions(workers=0))
    report = find_leakage(side_of_manifest(tmp_path / "a-out"), side_of_manifest(tmp_path / "b-out"))
    assert report.pairs[["kind", "clip_a", "clip_b"]].to_numpy().tolist() == [
        ["near_sound", "own_a-first.wav", "own_b-again.ogg"]
    ]
    assert counts(report) == {"near_sound": (1, 1), "any": (1, 1)}
    assert report.notes == ()


@pytest.fixture
def two_manifests(tmp_path):
    """Two sets of which the second has two of its four clips from the first."""
    a = manifest(tmp_path / "a", *(unlike(number) for number in range(6)))
    changes = [
        {
            "source": "mine",
            "clip_id": f"mine-{number}",
            "audio_path": f"audio/mine-{number}.flac",
            "duplicate_group": f"mine-{number}",
        }
        for number in range(4)
    ]
    changes[0] |= {"origin_id": "0"}
    changes[1] |= {"pcm_sha256": f"{1:064x}"}
    b = manifest(tmp_path / "b", *(unlike(100 + number, **change) for number, change in enumerate(changes)))
    return a, b


def test_the_command_prints_a_table_and_passes_judgement(two_manifests, tmp_path):
    a, b = two_manifests
    done = run("leakage", a, b, "--out", tmp_path / "pairs.csv")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert f"A {a} 6 clips 6 texts" in lines
    assert "same recording, by its id 1 1 1 - -" in lines
    assert "same samples 1 1 1 - -" in lines
    assert "near-same sound - - - - -" in lines
    assert "2 of 4 clips of B are in A: 50.00%" in lines
    assert "soundbible-0 mine-0 soundbible 0" in lines
    assert "near-same sound was not looked for" in done.stderr
    assert pd.read_csv(tmp_path / "pairs.csv")["kind"].tolist() == ["same_origin", "same_sound"]
    assert run("leakage", a, b, "--max-leaked", "0.5").returncode == 0
    failed = run("leakage", a, b, "--max-leaked", "0.49", "--json")
    assert failed.returncode == 1
    assert "error: 2 of 4 clips of" in failed.stderr
    assert "a share of 0.5000, more than --max-leaked 0.49" in failed.stderr
    facts = json.loads(failed.stdout)
    assert facts["share_of_b"] == 0.5
    assert facts["found"][-1]["clips_b"] == 2
    assert facts["found"][0]["texts_a"] is None
    assert [example["clip_b"] for example in facts["examples"]] == ["mine-0", "mine-1"]


def test_the_command_reads_captions_without_audio(two_manifests, tmp_path):
    a, _ = two_manifests
    table = tmp_path / "mine.csv"
    table.write_text("audio,caption,split\nx.wav,recording number 3,test\ny.wav,Nothing known.,train\n")
    done = run("leakage", a, f"csv:{table}", "--split-b", "test", "--by", "text", "--out", tmp_path / "pairs.parquet")
    assert done.returncode == 0, done.stderr
    assert "1 of 1 clips of B are in A: 100.00%" in done.stdout
    (pair,) = pd.read_parquet(tmp_path / "pairs.parquet").to_dict("records")
    assert (pair["kind"], pair["clip_a"], pair["detail"]) == ("same_words", "soundbible-3", "recording number 3")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("gone", "gone"), 1, "no such manifest"),
        (("clothoo:x.csv", "a"), 2, "no reader for 'clothoo'; did you mean clotho?"),
        (("clotho:gone.csv", "a"), 2, "gone.csv: no such file or folder; a clotho folder holds"),
        (("a", "list.csv"), 2, "no manifest; of a data set say whose layout it has, such as clotho:list.csv"),
        (("a", "a", "--by", "title"), 2, "must be of clip, origin, sound, text, got 'title'"),
        (("a", "a", "--by", ","), 2, "must be of clip"),
        (("a", "a", "--max-leaked", "2"), 2, "--max-leaked"),
        (("a", "a", "--out", "pairs.xlsx"), 2, "must end in .csv or .parquet"),
        (("a", "a", "--split-a", "dev"), 2, "no clip is in split 'dev'; it has train"),
        (("a",), 2, "B"),
        (("csv:list.csv", "a"), 1, "no column that names the sounds"),
        (("s4://x/y", "a"), 2, "unknown protocol s4"),
        (("broken", "a"), 1, "not a whole Parquet file"),
        (("broken", "clothoo:x.csv"), 2, "no reader for 'clothoo'; did you mean clotho?; known: "),
        (("broken", "clotho:gone.csv"), 2, "gone.csv: no such file or folder"),
        (("broken", "list.csv"), 2, "no manifest; of a data set say whose layout it has"),
        (("broken", "s4://x/y"), 2, "unknown protocol s4"),
        (("gone", "list.csv"), 2, "no manifest; of a data set"),
    ],
)
def test_wrong_usage_and_bad_input(tmp_path, monkeypatch, arguments, code, message):
    manifest(tmp_path / "a", unlike(1))
    shutil.copytree(tmp_path / "a", tmp_path / "broken")
    (tmp_path / "broken" / "manifest.parquet").write_bytes(b"PAR1")
    (tmp_path / "list.csv").write_text("x,y\n1,2\n")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["leakage", *arguments])
    assert done.exit_code == code, done.stderr
    assert message in " ".join(done.stderr.split())


@pytest.mark.skipif("WAVTEXT5K_DATA" not in os.environ, reason="WAVTEXT5K_DATA is not set")
@pytest.mark.parametrize(
    ("of_a", "of_b", "expected"),
    [
        (
            ("audiocaps", "audiocaps/audiocaps_v1_train.csv"),
            ("audiocaps", "audiocaps/audiocaps_v1_test.csv"),
            {"same_clip": (0, None), "same_origin": (0, None), "same_text": (239, 404), "same_words": (242, 409)},
        ),
        (
            ("clotho", "clotho/clotho_train.csv"),
            ("clotho", "clotho/clotho_test.csv"),
            {"same_clip": (0, None), "same_text": (9, 11), "same_words": (11, 13)},
        ),
        (
            ("wavtext5k", "wavtext5k/WavText5K.csv"),
            ("wavcaps", "wavcaps/sb_final.json"),
            {"same_origin": (1225, None), "any": (1225, None)},
        ),
        (
            ("audiocaps", "audiocaps/audiocaps_v2_test.csv"),
            ("audiocaps", "audiocaps/audiocaps_v1_test.csv"),
            {"same_clip": (975, None), "any": (975, None)},
        ),
    ],
)
def test_the_leaks_that_are_known_of_real_sets(of_a, of_b, expected):
    data = Path(os.environ["WAVTEXT5K_DATA"]) / "captions"
    a, b = (side_of_collection(name, read_collection(name, data / file)) for name, file in (of_a, of_b))
    table = find_leakage(a, b).table.set_index("kind")
    for kind, (clips_b, texts_b) in expected.items():
        assert table.loc[kind, "clips_b"] == clips_b, kind
        assert texts_b is None or table.loc[kind, "texts_b"] == texts_b, kind
