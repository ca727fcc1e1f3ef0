"""What became of every tensor of a converted file, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(kw_only=True)
class Report:
    """The account of one conversion: each tensor of the file is in ``matched`` or in ``dropped``."""

    kind: str
    source: str
    sha256: str
    """Of the file."""
    inputs: dict[str, str] = field(default_factory=dict)
    """What else went into what was written, configuration and tokenizer: file names, and the sha256 of each.
    A published tokenizer that was named, not given as a folder, is noted by its name."""
    matched: list[str] = field(default_factory=list)
    """Names in the file."""
    num_parameters: int = 0
    """Numbers in the matched tensors."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Name in the file, and the reason."""
    missing: list[str] = field(default_factory=list)
    """What ours has and the file lacks, set to what it would be in a new model: counters only, as a file that lacks
    more is refused."""
    notes: list[str] = field(default_factory=list)
    features: dict[str, Any] | None = None
    """The front end it was trained with, as LogMel's arguments; None: not known, or none (a text encoder)."""
    written: dict[str, str] = field(default_factory=dict)
    """Path, and what it is."""
    next_command: str = ""
    was_done: bool = False
    """Whether the same file had been converted to the same folder before."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for ``--json`` and for the file beside the weights."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """Return what ``as_dict`` gave."""
        return cls(**values)

    def text(self) -> str:
        """Return a short table."""
        lines = [("kind", self.kind, f"{self.source} (sha256 {self.sha256[:12]})")]
        lines.append(("matched", _tensors(len(self.matched)), f"{self.num_parameters / 1e6:.2f} M parameters"))
        for reason, count in Counter(self.dropped.values()).most_common():
            example = next(name for name, why in self.dropped.items() if why == reason)
            lines.append(("dropped", _tensors(count), f"{reason}: {example}" + (", ..." if count > 1 else "")))
        if not self.dropped:
            lines.append(("dropped", _tensors(0), ""))
        lines.append(("missing", _tensors(len(self.missing)), ", ".join(self.missing[:1])))
        if self.features is not None:
            lines.append(("front end", "", describe_features(self.features)))
        lines += [("note", "", note) for note in self.notes]
        verb = "there" if self.was_done else "wrote"
        lines += [(verb, what, path) for path, what in self.written.items()]
        if self.next_command:
            lines.append(("next", "", self.next_command))
        width = max(len(middle) for _, middle, _ in lines)
        return "\n".join(f"{first:<9}  {middle:<{width}}  {last}".rstrip() for first, middle, last in lines)


def describe_features(features: Mapping[str, Any]) -> str:
    """Return a front end in words."""
    return (
        f"{features['sample_rate']} Hz, window {features['n_fft']}, hop {features['hop_length']}, "
        f"{features['n_mels']} mels, {features['f_min']:g}-{features['f_max']:g} Hz"
    )


def named(path: Path, kind: str) -> str:
    """Return a file and what it was taken for, in words."""
    return f"{path.name} ({kind})"


def _tensors(count: int) -> str:
    return f"{count} tensor" + ("" if count == 1 else "s")
