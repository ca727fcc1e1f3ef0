"""benchmarks/learning.py: what its tables say of sounds, what it calls noise, and that its intervals are of clips.

The runs themselves take 25 minutes and sounds that are not here; ``benchmarks/learning.py`` is run by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from training.intervals import bootstrap
from training.ranking import rank_similarity

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the benchmarks' own modules be imported, behind the packages whose names they share."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])

    def load(name: str) -> ModuleType:
        return __import__(name)

    return load


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("memory-sound: LRRain in garden 01 LA cut", "Rain in garden"),
        ("memory-sound: LRStartAndStopCarEngine1LACut", "Start And Stop Car Engine"),
        ("memory-sound: guitar son2", "guitar"),
        ("explore farm animals: cow", "cow"),
        ("chronos: 1", "chronos: 1"),
    ],
)
def test_names_of_the_games_sounds_are_put_into_words(modules: Any, text: str, caption: str) -> None:
    (row,) = modules("_learning_data")._tuxpaint([{"file": "a.ogg", "kind": "game sound", "text": text}])
    assert row["caption"] == caption


def test_a_fold_is_the_test_split_and_the_first_file_of_a_page_is_taken(modules: Any) -> None:
    data = modules("_learning_data")
    clips = [{"file": f"x/{fold}-1-A.ogg", "category": "Dog bark", "fold": fold, "freesound_id": "1"} for fold in "123"]
    assert [row["split"] for row in data._esc10(clips, held_out=2)] == ["train", "test", "train"]
    page = {"title": "Bell", "description": "A bell.", "tags": "['a', 'b']", "view_link": "", "soundbible_id": "7"}
    (row,) = data._soundbible([page | {"file": "a.wav"}, page | {"file": "b.mp3"}])
    assert (row["file"], row["tags"]) == ("a.wav", "a; b")


@pytest.mark.parametrize("is_paper_width", [False, True])
def test_runs_are_recipes_that_start_at_random_and_differ_in_what_is_compared(
    modules: Any, is_paper_width: bool, tmp_path: Path
) -> None:
    runs = modules("_learning_runs")
    plan = runs.Plan(
        folder=tmp_path, is_quick=False, is_paper_width=is_paper_width, device="auto", threads=0, folds=(3,),
        seeds=(0, 1), class_epochs=50, sound_epochs=20,
    )  # fmt: skip
    manifests = {"one": tmp_path / "one, with a sign", "other": tmp_path / "other"}
    configs = [
        runs.sound_run(plan, manifests, audio=audio, template=template, seed=seed)
        for audio in runs.AUDIO
        for template in (runs.DESCRIPTION, runs.TITLE_AND_DESCRIPTION)
        for seed in plan.seeds
    ]
    configs += [runs.class_run(plan, manifests["one"], fold=3, audio=audio, seed=0) for audio in runs.AUDIO]
    assert len({config.run.name for config in configs}) == len(configs)
    for config in configs:
        assert not config.data.val
        assert all(source.splits == ("train",) for source in config.data.train)
        assert [config.init.cnn14, config.init.htsat, config.init.text, config.init.clap] == [None] * 4
        assert config.model.text.encoder == "scratch"
        assert config.model.cnn14.channels[-1] == (2048 if is_paper_width else 128)
    assert configs[0].data.train[0].manifest == str(manifests["one"])


@pytest.mark.parametrize(
    ("low", "high", "by_seed", "verdict"),
    [
        (-0.01, 0.05, (0.01, 0.02), "within noise"),
        (0.01, 0.05, (0.01, 0.02), "higher"),
        (-0.05, -0.01, (-0.01, -0.02), "lower"),
        (0.01, 0.05, (-0.01, 0.09), "within noise: seeds differ in sign"),
        (0.0, 0.05, (0.01, 0.02), "within noise"),
    ],
)
def test_a_difference_is_noise_unless_clips_and_seeds_say_otherwise(
    modules: Any, low: float, high: float, by_seed: tuple[float, ...], verdict: str
) -> None:
    value = float(np.mean(by_seed))
    found = modules("_learning_scores").Difference(value=value, low=low, high=high, by_seed=by_seed)
    assert found.verdict == verdict


def test_intervals_are_as_wide_as_those_of_clips_however_many_seeds(modules: Any) -> None:
    scores = modules("_learning_scores")
    rng = np.random.default_rng(0)
    right = rng.integers(2, size=200).astype(np.float64)
    alone = np.arange(200)
    low, high = scores._interval(right, alone)
    assert high - low == pytest.approx(2 * 1.96 * right.std() / np.sqrt(200), rel=0.1)
    of_pairs = scores._interval(np.repeat(right[:100], 2), alone // 2)
    assert of_pairs[1] - of_pairs[0] == pytest.approx(np.sqrt(2) * (high - low), rel=0.1)

    ranks = rank_similarity(rng.normal(size=(60, 60)) + 1.5 * np.eye(60), np.arange(60))
    thrice = tuple(scores._joined([ranks[way]] * 3) for way in (0, 1))
    for way, metrics in bootstrap(ranks).items():
        for name, bounds in metrics.items():
            if name != "median_rank":
                assert bootstrap(thrice)[way][name] == pytest.approx(bounds, abs=1e-9), (way, name)
