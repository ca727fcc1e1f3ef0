"""Gathering over real processes: the gradients of two and of three are those of one with the joined batch.

Run as a module, this file is one of those processes (``work``); it writes what it found where the tests read it. Batch
norm and dropout are in evaluation: in training each process has statistics and masks of its own, and what would join
the former, SyncBatchNorm, is for GPUs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tests.training.clips import small_config
from training.gather import gather_embeddings, gather_keys
from training.losses import contrastive_loss, same_clip_mask
from training.models.build import new_clap
from training.models.clap import Clap

PAIRS = 6
WORLDS = (3, 2)
KEYS = torch.tensor([[0, 0], [1, 1], [1, 2], [2, 3], [3, 3], [0, 4]])
"""Number of clip and of caption: a clip twice within a process and across two, and a caption of two clips."""
CAPTIONS = ["A dog barks.", "Rain on a roof.", "Rain, then thunder.", "A car passes by.", "Birds sing in a wood."]
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Embeddings(nn.Module):
    """What ``Clap.forward`` does, in the precision of the model rather than float32."""

    def __init__(self, clap: Clap) -> None:
        super().__init__()
        self.clap = clap

    def forward(self, waveforms: dict[str, Tensor], input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        audio = self.clap.audio_projection(self.clap.audio(waveforms))
        text = self.clap.text_projection(self.clap.text(input_ids, attention_mask))
        return F.normalize(audio, dim=1), F.normalize(text, dim=1)


def small_clap(dtype: torch.dtype) -> Clap:
    config = small_config(Path("unused"), Path("unused"), model={"initial_temperature": 0.07})
    torch.manual_seed(0)
    clap = new_clap(config.model, config.features, captions=CAPTIONS).to(dtype).eval()
    for encoder in clap.audio.encoders.values():  # as training would leave them: decibels come in, units go on
        encoder.bn0.running_mean.fill_(-30)
        encoder.bn0.running_var.fill_(400)
    return clap


def make_batch(clap: Clap, dtype: torch.dtype, rows: slice = slice(None)) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Return rows of the joined batch: sounds of different pitch and colour, and texts of different length."""
    generator = torch.Generator().manual_seed(1)
    waveforms = {}
    for name, samples in clap.audio.clip_samples.items():
        noise = torch.randn(PAIRS, samples, generator=generator).cumsum(1)  # brown: its spectrum falls
        pitch = torch.linspace(0.01, 0.3, PAIRS)[:, None] * torch.arange(samples)
        waveforms[name] = (0.5 * pitch.sin() + 0.001 * noise)[rows].to(dtype)
    input_ids = torch.randint(5, len(clap.tokenizer), (PAIRS, 9), generator=generator)
    attention_mask = (torch.arange(9) < torch.arange(4, 4 + PAIRS)[:, None]).long()
    return waveforms, input_ids.where(attention_mask.bool(), 1)[rows], attention_mask[rows]


def gradients(clap: Clap, loss: Tensor) -> dict[str, Tensor]:
    clap.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in clap.named_parameters() if parameter.grad is not None}


def of_one_process(dtype: torch.dtype, *, masked: bool) -> tuple[float, dict[str, Tensor]]:
    """Return the loss of the joined batch and its gradients, no process group in sight."""
    clap = small_clap(dtype)
    audio, text = Embeddings(clap)(*make_batch(clap, dtype))
    mask = same_clip_mask(KEYS) if masked else None
    loss = contrastive_loss(audio, text, clap.logit_scale.exp(), same_clip=mask)
    return loss.item(), gradients(clap, loss)


def of_this_rank(rank: int, world: int, dtype: torch.dtype, *, masked: bool, naive: bool = False) -> dict[str, Any]:
    """Return the loss and the gradients that this process has for its share of the joined batch."""
    share = PAIRS // world
    rows = slice(rank * share, (rank + 1) * share)
    clap = small_clap(dtype)
    model = DistributedDataParallel(clap if dtype == torch.float32 else Embeddings(clap))
    gather = naive_gather if naive else gather_embeddings
    audio, text = (gather(own) for own in model(*make_batch(clap, dtype, rows)))
    mask = same_clip_mask(gather_keys(KEYS[rows])) if masked else None
    loss = contrastive_loss(audio, text, clap.logit_scale.exp(), same_clip=mask)
    return {"loss": loss.item(), "gradients": gradients(clap, loss)}


def naive_gather(own: Tensor) -> Tensor:
    """Return everybody's rows as constants, with this process's own put back: the mistake."""
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own.detach())
    parts[dist.get_rank()] = own
    return torch.cat(parts)


def weighted_sums(rank: int, world: int) -> dict[str, Tensor]:
    """Return the gradient of this process's rows where every process has a loss of its own."""
    own = torch.arange(8.0).reshape(2, 4).T.add(10 * rank).requires_grad_()  # not contiguous
    gathered = gather_embeddings(own)
    weights = torch.arange(1.0, 1 + gathered.numel()).reshape(gathered.shape)
    ((rank + 1) * weights * gathered).sum().backward()
    return {"gathered": gathered.detach(), "gradient": own.grad}


def refusals(rank: int, world: int) -> dict[str, str]:
    """Return what this process is told when not all bring the same."""
    shapes = {
        "one row fewer": (3 if rank == 0 else 4, 5),
        "no rows in one": (0 if rank == 1 else 2, 5),
        "no rows at all": (0, 5),
        "other width": (2, 4 + rank),
        "as many numbers": (4, 2) if rank == 0 else (2, 4),
        "no rows, as it is one number": (),
    }
    told = {}
    for name, shape in shapes.items():
        for gather, tensor in ((gather_embeddings, torch.zeros(shape)), (gather_keys, torch.zeros(shape).long())):
            try:
                gather(tensor)
            except ValueError as error:
                told[f"{name}, {gather.__name__}"] = str(error)
    return told


