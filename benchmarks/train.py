"""What several processes cost a training step, and how long a GPU waits for its data.

    python benchmarks/train.py                      # two processes over gloo, at the width of recipe paper-d
    python benchmarks/train.py --tiny               # the same in seconds; its figures say nothing
    python benchmarks/train.py epoch                # a GPU: steps of paper-d from a cache of decoded clips
    python benchmarks/train.py epoch --tiny         # the same on a CPU, to try the program

The first starts two processes that take training steps through DDP: forward, gather, loss, backward (gradients are
averaged while it runs) and Adam, for --pairs pairs each, 20 s of sound for CNN14, 10 s for HTSAT, 32 tokens, RoBERTa of
its own size with random weights. Between the steps, after the processes have met, the gather alone runs on embeddings
of the same size: both towers' rows and the keys forward, both towers' gradients backward. What one waits for the other
in a step is not gather's doing, and is not in it. The equality of gradients is shown on the same model in small, in
float64: both processes' beside those of one process with the joined batch.

The second makes a manifest of synthetic clips, decodes it into a cache, trains recipe paper-d (random weights, RoBERTa
of its own size) on it through the training command's own loop, and reads pairs a second and the share of the time that
steps waited for data from metrics.jsonl; the first ten steps are left out. Its bar is a share under 5 %.

Measures and does not judge: exits 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _path  # noqa: F401  # curation.py beside this file has the name of a package
import numpy as np
import torch
import torch.distributed as dist
from _machine import cores, cpu_model, spread, versions
from torch.nn.parallel import DistributedDataParallel

from training.config import TrainConfig
from training.gather import gather_embeddings, gather_keys
from training.losses import contrastive_loss, same_clip_mask
from training.models.build import build_clap, clip_samples
from training.models.clap import Clap
from training.models.text import roberta_config, text_model
from training.optim import make_optimizer
from training.parallel import Processes, joined
from training.recipe import load_recipe

BAR_GATHER, BAR_WAIT = 0.05, 0.05
WORLD = 2
TOKENS = 32
SMALL = (
    *("model.embed_dim=64", "model.cnn14.channels=[4,8,16,16,32]", "model.cnn14.clip_s=0.5", "model.htsat.clip_s=0.5"),
    *(
        "model.htsat.spec_size=64",
        "model.htsat.embed_dim=16",
        "model.htsat.depths=[1,1]",
        "model.htsat.num_heads=[2,4]",
    ),
)


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="?", default="gather", choices=("gather", "epoch", "process"))
    parser.add_argument("--tiny", action="store_true", help="a model for trying this program")
    parser.add_argument("--pairs", type=int, default=8, help="of each process (gather)")
    parser.add_argument("--steps", type=int, default=0, help="measured (gather: 3; epoch: 200)")
    parser.add_argument("--repeats", type=int, default=20, help="of the gather alone, after each step")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "process":
        _process(options)
    elif options.what == "gather":
        _gather(options)
    else:
        _epoch(options)


def _gather(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        own = [a for a in sys.argv[1:] if a != "gather"]
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(WORLD),
            __file__,
            "process",
        ]
        subprocess.run([*command, "--out", folder, *own], check=True)
        found = [json.loads((Path(folder) / f"{rank}.json").read_text("utf-8")) for rank in range(WORLD)]
    print(f"{cpu_model()}, {cores()} cores, {WORLD} processes of {found[0]['threads']} thread over gloo")
    print(", ".join(f"{name} {number}" for name, number in versions(("torch", "timm", "transformers")).items()))
    print(
        f"{found[0]['parameters']:,} parameters, {options.pairs} pairs a process, embeddings of {found[0]['width']}\n"
    )
    steps, gathers = found[0]["steps"], found[0]["gathers"]
    print(f"step, s                    {spread(steps)}   of {len(steps)}")
    print(f"gather alone, ms           {spread([1000 * g for g in gathers])}   of {len(gathers)}")
    share = statistics.median(gathers) / statistics.median(steps)
    print(f"gather / step              {share:.5f}   bar {BAR_GATHER}: {'met' if share < BAR_GATHER else 'not met'}")
    worst = max(result["difference"] for result in found)
    print(f"gradients, largest relative difference to one process, float64: {worst:.1e}")


def _process(options: argparse.Namespace) -> None:
    """Be one of the two processes; writes what it found."""
    torch.set_num_threads(max(1, cores() // WORLD))
    config = load_recipe("paper-d", ["init.cnn14=none", "init.htsat=none", *(SMALL if options.tiny else ())])
    with joined(torch.device("cpu")) as processes:
        result = _measured(config, options, processes)  # its DDP model is gone before the group is: else both can hang
        (options.out / f"{processes.rank}.json").write_text(json.dumps(result), "utf-8")


def _measured(config: TrainConfig, options: argparse.Namespace, processes: Processes) -> dict[str, Any]:
    difference = _difference(processes.rank)
    model = _model(config)
    wrapped = DistributedDataParallel(model)
    optimizer = make_optimizer(model, config.optimizer)
    batch = _batch(config, options.pairs, seed=processes.rank)
    keys = torch.arange(2 * options.pairs).view(-1, 2)
    steps, gathers = [], []
    for number in range((options.steps or 3) + 1):  # the first warms up
        processes.wait()
        begun = time.perf_counter()
        optimizer.zero_grad()
        audio, text = wrapped(*batch)
        mask = same_clip_mask(gather_keys(keys))
        audio, text = gather_embeddings(audio), gather_embeddings(text)
        contrastive_loss(audio, text, model.logit_scale.exp(), same_clip=mask).backward()
        optimizer.step()
        processes.wait()
        if number:
            steps.append(time.perf_counter() - begun)
            gathers += [_gather_alone(options.pairs, model.embed_dim, keys) for _ in range(options.repeats)]
    return {
        "steps": steps,
        "gathers": gathers,
        "difference": difference,
        "threads": torch.get_num_threads(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "width": model.embed_dim,
    }


def _gather_alone(pairs: int, width: int, keys: torch.Tensor) -> float:
    audio, text = (torch.randn(pairs, width, requires_grad=True) for _ in range(2))
    dist.barrier()
    begun = time.perf_counter()
    gather_keys(keys)
    (gather_embeddings(audio).sum() + gather_embeddings(text).sum()).backward()
    return time.perf_counter() - begun


def _difference(rank: int) -> float:
    """Return the largest difference of a process's gradients to those of one process with the joined batch."""
    config = load_recipe("paper-d", ["init.cnn14=none", "init.htsat=none", *SMALL])
    model = _model(config, small=True).double().eval()
    for encoder in model.audio.encoders.values():  # decibels in, units on
        encoder.bn0.running_mean.fill_(-30)
        encoder.bn0.running_var.fill_(400)
    waveforms, input_ids, mask = _batch(config, 4 * WORLD, seed=9)
    waveforms = {name: waveform.double() for name, waveform in waveforms.items()}
    own = slice(4 * rank, 4 * rank + 4)
    part = {name: waveform[own] for name, waveform in waveforms.items()}, input_ids[own], mask[own]
    loss = contrastive_loss(*model(waveforms, input_ids, mask), model.logit_scale.exp())
    whole = torch.autograd.grad(loss, list(model.parameters()))
    wrapped = DistributedDataParallel(model)
    audio, text = wrapped(*part)
    contrastive_loss(gather_embeddings(audio), gather_embeddings(text), model.logit_scale.exp()).backward()
    floor = 1e-6 * max(expected.norm() for expected in whole)  # keys' biases have no gradient but rounding
    return max(
        float((parameter.grad - expected).norm() / expected.norm().clamp(min=floor))
        for parameter, expected in zip(model.parameters(), whole, strict=True)
        if parameter.grad is not None
    )


