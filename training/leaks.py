"""Whether a score can be trusted: which of the clips that it was measured on the model was trained on.

Reads what the model's config.json says of its training data, those manifests and their fingerprints, and compares them
with the evaluated clips by every sign that ``curation.leakage`` knows; a clip is counted once, at its surest sign. A
manifest that is no longer where training read it makes no error, for a score does not depend on it: the report says
that it was not checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.errors import ConfigError, ManifestError
from curation.leakage import KINDS, Side, find_leakage, side_of_manifest
from curation.manifest import manifest_hash, read_manifest
from training.checkpoint import read_description
from training.data import read_exclusions
from training.evaluate import list_hash
from training.selection import matching

_ORDER = {kind: order for order, kind in enumerate(KINDS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leakage:
    """Evaluated clips that are in the training data, and what could not be looked at."""

    num_clips: int
    """Evaluated."""
    kind_of: Mapping[str, str]
    """By evaluated clip_id that was found in the training data: the surest sign, of curation.leakage.KINDS."""
    num_val: int = 0
    """Evaluated clips that are of data.val, by which the best checkpoint was chosen."""
    compared: tuple[str, ...] = ()
    """Training manifests that were looked at, with splits and clips."""
    not_checked: tuple[str, ...] = ()
    """What was not looked at, and why, one sentence each."""

    def counts(self) -> dict[str, int]:
        """Return the clips found by each sign, the surest first; each clip once."""
        counted = Counter(self.kind_of.values())
        return {kind: counted[kind] for kind in KINDS if counted[kind]}

    def as_dict(self) -> dict[str, Any]:
        """Return everything, as JSON takes it; clip_ids are those of the surest signs first."""
        return {
            "num_clips": self.num_clips,
            "leaked": len(self.kind_of),
            "by": self.counts(),
            "clip_ids": sorted(self.kind_of, key=lambda clip_id: (_ORDER[self.kind_of[clip_id]], clip_id)),
            "val": self.num_val,
            "compared": list(self.compared),
            "not_checked": list(self.not_checked),
        }

    def line(self) -> str:
        """Return the finding on one line."""
        parts = []
        if self.compared:
            by = ", ".join(f"{count} by {kind}" for kind, count in self.counts().items())
            found = f"{len(self.kind_of)} of {self.num_clips} clips are in training ({by})" if by else "none found"
            parts.append(f"{found}, compared with {', '.join(self.compared)}")
        if self.num_val:
            parts.append(f"{self.num_val} clips are of data.val, by which the checkpoint was chosen")
        if self.not_checked:
            parts.append(f"not checked: {'; '.join(self.not_checked)}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """One manifest that a model was trained on."""

    manifest: str
    splits: tuple[str, ...]
    """Empty: every one."""
    sha256: str


@dataclass(slots=True)
class _Findings:
    kind_of: dict[str, str] = field(default_factory=dict)
    compared: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)


def find_leaks(
    run: Path | None, evaluated: Mapping[Path, Collection[str]], *, train_manifests: Sequence[Path] = ()
) -> Leakage:
    """Return which evaluated clips a model was trained on, and what could not be looked at.

    Args:
        run: A run folder, or a model folder; None where vectors of an unknown model are scored.
        evaluated: clip_ids of each manifest that is evaluated on.
        train_manifests: Where training manifests lie now. One of the content that the model was trained on (by
            sha256) stands for that; others stand, in order, for those that are left, and the report says so.

    Raises:
        ManifestError: If there is no manifest at one of ``train_manifests``, or an evaluated one cannot be read.
        ConfigError: If there is no model.
    """
    description = {} if run is None else read_description(run)
    data = data_of(description)
    trained, chosen_by = _recorded(data, "train"), _recorded(data, "val")
    place_of = {manifest_hash(place): place for place in train_manifests}
    known = {source.sha256 for source in chosen_by}
    sources = list(_found_again(trained, place_of, also_known=known))
    findings = _Findings()
    if not sources:
        findings.not_checked.append("nothing says what the model was trained on; name it with --train-manifest")
    b_sides = [_of_clips(side_of_manifest(path), clip_ids, str(path)) for path, clip_ids in evaluated.items()]
    left_out = _left_out(data, findings)
    for source, place in sources:
        _compare(source, place, b_sides, left_out, findings)
    findings.not_checked += _beginnings(description)
    clip_ids = {clip_id for each in evaluated.values() for clip_id in each}
    num_val = len(clip_ids & _val_clips(chosen_by, place_of, findings))
    return Leakage(
        num_clips=len(clip_ids),
        kind_of=findings.kind_of,
        num_val=num_val,
        compared=tuple(findings.compared),
        not_checked=tuple(dict.fromkeys(findings.not_checked)),
    )


def data_of(description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a model's description says of its data: none of a converted model, or one changed by hand."""
    data = description.get("data")
    return [
        entry
        for entry in (data if isinstance(data, list) else [])
        if isinstance(entry, dict)
        and (entry.get("role") == "exclude" or {"manifest", "splits", "sha256"} <= entry.keys())
    ]


