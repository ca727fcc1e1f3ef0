"""Waveform to log-mel spectrogram, on the device, and the masking of it that training adds.

The numbers are those of the paper's section 4.2 and of PANNs, whose checkpoints expect them: periodic Hann window,
reflect padding (librosa's own default today is zeros, which changes the first and last frames by up to 10 dB), power
spectrum, Slaney mel bank with Slaney area norm, decibels over 1e-10 with no upper reference.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from training.models.compat import prepare_torchvision

PRESETS: dict[str, dict[str, float]] = {
    "paper": {"sample_rate": 44_100, "n_fft": 1024, "hop_length": 320, "n_mels": 64, "f_min": 50, "f_max": 8_000},
    "panns-32k": {"sample_rate": 32_000, "n_fft": 1024, "hop_length": 320, "n_mels": 64, "f_min": 50, "f_max": 14_000},
    "panns-16k": {"sample_rate": 16_000, "n_fft": 512, "hop_length": 160, "n_mels": 64, "f_min": 50, "f_max": 8_000},
}
"""Settings of the paper, and of the two published families of PANNs checkpoints."""

_FLOOR = 1e-10
"""Power below which decibels stop: -100 dB."""


class LogMel(nn.Module):
    """Log-mel spectrogram of a batch of waveforms."""

    window: Tensor
    mel_bank: Tensor

    def __init__(
        self,
        *,
        sample_rate: int = 44_100,
        n_fft: int = 1024,
        hop_length: int = 320,
        n_mels: int = 64,
        f_min: float = 50.0,
        f_max: float = 8_000.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Build the window and the mel bank.

        Args:
            sample_rate: Hz.
            n_fft: Samples in the window and in the transform.
            hop_length: Samples between frames.
            n_mels: Mel bands.
            f_min: Lower edge of the bank, Hz.
            f_max: Upper edge of the bank, Hz.
            dtype: Of window, bank and result; float64 for reference values.
        """
        super().__init__()
        self.sample_rate, self.n_fft, self.hop_length, self.n_mels = sample_rate, n_fft, hop_length, n_mels
        bank = slaney_bank(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels, f_min=f_min, f_max=f_max)
        # Not in checkpoints: the bank of another sample rate has the same shape and would be loaded without a word.
        self.register_buffer("window", torch.hann_window(n_fft, periodic=True, dtype=dtype), persistent=False)
        self.register_buffer("mel_bank", torch.as_tensor(bank, dtype=dtype), persistent=False)

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of a waveform: one every ``hop_length`` samples, both ends included."""
        return num_samples // self.hop_length + 1

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the log-mel spectrogram (B, T, M) in dB of waveforms (B, S) in [-1, 1].

        Raises:
            ValueError: If the input is no batch of waveforms, or too short for reflect padding (n_fft / 2 samples).
        """
        if waveform.ndim != 2:
            raise ValueError(f"waveform must be (B, S), got {tuple(waveform.shape)}")
        if waveform.shape[1] <= self.n_fft // 2:
            raise ValueError(f"a waveform must be longer than {self.n_fft // 2} samples, got {waveform.shape[1]}")
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.stft(
                waveform.to(self.window.dtype),
                self.n_fft,
                self.hop_length,
                window=self.window,
                center=True,
                pad_mode="reflect",
                return_complex=True,
            )
            power = spectrum.real.square() + spectrum.imag.square()
            mel = power.transpose(1, 2) @ self.mel_bank
            return 10.0 * torch.log10(mel.clamp(min=_FLOOR))


class SpecAugment(nn.Module):
    """Masks random stripes of a normalised log-mel spectrogram in training, as PANNs does (Park et al. 2019)."""

    def __init__(
        self, *, time_stripes: int = 2, time_width: int = 64, freq_stripes: int = 2, freq_width: int = 8
    ) -> None:
        """Set how many stripes, and their widths: uniform from 0 to one less than the width given, per clip."""
        super().__init__()
        self.time_stripes, self.time_width = time_stripes, time_width
        self.freq_stripes, self.freq_width = freq_stripes, freq_width

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return (B, T, M) with stripes set to 0, the mean after batch norm; unchanged in evaluation."""
        if not self.training:
            return log_mel
        keep = _stripes(log_mel, log_mel.shape[1], self.time_stripes, self.time_width).unsqueeze(2)
        keep = keep & _stripes(log_mel, log_mel.shape[2], self.freq_stripes, self.freq_width).unsqueeze(1)
        return log_mel * keep


def _stripes(log_mel: Tensor, length: int, count: int, width: int) -> Tensor:
    """Return what to keep along one axis: (B, length), False inside the stripes."""
    shape = (len(log_mel), count, 1)
    widths = (torch.rand(shape, device=log_mel.device) * min(width, length)).floor()
    starts = (torch.rand(shape, device=log_mel.device) * (length - widths)).floor()
    place = torch.arange(length, device=log_mel.device)
    return ~((place >= starts) & (place < starts + widths)).any(dim=1)


def slaney_bank(*, sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> np.ndarray:
    """Return the mel bank (n_fft // 2 + 1, M), float64, Slaney scale and Slaney area norm."""
    prepare_torchvision()
    from transformers.audio_utils import mel_filter_bank

    return mel_filter_bank(
        num_frequency_bins=n_fft // 2 + 1,
        num_mel_filters=n_mels,
        min_frequency=f_min,
        max_frequency=f_max,
        sampling_rate=sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
