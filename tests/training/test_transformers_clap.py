"""Models as transformers' ClapModel and back, judged by transformers' own classes on what was written."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from curation.errors import ConfigError
from tests.training.golden_fill import fill
from training.config import Cnn14Config, FeatureConfig, HtsatConfig, ModelConfig, TextConfig
from training.models.build import build_clap, new_clap
from training.models.htsat import Htsat
from training.models.text import roberta_config, text_model
from training.models.transformers_clap import read_transformers, save_transformers
from training.models.transformers_config import clap_config, export_notes, export_refusal, extractor_seconds
from training.models.transformers_names import htsat_from_transformers, htsat_to_transformers
from training.recipe import load_recipe
from training.tokenizer import pad, token_ids, train_tokenizer

TEXTS = ["A low bell struck twice.", "Rain.", "A very long description of a dog that barks, " * 20]
FEATURES = FeatureConfig(sample_rate=16_000, n_fft=512, hop_length=256, n_mels=32, f_min=50.0, f_max=7_000.0)
HTSAT = HtsatConfig(
    clip_s=2.0, spec_size=64, patch_size=4, embed_dim=8, depths=(1, 2, 2), num_heads=(1, 2, 4), window_size=4
)
MODEL = ModelConfig(
    audio="htsat",
    projection="mlp",
    embed_dim=16,
    cnn14=Cnn14Config(channels=(2, 2)),
    htsat=HTSAT,
    text=TextConfig(pooling="pooler", max_tokens=24),
)


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("transformers").setLevel(logging.ERROR)


def scramble(module: torch.nn.Module) -> torch.nn.Module:
    """Give every tensor values of its own, so that no two that are exchanged go unseen."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_mean"):
                tensor.copy_(-25 + 5 * torch.randn(tensor.shape, generator=generator))
            elif name.endswith("running_var"):
                tensor.copy_(100 + 200 * torch.rand(tensor.shape, generator=generator))
            elif tensor.is_floating_point() and tensor.ndim:
                spread = 0.3 if tensor.ndim == 1 else tensor[0].numel() ** -0.5
                tensor.copy_((tensor.ndim == 1) * 0.5 + spread * torch.randn(tensor.shape, generator=generator))
            elif name == "logit_scale":
                tensor.fill_(2.5)
    return module


def small_clap(model: ModelConfig = MODEL, *, kind: str = "roberta", pooler: bool = True):
    tokenizer = train_tokenizer(TEXTS, vocab_size=300, max_tokens=24)
    config = roberta_config(
        vocab_size=300, hidden_size=16, num_layers=2, num_heads=2, ffn_size=32, max_tokens=model.text.max_tokens
    )
    text = text_model(config | {"model_type": kind}, pooler=pooler)
    return scramble(build_clap(model, FEATURES, text=text, tokenizer=tokenizer)).eval()


