"""Zero-shot classification: the class whose prompt's embedding is nearest to a clip's is the answer (Elizalde et al.
2022, arXiv:2206.04769, section 3.3; ESC-50 and its like).

Underscores in labels are read as spaces, "sea_waves" as "sea waves". With several prompts a class is the mean of their
unit embeddings. Equal cosines go to the class that comes first in the alphabet, so that a model which gives everything
one embedding does no better than chance on a balanced set.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.errors import ConfigError
from training.data import Clip
from training.evaluate import list_hash, waveforms
from training.models.clap import Clap
from training.recipe import UsageError

PROMPT = "This is a sound of {label}."


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassResult:
    """How one class came out."""

    label: str
    num_clips: int
    recall: float
    """Share of its clips that were told to be of it."""
    precision: float | None
    """Share of the clips told to be of it that are; None if there are none."""
    confused_with: str
    """The wrong class that its clips were most often told to be of; "" if all were right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroShot:
    """Accuracy of a model that was given the names of the classes alone."""

    accuracy: float
    interval: tuple[float, float]
    """95 % bootstrap interval over clips."""
    chance: float
    """Of an answer drawn evenly from the classes."""
    commonest: float
    """Share of the commonest class: the accuracy of always answering it."""
    mean_recall: float
    """Mean of the recall of the classes that have clips."""
    by_class: tuple[ClassResult, ...]
    by_fold: dict[int, float]
    """Accuracy of each cross-validation fold; empty where there are none."""
    num_clips: int
    num_classes: int
    prompts: tuple[str, ...]
    list_sha256: str
    """As Evaluation's."""

    def as_dict(self) -> dict[str, Any]:
        """Return everything, as JSON takes it."""
        return {
            "num_clips": self.num_clips,
            "num_classes": self.num_classes,
            "list_sha256": self.list_sha256,
            "prompts": list(self.prompts),
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "chance": self.chance,
            "commonest_class": self.commonest,
            "mean_recall": self.mean_recall,
            "by_fold": {str(fold): accuracy for fold, accuracy in self.by_fold.items()},
            "by_class": [
                {
                    "label": result.label,
                    "num_clips": result.num_clips,
                    "recall": result.recall,
                    "precision": result.precision,
                    "confused_with": result.confused_with,
                }
                for result in self.by_class
            ],
        }

    def table(self) -> str:
        """Return the scores in percent, for people, with the classes told worst."""
        low, high = (100 * bound for bound in self.interval)
        lines = [
            f"accuracy        {100 * self.accuracy:8.2f} %   95 % interval {low:.1f}-{high:.1f}",
            f"  chance        {100 * self.chance:8.2f} %   always the commonest class {100 * self.commonest:.2f} %",
            f"mean recall     {100 * self.mean_recall:8.2f} %   of {self.num_classes} classes",
        ]
        if len(self.by_fold) > 1:
            lines.append(
                "by fold         " + "".join(f"{fold:>6}: {100 * acc:.2f}" for fold, acc in self.by_fold.items())
            )
        worst = sorted((result for result in self.by_class if result.confused_with), key=lambda each: each.recall)[:5]
        for result in worst:
            lines.append(
                f"  {result.label}: {100 * result.recall:.1f} % of {result.num_clips}, "
                f"most often told to be {result.confused_with}"
            )
        return "\n".join(lines)


