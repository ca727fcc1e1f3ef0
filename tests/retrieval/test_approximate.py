"""faiss's cells: recall is measured against the exact answer, all cells give that answer, and misuse is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from retrieval.approximate import Cells, faiss_file, make_cells
from retrieval.cli import app
from retrieval.exact import top_rows
from retrieval.index import Index, IndexFolderError
from tests.retrieval.conftest import write_vectors

pytest.importorskip("faiss", reason="the faiss extra is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 clips around 60 centres, and 100 texts near some of them."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(60, 32, generator=generator)
    near = centres[torch.randint(60, (3100,), generator=generator)] + 0.5 * torch.randn(3100, 32, generator=generator)
    unit = torch.nn.functional.normalize(near, dim=1)
    return write_vectors(tmp_path_factory.mktemp("index"), unit[:3000].clone(), unit[3000:].clone())


def test_all_cells_give_the_exact_answer_and_few_give_part_of_it(folder: Path) -> None:
    index = Index.open(folder)
    cells, _ = make_cells(index, cells=40)
    queries = index.text_vectors[:5].numpy()
    exact = top_rows(index.vectors, queries, top=10)
    for (rows, scores), (others, same) in zip(cells.search(queries, top=10, probes=40), exact, strict=True):
        assert rows.tolist() == others.tolist()
        assert scores.tolist() == same.tolist()
    recalls = [cells.recall(probes=probes, queries=50).recall_at_10 for probes in (1, 8, 40)]
    assert 0.1 < recalls[0] < recalls[1] <= recalls[2]
    assert recalls[2] > 0.995


def test_filters_hold(folder: Path) -> None:
    index = Index.open(folder)
    cells, _ = make_cells(index, cells=40)
    mask = np.zeros(3000, bool)
    mask[[5, 700, 2999]] = True
    ((rows, _),) = cells.search(index.text_vectors[:1].numpy(), top=10, probes=40, mask=mask)
    assert sorted(rows.tolist()) == [5, 700, 2999]


def test_commands(folder: Path) -> None:
    def invoke(*words: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, [str(word) for word in words])
        return done.exit_code, done.stdout, done.stderr

    index = Index.open(folder)
    faiss_file(index).unlink(missing_ok=True)
    query = ("query", folder, "--like", "soundbible-7", "--stale", "--top", 3, "--json")
    exact = json.loads(invoke(*query)[1])
    code, _, said = invoke(*query, "--probes", 5)
    assert code == 1
    assert f"make it with: wavtext5k-search approximate {folder}" in said
    code, shown, _ = invoke("approximate", folder, "--cells", 30, "--queries", 20)
    assert code == 0
    assert "wrote      30 cells of 3,000 clips" in shown
    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["1", "4", "16", "30"]
    assert invoke("approximate", folder, "--queries", 1)[1].startswith("kept       30 cells of 3,000 clips")
    assert invoke("approximate", folder, "--cells", 20, "--queries", 1)[1].startswith("wrote      20 cells")
    faiss_file(index).write_bytes(b"damaged")
    table = json.loads(invoke("approximate", folder, "--cells", 30, "--queries", 20, "--json")[1])
    assert table["cells"] == 30
    assert table["recall"][-1]["recall_at_10"] > 0.99
    assert json.loads(invoke(*query, "--probes", 30)[1]) == exact
    nothing = invoke(*query[:-1], "--probes", 1, "--max-s", 0)
    assert nothing[:2] == (0, "none in the cells that were searched; raise --probes, or leave it out\n")


def test_misuse_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Index.open(write_vectors(tmp_path / "small", torch.eye(8), torch.eye(8)))
    with pytest.raises(IndexFolderError, match="8 clips; below 1,000"):
        make_cells(small)
    index = Index.open(folder)
    make_cells(index, cells=40)
    with pytest.raises(IndexFolderError, match="3,001 cells for 3,000 clips; ask for fewer"):
        make_cells(index, cells=3001)
    faiss_file(small).write_bytes(faiss_file(index).read_bytes())
    with pytest.raises(IndexFolderError, match="of another index; make it again"):
        Cells(small)
    os.truncate(faiss_file(small), 100)
    with pytest.raises(IndexFolderError, match="damaged"):
        Cells(small)
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(IndexFolderError, match=r"needs the faiss extra: pip install"):
        make_cells(index)