def sounds(clap, *lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [(0.1 * rng.standard_normal(length)).astype(np.float32) for length in lengths]


def theirs_of(folder):
    """Return the folder's ClapModel, nothing of it missing or left over."""
    from transformers import ClapModel

    model, info = ClapModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


@pytest.fixture(scope="module", params=["mlp", "linear", "linear without bias"])
def exported(request, tmp_path_factory):
    kind, _, without = request.param.partition(" ")
    model = dataclasses.replace(MODEL, projection=kind, projection_bias=not without)
    clap, folder = small_clap(model), tmp_path_factory.mktemp("exported") / "clap"
    return clap, folder, save_transformers(clap, folder)


@torch.inference_mode()
def test_embeddings_and_logits_are_equal(exported):
    clap, folder, _ = exported
    theirs = theirs_of(folder)
    ids = pad(token_ids(clap.tokenizer, TEXTS, max_tokens=clap.max_tokens), pad_id=1)
    text = theirs.get_text_features(*ids).pooler_output
    assert np.abs(text.numpy() - clap.embed_text(TEXTS)).max() < 1e-5
    encoder = clap.audio.encoders["htsat"]
    for frames in (encoder.target_frames, 126, 77, 2):
        generator = torch.Generator().manual_seed(1)
        bands = 30 * torch.randn(3, 1, 32, generator=generator)  # each clip has a colour of its own
        log_mel = bands + 10 * torch.randn(3, frames, 32, generator=generator) - 30
        expected = F.normalize(clap.audio_projection(encoder(log_mel)), dim=1)
        features = theirs.get_audio_features(log_mel[:, None]).pooler_output
        assert (features - expected).abs().max() < 1e-5
        out = theirs(input_ids=ids[0], attention_mask=ids[1], input_features=log_mel[:, None])
        similarity = torch.from_numpy(clap.embed_text(TEXTS)) @ expected.T
        assert (out.logits_per_text / math.exp(2.5) - similarity).abs().max() < 1e-5
        assert (out.logits_per_audio / math.exp(2.5) - similarity.T).abs().max() < 1e-5
        assert expected.std(dim=0).max() > 0.01  # the clips differ, so equality says something
    with pytest.raises(ValueError, match="the wav size should be less than or equal"):
        theirs.get_audio_features(torch.zeros(1, 1, encoder.target_frames + 1, 32))


@torch.inference_mode()
def test_the_processor_reads_sounds_and_texts_as_ours_does(exported):
    from transformers import ClapProcessor

    clap, folder, _ = exported
    processor, theirs = ClapProcessor.from_pretrained(folder), theirs_of(folder)
    waveforms = sounds(clap, 32_000, 31_999, 9_000, 700)
    inputs = processor(
        text=TEXTS, audio=waveforms, sampling_rate=16_000, return_tensors="pt", padding=True, truncation=True
    )
    assert inputs["input_ids"].shape == (3, 24)
    filled = torch.from_numpy(np.stack([np.resize(waveform, 32_000) for waveform in waveforms]))
    log_mel = clap.audio.features["htsat"](filled)
    assert (inputs["input_features"][:, 0] - log_mel).abs().max() < 1e-3  # dB
    out = theirs(**inputs)
    assert np.abs(out.audio_embeds.numpy() - clap.embed_audio(waveforms)).max() < 1e-5
    assert np.abs(out.text_embeds.numpy() - clap.embed_text(TEXTS)).max() < 1e-5


def test_there_and_back_is_the_same_model(exported):
    clap, folder, _ = exported
    state = torch.get_rng_state()
    again, report = read_transformers(folder)
    assert torch.equal(torch.get_rng_state(), state)
    ours, back = clap.state_dict(), again.state_dict()
    assert ours.keys() == back.keys()
    assert all(torch.equal(ours[name], back[name]) for name in ours)
    waveforms = sounds(clap, 32_000, 9_000, 70_000)
    assert np.array_equal(again.embed_audio(waveforms), clap.embed_audio(waveforms))
    assert np.array_equal(again.embed_text(TEXTS), clap.embed_text(TEXTS))
    assert again.description["features"] == clap.description["features"]
    differing = {key for key, value in clap.description["model"].items() if again.description["model"][key] != value}
    assert differing == {"spec_augment", "text", "cnn14"}
    assert not again.training
    assert (again.max_tokens, len(again.sha256)) == (24, 64)
    assert report["missing"] == []
    reasons = {name.rpartition(".")[2]: reason for name, reason in report["dropped"].items()}
    assert reasons["position_ids"] == reasons["relative_position_index"] == "follows from the sizes"
    assert reasons["logit_scale_t"] == "both are meant to be one: logit_scale_a is taken"
    written = load_file(folder / "model.safetensors").keys()
    assert set(report["matched"]) | report["dropped"].keys() == written
    assert not set(report["matched"]) & report["dropped"].keys()


def test_the_model_saved_and_loaded_as_ours_is_the_same(exported, tmp_path):
    from training.models.clap import Clap

    again, _ = read_transformers(exported[1])
    again.save_pretrained(tmp_path)
    assert np.array_equal(Clap.from_pretrained(tmp_path).embed_text(TEXTS), again.embed_text(TEXTS))


def test_notes_say_what_differs(exported):
    clap, _, notes = exported
    assert notes[0].startswith("sounds over 2 s: ClapFeatureExtractor takes a random 2 s")
    assert any("identity" in note for note in notes) == (clap.description["model"]["projection"] == "linear")


def test_a_clip_that_clap_model_cannot_hold_is_cut_to_whole_seconds():
    paper = ModelConfig(audio="htsat")  # 10 s at 44.1 kHz and hop 320: 1,379 frames
    assert extractor_seconds(paper, FeatureConfig()) == 7
    first = export_notes(paper, FeatureConfig(), max_tokens=77)[0]
    assert first.startswith("ClapFeatureExtractor reads 7 s where model.htsat.clip_s is 10: ")
    assert "at most 1024 frames; embeddings of waveforms differ" in first


def test_the_front_end_is_htsats_own_where_it_has_one(tmp_path):
    own = dataclasses.replace(FEATURES, f_min=20.0)
    clap = small_clap(dataclasses.replace(MODEL, htsat=dataclasses.replace(HTSAT, features=own)))
    save_transformers(clap, tmp_path / "clap")
    again, _ = read_transformers(tmp_path / "clap")
    assert again.description["features"]["f_min"] == 20.0
    waveforms = sounds(clap, 32_000, 9_000)
    assert np.array_equal(again.embed_audio(waveforms), clap.embed_audio(waveforms))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@torch.inference_mode()
def test_htsat_at_full_size_is_clap_audio_model(dtype, tolerance):
    from transformers import ClapAudioConfig, ClapAudioModel

    ours = fill(Htsat(num_classes=3), gain=3).to(dtype)
    theirs = ClapAudioModel(ClapAudioConfig()).to(dtype).eval()
    named = htsat_to_transformers(ours.state_dict())
    found = theirs.audio_encoder.load_state_dict(named, strict=False)
    assert found.unexpected_keys == []
    assert all(name.endswith("relative_position_index") for name in found.missing_keys)
    log_mel = 20 * torch.randn(1, 965, 64, dtype=dtype, generator=torch.Generator().manual_seed(1)) - 30
    assert (ours(log_mel) - theirs(log_mel[:, None]).pooler_output).abs().max() < tolerance
    back = htsat_from_transformers(theirs.audio_encoder.state_dict())
    assert all(torch.equal(back[name], x) for name, x in ours.state_dict().items() if "tscam" not in name)
    assert len(back) == len(ours.state_dict()) - 2


@torch.inference_mode()
def difference(htsat: HtsatConfig, n_mels: int) -> float:
    """Return how far ClapAudioModel with our weights is from ours."""
    from transformers import ClapAudioModel

    features = dataclasses.replace(FEATURES, n_mels=n_mels)
    sizes = {key: value for key, value in dataclasses.asdict(htsat).items() if key not in ("clip_s", "features")}
    ours = scramble(Htsat(n_mels=n_mels, **sizes)).eval()
    text = roberta_config(vocab_size=300, hidden_size=16, num_layers=1, num_heads=2, ffn_size=32, max_tokens=24)
    config = clap_config(dataclasses.replace(MODEL, htsat=htsat), features, text).audio_config
    theirs = ClapAudioModel(config).eval()
    theirs.audio_encoder.load_state_dict(htsat_to_transformers(ours.state_dict()), strict=False)
    log_mel = 20 * torch.randn(2, ours.target_frames - 3, n_mels) - 30
    return float((ours(log_mel) - theirs(log_mel[:, None]).pooler_output).abs().max())


@pytest.mark.parametrize(
    ("n_mels", "spec_size", "patch_size", "depths", "window_size"),
    [
        (32, 64, 8, (1, 1), 4),
        (64, 64, 4, (2, 2), 4),
        (32, 64, 4, (2,), 4),
        (32, 96, 8, (2, 2), 6),
        (24, 72, 4, (2, 2), 3),
        (32, 128, 4, (2, 2, 2, 2), 4),
    ],
)
def test_sizes_that_are_exported_are_equal(n_mels, spec_size, patch_size, depths, window_size):
    htsat = HtsatConfig(
        spec_size=spec_size,
        patch_size=patch_size,
        embed_dim=8,
        depths=depths,
        num_heads=(2,) * len(depths),
        window_size=window_size,
    )
    features = dataclasses.replace(FEATURES, n_mels=n_mels)
    text = {"model_type": "roberta"}
    assert export_refusal(dataclasses.replace(MODEL, htsat=htsat), features, text) is None
    assert difference(htsat, n_mels) < 1e-5


@pytest.mark.parametrize(
    ("n_mels", "changes", "message"),
    [
        (32, {"window_size": 8}, "the last grid of HTSAT, 4 x 4 tokens, is smaller than window_size=8"),
        (16, {"spec_size": 256, "patch_size": 8, "window_size": 8}, "the last grid of HTSAT, 8 x 8 tokens"),
    ],
)
def test_sizes_that_are_refused_are_not_equal(n_mels, changes, message):
    htsat = dataclasses.replace(HTSAT, **changes)
    model, features = dataclasses.replace(MODEL, htsat=htsat), dataclasses.replace(FEATURES, n_mels=n_mels)
    assert message in (export_refusal(model, features, {"model_type": "roberta"}) or "")
    with contextlib.suppress(RuntimeError, ZeroDivisionError):  # other shapes of tensors, or no forward pass at all
        assert difference(htsat, n_mels) > 1e-3


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"audio": "cnn14+htsat"}, "roberta", r"its audio tower is cnn14\+htsat, .* model.audio=htsat; the recipe"),
        ({"audio": "cnn14"}, "roberta", "its audio tower is cnn14, "),
        ({"pooling": "first"}, "roberta", "text pooling is 'first'.* tanh, .* train with model.text.pooling=pooler"),
        ({"pooling": "mean"}, "roberta", "text pooling is 'mean'"),
        ({"projection": "residual"}, "roberta", "projections add their first layer .* model.projection=mlp"),
        ({}, "bert", "its text encoder is 'bert', ClapModel's is RoBERTa"),
        ({"htsat": dataclasses.replace(HTSAT, clip_s=0.5)}, "roberta", "counts whole seconds, and .*clip_s=0.5"),
    ],
)
def test_what_a_clap_model_cannot_hold_is_refused(changes, kind, message, tmp_path):
    text = dataclasses.replace(MODEL.text, pooling=changes.get("pooling", "pooler"))
    model = dataclasses.replace(MODEL, text=text, **{k: v for k, v in changes.items() if k != "pooling"})
    with pytest.raises(ConfigError, match=message):
        save_transformers(small_clap(model, kind=kind), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_no_file_stands_for_a_broken_or_unknown_model(tmp_path):
    clap = small_clap()
    with torch.no_grad():
        clap.audio.encoders["htsat"].body.norm.bias[0] = math.nan
    with pytest.raises(ConfigError, match=r"audio_encoder.norm.bias has NaN or infinite values"):
        save_transformers(clap, tmp_path / "new")
    clap.description = {}
    with pytest.raises(ConfigError, match="does not say how it was built"):
        save_transformers(clap, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_only_an_earlier_export_is_written_over(tmp_path, monkeypatch):
    clap = small_clap()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text('{"model_type": "clap"}')
    with pytest.raises(ConfigError, match=r"foreign: holds config.json and is no earlier export"):
        save_transformers(clap, tmp_path / "foreign")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file: is a file; name a folder"):
        save_transformers(clap, str(tmp_path / "file"))
    folder = tmp_path / "clap"
    save_transformers(clap, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    save_transformers(clap, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before

    def fails(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save", fails)
    with pytest.raises(OSError, match="disk full"):
        save_transformers(clap, folder)
    with pytest.raises(ConfigError, match=r"holds neither model.safetensors nor pytorch_model.bin"):
        read_transformers(folder)
    monkeypatch.undo()
    save_transformers(clap, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("kind", ["xlm-roberta", "camembert"])
def test_other_names_of_roberta_are_the_same_tower(kind, tmp_path):
    clap = small_clap(kind=kind)
    save_transformers(clap, tmp_path / "clap")
    again, _ = read_transformers(tmp_path / "clap")
    assert np.array_equal(again.embed_text(TEXTS), clap.embed_text(TEXTS))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder as ClapModel and ClapProcessor save theirs, with what LAION's has: other scales, silence as padding."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

    folder = tmp_path_factory.mktemp("published")
    audio = {"spec_size": 64, "num_mel_bins": 32, "window_size": 4, "patch_embeds_hidden_size": 8, "hidden_size": 16}
    audio |= {"depths": [1, 2], "num_attention_heads": [2, 2]}
    text = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 32, "max_position_embeddings": 30}
    model = scramble(ClapModel(ClapConfig(audio_config=audio, text_config=text, projection_dim=16)))
    with torch.no_grad():
        model.logit_scale_a.fill_(3.0)
    model.save_pretrained(folder)
    extractor = ClapFeatureExtractor(
        feature_size=32,
        sampling_rate=16_000,
        hop_length=256,
        fft_window_size=512,
        frequency_min=0,
        frequency_max=8_000,
        max_length_s=2,
        truncation="rand_trunc",
    )
    ClapProcessor(extractor, train_tokenizer(TEXTS, vocab_size=300, max_tokens=512)).save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(published, tmp_path):
    shutil.copytree(published, tmp_path / "clap")
    return tmp_path / "clap"


@torch.inference_mode()
def test_a_published_model_gives_its_own_embeddings(folder):
    from transformers import ClapProcessor

    clap, report = read_transformers(folder)
    theirs, processor = theirs_of(folder), ClapProcessor.from_pretrained(folder)
    waveforms = sounds(clap, 32_000, 32_000)
    inputs = processor(audio=waveforms, sampling_rate=16_000, return_tensors="pt")
    audio = theirs.get_audio_features(**inputs).pooler_output.numpy()
    assert np.abs(clap.embed_audio(waveforms) - audio).max() < 1e-5
    ids = processor(text=TEXTS, return_tensors="pt", padding=True, truncation=True, max_length=28)
    text = theirs.get_text_features(**ids).pooler_output.numpy()
    assert np.abs(clap.embed_text(TEXTS) - text).max() < 1e-5
    assert clap.max_tokens == 28  # of 30 positions: the tokenizer's 512 would be an index error
    assert (clap.logit_scale.item(), clap.description["features"]["f_min"]) == (3.0, 0.0)
    assert report["dropped"]["logit_scale_t"].endswith("logit_scale_a is taken (3; this is 2.65926)")
    assert "sounds under 2 s: ours go round until they fill it, padding='repeatpad' of theirs" in report["notes"][1]
    assert "dropout of the audio encoder (hidden 0.1, attention 0.0) is left out" in report["notes"][2]


def test_half_precision_pickled_weights_and_the_newer_processor_file(folder):
    expected = read_transformers(folder)[0].embed_text(TEXTS)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(
        {name: x.half() if x.is_floating_point() else x for name, x in weights.items()}, folder / "pytorch_model.bin"
    )
    (folder / "preprocessor_config.json").unlink()  # processor_config.json holds the same
    clap, _ = read_transformers(folder)
    assert clap.text_projection.linear1.weight.dtype == torch.float32
    assert np.abs(clap.embed_text(TEXTS) - expected).max() < 1e-2


def edit(file, **changes):
    """Change keys of a JSON file, dotted by "__"; None takes one out."""
    values = json.loads(file.read_text())
    for key, value in changes.items():
        *path, last = key.split("__")
        place = values
        for name in path:
            place = place[name]
        if value is None:
            place.pop(last)
        else:
            place[last] = value
    file.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, r"config.json: model_type is 'bert', not 'clap'"),
        ({"model_type": None, "text_encoder": {}}, "a model folder of ours loads with Clap.from_pretrained"),
        ({"audio_config__enable_fusion": True}, "enable_fusion is True .feature fusion: four spectrograms"),
        ({"audio_config__mlp_ratio": 3.0}, "mlp_ratio is 3.0; our HTSAT has 4.0"),
        ({"audio_config__patch_stride": [2, 2]}, r"patches of 4 with a stride of .2, 2."),
        ({"audio_config__num_mel_bins": 64}, "the encoder reads 64 mel bands, preprocessor_config.json makes 32"),
        ({"audio_config__spec_size": 80}, "spec_size .80. is no multiple of the 32 mel bands"),
        ({"audio_config__window_size": 16}, "the last grid of HTSAT, 8 x 8 tokens, is smaller than window_size=16"),
        ({"audio_config__window_size": 5}, r"16 tokens a side, which window_size \(5\) must divide"),
        ({"audio_config__hidden_size": 32}, "hidden_size is 32, its encoder gives 16"),
        ({"audio_config__depths": "deep"}, "no configuration of a ClapModel"),
        ({"audio_config": 3}, "no configuration of a ClapModel"),
        ({"audio_config__depths": [1, 1]}, "layers.1.blocks.1.* has no place in the model that config.json describes"),
        ({"audio_config__depths": [1, 3]}, "tensors are missing, the first .*layers.1.blocks.2"),
        ({"audio_config__depths": [1]}, "model.htsat.depths=.1. and model.htsat.num_heads=.2, 2."),
        ({"projection_dim": 8}, r"audio_projection.linear1.bias has shape \(16,\), \(8,\) by config.json"),
        ({"projection_dim": 0}, "model.embed_dim=0 must be"),
        ({"projection_hidden_act": "gelu"}, "projection_hidden_act is 'gelu'; ours is relu"),
        ({"projection_hidden_act": "linear"}, "projection_hidden_act is 'linear'; ours is relu, or a linear layer"),
        ({"logit_scale_init_value": 0.0}, "logit_scale_init_value is 0"),
        (
            {"text_config__pad_token_id": 0},
            r"the tokenizer \(\d+ tokens, padding 1\) does not fit text_config .300, pad",
        ),
        ({"text_config__vocab_size": 20}, r"does not fit text_config \(20, padding 1\)"),
        ({"text_config__hidden_act": "none"}, "text_config: KeyError: 'none'"),
        ({"text_config__num_attention_heads": 3}, "model.text.hidden_size=16 must be a multiple of num_heads=3"),
        ({"text_config__layer_norm_eps": "small"}, "no configuration of a ClapModel"),
        ({"text_config__max_position_embeddings": 3}, "max_tokens=1 must be at least 3"),
    ],
)
def test_other_configurations_are_refused(folder, changes, message):
    edit(folder / "config.json", **changes)
    with pytest.raises(ConfigError, match=message):
        read_transformers(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truncation": "fusion"}, "preprocessor_config.json: truncation is 'fusion', whose mel bands are HTK's"),
        ({"feature_extractor_type": "WhisperFeatureExtractor"}, "is 'WhisperFeatureExtractor', not 'ClapFeat"),
        ({"sampling_rate": None, "hop_length": None}, "it lacks sampling_rate, hop_length"),
        ({"sampling_rate": "fast"}, "sample_rate must be a whole number, got 'fast'"),
        ({"max_length_s": 0}, "max_length_s must be a number of seconds, got 0"),
        ({"frequency_max": 9_000}, "f_max=9000"),
        ({"hop_length": 0}, "hop_length"),
    ],
)
def test_other_front_ends_are_refused(folder, changes, message):
    edit(folder / "preprocessor_config.json", **changes)
    with pytest.raises(ConfigError, match=message):
        read_transformers(folder)


def without(name):
    return lambda weights: weights.pop(name)


QUERY = "audio_model.audio_encoder.layers.0.blocks.0.attention.self."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without("audio_model.audio_encoder.norm.weight"),
            r"1 of \d+ tensors are missing, the first audio_model.*norm",
        ),
        (without(QUERY + "key.weight"), "1 of .* missing, the first .*self.key.weight"),
        (without("audio_projection.linear2.bias"), "audio_projection.linear2.bias is missing"),
        (without("logit_scale_a"), "missing, the first logit_scale_a"),
        (lambda w: w.update({QUERY + "query.bias": torch.zeros(9)}), r"query.bias has shape \(9,\), \(8,\) by config"),
        (lambda w: w["text_model.pooler.dense.weight"].fill_(math.nan), "pooler.dense.weight has NaN or infinite"),
        (lambda w: w["text_model.pooler.dense.weight"].fill_(-math.inf), "pooler.dense.weight has NaN or infinite"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, change, message):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=message) as caught:
        read_transformers(folder)
    assert str(caught.value).count(str(folder)) == 1


