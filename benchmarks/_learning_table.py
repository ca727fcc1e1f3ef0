"""The Markdown of benchmarks/learning.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from _learning_data import TEST_FRACTION
from _learning_runs import AUDIO, BOTH, CLASS_TEMPLATES, DESCRIPTION, TITLE_AND_DESCRIPTION, Plan
from _learning_scores import DIRECTIONS, RESAMPLES, ClassScores, Difference, SoundScores, difference

from training.evaluate import Evaluation
from training.intervals import bootstrap
from training.metrics import report_of
from training.zeroshot import PROMPT

METRICS = {"recall_at_1": "R@1", "recall_at_5": "R@5", "recall_at_10": "R@10", "map_at_10": "mAP@10"}
WAYS = {"text_to_audio": "text to audio", "audio_to_text": "audio to text"}
TRAINED = {DESCRIPTION: "description", TITLE_AND_DESCRIPTION: "title and description"}
COMPARED = ("recall_at_10", "map_at_10")
"""The metrics that differences are taken of: the others depend on fewer hits."""
_BARS = {"recall_at_1": 5, "recall_at_10": 3, "map_at_10": 5}
"""Of the demo: at least so many times chance."""
_DIFFERENCE = ("difference", "95 %", "by seed", "")

Sounds = dict[tuple[str, str, str], SoundScores]


def render(
    plan: Plan,
    *,
    machine: str,
    took: str,
    demo: tuple[Evaluation, dict[str, Any]] | None,
    classes: ClassScores,
    sounds: Sounds,
) -> str:
    """Return the whole document."""
    width = "the paper's width (paper-d's audio towers)" if plan.is_paper_width else "the width of the recipe tiny"
    seeds = ", ".join(map(str, plan.seeds))
    parts = ["# Learning, shown"]
    if plan.is_quick:
        parts.append("Made with `--quick`: trained too little to mean anything.")
    parts.append(
        "Written by `benchmarks/learning.py`, whose modules say what is trained and how it was chosen. Everything "
        f"starts at random, at {width}; seeds {seeds}; {took} on {machine}. Percent, with the 95 % "
        f"interval of {RESAMPLES:,} bootstrap resamples of clips in brackets: it says what other clips would change, "
        "not what other seeds would, which stand beside. A difference is called noise if its interval holds 0 or the "
        "seeds differ in sign. No test clip was looked at to choose a setting, but ESC-10's settings were chosen with "
        "folds 1 and 2, so that fold 3 alone is untouched."
    )
    if demo is not None:
        parts += _demo(*demo)
    parts += [*_classes(plan, classes), *_sounds(sounds), *_captions(sounds)]
    return "\n\n".join(parts) + "\n"


def _demo(scores: Evaluation, report: dict[str, Any]) -> list[str]:
    bounds = bootstrap(scores.ranks, resamples=RESAMPLES)
    rows = []
    for way, words in WAYS.items():
        for metric, name in METRICS.items():
            value, chance = scores.metrics.as_dict()[way][metric], scores.chance.as_dict()[way][metric]
            bar = (
                f"{_BARS[metric]}: {'met' if value >= _BARS[metric] * chance else 'NOT met'}" if metric in _BARS else ""
            )
            score = _with_bounds(value, bounds[way][metric])
            rows.append((words, name, score, _percent(chance), f"{value / chance:.1f}", bar))
    seconds = report["seconds"]
    return [
        "## Synthesised sounds: the demo",
        f"`make demo`: {scores.num_clips} clips held out (bar: 100), list sha256 {scores.list_sha256[:12]}; trained in "
        f"{seconds['train']:.0f} s (bar: 180), {sum(seconds.values()):.0f} s in all. One seed, the demo's.",
        _table(("direction", "metric", "score", "chance", "times chance", "at least"), rows),
    ]


def _classes(plan: Plan, scores: ClassScores) -> list[str]:
    folds = sorted(set(scores.fold.tolist()))
    chance = 1 / scores.num_classes
    rows = []
    for audio in AUDIO:
        right = scores.is_right[audio]
        by_fold = [_percent(float(right[:, scores.fold == fold].mean())) for fold in folds]
        seeds = " ".join(_percent(value) for value in right.mean(axis=1))
        rows.append((audio, _with_bounds(float(right.mean()), scores.interval(audio)), *by_fold, seeds))
    rows.append(("chance", _percent(chance), *[""] * len(folds), ""))
    above = [scores.interval(audio)[0] > chance for audio in AUDIO]
    compared = [(f"{BOTH} less {audio}", *_cells(scores.difference(BOTH, audio))) for audio in AUDIO if audio != BOTH]
    size = right.shape[1]
    return [
        "## ESC-10: the class of a sound from a fold not trained on",
        f'Zero-shot accuracy, prompt "{PROMPT}", trained on the other folds with {len(CLASS_TEMPLATES)} caption '
        f"templates, {plan.class_epochs} epochs; {size} clips of {len(set(scores.recording.tolist()))} recordings "
        f"(resampled whole), {scores.num_classes} classes, {len(plan.seeds)} seeds.",
        _table(("audio encoders", "accuracy", *(f"fold {fold}" for fold in folds), "by seed"), rows),
        _above_chance(above),
        _table(("", *_DIFFERENCE), compared),
        _counted(compared),
    ]


def _sounds(sounds: Sounds) -> list[str]:
    found = {audio: sounds[audio, TITLE_AND_DESCRIPTION, "all"] for audio in AUDIO}
    above = []
    first = found[BOTH].evaluations[0]
    rows = []
    for way, words in WAYS.items():
        rows += [(words, audio, *_metric_cells(scores, way)) for audio, scores in found.items()]
        chance = first.chance.as_dict()[way]
        rows.append((words, "chance", *(_percent(chance[metric]) for metric in METRICS)))
        bounds = [bootstrap(scores.ranks, resamples=RESAMPLES)[way] for scores in found.values()]
        above += [of_model[metric][0] > chance[metric] for of_model in bounds for metric in METRICS]
    compared = [
        (
            f"{BOTH} less {audio}",
            WAYS[way],
            METRICS[metric],
            *_cells(difference(found[BOTH], found[audio], way=way, metric=metric)),
        )
        for audio in AUDIO
        if audio != BOTH
        for way in DIRECTIONS
        for metric in COMPARED
    ]
    return [
        "## tuxpaint-gcompris, effects and SoundBible: retrieval on clips held out by hash",
        f"{first.num_clips} clips, a caption each, in the manifests' own test splits ({TEST_FRACTION:.0%} of each set "
        f"were asked for; near-equal sounds are on one side), list sha256 {first.list_sha256[:12]}. A caption that "
        f"several clips share counts for its own clip alone. Means of {len(found[BOTH].evaluations)} seeds.",
        _table(("direction", "audio encoders", *METRICS.values()), rows),
        _above_chance(above),
        _table(("", "direction", "metric", *_DIFFERENCE), compared),
        _counted(compared),
    ]


def _captions(sounds: Sounds) -> list[str]:
    lists = {
        DESCRIPTION: "SoundBible, description",
        TITLE_AND_DESCRIPTION: "SoundBible, title and description",
        "others": "the other sets, their own texts",
    }
    rows, compared = [], []
    for name, words in lists.items():
        by_template = {template: sounds[BOTH, template, name] for template in TRAINED}
        first = by_template[DESCRIPTION].evaluations[0]
        for way in DIRECTIONS:
            for template, scores in by_template.items():
                rows.append((words, WAYS[way], TRAINED[template], *_metric_cells(scores, way)))
            chances = (_percent(first.chance.as_dict()[way][metric]) for metric in METRICS)
            rows.append((words, WAYS[way], f"chance, {first.num_clips} clips", *chances))
            for metric in COMPARED:
                gain = difference(by_template[TITLE_AND_DESCRIPTION], by_template[DESCRIPTION], way=way, metric=metric)
                compared.append((words, WAYS[way], METRICS[metric], *_cells(gain)))
    return [
        "## Table 4's mechanism: captions of description, or of title and description",
        "The same clips are trained on; SoundBible's captions are made by the one template or the other, those of the "
        f"other sets are what they are. Audio encoders {BOTH}; the same held-out clips are searched with both kinds of "
        "queries. SoundBible is the only set here with both texts, and its few clips are all that differs. The paper "
        "found +0.56 points of R@1 (text to audio) and +0.86 (audio to text) on Clotho, -0.08 and +1.75 on AudioCaps, "
        "without intervals.",
        _table(("queries", "direction", "trained on", *METRICS.values()), rows),
        "Title and description less description:",
        _table(("queries", "direction", "metric", *_DIFFERENCE), compared),
        _counted(compared),
    ]


def _metric_cells(scores: SoundScores, way: str) -> list[str]:
    values = report_of(scores.ranks).as_dict()[way]
    bounds = bootstrap(scores.ranks, resamples=RESAMPLES)[way]
    return [_with_bounds(values[metric], bounds[metric]) for metric in METRICS]


def _cells(found: Difference) -> tuple[str, str, str, str]:
    seeds = " ".join(f"{100 * value:+.1f}" for value in found.by_seed)
    return f"{100 * found.value:+.1f}", f"{100 * found.low:+.1f} to {100 * found.high:+.1f}", seeds, found.verdict


def _above_chance(above: Sequence[bool]) -> str:
    """Return in a sentence how many intervals lie above chance."""
    if all(above):
        return f"All {len(above)} intervals lie above chance."
    return f"{sum(above)} of {len(above)} intervals lie above chance."


def _counted(compared: Sequence[tuple[str, ...]]) -> str:
    """Return in a sentence how many differences are noise."""
    noise = sum("noise" in row[-1] for row in compared)
    if noise == len(compared):
        return f"All {noise} differences are within noise: this shows nothing either way."
    return (
        f"{noise} of {len(compared)} differences are within noise; of 20 without any effect one would seem to have one."
    )


def _with_bounds(value: float, bounds: tuple[float, float]) -> str:
    return f"{_percent(value)} ({_percent(bounds[0])}-{_percent(bounds[1])})"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
