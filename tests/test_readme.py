"""The README tells the truth: its console blocks are run, every other command in it is checked for names and options.

A ``console`` block needs no outside network: its ``$`` lines are run in order, in one empty folder, and what stands
below a command must be what it prints (numbers apart, and apart from what a trained model ranks). In ``sh`` blocks
(the real sites, make) commands, subcommands, options, spiders, recipes and settings must exist. ``python`` blocks are
run after the console blocks, on what those made.
"""

from __future__ import annotations

import importlib
import itertools
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest
import typer.main

ROOT = Path(__file__).parent.parent
TEXT = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))
APPS = {
    "wavtext5k-crawl": "crawler.cli:app",
    "wavtext5k-curate": "curation.cli:app",
    "wavtext5k-train": "training.cli:train_app",
    "wavtext5k-train convert": "training.convert_cli:convert_app",
    "wavtext5k-train plan": "training.plan_cli:plan_app",
    "wavtext5k-train report": "training.report_cli:report_app",
    "wavtext5k-evaluate": "training.evaluate_cli:evaluate_app",
    "wavtext5k-search": "retrieval.cli:app",
    "demo": "demo.__main__:app",
    "demo.site": "demo.site:app",
    "demo.sounds": "demo.sounds:app",
}
RANKED = ("wavtext5k-search query", "wavtext5k-evaluate")
"""What these print depends on trained weights, which differ in the last bits from processor to processor."""


@dataclass
class Step:
    """One command of a console block and what the README says it prints."""

    command: str
    output: list[str] = field(default_factory=list)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def console_steps() -> Iterator[Step]:
    for block in blocks("console"):
        steps: list[Step] = []
        for line in block.splitlines():
            if steps and steps[-1].command.endswith("\\"):
                steps[-1].command = steps[-1].command[:-1] + line.strip()
            elif line.startswith("$ "):
                steps.append(Step(line[2:]))
            else:
                steps[-1].output.append(line)
        yield from steps


def all_commands() -> list[str]:
    """Return every command in console and sh blocks, and in code spans that begin with one of ours."""
    commands = [step.command for step in console_steps()]
    for block in blocks("sh"):
        commands += [line for line in block.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", TEXT)
    commands += [span for span in spans if span.split()[0] in (*APPS, "make", "scrapy") and len(span.split()) > 1]
    return commands


def test_there_is_something_to_check() -> None:
    assert len(list(console_steps())) >= 6
    assert len(all_commands()) >= 15


@pytest.mark.parametrize("command", all_commands())
def test_commands_and_options_exist(command: str) -> None:
    words = shlex.split(command.removesuffix("&").split("    #")[0])
    while words and re.fullmatch(r"[A-Z_0-9]+=.*", words[0]):
        words.pop(0)
    if words[:2] == ["python", "-m"]:
        words = words[2:]
    name = words[0].removeprefix(".venv/bin/")
    if words[1:2] and f"{name} {words[1]}" in APPS:
        name = f"{name} {words.pop(1)}"
    if name == "torchrun":
        assert words[words.index("-m") + 1] == "training"
        check_ours("wavtext5k-train", words[words.index("-m") + 2 :])
        return
    if name in APPS:
        check_ours(name, words[1:])
    elif name == "scrapy":
        check_scrapy(words[1:])
    elif name == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    else:
        others = ("git", "cd", "pip", "python3", "kill", "pre-commit", "ls", "dask", "srun")
        assert name in others, f"unchecked: {command}"


def check_ours(name: str, words: list[str]) -> None:
    module, attribute = APPS[name].split(":")
    found = typer.main.get_command(getattr(importlib.import_module(module), attribute))
    if isinstance(found, click.Group) or hasattr(found, "commands"):
        subcommands = found.commands
        if words[0] not in ("--help", "--version"):
            assert words[0] in subcommands, f"{name} has no {words[0]}"
            found, words = subcommands[words[0]], words[1:]
    known = {option for parameter in found.params for option in parameter.opts} | {"--help", "--version"}
    used = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert used <= known, f"{name}: no option {used - known}"
    settings = [word for word in words if re.fullmatch(r"[a-z_.]+=.*", word)]
    if name in ("wavtext5k-train", "wavtext5k-train plan") and words and not words[0].startswith("-"):
        from training.recipe import load_recipe

        load_recipe(words[0], settings)


def options_of(command: click.Command) -> set[str]:
    """Return the options of a command and of its subcommands."""
    found = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return found.union(*(options_of(each) for each in getattr(command, "commands", {}).values()))


def test_help_and_messages_name_options_that_exist() -> None:
    # torchrun's, dask's and LAION-CLAP's
    known = {"--help", "--nproc-per-node", "--nthreads", "--datasetnames", "--datasetpath", "--train-data"}
    for place in APPS.values():
        module, attribute = place.split(":")
        known |= options_of(typer.main.get_command(getattr(importlib.import_module(module), attribute)))
    for folder in ("crawler", "curation", "training", "retrieval", "demo"):
        for file in (ROOT / folder).rglob("*.py"):
            named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", file.read_text(encoding="utf-8")))
            assert named <= known, f"{file.relative_to(ROOT)}: no option {named - known}"


def check_scrapy(words: list[str]) -> None:
    from scrapy.settings import Settings
    from scrapy.spiderloader import SpiderLoader

    settings = Settings()
    settings.setmodule("crawler.settings")
    assert words[0] in ("crawl", "list")
    if words[0] == "crawl" and words[1:] and words[1] != "<site>":
        assert words[1] in SpiderLoader.from_settings(settings).list()
    pairs = list(itertools.pairwise(words))
    assert {value.split("=")[0] for flag, value in pairs if flag == "-a"} <= {"base_url", "limit", "dry_run"}
    assert {value.split("=")[0] for flag, value in pairs if flag == "-s"} <= {*settings}


def test_the_console_blocks_do_what_they_show(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    servers = []
    try:
        for step in console_steps():
            command = step.command.replace("8000", port)
            if command.endswith("&"):
                argv = shlex.split(command.removesuffix("&"))
                servers.append(subprocess.Popen(argv, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL))
                wait_for(int(port))
                continue
            argv = ["bash", "-euc", command]
            done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr[-3000:]}"
            if not command.startswith(RANKED):
                printed = {shape(line) for line in (done.stdout + done.stderr).splitlines()}
                missing = [line for line in step.output if line.strip() and shape(line) not in printed]
                assert not missing, f"$ {command}\nprinted:\n{done.stdout}\n{done.stderr[-3000:]}\nmissing: {missing}"
            else:
                assert len(done.stdout.splitlines()) == len(step.output), f"$ {command}\n{done.stdout}"
        for code in blocks("python"):
            argv = [sys.executable, "-W", "error", "-c", code]
            done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{code}\n{done.stderr[-3000:]}"
    finally:
        for server in servers:
            server.terminate()
            server.wait(10)


def shape(line: str) -> str:
    """Return a line without its numbers and with white space folded."""
    return " ".join(re.sub(r"[-+]?\d[\d.,]*", "#", line).split())


def wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(port)
