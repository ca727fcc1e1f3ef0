"""The pieces of a model that become ONNX graphs: one window's encoders, what joins them, and the text tower.

Each has fixed sizes but for the batch, and in the text tower the tokens; ``retrieval.exports.onnx_graph`` puts the rule
for sounds of any length around them.

The front end is not that of training: its transform is a product with windowed cosines and sines, in float64. ONNX's
own STFT took two and a half times as long in onnxruntime, and in float32 what lies far from a loud pure tone is
rounding noise, which decibels raise to where an encoder sees it. PyTorch's has some of it; a second noise would double
the difference.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.onnx import OnnxExporterError

from retrieval.exports.folder import ExportError

if TYPE_CHECKING:
    from training.models.clap import Clap

OPSET = 20
"""The first in which Gelu is one operator."""
_FLOOR = 1e-10
"""Power below which decibels stop, as in training.features."""


class FrontEnd(nn.Module):
    """A log-mel spectrogram in operators that ONNX has: see the module docstring."""

    cosines: Tensor
    sines: Tensor
    mel_bank: Tensor

    def __init__(self, log_mel: Any) -> None:
        """Take the settings, the window and the mel bank of a training.features.LogMel."""
        super().__init__()
        self.n_fft, self.hop_length = log_mel.n_fft, log_mel.hop_length
        half = self.n_fft // 2
        used = log_mel.mel_bank.any(dim=1).nonzero()[:, 0].tolist()
        # Samples that lie as far from the window's middle have one weight, and but for a sign one sine: half the work.
        # The first sample has weight 0, the middle one is its own partner.
        samples, bins = np.arange(1, half + 1)[:, None], np.arange(used[0], used[-1] + 1)
        weight = log_mel.window.double().numpy()[1 : half + 1, None] * np.where(samples == half, 0.5, 1.0)
        angle = 2 * np.pi * (samples * bins % self.n_fft) / self.n_fft
        self.register_buffer("cosines", torch.from_numpy(np.cos(angle) * weight))
        self.register_buffer("sines", torch.from_numpy(np.sin(angle) * weight))
        self.register_buffer("mel_bank", log_mel.mel_bank[used[0] : used[-1] + 1].clone())

    def forward(self, window: Tensor) -> Tensor:
        """Return the log-mel spectrogram (B, T, M) in dB of waveforms (B, S)."""
        half = self.n_fft // 2
        padded = F.pad(window, (half, half), mode="reflect").double()
        frames = padded.unfold(1, self.n_fft, self.hop_length)
        left, right = frames[:, :, 1 : half + 1], frames[:, :, half:].flip(2)
        real, imaginary = (left + right) @ self.cosines, (left - right) @ self.sines
        mel = (real.square() + imaginary.square()).float() @ self.mel_bank
        return 10.0 * torch.log10(mel.clamp(min=_FLOOR))


class WindowEncoders(nn.Module):
    """One window of each sound (B, S) to the outputs of the encoders that read alike (B, F), side by side."""

    def __init__(self, model: Clap, names: Sequence[str]) -> None:
        super().__init__()
        self.front_end = FrontEnd(model.audio.front_end(names[0]))
        self.encoders = nn.ModuleList(model.audio.encoders[name] for name in names)

    def forward(self, window: Tensor) -> Tensor:
        """Return (B, F) of windows (B, S)."""
        log_mel = self.front_end(window)
        return torch.cat([encoder(log_mel) for encoder in self.encoders], dim=1)


class AudioHead(nn.Module):
    """The encoders' averages to embeddings."""

    def __init__(self, model: Clap, names: Sequence[str]) -> None:
        """Take the order in which the averages come; the projection reads them in the tower's own."""
        super().__init__()
        self.projection = model.audio_projection
        self.widths: list[Any] = [model.audio.encoders[name].num_features for name in names]
        self.places = [list(names).index(name) for name in model.audio.encoders]

    def forward(self, averages: Tensor) -> Tensor:
        """Return unit vectors (B, D) of averages (B, F), side by side."""
        parts = torch.split(averages, self.widths, dim=1)
        return F.normalize(self.projection(torch.cat([parts[place] for place in self.places], dim=1)), dim=1)


class TextTower(nn.Module):
    """Token ids and their mask (B, L) to embeddings (B, D)."""

    def __init__(self, model: Clap) -> None:
        super().__init__()
        self.text, self.projection = model.text, model.text_projection

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return unit vectors (B, D)."""
        return F.normalize(self.projection(self.text(input_ids, attention_mask)), dim=1)


def to_onnx(
    module: nn.Module, inputs: Mapping[str, Tensor], *, output: str, dynamic: Mapping[int, str], what: str
) -> onnx.ModelProto:
    """Return a module as an ONNX model, weights inside.

    Args:
        module: In evaluation mode.
        inputs: An example of each input, by name, in the module's order; a dynamic axis has more than one entry there.
        output: The output's name.
        dynamic: The axes that may have any length, with their names; the same of every input.
        what: Its name, for the error.

    Raises:
        ExportError: If PyTorch cannot export it.
    """
    dims = {axis: torch.export.Dim(name) for axis, name in dynamic.items()}
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=[output],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=tuple(dims for _ in inputs),
                verbose=False,
            )
    except OnnxExporterError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(cause).split())[:300]
        raise ExportError(f"PyTorch cannot export {what} to ONNX: {type(cause).__name__}: {reason}") from error
    assert program is not None  # as with dynamo=True
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what PyTorch's exporter says of its own workings: nobody can act on it, and what fails it raises."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
