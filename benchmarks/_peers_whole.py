"""Models with both towers, LAION's and transformers' CLAP, and text encoders: roberta-base."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _peers_audio import without_front_end
from _peers_result import LOG_MEL, TOKENS, WAVEFORM, WEIGHTS, Result, package
from _peers_setup import ROBERTA_BASE, TEXTS, Peers, fill, offline, roberta_tokenizer, save_tokenizer, sounds
from torch import Tensor

from training.models.clap import Clap
from training.models.convert import convert
from training.models.text import TextEncoder, pretrained_text_model
from training.tokenizer import pad, token_ids

Outputs = dict[str, Tensor]
RATE, CLIP_S = 48_000, 10
_AFTER = 60_000
"""Steps that the optimiser in LAION's file says it took."""


def laion(peers: Peers, folder: Path) -> Result:
    """Compare LAION's CLAP, as in 630k-audioset-best.pt, with ours."""
    with offline(roberta_tokenizer()):
        wrapper = peers.laion.CLAP_Module(enable_fusion=False)
    peer = wrapper.model
    fill(peer, seed=4)
    file = folder / "630k-audioset-best.pt"
    torch.save(_laion_checkpoint(peer), file)
    account = convert(file, folder / "ours", tokenizer=save_tokenizer(folder / "roberta-base"))
    result = Result(
        name=file.name,
        peer=f"`CLAP` of {package('laion-clap')} (HTSAT-tiny, roberta), built by its `CLAP_Module`",
        layout="`epoch`, `name`, `state_dict` with names below `module.`, `optimizer`; also with "
        "`text_branch.embeddings.position_ids`, which older transformers kept. `CLAP_Module.load_ckpt` opens it.",
        account=account,
        notes=[
            "roberta-base, which the class fetches, is `RobertaModel(RobertaConfig(...))` with the values of its "
            "published config.json; the tokenizer, fetched too, is one of the same size, the same on both sides",
            "sounds under 10 s: LAION repeats a whole number of times and ends in silence, ours go round; given the "
            "10 s that LAION makes of 3 or 7, both agree",
            "sounds over 10 s: LAION takes a random 10 s, ours averages windows that cover the sound",
            "`get_audio_embedding_from_data` rounds the sound to 16 bits unless it is given tensors",
        ],
    )
    wrapper.load_ckpt(str(file), verbose=False)
    fresh = {name.removeprefix("module."): x for name, x in torch.load(file, weights_only=False)["state_dict"].items()}
    result.check(all(torch.equal(x, fresh[name]) for name, x in peer.state_dict().items()), "the file is not its own")
    ours = Clap.from_pretrained(folder / "ours")
    scale = {"scale": peer.logit_scale_a.exp()}
    result.add("logit scale", WEIGHTS, scale, {"scale": ours.logit_scale.exp()})
    _laion_sounds(result, peers, wrapper, ours)
    theirs = {"text": wrapper.get_text_embedding(list(TEXTS), use_tensor=True)}
    result.add(f"{len(TEXTS)} texts", TOKENS, theirs, {"text": torch.from_numpy(ours.embed_text(TEXTS))})
    ids, mask = _tokens(ours.tokenizer, 77)
    peer.double(), ours.double()
    theirs = {"text": peer.get_text_embedding({"input_ids": ids, "attention_mask": mask})}
    result.add(f"{len(TEXTS)} texts", TOKENS, theirs, _our_text(ours, ids, mask))
    return result


def _laion_sounds(result: Result, peers: Peers, wrapper: Any, ours: Clap) -> None:
    """Compare the audio towers: from one spectrogram, from sounds, and where the rules differ."""
    peer, waveform = wrapper.model, sounds(RATE, CLIP_S)
    log_mel = _log_mel(ours, waveform)
    for dtype in (torch.float32, torch.float64):
        peer.to(dtype), ours.to(dtype)
        with without_front_end(peer.audio_branch):
            encoded = peer.encode_audio({"waveform": log_mel.to(dtype)[:, None]}, device="cpu")["embedding"]
        theirs = {"encoder": encoded, "audio": F.normalize(peer.audio_projection(encoded), dim=1)}
        result.add(f"{CLIP_S} s", LOG_MEL, theirs, _our_audio(ours, log_mel.to(dtype)))
    peer.float(), ours.float()

    def embed(sound: Tensor, *, sixteen_bits: bool = False) -> Tensor:
        given: Any = sound.numpy() if sixteen_bits else sound
        return torch.as_tensor(wrapper.get_audio_embedding_from_data(given, use_tensor=not sixteen_bits))

    found = {"audio": _embed(ours, waveform)}
    result.add(f"{CLIP_S} s", WAVEFORM, {"audio": embed(waveform)}, found)
    rounded = {"audio": embed(waveform, sixteen_bits=True)}
    result.add(f"{CLIP_S} s, 16 bits there", WAVEFORM, rounded, found, by_design=True)
    for seconds in (3, 7):
        short = sounds(RATE, seconds)
        theirs = {"audio": embed(short)}
        result.add(f"{seconds} s", WAVEFORM, theirs, {"audio": _embed(ours, short)}, by_design=True)
        filled = torch.stack([_filled(peers, wrapper, sound) for sound in short])
        result.add(f"{seconds} s, filled by LAION", WAVEFORM, theirs, {"audio": _embed(ours, filled)})
    np.random.seed(0)  # LAION draws from this generator
    long = sounds(RATE, 20)
    result.add("20 s", WAVEFORM, {"audio": embed(long)}, {"audio": _embed(ours, long)}, by_design=True)


