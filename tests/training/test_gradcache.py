"""Gradient caching: the loss and gradients of the whole batch, in chunks."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from tests.training.batches import model_and_batch
from training.gradcache import cached_backward, split
from training.losses import contrastive_loss


def embed(model, batch):
    batch = batch.to(torch.device("cpu"))
    return model(batch.waveforms, batch.input_ids, batch.attention_mask)


def gradients(model, batch, *, size):
    """Return loss and gradients by name; size 0: one pass."""
    model.zero_grad()

    def loss_of(audio, text):
        return contrastive_loss(audio, text, model.logit_scale.exp())

    if size:
        loss = cached_backward(model, model, split(batch, size), forward=embed, loss_of=loss_of)
    else:
        loss = loss_of(*embed(model, batch))
        loss.backward()
        loss = loss.detach()
    return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("size", [3, 4, 5, 11])
def test_chunks_give_the_gradients_of_the_whole_batch(size):
    model, batch = model_and_batch(12, dropout=0.0, batch_norm="frozen", dtype=torch.float64)
    loss, whole = gradients(model, batch, size=0)
    cached_loss, cached = gradients(model, batch, size=size)
    torch.testing.assert_close(cached_loss, loss, rtol=1e-12, atol=0)
    assert cached.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(cached[name], gradient, rtol=1e-9, atol=1e-12, msg=name)
    assert max(gradient.abs().max() for gradient in whole.values()) > 1e-3


def test_plain_accumulation_would_be_another_training():
    model, batch = model_and_batch(12, dropout=0.0, batch_norm="frozen", dtype=torch.float64)
    _, whole = gradients(model, batch, size=0)
    model.zero_grad()
    for chunk in split(batch, 6):
        (contrastive_loss(*embed(model, chunk), model.logit_scale.exp()) / 2).backward()
    name = "audio_projection.weight"
    accumulated = model.audio_projection.weight.grad
    assert (accumulated - whole[name]).norm() > 0.05 * whole[name].norm()


def test_one_chunk_is_one_pass_bit_for_bit_with_dropout_and_random_crops():
    model, batch = model_and_batch(6, dropout=0.3)
    twin = copy.deepcopy(model)
    torch.manual_seed(5)
    loss, whole = gradients(model, batch, size=0)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    cached_loss, cached = gradients(twin, batch, size=6)
    assert torch.equal(loss, cached_loss)
    assert torch.equal(after, torch.get_rng_state())
    for name, gradient in whole.items():
        torch.testing.assert_close(cached[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


def test_both_passes_of_a_chunk_draw_the_same():
    model, batch = model_and_batch(8, dropout=0.5)
    seen = []

    def recorded(target, chunk):
        rows = embed(target, chunk)
        seen.append(torch.cat([row.detach() for row in rows]))
        return rows

    chunks = split(batch, 3)
    cached_backward(
        model, model, chunks, forward=recorded, loss_of=lambda a, t: contrastive_loss(a, t, model.logit_scale.exp())
    )
    assert len(seen) == 6
    for first, second in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(seen[0][:2], seen[1][:2])


def test_batch_norm_takes_in_each_chunk_once():
    model, batch = model_and_batch(8, dropout=0.0)
    twin = copy.deepcopy(model)
    gradients(model, batch, size=4)
    with torch.no_grad():
        for chunk in split(batch, 4):
            embed(twin, chunk)
    for (name, ours), theirs in zip(model.named_buffers(), dict(twin.named_buffers()).values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_frozen_parts_get_no_gradient():
    model, batch = model_and_batch(6, dropout=0.0)
    model.freeze(["cnn14", "htsat", "audio_projection", "logit_scale"])
    _, whole = gradients(model, batch, size=0)
    _, cached = gradients(model, batch, size=2)
    assert whole.keys() == cached.keys()
    assert all(name.startswith("text") for name in cached)


def test_chunks_are_even_and_shared_sound_stays_shared():
    _, batch = model_and_batch(10, dropout=0.0)
    chunks = split(batch, 4)
    assert [len(chunk.keys) for chunk in chunks] == [3, 3, 4]
    assert torch.equal(torch.cat([chunk.keys for chunk in chunks]), batch.keys)
    together = dict.fromkeys(batch.waveforms, next(iter(batch.waveforms.values())))
    shared = split(dataclasses.replace(batch, waveforms=together), 5)[0].waveforms
    assert len({id(tensor) for tensor in shared.values()}) == 1
