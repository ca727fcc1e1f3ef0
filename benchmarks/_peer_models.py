"""The classes that benchmarks/model.py measures ours beside, from the peers' own packages, with our weights in them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from torch import Tensor, nn

from training.features import LogMel
from training.models.compat import prepare_torchvision
from training.models.htsat import Htsat
from training.models.transformers_names import htsat_to_transformers

GET_PEERS = "pip install --no-deps --target FOLDER -r benchmarks/peers.txt, then run this with PYTHONPATH=FOLDER"
_SHELL = "laion_clap_module"
_COMPUTED = ("relative_position_index", "attn_mask")
_UNUSED_HERE = ("spectrogram_extractor.", "logmel_extractor.", "tscam_conv.", "head.")
"""Of LAION's class: a front end that is built from its settings, and tagging heads."""


class PeerMissingError(ImportError):
    """A peer's package cannot be imported; the message says how to get it."""


def torchlibrosa_log_mel(ours: LogMel) -> Callable[[Tensor], Tensor]:
    """Return torchlibrosa's front end with our settings: waveforms (B, S) to (B, T, M)."""
    stft = _import("torchlibrosa.stft")
    spectrogram = stft.Spectrogram(
        n_fft=ours.n_fft,
        hop_length=ours.hop_length,
        win_length=ours.n_fft,
        window="hann",
        center=True,
        pad_mode="reflect",
        freeze_parameters=True,
    )
    log_mel = stft.LogmelFilterBank(
        sr=ours.sample_rate,
        n_fft=ours.n_fft,
        n_mels=ours.n_mels,
        fmin=ours.f_min,
        fmax=ours.f_max,
        ref=1.0,
        amin=1e-10,
        top_db=None,
        freeze_parameters=True,
    )
    return lambda waveform: log_mel(spectrogram(waveform))[:, 0]


def laion_htsat(ours: Htsat, features: LogMel) -> Any:
    """Return LAION's HTSAT class with the weights of ours, in evaluation mode."""
    shell = ModuleType(_SHELL)  # importing the package itself would import all it trains with
    package = importlib.util.find_spec("laion_clap")
    if package is None or not package.submodule_search_locations:
        raise PeerMissingError(f"laion_clap is missing: {GET_PEERS}")
    shell.__path__ = [str(Path(package.submodule_search_locations[0]) / "clap_module")]
    sys.modules[_SHELL] = shell
    prepare_torchvision()
    model = _import(f"{_SHELL}.htsat").HTSAT_Swin_Transformer(
        spec_size=256,
        patch_size=4,
        patch_stride=(4, 4),
        num_classes=527,
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[4, 8, 16, 32],
        window_size=8,
        config=SimpleNamespace(
            sample_rate=features.sample_rate,
            window_size=features.n_fft,
            hop_size=features.hop_length,
            mel_bins=features.n_mels,
            fmin=features.f_min,
            fmax=features.f_max,
        ),
    )
    _load(model, {_laion_name(name): tensor for name, tensor in ours.state_dict().items()}, _UNUSED_HERE)
    return model.eval()


def laion_embedding(model: Any, log_mel: Tensor) -> Tensor:
    """Return the embedding (B, 768) of log-mel spectrograms (B, T, M): what the class does after its front end."""
    normalised = model.bn0(log_mel[:, None].transpose(1, 3)).transpose(1, 3)
    embedding: Tensor = model.forward_features(model.reshape_wav2img(normalised))["embedding"]
    return embedding


def transformers_htsat(ours: Htsat) -> Any:
    """Return transformers' ClapAudioModel with the weights of ours, in evaluation mode."""
    prepare_torchvision()
    from transformers import ClapAudioConfig, ClapAudioModel

    model = ClapAudioModel(ClapAudioConfig())
    _load(model.audio_encoder, htsat_to_transformers(ours.state_dict()), ())
    return model.eval()


def _load(model: nn.Module, tensors: Mapping[str, Tensor], unused: tuple[str, ...]) -> None:
    """Load by name; all that the model has must be given, but for what it computes and what is not used here."""
    result = model.load_state_dict(tensors, strict=False)
    missing = [name for name in result.missing_keys if not name.endswith(_COMPUTED) and not name.startswith(unused)]
    if missing or result.unexpected_keys:
        raise RuntimeError(f"weights do not fit: missing {missing[:5]}, unexpected {result.unexpected_keys[:5]}")


def _laion_name(name: str) -> str:
    name = name.removeprefix("body.")
    if ".downsample." in name:
        _, stage, rest = name.split(".", 2)
        return f"layers.{int(stage) - 1}.{rest}"
    return name


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PeerMissingError(f"{name.partition('.')[0]} cannot be imported ({error}): {GET_PEERS}") from error