def test_tensors_without_a_place_are_reported(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"head.weight": torch.zeros(2)}, folder / "model.safetensors")
    report = read_transformers(folder)[1]
    assert report["dropped"]["head.weight"] == "no part of a ClapModel"
    assert "head.weight" not in report["matched"]


def test_missing_and_damaged_files_are_named(folder, tmp_path):
    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ConfigError, match=r"model.safetensors"):
        read_transformers(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"holds neither model.safetensors nor pytorch_model.bin"):
        read_transformers(folder)
    for name in ("processor_config.json", "preprocessor_config.json"):
        (folder / name).unlink()
    with pytest.raises(ConfigError, match=r"preprocessor_config.json: missing, and no other file says what sample"):
        read_transformers(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config.json: not JSON"):
        read_transformers(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"config.json: must hold an object"):
        read_transformers(folder)
    with pytest.raises(ConfigError, match=r"nowhere/config.json: missing; a transformers ClapModel folder has it"):
        read_transformers(tmp_path / "nowhere")


def test_a_folder_without_a_tokenizer_is_named(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ConfigError, match="holds no tokenizer"):
        read_transformers(folder)


@torch.inference_mode()
def test_the_recipe_for_export_exports(tmp_path):
    """Audio at the paper's size; its text encoder is a small one, as no published one is at hand."""
    from transformers import ClapProcessor

    small = ("model.text.encoder=scratch", "model.text.max_tokens=24", "model.text.vocab_size=300")
    assert load_recipe("export").model.text.encoder == "roberta-base"
    config = load_recipe("export", small)
    torch.manual_seed(0)
    clap = new_clap(config.model, config.features, captions=TEXTS).eval()
    notes = save_transformers(clap, tmp_path / "clap")
    assert notes[0].startswith("sounds over 7 s")
    waveform = sounds(clap, 7 * 44_100)[0]
    inputs = ClapProcessor.from_pretrained(tmp_path / "clap")(audio=waveform, sampling_rate=44_100, return_tensors="pt")
    assert inputs["input_features"].shape == (1, 1, 965, 64)
    audio = theirs_of(tmp_path / "clap").get_audio_features(**inputs).pooler_output
    assert np.abs(audio.numpy() - clap.embed_audio([waveform])).max() < 1e-5
