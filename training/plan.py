"""What a recipe will cost before it runs: data, steps, parameters, operations, memory and time.

Nothing is trained, fetched or written. A plan is made of what is there: data and weights that are missing, and settings
that this machine cannot do, are listed as problems, which training would stop at; everything that does not depend on
them is counted all the same. Only a recipe that cannot be, on any machine, ends the plan with an error.

The time is that of the steps alone, at a rate measured on this device and an assumed share of it, or by real steps.
Evaluation, reading that cannot keep up, and what processes tell each other come on top.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from curation.errors import ConfigError
from training.config import TrainConfig
from training.device import check_device, choose_device
from training.init import check_init
from training.models.batchnorm import check_batch_norm
from training.plan_captions import plan_text
from training.plan_data import DataPlan, plan_data
from training.plan_model import ModelCost, count_model, model_of_shapes
from training.plan_speed import UTILISATION, Rate, Steps, measure_rate, measure_steps
from training.recipe import UsageError
from training.trackers import check_trackers

_ROOM = 0.8
"""Share of a device's memory that a plan fills: operators' workspace, and what autograd makes on the way back, take
some too."""
_PATIENCE_S = 5.0
"""Of a measured step on a CPU, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on one device in a step."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    """Of optimizer.ema_decay."""
    buckets: int
    """Gradients once more, as processes exchange them."""
    activations: int
    sound: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The cost of a recipe."""

    config: TrainConfig
    processes: int
    device: str
    """What was timed."""
    is_on_cpu: bool
    at_once: int
    """Pairs that a process holds at once: its share of the batch, or a chunk of it."""
    data: DataPlan
    model: ModelCost
    memory: Memory
    device_bytes: int | None
    """Memory of the device; None where it is not the recipe's."""
    rate: Rate
    utilisation: float
    measured: Steps | None
    problems: list[str]
    """What training would stop at."""
    warnings: list[str]
    notes: list[str]
    """What was assumed."""

    @property
    def is_ready(self) -> bool:
        """Whether training would begin."""
        return not self.problems

    @property
    def share(self) -> int:
        """Pairs of a batch for each process."""
        return self.config.run.batch_size // self.processes

    @property
    def steps(self) -> int | None:
        """Of the whole run."""
        return None if self.data.steps_per_epoch is None else self.data.steps_per_epoch * self.config.run.epochs

    @property
    def is_chunked(self) -> bool:
        return self.at_once < self.share

    @property
    def operations_a_pair(self) -> float:
        """Of training on one pair: forward, twice if in chunks, and backward."""
        return self.model.forward.total * (2 if self.is_chunked else 1) + self.model.backward.total

    @property
    def seconds_a_step(self) -> float:
        """Expected. Several processes on a CPU share it."""
        once, back = self.rate.seconds(self.model.forward), self.rate.seconds(self.model.backward)
        extra = once if self.is_chunked else 0.0
        pairs = self.config.run.batch_size if self.is_on_cpu else self.share
        if self.measured is None:
            return pairs * (once + back + extra) / self.utilisation
        return pairs * self.measured.seconds_a_pair * (1 + extra / (once + back)) + self.measured.seconds_a_step

    @property
    def hours(self) -> float | None:
        """Of all steps."""
        return None if self.steps is None else self.steps * self.seconds_a_step / 3600

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain values, memory in bytes."""
        run, model = self.config.run, self.model
        return {
            "recipe": run.name,
            "ready": self.is_ready,
            "problems": self.problems,
            "warnings": self.warnings,
            "notes": self.notes,
            "device": self.device,
            "processes": self.processes,
            "epochs": run.epochs,
            "batch_size": run.batch_size,
            "pairs_at_once": self.at_once,
            "data": [asdict(source) for source in self.data.sources],
            "pcm_cache_bytes": self.data.pcm_bytes,
            "steps_per_epoch": self.data.steps_per_epoch,
            "steps": self.steps,
            "parameters": model.parameters,
            "trained_parameters": model.trained,
            "parts": [asdict(part) for part in model.parts],
            "tokens": model.tokens,
            "forward_flop_per_pair": model.forward.total,
            "training_flop_per_pair": self.operations_a_pair,
            "training_flop": None if self.steps is None else self.operations_a_pair * run.batch_size * self.steps,
            "activation_bytes_per_pair": model.activation_bytes,
            "memory": {**asdict(self.memory), "total": self.memory.total},
            "device_bytes": self.device_bytes,
            "rate_flop_per_s": asdict(self.rate),
            "utilisation": self.utilisation if self.measured is None else None,
            "measured": None if self.measured is None else asdict(self.measured),
            "seconds_per_step": self.seconds_a_step,
            "pairs_per_s": run.batch_size / self.seconds_a_step,
            "hours": self.hours,
        }


def make_plan(config: TrainConfig, *, processes: int = 1, measure: bool = False) -> Plan:
    """Return the cost of a recipe on this machine.

    Args:
        config: The recipe.
        processes: That share each batch, a GPU each.
        measure: Time real steps, instead of assuming a share of the rate.

    Raises:
        UsageError: If so many processes cannot share the batch.
        ConfigError: If the model that the recipe describes cannot be.
    """
    batch_size = config.run.batch_size
    if processes < 1 or batch_size % processes:
        raise UsageError(f"--gpus {processes}: run.batch_size={batch_size} cannot be shared equally by so many")
    share = batch_size // processes
    at_once = min(config.run.chunk_size or share, share)
    device, problems, warnings = _device_and_settings(config, processes)
    data = plan_data(config, processes=processes)
    text = plan_text(config, data.pairs, data.weights, batch_size=share)
    model = count_model(model_of_shapes(config, text.config), config, tokens=text.tokens)
    memory = _memory(config, model, processes=processes, at_once=at_once)
    is_meant = config.run.device.partition(":")[0] in ("auto", device.type) and (device.type != "cpu" or processes == 1)
    available = _memory_of(device) if is_meant else None
    if available is not None and memory.total > _ROOM * available:
        warnings.append(_too_much(config, model, memory, at_once=at_once, available=available))
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    rate = measure_rate(device, precision=config.run.precision)
    utilisation = UTILISATION[device.type]
    notes = list(text.notes)
    measured = None
    if measure:
        pairs = _pairs_to_measure(model, memory, rate, device, at_once=at_once)
        measured = measure_steps(config, text.config, device, pairs=pairs, tokens=text.tokens)
    else:
        notes.append(f"steps are assumed to reach {utilisation:.0%} of the measured rate; --measure takes real steps")
    if device.type == "cpu" and not is_meant:
        notes.append("there is no GPU here: the time is that of this CPU alone")
    elif device.type == "cuda" and torch.cuda.device_count() < processes:
        notes.append(f"PyTorch finds {torch.cuda.device_count()} GPUs here; the time is that of {processes} like them")
    if config.data.buckets_s:
        notes.append("clips are counted at full length, although data.buckets_s shortens some batches")
    return Plan(
        config=config,
        processes=processes,
        device=_name_of(device),
        is_on_cpu=device.type == "cpu",
        at_once=at_once,
        data=data,
        model=model,
        memory=memory,
        device_bytes=available,
        rate=rate,
        utilisation=utilisation,
        measured=measured,
        problems=list(dict.fromkeys([*problems, *text.problems, *data.problems])),
        warnings=[*warnings, *data.warnings],
        notes=notes,
    )


def _device_and_settings(config: TrainConfig, processes: int) -> tuple[torch.device, list[str], list[str]]:
    """Return the device to time, what training would refuse before it reads data, and what it would warn of."""
    problems: list[str] = []
    warnings: list[str] = []
    device = torch.device("cpu")
    with _kept(problems):
        device = choose_device(config.run.device)
        check_device(config, device)
    with _kept(problems):
        check_trackers(config.run.trackers)
    with _kept(problems):
        check_init(config.init, config.model.audio_encoders)
    with _kept(problems):
        warnings.append(check_batch_norm(config.model, config.init, device=device, world_size=processes))
    return device, problems, [warning.removeprefix("warning: ") for warning in warnings if warning]


@contextmanager
def _kept(problems: list[str]) -> Iterator[None]:
    """Keep an error of the block for later."""
    try:
        yield
    except ConfigError as error:
        problems += str(error).splitlines()


def _memory(config: TrainConfig, model: ModelCost, *, processes: int, at_once: int) -> Memory:
    return Memory(
        weights=model.state_bytes,
        gradients=4 * model.trained,
        optimizer=8 * model.trained,  # two moving averages
        average=model.state_bytes if config.optimizer.ema_decay else 0,
        buckets=4 * model.trained if processes > 1 else 0,
        activations=model.fixed_bytes + at_once * model.activation_bytes,
        sound=at_once * model.sound_bytes,
    )


def _too_much(config: TrainConfig, model: ModelCost, memory: Memory, *, at_once: int, available: int) -> str:
    """Return the warning about a batch that does not fit into the memory, with what to set."""
    words = f"{memory.total / 2**30:.1f} GiB are more than {_ROOM:.0%} of the device's {available / 2**30:.1f}"
    fits = _fitting(model, memory, at_once=at_once, available=available)
    if fits < 2:
        return f"{words}: not even two pairs at once fit; take a smaller model, or another device"
    chunk = 2 ** (fits.bit_length() - 1)
    return f"{words}; run.chunk_size={chunk} fits, for one more forward pass"


def _fitting(model: ModelCost, memory: Memory, *, at_once: int, available: int) -> int:
    """Return how many pairs at once a memory has room for."""
    a_pair = model.activation_bytes + model.sound_bytes
    return int((_ROOM * available - (memory.total - at_once * a_pair)) // max(a_pair, 1))


def _pairs_to_measure(model: ModelCost, memory: Memory, rate: Rate, device: torch.device, *, at_once: int) -> int:
    """Return how many pairs real steps are taken with: those of the run where memory and patience allow."""
    fits = _fitting(model, memory, at_once=at_once, available=_memory_of(device) or 0)
    if fits < 2:
        raise ConfigError("--measure: not even two pairs at once fit into this device's memory; plan without it")
    if device.type == "cpu":
        a_pair = rate.seconds(model.forward + model.backward) / UTILISATION["cpu"]
        fits = min(fits, max(int(_PATIENCE_S / a_pair), 2))
    return min(at_once, fits)


def _memory_of(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None  # Windows


def _name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {torch.get_num_threads()} threads"
