"""CNN14 of PANNs (Kong et al. 2020, arXiv:1912.10211): a convolutional audio encoder for clips of any length.

Parameter names are those of the published checkpoints. The sixth block is not pooled and the embedding is taken
after ``fc1``, as in the original; several re-implementations pool it and drop ``fc1``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.models.inputs import check_log_mel


class Cnn14(nn.Module):
    """Log-mel spectrogram to embedding; channels as wide as the last block."""

    def __init__(
        self,
        *,
        n_mels: int = 64,
        channels: Sequence[int] = (64, 128, 256, 512, 1024, 2048),
        block_dropout: float = 0.2,
        head_dropout: float = 0.5,
        num_classes: int = 0,
        spec_augment: nn.Module | None = None,
    ) -> None:
        """Build the encoder, initialised as PANNs does: Xavier weights, zero biases.

        Args:
            n_mels: Mel bands of the input.
            channels: Of each block, so their number is the depth; all blocks but the last halve time and frequency.
            block_dropout: After every block.
            head_dropout: Before and after ``fc1``.
            num_classes: Of the tagging head ``fc_audioset``; 0 builds none.
            spec_augment: Applied after the input's batch norm, in training.

        Raises:
            ValueError: If there is no block, a block without channels, or fewer mel bands than the pooling needs.
        """
        super().__init__()
        if not channels or min(channels) < 1:
            raise ValueError(f"channels must be one positive number for each block, got {tuple(channels)}")
        self.n_mels, self.block_dropout, self.head_dropout = n_mels, block_dropout, head_dropout
        self.spec_augment = spec_augment
        self.num_features = channels[-1]
        self.min_frames = 2 ** (len(channels) - 1)
        if n_mels < self.min_frames:
            raise ValueError(f"{len(channels)} blocks need at least {self.min_frames} mel bands, got {n_mels}")
        self.bn0 = nn.BatchNorm1d(n_mels)
        self._blocks: list[str] = []
        for number, (in_channels, out_channels) in enumerate(zip((1, *channels), channels, strict=False), start=1):
            self._blocks.append(f"conv_block{number}")
            self.add_module(self._blocks[-1], ConvBlock(in_channels, out_channels, pool=number < len(channels)))
        self.fc1 = nn.Linear(channels[-1], channels[-1])
        self.fc_audioset = nn.Linear(channels[-1], num_classes) if num_classes else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return the embedding (B, channels[-1]) of log-mel spectrograms (B, T, M) in dB.

        Raises:
            TypeError: If the input is no tensor of floats.
            ValueError: If it is not (B, T, n_mels), or has fewer frames than the blocks' pooling needs
                (``min_frames``: 32 for six blocks).
        """
        return F.dropout(self._hidden(log_mel), self.head_dropout, self.training)

    def pooled(self, log_mel: Tensor) -> Tensor:
        """Return what ``fc1`` reads (B, channels[-1]): mean over frequency, then maximum plus mean over time."""
        check_log_mel(log_mel, encoder="CNN14", n_mels=self.n_mels, min_frames=self.min_frames)
        x = self.bn0(log_mel.transpose(1, 2)).transpose(1, 2)
        if self.spec_augment is not None:
            x = self.spec_augment(x)
        x = x.unsqueeze(1)
        for name in self._blocks:
            x = F.dropout(self.get_submodule(name)(x), self.block_dropout, self.training)
        x = x.mean(dim=3)
        # max, not amax: the compiled gradient of amax divides by the count of maxima, which rounding can make 0
        pooled: Tensor = x.max(dim=2).values + x.mean(dim=2)
        return pooled

    def tag(self, log_mel: Tensor) -> Tensor:
        """Return class probabilities (B, num_classes); needs ``num_classes``."""
        if self.fc_audioset is None:
            raise ValueError("this CNN14 was built without a tagging head: Cnn14(num_classes=527)")
        return torch.sigmoid(self.fc_audioset(self._hidden(log_mel)))

    def _hidden(self, log_mel: Tensor) -> Tensor:
        """Return the output of ``fc1`` before its dropout, which the embedding has and the tagging head has not."""
        return F.relu_(self.fc1(F.dropout(self.pooled(log_mel), self.head_dropout, self.training)))


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each followed by batch norm and ReLU; then, with ``pool``, a mean over 2x2."""

    def __init__(self, in_channels: int, out_channels: int, *, pool: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(out_channels)
        self.bn2: nn.Module = nn.BatchNorm2d(out_channels)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, T, M), or half of T and M with ``pool``, of (B, in_channels, T, M)."""
        x = F.relu_(self.bn1(self.conv1(x)))
        x = F.relu_(self.bn2(self.conv2(x)))
        return F.avg_pool2d(x, 2) if self.pool else x


def fold_batch_norm(model: Cnn14) -> Cnn14:
    """Return a copy for inference whose convolutions hold their batch norms in weights and biases.

    Outputs are those of the model but for rounding. The first batch norm, ``bn0``, stays: the zeros around the
    spectrogram come after it. The model is left as it is. The copy has other parameter names, none of which need a
    gradient, so save and train the model, not the copy.

    Raises:
        ValueError: If the model is in training mode, where batch norms depend on the batch, or already folded.
    """
    if any(module.training for module in model.modules()):
        raise ValueError("only a model in evaluation mode can be folded: call model.eval() first")
    folded = copy.deepcopy(model)
    for block in folded.modules():
        if isinstance(block, ConvBlock):
            if not isinstance(block.bn1, nn.BatchNorm2d) or not isinstance(block.bn2, nn.BatchNorm2d):
                raise ValueError("the batch norms of this CNN14 are folded already")
            block.conv1, block.bn1 = fuse_conv_bn_eval(block.conv1, block.bn1), nn.Identity()
            block.conv2, block.bn2 = fuse_conv_bn_eval(block.conv2, block.bn2), nn.Identity()
    return folded.requires_grad_(False).eval()