def _model(config: TrainConfig, *, small: bool = False) -> Clap:
    """Return the recipe's model with random weights and RoBERTa-base's sizes; it reads ids, so it has no tokenizer."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "ffn_size": 3072}
    if small or config.model.embed_dim < 1024:
        sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "ffn_size": 64}
    text = text_model(roberta_config(vocab_size=50_265, max_tokens=77, dropout=0.1, **sizes), pooler=False)
    return build_clap(config.model, config.features, text=text, tokenizer=None)


def _batch(config: TrainConfig, pairs: int, *, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    samples = clip_samples(config.model, config.features)
    waveforms = {name: 0.1 * torch.randn(pairs, size, generator=generator) for name, size in samples.items()}
    input_ids = torch.randint(5, 50_000, (pairs, TOKENS), generator=generator)
    return waveforms, input_ids, torch.ones_like(input_ids)


def _epoch(options: argparse.Namespace) -> None:
    from training.engine import train

    on_gpu = torch.cuda.is_available()
    steps = options.steps or 200
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        batch, clips = (8, 24) if options.tiny else (128, 256)
        _synthetic_manifest(folder / "data", clips=clips, seconds=1.0 if options.tiny else 20.0)
        visits = steps * batch
        overrides = [
            *("init.cnn14=none", "init.htsat=none", "model.text.encoder=scratch", "data.captions=each"),
            f"data.train=[{{manifest: {folder / 'data'}, splits: [train], weight: {visits / clips}}}]",
            *(f"data.pcm_cache={folder / 'cache'}", f"data.workers={min(8, cores())}", f"run.folder={folder}"),
            *("run.epochs=1", f"run.batch_size={batch}", "run.log_every=10", "checkpoint.every=1000000"),
            *(SMALL if options.tiny else _ROBERTA),
            *(("run.precision=bfloat16",) if on_gpu else ()),
        ]
        config = load_recipe("paper-d", overrides)
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, name="epoch"))
        train(config)
        lines = [json.loads(line) for line in (folder / "epoch" / "metrics.jsonl").read_text("utf-8").splitlines()]
    lines = [line for line in lines if line["kind"] == "train" and line["step"] > 10]
    device = torch.cuda.get_device_name() if on_gpu else cpu_model()
    print(f"{device}, {cores()} cores, {config.data.workers} reading processes, batch {batch}, {steps} steps")
    print(f"pairs a second             {spread([line['pairs_per_s'] for line in lines], 1)}")
    waits = [line["data_wait"] for line in lines]
    share = statistics.mean(waits)
    verdict = "met" if share < BAR_WAIT else "not met"
    print(f"share waiting for data     {share:.3f} ({min(waits):.3f}-{max(waits):.3f})   bar {BAR_WAIT}: {verdict}")


_ROBERTA = (
    *("model.text.hidden_size=768", "model.text.num_layers=12", "model.text.num_heads=12", "model.text.ffn_size=3072"),
    "model.text.vocab_size=50265",
)


def _synthetic_manifest(folder: Path, *, clips: int, seconds: float) -> None:
    """Write a manifest of noise at 44.1 kHz, through the curation's own import."""
    import soundfile

    rng = np.random.default_rng(0)
    sounds = folder.with_name("sounds")
    sounds.mkdir()
    for number in range(clips):
        noise = rng.normal(0, 0.05, round(seconds * 44_100))
        soundfile.write(sounds / f"noise {number}.wav", noise, 44_100)
    command = [sys.executable, "-m", "curation.cli", "import", "folder", str(sounds), "--out", str(folder)]
    subprocess.run([*command, "--val-fraction", "0", "--test-fraction", "0"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
