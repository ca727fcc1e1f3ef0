"""An export from end to end: everything that can be refused first, then written, checked, described, put in place."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from retrieval.exports.about import about
from retrieval.exports.card import Exported, write_card
from retrieval.exports.checks import LIMIT, check_finite
from retrieval.exports.folder import ExportError, add_to_config, check_place, files_in, new_export
from retrieval.exports.readings import readings_of
from retrieval.exports.scores import read_scores
from training.checkpoint import model_folder
from training.models.clap import Clap

FORMAT = 1
"""Of what config.json says under the key of ours."""
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_LIBRARIES = {
    "onnx": ("torch", "transformers", "onnx", "onnxscript", "onnxruntime"),
    "transformers": ("torch", "transformers"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to export.

    Attributes:
        run: A run folder, or a model folder.
        to: "onnx" or "transformers".
        out: The folder to make.
        scores: A file that wavtext5k-evaluate --json printed, for the card.
        license_id: Of the weights, by the Hub's name (cc-by-4.0, mit, ...), for the card; None: unknown.
        overwrite: Also write into a folder that holds something else.
    """

    run: Path
    to: str
    out: Path
    scores: Path | None = None
    license_id: str | None = None
    overwrite: bool = False


def export_model(request: Request, *, say: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """Write an export; return what was made, as ``--json`` prints it.

    Args:
        request: What to export.
        say: Called with what is being done, a few words at a time.

    Raises:
        ConfigError: If the run holds no model, or a ClapModel cannot hold it.
        ExportError: If the folder is something else's, libraries are missing, scores are another model's, weights are
            not finite, or the exported model's embeddings differ from its own.
        ValueError: If there is no such kind of export.
    """
    folder = model_folder(request.run)
    if request.to not in _LIBRARIES:
        raise ValueError(f"to must be one of {', '.join(_LIBRARIES)}, got {request.to!r}")
    if request.license_id is not None and not _LICENSE.fullmatch(request.license_id):
        raise ExportError(f"--license {request.license_id!r}: name it as the Hugging Face Hub does, such as cc-by-4.0")
    check_place(request.out, model=folder, overwrite=request.overwrite)
    if request.to == "onnx":
        from retrieval.exports.onnx_folder import check_installed

        check_installed()
    scores = None if request.scores is None else read_scores(request.scores, run=request.run)
    say("loading the model")
    model = Clap.from_pretrained(folder)
    check_finite(model)
    known = about(model, request.run)
    with new_export(request.out) as inside:
        exported = _write(request.to, model, inside, say)
        write_card(inside, exported, about=known, scores=scores, license_id=request.license_id)
        made = {
            "format": FORMAT,
            "kind": request.to,
            "model_sha256": model.sha256,
            "checked": {**asdict(exported.checked), "limit": LIMIT},
            "versions": _versions(request.to),
        }
        add_to_config(inside, made)
        sizes = {file.relative_to(inside).as_posix(): file.stat().st_size for file in files_in(inside)}
    return {
        "out": str(request.out),
        **made,
        "notes": list(exported.notes),
        "scores": None if scores is None else str(request.scores),
        "bytes": dict(sorted(sizes.items())),
    }


def _write(to: str, model: Clap, folder: Path, say: Callable[[str], None]) -> Exported:
    """Write all of an export but its card."""
    if to == "onnx":
        from retrieval.exports.onnx_folder import write_onnx

        checked = write_onnx(model, folder, say=say)
        rates = {reading.waveform: reading.sample_rate for reading in readings_of(model)}
        notes: list[str] = []
    else:
        from retrieval.exports.clap_folder import write_clap

        checked, notes = write_clap(model, folder, say=say)
        rates = {"audio": readings_of(model)[0].sample_rate}
    return Exported(
        kind=to,
        sample_rates=rates,
        max_tokens=model.max_tokens,
        checked=checked,
        notes=tuple(notes),
    )


def _versions(to: str) -> dict[str, str]:
    libraries = {name: str(import_module(name).__version__) for name in _LIBRARIES[to]}
    return {"wavtext5k": version("wavtext5k"), "python": platform.python_version(), **libraries}
