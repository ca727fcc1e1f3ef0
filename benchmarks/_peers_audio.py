"""Audio encoders published alone, or whose text tower is not converted: PANNs, HTSAT, both msclap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from _peers_result import LOG_MEL, WAVEFORM, Result, package
from _peers_setup import Peers, fill, offline, sounds
from torch import Tensor, nn

from training.features import PRESETS, LogMel
from training.models.clap import windows
from training.models.cnn14 import Cnn14
from training.models.convert import convert
from training.models.htsat import Htsat
from training.models.parts import load_part
from training.models.report import Report

Outputs = dict[str, Tensor]
SECONDS = (3, 7, 10, 20)
HTSAT_INVENTORY = {
    "relative_position_index": 12,
    "attn_mask": 5,
    "bn0.": 5,
    "extractor": 3,
    "tscam_conv.": 2,
    "head.": 2,
}
"""Of the 200 tensors in HTSAT's published files, those beside the 171 of its body: how many names hold this."""


def panns(peers: Peers, folder: Path, *, preset: str, file_name: str) -> Result:
    """Compare Cnn14 of panns_inference with ours, for one of the two published sample rates."""
    settings = PRESETS[preset]
    peer = peers.panns.Cnn14(**_arguments(settings), classes_num=527)
    fill(peer, seed=settings["n_fft"], gain=6)
    file = folder / file_name
    random = np.random.default_rng(0)
    sampler = {  # of PANNs' balanced sampler
        "indexes_per_class": [random.permutation(4) for _ in range(527)],
        "queue": [3, 1, 2],
        "pointers_of_classes": [0] * 527,
    }
    torch.save({"iteration": 600_000, "model": peer.state_dict(), "sampler": sampler}, file)
    result = Result(
        name=file_name,
        peer=f"`Cnn14` of {package('panns-inference')}",
        layout="`iteration`, `model`, `sampler` (lists and numpy arrays).",
        account=convert(file, folder / "ours"),
    )
    result.check(len(peer.state_dict()) == 84, "the class has not the 84 tensors of the published file")
    _reopened(result, peer, torch.load(file, weights_only=False)["model"])
    ours = _ours(folder / "ours", "cnn14")
    _compare(result, peer, ours, LogMel(**_features(result.account)), outputs=_cnn14_outputs, seconds=SECONDS)
    return result


def htsat(peers: Peers, folder: Path) -> Result:
    """Compare HTSAT, as its AudioSet checkpoints hold it, with ours."""
    peer = peers.msclap_htsat.HTSAT_Swin_Transformer(config=peers.msclap_htsat.config)
    fill(peer, seed=2)
    file = folder / "HTSAT_AudioSet_Saved_1.ckpt"
    state = {f"sed_model.{name}": tensor.float() for name, tensor in peer.state_dict().items()}
    torch.save({"state_dict": state}, file)
    result = Result(
        name=file.name,
        peer=f"`HTSAT_Swin_Transformer` of {package('msclap')}",
        layout="`state_dict`, names below `sed_model.`, every buffer a float (the published file is an average).",
        account=convert(file, folder / "ours"),
        notes=[
            "HTSAT's own repository is no package. msclap's copy of its class stands in: the 200 names of the "
            "published file, counted here by kind; it differs in the rule for more than 1,024 frames (see msclap 2023)"
        ],
    )
    counts = {part: sum(part in name for name in state) for part in HTSAT_INVENTORY}
    result.check(counts == HTSAT_INVENTORY, f"the class has {counts}, the published file {HTSAT_INVENTORY}")
    result.check(len(state) == 171 + sum(HTSAT_INVENTORY.values()), f"the class has {len(state)} tensors, not 200")
    _reopened(result, peer, {name.removeprefix("sed_model."): x for name, x in torch.load(file)["state_dict"].items()})
    ours = _ours(folder / "ours", "htsat")
    _compare(result, peer, ours, LogMel(**_features(result.account)), outputs=_htsat_outputs, seconds=SECONDS[:3])
    return result


