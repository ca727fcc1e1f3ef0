"""Manifests to clips and pairs: captions, lists of clips to leave out, what a run remembers, what cannot be trained."""

from __future__ import annotations

import hashlib
import re

import pytest

from curation.errors import ConfigError, ManifestError
from curation.manifest import manifest_hash
from tests.training.clips import small_config, tone, write_clips
from training.config import DataConfig, ManifestConfig
from training.data import check_training_data, fingerprint, make_pairs, read_clips, read_exclusions

TEMPLATES = ("{title}. {description}", "{title}")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    rows = [
        {"waveform": tone(300, 0.2)},
        {"waveform": tone(400, 1.5), "origin": "freesound", "origin_id": "1234"},
        {"waveform": tone(500, 0.6), "captions": ["first words", "second words", " "]},
        {"split": "val"},
        {"title": "", "description": "Only this.", "origin": "youtube", "origin_id": "a_-B"},
    ]
    return write_clips(tmp_path_factory.mktemp("manifest"), rows)


@pytest.fixture(scope="module")
def clips(manifest):
    return read_clips([ManifestConfig(manifest=str(manifest))], TEMPLATES)


def ids_of(manifest, *excluded, splits=("train",)) -> list[str]:
    found = read_clips([ManifestConfig(manifest=str(manifest), splits=splits)], TEMPLATES, exclude=excluded)
    return [clip.clip_id for clip in found]


def written(folder, name: str, text: str | bytes) -> str:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(file)


def test_captions_are_human_or_rendered(clips):
    assert [clip.captions for clip in clips] == [
        ("Tone 0. A steady tone, number 0.", "Tone 0"),
        ("Tone 1. A steady tone, number 1.", "Tone 1"),
        ("first words", "second words"),
        ("Only this.", "Only this."),
    ]
    each, one = make_pairs(clips, "each"), make_pairs(clips, "one")
    assert [(pair.clip, len(pair.captions)) for pair in each] == [(0, 2), (1, 2), (2, 1), (2, 1), (3, 2)]
    assert [(pair.clip, len(pair.captions)) for pair in one] == [(0, 2), (1, 2), (2, 2), (3, 2)]


def test_a_clip_knows_its_file_and_its_manifests_weight(clips, manifest, tmp_path):
    for clip in clips:
        assert hashlib.sha256(clip.path.read_bytes()).hexdigest() == clip.sha256
        assert (clip.source, clip.weight) == (0, 1.0)
    assert [round(clip.duration_s, 3) for clip in clips] == [0.2, 1.5, 0.6, 0.4]
    other = write_clips(tmp_path, [{"clip_id": "test-900"}])
    sources = [
        ManifestConfig(manifest=str(manifest), weight=2.0),
        ManifestConfig(manifest=str(manifest), splits=("val", "train"), weight=2.0),
        ManifestConfig(manifest=str(other), weight=0.5),
    ]
    found = read_clips(sources, TEMPLATES)
    assert [(clip.clip_id, clip.source, clip.weight) for clip in found] == [
        *((f"test-00{number}", 0, 2.0) for number in (0, 1, 2, 4)),
        ("test-003", 1, 2.0),
        ("test-900", 2, 0.5),
    ]


def test_listed_clips_are_left_out(manifest, tmp_path, capsys):
    first = written(tmp_path, "first.txt", "# ours\ntest-000   # too loud\n\n  freesound:1234\r\nfreesound:9\n")
    second = written(tmp_path, "second.txt", "\ufefftest-000\ntest-003\nyoutube:a_-B")
    assert ids_of(manifest, first) == ["test-002", "test-004"]
    assert capsys.readouterr().err == (
        "data.exclude leaves 2 clips out; 1 of 3 names match no clip of data.train, the first is 'freesound:9'\n"
    )
    assert ids_of(manifest, first, second) == ["test-002"]
    assert "leaves 3 clips out; 2 of 5 names match no clip" in capsys.readouterr().err
    assert ids_of(manifest, second, splits=("train", "val")) == ["test-001", "test-002"]
    assert capsys.readouterr().err == "data.exclude leaves 3 clips out\n"
    assert ids_of(manifest) == ["test-000", "test-001", "test-002", "test-004"]
    assert not capsys.readouterr().err


def test_a_list_that_cannot_be_read_is_named(manifest, tmp_path):
    def refused(message: str, *files: str) -> None:
        with pytest.raises(ConfigError, match=re.escape(message)):
            ids_of(manifest, *files)

    good = written(tmp_path, "good.txt", "test-000")
    refused(f"data.exclude: {tmp_path / 'none'}: No such file", good, str(tmp_path / "none"))
    refused(f"data.exclude: {tmp_path}: Is a directory", str(tmp_path))
    refused("empty.txt: names no clip; write one a line", good, written(tmp_path, "empty.txt", "# nothing\n\n"))
    refused("binary: not UTF-8 text", written(tmp_path, "binary", b"\xff\xfe\x00"))
    for line in ("test 000", "clip_id,split", "1234", "Freesound:1234", "freesound: ", "../test-000"):
        refused(f"bad.txt: line 2: {line.strip()!r} is neither", written(tmp_path, "bad.txt", f"test-000\n{line}\n"))
    everything = written(tmp_path, "all.txt", "\n".join(f"test-00{number}" for number in range(5)))
    refused("data.exclude leaves none of 4 clips of train; take the entry out", everything)


