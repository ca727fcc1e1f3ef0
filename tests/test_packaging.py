"""A built wheel, installed outside the checkout: every command answers, and finds its own files."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COMMANDS = {
    "wavtext5k-crawl": ("soundbible", "bigsoundbank", "init"),
    "wavtext5k-curate": ("build", "validate"),
    "wavtext5k-train": (),
    "wavtext5k-evaluate": (),
    "wavtext5k-search": ("index", "query"),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own that sees this one's libraries, but not its editable install."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run([*command, str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def run(bin_folder: Path, cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    argv = [str(bin_folder / command[0]), *command[1:]]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


def test_the_commands_tested_here_are_the_commands_there_are() -> None:
    assert set(COMMANDS) == set(PROJECT["scripts"])


@pytest.mark.parametrize("command", COMMANDS)
def test_version_and_help_of_every_command(bin_folder: Path, tmp_path: Path, command: str) -> None:
    version = run(bin_folder, tmp_path, command, "--version")
    assert (version.returncode, version.stdout.split()) == (0, ["wavtext5k", PROJECT["version"]]), version.stderr
    for words in ((), *((sub,) for sub in COMMANDS[command])):
        shown = run(bin_folder, tmp_path, command, *words, "--help")
        assert shown.returncode == 0, shown.stderr
        last_paragraph = shown.stdout.strip().split("\n\n")[-1].strip()
        assert last_paragraph.startswith("Example: "), f"{command} {words}: no example at the end"
    assert run(bin_folder, tmp_path, command, "--no-such-option").returncode == 2


def test_the_code_that_runs_is_the_wheels(bin_folder: Path, tmp_path: Path) -> None:
    code = "import crawler, curation, training, retrieval, demo; print(curation.__file__)"
    shown = run(bin_folder, tmp_path, "python", "-c", code)
    assert shown.returncode == 0, shown.stderr
    assert Path(shown.stdout.strip()).is_relative_to(bin_folder.parent)


def test_recipes_are_in_the_wheel(wheel: Path, bin_folder: Path, tmp_path: Path) -> None:
    recipes = {path.name for path in (ROOT / "training" / "recipes").glob("*.yaml")}
    assert {"tiny.yaml", "paper-d.yaml"} <= recipes
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"training/recipes/{name}" for name in recipes} <= names
    shown = run(bin_folder, tmp_path, "wavtext5k-train", "tiny", "--print-config")
    assert shown.returncode == 0, shown.stderr
    assert "cnn14+htsat" in shown.stdout


def test_nothing_else_is_in_the_wheel(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"crawler", "curation", "training", "retrieval", "demo", f"wavtext5k-{PROJECT['version']}.dist-info"}


def test_scrapy_finds_the_spiders_where_init_wrote_a_project(bin_folder: Path, tmp_path: Path) -> None:
    assert run(bin_folder, tmp_path, "wavtext5k-crawl", "init").returncode == 0
    listed = run(bin_folder, tmp_path, "python", "-m", "scrapy", "list")
    assert listed.stdout.split() == ["bigsoundbank", "soundbible"], listed.stderr


def test_every_dependency_says_why() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    start, end = lines.index("dependencies = ["), lines.index("[project.scripts]")
    listed = [line for line in lines[start:end] if line.startswith('  "')]
    assert len(listed) > 15
    assert not [line for line in listed if "#" not in line]


def test_constraints_hold_no_address_and_every_direct_dependency() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in text.splitlines() if "==" in line}
    wanted = [*PROJECT["dependencies"]]
    for group in PROJECT["optional-dependencies"].values():
        wanted += group
    names = {item.split(">=")[0].split("[")[0].lower().replace("_", "-") for item in wanted}
    assert names - pinned <= {"wavtext5k", "av"}


@pytest.mark.parametrize("name", ["crawl", "curation", "learning", "loader", "model", "real_clips", "replay", "train"])
def test_a_benchmark_starts(name: str) -> None:
    shown = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", "--help"], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert "usage" in shown.stdout.lower()
