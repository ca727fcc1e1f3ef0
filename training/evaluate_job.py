"""What ``wavtext5k-evaluate`` does once its options are read: choose clips, look for leaks, embed, score, compare.

All that can be refused is refused before the first clip is decoded. Leakage is looked for first, too: it needs the
manifests alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from curation.errors import ConfigError
from training.checkpoint import load_model, model_folder, model_hash
from training.data import Clip
from training.device import choose_device
from training.embeddings import Embeddings, check_place, read_embeddings, save_embeddings
from training.evaluate import Evaluation, Intervals, caption_template, embed_clips, score
from training.intervals import Difference, bootstrap, compare
from training.leaks import Leakage, find_leaks
from training.metrics import Ties
from training.models.clap import Clap
from training.random_crop import embed_random_crops
from training.recipe import UsageError
from training.runlog import say
from training.selection import Labelled, Selection, choose_clips, choose_labelled, choose_rows, ids_of, read_ids
from training.zeroshot import ZeroShot, check_prompt, zero_shot


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    run: Path | None = None
    embeddings: Path | None = None
    """A file, instead of a run."""
    manifests: tuple[Path, ...] = ()
    split: str | None = None
    ids: Path | None = None
    allow_missing: bool = False
    template: str | None = None
    batch_size: int = 32
    device: str = "auto"
    crop_seed: int | None = None
    """Read one random piece of long clips; None: by the embedding rule."""
    normalise: bool = True
    ties: Ties = "index"
    resamples: int = 2000
    seed: int = 0
    other: Path | None = None
    """A run, or a file of embeddings, to compare with."""
    save: Path | None = None
    check_leaks: bool = True
    train_manifests: tuple[Path, ...] = ()
    prompts: tuple[str, ...] = ()
    """Of zero-shot classification."""
    folds: tuple[int, ...] = ()

    @property
    def what(self) -> str:
        """Which clips of which manifests, for people."""
        parts = [", ".join(map(str, self.manifests))]
        if self.split or not (self.ids or self.embeddings or self.prompts):
            parts.append(f"split {self.split or 'test'}")
        if self.ids:
            parts.append(f"ids of {self.ids}")
        if self.folds:
            parts.append(f"fold {', '.join(map(str, self.folds))}")
        return ", ".join(filter(None, parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A model's scores."""

    name: str
    evaluation: Evaluation
    intervals: Intervals
    leakage: Leakage | None
    """None: not looked for."""
    clip_ids: tuple[str, ...]
    """Empty where the clips have no names."""
    model_sha256: str
    """Of the weights file; "" where vectors were given instead of a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the command found out about retrieval."""

    request: Request
    scored: Scored
    missing_ids: tuple[str, ...] = ()
    num_templated: int = 0
    template: str = ""
    """What made the captions of clips without human ones."""
    other: Scored | None = None
    comparison: Mapping[str, Mapping[str, Difference]] | None = None
    """The other's scores minus the first's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroShotResult:
    """What the command found out about classification."""

    request: Request
    zero_shot: ZeroShot
    leakage: Leakage | None
    missing_ids: tuple[str, ...] = ()


def evaluate_retrieval(request: Request) -> Result:
    """Return a run's scores, or those of a file of embeddings, and how another compares.

    Raises:
        UsageError: If an option cannot be.
        ConfigError: If there is no model, no clip, a broken file, or two models cannot be compared.
        ManifestError: If a manifest is broken.
    """
    with _memory_named(request):
        return _of_run(request, request.run) if request.run is not None else _of_file(request)


def evaluate_zero_shot(request: Request) -> ZeroShotResult:
    """Return how well a run's model tells classes apart by their names; errors as evaluate_retrieval."""
    assert request.run is not None
    for prompt in request.prompts:
        check_prompt(prompt)
    where, run = choose_device(request.device, option="--device "), request.run
    model_folder(run)
    labelled = choose_labelled(
        request.manifests,
        split=request.split,
        ids=_ids(request),
        folds=request.folds,
        allow_missing=request.allow_missing,
    )
    leakage = _leakage(request, run, labelled)
    with _memory_named(request):
        model = load_model(run).to(where)
        found = zero_shot(
            model,
            labelled.clips,
            labelled.labels,
            prompt=request.prompts,
            folds=labelled.folds,
            classes=labelled.classes,
            batch_size=request.batch_size,
            resamples=request.resamples,
            seed=request.seed,
            embed=_reading(request, model),
        )
    return ZeroShotResult(request=request, zero_shot=found, leakage=leakage, missing_ids=labelled.missing_ids)


