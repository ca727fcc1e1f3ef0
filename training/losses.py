"""The loss of a batch of audio-text pairs: a pure tensor function, in float32 whatever the model ran in."""

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

    (Radford et al. 2021, arXiv:2103.00020, figure 3; for audio: Elizalde et al. 2022, arXiv:2206.04769; equation 4
    of the paper, which lacks the minus sign of a cross-entropy).

    Args:
        audio_embed: Audio embeddings (B, D), rows of unit L2 norm.
        text_embed: Text embeddings (B, D), rows of unit L2 norm.
        scale: Inverse temperature, 0-d, positive: ``model.logit_scale.exp()``.
        same_clip: (B, B), True where rows i and j show one clip or say the same; such pairs off the diagonal are
            no negatives and leave both denominators. None: all are negatives, as in the paper.

    Returns:
        Loss in nats, 0-d. Equal to log(B) when all similarities are equal.

    Raises:
        ValueError: If the inputs are not two matrices of one shape, or the mask does not fit them.

    Note:
        The loss depends on B: two half batches see fewer negatives than one whole batch, so accumulating
        gradients over them is not the same training.
    """
    if audio_embed.ndim != 2 or audio_embed.shape != text_embed.shape:
        raise ValueError(
            "audio_embed and text_embed must be two (B, D) matrices of one shape, "
            f"got {tuple(audio_embed.shape)} and {tuple(text_embed.shape)}"
        )
    if audio_embed.dtype in (torch.float16, torch.bfloat16):
        audio_embed, text_embed = audio_embed.float(), text_embed.float()
    with torch.autocast(audio_embed.device.type, enabled=False):
        logits = scale * text_embed @ audio_embed.T
        target = torch.arange(len(logits), device=logits.device)
        if same_clip is not None:
            if same_clip.shape != logits.shape:
                raise ValueError(f"same_clip must be {tuple(logits.shape)}, got {tuple(same_clip.shape)}")
            others = same_clip & (target[:, None] != target)
            logits = logits.masked_fill(others | others.T, float("-inf"))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
