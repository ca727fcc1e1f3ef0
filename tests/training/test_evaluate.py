"""Which clips are chosen, how they are read, and that the scores are those of their embeddings."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curation.audio import read_clip
from curation.errors import ConfigError, ManifestError
from curation.manifest import SCHEMA
from tests.training.clips import tone, write_clips
from tests.training.small_models import save_small_model, small_model
from training.embeddings import Embeddings
from training.evaluate import embed_clips, evaluate_clips, evaluate_run, score
from training.metrics import retrieval_metrics
from training.random_crop import embed_random_crops, pieces, place_of
from training.selection import choose_clips, read_ids

RATE = 44_100


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Six clips: two captions each for the first three, none for the others; two come from one recording."""
    rows = [
        {
            "split": "test" if number < 4 else "train",
            "captions": [f"Tone {number} rings.", f"Number {number} hums."] if number < 3 else [],
            "origin": "youtube",
            "origin_id": f"-id{min(number, 4)}",
            "waveform": tone(300 + 200 * number, 0.3 + 0.25 * number),
        }
        for number in range(6)
    ]
    return write_clips(tmp_path_factory.mktemp("manifest"), rows)


@pytest.fixture(scope="module")
def model():
    return small_model()


def ids(clips) -> list[str]:
    return [clip.clip_id for clip in clips]


def test_scores_are_those_of_all_cosines(model, manifest):
    clips = choose_clips([manifest], template="{title}").clips
    found = evaluate_clips(model, clips, quiet=True)
    captions = [caption for clip in clips for caption in clip.captions]
    assert captions[-2:] == ["Number 2 hums.", "Tone 3"]  # human ones, else the template's
    audio = model.embed_audio([read_clip(clip.path) for clip in clips], sample_rate=RATE)
    owner = np.array([0, 0, 1, 1, 2, 2, 3])
    assert found.metrics == retrieval_metrics(model.embed_text(captions) @ audio.T, owner)
    assert (found.num_clips, found.num_captions) == (4, 7)
    listing = "test-000\ntest-001\ntest-002\ntest-003\n"
    assert found.list_sha256 == hashlib.sha256(listing.encode()).hexdigest()
    assert found.as_dict()["details"]["audio_to_text"]["num_tied"] == found.ranks[1].num_tied


def test_only_the_first_template_is_scored(model, manifest):
    clips = choose_clips([manifest], template="{title}").clips
    clips = [replace(clip, captions=(*clip.captions, "another")) for clip in clips]
    assert evaluate_clips(model, clips, quiet=True).num_captions == 3 * 3 + 1


def test_another_may_embed_the_clips(model, manifest):
    clips = choose_clips([manifest], template="{title}").clips
    asked = []

    def embed(given) -> np.ndarray:
        asked.append(ids(given))
        return model.embed_text([clip.captions[0] for clip in given])

    assert evaluate_clips(model, clips, embed=embed).metrics.audio_to_text.recall_at_1 == 1
    assert asked == [ids(clips)]


def test_a_collapsed_model_scores_chance():
    one = np.ones((12, 8), np.float32) / np.sqrt(np.float32(8))
    found = score(Embeddings(text=one, audio=one[:4], owner=np.repeat(np.arange(4), 3)))
    assert found.metrics.text_to_audio.recall_at_1 == found.chance.text_to_audio.recall_at_1 == 0.25
    assert found.metrics.audio_to_text.recall_at_1 == 0.25
    kind = score(Embeddings(text=one, audio=one[:4], owner=np.repeat(np.arange(4), 3)), ties="optimistic")
    assert kind.metrics.text_to_audio.recall_at_1 == 1
    assert found.ranks[0].num_tied == 12
    assert found.list_sha256 == ""


