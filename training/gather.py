"""Joins what the processes of a training run hold, so that every pair meets the negatives of all of them.

    audio, text = gather_embeddings(audio_embed), gather_embeddings(text_embed)
    mask = same_clip_mask(gather_keys(keys))
    loss = contrastive_loss(audio, text, model.module.logit_scale.exp(), same_clip=mask)

Every process then has the loss of the whole batch, and ``DistributedDataParallel``, which averages gradients, leaves
in each the gradients that one process would have for the joined batch: of the encoders and of the scale. That holds
because the gradients of all processes' losses are added up on the way back. Where rows of other processes come in as
constants, as after a plain ``all_gather``, encoder gradients are smaller by the number of processes (half with two),
while the scale's is not, and Adam hides it. (The scale is read outside the model's forward pass, so
``find_unused_parameters`` must stay off.)

The gradient is ours because ``torch.distributed.nn.functional.all_gather``, which has one, is deprecated in favour of
a private module. Every process computes the full (B, B) logits. To compute only its own rows of them would give the
same gradients and a loss that differs by process; even at 4,096 pairs it would save less than 64 MB a copy of the
logits, beside some 500 MB of activations a pair.

One process, or no process group: everything is returned as it came.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def gather_embeddings(tensor: Tensor) -> Tensor:
    """Return the rows (world_size * B, D) of all processes, by rank, from each one's own (B, D); differentiable.

    Every process must call it, and go backward through the result if any does. The gradient of the input is the sum,
    over processes, of each one's gradient for these rows.

    Raises:
        ValueError: In every process, if they do not all bring the same number of rows and columns.

    Note:
        Shapes are compared at every call, by one small exchange: batches of unequal size would otherwise hang, or
        mix rows up. It goes through the CPU where the process group can do that ("gloo", "cpu:gloo,cuda:nccl"); with
        "nccl" alone the CPU waits for the GPU to get there.
    """
    if not _is_joined():
        return tensor
    _check_shapes(tensor)
    gathered: Tensor = _Gather.apply(tensor)  # type: ignore[no-untyped-call]
    return gathered


def gather_keys(tensor: Tensor) -> Tensor:
    """Return the rows of all processes, by rank, as ``gather_embeddings`` does, of whole numbers and without gradient.

    For what says which rows are of one clip: the clips' numbers and the captions', which must be the same numbers in
    every process.
    """
    if not _is_joined():
        return tensor
    _check_shapes(tensor)
    return _all_gather(tensor.detach())


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.rows = len(tensor)
        return _all_gather(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.contiguous().clone()
        dist.all_reduce(total)  # not reduce_scatter, which not every backend has
        first = dist.get_rank() * ctx.rows
        return total[first : first + ctx.rows]


def _all_gather(tensor: Tensor) -> Tensor:
    tensor = tensor.contiguous()
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor)
    return torch.cat(parts)


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _check_shapes(tensor: Tensor) -> None:
    device = torch.device("cpu") if "cpu:" in dist.get_backend_config() else tensor.device
    rows = len(tensor) if tensor.ndim else 0
    size = torch.tensor([rows, tensor.numel()], device=device)
    sizes = _all_gather(size).view(-1, 2).tolist()
    if any(found != sizes[0] for found in sizes) or sizes[0][0] == 0:
        shapes = ", ".join(f"{rows} rows of {numel // max(rows, 1)}" for rows, numel in sizes)
        raise ValueError(
            f"all processes must bring as many rows to gather, at least one, got {shapes} (by rank); give each "
            "batches of one size, and leave an incomplete last one out"
        )
