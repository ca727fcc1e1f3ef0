"""Files of a run: the model folder that retrieval loads, and checkpoints that hold all that a resumed run needs.

    runs/<name>/model/           model.safetensors, config.json, tokenizer
    runs/<name>/checkpoints/     last.pt, best.pt, tokenizer/; step-000500/, a model folder, where checkpoint.keep asks

Every file appears whole or not at all. Checkpoints are read as tensors and plain values only (``weights_only``), so
opening one runs no code of it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from crawler.items import open_whole
from curation.errors import ConfigError, WavTextError

if TYPE_CHECKING:
    from training.models.clap import Clap  # importing it takes a second, which whoever opens an index need not wait

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer_config.json"
"""Every tokenizer writes this one; the others depend on its kind."""
CHECKPOINT_FORMAT = 2
_BEFORE = "best-before.pt"


def model_folder(run: Path) -> Path:
    """Return the model folder of a run, or the folder itself if it is one.

    Raises:
        ConfigError: If there is no model in it.
    """
    for folder in (run / "model", run):
        if (folder / WEIGHTS_FILE).is_file() and (folder / CONFIG_FILE).is_file():
            return folder
    if (run / "checkpoints").is_dir():
        raise ConfigError(f"{run}: the run has no model yet; train it on with the command that began it")
    raise ConfigError(f"{run}: not a run: it has no model/{WEIGHTS_FILE}; train one with: wavtext5k-train tiny")


def model_hash(folder: Path) -> str:
    """Return the sha256 of a run's weights file, which an index remembers.

    Raises:
        ConfigError: If there is no model in the folder.
    """
    file = model_folder(folder) / WEIGHTS_FILE
    status = file.stat()
    return _file_hash(file.resolve(), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@functools.lru_cache(maxsize=16)
def _file_hash(file: Path, *state: int) -> str:
    """Return the SHA-256 of a file, read once for each state of it: a gigabyte takes a second."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_description(folder: Path) -> dict[str, Any]:
    """Return what a run's model says about itself: its settings, and the caption templates it was trained with.

    Raises:
        ConfigError: If there is no model in the folder, or its config.json is none.
    """
    file = model_folder(folder) / CONFIG_FILE
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file}: not JSON: {error}") from error
    if not isinstance(description, dict):
        raise ConfigError(f"{file}: must hold an object")
    return description


def save_model(model: Clap, folder: Path, *, tokenizer: Path | None = None) -> None:
    """Write a model folder: tokenizer and config.json, then the weights.

    Args:
        model: The model.
        folder: The folder.
        tokenizer: A folder that holds the model's tokenizer already, whose files are copied: one that was loaded writes
            other files than the one it was, though it does the same.
    """
    from safetensors.torch import save

    if tokenizer is None:
        save_tokenizer(model.tokenizer, folder)
    else:
        _copy_tokenizer(tokenizer, folder)
    with open_whole(folder / CONFIG_FILE, "w") as whole:
        whole.write(json.dumps(model.description, ensure_ascii=False, indent=1, sort_keys=True) + "\n")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with open_whole(folder / WEIGHTS_FILE) as whole:
        whole.write(save(weights))


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer's files, each whole or not at all; the one that every tokenizer has comes last."""
    from training.tokenizer import write_tokenizer

    with tempfile.TemporaryDirectory() as temporary:
        write_tokenizer(tokenizer, temporary)
        _copy_tokenizer(Path(temporary), folder)


def _copy_tokenizer(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir(), key=lambda file: (file.name == TOKENIZER_FILE, file.name)):
        with open_whole(folder / file.name) as whole, file.open("rb") as written:
            shutil.copyfileobj(written, whole)


def save_step(model: Clap, checkpoints: Path, *, step: int, keep: int) -> None:
    """Write checkpoints/step-000500, a model folder, and remove all such but the latest ``keep``."""
    name = f"step-{step:06}"
    part = checkpoints / f"{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    save_model(model, part, tokenizer=checkpoints / "tokenizer")
    shutil.rmtree(checkpoints / name, ignore_errors=True)
    part.rename(checkpoints / name)
    steps = sorted((int(path.name[5:]), path) for path in checkpoints.glob("step-*") if path.name[5:].isdecimal())
    for _, path in steps[:-keep]:
        shutil.rmtree(path)


def stored_model(checkpoints: Path, description: dict[str, Any]) -> Clap:
    """Return the model of a run that goes on, with random weights: its checkpoint's description, its own tokenizer.

    Raises:
        ConfigError: If the tokenizer is missing or damaged.
    """
    from training.models.build import clap_of
    from training.tokenizer import load_tokenizer

    try:
        model = clap_of(description, load_tokenizer(checkpoints / "tokenizer"))
        model.description = dict(description)
        return model
    except ConfigError as error:
        raise ConfigError(f"{error}; {_anew(checkpoints / 'last.pt')}") from error