def test_clips_are_chosen_by_split_or_by_id(manifest):
    def chosen(**options):
        found = choose_clips([manifest], template="{title}", **options)
        return ids(found.clips), found.missing_ids

    assert chosen() == ([f"test-00{number}" for number in range(4)], ())
    assert chosen(split="train") == (["test-004", "test-005"], ())
    assert chosen(ids=["test-005", "test-000"]) == (["test-000", "test-005"], ())
    assert chosen(ids=["youtube:-id4", "test-005"]) == (["test-004", "test-005"], ())  # one recording, two clips
    assert chosen(ids=["youtube:-id1", "test-000", "youtube:-id9"], allow_missing=True) == (
        ["test-000", "test-001"],
        ("youtube:-id9",),
    )
    found = choose_clips([manifest], template="{title}")
    assert found.num_templated == 1
    assert found.clip_ids == {manifest: tuple(ids(found.clips))}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tset"}, r"split 'tset' has no clips \(there are test, train\)"),
        ({"ids": []}, "the list of ids is empty"),
        ({"ids": ["test-000", "test-001", "no"]}, "1 of 3 ids are not in it, the first is 'no'; --allow-missing goes"),
        ({"ids": ["no", "nobody"], "allow_missing": True}, "2 of 2 ids are not in it, the first is 'no'$"),
        ({"ids": ["-id0", "-id1"]}, "2 of 2 ids .* '-id0'; write youtube:-id0 for the id that youtube gives"),
        ({"ids": ["test-004"], "split": "test"}, "1 of 1 ids are not in it"),
        ({"ids": ["test-000"]}, "one clip was chosen, and one alone is always ranked first"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(manifest, options, message):
    with pytest.raises(ConfigError, match=message):
        choose_clips([manifest], template="{title}", **options)


def test_several_manifests_are_one_list(manifest, tmp_path, model):
    more = write_clips(
        tmp_path / "more", [{"clip_id": f"more-{n}", "source": "more", "split": "test"} for n in range(2)]
    )
    found = choose_clips([manifest, more], template="{title}")
    assert ids(found.clips)[-2:] == ["more-0", "more-1"]
    assert found.clip_ids[more] == ("more-0", "more-1")
    found = choose_clips([manifest, more], template="{title}", ids=["more-1", "test-000"])
    assert ids(found.clips) == ["test-000", "more-1"]
    with pytest.raises(ConfigError, match="1 of 2 ids are not in it, the first is ':'"):
        choose_clips([manifest, more], template="{title}", ids=["more-1", ":"])  # clips without an origin have no name
    only = choose_clips([manifest, more], template="{title}", ids=["test-001", "test-000"])
    assert list(only.clip_ids) == [manifest]
    folder = save_small_model(tmp_path / "run")
    assert evaluate_run(folder, [manifest, more]).num_clips == 6
    assert evaluate_run(folder, manifest, ids=["test-000", "test-001"], ties="pessimistic").num_captions == 4


def test_manifests_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(ManifestError, match="no such manifest"):
        choose_clips([tmp_path], template="{title}")
    write_clips(tmp_path / "empty", [])
    with pytest.raises(ManifestError, match="the manifest has no clips"):
        choose_clips([tmp_path / "empty"], template="{title}")
    folder = write_clips(tmp_path / "gone", [{"split": "test"}, {"split": "test"}])
    (folder / "audio" / "test-001.flac").unlink()
    with pytest.raises(ManifestError, match="1 audio files are missing"):
        choose_clips([folder], template="{title}")


def test_a_manifest_of_another_sample_rate_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = write_clips(tmp_path / "clips", [{"split": "test"}, {"split": "test"}])
    rows = pq.read_table(folder / "manifest.parquet").to_pylist()
    for row in rows:
        row["sample_rate"], row["duration_s"] = 32_000, row["num_samples"] / 32_000
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "manifest.parquet")
    with pytest.raises(ManifestError, match="sample_rate is 32000, must be 44100"):
        choose_clips([folder], template="{title}")


def test_lists_of_ids(tmp_path):
    file = tmp_path / "ids.txt"
    file.write_text("\ufeff# the 742\ntest-000\n\n youtube:-id1  # a comment\nyoutube:a#b\n", encoding="utf-8")
    assert read_ids(file) == ["test-000", "youtube:-id1", "youtube:a#b"]
    file.write_text("# nothing\n\n")
    with pytest.raises(ConfigError, match=r"ids.txt: the list of ids is empty; write one clip_id, or origin:origin_id"):
        read_ids(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"ids\.txt: 'utf-8' codec can't decode"):
        read_ids(file)
    with pytest.raises(ConfigError, match="none: No such file"):
        read_ids(tmp_path / "none")


def test_a_random_piece_is_the_same_wherever_it_is_read(model, manifest):
    clips = choose_clips([manifest], template="{title}", ids=[f"test-00{n}" for n in range(6)]).clips
    first = embed_random_crops(model, clips, seed=1, quiet=True)
    assert np.linalg.norm(first, axis=1) == pytest.approx(1, abs=1e-5)
    alone = [embed_random_crops(model, [clip], seed=1, batch_size=1, quiet=True)[0] for clip in reversed(clips)]
    assert np.stack(alone[::-1]) == pytest.approx(first, abs=1e-5)
    other = embed_random_crops(model, clips, seed=2, quiet=True)
    moved = np.abs(other - first).max(axis=1) > 1e-4
    assert moved.tolist() == [clip.num_samples > 0.4 * RATE for clip in clips]  # the shorter window's length
    rule = model.embed_audio([read_clip(clips[0].path)], sample_rate=RATE)
    assert first[0] == pytest.approx(rule[0], abs=1e-5)  # a short clip goes round, as by the rule
    assert not model.training


def test_a_shorter_window_lies_inside_a_longer_one(model):
    waveform = np.arange(3 * RATE, dtype=np.float32)
    sizes = model.audio.clip_samples
    starts = set()
    for seed in range(40):
        place = place_of("test-1", seed=seed)
        cut = pieces(model, waveform, sample_rate=RATE, place=place)
        assert {name: len(window) for name, window in cut.items()} == sizes
        long, short = cut["cnn14"], cut["htsat"]
        assert long[0] <= short[0]
        assert short[-1] <= long[-1]
        starts.add(int(long[0]))
    assert len(starts) > 35
    assert min(starts) < 0.5 * RATE
    assert max(starts) > 2 * RATE
    last = pieces(model, waveform, sample_rate=RATE, place=np.nextafter(1.0, 0.0))
    assert last["cnn14"][-1] == waveform[-1]
    assert place_of("test-1", seed=0) != place_of("test-2", seed=0)


def test_embeddings_of_clips_name_them(model, manifest):
    clips = choose_clips([manifest], template="{title}").clips
    made = embed_clips(model, clips, quiet=True)
    assert made.clip_ids == tuple(ids(clips))
    assert made.captions[:2] == clips[0].captions
    assert made.is_unit
