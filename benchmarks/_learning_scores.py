"""Scores of benchmarks/learning.py: several seeds on the same clips, intervals, and whether a difference is noise.

A clip that is drawn again brings along its results of all seeds, so an interval says what other clips would change;
what another seed changes is shown beside it, seed by seed. A recording of ESC-10 with several clips is drawn whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _learning_data import NAMED, Sets
from _learning_runs import (
    AUDIO,
    BOTH,
    CLASS_TEMPLATES,
    DESCRIPTION,
    TITLE_AND_DESCRIPTION,
    Plan,
    class_run,
    sound_run,
)

from curation.manifest import read_manifest
from training.checkpoint import load_model
from training.config import ManifestConfig, TrainConfig
from training.data import Clip, read_clips
from training.device import choose_device
from training.engine import train
from training.evaluate import Evaluation, caption_template, evaluate_clips, waveforms
from training.intervals import compare
from training.metrics import DirectionRanks
from training.models.clap import Clap
from training.zeroshot import zero_shot

DIRECTIONS = ("text_to_audio", "audio_to_text")
RESAMPLES = 2000
Ranks = tuple[DirectionRanks, DirectionRanks]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One score minus another, as fractions."""

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]

    @property
    def verdict(self) -> str:
        """In words: noise, unless the interval leaves 0 out and every seed says the same."""
        signs = set(np.sign(self.by_seed))
        if self.low <= 0 <= self.high:
            return "within noise"
        if len(signs) > 1 or 0 in signs:
            return "within noise: seeds differ in sign"
        return "higher" if self.value > 0 else "lower"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """ESC-10, each clip scored by the models that did not train on its fold."""

    is_right: dict[str, npt.NDArray[np.float64]]
    """By audio encoders: (seeds, clips), 1 or 0."""
    fold: npt.NDArray[np.int64]
    recording: npt.NDArray[np.int64]
    num_classes: int

    def interval(self, audio: str) -> tuple[float, float]:
        """Return the 95 % interval of the accuracy over all seeds."""
        return _interval(self.is_right[audio].mean(axis=0), self.recording)

    def difference(self, one: str, other: str) -> Difference:
        """Return the accuracy of one less that of another."""
        by_clip = self.is_right[one] - self.is_right[other]
        low, high = _interval(by_clip.mean(axis=0), self.recording)
        seeds = tuple(by_clip.mean(axis=1).tolist())
        return Difference(value=float(by_clip.mean()), low=low, high=high, by_seed=seeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundScores:
    """Retrieval on one list of held-out clips and captions, of the models of several seeds."""

    evaluations: tuple[Evaluation, ...]
    """One a seed."""

    @property
    def ranks(self) -> Ranks:
        """All seeds as one list of queries: its means are means over seeds, its clips those of one seed."""
        one, other = (_joined([each.ranks[way] for each in self.evaluations]) for way in (0, 1))
        return one, other


def score_classes(plan: Plan, sets: Sets, say: Say) -> ClassScores:
    """Train on all folds but one and name the classes of that one, for each fold, audio tower and seed."""
    rows = {fold: _test_rows(sets.classes[fold]) for fold in plan.folds}
    right = {}
    for audio in AUDIO:
        seeds = []
        for seed in plan.seeds:
            folds = []
            for fold in plan.folds:
                config = class_run(plan, sets.classes[fold], fold=fold, audio=audio, seed=seed)
                model = trained(config, say)
                clips = _test_clips([sets.classes[fold]], CLASS_TEMPLATES[0])
                labels = [rows[fold][clip.clip_id][0] for clip in clips]
                told = zero_shot(model, clips, labels, folds=range(len(clips)), quiet=True)  # each clip its own fold
                folds.append([told.by_fold[number] for number in range(len(clips))])
                say(f"accuracy {told.accuracy:.3f}")
            seeds.append(np.concatenate(folds))
        right[audio] = np.array(seeds, np.float64)
    listed = [(fold, *of_clip) for fold in plan.folds for of_clip in rows[fold].values()]
    recordings = sorted({recording for _, _, recording in listed})
    return ClassScores(
        is_right=right,
        fold=np.array([fold for fold, _, _ in listed]),
        recording=np.array([recordings.index(recording) for _, _, recording in listed]),
        num_classes=len({label for _, label, _ in listed}),
    )


def score_sounds(plan: Plan, sets: Sets, say: Say) -> dict[tuple[str, str, str], SoundScores]:
    """Train on the sets with texts and search their held-out clips.

    Returns:
        Scores by audio encoders, the template of training, and the list of queries: a template of SoundBible's
        captions for its own clips, "all" for every set's clips (SoundBible's with title and description), "others" for
        the clips of the other sets, whose texts no template changes.
    """
    lists: dict[str, list[Clip]] = {
        template: _test_clips([sets.named["soundbible"]], template) for template in (DESCRIPTION, TITLE_AND_DESCRIPTION)
    }
    lists["others"] = _test_clips([sets.named[name] for name in NAMED if name != "soundbible"], DESCRIPTION)
    lists["all"] = [*lists["others"], *lists[TITLE_AND_DESCRIPTION]]
    found: dict[tuple[str, str, str], SoundScores] = {}
    for audio, template in [*((audio, TITLE_AND_DESCRIPTION) for audio in AUDIO), (BOTH, DESCRIPTION)]:
        by_list: dict[str, list[Evaluation]] = {name: [] for name in lists}
        for seed in plan.seeds:
            model = trained(sound_run(plan, sets.named, audio=audio, template=template, seed=seed), say)
            for name, evaluation in _evaluations(model, lists).items():
                by_list[name].append(evaluation)
            say(f"mAP@10 {by_list['all'][-1].metrics.mean_map_at_10:.3f}")
        found |= {(audio, template, name): SoundScores(evaluations=tuple(each)) for name, each in by_list.items()}
    return found


def score_demo(folder: Path) -> Evaluation:
    """Return the scores of the demo's model on its test split, whose captions the first template makes."""
    template = caption_template(folder / "run", None)
    clips = _test_clips([folder / "curated"], template)
    return evaluate_clips(load_model(folder / "run"), clips, quiet=True)


def trained(config: TrainConfig, say: Say) -> Clap:
    """Return the model of a run, taken up where it was left, on the run's device."""
    say(f"run {config.run.name}")
    train(config)
    return load_model(config.run_folder).to(choose_device(config.run.device))


def difference(one: SoundScores, other: SoundScores, *, way: str, metric: str) -> Difference:
    """Return one model's metric less another's, on the same clips and captions."""
    lists = (one.evaluations[0].list_sha256, other.evaluations[0].list_sha256)
    found = compare(other.ranks, one.ranks, lists=lists, resamples=RESAMPLES)[way][metric]
    pairs = zip(one.evaluations, other.evaluations, strict=True)
    by_seed = [a.metrics.as_dict()[way][metric] - b.metrics.as_dict()[way][metric] for a, b in pairs]
    return Difference(value=found.difference, low=found.low, high=found.high, by_seed=tuple(by_seed))


def _evaluations(model: Clap, lists: dict[str, list[Clip]]) -> dict[str, Evaluation]:
    """Return the scores on each list; every clip is embedded once."""
    clips = lists["all"]
    embedded = model.embed_audio(waveforms(clips, quiet=True), sample_rate=clips[0].sample_rate)
    row_of = {clip.clip_id: row for clip, row in zip(clips, embedded, strict=True)}

    def embed(wanted: Sequence[Clip]) -> npt.NDArray[np.float32]:
        return np.stack([row_of[clip.clip_id] for clip in wanted])

    return {name: evaluate_clips(model, each, embed=embed) for name, each in lists.items()}


def _test_rows(manifest: Path) -> dict[str, tuple[str, str]]:
    """Return label and recording of a manifest's test clips, by clip_id."""
    rows = read_manifest(manifest).to_pylist()
    return {row["clip_id"]: (row["labels"][0], row["origin_id"]) for row in rows if row["split"] == "test"}


def _test_clips(manifests: Sequence[Path], template: str) -> list[Clip]:
    sources = [ManifestConfig(manifest=str(manifest), splits=("test",)) for manifest in manifests]
    return read_clips(sources, (template,))


def _joined(ranks: Sequence[DirectionRanks]) -> DirectionRanks:
    fields = ("best_rank", "average_precision", "fractional_recall", "clip", "tied")
    joined: dict[str, Any] = {name: np.concatenate([getattr(each, name) for each in ranks]) for name in fields}
    return replace(ranks[0], **joined)


def _interval(by_clip: npt.NDArray[np.float64], group: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % percentile interval of a mean, groups of clips drawn again."""
    sums, sizes = np.bincount(group, weights=by_clip), np.bincount(group)
    drawn = np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)
