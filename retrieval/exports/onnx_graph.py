"""The two ONNX graphs of a model: sounds of any length, and token ids, to embeddings.

    audio    waveform_<rate> (B, S) float32, one input for each rate that encoders read at    ->  embeddings (B, D)
    text     input_ids, attention_mask (B, L) int64                                           ->  embeddings (B, D)

The audio graph holds the whole rule of ``training.models.clap``: short sounds go round, long ones are cut into windows,
inside it. Windows are encoded one after the other in a Loop, B sounds at a time, so that memory does not grow with the
length: ten minutes at once would take gigabytes. Below, the graph is written in ONNX's own text form, in which two
operators of ours stand where the traced encoders and projection are put in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import torch
from onnx import compose, helper

from retrieval.exports.onnx_parts import OPSET, AudioHead, TextTower, WindowEncoders, to_onnx
from retrieval.exports.readings import Reading, readings_of

if TYPE_CHECKING:
    from training.models.clap import Clap

EMBEDDINGS = "embeddings"
"""The output of both graphs."""
_BATCH = 2
"""Of the examples that are traced: a batch of 1 would be taken for a constant."""

_SOUNDS = """
sounds ({inputs}) => (float[batch, {embed_dim}] {embeddings})
<int64 zero = {{0}}, int64 one = {{1}}>
{{
{readings}
    averages = Concat <axis = 1> ({means})
    {embeddings} = Head (averages)
}}
"""
_READING = """
    size_{r} = Constant <value_int = {size}> ()
    batch_{r} = Shape <start = 0, end = 1> ({waveform})
    samples_{r} = Shape <start = 1, end = 2> ({waveform})
    whole_{r} = Squeeze (samples_{r})
    last_{r} = Sub (size_{r}, one)
    up_{r} = Add (whole_{r}, last_{r})
    count_{r} = Div (up_{r}, size_{r})
    before_{r} = Sub (count_{r}, one)
    gaps_{r} = Max (before_{r}, one)
    room_{r} = Sub (whole_{r}, size_{r})
    steps_{r} = Range (zero, size_{r}, one)
    width_{r} = Constant <value_ints = [{width}]> ()
    shape_{r} = Concat <axis = 0> (batch_{r}, width_{r})
    nothing_{r} = ConstantOfShape (shape_{r})
    sum_{r} = Loop (count_{r}, , nothing_{r}) <body = step_{r} (
        int64 number_{r}, bool going_{r}, float[batch, {width}] sofar_{r}
    ) => (bool still_{r}, float[batch, {width}] more_{r}) {{
        still_{r} = Identity (going_{r})
        share_{r} = Mul (number_{r}, room_{r})
        start_{r} = Div (share_{r}, gaps_{r})
        along_{r} = Add (start_{r}, steps_{r})
        round_{r} = Mod (along_{r}, whole_{r})
        window_{r} = Gather <axis = 1> ({waveform}, round_{r})
        features_{r} = Encode (window_{r})
        more_{r} = Add (sofar_{r}, features_{r})
    }}>
    divisor_{r} = Cast <to = 1> (count_{r})
    mean_{r} = Div (sum_{r}, divisor_{r})
"""
"""count = ceil(S / size)
start_i = i (S - size) // max(count - 1, 1), window_i = waveform[(start_i + 0..size - 1) % S]."""


def audio_graph(model: Clap) -> onnx.ModelProto:
    """Return the graph of sounds of any length, at least one sample."""
    readings = readings_of(model)
    encoders = [_encoders_graph(model, reading, number) for number, reading in enumerate(readings)]
    widths = [graph.output[0].type.tensor_type.shape.dim[1].dim_value for graph in encoders]
    rates = dict.fromkeys((reading.waveform, reading.sample_rate) for reading in readings)
    means = [f"mean_{number}" for number in range(len(readings))]
    text = _SOUNDS.format(
        inputs=", ".join(f"float[batch, samples_{rate}] {waveform}" for waveform, rate in rates),
        embed_dim=model.embed_dim,
        embeddings=EMBEDDINGS,
        readings="".join(
            _READING.format(r=number, waveform=reading.waveform, size=reading.window_samples, width=width)
            for number, (reading, width) in enumerate(zip(readings, widths, strict=True))
        ),
        means=", ".join(means),
    )
    graph = onnx.parser.parse_graph(text)
    loops = [node.attribute[0].g for node in graph.node if node.op_type == "Loop"]
    for body, inside in zip(loops, encoders, strict=True):
        _put_in(inside, body, "Encode")
    names = [name for reading in readings for name in reading.names]
    averages = {"averages": torch.zeros(_BATCH, sum(widths))}
    head = to_onnx(
        AudioHead(model, names), averages, output=EMBEDDINGS, dynamic={0: "batch"}, what="the audio projection"
    )
    _put_in(_prefixed(head.graph, "head_"), graph, "Head")
    return _model(graph)


def text_graph(model: Clap) -> onnx.ModelProto:
    """Return the graph of texts; a row's mask keeps its first token at least."""
    ids = torch.full((_BATCH, 5), 3)
    kind = model.text.config["model_type"]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    traced = to_onnx(
        TextTower(model),
        inputs,
        output=EMBEDDINGS,
        dynamic={0: "batch", 1: "tokens"},
        what=f"the text encoder ({kind})",
    )
    return _model(traced.graph)


def _encoders_graph(model: Clap, reading: Reading, number: int) -> onnx.GraphProto:
    window = {f"window_{number}": torch.zeros(_BATCH, reading.window_samples)}
    traced = to_onnx(
        WindowEncoders(model, reading.names),
        window,
        output=f"features_{number}",
        dynamic={0: "batch"},
        what=" and ".join(reading.names),
    )
    return _prefixed(traced.graph, f"encoders_{number}_")


def _prefixed(graph: onnx.GraphProto, prefix: str) -> onnx.GraphProto:
    """Return a graph whose names, but for inputs and outputs, begin with a prefix: one name, one value in ONNX."""
    return compose.add_prefix_graph(graph, prefix, rename_inputs=False, rename_outputs=False)


def _put_in(inside: onnx.GraphProto, graph: onnx.GraphProto, operator: str) -> None:
    """Put a graph in the place of a node, whose inputs and outputs have the same names."""
    nodes = list(graph.node)
    place = next(index for index, node in enumerate(nodes) if node.op_type == operator)
    del graph.node[:]
    graph.node.extend([*nodes[:place], *inside.node, *nodes[place + 1 :]])
    graph.initializer.extend(inside.initializer)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    """Return a graph as a model, without what the exporter notes at each node: lines of source and their places."""
    _strip(graph)
    opset = helper.make_opsetid("", OPSET)
    oldest = helper.find_min_ir_version_for([opset])  # which the runtimes open that know the opset
    return helper.make_model(graph, opset_imports=[opset], ir_version=oldest, producer_name="wavtext5k")


def _strip(graph: onnx.GraphProto) -> None:
    graph.ClearField("metadata_props")
    graph.ClearField("value_info")
    for node in graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)
