"""What every audio encoder checks of the spectrograms it is given, so that a mistake is named before the first layer.

NaN is not looked for here: it would cost a pass over the data and a wait for the device. ``Clap.embed_audio`` looks
for it in the waveforms and in the embeddings, the training loop in the loss.
"""

from __future__ import annotations

from torch import Tensor


def check_log_mel(log_mel: Tensor, *, encoder: str, n_mels: int, min_frames: int) -> None:
    """Check that spectrograms are (B, T, M) as an encoder reads them.

    Args:
        log_mel: What was given.
        encoder: Name of the encoder, for the message.
        n_mels: M, the mel bands it was built for.
        min_frames: The smallest T that it takes.

    Raises:
        TypeError: If it is no tensor of floats.
        ValueError: If it is not three-dimensional, has no clips, other mel bands or too few frames.
    """
    if not isinstance(log_mel, Tensor) or not log_mel.is_floating_point():
        found = log_mel.dtype if isinstance(log_mel, Tensor) else type(log_mel).__name__
        raise TypeError(f"{encoder} reads log-mel spectrograms as a tensor of floats, got {found}")
    shape = tuple(log_mel.shape)
    if log_mel.ndim != 3:
        raise ValueError(f"{encoder} reads log-mel spectrograms (B, T, {n_mels}), got {shape}")
    if shape[2] != n_mels:
        hint = "; it looks like (B, M, T): transpose the last two axes" if shape[1] == n_mels else ""
        raise ValueError(f"{encoder} was built for {n_mels} mel bands, got {shape[2]} in {shape}{hint}")
    if shape[0] == 0:
        raise ValueError(f"{encoder} got an empty batch {shape}: at least 1 clip is needed")
    if shape[1] < min_frames:
        raise ValueError(f"{encoder} needs at least {min_frames} frames, got {shape[1]} in {shape}; repeat short clips")