def zero_shot(
    model: Clap,
    clips: Sequence[Clip],
    labels: Sequence[str],
    *,
    prompt: str | Sequence[str] = PROMPT,
    folds: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    batch_size: int = 32,
    resamples: int = 2000,
    seed: int = 0,
    quiet: bool = False,
    embed: Callable[[Sequence[Clip]], np.ndarray] | None = None,
) -> ZeroShot:
    """Return how often a model tells a clip's class by the names of the classes.

    Args:
        model: The model.
        clips: Of a manifest.
        labels: The class of each clip.
        prompt: Text with {label} in it, or several whose embeddings are averaged.
        folds: Cross-validation fold of each clip, for the accuracy by fold; -1 for none.
        classes: What a clip is told from; the labels of these clips if not given.
        batch_size: Windows of sound encoded at once.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        quiet: Show no progress.
        embed: Gives the clips' embeddings, as in evaluate_clips.

    Raises:
        UsageError: If a prompt has no {label} in it, or another field.
        ConfigError: If there are fewer than two classes, or two are spelled alike.
        BrokenModelError: If an embedding is not finite.
        ValueError: If clips, labels and folds are not equally many, or a label is none of the classes.
    """
    prompts = (prompt,) if isinstance(prompt, str) else tuple(prompt)
    for each in prompts:
        check_prompt(each)
    names = sorted(set(labels) if classes is None else set(classes))
    if len(labels) != len(clips) or (folds is not None and len(folds) != len(clips)) or not clips:
        raise ValueError(f"there must be a label (and a fold) for each of {len(clips)} clips, one clip at least")
    if unknown := sorted(set(labels) - set(names)):
        raise ValueError(f"label {unknown[0]!r} is none of the {len(names)} classes")
    text_embed = _classes(model, names, prompts)
    rate = clips[0].sample_rate
    if embed is not None:
        audio_embed = embed(clips)
    else:
        audio_embed = model.embed_audio(waveforms(clips, quiet=quiet), batch_size=batch_size, sample_rate=rate)
    told = (audio_embed @ text_embed.T).argmax(axis=1)
    true = np.array([names.index(label) for label in labels])
    is_right = told == true
    by_class = tuple(_of_class(number, names, told, true) for number in range(len(names)) if (true == number).any())
    return ZeroShot(
        accuracy=float(is_right.mean()),
        interval=_interval(is_right, resamples=resamples, seed=seed),
        chance=1 / len(names),
        commonest=Counter(labels).most_common(1)[0][1] / len(clips),
        mean_recall=float(np.mean([result.recall for result in by_class])),
        by_class=by_class,
        by_fold={fold: float(is_right[np.array(folds) == fold].mean()) for fold in sorted(set(folds or ()) - {-1})},
        num_clips=len(clips),
        num_classes=len(names),
        prompts=prompts,
        list_sha256=list_hash([clip.clip_id for clip in clips]),
    )


def check_prompt(prompt: str) -> None:
    """Refuse a prompt that would be one text for all classes, or that has a field besides {label} (UsageError)."""
    try:
        fields = [(name, form, conversion) for _, name, form, conversion in string.Formatter().parse(prompt)]
    except ValueError as error:
        raise UsageError(f"--prompt {prompt!r}: {error}") from error
    named = [field for field in fields if field[0] is not None]
    if not named or any(field != ("label", "", None) for field in named):
        raise UsageError(f"--prompt {prompt!r} must have {{label}} in it and no other field, such as {PROMPT!r}")


def _classes(model: Clap, names: Sequence[str], prompts: Sequence[str]) -> np.ndarray:
    """Return the embedding (classes, D) of each class."""
    spoken = [name.replace("_", " ") for name in names]
    if len(names) < 2:
        raise ConfigError(f"zero-shot classification needs two classes at least, found {', '.join(names) or 'none'}")
    if len(set(spoken)) < len(names):
        twice = Counter(spoken).most_common(1)[0][0]
        raise ConfigError(f"two classes are both read {twice!r}, so no prompt tells them apart")
    embedded = [model.embed_text([prompt.format(label=label) for label in spoken]) for prompt in prompts]
    mean = np.mean(embedded, axis=0)
    unit: np.ndarray = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return unit


def _of_class(number: int, names: Sequence[str], told: np.ndarray, true: np.ndarray) -> ClassResult:
    of_class, told_so = true == number, told == number
    wrong = Counter(told[of_class & ~told_so].tolist())
    return ClassResult(
        label=names[number],
        num_clips=int(of_class.sum()),
        recall=float(told_so[of_class].mean()),
        precision=float(of_class[told_so].mean()) if told_so.any() else None,
        confused_with=names[min(wrong, key=lambda other: (-wrong[other], other))] if wrong else "",
    )


def _interval(is_right: np.ndarray, *, resamples: int, seed: int) -> tuple[float, float]:
    """Return the percentile interval of the mean: of n clips drawn again, the right ones are binomially many."""
    drawn = np.random.default_rng(seed).binomial(len(is_right), is_right.mean(), resamples) / len(is_right)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