@contextmanager
def _memory_named(request: Request) -> Iterator[None]:
    """Say what to change where the memory runs out."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise ConfigError(
            f"out of memory with --batch-size {request.batch_size}; lower it, or compute elsewhere with --device"
        ) from error


def _of_run(request: Request, run: Path) -> Result:
    template = caption_template(run, request.template)
    where = choose_device(request.device, option="--device ")
    if request.save is not None:
        check_place(request.save)
    selection = choose_clips(
        request.manifests,
        template=template,
        split=request.split,
        ids=_ids(request),
        allow_missing=request.allow_missing,
    )
    leakage = _leakage(request, run, selection)
    other_leakage, vectors = None, None
    if request.other is not None:
        if request.other.is_file():
            vectors = _alike(request, request.other, selection)
        else:
            model_folder(request.other)
            _note_template(request, template, selection)
            other_leakage = _leakage(request, request.other, selection)
    embeddings = _embedded(request, run, selection, where)
    if request.save is not None:
        save_embeddings(request.save, embeddings)
        say(f"saved     {len(embeddings.audio)} clips, {len(embeddings.text)} captions    {request.save}")
    scored = _scored(request, str(run), embeddings, leakage, model_sha256=model_hash(run))
    other = None
    if request.other is not None:
        vectors = vectors or _embedded(request, request.other, selection, where)
        sha256 = "" if request.other.is_file() else model_hash(request.other)
        other = _scored(request, str(request.other), vectors, other_leakage, model_sha256=sha256)
    return Result(
        request=request,
        scored=scored,
        missing_ids=selection.missing_ids,
        num_templated=selection.num_templated,
        template=template,
        other=other,
        comparison=None if other is None else _compared(request, scored, other),
    )


def _of_file(request: Request) -> Result:
    file = request.embeddings
    assert file is not None
    if request.other is not None and not request.other.exists():
        raise ConfigError(f"--compare {request.other}: there is no such file")
    if request.other is not None and not request.other.is_file():
        raise UsageError(
            f"--compare {request.other}: give the run first and compare it with the file: "
            f"wavtext5k-evaluate {request.other} --manifest FOLDER --compare {file}"
        )
    embeddings = _read(request, file)
    by_manifest: dict[Path, tuple[str, ...]] = {}
    missing: tuple[str, ...] = ()
    if request.manifests:
        embeddings, by_manifest, missing = _placed(request, file, embeddings)
    elif request.ids is not None:
        embeddings, missing = _named(request, embeddings)
    leakage = None
    if by_manifest and request.check_leaks:
        leakage = find_leaks(None, by_manifest, train_manifests=request.train_manifests)
    vectors = None if request.other is None else _read(request, request.other)
    if vectors is not None:
        if vectors.clip_ids and embeddings.clip_ids:
            # both by clip, captions of a clip together: whatever order a file has them in
            embeddings, vectors = (each.of_clips(embeddings.clip_ids) for each in (embeddings, vectors))
        else:
            say(f"note: rows of {file} and {request.other} are taken to be in one order: not both name their clips")
    scored = _scored(request, str(file), embeddings, leakage)
    other = None if vectors is None else _scored(request, str(request.other), vectors, None)
    return Result(
        request=request,
        scored=scored,
        missing_ids=missing,
        other=other,
        comparison=None if other is None else _compared(request, scored, other),
    )


def _ids(request: Request) -> list[str] | None:
    return None if request.ids is None else read_ids(request.ids)


def _leakage(request: Request, run: Path, selection: Selection | Labelled) -> Leakage | None:
    if not request.check_leaks:
        return None
    return find_leaks(run, selection.clip_ids, train_manifests=request.train_manifests)


def _reading(request: Request, model: Clap) -> Callable[[Sequence[Clip]], np.ndarray] | None:
    """Return what reads clips by random pieces, None for the model's own rule."""
    if request.crop_seed is None:
        return None
    return partial(embed_random_crops, model, seed=request.crop_seed, batch_size=request.batch_size)


def _embedded(request: Request, run: Path, selection: Selection, where: torch.device) -> Embeddings:
    model = load_model(run).to(where)
    return embed_clips(model, selection.clips, batch_size=request.batch_size, embed=_reading(request, model))


