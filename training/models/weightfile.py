"""Files of weights that others wrote, to tensors by name; nothing in a file is run.

``torch.load(weights_only=True)`` comes first. It refuses what published checkpoints hold beside their weights (numpy
arrays of PANNs' sampler, numpy scalars and pickle protocol 4 in LAION's, settings in Lightning's), so a second reader
takes every object that is no tensor, number, text or plain container for a stand-in that does nothing. Allow-listing
numpy's own functions instead would trust their C code with bytes of the file. Only ``allow_pickle`` runs a file's code.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

from curation.errors import ConfigError

_INSIDE = ("model", "state_dict")
"""Where checkpoints keep the weights: PANNs and msclap, Lightning and LAION."""

_NO_CHECKPOINT = {
    b"<": "a page of HTML or XML (its host sent that in place of the file); fetch it again",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; fetch it with: git lfs pull",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\x89HDF": "an HDF5 file; only PyTorch checkpoints and safetensors are read",
}
"""First bytes of what people have in place of a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """What a file holds."""

    path: Path
    tensors: dict[str, Tensor]
    """On the CPU, of any type; may be parts of the file that are read when they are used."""
    not_tensors: tuple[str, ...]
    """Names among the weights that hold something else."""
    beside: tuple[str, ...]
    """What the file holds beside the weights: iteration, optimizer, ..."""
    sha256: str


def read_weights(path: Path, *, allow_pickle: bool = False) -> WeightFile:
    """Return the tensors in a checkpoint of PyTorch or a safetensors file, by name, without a ``module.`` in front.

    Args:
        path: The file.
        allow_pickle: Let the file make any Python object, which runs code of the file.

    Raises:
        ConfigError: If it is missing, cut off, something else, or holds no tensors by name.
    """
    _check_begin(path)
    found: Any = _safetensors(path) if path.suffix == ".safetensors" else _checkpoint(path, allow_pickle=allow_pickle)
    beside: tuple[str, ...] = ()
    weights = found.state_dict() if isinstance(found, torch.nn.Module) else found
    if isinstance(weights, Mapping):
        inside = [key for key in _INSIDE if _has_tensors(weights.get(key))]
        if inside:
            beside = tuple(str(key) for key in weights if key != inside[0])
            weights = weights[inside[0]]
    if not _has_tensors(weights):
        raise ConfigError(f"{path}: {_no_weights(found)}")
    named = {str(name).removeprefix("module."): value for name, value in weights.items()}
    if len(named) < len(weights):
        raise ConfigError(f"{path}: holds some tensors twice, with and without module. in front of their names")
    return WeightFile(
        path=path,
        tensors={name: value.detach() for name, value in named.items() if isinstance(value, Tensor)},
        not_tensors=tuple(name for name, value in named.items() if not isinstance(value, Tensor)),
        beside=beside,
        sha256=file_sha256(path),
    )


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_begin(path: Path) -> None:
    """Refuse a file that is missing, empty, or plainly something else."""
    if path.is_dir():
        raise ConfigError(f"{path}: a folder; name the checkpoint in it")
    try:
        with path.open("rb") as file:
            begin = file.read(32)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: missing; check the path, or fetch the file first") from error
    if not begin:
        raise ConfigError(f"{path}: empty (0 bytes); fetch it again")
    for bytes_, what in _NO_CHECKPOINT.items():
        if begin.lstrip().startswith(bytes_):
            raise ConfigError(f"{path}: not a checkpoint but {what}")


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:  # KeyError: a type that PyTorch does not have
        raise ConfigError(f"{path}: cut off, or no safetensors file ({error}); fetch it again") from error


def _checkpoint(path: Path, *, allow_pickle: bool) -> Any:
    """Return what a file of torch.save holds."""
    inside = _names_in_zip(path)
    is_torchscript = any(name.endswith("/constants.pkl") for name in inside)
    if is_torchscript and not allow_pickle:  # torch.load would hand it to its compiler
        raise ConfigError(f"{path}: a TorchScript archive, a program and not just weights; {_ADVICE}")
    options: dict[str, Any] = {"map_location": "cpu", "mmap": bool(inside)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old forms and other protocols of pickle
        if allow_pickle:
            try:
                return torch.load(path, weights_only=False, **options)
            except Exception as error:  # whatever its code raises
                raise ConfigError(f"{path}: cannot be read even with --allow-pickle ({_line(error)})") from error
        with suppress(Exception):  # objects beside the tensors, another protocol of pickle, or no checkpoint at all
            return torch.load(path, weights_only=True, **options)
        try:
            return torch.load(path, weights_only=False, pickle_module=_READER, **options)
        except _NotPlainError as error:
            raise ConfigError(f"{path}: {error}; {_ADVICE}") from error
        except Exception as error:  # RuntimeError, EOFError, KeyError, struct.error, ... by where the file is cut
            raise ConfigError(f"{path}: cut off, damaged, or no checkpoint ({_line(error)}); fetch it again") from error


def _names_in_zip(path: Path) -> list[str]:
    """Return what a zip archive holds; nothing of a damaged one, or of another file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):  # names that are no text, versions to come
        return []


_ADVICE = (
    "--allow-pickle reads it all the same, and runs whatever code the file holds: only for a file whose maker you trust"
)


def _has_tensors(values: Any) -> bool:
    return isinstance(values, Mapping) and any(isinstance(value, Tensor) for value in values.values())


def _no_weights(found: Any) -> str:
    """Return what is wrong with a file that was read and holds no tensors by name."""
    if isinstance(found, NotRead):
        return f"holds a whole Python object in place of tensors by name; {_ADVICE}"
    if isinstance(found, Mapping):
        names = ", ".join(repr(key) for key in list(found)[:4]) or "nothing"
        return f"holds no tensors by name, at its top or below model or state_dict, but {names}"
    return f"holds a {type(found).__name__}, not tensors by name"


def _line(error: Exception) -> str:
    """Return an error's type and first sentence."""
    return f"{type(error).__name__}: {' '.join(str(error).split()).partition('. ')[0][:160]}".removesuffix(": ")


class NotRead:
    """Stands in for an object of a file that is neither a tensor nor plain; made, filled and called without effect."""

    dump_patches = False
    """torch.load asks whole modules in files of the old form for this."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Take no notice."""

    extend = update = add = append


class _NotPlainError(pickle.UnpicklingError):
    """A pickle that does more than name plain values and tensors."""


_KNOWN: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor": torch._utils._rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": torch._utils._rebuild_parameter,
    "torch.storage.UntypedStorage": torch.UntypedStorage,
}
"""All that a file can call. Storages by type (FloatStorage, ...) are torch.load's own business."""


class _Unpickler(pickle._Unpickler):
    """Reads pickles of protocols 0 to 5; calls only what is in _KNOWN, and changes no object but new containers."""

    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get(f"{module}.{name}", NotRead)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if function is not NotRead and not any(function is known for known in _KNOWN.values()):
            raise _NotPlainError(f"calls an object of type {type(function).__name__}")
        self.stack[-1] = function(*arguments)

    def load_build(self) -> None:
        self.stack.pop()
        if type(self.stack[-1]) not in (NotRead, OrderedDict):
            raise _NotPlainError(f"sets the state of an object of type {type(self.stack[-1]).__name__}")

    dispatch: ClassVar[dict[int, Any]] = pickle._Unpickler.dispatch | {
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
    }


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


_READER = SimpleNamespace(Unpickler=_Unpickler, load=_load, __name__="pickle")
"""In the form of the module that torch.load takes."""
