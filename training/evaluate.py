"""A model on a manifest: embeds clips and captions, scores both directions, states chance beside.

Audio is embedded by the model's own deterministic rule (training.models.clap). Captions are the human ones, all of
them; a clip without any has the one that the first template of the model's training makes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from curation.audio import read_clip
from curation.errors import ConfigError
from curation.manifest import read_manifest
from curation.text import render_caption
from training.checkpoint import load_model, read_description
from training.config import ManifestConfig
from training.data import Clip, read_clips
from training.device import choose_device
from training.metrics import METRICS, RetrievalReport, chance_level, embedding_metrics
from training.models.clap import Clap
from training.recipe import UsageError
from training.runlog import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Metrics of a model on a list of clips, and what they were measured on."""

    metrics: RetrievalReport
    chance: RetrievalReport
    num_clips: int
    num_captions: int
    list_sha256: str
    """Of the sorted clip ids, one a line: two scores are comparable if this is equal."""

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

    def table(self) -> str:
        """Return a table for people: both directions with chance beside, in percent."""
        lines = [f"{'':16}" + "".join(f"{_TITLES[name]:>9}" for name in METRICS)]
        for direction in ("text_to_audio", "audio_to_text"):
            for label, report in ((direction, self.metrics), ("  chance", self.chance)):
                values = report.as_dict()[direction]
                cells = [f"{values[n]:9.1f}" if n == "median_rank" else f"{100 * values[n]:9.2f}" for n in METRICS]
                lines.append(f"{label:16}" + "".join(cells))
        return "\n".join(lines)


_TITLES = {
    "recall_at_1": "R@1 %",
    "recall_at_5": "R@5 %",
    "recall_at_10": "R@10 %",
    "recall_at_50": "R@50 %",
    "map_at_10": "mAP@10 %",
    "median_rank": "med rank",
}


def evaluate_run(
    run: Path,
    manifest: Path,
    *,
    split: str = "test",
    ids: Sequence[str] | None = None,
    template: str | None = None,
    batch_size: int = 32,
    device: str = "auto",
) -> Evaluation:
    """Return the metrics of a run's model on clips of a manifest.

    Args:
        run: A run folder, or a model folder.
        manifest: A manifest's folder.
        split: Which clips, unless ``ids`` names them.
        ids: Clip ids to evaluate on, of any split.
        template: Caption template of clips without human captions; None: the first one the model was trained with.
        batch_size: Windows of sound encoded at once.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        ConfigError: If there is no model, the split is empty, or an id is not in the manifest.
        ManifestError: If the manifest is broken.
    """
    if template is not None:
        _check_template(template)
    where = choose_device(device, option="--device ")
    model = load_model(run).to(where)
    default = read_description(run).get("caption_templates", ["{title}. {description}"])
    templates = default if template is None else [template]
    splits = (split,) if ids is None else tuple(sorted(set(read_manifest(manifest)["split"].to_pylist())))
    clips = read_clips([ManifestConfig(manifest=str(manifest), splits=splits)], templates[:1])
    if ids is not None:
        clips = select_clips(clips, ids, manifest=manifest)
    return evaluate_clips(model, clips, batch_size=batch_size)


def _check_template(template: str) -> None:
    try:
        render_caption(template, title="a", description="b", tags=["c"])
    except ValueError as error:
        raise UsageError(f"--template: {error}") from error
    if not template.strip():
        raise UsageError("--template is empty; write one such as '{title}. {description}', or leave the option out")


def select_clips(clips: Sequence[Clip], ids: Sequence[str], *, manifest: Path) -> list[Clip]:
    """Return the clips that ids name, in the order of ``clips``.

    Raises:
        ConfigError: If there is no id, or one is not in the manifest.
    """
    wanted = set(ids)
    if not wanted:
        raise ConfigError("the list of ids is empty")
    if missing := sorted(wanted - {clip.clip_id for clip in clips}):
        raise ConfigError(f"{manifest}: {len(missing)} of {len(wanted)} ids are not in it, the first is {missing[0]!r}")
    return [clip for clip in clips if clip.clip_id in wanted]


def evaluate_clips(model: Clap, clips: Sequence[Clip], *, batch_size: int = 32, quiet: bool = False) -> Evaluation:
    """Return the metrics of a model on clips: every human caption, or the first template's.

    Raises:
        BrokenModelError: If an embedding is not finite.
    """
    clips = [clip if clip.has_human_captions else replace(clip, captions=clip.captions[:1]) for clip in clips]
    captions = [caption for clip in clips for caption in clip.captions]
    owner = np.repeat(np.arange(len(clips)), [len(clip.captions) for clip in clips])
    rate = clips[0].sample_rate if clips else None  # a manifest has one
    audio_embed = model.embed_audio(_waveforms(clips, quiet=quiet), batch_size=batch_size, sample_rate=rate)
    text_embed = model.embed_text(captions)
    listing = "".join(f"{clip_id}\n" for clip_id in sorted(clip.clip_id for clip in clips))
    return Evaluation(
        metrics=embedding_metrics(text_embed, audio_embed, owner),
        chance=chance_level(owner, num_clips=len(clips)),
        num_clips=len(clips),
        num_captions=len(captions),
        list_sha256=hashlib.sha256(listing.encode()).hexdigest(),
    )


def _waveforms(clips: Sequence[Clip], *, quiet: bool) -> Iterator[np.ndarray]:
    progress = None if quiet else Progress(total=len(clips), done=0, unit="clip", label="embedding")
    for clip in clips:
        yield read_clip(clip.path)
        if progress:
            progress.advance()
    if progress:
        progress.close()


if __name__ == "__main__":
    from training.cli import evaluate_main

    evaluate_main()