@contextmanager
def joined(store: Path, *, rank: int, world: int) -> Iterator[None]:
    """Be one of ``world`` processes that find each other by a file: no port to clash."""
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def work(rank: int, folder: Path) -> None:
    """Be one process: once among three, then, if it is one of the first two, among two."""
    torch.set_num_threads(1)
    for world in WORLDS:
        if rank < world:
            with joined(folder / f"store-{world}", rank=rank, world=world):
                found: dict[str, Any] = {
                    "refusals": refusals(rank, world),
                    "sums": weighted_sums(rank, world),
                    "keys": gather_keys(KEYS[rank : rank + 1] + 2**60),
                    "naive": of_this_rank(rank, world, torch.float64, masked=False, naive=True),
                }
                for name, dtype in DTYPES.items():
                    for masked in (False, True):
                        found[f"{name} {masked}"] = of_this_rank(rank, world, dtype, masked=masked)
            torch.save(found, folder / f"{world}-{rank}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """What the processes found: of each number of them, one result a rank."""
    folder = tmp_path_factory.mktemp("ranks")
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    command = [sys.executable, "-m", "tests.training.test_gather"]
    logs = [folder / f"{rank}.log" for rank in range(max(WORLDS))]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for rank, log in enumerate(logs):
            with log.open("wb") as output:
                processes.append(
                    subprocess.Popen(
                        [*command, str(rank), str(folder)],
                        cwd=Path(__file__).parents[2],
                        env={**os.environ, **loopback},
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        deadline = time.monotonic() + 240
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            if any(process.returncode for process in processes):
                deadline = min(deadline, time.monotonic() + 10)  # the others say what they saw of it
            time.sleep(0.05)
        codes = [process.poll() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if any(codes) or None in codes:
        said = "\n".join(f"rank {rank} ({codes[rank]}):\n{log.read_text()[-4000:]}" for rank, log in enumerate(logs))
        pytest.fail(f"the processes ended with {codes} (None: not in time)\n{said}")
    return {world: [torch.load(folder / f"{world}-{rank}.pt") for rank in range(world)] for world in WORLDS}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("name", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("world", WORLDS)
def test_gradients_are_those_of_one_process(found, world, name, tolerance, masked):
    loss, expected = of_one_process(DTYPES[name], masked=masked)
    assert {"logit_scale", "audio_projection.weight", "text_projection.weight"} <= set(expected)
    length = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    for rank in range(world):
        result = found[world][rank][f"{name} {masked}"]
        assert result["loss"] == pytest.approx(loss, rel=tolerance)
        assert result["gradients"].keys() == expected.keys()
        errors = {name: (result["gradients"][name] - expected[name]).norm() for name in expected}
        assert torch.stack(list(errors.values())).norm() <= tolerance * length
        assert errors["logit_scale"] <= tolerance * expected["logit_scale"].abs()


def test_the_mask_makes_a_difference(found):
    assert abs(of_one_process(torch.float64, masked=True)[0] - of_one_process(torch.float64, masked=False)[0]) > 0.1


@pytest.mark.parametrize("world", WORLDS)
def test_a_gather_without_gradient_divides_the_encoders_gradients(found, world):
    _, expected = of_one_process(torch.float64, masked=False)
    for result in found[world]:
        for name, gradient in result["naive"]["gradients"].items():
            share = 1 if name == "logit_scale" else world
            torch.testing.assert_close(gradient * share, expected[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("world", WORLDS)
def test_the_gradient_is_the_sum_over_all_processes_losses(found, world):
    joined_rows = torch.cat([torch.arange(8.0).reshape(2, 4).T + 10 * rank for rank in range(world)])
    weights = torch.arange(1.0, 1 + joined_rows.numel()).reshape(joined_rows.shape)
    for rank, result in enumerate(found[world]):
        assert torch.equal(result["sums"]["gathered"], joined_rows)
        expected = sum(range(1, world + 1)) * weights[4 * rank : 4 * rank + 4]
        assert torch.equal(result["sums"]["gradient"], expected)


@pytest.mark.parametrize("world", WORLDS)
def test_keys_come_by_rank_and_exact(found, world):
    for result in found[world]:
        assert torch.equal(result["keys"], KEYS[:world] + 2**60)


@pytest.mark.parametrize("world", WORLDS)
def test_what_does_not_fit_is_refused_by_every_process(found, world):
    shapes = {
        "one row fewer": "3 rows of 5" + ", 4 rows of 5" * (world - 1),
        "no rows in one": ", ".join(
            f"{0 if rank == 1 else 2} rows of {0 if rank == 1 else 5}" for rank in range(world)
        ),
        "no rows at all": ", ".join(["0 rows of 0"] * world),
        "other width": ", ".join(f"2 rows of {4 + rank}" for rank in range(world)),
        "as many numbers": "4 rows of 2" + ", 2 rows of 4" * (world - 1),
        "no rows, as it is one number": ", ".join(["0 rows of 1"] * world),
    }
    for result in found[world]:
        for name, shape in shapes.items():
            for gather in (gather_embeddings, gather_keys):
                assert result["refusals"][f"{name}, {gather.__name__}"] == (
                    f"all processes must bring as many rows to gather, at least one, got {shape} (by rank); give each "
                    "batches of one size, and leave an incomplete last one out"
                )


def test_one_process_gets_back_what_it_gave(tmp_path):
    embed, keys = torch.eye(3).requires_grad_(), torch.arange(3)
    assert gather_embeddings(embed) is embed
    assert gather_keys(keys) is keys
    with joined(tmp_path / "store", rank=0, world=1):
        assert gather_embeddings(embed) is embed
        assert gather_keys(keys) is keys


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
