"""Gradient caching: the loss and gradients of a large batch in the memory of a small one (Gao et al. 2021).

The contrastive loss needs the embeddings of the whole batch, but its gradient reaches the weights through each pair's
own embeddings alone. So the batch goes through the model in chunks whose activations are dropped; the loss of all
embeddings gives a gradient for each; and every chunk goes through again, with activations, from the same random
state, to carry its rows' gradients on to the weights (arXiv:2101.06983, section 3). Dropout and random crops are drawn
alike both times, so the result is exact: that of one pass over the whole batch but for rounding, of a model whose batch
norm sees chunks. With model.batch_norm=frozen there is no such difference. (Plain gradient accumulation would be
another training: each small batch would have fewer negatives.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from training.checkpoint import random_state, restore_random_state
from training.loading import Batch
from training.models.batchnorm import batch_norm_held
from training.models.clap import Clap

Forward = Callable[[Callable[..., tuple[Tensor, Tensor]], Batch], tuple[Tensor, Tensor]]
"""Model (or its DDP wrapper) and a chunk, to audio and text embeddings (B, D)."""


def split(batch: Batch, size: int) -> list[Batch]:
    """Return a batch in the fewest chunks of at most ``size`` pairs, as even as can be."""
    rows = len(batch.keys)
    count = -(-rows // size)
    edges = [rows * i // count for i in range(count + 1)]
    return [_rows(batch, slice(start, stop)) for start, stop in pairwise(edges)]


def cached_backward(
    model: Clap,
    wrapped: Clap | DistributedDataParallel,
    chunks: Sequence[Batch],
    *,
    forward: Forward,
    loss_of: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Leave in the weights the gradients of the loss of all chunks together; returns that loss, detached.

    Args:
        model: The model.
        wrapped: What gradients go through: the model, or its DDP wrapper, which averages them over processes after the
            last chunk.
        chunks: The batch of this process, see ``split``.
        forward: Calls either on one chunk.
        loss_of: Loss of this process's embeddings (B, D), gathered over processes within if there are several.
    """
    states, audio, text = [], [], []
    with batch_norm_held(model):  # not torch.no_grad(), under which other kernels would round otherwise
        for chunk in chunks:
            states.append(random_state(model.logit_scale.device))
            audio_embed, text_embed = forward(model, chunk)
            audio.append(audio_embed.detach())
            text.append(text_embed.detach())
            del audio_embed, text_embed
    sizes = [len(rows) for rows in audio]
    leaves = [torch.cat(audio).requires_grad_(), torch.cat(text).requires_grad_()]
    loss = loss_of(*leaves)
    has_scale = model.logit_scale.requires_grad
    gradients = torch.autograd.grad(loss, [*leaves, model.logit_scale] if has_scale else leaves)
    pieces = zip(chunks, states, *(torch.split(gradient, sizes) for gradient in gradients[:2]), strict=True)
    for number, (chunk, state, audio_grad, text_grad) in enumerate(pieces, start=1):
        is_last = number == len(chunks)
        restore_random_state(state)  # the last one leaves the generator where one pass would have left it
        with nullcontext() if is_last else _not_yet(wrapped):
            audio_embed, text_embed = forward(wrapped, chunk)
            carried = (audio_embed * audio_grad).sum() + (text_embed * text_grad).sum()
            if is_last and has_scale:
                carried = carried + model.logit_scale * gradients[2]
            if carried.requires_grad:  # not where all that is trained is the scale
                carried.backward()
    return loss.detach()


def _not_yet(wrapped: Clap | DistributedDataParallel) -> AbstractContextManager[None]:
    """Return a block in which gradients are not averaged over processes."""
    return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()


def _rows(batch: Batch, rows: slice) -> Batch:
    cut = {id(tensor): tensor[rows] for tensor in batch.waveforms.values()}
    return replace(
        batch,
        waveforms={name: cut[id(tensor)] for name, tensor in batch.waveforms.items()},
        input_ids=batch.input_ids[rows],
        attention_mask=batch.attention_mask[rows],
        keys=batch.keys[rows],
        gains=None if batch.gains is None else batch.gains[rows],
        cuts=batch.cuts and {name: (starts[rows], size) for name, (starts, size) in batch.cuts.items()},
    )
