"""Files of weights: what published ones hold beside tensors, what is no checkpoint, and what must never be run."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from curation.errors import ConfigError
from training.models.weightfile import read_weights

WEIGHTS = OrderedDict(weight=torch.arange(6.0).reshape(2, 3), bias=nn.Parameter(torch.ones(2)), count=torch.tensor(3))


class Settings(dict):
    """As Lightning keeps a run's."""


class RunsCode:
    """Pickled, a call of whatever is given."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


BESIDE = {
    "nothing": {},
    "arrays": {"sampler": {"indexes": [np.arange(5), np.zeros((2, 2))], "queue": [1, 2]}},
    "scalars": {"epoch": 3, "loss": np.float64(1.5), "best": np.int64(4)},
    "objects": {"args": argparse.Namespace(lr=1.0), "s": Settings(a=1), "p": Path("x"), "r": np.random.RandomState(1)},
    "containers": {"set": {1, 2}, "bytes": b"abc", "complex": 1j, "slice": slice(3)},
}


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE.keys())
def test_tensors_are_read_whatever_lies_beside_them(tmp_path, beside, protocol, is_zip):
    file = tmp_path / "file.pt"
    content = {"state_dict": WEIGHTS, **beside}
    torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zip)
    found = read_weights(file)
    assert found.tensors.keys() == WEIGHTS.keys()
    assert all(torch.equal(found.tensors[name], WEIGHTS[name]) for name in WEIGHTS)
    assert found.beside == tuple(beside)
    assert found.not_tensors == ()


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"model": x}, lambda x: {"state_dict": x, "epoch": 1}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrappers_are_taken_off(tmp_path, wrap, prefix):
    torch.save(wrap({prefix + name: value for name, value in WEIGHTS.items()} | {"note": "x"}), tmp_path / "file")
    found = read_weights(tmp_path / "file")
    assert found.tensors.keys() == WEIGHTS.keys()
    assert found.not_tensors == ("note",)


def test_safetensors_and_their_hash(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    found = read_weights(tmp_path / "a.safetensors")
    assert found.tensors["a"].tolist() == [1, 1]
    assert len(found.sha256) == 64


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("function", [os.mkdir, exec, pickle.loads], ids=["os", "builtins", "pickle"])
def test_no_code_of_a_file_is_run(tmp_path, function, is_zip):
    folder = tmp_path / "made"
    argument = {
        os.mkdir: str(folder),
        exec: f"import os; os.mkdir({str(folder)!r})",
        pickle.loads: pickle.dumps(RunsCode(os.mkdir, str(folder))),
    }[function]
    content = {"model": WEIGHTS, "beside": RunsCode(function, argument)}
    torch.save(content, tmp_path / "file", _use_new_zipfile_serialization=is_zip)
    assert read_weights(tmp_path / "file").tensors.keys() == WEIGHTS.keys()
    assert not folder.exists()
    read_weights(tmp_path / "file", allow_pickle=True)
    assert folder.exists()


def test_a_file_changes_no_object_of_ours(tmp_path):
    """BUILD sets attributes: on a function or class of torch it would change what later code does."""
    evil = pickle.PROTO + b"\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb."
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        archive.writestr("file/data.pkl", evil)
        archive.writestr("file/version", "3\n")
        archive.writestr("file/byteorder", "little")
    with pytest.raises(
        ConfigError, match="sets the state of an object of type function; --allow-pickle reads it all the same"
    ):
        read_weights(tmp_path / "file")
    assert not hasattr(torch._utils._rebuild_tensor_v2, "a")


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "old"])
def test_a_whole_module_is_read_only_when_it_may_run(tmp_path, is_zip):
    torch.save(nn.Linear(2, 3), tmp_path / "file", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ConfigError, match="a whole Python object in place of tensors by name; --allow-pickle"):
        read_weights(tmp_path / "file")
    assert read_weights(tmp_path / "file", allow_pickle=True).tensors.keys() == {"weight", "bias"}


def whole(tmp_path: Path, *, is_zip: bool = True) -> bytes:
    torch.save({"model": WEIGHTS}, tmp_path / "whole", _use_new_zipfile_serialization=is_zip)
    return (tmp_path / "whole").read_bytes()


NO_CHECKPOINT = {
    "empty": (lambda _: b"", r"file: empty \(0 bytes\); fetch it again"),
    "html": (lambda _: b"\n <!DOCTYPE html><title>404</title>", "not a checkpoint but a page of HTML"),
    "pointer": (lambda _: b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
    "gzip": (lambda _: b"\x1f\x8b\x08\x00rest", "a gzip archive; unpack it"),
    "hdf5": (lambda _: b"\x89HDF\r\n\x1a\nrest", "an HDF5 file"),
    "text": (lambda _: b"hello, this is a text\n" * 20, "cut off, damaged, or no checkpoint"),
    "noise": (lambda _: bytes(range(256)) * 20, "cut off, damaged, or no checkpoint"),
    "cut": (lambda path: whole(path)[:-40], "cut off, damaged, or no checkpoint .*central directory"),
    "cut short": (lambda path: whole(path)[:200], "cut off, damaged, or no checkpoint"),
    "old, cut": (lambda path: whole(path, is_zip=False)[:-8], "cut off, damaged, or no checkpoint .*unexpected EOF"),
    "old, cut short": (lambda path: whole(path, is_zip=False)[:90], "cut off, damaged, or no checkpoint"),
    "pickle": (lambda _: pickle.dumps({"a": 1}), "cut off, damaged, or no checkpoint .*magic number"),
}


@pytest.mark.parametrize(("content", "message"), NO_CHECKPOINT.values(), ids=NO_CHECKPOINT.keys())
@pytest.mark.parametrize("allow_pickle", [False, True])
def test_what_is_no_checkpoint_is_named(tmp_path, content, message, allow_pickle):
    file = tmp_path / "file"
    file.write_bytes(content(tmp_path))
    if allow_pickle:
        message = message.replace("cut off, damaged, or no checkpoint", "cannot be read even with --allow-pickle")
    with pytest.raises(ConfigError, match=message):
        read_weights(file, allow_pickle=allow_pickle)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(2), "holds a Tensor, not tensors by name"),
        ([torch.ones(2)], "holds a list, not tensors by name"),
        ({}, "holds no tensors by name, at its top or below model or state_dict, but nothing"),
        ({"epoch": 1, "weights": {"a": torch.ones(1)}}, "but 'epoch', 'weights'"),
        ({"a": torch.ones(1), "module.a": torch.ones(1)}, "holds some tensors twice"),
    ],
)
def test_what_holds_no_tensors_by_name_is_named(tmp_path, content, message):
    torch.save(content, tmp_path / "file")
    with pytest.raises(ConfigError, match=message):
        read_weights(tmp_path / "file")


def test_files_of_other_forms_are_named(tmp_path):
    for path, message in ((tmp_path / "none.pt", "missing; check the path"), (tmp_path, "a folder; name the check")):
        with pytest.raises(ConfigError, match=message):
            read_weights(path)
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ConfigError, match="cut off, or no safetensors file"):
        read_weights(tmp_path / "a.safetensors")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/code/constants.pkl", "x")
        archive.writestr("a/constants.pkl", "x")
    with pytest.raises(ConfigError, match="a TorchScript archive, a program and not just weights"):
        read_weights(tmp_path / "a.zip")


@pytest.mark.long
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "old"])
def test_a_file_with_changed_bytes_is_refused_or_read(tmp_path, is_zip):
    random, content, outcomes = np.random.default_rng(0), whole(tmp_path, is_zip=is_zip), set()
    for _ in range(1000):
        changed = bytearray(content)
        for place in random.integers(0, len(content), random.integers(1, 12)):
            changed[place] = random.integers(0, 256)
        (tmp_path / "file").write_bytes(changed)
        try:
            read_weights(tmp_path / "file")
            outcomes.add("read")
        except ConfigError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