def load_model(folder: Path) -> Clap:
    """Return the model of a run or of a model folder, on the CPU, in evaluation mode.

    Raises:
        ConfigError: If files are missing or damaged, or weights and config do not fit each other; names the first
            tensor.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = model_folder(folder)
    model = _described(folder)
    try:
        weights = load_file(folder / WEIGHTS_FILE)
    except SafetensorError as error:
        raise ConfigError(_damaged(folder, f"{WEIGHTS_FILE} is not whole or no safetensors file: {error}")) from error
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if expected != found:
        name = sorted(name for name in expected | found if expected.get(name) != found.get(name))[0]
        raise ConfigError(
            f"{folder}: weights and config.json do not fit: {name} has shape {found.get(name, 'none')} in "
            f"{WEIGHTS_FILE}, {expected.get(name, 'none')} by {CONFIG_FILE}"
        )
    model.load_state_dict(weights)
    model.sha256 = model_hash(folder)
    return model.eval()


def is_whole(folder: Path) -> bool:
    """Return whether a model folder holds a model that loads, every file of it."""
    try:
        load_model(folder)
    except (ConfigError, OSError):
        return False
    return True


def _described(folder: Path) -> Clap:
    """Return the model of a folder's config.json and tokenizer, with random weights."""
    from training.models.build import clap_of
    from training.tokenizer import load_tokenizer

    try:
        if not (folder / TOKENIZER_FILE).is_file():
            raise ConfigError(f"it holds no tokenizer: {TOKENIZER_FILE} is missing")
        return clap_of(read_description(folder), load_tokenizer(folder))
    except WavTextError as error:
        raise ConfigError(_damaged(folder, _reason(error, folder))) from error
    except KeyError as error:
        raise ConfigError(_damaged(folder, f"{CONFIG_FILE} lacks {error}")) from error
    except Exception as error:  # tokenizers and transformers raise plain Exception, AttributeError, TypeError, ...
        reason = " ".join(str(error).split()).partition(". ")[0][:200]
        raise ConfigError(_damaged(folder, f"{type(error).__name__}: {reason}")) from error


def _reason(error: Exception, folder: Path) -> str:
    """Return an error's message without its place, which is said anyway, and without advice meant for downloads."""
    return str(error).partition("; fetch it")[0].removeprefix("model.text.encoder: ").removeprefix(f"{folder}: ")


def _damaged(folder: Path, reason: str) -> str:
    return f"{folder}: damaged ({reason}); remove it and run the training command again"


def save_checkpoint(file: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values, whole or not at all."""
    buffer = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, **state}, buffer)
    with open_whole(file) as whole:
        whole.write(buffer.getbuffer())


def save_best(checkpoints: Path, state: dict[str, Any]) -> None:
    """Write best.pt; the one before stays beside it until a last.pt that knows the new one is written."""
    best, before = checkpoints / "best.pt", checkpoints / _BEFORE
    if best.exists() and not before.exists():
        best.rename(before)
    save_checkpoint(best, state)


def forget_best_before(checkpoints: Path) -> None:
    """Remove the best.pt of before, now that last.pt knows the new one."""
    (checkpoints / _BEFORE).unlink(missing_ok=True)


def restore_best(checkpoints: Path, step: int | None) -> bool:
    """Go back to the best.pt of a checkpoint, if a run was killed after a better one and before the next checkpoint.

    Args:
        checkpoints: The run's.
        step: Of the best evaluation that the checkpoint knows; None: of none.

    Returns:
        Whether the model folder may be of the one that is given up, and has to be written from best.pt again.
    """
    best, before = checkpoints / "best.pt", checkpoints / _BEFORE
    if step is None:
        best.unlink(missing_ok=True)
        return False
    if not before.exists():
        return False
    if not best.exists() or load_checkpoint(best)["step"] != step:
        before.replace(best)
        return True
    before.unlink()
    return False


def load_checkpoint(file: Path) -> dict[str, Any]:
    """Return a checkpoint, its tensors on the CPU.

    Raises:
        ConfigError: If the file is no checkpoint, or one of another format.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(f"{file}: missing; {_anew(file)}") from error
    except OSError:
        raise
    except Exception as error:
        raise ConfigError(f"{file}: damaged, or not a checkpoint of ours; {_anew(file)}") from error
    if not isinstance(state, dict) or state.get("format") != CHECKPOINT_FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise ConfigError(f"{file}: checkpoint format {found!r}, this code reads {CHECKPOINT_FORMAT}")
    return state


def _anew(file: Path) -> str:
    return f"remove {file.parent.parent} to begin anew"


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the state of the random generators that a model on a device draws from."""
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "cuda": on_gpu, "device": str(device)}


def restore_random_state(state: dict[str, Any]) -> None:
    """Set the random generators to a state from ``random_state``; one of a GPU that is not here is left out."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        device = torch.device(state["device"])
        if (device.index or 0) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state["cuda"], device)
