"""The model card of an export: README.md with the Hugging Face front matter, from ``templates/card.md.j2``.

What a card states comes from the model, its run, the check of the export, and scores that were given; where there is
nothing to state, it says so. Names and texts from elsewhere are made plain, so that none of them can be Markdown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import yaml

from crawler.items import open_whole
from retrieval.exports.about import About
from retrieval.exports.checks import Checked
from retrieval.exports.scores import Score, Scores

CARD_FILE = "README.md"
_TEMPLATES = Path(__file__).with_name("templates")
_LONGEST = 300
_TITLES = {
    "recall_at_1": "R@1 %",
    "recall_at_5": "R@5 %",
    "recall_at_10": "R@10 %",
    "recall_at_50": "R@50 %",
    "map_at_10": "mAP@10 %",
    "median_rank": "median rank",
}
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
_FRONT = {
    "onnx": {"library_name": "onnx", "pipeline_tag": "feature-extraction"},
    "transformers": {"library_name": "transformers", "pipeline_tag": "zero-shot-audio-classification"},
}
_TAGS = {"onnx": ["onnx"], "transformers": ["sentence-transformers"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export says of itself in its card.

    Attributes:
        kind: "onnx" or "transformers".
        sample_rates: Hz, by the name of the input; of a ClapModel by "audio".
        max_tokens: Of a text; more are cut.
        checked: How far it is from the model.
        notes: What differs from the model all the same, one sentence each.
    """

    kind: str
    sample_rates: dict[str, int]
    max_tokens: int
    checked: Checked
    notes: tuple[str, ...] = ()


def write_card(
    folder: Path, exported: Exported, *, about: About, scores: Scores | None, license_id: str | None
) -> None:
    """Write an export's README.md.

    Args:
        folder: The export's.
        exported: The export.
        about: The model, and its training.
        scores: Its scores, if some were given.
        license_id: Of the weights, by the Hub's name; None: nobody said.
    """
    text = (
        _environment()
        .get_template("card.md.j2")
        .render(
            front=_front_matter(exported.kind, license_id),
            exported=exported,
            about=about,
            scores=scores,
            titles=_TITLES,
            license_id=license_id,
            made_by=f"wavtext5k {version('wavtext5k')}",
        )
    )
    with open_whole(folder / CARD_FILE, "w") as file:
        file.write(re.sub(r"\n{3,}", "\n\n", text).strip() + "\n")


def _front_matter(kind: str, license_id: str | None) -> str:
    block = {
        "language": "en",
        "license": license_id or "unknown",
        **_FRONT[kind],
        "tags": ["audio", "clap", "audio-text-retrieval", "wavtext5k", *_TAGS[kind]],
    }
    return yaml.safe_dump(block, sort_keys=False)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML: see _plain
        finalize=_shown,
    )
    environment.filters |= {"cell": _cell, "chance": _chance, "code": _code, "as_is": _AsIs}
    return environment


class _AsIs(str):
    """A text that may stand in the card as it is."""

    __slots__ = ()


def _shown(value: Any) -> Any:
    """Return what an expression of the template puts out: texts made plain, counts in thousands."""
    if isinstance(value, str) and not isinstance(value, _AsIs):
        return _plain(value)
    return f"{value:,}" if type(value) is int else value


def _plain(text: str) -> str:
    """Return Markdown that shows a text on one line and does nothing else."""
    shown = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(shown) > _LONGEST:
        shown = shown[: _LONGEST - 1].rstrip() + "…"
    shown = re.sub(r"[\\`*_\[\]~$#]", lambda found: "\\" + found[0], shown)
    return "".join(_ENTITIES.get(char, char) for char in shown).replace("://", "&#58;//")


def _code(text: str) -> _AsIs:
    """Return what may stand between back-ticks."""
    return _AsIs(" ".join(text.replace("`", "'").split())[:_LONGEST])


def _cell(score: Score, name: str) -> _AsIs:
    """Return a value with its interval."""
    unit = 1 if name == "median_rank" else 100
    value, low, high = (f"{unit * each:.1f}" for each in (score.value, score.low, score.high))
    return _AsIs(f"{value} ({low} to {high})")


def _chance(score: Score, name: str) -> _AsIs:
    return _AsIs(f"{score.chance if name == 'median_rank' else 100 * score.chance:.1f}")