def msclap_2022(peers: Peers, folder: Path) -> Result:
    """Compare the audio tower of msclap 2022 with ours."""
    wrapper, file = _msclap(peers, folder, "2022")
    result = Result(
        name=file.name,
        peer=f"`CLAP` of {package('msclap')} (Cnn14 and BERT), built by its `CLAPWrapper`",
        layout="`model`, names below `audio_encoder.base.`, `audio_encoder.projection.`, `caption_encoder.`.",
        account=convert(file, folder / "ours"),
        notes=["msclap cuts a random 5 s out of a longer sound, ours averages windows that cover it"],
    )
    _reopened(result, wrapper.clap, torch.load(file)["model"])
    features = LogMel(**_features(result.account))
    peer, ours = wrapper.clap.audio_encoder.base, _ours(folder / "ours", "cnn14")
    _compare(result, peer, ours, features, outputs=_cnn14_outputs, seconds=SECONDS)
    _compare_tiling(result, wrapper, features, lambda waveform: _cnn14_outputs(ours, features(waveform)))
    return result


def msclap_2023(peers: Peers, folder: Path) -> Result:
    """Compare the audio tower of msclap 2023 with ours."""
    wrapper, file = _msclap(peers, folder, "2023")
    result = Result(
        name=file.name,
        peer=f"`CLAP` of {package('msclap')} (HTSAT and GPT-2), built by its `CLAPWrapper`",
        layout="`model`, names below `audio_encoder.base.htsat.`, `audio_encoder.projection.`, `caption_encoder.`.",
        account=convert(file, folder / "ours"),
        notes=[
            "the class ignores its settings and applies the mel bank of 32 kHz to sound at 44.1 kHz; a recipe of ours "
            "cannot ask for that, so this script does the same by hand for the rows from the waveform",
            "10 s are 1,379 frames, for which its fixed windows are our rule `halves`; 20 s are 2,757, of which it "
            "averages 7 windows of 689 and `halves` refuses more than 2,050",
            "msclap cuts a random 7 s out of a longer sound, ours averages windows that cover it",
        ],
    )
    _reopened(result, wrapper.clap, torch.load(file)["model"])
    features = LogMel(**PRESETS["panns-32k"])
    peer, ours = wrapper.clap.audio_encoder.base, _ours(folder / "ours", "htsat")
    _compare(result, peer, ours, features, outputs=_htsat_outputs, seconds=SECONDS[:3], sample_rate=44_100)
    _compare_tiling(result, wrapper, features, lambda waveform: _htsat_outputs(ours, features(waveform)))
    return result


def _msclap(peers: Peers, folder: Path, year: str) -> tuple[Any, Path]:
    """Return msclap's wrapper around a model with random weights, and the file of them."""
    file, empty = folder / f"CLAP_weights_{year}.pth", folder / "empty.pth"
    torch.save({"model": {}}, empty)  # which it takes: it loads with strict=False
    with offline(SimpleNamespace(add_special_tokens=lambda _: None)):
        wrapper = peers.msclap.CLAPWrapper(model_fp=empty, version=year)
    fill(wrapper.clap, seed=int(year), gain=6 if year == "2022" else 3)
    torch.save({"model": wrapper.clap.state_dict()}, file)
    return wrapper, file


def _compare_tiling(result: Result, wrapper: Any, features: LogMel, ours: Callable[[Tensor], Outputs]) -> None:
    """Compare what both make of a sound shorter than the model reads: msclap's own rule, and ours."""
    rate, seconds = wrapper.args.sampling_rate, wrapper.args.duration
    short = sounds(rate, 3)[0]
    wrapper.read_audio = lambda *_, **__: (short[None], rate)  # reading files is not what is compared
    tiled = wrapper.load_audio_into_tensor("", seconds)
    theirs = wrapper.clap.audio_encoder.base(tiled[None])
    (window,) = windows(short.numpy(), rate * seconds)
    found = ours(torch.from_numpy(window)[None])
    result.add(f"3 s, tiled to {seconds} s", WAVEFORM, _by_our_names(theirs, found), found)


