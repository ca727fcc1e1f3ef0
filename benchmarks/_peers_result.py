"""The account of benchmarks/peers.py: what was compared, by how much it differs, and the table of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

import torch
from torch import Tensor

from training.models.report import Report

LOG_MEL, WAVEFORM, TOKENS, WEIGHTS = "log-mel", "waveform", "tokens", "weights"
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
"""Of the largest difference over the largest output, for the same input."""
WAVEFORM_TOLERANCE = 5e-5
"""The same, where each side makes its own spectrogram in float32: cells of it differ by up to 2e-4 dB."""

INTRODUCTION = f"""# Published checkpoints: ours beside the peers' own classes

Written by `benchmarks/peers.py`, whose docstring says how. No published weights were at hand: each file was made by the
class that the published one was made by, with random weights, under the documented names.

The first table has the largest difference over the largest output; the script fails above {TOLERANCE["float32"]:.0e}
(float32), {TOLERANCE["float64"]:.0e} (float64) or {WAVEFORM_TOLERANCE:.0e} (each side's own front end). The others have
the largest difference and the largest output, and in brackets by how much the peer's outputs for its inputs differ."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison."""

    sound: str
    """What was read: 10 s, 3 texts, ..."""
    given: str
    """What both sides were given: LOG_MEL, WAVEFORM, ..."""
    output: str
    dtype: str
    difference: float
    """The largest absolute one."""
    size: float
    """Of the largest output."""
    apart: float
    """The largest difference between the peer's own outputs for two inputs: below it, a mistake would show. 0: one."""
    tolerance: float | None
    """Of difference / size. None: the two differ by design, and this says by how much."""

    @property
    def failed(self) -> bool:
        """Whether the difference is above its tolerance, or no number."""
        return self.tolerance is not None and not self.difference <= self.tolerance * self.size


@dataclass(kw_only=True)
class Result:
    """What became of one published file."""

    name: str
    """Of the published checkpoint."""
    peer: str
    """The class, and the package with its version."""
    layout: str
    """Of the file that was made, in words."""
    account: Report
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the two do otherwise by design, and what of the peer was stood in for."""
    failures: list[str] = field(default_factory=list)
    """Checks that failed beside differences."""

    def add(
        self,
        sound: str,
        given: str,
        theirs: Mapping[str, Tensor],
        ours: Mapping[str, Tensor],
        *,
        by_design: bool = False,
    ) -> None:
        """Compare outputs of one name; both sides must have the same names and shapes."""
        if theirs.keys() != ours.keys():
            raise ValueError(f"outputs of other names: {sorted(theirs)} and {sorted(ours)}")
        for name, expected in theirs.items():
            found = ours[name]
            if found.shape != expected.shape or found.dtype != expected.dtype:
                self.failures.append(f"{sound}: {name} is {_form(found)}, the peer's {_form(expected)}")
                continue
            if not expected.isfinite().all() or not expected.any():
                self.failures.append(f"{sound}: the peer's {name} is not finite, or nothing but zeros")
                continue
            dtype = str(expected.dtype).removeprefix("torch.")
            tolerance = WAVEFORM_TOLERANCE if given == WAVEFORM else TOLERANCE[dtype]
            self.rows.append(
                Row(
                    sound=sound,
                    given=given,
                    output=name,
                    dtype=dtype,
                    difference=float((found.double() - expected.double()).abs().max()),
                    size=float(expected.double().abs().max()),
                    apart=float((expected[1:] - expected[:1]).abs().max())
                    if expected.ndim and len(expected) > 1
                    else 0.0,
                    tolerance=None if by_design else tolerance,
                )
            )

    def check(self, holds: bool, what: str) -> None:
        """Remember a check that failed."""
        if not holds:
            self.failures.append(what)

    @property
    def failed(self) -> bool:
        """Whether anything is not as it must be."""
        return bool(self.failures) or any(row.failed for row in self.rows)

    def worst(self, given: Sequence[str], dtype: str) -> str:
        """Return the largest relative difference of rows that have a tolerance, as text; "" without any."""
        shares = [
            row.difference / row.size
            for row in self.rows
            if row.tolerance is not None and row.given in given and row.dtype == dtype
        ]
        return _figure(max(shares, key=lambda share: math.inf if math.isnan(share) else share), 0) if shares else ""


def package(name: str) -> str:
    """Return a package and its version."""
    return f"{name} {version(name)}"


def table(results: Sequence[Result]) -> str:
    """Return a Markdown page of the results."""
    lines = [
        INTRODUCTION,
        "",
        f"torch {torch.__version__.partition('+')[0]}, {package('transformers')}, {package('timm')}, "
        + f"{package('torchlibrosa')}, {package('librosa')}.",
        "",
        "| checkpoint | matched | dropped | missing | same input, float32 | float64 | own front ends |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(_summary(result))} |" for result in results]
    for result in results:
        lines += ["", *_section(result)]
    return "\n".join(lines) + "\n"


def _summary(result: Result) -> list[str]:
    account, same = result.account, (LOG_MEL, TOKENS)
    return [
        result.name,
        *(str(len(names)) for names in (account.matched, account.dropped, account.missing)),
        *(result.worst(same, dtype) for dtype in TOLERANCE),
        result.worst((WAVEFORM,), "float32"),
    ]


def _section(result: Result) -> list[str]:
    lines = [f"## {result.name}", "", f"{result.peer}. The file: {result.layout}", ""]
    reasons = Counter(result.account.dropped.values())
    lines += [f"- matched {len(result.account.matched)} tensors, missing {len(result.account.missing)}"]
    lines += [f"- dropped {count}: {reason}" for reason, count in reasons.most_common()]
    lines += [f"- {note}" for note in (*result.account.notes, *result.notes)]
    lines += [f"- **failed**: {failure}" for failure in result.failures]
    outputs = list(dict.fromkeys(row.output for row in result.rows))
    lines += ["", f"| read | given | precision | {' | '.join(outputs)} | |"]
    lines += ["|---" * (4 + len(outputs)) + "|"]
    rows: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in result.rows:
        rows.setdefault((row.sound, row.given, row.dtype), {})[row.output] = row
    for key, found in rows.items():
        cells = [_cell(found[output]) if output in found else "" for output in outputs]
        verdict = "by design" if any(row.tolerance is None for row in found.values()) else ""
        lines.append(f"| {' | '.join((*key, *cells, verdict))} |")
    return lines


def _cell(row: Row) -> str:
    apart = f" ({row.apart:.2g})" if row.apart else ""
    return f"{_figure(row.difference, 1)} of {row.size:.3g}{apart}" + (" **failed**" if row.failed else "")


def _figure(value: float, digits: int) -> str:
    return f"{value:.{digits}e}" if value else "0"


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