def _note_template(request: Request, template: str, selection: Selection) -> None:
    """Say that the captions are those of the first run's template, where the other one was trained with another."""
    assert request.other is not None
    other = caption_template(request.other, request.template)
    if selection.num_templated and other != template:
        say(f"note: captions are made by {template!r} for both; {request.other} was trained with {other!r}")


def _read(request: Request, file: Path) -> Embeddings:
    """Return a file's embeddings, as they are scored."""
    embeddings = read_embeddings(file)
    if request.normalise and not embeddings.is_unit:
        say(f"note: rows of {file} are not of length 1 and are scored by cosine; --no-normalise: by dot product")
        try:
            embeddings = embeddings.normalised()
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error
    return embeddings


def _placed(
    request: Request, file: Path, embeddings: Embeddings
) -> tuple[Embeddings, dict[Path, tuple[str, ...]], tuple[str, ...]]:
    """Return embeddings of clips of the manifests, the clip_ids by manifest, and the ids that are in none."""
    ids = _ids(request)
    if embeddings.clip_ids and ids is None and request.split is None:
        ids = list(embeddings.clip_ids)
    split = "test" if ids is None and request.split is None else request.split
    rows, missing = choose_rows(request.manifests, split=split, ids=ids, allow_missing=request.allow_missing)
    by_manifest = ids_of(rows)
    clip_ids = [clip_id for each in by_manifest.values() for clip_id in each]
    if embeddings.clip_ids:
        return embeddings.of_clips(clip_ids), by_manifest, missing
    if len(clip_ids) != len(embeddings.audio):
        raise ConfigError(
            f"{file}: {len(embeddings.audio)} clips without clip_ids, and {request.what} has {len(clip_ids)}; "
            "put clip_ids into the file"
        )
    say(f"note: {file} names no clips; its rows are taken to be in the order of the manifest")
    return embeddings.named(clip_ids), by_manifest, missing


def _named(request: Request, embeddings: Embeddings) -> tuple[Embeddings, tuple[str, ...]]:
    """Return the embeddings of the clips that a list names, and the ids that have none."""
    ids = set(_ids(request) or ())
    missing = tuple(sorted(ids - set(embeddings.clip_ids))) if request.allow_missing and embeddings.clip_ids else ()
    return embeddings.of_clips(sorted(ids - set(missing))), missing


def _alike(request: Request, file: Path, selection: Selection) -> Embeddings:
    """Return the embeddings in a file of the clips that a run is scored on."""
    embeddings = _read(request, file)
    if embeddings.clip_ids:
        embeddings = embeddings.of_clips([clip.clip_id for clip in selection.clips])
    else:
        say(f"note: {file} names no clips; its rows are taken to be in the order of the manifest")
    owner = np.repeat(np.arange(len(selection.clips)), [len(clip.captions) for clip in selection.clips])
    if len(embeddings.audio) != len(selection.clips) or not np.array_equal(embeddings.owner, owner):
        raise ConfigError(
            f"{file}: {len(embeddings.audio)} clips with {len(embeddings.text)} captions; the list has "
            f"{len(selection.clips)} with {len(owner)}, or in another order: the two cannot be compared"
        )
    return embeddings


def _scored(
    request: Request, name: str, embeddings: Embeddings, leakage: Leakage | None, *, model_sha256: str = ""
) -> Scored:
    if len(np.unique(embeddings.owner)) < 2:
        raise ConfigError(f"{name}: captions describe one clip alone, which says nothing; two at least are needed")
    evaluation = score(embeddings, ties=request.ties)
    return Scored(
        name=name,
        evaluation=evaluation,
        intervals=bootstrap(evaluation.ranks, resamples=request.resamples, seed=request.seed),
        leakage=leakage,
        clip_ids=embeddings.clip_ids,
        model_sha256=model_sha256,
    )


def _compared(request: Request, first: Scored, second: Scored) -> Mapping[str, Mapping[str, Difference]]:
    lists = (first.clip_ids, second.clip_ids) if first.clip_ids and second.clip_ids else ((), ())
    try:
        return compare(
            first.evaluation.ranks,
            second.evaluation.ranks,
            lists=lists,
            resamples=request.resamples,
            seed=request.seed,
        )
    except ValueError as error:
        raise ConfigError(f"{first.name} and {second.name} cannot be compared: {error}") from error
