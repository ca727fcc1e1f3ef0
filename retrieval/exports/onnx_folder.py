"""A model as two ONNX graphs in a folder, each compared with the model in onnxruntime before anything else sees it.

audio.onnx  text.onnx    the graphs (retrieval.exports.onnx_graph); over 2 GB, weights lie in <name>.data beside
config.json              inputs, rates, windows, sizes, what was checked, versions, sha256 of the files
tokenizer.json, ...      as transformers' AutoTokenizer opens it
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crawler.items import open_whole
from curation.audio import resample
from retrieval.exports.checks import TEXTS, Checked, check, difference, sound
from retrieval.exports.folder import CONFIG_FILE, ExportError
from retrieval.exports.readings import readings_of
from training.checkpoint import save_tokenizer

if TYPE_CHECKING:
    import onnx
    import onnxruntime

    from training.models.clap import Clap

AUDIO_FILE, TEXT_FILE = "audio.onnx", "text.onnx"
LARGEST_BYTES = 2**31 - 2**20
"""Of a file with its weights inside: protobuf ends at 2 GiB, and the graph needs some."""


def check_installed() -> None:
    """Refuse to begin without what ONNX needs.

    Raises:
        ExportError: Naming the extra.
    """
    if absent := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise ExportError(f'exporting to ONNX needs {absent[0]}, of the export extra: pip install -e ".[export]"')


def write_onnx(model: Clap, folder: Path, *, say: Callable[[str], None], largest_bytes: int = LARGEST_BYTES) -> Checked:
    """Write a model's graphs, config.json and tokenizer; return how far they are from the model.

    Args:
        model: On the CPU, all weights finite.
        folder: An empty one.
        say: Called with what is being done.
        largest_bytes: Files of graphs with more weights have them in a file beside.

    Raises:
        ExportError: If PyTorch cannot export an encoder, or embeddings differ by more than the limit.
    """
    from retrieval.exports.onnx_graph import audio_graph, text_graph

    say("exporting the audio tower")
    _save(audio_graph(model), folder / AUDIO_FILE, largest_bytes=largest_bytes)
    say("exporting the text tower")
    _save(text_graph(model), folder / TEXT_FILE, largest_bytes=largest_bytes)
    save_tokenizer(model.tokenizer, folder)
    say("comparing embeddings in onnxruntime with the model's own")
    checked = check(
        audio=_audio_differences(model, folder / AUDIO_FILE), text=_text_differences(model, folder / TEXT_FILE)
    )
    config = _config(model) | {"sha256": {file.name: _sha256(file) for file in sorted(folder.iterdir())}}
    with open_whole(folder / CONFIG_FILE, "w") as whole:
        whole.write(json.dumps(config, ensure_ascii=False) + "\n")
    return checked


def _config(model: Clap) -> dict[str, Any]:
    """Return what a program has to know to use the graphs."""
    from retrieval.exports.onnx_graph import EMBEDDINGS

    readings = readings_of(model)
    audio = {
        "file": AUDIO_FILE,
        "inputs": {reading.waveform: {"sample_rate": reading.sample_rate} for reading in readings},
        "windows": [
            {"encoders": reading.names, "input": reading.waveform, "samples": reading.window_samples}
            for reading in readings
        ],
        "output": EMBEDDINGS,
    }
    text = {
        "file": TEXT_FILE,
        "inputs": ["input_ids", "attention_mask"],
        "max_tokens": model.max_tokens,
        "pad_token_id": model.tokenizer.pad_token_id,
        "padding_side": "right",
        "output": EMBEDDINGS,
    }
    return {
        "embed_dim": model.embed_dim,
        "scale": float(model.logit_scale.detach().exp()),
        "audio": audio,
        "text": text,
    }


def _save(graph: onnx.ModelProto, path: Path, *, largest_bytes: int) -> None:
    """Write a graph; its weights go into a file beside it if one file cannot hold them."""
    import onnx

    if _weight_bytes(graph.graph) <= largest_bytes:
        with open_whole(path) as file:
            file.write(graph.SerializeToString())
    else:
        onnx.save_model(graph, path, save_as_external_data=True, location=f"{path.name}.data")
        path.with_name(f"{path.name}.data").chmod(path.stat().st_mode)  # it is made for its owner's eyes alone


def _weight_bytes(graph: onnx.GraphProto) -> int:
    inside = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return sum(len(weight.raw_data) for weight in graph.initializer) + sum(map(_weight_bytes, inside))


def _session(path: Path) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _audio_differences(model: Clap, path: Path) -> Iterator[float]:
    """Yield how far the graph is from the model: sounds under, of, and over one window, alone and in a batch."""
    session, rate = _session(path), model.sample_rate
    readings = readings_of(model)
    windows_s = [reading.window_samples / reading.sample_rate for reading in readings]
    for seconds, batch in (
        (0.1 * min(windows_s), 1),
        (0.7 * min(windows_s), 3),
        (min(windows_s), 1),
        (max(windows_s), 1),
        (1.4 * max(windows_s), 3),
        (4.3 * max(windows_s), 1),
    ):
        waveforms = [sound(max(1, round(seconds * rate)), sample_rate=rate, seed=seed) for seed in range(batch)]
        inputs = {
            reading.waveform: np.stack(
                [resample(waveform, source_rate=rate, target_rate=reading.sample_rate) for waveform in waveforms]
            )
            for reading in readings
        }
        yield difference(session.run(None, inputs)[0], model.embed_audio(waveforms))


def _text_differences(model: Clap, path: Path) -> Iterator[float]:
    """Yield how far the graph is from the model: texts alone and padded in a batch."""
    session = _session(path)
    for texts in (*([text] for text in TEXTS), list(TEXTS)):
        # as a user of the folder does, not as the model does itself
        tokens = model.tokenizer(
            texts, padding=True, padding_side="right", truncation=True, max_length=model.max_tokens, return_tensors="np"
        )
        inputs = {name: tokens[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
        yield difference(session.run(None, inputs)[0], model.embed_text(texts))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