def test_a_fingerprint_names_data_weights_and_what_is_left_out(manifest, tmp_path):
    lists = [written(tmp_path, "a.txt", "test-001\ntest-000 # why\n"), written(tmp_path, "b.txt", "test-001\n")]
    train = (ManifestConfig(manifest=str(manifest), weight=2.0),)
    val = (ManifestConfig(manifest=str(manifest), splits=("val",)),)
    entry = {"manifest": str(manifest), "sha256": manifest_hash(manifest)}
    plain = [
        {"role": "train", "splits": ["train"], "weight": 2.0} | entry,
        {"role": "val", "splits": ["val"]} | entry,
    ]
    assert fingerprint(DataConfig(train=train, val=val)) == plain
    *rest, last = fingerprint(DataConfig(train=train, val=val, exclude=tuple(lists)))
    sha256 = hashlib.sha256(b"test-000\ntest-001\n").hexdigest()
    assert rest == plain
    assert last == {"role": "exclude", "files": lists, "sha256": sha256}
    assert fingerprint(DataConfig(train=train, exclude=tuple(lists[::-1])))[-1]["sha256"] == sha256
    assert fingerprint(DataConfig(train=train, exclude=(lists[1],)))[-1]["sha256"] != sha256
    assert read_exclusions(lists) == ["test-000", "test-001"]


def test_what_cannot_be_read_is_named(tmp_path, manifest):
    def read(folder, *splits: str, templates=TEMPLATES):
        source = ManifestConfig(manifest=str(folder), splits=splits or ("train",))
        return read_clips([source], templates)

    with pytest.raises(ManifestError, match=re.escape(str(tmp_path / "none"))):
        read(tmp_path / "none")
    with pytest.raises(ManifestError, match="the manifest has no clips"):
        read(write_clips(tmp_path / "empty", []))
    with pytest.raises(ConfigError, match=r"split 'test' has no clips \(there are train, val\)"):
        read(manifest, "train", "test")
    with pytest.raises(ConfigError, match=r"data.templates: .*\{name\}"):
        read(manifest, templates=("{name}",))
    folder = write_clips(tmp_path / "gone", [{}, {}, {}])
    for name in ("test-001", "test-002"):
        (folder / "audio" / f"{name}.flac").unlink()
    with pytest.raises(ManifestError, match=r"2 audio files are missing, the first is .*test-001.flac"):
        read(folder)
    source = ManifestConfig(manifest=str(manifest))
    assert len(read_clips([source, source], TEMPLATES)) == 4
    with pytest.raises(ConfigError, match=r"'test-000' of .* has weight 1 in one entry of data.train and 2 in another"):
        read_clips([source, ManifestConfig(manifest=str(manifest), weight=2.0)], TEMPLATES)
    copy = ManifestConfig(manifest=str(write_clips(tmp_path / "copy", [{}])))
    with pytest.raises(ConfigError, match=r"clip 'test-000' is in .*copy and in another manifest"):
        read_clips([source, copy], TEMPLATES)


def checked(folder, rows, *, world_size: int = 1, val: bool = False, **sections) -> list[str]:
    manifest = write_clips(folder / "clips", rows)
    config = small_config(folder, manifest, **sections)
    clips = read_clips(config.data.train, config.data.templates)
    pairs = make_pairs(clips, config.data.captions)
    return check_training_data(config, clips, pairs, clips[1:3] if val else [], world_size=world_size)


def test_data_that_can_be_trained_on_may_have_warnings(tmp_path):
    assert checked(tmp_path / "good", [{} for _ in range(4)], val=False) == []
    (message,) = checked(tmp_path / "val", [{} for _ in range(4)], val=True)
    assert message == (
        "2 of 2 val clips are also training clips, the first is 'test-001'; their scores say nothing about new sounds"
    )
    often = [{"captions": ["rain"]}, {"captions": ["rain", "rain on a roof"]}, {"captions": ["rain"]}, {}]
    (message,) = checked(tmp_path / "often", often)
    assert "3 of 5 pairs have the caption 'rain'" in message
    assert "loss.mask_same_clip" in message
    assert checked(tmp_path / "half", [{"captions": ["rain"]}, {}, {"captions": ["rain"]}, {}]) == []
    short = [{"waveform": tone(300, 0.2)}, {}, {}, {}, {}]
    (message,) = checked(tmp_path / "buckets", short, data={"buckets_s": [0.3]})
    assert "clips of the bucket of 0.3 s share batches with those longer than all buckets" in message


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{}], {}, "data.train gives 1 pair; at least 2 pairs are needed"),
        ([{}, {}, {}], {}, "run.batch_size=4 is larger than the data set: 3 pairs; set run.batch_size=3 or less"),
        ([{}] * 4, {"world_size": 3}, "run.batch_size=4 cannot be shared by 3 processes equally"),
        (
            [{"title": "Rain", "description": ""}] * 5,
            {},
            "all 5 pairs of data.train have one caption, 'Rain': nothing can be learned from it",
        ),
        ([{"title": "Rain", "description": "It rains."}] * 5, {}, "all 5 pairs of data.train have one caption"),
        ([{"captions": ["x" * 80] * 2}] * 2, {}, f"one caption, '{'x' * 57}...'"),
    ],
)
def test_data_that_teach_nothing_are_refused(tmp_path, rows, options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        checked(tmp_path, rows, **options)