def _filled(peers: Peers, wrapper: Any, sound: Tensor) -> Tensor:
    """Return the 10 s that LAION's own function makes of a shorter sound."""
    settings = {
        "data_truncating": "rand_trunc",
        "data_filling": "repeatpad",
        "audio_cfg": wrapper.model_cfg["audio_cfg"],
    }
    made: Tensor = peers.laion_data.get_audio_features({}, sound, CLIP_S * RATE, **settings)["waveform"]
    return made


def _laion_checkpoint(peer: Any) -> dict[str, Any]:
    """Return what LAION's training saves: weights of a wrapped model, and the optimiser's state."""
    state = {f"module.{name}": tensor for name, tensor in peer.state_dict().items()}
    positions = torch.arange(ROBERTA_BASE["max_position_embeddings"])[None]
    state["module.text_branch.embeddings.position_ids"] = positions
    moments = {"step": _AFTER, "exp_avg": torch.ones(512), "exp_avg_sq": torch.ones(512)}
    groups = [{"lr": np.float64(1e-4), "betas": (0.99, 0.9), "params": [0]}]
    optimizer = {"state": {0: moments}, "param_groups": groups}
    return {"epoch": 45, "name": "a run", "state_dict": state, "optimizer": optimizer}


def transformers_clap(folder: Path) -> Result:
    """Compare transformers' ClapModel, as in laion/clap-htsat-unfused, with ours, there and back."""
    import transformers

    peer: Any = transformers.ClapModel(transformers.ClapConfig())
    fill(peer, seed=5)
    source = folder / "clap-htsat-unfused"
    extractor = transformers.ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc", padding="repeatpad")
    for part in (peer, extractor, roberta_tokenizer()):
        part.save_pretrained(source)
    result = Result(
        name="laion/clap-htsat-unfused",
        peer=f"`ClapModel(ClapConfig())` of {package('transformers')}",
        layout="what its `save_pretrained` writes, with that of `ClapFeatureExtractor` and of a tokenizer.",
        account=convert(source, folder / "ours"),
        notes=[
            "`export` rows: the converted model written by `save_transformers` and opened by `ClapModel` again",
            "its text encoder takes softmax in float32 whatever the model's precision, so texts are compared in that",
            "`ClapModel(return_loss=True)` counts text-to-audio twice, so no loss is compared",
        ],
    )
    ours = Clap.from_pretrained(folder / "ours")
    ours.save_transformers(folder / "export")
    back: Any = transformers.ClapModel.from_pretrained(folder / "export")
    result.add("logit scale", WEIGHTS, {"scale": peer.logit_scale_a.exp()}, {"scale": ours.logit_scale.exp()})
    for seconds in (3, 7, 10):
        waveform = sounds(RATE, seconds)
        log_mel = _log_mel(ours, waveform)
        result.add(f"{seconds} s", LOG_MEL, _clap_audio(peer, log_mel), _our_audio(ours, log_mel))
        made = extractor(list(waveform.numpy()), sampling_rate=RATE, return_tensors="pt")["input_features"]
        theirs = {"audio": _clap_audio(peer, made[:, 0])["audio"]}
        result.add(f"{seconds} s", WAVEFORM, theirs, {"audio": _embed(ours, waveform)}, by_design=seconds < CLIP_S)
    result.add("10 s, export", LOG_MEL, _clap_audio(peer, log_mel), _clap_audio(back, log_mel))
    ids, mask = _tokens(ours.tokenizer, 77)
    for other, name in ((None, f"{len(TEXTS)} texts"), (back, f"{len(TEXTS)} texts, export")):
        found = _our_text(ours, ids, mask) if other is None else _clap_text(other, ids, mask)
        result.add(name, TOKENS, _clap_text(peer, ids, mask), found)
    peer.double(), ours.double()
    log_mel = log_mel.double()
    result.add("10 s", LOG_MEL, _clap_audio(peer, log_mel), _our_audio(ours, log_mel))
    return result