def _recorded(data: Sequence[Mapping[str, Any]], role: str) -> list[_Source]:
    """Return what a model says it was trained on ("train"), or its checkpoint chosen by ("val")."""
    return [
        _Source(manifest=str(entry["manifest"]), splits=tuple(entry["splits"]), sha256=str(entry["sha256"]))
        for entry in data
        if entry.get("role") == role
    ]


def _found_again(
    recorded: Sequence[_Source], place_of: Mapping[str, Path], *, also_known: Collection[str] = ()
) -> Iterator[tuple[_Source, Path]]:
    """Yield each training manifest with the place to read it at: the one given for it, or where it was.

    Args:
        recorded: What a model was trained on.
        place_of: Where manifests lie now, by sha256; those of unknown content stand for what is left of ``recorded``.
        also_known: sha256 of manifests that the model knows for something else.
    """
    known = {source.sha256 for source in recorded} | set(also_known)
    others = [(sha256, place) for sha256, place in place_of.items() if sha256 not in known]
    for source in recorded:
        if source.sha256 in place_of:
            yield source, place_of[source.sha256]
        else:
            yield source, others.pop(0)[1] if others else Path(source.manifest)
    for sha256, place in others:
        yield _Source(manifest=str(place), splits=(), sha256=sha256), place


def _compare(source: _Source, place: Path, b_sides: Sequence[Side], left_out: set[str], findings: _Findings) -> None:
    name = f"{source.manifest} ({'+'.join(source.splits) or 'all splits'})"
    try:
        whole, sha256 = side_of_manifest(place), manifest_hash(place)
    except ManifestError as error:
        reason = "nothing is there any more" if not place.exists() else str(error).removeprefix(f"{place}: ")
        findings.not_checked.append(f"{name}: {reason}; say where it is with --train-manifest")
        return
    if sha256 != source.sha256:
        findings.not_checked.append(
            f"{name} as training read it: {place} now holds another version, which was compared"
        )
    is_trained = [
        (not source.splits or split in source.splits) and not named
        for split, named in zip(whole.clips["split"].to_pylist(), matching(left_out, whole.clips), strict=True)
    ]
    a = _of_rows(whole, is_trained, name)
    findings.compared.append(f"{name}, {len(a.clips)} clips")
    for b in b_sides:
        for side, path in ((a, place), (b, Path(b.name))):
            if side.fingerprints is None:
                findings.not_checked.append(f"near-same sound: no fingerprints.parquet beside {path}")
        pairs = find_leakage(a, b).pairs
        for clip_id, kind in zip(pairs["clip_b"], pairs["kind"], strict=True):
            if _ORDER[kind] < _ORDER.get(findings.kind_of.get(clip_id, ""), len(KINDS)):
                findings.kind_of[clip_id] = kind


def _left_out(data: Sequence[Mapping[str, Any]], findings: _Findings) -> set[str]:
    """Return the names of clips that data.exclude kept out of training, as far as its files are as they were."""
    names: set[str] = set()
    for entry in data:
        if entry.get("role") == "exclude":
            files = [str(file) for file in entry.get("files") or ()]
            try:
                found = read_exclusions(files)
            except ConfigError as error:
                findings.not_checked.append(f"which clips training left out ({error}): all are compared")
                continue
            names |= set(found)
            if list_hash(found) != entry.get("sha256"):
                findings.not_checked.append(f"{', '.join(files)} as training read it: the list has changed")
    return names


def _val_clips(sources: Sequence[_Source], place_of: Mapping[str, Path], findings: _Findings) -> set[str]:
    """Return the clip_ids by which the best checkpoint was chosen."""
    found: set[str] = set()
    for source in sources:
        place = place_of.get(source.sha256, Path(source.manifest))
        name = f"{source.manifest} ({'+'.join(source.splits)}), by which the checkpoint was chosen"
        try:
            rows, sha256 = read_manifest(place).select(["clip_id", "split"]).to_pylist(), manifest_hash(place)
        except ManifestError:
            findings.not_checked.append(f"{name}: no manifest is there; say where it is with --train-manifest")
            continue
        if sha256 != source.sha256:
            findings.not_checked.append(f"{name}: {place} now holds another version, which was compared")
        found |= {row["clip_id"] for row in rows if row["split"] in source.splits}
    return found


def _beginnings(description: Mapping[str, Any]) -> Iterator[str]:
    """Say which weights training began from: nobody knows here what those had heard."""
    init = description.get("init")
    for part, origin in (init if isinstance(init, dict) else {}).items():
        if part != "text":
            path = origin.get("path") if isinstance(origin, dict) else origin
            yield f"what the weights had heard that {part} began from ({path})"


def _of_clips(side: Side, clip_ids: Collection[str], name: str) -> Side:
    wanted = set(clip_ids)
    return _of_rows(side, [clip_id in wanted for clip_id in side.clips["clip_id"].to_pylist()], name)


def _of_rows(side: Side, is_kept: Sequence[bool], name: str) -> Side:
    """Return some rows of a side, and their fingerprints alone, as find_leakage wants them."""
    clips = side.clips.filter(pa.array(is_kept, pa.bool_()))
    if side.fingerprints is None:
        return Side(name=name, clips=clips)
    kept = set(clips["clip_id"].to_pylist())
    prints = {clip_id: mark for clip_id, mark in side.fingerprints.items() if clip_id in kept}
    return Side(name=name, clips=clips, fingerprints=prints)
