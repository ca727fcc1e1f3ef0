"""docs/paper.md tells the truth: what it names exists, what it tells to type works, what it recomputes comes out.

Every code span must be of a kind that is checked here (a setting, an override, a recipe, a command, a file, a dotted
name in a module); one that is of none fails, so that nothing goes unchecked.
"""

from __future__ import annotations

import importlib
import itertools
import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from curation.tables import PAPER
from tests.test_readme import APPS, check_ours
from training.metrics import METRICS
from training.paper_table import PAPER_POOLS, PaperRow
from training.paper_table import TABLE_3 as PRINTED_3
from training.paper_table import TABLE_4 as PRINTED_4
from training.recipe import flatten, load_recipe, recipe_names, to_dict

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
SPANS = sorted(set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL))))
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
COMMANDS += [span for span in SPANS if span.split()[0] in APPS]
SETTINGS = {
    ".".join(parts[: cut + 1])
    for parts in (place.split(".") for place in flatten(to_dict(load_recipe("paper-d"))))
    for cut in range(len(parts))
}
SECTIONS = {place for place in SETTINGS if "." not in place}


def is_override(span: str) -> bool:
    return re.match(r'"?[a-z_0-9.]+=', span) is not None


def is_setting(span: str) -> bool:
    return re.fullmatch(r"[a-z_0-9]+(\.[a-z_0-9]+)+", span) is not None and span.partition(".")[0] in SECTIONS


def is_name(span: str) -> bool:
    return re.fullmatch(r"(training|curation|crawler|retrieval)(\.\w+)+", span) is not None


def find(name: str) -> Any:
    """Return what a dotted name stands for: a module, or what is in one."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[cut:]:
            found = getattr(found, attribute)
        return found
    raise AssertionError(f"{name}: there is no such module")


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) >= 12
    for is_kind in (is_override, is_setting, is_name):
        assert sum(map(is_kind, SPANS)) >= 20


@pytest.mark.parametrize("span", SPANS)
def test_code_spans_stand_for_something(span: str) -> None:
    if span in COMMANDS or span in recipe_names():
        return  # commands have a test of their own
    if is_override(span):
        load_recipe("paper-d", shlex.split(span))
    elif is_setting(span):
        assert span in SETTINGS, f"there is no setting {span}"
    elif is_name(span):
        find(span)
    else:
        assert "/" in span, f"`{span}` is of no kind that this test checks"
        assert (ROOT / span).is_file(), f"there is no file {span}"


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_can_be_typed(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "torchrun":
        assert words[1:5] == ["--nproc-per-node", "8", "-m", "training"]
        words = ["wavtext5k-train", *words[5:]]
    check_ours(words[0], words[1:])


# The tables, by the words of their first cells


def rows_of(first: str) -> list[list[str]]:
    """Return the cells of the table whose heading row begins with these words."""
    lines = TEXT[TEXT.index(f"| {first} |") :].splitlines()
    table = list(itertools.takewhile(lambda line: line.startswith("|"), lines))
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table[2:]]


TABLE_3 = {(row[0], row[1]): row[3:] for row in rows_of("test set | experiment")}
TABLE_4 = {(row[0], row[1]): row[3:] for row in rows_of("test set | captions of WavText5K")}
CLAIMS = rows_of("claim")
PAIRS = {"data/clotho": 24_420, "data/audiocaps": 40_582, "data/wavtext5k": 4_348}
PAIRS |= {f"data/{name}": int(PAPER[name]["captions"]) for name in ("sounddescs", "macs")}


def test_experiments_name_every_recipe_of_the_paper_and_what_it_trains_on() -> None:
    rows = rows_of("the paper | recipe")
    assert {row[1] for row in rows} == set(recipe_names()) - {"export", "tiny"}
    for _, name, audio, text, _, pairs in rows:
        config = load_recipe(name)
        assert audio.lower().replace(" ", "") == config.model.audio
        assert config.model.text.encoder.startswith(text.lower())
        assert int(pairs.replace(",", "")) == sum(PAIRS[source.manifest] for source in config.data.train)
    recipes = {row[1]: load_recipe(row[2]) for row in rows_of("test set | experiment") if row[2]}
    assert {name: config.run.name for name, config in recipes.items()} == {
        name: f"paper-{name.lower()}" for name in "ABCD"
    }


def cells_of(row: PaperRow, columns: tuple[str, ...]) -> list[str]:
    values = [getattr(scores, name) for scores in (row.text_to_audio, row.audio_to_text) for name in columns]
    return ["-" if value is None else str(value) for value in values]


def test_tables_3_and_4_are_those_that_scores_are_printed_beside() -> None:
    columns = ("map_at_10", *METRICS[:4])
    printed = [[row.dataset, *cells_of(row, columns)] for row in PRINTED_3]
    assert [[test_set, *row] for (test_set, _), row in TABLE_3.items()] == printed
    for (_, experiment), row in zip(TABLE_3, PRINTED_3, strict=True):
        assert row.experiment.startswith(("Benchmark " if experiment == "[11]" else "") + experiment)
    printed = [[row.dataset, row.experiment.removeprefix("D, "), *cells_of(row, columns[:2])] for row in PRINTED_4]
    assert [[*key, *row] for key, row in TABLE_4.items()] == printed


def test_claims_are_recomputed_from_the_tables() -> None:
    assert len(CLAIMS) == 20
    for claim, printed, recomputed, verdict in CLAIMS:
        what, test_set, direction = claim.partition(": ")[2].split(", ")
        new, old = what.split(" over ")
        table = TABLE_4 if new.startswith("Desc.") else TABLE_3
        cells = table[test_set, new], table[test_set, old]
        after, before = (row[1] if direction == "T-A" else row[len(row) // 2 + 1] for row in cells)
        change = 100 * (float(after) / float(before) - 1)
        assert recomputed == f"{change:.2f}", claim
        if printed:
            digits = len(printed.partition(".")[2])
            assert (verdict == "holds") == (f"{change:.{digits}f}" == printed), claim


def test_exceptions_to_what_the_text_says_of_table_3() -> None:
    columns = ["T-A mAP@10", "T-A R@1", "T-A R@5", "T-A R@10", "T-A R@50"]
    columns += [name.replace("T-A", "A-T") for name in columns]

    def not_above(test_set: str, new: str, old: str) -> set[str]:
        pairs = zip(columns, TABLE_3[test_set, new], TABLE_3[test_set, old], strict=True)
        return {name for name, after, before in pairs if before != "-" and float(after) <= float(before)}

    assert not_above("AudioCaps", "D", "[11]") == {"T-A R@10"}
    assert not_above("Clotho", "D", "[11]") == set()
    for test_set, exceptions in (("AudioCaps", {"A-T R@5", "A-T R@10"}), ("Clotho", set())):
        assert (
            not_above(test_set, "D", "A") | not_above(test_set, "D", "B") | not_above(test_set, "D", "C") == exceptions
        )
    assert not_above("AudioCaps", "C", "B") == {*columns[:1], *columns[2:5], "A-T R@50"}
    assert not_above("Clotho", "C", "B") == {*columns} - {"T-A R@50"}


def is_multiple(printed: str, number: int) -> bool:
    """Return whether a percentage can be a count of so many, its digits rounded or cut."""
    unit = 10.0 ** -len(printed.partition(".")[2])
    nearest = math.floor(float(printed) * number / 100)
    shares = [100 * count / number - float(printed) for count in (nearest, nearest + 1)]
    return any(abs(share) <= unit / 2 + 1e-9 or 0 <= share < unit for share in shares)


def test_recalls_tell_the_size_of_the_test_sets() -> None:
    assert PAPER_POOLS == {"AudioCaps": (742, 3_710), "Clotho": (1_045, 5_225)}
    whole_captions = 0
    for test_set, (clips, captions) in PAPER_POOLS.items():
        rows = [TABLE_3[test_set, name] for name in "ABCD"]
        text_to_audio = [cell for row in rows for cell in row[1:5]]
        audio_to_text = [cell for row in rows for cell in row[6:10]]
        assert all(is_multiple(cell, clips) for cell in audio_to_text)
        whole_captions += sum(is_multiple(cell, captions) for cell in text_to_audio)
        assert sum(is_multiple(cell, clips) for cell in text_to_audio) <= 4
        others = [
            sum(is_multiple(cell, other) for cell in audio_to_text) for other in range(500, 1_200) if other != clips
        ]
        assert max(others) <= 10
    assert whole_captions == 31


def test_no_other_definition_of_map_fits() -> None:
    """A row's recalls say how many clips have their best caption at 1, in 2-5 and in 6-10; the rest is enumerated."""
    lowest = {}
    for best in range(1, 11):
        ranks = ((best, *others) for count in range(5) for others in itertools.combinations(range(best + 1, 11), count))
        lowest[best] = min(sum(i / rank for i, rank in enumerate(found, 1)) / len(found) for found in ranks)
    recalls = [float(cell) for cell in TABLE_3["AudioCaps", "A"][6:9]]
    least = recalls[0] * lowest[1]
    least += (recalls[1] - recalls[0]) * min(lowest[best] for best in range(2, 6))
    least += (recalls[2] - recalls[1]) * min(lowest[best] for best in range(6, 11))
    assert f"could not be under {least:.2f} %" in " ".join(TEXT.split())
    assert float(TABLE_3["AudioCaps", "A"][5]) < least
    firsts = [float(TABLE_3["AudioCaps", name][6]) for name in "ABCD"]
    assert f"{min(firsts)} to {max(firsts)} % are printed" in " ".join(TEXT.split())


