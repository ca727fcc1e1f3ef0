"""A plan as people read it: plain tables, one subject after the other, what stands in the way last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from training.plan import Plan
from training.plan_data import SourcePlan
from training.runlog import duration

_NONE = "-"
_MEMORY = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser",
    "average": "moving average",
    "buckets": "gradients between processes",
    "activations": "activations",
    "sound": "sound",
}


def table(plan: Plan) -> str:
    """Return a plan as text."""
    return "\n".join(_lines(plan))


def _lines(plan: Plan) -> Iterator[str]:
    run = plan.config.run
    where = "1 process" if plan.processes == 1 else f"{plan.processes} processes"
    yield f"{run.name}: {run.epochs} epochs in batches of {run.batch_size}, {where}"
    yield ""
    yield from _columns(
        [("data", "clips", "captions", "hours", "pairs", "visits an epoch"), *map(_source, plan.data.sources)]
    )
    if plan.data.steps_per_epoch is not None:
        yield f"steps       {plan.data.steps_per_epoch:,} an epoch, {plan.steps:,} in all"
    if plan.data.pcm_bytes is not None:
        yield f"cache       {_size(plan.data.pcm_bytes)} of decoded training clips, where data.pcm_cache is set"
    yield ""
    model = plan.model
    rows = [("model", "parameters", "trained", "GFLOP a pair", "activations a pair")]
    for part in model.parts:
        trained = "all" if part.trained == part.parameters else f"{part.trained:,}"
        numbers = (f"{part.parameters:,}", trained) if part.parameters else ("", "")
        rows.append((part.name, *numbers, _number(part.forward / 1e9), _size(part.activation_bytes)))
    trained = "all" if model.trained == model.parameters else f"{model.trained:,}"
    forward = _number(model.forward.total / 1e9)
    yield from _columns([*rows, ("in all", f"{model.parameters:,}", trained, forward, _size(model.activation_bytes))])
    times = plan.operations_a_pair / model.forward.total
    second = ", of which one forward pass for run.chunk_size" if plan.is_chunked else ""
    yield f"training    {_number(plan.operations_a_pair / 1e9)} GFLOP a pair, {times:.1f} times forward{second}"
    if plan.steps is not None:
        yield f"            {plan.operations_a_pair * run.batch_size * plan.steps:.2e} FLOP in all"
    yield f"captions    {model.tokens} tokens, which the longest of a batch has on average"
    yield ""
    memory = plan.memory
    device = "" if plan.device_bytes is None else f"; the device has {_size(plan.device_bytes)}"
    each = "" if plan.processes == 1 else " on each device"
    yield f"memory      {_size(memory.total)} at least{each}, with {plan.at_once} pairs at once{device}"
    parts = [(words, getattr(memory, name)) for name, words in _MEMORY.items()]
    yield "            " + ", ".join(f"{words} {_size(number)}" for words, number in parts if number)
    yield ""
    yield from _time(plan)
    for title, messages in (("assumed", plan.notes), ("warning", plan.warnings), ("problem", plan.problems)):
        yield from (f"{title:<12}{message}" for message in messages)
    yield (
        "ready       training would begin" if plan.is_ready else "not ready   training would stop at the problems above"
    )


def _time(plan: Plan) -> Iterator[str]:
    yield f"device      {plan.device}"
    rate = plan.rate
    yield (
        f"measured    {rate.convolutions / 1e9:,.0f} GFLOP/s in convolutions, {rate.products / 1e9:,.0f} in products "
        f"({'float32' if plan.is_on_cpu else plan.config.run.precision})"
    )
    if (steps := plan.measured) is not None:
        peak = "" if steps.peak_bytes is None else f", peak memory {_size(steps.peak_bytes)}"
        yield (
            f"            steps of {steps.pairs} pairs: {_number(steps.seconds_a_pair)} s a pair forward and backward, "
            f"{_number(steps.seconds_a_step)} s for the optimiser{peak}"
        )
    speed = plan.config.run.batch_size / plan.seconds_a_step
    model = plan.config.model
    sound = speed * max(getattr(model, name).clip_s for name in model.audio_encoders)
    whole = "" if plan.hours is None else f"; all steps {duration(3600 * plan.hours)}"
    yield f"time        {_number(plan.seconds_a_step)} s a step, {_number(speed)} pairs/s{whole}"
    yield f"            reading has to keep up with {_number(sound)} s of sound a second, less where clips are shorter"
    yield "            evaluation, and what processes tell each other, come on top"


def _source(source: SourcePlan) -> tuple[str, ...]:
    name = f"{source.role:<6}{source.manifest} ({', '.join(source.splits)})"
    counts = [_count(number) for number in (source.clips, source.captions)]
    hours = _NONE if source.hours is None else f"{source.hours:,.2f}"
    visits = ["", ""] if source.role == "val" else [_count(source.pairs), _count(source.visits)]
    return name, *counts, hours, *visits


def _count(number: int | None) -> str:
    return _NONE if number is None else f"{number:,}"


def _number(number: float) -> str:
    """Return a number with three digits at least."""
    return f"{number:,.1f}" if number >= 100 else f"{number:.3g}"


def _size(number: float) -> str:
    """Return bytes in the unit that suits them."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1000:
            return f"{number:.1f} {unit}" if 0 < number < 10 and unit != "B" else f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:,.1f} GiB"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines: the first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
