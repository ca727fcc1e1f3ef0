"""Files of embeddings: what is written is what is read, and whatever is not one is refused in one line, unexecuted."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.errors import ConfigError
from training.embeddings import Embeddings, check_place, read_embeddings, save_embeddings

RNG = np.random.default_rng(5)
TEXT = RNG.normal(size=(5, 3)).astype(np.float32)
AUDIO = RNG.normal(size=(3, 3)).astype(np.float32)
OWNER = np.array([0, 0, 1, 2, 2])
IDS = ("test-a", "test-b", "test-c")


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def write(file: Path, **arrays: Any) -> Path:
    np.savez(file, **({"text": TEXT, "audio": AUDIO, "owner": OWNER} | arrays))
    return file


def test_what_is_written_is_read(tmp_path):
    made = Embeddings(
        text=unit(TEXT), audio=unit(AUDIO), owner=OWNER, clip_ids=IDS, captions=("a", "b ü", "", "d" * 300, "e")
    )
    save_embeddings(tmp_path / "deep" / "one.npz", made)
    save_embeddings(tmp_path / "two.npz", made)
    assert (tmp_path / "deep" / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    read = read_embeddings(tmp_path / "two.npz")
    for name in ("text", "audio", "owner"):
        assert np.array_equal(getattr(read, name), getattr(made, name))
    assert (read.clip_ids, read.captions) == (made.clip_ids, made.captions)
    assert read.normalised() is read  # rows of length 1 stay as they are, to the last bit
    with np.load(tmp_path / "two.npz", allow_pickle=False) as plain:
        assert plain["clip_ids"].tolist() == list(IDS)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_any_width_of_float_is_read(tmp_path, kind):
    file = write(tmp_path / "e.npz", text=TEXT.astype(kind), owner=OWNER.astype(np.uint16), model="ours")
    read = read_embeddings(file)
    assert (read.text.dtype, read.owner.dtype, read.clip_ids) == (np.float32, np.int64, ())
    assert read.text == pytest.approx(TEXT, rel=1e-3)


def test_rows_are_divided_by_their_length(tmp_path):
    read = read_embeddings(write(tmp_path / "e.npz", audio=AUDIO.astype(np.float64) * 1e30))
    assert not read.is_unit
    assert read.normalised().text == pytest.approx(unit(TEXT), abs=1e-6)
    assert read.normalised().audio == pytest.approx(unit(AUDIO), abs=1e-6)
    half = read_embeddings(write(tmp_path / "e.npz", text=unit(TEXT).astype("f2"), audio=unit(AUDIO).astype("f2")))
    assert half.is_unit
    nothing = read_embeddings(write(tmp_path / "e.npz", audio=np.vstack([AUDIO[:2], np.zeros(3, np.float32)])))
    with pytest.raises(ConfigError, match="audio row 2 is all zeros"):
        nothing.normalised()


def test_clips_are_chosen_with_their_captions():
    made = Embeddings(text=TEXT, audio=AUDIO, owner=OWNER, clip_ids=IDS, captions=tuple("vwxyz"))
    chosen = made.of_clips(["test-c", "test-a"])
    assert (chosen.clip_ids, chosen.captions) == (("test-c", "test-a"), tuple("yzvw"))
    assert np.array_equal(chosen.audio, AUDIO[[2, 0]])
    assert np.array_equal(chosen.text, TEXT[[3, 4, 0, 1]])
    assert chosen.owner.tolist() == [0, 0, 1, 1]
    with pytest.raises(ConfigError, match="1 of 2 clips have no embedding, the first is 'test-d'"):
        made.of_clips(["test-a", "test-d"])
    with pytest.raises(ConfigError, match="hold no clip_ids"):
        Embeddings(text=TEXT, audio=AUDIO, owner=OWNER).of_clips(["test-a"])
    with pytest.raises(ConfigError, match="no caption describes any of the clips"):
        Embeddings(text=TEXT, audio=AUDIO, owner=np.zeros(5, np.int64), clip_ids=IDS).of_clips(["test-b"])


def nan_in(rows: np.ndarray) -> np.ndarray:
    rows = rows.copy()
    rows[1, 1] = np.nan
    return rows


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"text": TEXT[0]}, r"text has shape \(3,\), must be rows of one size"),
        ({"audio": np.zeros((0, 3), np.float32)}, r"audio has shape \(0, 3\)"),
        ({"audio": np.ones((3, 4), np.float32)}, r"text is \(5, 3\) and audio is \(3, 4\)"),
        ({"text": np.ones((5, 3), np.int64)}, "text holds int64, must be float16, float32 or float64"),
        ({"text": np.ones((5, 3), complex)}, "text holds complex128"),
        ({"text": nan_in(TEXT)}, "text has NaN, infinite or too large values .* in 1 of 5 rows, the first is 1"),
        ({"audio": np.full((3, 3), np.inf)}, "audio has NaN, infinite or too large values .* in 3 of 3 rows"),
        ({"audio": np.full((3, 3), 1e300)}, "audio has NaN, infinite or too large values .* in 3 of 3 rows"),
        ({"owner": OWNER[:4]}, r"owner has shape \(4,\), must be \(5,\)"),
        ({"owner": OWNER.astype(float)}, "owner holds float64, must be whole numbers"),
        ({"owner": OWNER + 1}, "owner goes from 1 to 3, must lie in 0 to 2"),
        ({"owner": OWNER - 1}, "owner goes from -1 to 1"),
        ({"owner": np.array([0, 0, 1, 2, 2**63], np.uint64)}, "owner goes from 0 to 9223372036854775808"),
        ({"clip_ids": np.array(["a", "b"])}, r"clip_ids holds <U1 of shape \(2,\), must be 3 strings"),
        ({"clip_ids": np.array(["a", "b", "a"])}, "clip_ids has 'a' more than once"),
        ({"clip_ids": np.array([1, 2, 3])}, "clip_ids holds int64"),
        ({"captions": np.array(["a"])}, "captions holds <U1"),
        ({"clip_ids": np.array(["a", None, 3], dtype=object)}, "clip_ids.npy holds Python objects .a pickle., which"),
        ({"text": np.array([[1.0], [2.0]], dtype=object)}, "text.npy holds Python objects"),
    ],
)
def test_arrays_that_are_none_are_refused(tmp_path, arrays, message):
    with pytest.raises(ConfigError, match=f"e.npz: {message}") as caught:
        read_embeddings(write(tmp_path / "e.npz", **arrays))
    assert "\n" not in str(caught.value)


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_nothing_in_a_file_is_run(tmp_path):
    trace = tmp_path / "trace"
    (tmp_path / "e.npz").write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(ConfigError, match="not an npz file"):
        read_embeddings(tmp_path / "e.npz")
    with pytest.raises(ConfigError, match="holds Python objects"):
        read_embeddings(write(tmp_path / "e.npz", owner=np.array([Bomb(trace)] * 5, dtype=object)))
    read_embeddings(write(tmp_path / "e.npz", other=np.array([Bomb(trace)], dtype=object)))  # not ours: left alone
    assert not trace.exists()


def test_files_that_are_none_are_refused(tmp_path):
    file = tmp_path / "e.npz"
    for content in (b"", b"hello", b"PK\x03\x04", bytes(100)):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"not an npz file, or a cut one; write it with numpy\.savez"):
            read_embeddings(file)
    np.save(tmp_path / "bare.npy", TEXT)
    with pytest.raises(ConfigError, match="not an npz file"):
        read_embeddings(tmp_path / "bare.npy")
    np.savez(file, TEXT, AUDIO)
    with pytest.raises(ConfigError, match="holds no array 'text'"):
        read_embeddings(file)
    np.savez(file, text=TEXT, audio=AUDIO)
    with pytest.raises(ConfigError, match=r"holds no array 'owner' \(it has audio, text\)"):
        read_embeddings(file)
    with pytest.raises(FileNotFoundError):
        read_embeddings(tmp_path / "none.npz")


def test_a_header_that_promises_more_than_there_is_is_refused(tmp_path):
    for shape in ((10**7, 10**9), (10**30, 3), (6, 3)):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(write(tmp_path / "e.npz"), "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("text.npy", header.getvalue() + TEXT.tobytes())
        with pytest.raises(ConfigError, match=r"text.npy (is larger than the memory|cannot be read)"):
            read_embeddings(tmp_path / "e.npz")


def test_a_cut_or_damaged_file_never_passes_for_another(tmp_path):
    whole = write(tmp_path / "whole.npz", clip_ids=np.array(IDS)).read_bytes()
    file = tmp_path / "e.npz"
    for size in range(0, len(whole), 97):
        file.write_bytes(whole[:size])
        with pytest.raises(ConfigError):
            read_embeddings(file)
    passed = 0
    for at in RNG.integers(len(whole), size=300):
        damaged = bytearray(whole)
        damaged[at] ^= int(RNG.integers(1, 256))
        file.write_bytes(damaged)
        try:
            read = read_embeddings(file)
        except ConfigError:
            continue
        passed += 1  # what hit a date or an attribute of the zip
        assert np.array_equal(read.text, TEXT)
        assert np.array_equal(read.audio, AUDIO)
        assert np.array_equal(read.owner, OWNER)
    assert passed < 200


def test_only_embeddings_are_overwritten(tmp_path):
    file = tmp_path / "notes.npz"
    file.write_text("a year of work")
    made = Embeddings(text=TEXT, audio=AUDIO, owner=OWNER)
    with pytest.raises(ConfigError, match="is there already, and holds no embeddings"):
        save_embeddings(file, made)
    assert file.read_text() == "a year of work"
    with pytest.raises(ConfigError, match="a folder; name the file"):
        check_place(tmp_path)
    save_embeddings(write(tmp_path / "e.npz", audio=AUDIO + 1), made)
    assert np.array_equal(read_embeddings(tmp_path / "e.npz").audio, AUDIO)
