"""Published checkpoints to ours: an audio encoder's folder, a text encoder's folder, or a whole model's.

    <out>/   what init.cnn14, init.htsat, model.text.encoder or Clap.from_pretrained read
    <out>/converted.json   the account of every tensor

Every tensor of a file is matched, or dropped for a stated reason; if one of ours would stay empty, or one of theirs
has no place, the file is refused and nothing is written. The folder appears whole or not at all.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from crawler.items import open_whole
from curation.errors import ConfigError
from training.models.encoderfile import read_encoder
from training.models.laion import TOWERS, laion_clap
from training.models.parts import CONFIG_FILE, WEIGHTS_FILE, Part, find_model, read_config, save_part
from training.models.published import KINDS, find_kind, nearest
from training.models.report import Report, named
from training.models.textfolder import TextWeights, read_text, save_text, weights_file
from training.models.weightfile import WeightFile, file_sha256, read_weights

if TYPE_CHECKING:
    from training.models.clap import Clap

TRANSFORMERS_CLAP, TRANSFORMERS_TEXT = "transformers-clap", "transformers-text"
ALL_KINDS = (*KINDS, TRANSFORMERS_CLAP, TRANSFORMERS_TEXT)
ACCOUNT_FILE = "converted.json"
_SETTINGS = (".json", ".txt", ".model", ".jinja")
"""Suffixes of configurations' and tokenizers' files."""
_NO_TOKENIZER = "a whole model needs its tokenizer, which the file lacks: --tokenizer FOLDER"


@dataclass(kw_only=True)
class Published:
    """What a published file or folder holds, in our terms."""

    kind: str
    report: Report
    parts: dict[str, Part] = field(default_factory=dict)
    """Audio encoders, by name."""
    towers: dict[str, Tensor] = field(default_factory=dict)
    """The rest of a whole model of LAION's, by the file's names."""
    text: TextWeights | None = None
    clap: Clap | None = None


def read_published(path: Path, *, kind: str | None = None, allow_pickle: bool = False) -> Published:
    """Return what a published file or folder holds, all of it accounted for; writes nothing.

    Args:
        path: A checkpoint, or a transformers folder.
        kind: One of ALL_KINDS; None finds it by names and shapes.
        allow_pickle: See ``training.models.weightfile.read_weights``.

    Raises:
        ConfigError: If it cannot be read, is none of ALL_KINDS, or is not all of one.
        ValueError: If there is no such kind.
    """
    if kind is not None and kind not in ALL_KINDS:
        raise ValueError(f"kind must be one of {', '.join(ALL_KINDS)}, got {kind!r}")
    if path.is_dir():
        return _read_folder(path, kind, allow_pickle=allow_pickle)
    file = read_weights(path, allow_pickle=allow_pickle)
    kind = kind or find_kind(list(file.tensors))
    if kind not in KINDS:
        raise ConfigError(f"{path}: {_unknown(file, kind)}")
    report = Report(kind=kind, source=str(path), sha256=file.sha256)
    report.dropped |= dict.fromkeys(file.not_tensors, "not a tensor")
    if file.beside:
        report.notes.append(f"not read, beside the weights: {', '.join(file.beside)}")
    found = Published(kind=kind, report=report)
    part, prefix = read_encoder(file, kind, report)
    found.parts[part.name] = part
    for name, tensor in file.tensors.items():
        if name.startswith(prefix):
            continue
        if kind == "laion-630k" and name.startswith(TOWERS):
            found.towers[name] = tensor
            continue
        reasons = (why for start, why in KINDS[kind].beside.items() if name.startswith(start))
        report.dropped[name] = next(reasons, f"no part of the encoder, whose names begin with {prefix}")
    return found


def convert(
    source: Path, out: Path, *, kind: str | None = None, tokenizer: Path | None = None, allow_pickle: bool = False
) -> Report:
    """Write what a published file or folder holds as a folder of ours; returns the account of it.

    Args:
        source: A checkpoint, or a transformers folder.
        out: The folder to make; one that holds the conversion of the same files is left as it is.
        kind: See ``read_published``.
        tokenizer: Folder of a tokenizer: makes LAION's files whole models; replaces that of a text encoder's folder.
        allow_pickle: See ``training.models.weightfile.read_weights``.

    Raises:
        ConfigError: As ``read_published``; also if the folder holds something else, or the tokenizer does not fit.
    """
    _refuse_other(out)
    found = read_published(source, kind=kind, allow_pickle=allow_pickle)
    report = found.report
    if tokenizer is not None and not (found.towers or found.text):
        raise ConfigError(f"--tokenizer is for laion-630k files and text folders; {source} is {found.kind}")
    write: Callable[[Path], None]
    if found.text is not None:
        words = _tokenizer(tokenizer or source)
        report.inputs = _hashes(tokenizer or source) | {CONFIG_FILE: file_sha256(source / CONFIG_FILE)}
        text = found.text
        what, write = "text encoder", lambda folder: save_text(text, words, folder)
        report.next_command = f"wavtext5k-train paper-d {shlex.quote(f'model.text.encoder={out}')}"
    elif found.towers and tokenizer is not None:
        clap = laion_clap(found.towers, found.parts["htsat"], tokenizer, report)
        report.inputs = _hashes(tokenizer)
        what, write = "model", clap.save_pretrained
    elif found.clap is not None:
        report.inputs = _hashes(source)
        what, write = "model", found.clap.save_pretrained
    else:
        (part,) = found.parts.values()
        what, write = f"part {part.name}", lambda folder: save_part(part, folder)
        report.next_command = f"wavtext5k-train paper-d {shlex.quote(f'init.{part.name}={out}')}"
        report.dropped |= dict.fromkeys(found.towers, _NO_TOKENIZER)
    if what == "model":
        report.next_command = f"wavtext5k-evaluate {shlex.quote(str(out))} --manifest data/curated --split test"
    return _write(out, report, what, write)


def convert_to_transformers(source: Path, out: Path) -> Report:
    """Write a run or model folder of ours as a transformers ClapModel folder; returns the account of it.

    Raises:
        ConfigError: If there is no model of ours, ClapModel cannot hold it, or the folder holds something else.
    """
    from training.models.clap import Clap

    _refuse_other(out)
    if not source.is_dir():
        raise ConfigError(
            f"{source}: --to transformers takes a run or a model folder of ours; convert files to one first"
        )
    if (part := read_config(source).get("part")) is not None:
        raise ConfigError(f"{source}: holds {part} alone, and a ClapModel is a whole model; name a run")
    clap = Clap.from_pretrained(source)
    state = clap.state_dict()
    report = Report(
        kind="ours",
        source=str(source),
        sha256=clap.sha256,
        inputs=_hashes(find_model(source) or source),
        matched=list(state),
        num_parameters=sum(tensor.numel() for tensor in state.values()),
        next_command=f'python -c "import transformers; transformers.ClapModel.from_pretrained({str(out)!r})"',
    )
    return _write(
        out, report, "transformers ClapModel", lambda folder: report.notes.extend(clap.save_transformers(folder) or ())
    )


def _unknown(file: WeightFile, kind: str | None) -> str:
    """Return what to say of a file that is of no kind of file."""
    if kind is not None:
        return f"a file, but {kind} is a folder; name the folder"
    if (file.path.parent / "config.json").is_file():
        return f"not a published audio encoder by itself; the folder that it is in may be meant: {file.path.parent}"
    return f"not one of {', '.join(KINDS)}: {nearest(list(file.tensors))}"


def _read_folder(path: Path, kind: str | None, *, allow_pickle: bool) -> Published:
    """Return what a transformers folder holds."""
    config = read_config(path)
    if (part := config.get("part")) is not None:
        raise ConfigError(
            f"{path}: is ours already, there is nothing to convert; start from it with init.{part}={path}"
        )
    if "model_type" not in config and find_model(path) is not None:
        raise ConfigError(
            f"{path}: is ours already, there is nothing to convert; start from it with init.clap={path}, or from one "
            f"of its encoders with init.cnn14={path} or init.htsat={path}; for transformers, add --to transformers"
        )
    if kind in KINDS:
        raise ConfigError(f"{path}: a folder, but {kind} is a file; name the file in it")
    if "model_type" not in config:
        files = sorted(file.name for file in path.iterdir() if file.suffix in (".pt", ".pth", ".ckpt", ".safetensors"))
        advice = f"name the file: {path / files[0]}" if files else "fetch the whole folder"
        raise ConfigError(f"{path}: no transformers folder (no config.json with a model_type); {advice}")
    is_clap = config["model_type"] == "clap"
    if kind is not None and is_clap != (kind == TRANSFORMERS_CLAP):
        raise ConfigError(f"{path}: its config.json says model_type {config['model_type']}, which is not {kind}")
    weights_file(path)
    if is_clap:
        return _read_transformers_clap(path)
    report = Report(kind=TRANSFORMERS_TEXT, source=str(path), sha256="")
    return Published(kind=report.kind, report=report, text=read_text(path, report, allow_pickle=allow_pickle))


def _read_transformers_clap(path: Path) -> Published:
    from training.models.transformers_clap import read_transformers

    clap, account = read_transformers(path)
    state = clap.state_dict()
    features = dict(clap.description["features"])
    report = Report(
        kind=TRANSFORMERS_CLAP,
        source=str(path),
        sha256=account["sha256"],
        matched=list(account["matched"]),
        num_parameters=sum(tensor.numel() for tensor in state.values()),
        dropped=dict(account["dropped"]),
        missing=list(account["missing"]),
        notes=list(account["notes"]),
        features=features,
    )
    model = clap.description["model"]["htsat"]
    keys = ("spec_size", "patch_size", "embed_dim", "depths", "num_heads", "window_size")
    part = Part(
        name="htsat",
        tensors={name: x.detach().clone() for name, x in clap.audio.encoders["htsat"].state_dict().items()},
        settings={key: model[key] for key in keys} | {"n_mels": features["n_mels"]},
        features=features,
        source=named(path, report.kind),
        sha256=report.sha256,
    )
    return Published(kind=report.kind, report=report, parts={"htsat": part}, clap=clap)


def _tokenizer(folder: Path) -> Any:
    from training.tokenizer import load_tokenizer

    try:
        return load_tokenizer(folder)
    except ConfigError as error:
        reason = str(error).removeprefix(f"{folder}: ").partition("; fetch it")[0]
        raise ConfigError(f"{folder}: {reason}; name a folder that has it: --tokenizer FOLDER") from error


def _hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 of the small files in a folder, which say how to read its weights and its texts.

    Of a published tokenizer that is named instead, the name.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        return {"tokenizer": str(folder)}
    files = [file for file in folder.iterdir() if file.suffix in _SETTINGS and file.is_file()]
    return {file.name: file_sha256(file) for file in sorted(files) if file.name != ACCOUNT_FILE}


def _refuse_other(out: Path) -> None:
    """Refuse to write where something else is."""
    if out.is_file():
        raise ConfigError(f"{out}: a file; name a folder to make")
    if out.is_dir() and not (out / ACCOUNT_FILE).is_file() and (first := next(out.iterdir(), None)) is not None:
        raise ConfigError(f"{out}: holds something else ({first.name}); name another folder with --out")


def _write(out: Path, report: Report, what: str, write: Callable[[Path], None]) -> Report:
    """Make the folder, whole or not at all; leaves one alone that the same conversion made."""
    report.written = {str(out): what}
    if (out / ACCOUNT_FILE).is_file():
        before = _account(out)
        same = (before.kind, before.sha256, list(before.written.values())) == (report.kind, report.sha256, [what])
        names = sorted(before.inputs.keys() | report.inputs.keys())
        other = [name for name in names if before.inputs.get(name) != report.inputs.get(name)]
        if same and not other and (out / WEIGHTS_FILE).is_file():
            before.was_done = True
            return before
        difference = f", made with another {', '.join(other)}" if same and other else ""
        raise ConfigError(
            f"{out}: holds the {', '.join(before.written.values())} of {before.source}{difference}; name another "
            "folder with --out, or remove it"
        )
    whole = out.resolve()
    part = whole.with_name(f".{whole.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    try:
        part.mkdir(parents=True)
        write(part)
        with open_whole(part / ACCOUNT_FILE, "w") as file:
            file.write(json.dumps(report.as_dict(), indent=1) + "\n")
        if out.is_dir():
            out.rmdir()  # empty, as checked
        part.rename(whole)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return report


def _account(out: Path) -> Report:
    try:
        return Report.from_dict(json.loads((out / ACCOUNT_FILE).read_text(encoding="utf-8")))
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{out}: {ACCOUNT_FILE} is damaged ({error}); remove the folder") from error
