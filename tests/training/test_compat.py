"""timm and transformers import, with warnings as errors, where PyPI's torchvision stands beside a CPU torch."""

from __future__ import annotations

import subprocess
import sys

IMPORTS = "import timm, transformers; from transformers import RobertaModel; from timm.models import SwinTransformer"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


def test_the_models_package_makes_timm_and_transformers_importable():
    done = run(f"import training.models; {IMPORTS}; training.models.prepare_torchvision(); print('ok')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_missing_operators_are_declared_and_nothing_else():
    """The same failure, provoked: a torchvision whose import asks for an operator that is not there."""
    done = run(
        "import sys, pathlib, tempfile, torch\n"
        "folder = pathlib.Path(tempfile.mkdtemp())\n"
        "(folder / 'torchvision').mkdir()\n"
        "(folder / 'torchvision/__init__.py').write_text('import torch; from torchvision import part; '"
        " 'torch.library.register_fake(\"torchvision::nms\")(lambda *a: a[0])')\n"
        "(folder / 'torchvision/part.py').write_text('')\n"
        "sys.path.insert(0, str(folder))\n"
        "from training.models.compat import prepare_torchvision\n"
        "prepare_torchvision(); prepare_torchvision()\n"
        "import torchvision\n"
        "print(torchvision.__file__.startswith(str(folder)), torch.ops.torchvision.nms)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True torchvision.nms\n"


def test_a_working_torchvision_is_left_alone():
    done = run(
        "import sys, types; sys.modules['torchvision'] = types.ModuleType('torchvision')\n"
        "from training.models import compat; compat.prepare_torchvision(); print(compat._library)"
    )
    assert (done.returncode, done.stdout) == (0, "None\n")


def test_other_failures_are_not_hidden():
    error = "RuntimeError('CUDA versions differ')"
    done = run(
        "import sys, pathlib, tempfile\n"
        "folder = pathlib.Path(tempfile.mkdtemp())\n"
        f"(folder / 'torchvision.py').write_text({f'raise {error}'!r})\n"
        "sys.path.insert(0, str(folder))\n"
        "import training.models"
    )
    assert done.returncode == 1
    assert "RuntimeError: CUDA versions differ" in done.stderr
