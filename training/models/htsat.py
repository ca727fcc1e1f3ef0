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
from training.models.inputs import check_log_mel
from training.models.linear import use_fast_linear

LONG_CLIPS = ("halves", "centre", "resize", "windows")
"""What becomes of more frames than the square holds (1,024); 10 s at 44.1 kHz and hop 320 are 1,379.

halves    training: random crop. Evaluation: mean over windows of half the clip, a quarter apart, each stretched; takes
          twice the square at most. The original HTSAT's rule, and the only one with evidence from the paper's authors:
          msclap hard-codes its window and hop for 1,379 frames (starts 0, 344 and 688; 689 frames each).
centre    training: random crop. Evaluation: the centre. One pass and one time scale, but ignores the ends.
resize    both: the whole clip shrunk. 10 s at 44.1 kHz then have the time scale of the AudioSet checkpoint.
windows   training: random crop. Evaluation: mean over evenly spread, overlapping windows that cover the clip.

A clip that the square holds is stretched in one pass under every rule: 10 s at 32 kHz, as the checkpoints were trained,
are 1,001 frames. To read the start or the end of a clip, cut the spectrogram: the input's batch norm knows no time.
The original's random crop never draws the last start that fits; ours does.
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
        """Build the encoder, initialised as the original: normal weights of deviation 0.02, cut off, zero biases.

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

        Raises:
            ValueError: If the sizes do not fit each other. timm alone would cut or pad without a word.
        """
        super().__init__()
        prepare_torchvision()
        from timm.layers.config import use_fused_attn
        from timm.models.swin_transformer import SwinTransformer, WindowAttention

        if long_clips not in LONG_CLIPS:
            raise ValueError(f"long_clips must be one of {', '.join(LONG_CLIPS)}, got {long_clips!r}")
        if min(n_mels, spec_size, patch_size, embed_dim, window_size, *depths, *num_heads) < 1:
            raise ValueError("all sizes must be at least 1: n_mels, spec_size, patch_size, embed_dim, depths, ...")
        if spec_size % n_mels:
            raise ValueError(f"spec_size ({spec_size}) must be a multiple of n_mels ({n_mels})")
        _check_widths(embed_dim, depths=depths, num_heads=num_heads)
        _check_square(spec_size, patch_size=patch_size, stages=len(depths), window_size=window_size)
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
        for module in self.body.modules():
            if isinstance(module, WindowAttention):  # timm holds it back as experimental, in Swin alone
                module.fused_attn = use_fused_attn()
        use_fast_linear(self.body)
        self.num_features: int = self.body.num_features
        self.tscam_conv = self._tagging_head(num_classes, patch_size * 2 ** (len(depths) - 1)) if num_classes else None

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return the embedding (B, num_features) of log-mel spectrograms (B, T, M) in dB: the mean final token.

        Raises:
            TypeError: If the input is no tensor of floats.
            ValueError: If it is not (B, T, n_mels), has no frame, or more than the rule ``halves`` takes.
        """
        return self._over_windows(log_mel, self.body)

    def tag(self, log_mel: Tensor) -> Tensor:
        """Return class probabilities (B, num_classes) of the token-semantic head; needs ``num_classes``."""
        return self._over_windows(log_mel, self.tag_image)

    def framewise(self, log_mel: Tensor) -> Tensor:
        """Return class probabilities (B, steps, num_classes) over time; needs ``num_classes``.

        The steps (32) share evenly what the rule keeps of the clip. The original gives one value for each frame of its
        square, every step 32 times: ``repeat_interleave(32, dim=1)``. ``tag`` averages the same logits over the steps.

        Raises:
            ValueError: If the rule for long clips cuts more than one window of this clip.
        """
        windows = self.cut(self._normalised(log_mel))
        if len(windows) > 1:
            raise ValueError(
                f"framewise reads one window, long_clips={self.long_clips!r} cuts {len(windows)} of "
                f"{log_mel.shape[1]} frames; use long_clips='resize', or cut the clip to {self.target_frames} frames"
            )
        return torch.sigmoid(self._class_logits(self.fold(self.stretch(windows[0])))).transpose(1, 2)

    def tag_image(self, image: Tensor) -> Tensor:
        """Return class probabilities (B, num_classes) of folded spectrograms (B, 1, spec_size, spec_size)."""
        return torch.sigmoid(self._class_logits(image).mean(dim=2))

    def fold(self, log_mel: Tensor) -> Tensor:
        """Return images (B, 1, spec_size, spec_size) of (B, target_frames, M): time segments one below the other."""
        batch = log_mel.shape[0]  # not len(), which torch.export takes for a constant
        segments = log_mel.reshape(batch, self.freq_ratio, self.spec_size, self.n_mels)
        return segments.transpose(2, 3).reshape(batch, 1, self.spec_size, self.spec_size)

    def stretch(self, log_mel: Tensor) -> Tensor:
        """Return (B, target_frames, M) of (B, T, M): bicubic along time, first and last frame kept.

        Under ``torch.use_deterministic_algorithms(True)`` it is a product with the matrix of the same weights: the
        gradient of PyTorch's bicubic has no deterministic form on CUDA, and would end the training there.
        """
        frames = log_mel.shape[1]
        if frames == self.target_frames:
            return log_mel
        if torch.are_deterministic_algorithms_enabled():
            rows = torch.eye(frames, dtype=log_mel.dtype, device=log_mel.device)[None, None]
            matrix = F.interpolate(rows, (self.target_frames, frames), mode="bicubic", align_corners=True)[0, 0]
            with torch.autocast(log_mel.device.type, enabled=False):
                return matrix @ log_mel
        size = (self.target_frames, self.n_mels)
        return F.interpolate(log_mel.unsqueeze(1), size, mode="bicubic", align_corners=True).squeeze(1)

    def cut(self, log_mel: Tensor) -> list[Tensor]:
        """Return the windows (B, t, M) that the long-clip rule takes of (B, T, M); ``stretch`` makes them one length.

        Raises:
            ValueError: If the rule is ``halves``, in evaluation, and half the clip is more than the square holds.
        """
        frames, target = log_mel.shape[1], self.target_frames
        if frames <= target or self.long_clips == "resize":
            return [log_mel]
        if self.training:
            return [_random_crop(log_mel, target)]
        if self.long_clips == "centre":
            start = (frames - target) // 2
            return [log_mel[:, start : start + target]]
        if self.long_clips == "windows":
            count = -(-frames // target)
            starts = [round(i * (frames - target) / (count - 1)) for i in range(count)]
            return [log_mel[:, start : start + target] for start in starts]
        size, hop = (frames - 1) // 2, max((frames - 1) // 4, 1)
        if size > target:
            raise ValueError(
                f"long_clips='halves' takes at most {2 * target + 2} frames, got {frames}; cut the clip first, or use "
                "long_clips='windows' or 'resize'"
            )
        return [log_mel[:, start : start + size] for start in range(0, frames - size, hop)]

    def _over_windows(self, log_mel: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the mean of what ``encode`` gives for each window that the long-clip rule cuts."""
        windows = self.cut(self._normalised(log_mel))
        out = encode(torch.cat([self.fold(self.stretch(window)) for window in windows]))
        mean: Tensor = out.reshape(len(windows), log_mel.shape[0], -1).mean(dim=0)
        return mean

    def _normalised(self, log_mel: Tensor) -> Tensor:
        check_log_mel(log_mel, encoder="HTSAT", n_mels=self.n_mels, min_frames=1)
        x: Tensor = self.bn0(log_mel.transpose(1, 2)).transpose(1, 2)
        if self.spec_augment is not None:
            x = self.spec_augment(x)
        return x

    def _tagging_head(self, num_classes: int, token_size: int) -> nn.Conv2d:
        """Return the convolution over one segment's final tokens, each ``token_size`` bands high."""
        if self.n_mels % token_size:
            raise ValueError(
                f"a tagging head needs final tokens that hold one time segment: n_mels ({self.n_mels}) must be a "
                f"multiple of patch_size * 2**(stages - 1) = {token_size}; use fewer stages, or num_classes=0"
            )
        return nn.Conv2d(self.num_features, num_classes, (self.n_mels // token_size, 3), padding=(0, 1))

    def _class_logits(self, image: Tensor) -> Tensor:
        """Return the token-semantic head's logits (B, num_classes, steps) of folded spectrograms."""
        if self.tscam_conv is None:
            raise ValueError("this HTSAT was built without a tagging head: Htsat(num_classes=527)")
        tokens = self.body.forward_features(image).permute(0, 3, 1, 2)  # (B, D, rows, columns)
        batch, width, rows, columns = tokens.shape
        # rows hold freq_ratio time segments, a few bands each: put the segments side by side again
        segments = tokens.reshape(batch, width, self.freq_ratio, rows // self.freq_ratio, columns)
        unfolded = segments.permute(0, 1, 3, 2, 4).reshape(batch, width, rows // self.freq_ratio, -1)
        logits: Tensor = self.tscam_conv(unfolded).squeeze(2)
        return logits


def _check_widths(embed_dim: int, *, depths: Sequence[int], num_heads: Sequence[int]) -> None:
    """Check that there is a number of heads for each stage and that it divides the stage's width."""
    if not depths or len(depths) != len(num_heads):
        raise ValueError(
            f"depths {tuple(depths)} and num_heads {tuple(num_heads)} must name the same stages, one at least"
        )
    for stage, heads in enumerate(num_heads):
        if embed_dim * 2**stage % heads:
            raise ValueError(
                f"stage {stage} is {embed_dim * 2**stage} wide, which num_heads[{stage}] ({heads}) must divide"
            )


def _check_square(spec_size: int, *, patch_size: int, stages: int, window_size: int) -> None:
    """Check that patches fill the square, that every stage can halve it, and that windows fill each stage."""
    unit = patch_size * 2 ** (stages - 1)
    if spec_size % unit:
        raise ValueError(f"spec_size ({spec_size}) must be a multiple of patch_size * 2**(stages - 1) = {unit}")
    for stage in range(stages):
        side = spec_size // patch_size // 2**stage
        if side > window_size and side % window_size:
            raise ValueError(f"stage {stage} has {side} tokens a side, which window_size ({window_size}) must divide")


def _random_crop(x: Tensor, frames: int) -> Tensor:
    """Return (B, frames, M) of (B, T, M), at a start of its own for every clip."""
    starts = torch.randint(0, x.shape[1] - frames + 1, (x.shape[0], 1), device=x.device)
    index = starts + torch.arange(frames, device=x.device)
    return x.gather(1, index.unsqueeze(2).expand(-1, -1, x.shape[2]))
