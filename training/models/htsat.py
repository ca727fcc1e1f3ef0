"""HTSAT (Chen et al. 2022, arXiv:2202.00874): timm's Swin transformer on a spectrogram folded into a square.

timm's ``SwinTransformer`` is HTSAT's body, tensor for tensor (``body.*`` here; the published names differ only in that
``layers.i.downsample`` is timm's ``layers.(i+1).downsample``). Around it: batch norm over mel bands, the bicubic
stretch of short clips to the frames the square holds, the folding, and a rule for clips that have more. The rule is
where implementations differ, so it is a setting: see LONG_CLIPS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.compat import prepare_torchvision

LONG_CLIPS = ("halves", "centre", "resize", "windows")
"""What becomes of more frames than the square holds (1,024); 10 s at 44.1 kHz and hop 320 are 1,379.

halves    training: random crop. Evaluation: mean over windows of half the clip, a quarter apart, each stretched. The
          only rule with evidence from the paper's authors: msclap hard-codes its window and hop for 1,379 frames.
centre    training: random crop. Evaluation: the centre. One pass and one time scale, but ignores the ends.
resize    both: the whole clip shrunk. 10 s at 44.1 kHz then have the time scale of the AudioSet checkpoint.
windows   training: random crop. Evaluation: mean over evenly spread, overlapping windows that cover the clip.
"""


class Htsat(nn.Module):
    """Log-mel spectrogram to embedding, as wide as the body's last stage."""

    def __init__(
        self,
        *,
        n_mels: int = 64,
        spec_size: int = 256,
        patch_size: int = 4,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (4, 8, 16, 32),
        window_size: int = 8,
        drop_path_rate: float = 0.1,
        long_clips: str = "halves",
        num_classes: int = 0,
        spec_augment: nn.Module | None = None,
    ) -> None:
        """Build the encoder.

        Args:
            n_mels: Mel bands of the input; divides ``spec_size``.
            spec_size: Side of the square. It holds ``spec_size**2 / n_mels`` frames.
            patch_size: Side of a patch, the body's first token.
            embed_dim: Width of the first stage; doubles with every stage.
            depths: Blocks of each stage.
            num_heads: Attention heads of each stage.
            window_size: Side of an attention window, in tokens.
            drop_path_rate: Of the last block; grows from 0 over the blocks.
            long_clips: One of LONG_CLIPS.
            num_classes: Of the token-semantic tagging head; 0 builds none.
            spec_augment: Applied after the input's batch norm, in training.
        """
        super().__init__()
        prepare_torchvision()
        from timm.models.swin_transformer import SwinTransformer

        if spec_size % n_mels:
            raise ValueError(f"spec_size ({spec_size}) must be a multiple of n_mels ({n_mels})")
        if long_clips not in LONG_CLIPS:
            raise ValueError(f"long_clips must be one of {', '.join(LONG_CLIPS)}, got {long_clips!r}")
        self.n_mels, self.spec_size, self.long_clips = n_mels, spec_size, long_clips
        self.freq_ratio = spec_size // n_mels
        self.target_frames = spec_size * self.freq_ratio
        self.spec_augment = spec_augment
        self.bn0 = nn.BatchNorm1d(n_mels)
        self.body = SwinTransformer(
            img_size=spec_size,
            patch_size=patch_size,
            in_chans=1,
            num_classes=0,
            embed_dim=embed_dim,
            depths=tuple(depths),
            num_heads=tuple(num_heads),
            window_size=window_size,
            drop_path_rate=drop_path_rate,
        )
        self.num_features: int = self.body.num_features
        grid = spec_size // patch_size // 2 ** (len(depths) - 1)
        self.grid_bands = max(grid // self.freq_ratio, 1)
        self.tscam_conv = (
            nn.Conv2d(self.num_features, num_classes, (self.grid_bands, 3), padding=(0, 1)) if num_classes else None
        )

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return the embedding (B, D) of log-mel spectrograms (B, T, M) in dB: the mean of the final tokens."""
        return self._over_windows(log_mel, lambda image: self.body(image))

    def tag(self, log_mel: Tensor) -> Tensor:
        """Return class probabilities (B, num_classes) of the token-semantic head; needs ``num_classes``."""
        return self._over_windows(log_mel, self.tag_image)

    def tag_image(self, image: Tensor) -> Tensor:
        """Return class probabilities (B, num_classes) of folded spectrograms (B, 1, spec_size, spec_size)."""
        if self.tscam_conv is None:
            raise ValueError("this HTSAT was built without a tagging head: Htsat(num_classes=527)")
        tokens = self.body.forward_features(image).permute(0, 3, 1, 2)  # (B, D, rows, columns)
        batch, width, rows, columns = tokens.shape
        # rows hold freq_ratio time segments of grid_bands bands each: put the segments side by side again
        segments = tokens.reshape(batch, width, rows // self.grid_bands, self.grid_bands, columns)
        unfolded = segments.permute(0, 1, 3, 2, 4).reshape(batch, width, self.grid_bands, -1)
        return torch.sigmoid(self.tscam_conv(unfolded).squeeze(2).mean(dim=2))

    def fold(self, log_mel: Tensor) -> Tensor:
        """Return images (B, 1, spec_size, spec_size) of (B, target_frames, M): time segments one below the other."""
        batch = len(log_mel)
        segments = log_mel.reshape(batch, self.freq_ratio, self.spec_size, self.n_mels)
        return segments.transpose(2, 3).reshape(batch, 1, self.spec_size, self.spec_size)

    def stretch(self, log_mel: Tensor) -> Tensor:
        """Return (B, target_frames, M) of (B, T, M): bicubic along time, first and last frame kept."""
        if log_mel.shape[1] == self.target_frames:
            return log_mel
        size = (self.target_frames, self.n_mels)
        return F.interpolate(log_mel.unsqueeze(1), size, mode="bicubic", align_corners=True).squeeze(1)

    def _over_windows(self, log_mel: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the mean of what ``encode`` gives for each window that the long-clip rule cuts."""
        x = self.bn0(log_mel.transpose(1, 2)).transpose(1, 2)
        if self.spec_augment is not None:
            x = self.spec_augment(x)
        windows = self._cut(x)
        out = encode(torch.cat([self.fold(self.stretch(window)) for window in windows]))
        return out if len(windows) == 1 else out.reshape(len(windows), len(x), -1).mean(dim=0)

    def _cut(self, x: Tensor) -> list[Tensor]:
        """Return windows (B, t, M) of a normalised spectrogram (B, T, M), by the long-clip rule."""
        frames, target = x.shape[1], self.target_frames
        if frames <= target or self.long_clips == "resize":
            return [x]
        if self.training:
            return [_random_crop(x, target)]
        if self.long_clips == "centre":
            start = (frames - target) // 2
            return [x[:, start : start + target]]
        if self.long_clips == "windows":
            count = -(-frames // target)
            starts = [round(i * (frames - target) / (count - 1)) for i in range(count)]
            return [x[:, start : start + target] for start in starts]
        size, hop = (frames - 1) // 2, (frames - 1) // 4
        if size > target:
            raise ValueError(
                f"long_clips='halves' takes at most {2 * target + 2} frames, got {frames}; cut the clip first"
            )
        return [x[:, start : start + size] for start in range(0, frames - size, hop)]


def _random_crop(x: Tensor, frames: int) -> Tensor:
    """Return (B, frames, M) of (B, T, M), at a start of its own for every clip."""
    starts = torch.randint(0, x.shape[1] - frames + 1, (len(x), 1), device=x.device)
    index = starts + torch.arange(frames, device=x.device)
    return x.gather(1, index.unsqueeze(2).expand(-1, -1, x.shape[2]))
