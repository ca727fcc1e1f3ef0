"""The embedding interface: deterministic, any length, any batch size, saved and loaded, bad sounds named."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from curation.audio import resample
from curation.errors import AudioError, ConfigError
from tests.support.audio import write_tone, write_waveform
from tests.training.clips import SAMPLE_RATE, small_config, tone
from training.checkpoint import is_whole, model_hash
from training.models.build import build_clap, new_clap
from training.models.clap import BrokenModelError, Clap, windows
from training.models.projections import make_projection

TEXTS = ["A low bell struck twice.", "Rain.", "A very long description of a dog that barks, " * 20]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return small_config(tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("none"))


@pytest.fixture(scope="module")
def model(config):
    torch.manual_seed(0)
    return new_clap(config.model, config.features, captions=TEXTS)


@pytest.fixture(scope="module")
def sounds():
    rng = np.random.default_rng(0)
    return [
        (0.1 * rng.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)
        for seconds in (0.3, 0.001, 0.5, 1.7, 4.0, 0.51)
    ]


def test_embeddings_are_unit_rows_of_any_length(model, sounds):
    audio, text = model.embed_audio(sounds), model.embed_text(TEXTS)
    assert (audio.shape, text.shape) == ((6, 16), (3, 16))
    assert (audio.dtype, text.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(np.linalg.norm(audio, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, atol=1e-6)


def test_the_same_sound_gives_the_same_vector_whatever_the_batch(model, sounds):
    together = model.embed_audio(sounds, batch_size=64)
    assert np.array_equal(together, model.embed_audio(sounds, batch_size=64))
    alone = np.concatenate([model.embed_audio([sound], batch_size=1) for sound in sounds])
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together - model.embed_audio(iter(sounds), batch_size=3)).max() < 1e-5
    assert np.abs(model.embed_text(TEXTS) - model.embed_text(TEXTS, batch_size=1)).max() < 1e-5


def test_decoding_ahead_changes_nothing(model, tmp_path):
    files = [tmp_path / f"{number}.wav" for number in range(7)]
    for number, file in enumerate(files):
        write_tone(file, seconds=0.2 + 0.3 * number, freq=300.0 + 100 * number)
    expected = model.embed_audio(files, batch_size=4)
    assert np.array_equal(model.embed_audio(files, batch_size=4, decode_threads=3), expected)
    with pytest.raises(AudioError, match=r"gone\.wav"):
        model.embed_audio([*files, tmp_path / "gone.wav"], decode_threads=3)


def test_training_mode_does_not_matter_and_comes_back(model, sounds):
    expected = model.eval().embed_audio(sounds[:2])
    assert np.array_equal(model.train().embed_audio(sounds[:2]), expected)
    assert model.training
    assert not model.eval().training


def test_short_sounds_go_round_and_long_ones_are_averaged(config, sounds, tmp_path):
    model = new_clap(small_config(tmp_path, tmp_path, model={"audio": "cnn14"}).model, config.features, captions=TEXTS)
    short, long = sounds[0], sounds[3]
    filled = np.concatenate([short, short])[: SAMPLE_RATE // 2]
    assert np.array_equal(model.embed_audio([filled]), model.embed_audio([short]))
    encoder = model.audio.encoders["cnn14"].eval()
    with torch.inference_mode():
        batch = torch.from_numpy(np.stack(windows(long, SAMPLE_RATE // 2)))
        mean = model.audio_projection(encoder(model.audio.features["cnn14"](batch)).mean(dim=0))
    np.testing.assert_allclose(model.embed_audio([long])[0], (mean / mean.norm()).numpy(), atol=1e-6)
    cut = windows(np.arange(10), 4)
    assert [window.tolist() for window in cut] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert [window.tolist() for window in windows(np.arange(3), 7)] == [[0, 1, 2, 0, 1, 2, 0]]
    assert len(windows(np.arange(8), 4)) == 2


def test_files_of_any_rate_and_channels(model, tmp_path):
    waveform = tone(440, 0.7)
    file = write_waveform(tmp_path / "a.wav", waveform, subtype="FLOAT")
    stereo = write_waveform(tmp_path / "b.wav", np.stack([waveform, waveform], axis=1), subtype="FLOAT")
    expected = model.embed_audio([waveform])
    assert np.abs(model.embed_audio([file, str(stereo)]) - expected).max() < 1e-5
    half = resample(waveform, source_rate=SAMPLE_RATE, target_rate=SAMPLE_RATE // 2)
    assert model.embed_audio([half], sample_rate=SAMPLE_RATE // 2) @ expected[0] > 0.999
    assert model.embed_audio([half]) @ expected[0] < 0.999


def test_tensors_and_double_precision(model, sounds):
    expected = model.embed_audio([sounds[2]])
    assert np.array_equal(model.embed_audio([torch.from_numpy(sounds[2])]), expected)
    assert np.array_equal(model.embed_audio([sounds[2].astype(np.float64)]), expected)


def test_nothing_gives_nothing(model):
    assert model.embed_audio([]).shape == (0, 16)
    assert model.embed_text([]).shape == (0, 16)


@pytest.mark.parametrize(
    ("sound", "error", "message"),
    [
        (np.zeros(0, np.float32), AudioError, "sound 1 is empty"),
        (np.array([0.1, np.nan, np.inf]), AudioError, "2 NaN or infinite samples, the first at 1"),
        (np.zeros((2, 100), np.float32), ValueError, r"one waveform \(S,\), got \(2, 100\); mix channels"),
        (np.zeros(100, np.int16), ValueError, "floats .*got int16; divide 16-bit integers by 32768"),
        ("nowhere.wav", AudioError, "nowhere.wav"),
    ],
)
def test_bad_sounds_are_named(model, sound, error, message):
    with pytest.raises(error, match=message):
        model.embed_audio([np.ones(100, np.float32), sound])


def test_bad_texts_are_named(model):
    with pytest.raises(ValueError, match="text 1 must be a string with words in it, got ' '"):
        model.embed_text(["a", " "])
    with pytest.raises(TypeError, match="a list of strings, got one string"):
        model.embed_text("a bell")
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        model.embed_audio([], batch_size=0)


def test_more_bad_arguments_are_named(model, sounds):
    with pytest.raises(ValueError, match=r"text 0 is not Unicode text: .*surrogate"):
        model.embed_text(["a \ud800 bell"])
    with pytest.raises(TypeError, match="a list of waveforms or files, got one path"):
        model.embed_audio("bell.wav")
    with pytest.raises(ValueError, match="sample_rate must be a whole number of Hz, at least 1, got 0"):
        model.embed_audio(sounds[:1], sample_rate=0)
    assert np.array_equal(model.embed_text(text for text in TEXTS), model.embed_text(TEXTS))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
def test_a_broken_model_gives_no_embeddings(config, sounds, value):
    broken = new_clap(config.model, config.features, captions=TEXTS)
    with torch.no_grad():
        broken.audio_projection.weight.fill_(value)
        broken.text_projection.weight[:, 0] = value  # a column: normed values, summed up, may cancel to about 0
    with pytest.raises(BrokenModelError, match="the model is broken: its embedding of sound 0"):
        broken.embed_audio(sounds[:2])
    with pytest.raises(BrokenModelError, match="the model is broken: its embedding of text 0"):
        broken.embed_text(TEXTS)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.json", '{"format": 1}', "config.json lacks 'model'"),
        ("config.json", "[]", "must hold an object"),
        ("config.json", "NIX", "Unrecognized model identifier: nix"),
        ("tokenizer_config.json", None, "tokenizer_config.json is missing"),
        ("tokenizer.json", '{"a": 1}', "could not be loaded"),
        ("tokenizer.json", "{", "could not be loaded|Exception"),
        ("tokenizer.json", None, "holds no tokenizer"),
    ],
)
def test_damaged_model_files_are_named_with_what_to_do(model, tmp_path, file, text, message):
    model.save_pretrained(tmp_path)
    if text == "NIX":
        text = (tmp_path / file).read_text().replace('"model_type": "roberta"', '"model_type": "nix"')
    (tmp_path / file).unlink()
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(ConfigError, match=rf"damaged \(.*({message}).*\); remove it and run the training") as caught:
        Clap.from_pretrained(tmp_path)
    assert "fetch" not in str(caught.value)
    assert not is_whole(tmp_path)


def test_saved_and_loaded_it_is_the_same_model(model, sounds, tmp_path):
    model.save_pretrained(tmp_path / "model")
    loaded = Clap.from_pretrained(tmp_path / "model")
    assert np.array_equal(loaded.embed_audio(sounds), model.embed_audio(sounds))
    assert np.array_equal(loaded.embed_text(TEXTS), model.embed_text(TEXTS))
    assert loaded.sha256 == model_hash(tmp_path) == model_hash(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    status = weights.stat()
    with weights.open("r+b") as file:  # in place, and the times put back, as some copying tools do
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert model_hash(tmp_path) != loaded.sha256
    assert not loaded.training
    assert not list((tmp_path / "model").glob("*.part"))


def test_broken_model_folders_are_named(model, tmp_path):
    with pytest.raises(ConfigError, match=r"not a run: it has no model/model.safetensors"):
        Clap.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "logit_scale": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"logit_scale has shape \(3,\) in model.safetensors, \(\) by config.json"):
        Clap.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ConfigError, match="not whole or no safetensors file"):
        Clap.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ConfigError, match=r"config.json has format 99, this code reads 1"):
        Clap.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config.json: not JSON"):
        Clap.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no tokenizer"):
        Clap.from_pretrained(tmp_path)


def test_the_scale_starts_at_the_temperature_and_is_clamped_after_the_step(model, config):
    assert model.logit_scale.item() == pytest.approx(math.log(1 / config.model.initial_temperature))
    with torch.no_grad():
        before = model.logit_scale.clone()
        model.logit_scale.fill_(9.0)
        model.clamp_logit_scale()
        assert model.logit_scale.exp().item() == pytest.approx(100)
        model.logit_scale.copy_(before)


@pytest.mark.parametrize("audio", ["cnn14", "htsat"])
def test_one_encoder_alone(config, audio, sounds, tmp_path):
    model = new_clap(small_config(tmp_path, tmp_path, model={"audio": audio}).model, config.features, captions=TEXTS)
    assert list(model.audio.encoders) == [audio]
    assert model.embed_audio(sounds[:1]).shape == (1, 16)


def test_the_towers_outputs_are_joined_cnn14_first(model, sounds):
    model.eval()
    crops = {name: torch.from_numpy(np.resize(sounds[3], (1, size))) for name, size in model.audio.clip_samples.items()}
    with torch.inference_mode():
        joined = model.audio(crops)
        parts = [model.audio.encoders[name](model.audio.features[name](crops[name])) for name in ("cnn14", "htsat")]
    assert torch.equal(joined, torch.cat(parts, dim=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"htsat": {"spec_size": 100}}, "spec_size .100. must be a multiple of n_mels"),
        ({"cnn14": {"channels": [2] * 9, "clip_s": 8.0}}, "need at least 256 mel bands, got 32"),
    ],
)
def test_sizes_that_do_not_fit_are_named(config, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        new_clap(small_config(tmp_path, tmp_path, model=change).model, config.features, captions=TEXTS)


def test_encoders_with_front_ends_of_their_own(config, sounds, tmp_path):
    """A published encoder is fed at the rate it was trained with; the others keep theirs."""
    own = {"htsat": {"features": {"sample_rate": 32_000, "n_fft": 1024, "hop_length": 640, "n_mels": 32}}}
    model = new_clap(small_config(tmp_path, tmp_path, model=own).model, config.features, captions=TEXTS).eval()
    assert model.audio.clip_samples == {"cnn14": 22_050, "htsat": 12_800}
    sound = sounds[0][:4_410]
    filled = {
        "cnn14": np.resize(sound, 22_050),
        "htsat": np.resize(resample(sound, source_rate=44_100, target_rate=32_000), 12_800),
    }
    with torch.inference_mode():
        expected = model.audio_projection(model.audio({k: torch.from_numpy(v)[None] for k, v in filled.items()}))[0]
    np.testing.assert_allclose(model.embed_audio([sound])[0], (expected / expected.norm()).numpy(), atol=1e-6)
    model.save_pretrained(tmp_path / "model")
    assert np.array_equal(Clap.from_pretrained(tmp_path / "model").embed_audio(sounds), model.embed_audio(sounds))


def test_sound_is_resampled_once_from_its_own_rate(config, tmp_path):
    """A shared front end at a low rate takes nothing from what an encoder with one of its own reads."""
    shared = {"sample_rate": 8_000, "n_fft": 512, "hop_length": 160, "n_mels": 32, "f_max": 4_000.0}
    own = {"sample_rate": 32_000, "n_fft": 1024, "hop_length": 640, "n_mels": 32}
    changed = small_config(tmp_path, tmp_path, features=shared, model={"htsat": {"features": own}})
    torch.manual_seed(3)  # weights that hear the detour well: it moves an embedding by 0.002 to 0.02
    model = new_clap(changed.model, changed.features, captions=TEXTS).eval()
    waveform = tone(9_000, 1.1)
    file = write_waveform(tmp_path / "a.wav", waveform, subtype="FLOAT")
    htsat, cnn14 = (resample(waveform, source_rate=SAMPLE_RATE, target_rate=rate) for rate in (32_000, 8_000))
    with torch.inference_mode():
        parts = []
        for name, sound in (("cnn14", cnn14), ("htsat", htsat)):
            batch = torch.from_numpy(np.stack(windows(sound, model.audio.clip_samples[name])))
            parts.append(model.audio.encoders[name](model.audio.features[name](batch)).mean(dim=0))
        expected = model.audio_projection(torch.cat(parts))
    expected = (expected / expected.norm()).numpy()
    np.testing.assert_allclose(model.embed_audio([waveform], sample_rate=SAMPLE_RATE)[0], expected, atol=1e-6)
    np.testing.assert_allclose(model.embed_audio([file])[0], expected, atol=1e-6)
    detour = resample(cnn14, source_rate=8_000, target_rate=SAMPLE_RATE)
    assert np.abs(model.embed_audio([detour], sample_rate=SAMPLE_RATE)[0] - expected).max() > 0.01


@pytest.mark.parametrize("kind", ["linear", "residual", "mlp"])
def test_projections_of_every_kind_are_saved_and_loaded(config, sounds, tmp_path, kind):
    model = new_clap(
        small_config(tmp_path, tmp_path, model={"projection": kind}).model, config.features, captions=TEXTS
    )
    model.save_pretrained(tmp_path / "model")
    loaded = Clap.from_pretrained(tmp_path / "model")
    assert np.array_equal(loaded.embed_audio(sounds[:2]), model.embed_audio(sounds[:2]))
    names = {name for name in model.state_dict() if name.startswith("text_projection.")}
    layers = {"linear": {"weight", "bias"}, "mlp": {f"linear{i}.{n}" for i in (1, 2) for n in ("weight", "bias")}}
    layers["residual"] = {"linear1.weight", "linear2.weight", "layer_norm.weight", "layer_norm.bias"}
    assert names == {f"text_projection.{name}" for name in layers[kind]}


def test_projections_are_the_published_formulas():
    torch.manual_seed(0)
    x = torch.randn(5, 7, dtype=torch.float64)
    residual = make_projection("residual", 7, 4).double().eval()
    first = x @ residual.linear1.weight.T
    total = first + torch.nn.functional.gelu(first) @ residual.linear2.weight.T
    normed = (total - total.mean(1, keepdim=True)) / (total.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(residual(x), normed)
    assert not torch.equal(residual.train()(x), residual(x))  # dropout
    mlp = make_projection("mlp", 7, 4).double()
    hidden = (x @ mlp.linear1.weight.T + mlp.linear1.bias).clamp(min=0)
    torch.testing.assert_close(mlp(x), hidden @ mlp.linear2.weight.T + mlp.linear2.bias)
    assert make_projection("linear", 7, 4, bias=False).bias is None
    with pytest.raises(ValueError, match="one of linear, residual, mlp, got 'deep'"):
        make_projection("deep", 7, 4)


@pytest.mark.parametrize("audio", ["cnn14", "htsat", "cnn14+htsat"])
@pytest.mark.parametrize(
    ("pooling", "projection"), [("first", "linear"), ("mean", "residual"), ("pooler", "mlp"), ("pooler", "linear")]
)
def test_every_weight_gets_a_gradient(config, tmp_path, audio, pooling, projection):
    """So that DistributedDataParallel need not look for those that do not, and never waits for one."""
    changes = {"audio": audio, "projection": projection, "text": {"pooling": pooling}}
    model = new_clap(small_config(tmp_path, tmp_path, model=changes).model, config.features, captions=TEXTS).train()
    waveforms = {name: 0.1 * torch.randn(3, size) for name, size in model.audio.clip_samples.items()}
    ids = torch.randint(4, 100, (3, 5))
    audio_embed, text_embed = model(waveforms, ids, torch.ones_like(ids))
    (model.logit_scale.exp() * audio_embed @ text_embed.T).square().sum().backward()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_embeddings_are_close_and_float32(model, sounds, tmp_path, dtype):
    model.save_pretrained(tmp_path)
    half = Clap.from_pretrained(tmp_path, dtype=dtype)
    for ours, whole in ((half.embed_audio(sounds), model.embed_audio(sounds)), (half.embed_text(TEXTS),) * 2):
        assert ours.dtype == np.float32
        assert (ours * whole).sum(axis=1).min() > 0.995
    assert not np.array_equal(half.embed_text(TEXTS), model.embed_text(TEXTS))
    with pytest.raises(ValueError, match=r"dtype must be .* or torch.bfloat16, got torch.int8"):
        Clap.from_pretrained(tmp_path, dtype=torch.int8)


def test_a_model_in_double_precision_embeds_in_it(model, sounds):
    double = copy.deepcopy(model).double()
    for exact, ours in (
        (double.embed_audio(sounds), model.embed_audio(sounds)),
        (double.embed_text(TEXTS), model.embed_text(TEXTS)),
    ):
        assert exact.dtype == np.float64
        np.testing.assert_allclose(np.linalg.norm(exact, axis=1), 1, atol=1e-12)
        assert 0 < np.abs(exact - ours).max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision_point_to_the_way_that_keeps_them(model, sounds, dtype):
    half = copy.deepcopy(model).to(dtype)
    one_part = copy.deepcopy(model)
    one_part.text.to(dtype)
    advice = rf"Clap.from_pretrained\(folder, dtype={dtype}\), which keeps its weights"
    for wrong in (half, one_part):
        with pytest.raises(TypeError, match=advice):
            wrong.embed_audio(sounds)
        with pytest.raises(TypeError, match=advice):
            wrong.embed_text(TEXTS)
        assert wrong.training == model.training


def test_frozen_parts_stay_in_evaluation_and_unknown_ones_are_named(config, sounds):
    model = new_clap(config.model, config.features, captions=TEXTS)
    model.freeze(["cnn14"])
    model.freeze(["logit_scale"])
    model.train()
    assert not model.audio.encoders["cnn14"].training
    assert model.audio.encoders["htsat"].training
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {"logit_scale"} | {
        f"audio.encoders.cnn14.{name}" for name, _ in model.audio.encoders["cnn14"].named_parameters()
    }
    with pytest.raises(ValueError, match="no part 'pann' to freeze; this model has cnn14, htsat, text"):
        model.freeze(["pann"])
    with pytest.raises(ConfigError, match="text encoder has 64 positions"):
        build_clap(
            dataclasses.replace(config.model, text=dataclasses.replace(config.model.text, max_tokens=65)),
            config.features,
            text=model.text.model,
            tokenizer=model.tokenizer,
        )
