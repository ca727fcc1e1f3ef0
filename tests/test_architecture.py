"""The layout that a newcomer relies on: imports point upstream, to contracts only, and are light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGES = ("crawler", "curation", "training", "retrieval")
CONTRACTS = {
    "crawler.items",
    "curation.manifest",
    "curation.audio",
    "curation.text",
    "curation.leakage",
    "curation.errors",
    "training.checkpoint",
    "training.metrics",
    "training.models.clap",
}


def project_imports(path: Path) -> set[str]:
    """Return the modules of this project that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            module = ROOT / Path(*node.module.split("."))
            for alias in node.names:
                is_module = (module / f"{alias.name}.py").is_file() or (module / alias.name).is_dir()
                found.add(f"{node.module}.{alias.name}" if is_module else node.module)
    return {name for name in found if name.split(".")[0] in (*STAGES, "demo", "tests")}


@pytest.mark.parametrize("stage", STAGES)
def test_imports_point_upstream_to_contracts_only(stage: str) -> None:
    allowed = STAGES[: STAGES.index(stage)]
    wrong = []
    files = sorted((ROOT / stage).rglob("*.py"))
    assert files
    for path in files:
        for name in project_imports(path):
            package = name.split(".")[0]
            if package != stage and not (package in allowed and name in CONTRACTS):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_nothing_but_the_tests_uses_the_demo_and_the_tests() -> None:
    for stage in (*STAGES, "demo"):
        for path in (ROOT / stage).rglob("*.py"):
            used = {name.split(".")[0] for name in project_imports(path)}
            assert "tests" not in used, path
            assert stage == "demo" or "demo" not in used, path


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("curation", ("scrapy", "torch", "transformers")),
        ("curation.manifest", ("scrapy", "torch", "transformers")),
        ("curation.cli", ("scrapy", "torch", "pandas", "pyarrow", "soundfile")),
        ("crawler.items", ("scrapy", "twisted", "numpy")),
        ("crawler.cli", ("scrapy", "twisted")),
        ("training.cli", ("torch", "transformers", "timm", "pyarrow")),
        ("training.evaluate_cli", ("torch", "transformers", "timm", "pyarrow", "numpy")),
        ("training.plan_cli", ("torch", "transformers", "timm", "pyarrow", "numpy")),
        ("training.report_cli", ("torch", "transformers", "timm", "pyarrow", "numpy", "matplotlib")),
        ("training.metrics", ("transformers", "timm")),
        ("retrieval.cli", ("torch", "pyarrow", "numpy")),
    ],
)
def test_imports_are_light(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_every_test_folder_is_a_package() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        assert (path.parent / "__init__.py").is_file(), path.parent


def test_no_module_passes_four_hundred_lines() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines}"
        for stage in (*STAGES, "demo")
        for path in (ROOT / stage).rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    ]
    assert not long, "look for the second subject in " + ", ".join(long)
