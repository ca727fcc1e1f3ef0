"""Waveform to log-mel spectrogram, on the device, and the masking of it that training adds.

The numbers are those of the paper's section 4.2 and of PANNs, whose checkpoints expect them: periodic Hann window,
reflect padding (librosa's own default today is zeros, which changes the first and last frames by up to 10 dB), power
spectrum, Slaney mel bank with Slaney area norm, decibels over 1e-10 with no upper reference.

Samples are not searched for NaN here, which would cost a pass over the batch and a wait for the device: a NaN stays a
NaN, in the frames that reach it and nowhere else. Where sound comes in (``Clap.embed_audio``, the manifest) it is
refused by name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.compat import prepare_torchvision

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"sample_rate": 44_100, "n_fft": 1024, "hop_length": 320, "n_mels": 64, "f_min": 50.0, "f_max": 8_000.0},
    "panns-32k": {
        "sample_rate": 32_000,
        "n_fft": 1024,
        "hop_length": 320,
        "n_mels": 64,
        "f_min": 50.0,
        "f_max": 14_000.0,
    },
    "panns-16k": {
        "sample_rate": 16_000,
        "n_fft": 512,
        "hop_length": 160,
        "n_mels": 64,
        "f_min": 50.0,
        "f_max": 8_000.0,
    },
    "laion-48k": {
        "sample_rate": 48_000,
        "n_fft": 1024,
        "hop_length": 480,
        "n_mels": 64,
        "f_min": 50.0,
        "f_max": 14_000.0,
    },
}
"""Settings of the paper, of the two published families of PANNs checkpoints (HTSAT's is panns-32k), and of LAION's."""

_FLOOR = 1e-10
"""Power below which decibels stop."""
_FLOOR_DB = -100.0
_PART = 2**18
"""Samples in all windows that a CPU transforms at once: 1 MiB, which its cache holds."""
_INTEGERS = (torch.int64, torch.int32)


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
        """Build the window and the mel bank; the defaults are the paper's.

        Args:
            sample_rate: Hz.
            n_fft: Samples in the window and in the transform; even.
            hop_length: Samples between frames.
            n_mels: Mel bands.
            f_min: Lower edge of the bank, Hz.
            f_max: Upper edge of the bank, Hz.
            dtype: Of window, bank and result, float32 or float64 (for reference values). ``half()`` and ``bfloat16()``
                leave it as it is: half precision has too few digits for powers that span 100 dB.

        Raises:
            ValueError: If a setting cannot be, or leaves a band without a single frequency.
        """
        super().__init__()
        _check_settings(sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels)
        if not 0 <= f_min < f_max <= sample_rate / 2:
            raise ValueError(
                f"f_min={f_min} and f_max={f_max} must satisfy "
                f"0 <= f_min < f_max <= sample_rate / 2 = {sample_rate / 2}"
            )
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        self.sample_rate, self.n_fft, self.hop_length, self.n_mels = sample_rate, n_fft, hop_length, n_mels
        self.f_min, self.f_max = float(f_min), float(f_max)
        bank = slaney_bank(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels, f_min=f_min, f_max=f_max)
        used = np.flatnonzero(bank.any(axis=1))
        self._first_bin, self._end_bin = int(used[0]), int(used[-1]) + 1
        # Not in checkpoints: the bank of another sample rate has the same shape and would be loaded without a word.
        self.register_buffer("window", torch.hann_window(n_fft, periodic=True, dtype=dtype), persistent=False)
        self.register_buffer("mel_bank", torch.as_tensor(bank, dtype=dtype), persistent=False)

    def extra_repr(self) -> str:
        """Return the settings, for printed models."""
        names = ("sample_rate", "n_fft", "hop_length", "n_mels", "f_min", "f_max")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of a waveform: one every ``hop_length`` samples, both ends included."""
        return num_samples // self.hop_length + 1

    def frame_mask(self, num_samples: Tensor, num_frames: int) -> Tensor:
        """Return which of ``num_frames`` frames (B, T) belong to clips of so many samples (B,): True for those."""
        frames = num_samples // self.hop_length + 1
        return torch.arange(num_frames, device=num_samples.device) < frames[:, None]

    def forward(self, waveform: Tensor, num_samples: Tensor | None = None) -> Tensor:
        """Return the log-mel spectrogram (B, T, M) in dB of waveforms (B, S) in [-1, 1].

        Computed and returned in ``dtype``, under autocast too.

        Args:
            waveform: Floats; half precision is converted first.
            num_samples: Samples (B,) of each clip in a padded batch; None where all have S. The frames of a clip are
                then those of the clip alone, reflected at its own end whatever lies behind it, and the frames after
                them (``frame_mask``) are at the floor, -100 dB. Best kept on the CPU: checking them on another
                device waits for it.

        Raises:
            ValueError: If the input is no batch of waveforms of floats, or a clip is too short for reflect padding
                (n_fft / 2 samples) or longer than the batch.
        """
        self._check(waveform)
        if num_samples is not None:
            self._check_lengths(num_samples, waveform)
            num_samples = num_samples.to(waveform.device)
        with torch.autocast(waveform.device.type, enabled=False):
            padded = self._reflect(waveform.to(self.window.dtype), num_samples)
            in_parts = padded.device.type == "cpu" and not torch.compiler.is_compiling()
            log_mel = self._decibels_by_parts(padded) if in_parts else self._decibels(padded)
        if num_samples is None:
            return log_mel
        return log_mel.masked_fill(~self.frame_mask(num_samples, log_mel.shape[1])[:, :, None], _FLOOR_DB)

    def _decibels_by_parts(self, padded: Tensor) -> Tensor:
        """Return ``_decibels``, computed a few hundred frames at a time, with which a CPU is twice as fast."""
        frames = (padded.shape[1] - self.n_fft) // self.hop_length + 1
        most = max(1, _PART // self.n_fft)
        clips, step = max(1, most // frames), min(most, frames)
        hops = [(first * self.hop_length, (first + step - 1) * self.hop_length) for first in range(0, frames, step)]
        rows = [
            torch.cat([self._decibels(some[:, first : last + self.n_fft]) for first, last in hops], dim=1)
            for some in torch.split(padded, clips)
        ]
        return torch.cat(rows)

    def _decibels(self, padded: Tensor) -> Tensor:
        """Return (B, T, M) of mirrored clips (B, S + n_fft)."""
        spectrum = torch.stft(
            padded, self.n_fft, self.hop_length, window=self.window, center=False, return_complex=True
        )
        # The paper's bank reads 184 of the 513 frequencies; leaving out the others changes nothing but the time
        spectrum = spectrum[:, self._first_bin : self._end_bin].transpose(1, 2)
        power = spectrum.real.square() + spectrum.imag.square()
        mel = power @ self.mel_bank[self._first_bin : self._end_bin]
        return 10.0 * torch.log10(mel.clamp(min=_FLOOR))

    def _reflect(self, waveform: Tensor, num_samples: Tensor | None) -> Tensor:
        """Return (B, S + n_fft): each clip mirrored at its first and its last sample."""
        half = self.n_fft // 2
        padded = F.pad(waveform, (half, half), mode="reflect")
        if num_samples is None:
            return padded
        last = num_samples.long()[:, None] - 1
        steps = torch.arange(1, half + 1, device=waveform.device)
        return padded.scatter(1, half + last + steps, waveform.gather(1, last - steps))

    def _check(self, waveform: Tensor) -> None:
        if not isinstance(waveform, Tensor):
            raise TypeError(f"waveform must be a torch.Tensor (B, S), got {type(waveform).__name__}")
        if waveform.ndim != 2:
            raise ValueError(f"waveform must be (B, S), got {tuple(waveform.shape)}; one waveform is waveform[None]")
        if waveform.shape[0] == 0:
            raise ValueError("the batch is empty: a waveform must be (B, S) with B at least 1")
        if not waveform.is_floating_point():
            raise ValueError(
                f"waveform must hold floats in [-1, 1], got {waveform.dtype}; divide 16-bit integers by 32768"
            )
        if waveform.shape[1] <= self.n_fft // 2:
            raise ValueError(
                f"a waveform must be longer than {self.n_fft // 2} samples (n_fft / 2), got {waveform.shape[1]}"
            )

    def _check_lengths(self, num_samples: Tensor, waveform: Tensor) -> None:
        if not isinstance(num_samples, Tensor):
            raise TypeError(f"num_samples must be a torch.Tensor (B,), got {type(num_samples).__name__}")
        if num_samples.shape != waveform.shape[:1] or num_samples.dtype not in _INTEGERS:
            raise ValueError(
                f"num_samples must be integers ({waveform.shape[0]},), one a clip, "
                f"got {num_samples.dtype} {tuple(num_samples.shape)}"
            )
        if torch.compiler.is_compiling():
            return  # values are not known while a graph is traced
        bad = (num_samples <= self.n_fft // 2) | (num_samples > waveform.shape[1])
        if bad.any():
            clip = int(bad.nonzero()[0, 0])
            raise ValueError(
                f"num_samples[{clip}] is {int(num_samples[clip])}: must be more than {self.n_fft // 2} (n_fft / 2) "
                f"and at most {waveform.shape[1]}, the samples of the batch"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LogMel:
        """Move or convert as any module, but keep window and bank in float32 at least (see ``dtype``)."""

        def whole(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype in (torch.float32, torch.float64) else tensor.to(moved.device)

        super()._apply(whole, recurse)  # type: ignore[no-untyped-call]
        return self


class SpecAugment(nn.Module):
    """Masks random stripes of a normalised log-mel spectrogram in training, as PANNs does (Park et al. 2019)."""

    def __init__(
        self, *, time_stripes: int = 2, time_width: int = 64, freq_stripes: int = 2, freq_width: int = 8
    ) -> None:
        """Set how many stripes, and their widths: uniform from 0 to one less than the width given, per clip.

        Raises:
            ValueError: If one is negative or not whole.
        """
        super().__init__()
        for name, value in locals().items():
            if name.endswith(("_stripes", "_width")) and (type(value) is not int or value < 0):
                raise ValueError(f"{name} must be a whole number, 0 or more, got {value!r}")
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
    """Return what to keep along one axis: (B, length), False inside the stripes.

    Starts are uniform from 0 to length - stripe - 1, as in PANNs: a stripe never touches the end. PANNs' own code
    fails on clips shorter than a stripe; here the width is then limited to the clip.
    """
    shape = (len(log_mel), count, 1)
    widths = (torch.rand(shape, device=log_mel.device) * min(width, length)).floor()
    starts = (torch.rand(shape, device=log_mel.device) * (length - widths)).floor()
    place = torch.arange(length, device=log_mel.device)
    return ~((place >= starts) & (place < starts + widths)).any(dim=1)


def slaney_bank(*, sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> np.ndarray:
    """Return the mel bank (n_fft // 2 + 1, M), float64, Slaney scale and Slaney area norm.

    Raises:
        ValueError: If bands are so narrow that no frequency of the transform falls into one.
    """
    prepare_torchvision()
    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty bands, which are refused below
        bank: np.ndarray = mel_filter_bank(
            num_frequency_bins=n_fft // 2 + 1,
            num_mel_filters=n_mels,
            min_frequency=f_min,
            max_frequency=f_max,
            sampling_rate=sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )
    empty = np.flatnonzero(~bank.any(axis=0))
    if len(empty):
        raise ValueError(
            f"n_mels={n_mels}: {len(empty)} of the bands would always be silent (the first is band {empty[0]}), they "
            f"are narrower than the {sample_rate / n_fft:.1f} Hz between two frequencies of n_fft={n_fft}; "
            "use fewer bands or a larger n_fft"
        )
    return bank


def _check_settings(**settings: int) -> None:
    for name, value in settings.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a whole number, at least 1, got {value!r}")
    n_fft, hop_length, n_mels = settings["n_fft"], settings["hop_length"], settings["n_mels"]
    if n_fft % 2:
        raise ValueError(f"n_fft must be even, got {n_fft}")
    if hop_length > n_fft:
        raise ValueError(f"hop_length={hop_length} must be at most n_fft={n_fft}: samples in between would not be read")
    if n_mels > n_fft // 2:
        raise ValueError(f"n_mels={n_mels} must be at most n_fft / 2 = {n_fft // 2}, the frequencies to share out")
