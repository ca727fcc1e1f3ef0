"""A model on a list of clips: embeds clips and captions, scores both directions, states chance beside.

Audio is embedded by the model's own deterministic rule (training.models.clap). Captions are the human ones, all of
them; a clip without any has the one that the first template of the model's training makes. Scores of embeddings alone
(training.embeddings) go through the same function as a model's.
"""

from __future__ import annotations

if __name__ == "__main__":  # before PyTorch is loaded, by the imports below: --help is instant, and see _share_cores
    from training.cli import evaluate_main

    evaluate_main()

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from curation.audio import read_clip
from curation.text import render_caption
from training.checkpoint import load_model, read_description
from training.data import Clip
from training.device import choose_device
from training.embeddings import Embeddings
from training.metrics import (
    METRICS,
    DirectionRanks,
    RetrievalReport,
    Ties,
    chance_level,
    rank_embeddings,
    report_of,
)
from training.models.clap import Clap
from training.recipe import UsageError
from training.runlog import Progress
from training.selection import choose_clips

DIRECTIONS = ("text_to_audio", "audio_to_text")
Intervals = dict[str, dict[str, tuple[float, float]]]
"""Direction, metric: low and high."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Metrics of a model on a list of clips, and what they were measured on."""

    metrics: RetrievalReport
    chance: RetrievalReport
    ranks: tuple[DirectionRanks, DirectionRanks]
    """What the metrics are means of; training.intervals says how sure they are."""
    num_clips: int
    num_captions: int
    list_sha256: str
    """Of the sorted clip ids, one a line: two scores are comparable if this is equal. "" for clips without names."""

    def as_dict(self) -> dict[str, Any]:
        """Return everything under the contract's names; all counts and fractional recall under ``details``."""
        return {
            "num_clips": self.num_clips,
            "num_captions": self.num_captions,
            "list_sha256": self.list_sha256,
            **self.metrics.as_dict(),
            "chance": self.chance.as_dict(),
            "details": self.metrics.all_values(),
        }

    def table(self, intervals: Intervals | None = None) -> str:
        """Return a table for people, in percent: both directions with chance beside, and intervals if given."""
        lines = [table_header()]
        for direction in DIRECTIONS:
            values = self.metrics.as_dict()[direction]
            lines.append(f"{direction:16}" + "".join(_cell(name, values[name]) for name in METRICS))
            if intervals:
                bounds = intervals[direction]
                lines.append(f"{'  interval':16}" + "".join(_cell(name, *bounds[name]) for name in METRICS))
            chance = self.chance.as_dict()[direction]
            lines.append(f"{'  chance':16}" + "".join(_cell(name, chance[name]) for name in METRICS))
        details = self.metrics.all_values()["audio_to_text"]
        shares = [f"{100 * details[f'fractional_{name}']:12.2f}" for name in METRICS if name.startswith("recall")]
        return "\n".join([*lines, f"{'  DCASE recall':16}" + "".join(shares)])


_TITLES = {
    "recall_at_1": "R@1 %",
    "recall_at_5": "R@5 %",
    "recall_at_10": "R@10 %",
    "recall_at_50": "R@50 %",
    "map_at_10": "mAP@10 %",
    "median_rank": "med rank",
}


def table_header() -> str:
    """Return the line that names the columns of a table."""
    return f"{'':16}" + "".join(f"{_TITLES[name]:>12}" for name in METRICS)


def _cell(name: str, *values: float) -> str:
    """Return a value, or both ends of an interval, right-aligned."""
    if name == "median_rank":
        texts = [f"{value:.1f}" for value in values]
    else:
        texts = [f"{100 * value:.{2 if len(values) == 1 else 1}f}" for value in values]
    return f"{'-'.join(texts):>12}"


def evaluate_run(
    run: Path,
    manifest: Path | Sequence[Path],
    *,
    split: str | None = None,
    ids: Collection[str] | None = None,
    template: str | None = None,
    batch_size: int = 32,
    device: str = "auto",
    ties: Ties = "index",
) -> Evaluation:
    """Return the metrics of a run's model on clips of one manifest or several.

    Args:
        run: A run folder, or a model folder.
        manifest: Folders of manifests.
        split: Which clips; "test" unless ``ids`` names them.
        ids: Clips to evaluate on, of any split: see training.selection.
        template: Caption template of clips without human captions; None: the first one the model was trained with.
        batch_size: Windows of sound encoded at once.
        device: auto, cpu, cuda or cuda:N.
        ties: Who is first among equal scores: see training.metrics.

    Raises:
        ConfigError: If there is no model, the split is empty, or an id is not in a manifest.
        ManifestError: If a manifest is broken.
    """
    template = caption_template(run, template)
    where = choose_device(device, option="--device ")
    manifests = [manifest] if isinstance(manifest, Path) else list(manifest)
    clips = choose_clips(manifests, template=template, split=split, ids=ids).clips
    return score(embed_clips(load_model(run).to(where), clips, batch_size=batch_size), ties=ties)


