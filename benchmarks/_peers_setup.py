"""What benchmarks/peers.py needs of the peers before it can compare: their packages, weights, texts and sounds.

Nothing is fetched. Where a package asks a network for files as it is imported or built (tokenizers, labels, weights of
a text encoder), it is given what is made here, and nothing that is measured comes from those. Two packages that are
imported at the top and used for files and downloads alone, torchaudio and wget, are stood in for by empty modules.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from _peer_models import GET_PEERS, PeerMissingError
from torch import Tensor, nn

from training.models.compat import prepare_torchvision

ROBERTA_BASE: dict[str, Any] = {
    "vocab_size": 50_265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
"""What the published config.json of roberta-base says and RobertaConfig() does not."""
TEXTS = (
    "A low bell is struck twice and fades slowly.",
    "rain",
    "Heavy rain falls on a tin roof while a dog barks at a passing train, far away; then a door slams shut",
)
_COMPUTED = ("spectrogram_extractor.", "logmel_extractor.", "attn_mask")
_EMPTY = ("torchaudio", "torchaudio.transforms", "wget")


@dataclass(frozen=True)
class Peers:
    """The peers' packages."""

    panns: Any
    """panns_inference.models"""
    laion: Any
    """laion_clap"""
    laion_data: Any
    """laion_clap.training.data"""
    msclap: Any
    """msclap.CLAPWrapper, the module"""
    msclap_htsat: Any
    """msclap.models.htsat"""


def import_peers(tokenizer: Any) -> Peers:
    """Return the peers' packages, none of which asks a network for anything.

    Args:
        tokenizer: What LAION's package gets when it loads roberta-base's.

    Raises:
        PeerMissingError: If one is not there; says how to get it.
    """
    prepare_torchvision()
    importlib.import_module("transformers")  # which looks for torchaudio, and must find that it is not there
    empty = {name: ModuleType(name) for name in _EMPTY if name not in sys.modules}
    sys.modules.update(empty)
    _bare_package("panns_inference")  # importing it downloads the labels of AudioSet
    try:
        with warnings.catch_warnings(), offline(tokenizer):
            warnings.simplefilter("ignore")
            found = Peers(
                panns=importlib.import_module("panns_inference.models"),
                laion=importlib.import_module("laion_clap"),
                laion_data=importlib.import_module("laion_clap.training.data"),
                msclap=importlib.import_module("msclap.CLAPWrapper"),
                msclap_htsat=importlib.import_module("msclap.models.htsat"),
            )
    except ImportError as error:
        raise PeerMissingError(f"{error}: {GET_PEERS}") from error
    finally:
        for name in empty:
            del sys.modules[name]
    return found


@contextmanager
def offline(tokenizer: Any) -> Iterator[None]:
    """Let transformers' classes build what they would fetch: models with random weights, and the given tokenizer."""
    import transformers

    built: dict[str, Callable[[], Any]] = {
        "roberta-base": lambda: transformers.RobertaModel(transformers.RobertaConfig(**ROBERTA_BASE)),
        "bert-base-uncased": lambda: transformers.BertModel(transformers.BertConfig()),
        "gpt2": lambda: transformers.GPT2Model(transformers.GPT2Config()),
    }
    models = (transformers.RobertaModel, transformers.AutoModel)
    tokenizers = (
        *(transformers.RobertaTokenizer, transformers.BertTokenizer, transformers.BartTokenizer),
        transformers.AutoTokenizer,
    )
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(mock.patch.object(model, "from_pretrained", lambda name, **_: built[name]()))
        for kind in tokenizers:
            stack.enter_context(mock.patch.object(kind, "from_pretrained", return_value=tokenizer))
        yield


def _bare_package(name: str) -> None:
    """Make a package whose modules can be imported without its ``__init__``."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise PeerMissingError(f"{name} is missing: {GET_PEERS}")
    package = ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = package


@torch.no_grad()
def fill(model: nn.Module, *, seed: int, gain: float = 3.0) -> None:
    """Give a model random weights, in evaluation mode, under which every tensor matters.

    Biases, norms and running statistics too: at their usual start, a tensor in the wrong place would go unseen.

    Args:
        model: Of any class; what its class computes (front end, index and mask buffers) is left alone.
        seed: Of the weights.
        gain: 6 where ReLU follows the convolutions, so that deep outputs keep their size.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(seed + 1)
        elif tensor.is_floating_point() and not any(part in name for part in _COMPUTED):
            v = torch.rand(tensor.shape, generator=generator) * 2 - 1
            tensor.copy_(_scaled(name, v, gain))
    model.eval()


def _scaled(name: str, v: Tensor, gain: float) -> Tensor:
    """Return the values of one tensor, of uniform ones in (-1, 1)."""
    is_first_norm = "bn0." in name or "batch_norm." in name
    if name.endswith("running_var"):
        return 500 + 100 * v if is_first_norm else 1.25 + 0.25 * v
    if name.endswith("running_mean"):
        return -25 + 10 * v if is_first_norm else 0.1 * v
    if name.endswith("relative_position_bias_table"):
        return 0.5 * v
    if v.ndim == 0:
        return 2.6 + 0.5 * v  # a logit scale
    if name.endswith("bias"):
        return 0.1 * v
    if v.ndim == 1:
        return 1 + 0.1 * v
    return v * math.sqrt((gain if v.ndim == 4 else 3) / math.prod(v.shape[1:]))


def sounds(sample_rate: int, seconds: float) -> Tensor:
    """Return two different sounds (2, S), float32: a rising and a falling chirp over noise, so that order shows."""
    count = round(sample_rate * seconds)
    t = np.arange(count) / sample_rate
    noise = np.random.default_rng(count).standard_normal((2, count))
    rising = 60 * t + (5_000 / seconds) * t**2
    falling = 9_000 * t - (4_000 / seconds) * t**2
    chirps = np.stack([0.3 * np.sin(2 * np.pi * rising), 0.2 * np.sin(2 * np.pi * falling)])
    return torch.from_numpy((chirps + 0.02 * noise).astype(np.float32))


def roberta_tokenizer() -> Any:
    """Return a tokenizer with the size and the special ids of roberta-base's, whose own vocabulary is not at hand.

    Byte-level BPE like that; its merges are the pairs of bytes, in order.
    """
    prepare_torchvision()
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    first = ["<s>", "<pad>", "</s>", "<unk>", *alphabet]
    merges = list(itertools.islice(itertools.product(alphabet, alphabet), ROBERTA_BASE["vocab_size"] - len(first) - 1))
    tokens = [*first, *(a + b for a, b in merges), "<mask>"]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    special = {
        "bos": "<s>",
        "cls": "<s>",
        "eos": "</s>",
        "sep": "</s>",
        "pad": "<pad>",
        "unk": "<unk>",
        "mask": "<mask>",
    }
    wrap: Any = PreTrainedTokenizerFast
    return wrap(
        tokenizer_object=tokenizer,
        model_max_length=512,
        **{f"{role}_token": token for role, token in special.items()},
    )


def save_tokenizer(folder: Path) -> Path:
    """Write the tokenizer's files into a folder; returns the folder."""
    roberta_tokenizer().save_pretrained(folder)
    return folder