def test_standard_errors() -> None:
    for test_set, direction, recall, printed in rows_of("test set | direction"):
        clips, share = int(re.sub(r"\D", "", test_set)), float(recall) / 100
        queries = (5 * clips, clips) if direction == "T-A" else (clips,)
        errors = [f"{100 * math.sqrt(share * (1 - share) / number):.2f}" for number in queries]
        assert printed == " to ".join(errors)


def test_numbers_of_the_set_up() -> None:
    config, text = load_recipe("paper-d"), " ".join(TEXT.split())
    pairs = PAIRS["data/clotho"] + PAIRS["data/audiocaps"]
    assert PAIRS["data/clotho"] == 5 * (3_839 + 1_045)
    assert f"24,420 + 40,582 = {pairs:,}, and with WavText5K's 4,348 {pairs + 4_348:,}" in text
    for steps in (math.ceil((pairs + 4_348) / 128), (pairs + 4_348) // 128):
        assert f"{steps} steps, {steps * config.run.epochs:,} in all" in text
    moved = 541 * sum(config.optimizer.lr * config.schedule.gamma ** (epoch // 20) for epoch in range(45))
    assert f"{moved:.2f} at most over the whole schedule (541 steps, 45 epochs)" in text
    hop, rate = config.features.hop_length, config.features.sample_rate
    assert f"{1 + 10 * rate // hop:,} frames, and HTSAT's square holds 1,024: {1024 * hop / rate:.2f} s" in text
    assert f"{1 + 10 * 32_000 // 320:,} frames, where" in text
    assert f"{round(1 / 0.007)} is above that" in text
    assert f"{135.01 * 3600 / 50_535:.2f} s, not {PAPER['audiocaps']['mean_duration_s']}" in text
