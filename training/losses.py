"""The loss of a batch of audio-text pairs: pure tensor functions, in float32 whatever the model ran in.

Which pairs of a batch are no negatives of each other is an argument, and not found here: the paper's loss knows only
rows, so a clip that comes twice in a batch, with two of its captions, is its own negative there. ``same_clip_mask``
tells such rows by their keys.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(
    audio_embed: Tensor, text_embed: Tensor, scale: Tensor, *, same_clip: Tensor | None = None
) -> Tensor:
    """Return the symmetric contrastive loss of a batch of matching audio-text pairs.

    Row i of both inputs belongs to the same clip; all other rows of the batch are its negatives.
    With C = scale * text_embed @ audio_embed.T and CE the mean cross-entropy over rows,

        L = (CE(C, [0, ..., B-1]) + CE(C.T, [0, ..., B-1])) / 2

    (Radford et al. 2021, arXiv:2103.00020, figure 3; for audio: Elizalde et al. 2022, arXiv:2206.04769; equations 3
    and 4 of the paper, the latter without the minus sign of a cross-entropy).

    Args:
        audio_embed: Audio embeddings (B, D), rows of unit L2 norm.
        text_embed: Text embeddings (B, D), rows of unit L2 norm.
        scale: Inverse temperature, 0-d, positive: ``model.logit_scale.exp()``.
        same_clip: (B, B) of bool, True where rows i and j show one clip or say the same; such pairs off the diagonal
            are no negatives and leave both denominators. A row that has none left counts as 0. None: all are
            negatives, as in the paper.

    Returns:
        Loss in nats, 0-d: float64 if an embedding is, otherwise float32, under autocast too. Equal to log(B) when
        all similarities are equal. Not finite if an embedding or the scale is not, NaN if one is NaN.

    Raises:
        ValueError: If the inputs are not two matrices of numbers of one shape, the scale is not one number, or the
            mask does not fit them.

    Note:
        The loss depends on B: two half batches see fewer negatives than one whole batch, so accumulating
        gradients over them is not the same training. Over several processes, gather first (training.gather).

        The paper's equation 3 multiplies by a temperature that starts at 0.007. As a factor on cosines that cannot
        train: all logits lie within 0.014 of each other, so the loss stays at log(B), and Adam moves a number by at
        most 1.19 in the paper's 45 epochs of 541 steps. It is read as CLIP's temperature, scale = 1 / 0.007, which
        starts above the clamp of 100; CLIP's and the authors' later code start at 1 / 0.07.
    """
    text_to_audio, audio_to_text = directed_losses(audio_embed, text_embed, scale, same_clip=same_clip)
    return (text_to_audio + audio_to_text) / 2


def directed_losses(
    audio_embed: Tensor, text_embed: Tensor, scale: Tensor, *, same_clip: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the two halves of ``contrastive_loss``, query first: text to audio, and audio to text."""
    _check(audio_embed, text_embed, scale, same_clip)
    dtype = torch.promote_types(torch.promote_types(audio_embed.dtype, text_embed.dtype), torch.float32)
    with torch.autocast(audio_embed.device.type, enabled=False):
        logits = scale.to(dtype) * (text_embed.to(dtype) @ audio_embed.to(dtype).T)
        target = torch.arange(len(logits), device=logits.device)
        if same_clip is not None:
            others = same_clip & (target[:, None] != target)
            logits = logits.masked_fill(others | others.T, float("-inf"))
        return F.cross_entropy(logits, target), F.cross_entropy(logits.T, target)


def same_clip_mask(keys: Tensor) -> Tensor:
    """Return (B, B) of bool, True where two rows of keys (B, K) agree in any column.

    With a clip's number in one column and its caption's in another, that is what ``contrastive_loss`` takes: pairs
    of one clip, and pairs of different clips with the same caption. Compares pair by pair: two rows that only have
    a common third row stay each other's negatives.
    """
    if keys.ndim != 2 or keys.is_floating_point():
        raise ValueError(f"keys must be whole numbers (B, K), got {tuple(keys.shape)} of {keys.dtype}")
    return (keys[:, None] == keys).any(dim=2)


def _check(audio_embed: Tensor, text_embed: Tensor, scale: Tensor, same_clip: Tensor | None) -> None:
    shape = tuple(audio_embed.shape)
    if len(shape) != 2 or shape != tuple(text_embed.shape) or 0 in shape:
        raise ValueError(
            "audio_embed and text_embed must be two (B, D) matrices of one shape, neither B nor D 0, "
            f"got {shape} and {tuple(text_embed.shape)}"
        )
    if not (audio_embed.is_floating_point() and text_embed.is_floating_point()):
        raise ValueError(f"embeddings must be floats, got {audio_embed.dtype} and {text_embed.dtype}")
    if not isinstance(scale, Tensor) or scale.ndim:
        found = tuple(scale.shape) if isinstance(scale, Tensor) else type(scale).__name__
        raise ValueError(f"scale must be a 0-d tensor, model.logit_scale.exp(), got {found}")
    if same_clip is not None and (same_clip.shape != (shape[0], shape[0]) or same_clip.dtype != torch.bool):
        raise ValueError(
            f"same_clip must be {(shape[0], shape[0])} of bool, got {tuple(same_clip.shape)} of {same_clip.dtype}"
        )