def _clap_audio(peer: Any, log_mel: Tensor) -> Outputs:
    """Return ClapModel's vectors of spectrograms (B, T, M)."""
    encoded = peer.audio_model(input_features=log_mel[:, None]).pooler_output
    return {"encoder": encoded, "audio": F.normalize(peer.audio_projection(encoded), dim=1)}


def _clap_text(peer: Any, ids: Tensor, mask: Tensor) -> Outputs:
    """Return ClapModel's vectors of token ids (B, L)."""
    pooled = peer.text_model(input_ids=ids, attention_mask=mask).pooler_output
    return {"text": F.normalize(peer.text_projection(pooled), dim=1)}


def roberta_base(folder: Path) -> Result:
    """Compare RobertaModel with our text encoder, from the three forms that folders of roberta-base come in."""
    import transformers

    config = transformers.RobertaConfig(**ROBERTA_BASE)
    whole = transformers.RobertaForMaskedLM(config)
    fill(whole, seed=6)
    pooled = transformers.RobertaModel(config)
    fill(pooled, seed=7)
    pooled.load_state_dict(whole.roberta.state_dict(), strict=False)  # all but its pooler
    forms: dict[str, Callable[[Path], None]] = {
        "as the hub serves it": lambda place: _save_hub(whole, place),
        "with pooler": pooled.save_pretrained,
        "without pooler": whole.roberta.save_pretrained,
    }
    tokens = _tokens(roberta_tokenizer(), 77)
    first = whole.roberta(*tokens).last_hidden_state[:, 0]
    accounts = []
    rows: list[tuple[str, Outputs, Outputs]] = []
    for form, save in forms.items():
        source, out = folder / form, folder / f"{form}, ours"
        save(save_tokenizer(source))
        accounts.append(convert(source, out))
        rows.append((form, {"first token": first}, {"first token": _encoder(out, "first")(*tokens)}))
        if form == "as the hub serves it":
            found = _encoder(source, "first")(*tokens)
            rows.append((f"{form}, not converted", {"first token": first}, {"first token": found}))
    found = _encoder(folder / "with pooler", "pooler")(*tokens)
    rows.append(("with pooler, not converted", {"pooler": pooled(*tokens).pooler_output}, {"pooler": found}))
    result = Result(
        name="roberta-base",
        peer=f"`RobertaForMaskedLM` and `RobertaModel` of {package('transformers')}, of roberta-base's sizes",
        layout="three folders: as the hub serves it, with names below `roberta.`, `lm_head.*` and `position_ids` (the "
        "account is of this one); `RobertaModel.save_pretrained` with and without pooler.",
        account=accounts[0],
        notes=[
            "both sides run transformers' own class, so only a tensor in another place would make them differ",
            "a tokenizer of the same size and special ids stands in for roberta-base's",
        ],
    )
    for name, theirs, found in rows:
        result.add(name, TOKENS, theirs, found)
    return result


def _save_hub(model: Any, folder: Path) -> None:
    """Write a folder as the hub serves roberta-base: older names beside the weights."""
    with tempfile.TemporaryDirectory() as temporary:
        model.config.save_pretrained(temporary)
        shutil.copy(Path(temporary) / "config.json", folder / "config.json")
    state = dict(model.state_dict())
    state["roberta.embeddings.position_ids"] = torch.arange(ROBERTA_BASE["max_position_embeddings"])[None]
    torch.save(state, folder / "pytorch_model.bin")


def _encoder(folder: Path, pooling: str) -> TextEncoder:
    model = pretrained_text_model(str(folder), pooler=pooling == "pooler")
    return TextEncoder(model, pooling=pooling).eval()


def _log_mel(ours: Clap, waveform: Tensor) -> Tensor:
    front_ends: Any = ours.audio.features
    log_mel: Tensor = front_ends["htsat"](waveform)
    return log_mel


def _our_audio(ours: Clap, log_mel: Tensor) -> Outputs:
    encoded = ours.audio.encoders["htsat"](log_mel)
    return {"encoder": encoded, "audio": F.normalize(ours.audio_projection(encoded), dim=1)}


def _our_text(ours: Clap, ids: Tensor, mask: Tensor) -> Outputs:
    return {"text": F.normalize(ours.text_projection(ours.text(ids, mask)), dim=1)}


def _embed(ours: Clap, waveforms: Tensor) -> Tensor:
    return torch.from_numpy(ours.embed_audio(list(waveforms)))


def _tokens(tokenizer: Any, max_tokens: int) -> tuple[Tensor, Tensor]:
    return pad(token_ids(tokenizer, TEXTS, max_tokens=max_tokens), pad_id=tokenizer.pad_token_id)