def caption_template(run: Path, template: str | None) -> str:
    """Return the template given, checked, or the first one that a run's model was trained with.

    Raises:
        UsageError: If the one given cannot be.
        ConfigError: If there is no model.
    """
    if template is None:
        return str((read_description(run).get("caption_templates") or ["{title}. {description}"])[0])
    try:
        render_caption(template, title="a", description="b", tags=["c"])
    except ValueError as error:
        raise UsageError(f"--template: {error}") from error
    if not template.strip():
        raise UsageError("--template is empty; write one such as '{title}. {description}', or leave the option out")
    return template


def evaluate_clips(
    model: Clap,
    clips: Sequence[Clip],
    *,
    batch_size: int = 32,
    quiet: bool = False,
    embed: Callable[[Sequence[Clip]], np.ndarray] | None = None,
) -> Evaluation:
    """Return the metrics of a model on clips: every human caption, or the first template's.

    Args:
        model: The model.
        clips: Of a manifest.
        batch_size: Windows of sound encoded at once.
        quiet: Show no progress.
        embed: Gives the clips' embeddings (N, D) instead of the model's embedding rule, as where several processes
            share the work.

    Raises:
        BrokenModelError: If an embedding is not finite.
    """
    return score(embed_clips(model, clips, batch_size=batch_size, quiet=quiet, embed=embed))


def _embed_once(model: Clap, captions: Sequence[str]) -> np.ndarray:
    """Return the embeddings (K, D) of captions; equal ones are equal to the last bit, whatever batch they are in."""
    distinct = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
    return model.embed_text(distinct)[[distinct[caption] for caption in captions]]


def embed_clips(
    model: Clap,
    clips: Sequence[Clip],
    *,
    batch_size: int = 32,
    quiet: bool = False,
    embed: Callable[[Sequence[Clip]], np.ndarray] | None = None,
) -> Embeddings:
    """Return the embeddings of clips and of their captions; arguments and errors as evaluate_clips."""
    clips = [clip if clip.has_human_captions else replace(clip, captions=clip.captions[:1]) for clip in clips]
    captions = tuple(caption for clip in clips for caption in clip.captions)
    if embed is not None:
        audio = embed(clips)
    else:
        rate = clips[0].sample_rate if clips else None  # a manifest has one
        audio = model.embed_audio(waveforms(clips, quiet=quiet), batch_size=batch_size, sample_rate=rate)
    return Embeddings(
        text=_embed_once(model, captions),
        audio=audio,
        owner=np.repeat(np.arange(len(clips)), [len(clip.captions) for clip in clips]),
        clip_ids=tuple(clip.clip_id for clip in clips),
        captions=captions,
    )


def score(embeddings: Embeddings, *, ties: Ties = "index") -> Evaluation:
    """Return the metrics of embeddings by dot product, which is the cosine of rows of unit length.

    Raises:
        ValueError: If a value is NaN or infinite.
    """
    ranks = rank_embeddings(embeddings.text, embeddings.audio, embeddings.owner, ties=ties)
    return Evaluation(
        metrics=report_of(ranks),
        chance=chance_level(embeddings.owner, num_clips=len(embeddings.audio)),
        ranks=ranks,
        num_clips=len(embeddings.audio),
        num_captions=len(embeddings.text),
        list_sha256=list_hash(embeddings.clip_ids),
    )


def list_hash(clip_ids: Sequence[str]) -> str:
    """Return the sha256 of the sorted ids, one a line; "" of none."""
    listing = "".join(f"{clip_id}\n" for clip_id in sorted(clip_ids))
    return hashlib.sha256(listing.encode()).hexdigest() if clip_ids else ""


def waveforms(clips: Sequence[Clip], *, quiet: bool) -> Iterator[np.ndarray]:
    """Yield each clip's samples (S,), showing how far it is."""
    progress = None if quiet else Progress(total=len(clips), done=0, unit="clip", label="embedding")
    for clip in clips:
        yield read_clip(clip.path)
        if progress:
            progress.advance()
    if progress:
        progress.close()