def _compare(
    result: Result,
    peer: nn.Module,
    ours: Any,
    features: LogMel,
    *,
    outputs: Callable[[Any, Tensor], Outputs],
    seconds: tuple[int, ...],
    sample_rate: int | None = None,
) -> None:
    """Compare a peer's audio encoder with ours on clips of several lengths."""
    for length in seconds:
        waveform = sounds(sample_rate or features.sample_rate, length)
        log_mel, sound = features(waveform), f"{length} s"
        found = outputs(ours, log_mel)
        with without_front_end(peer):
            result.add(sound, LOG_MEL, _by_our_names(peer(log_mel[:, None]), found), found)
        if length == 10:
            result.add(sound, WAVEFORM, _by_our_names(peer(waveform), found), found)
        if length == 3:
            log_mel = log_mel.double()
            found = outputs(ours.double(), log_mel)
            with without_front_end(peer.double()):
                result.add(sound, LOG_MEL, _by_our_names(peer(log_mel[:, None]), found), found)
            peer.float(), ours.float()


@contextmanager
def without_front_end(peer: nn.Module) -> Iterator[None]:
    """Let the class's own forward read log-mel spectrograms (B, 1, T, M) in place of waveforms."""
    extractors = ("spectrogram_extractor", "logmel_extractor")
    owner = next(module for module in peer.modules() if hasattr(module, extractors[0]))
    kept = [getattr(owner, name) for name in extractors]
    for name in extractors:
        setattr(owner, name, nn.Identity())
    try:
        yield
    finally:
        for name, module in zip(extractors, kept, strict=True):
            setattr(owner, name, module)


def _by_our_names(theirs: Mapping[str, Tensor], ours: Outputs) -> Outputs:
    """Return those of a peer's outputs that ours has: no tags by frame where its rule cuts a clip into windows."""
    names = {"embedding": "embedding", "tags": "clipwise_output", "tags by frame": "framewise_output"}
    if "embedding" not in theirs:
        names["embedding"] = "latent_output"
    return {name: theirs[names[name]] for name in ours}


def _cnn14_outputs(ours: Cnn14, log_mel: Tensor) -> Outputs:
    return {"embedding": ours(log_mel), "tags": ours.tag(log_mel)}


def _htsat_outputs(ours: Htsat, log_mel: Tensor) -> Outputs:
    return {"embedding": ours(log_mel), "tags": ours.tag(log_mel)} | (
        {"tags by frame": ours.framewise(log_mel).repeat_interleave(32, dim=1)}
        if log_mel.shape[1] <= ours.target_frames
        else {}
    )


def _ours(folder: Path, name: str) -> Any:
    """Return our encoder with the weights of a converted folder, in evaluation mode."""
    part = load_part(folder, name)
    encoder = {"cnn14": Cnn14, "htsat": Htsat}[name](**part.settings)
    encoder.load_state_dict(part.tensors)
    return encoder.eval()


def _features(account: Report) -> dict[str, Any]:
    """Return the front end that the converter found in a file."""
    if account.features is None:
        raise ValueError(f"{account.source}: the converter did not find the front end")
    return account.features


def _reopened(result: Result, peer: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Check that the peer's class takes back exactly what the file holds."""
    peer.load_state_dict(state)
    kept = peer.state_dict()
    result.check(all(torch.equal(kept[name], x.to(kept[name])) for name, x in state.items()), "the file is not its own")


def _arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a front end by the names that PANNs' classes give its settings."""
    names = ("sample_rate", "n_fft", "hop_length", "n_mels", "f_min", "f_max")
    theirs = ("sample_rate", "window_size", "hop_size", "mel_bins", "fmin", "fmax")
    return dict(zip(theirs, (settings[name] for name in names), strict=True))
