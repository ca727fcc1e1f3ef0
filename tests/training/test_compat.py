"""timm and transformers import, with warnings as errors, where PyPI's torchvision stands beside a CPU torch.

Each case is a process of its own: what is imported stays imported.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

IMPORTS = "import timm, transformers; from transformers import RobertaModel; from timm.models import SwinTransformer"

BROKEN = """
    import pathlib, sys, tempfile, torch
    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / 'torchvision').mkdir()
    (folder / 'torchvision/part.py').write_text('')
    (folder / 'torchvision/__init__.py').write_text('''if True:
        import time, torch
        from torchvision import part
        time.sleep(0.05)
        torch.library.register_fake("torchvision::nms")(lambda *inputs: inputs[0])
        whole = True
    ''')
    sys.path.insert(0, str(folder))
"""
"""A torchvision whose import asks for an operator that is not there, once it has imported a part of itself."""


def run(*code: str) -> subprocess.CompletedProcess[str]:
    whole = "\n".join(textwrap.dedent(part) for part in code)
    return subprocess.run([sys.executable, "-W", "error", "-c", whole], capture_output=True, text=True, check=False)


def test_the_models_package_makes_timm_and_transformers_importable():
    done = run(f"import training.models; {IMPORTS}; training.models.prepare_torchvision(); print('ok')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_after_imports_that_failed_it_can_still_be_put_right():
    """Who imports timm or a transformers model first meets torchvision's error, and may go on."""
    done = run(
        """
        import contextlib
        with contextlib.suppress(RuntimeError, ImportError):
            import timm
        with contextlib.suppress(RuntimeError, ImportError):
            from transformers import RobertaModel
        from training.models.compat import prepare_torchvision
        prepare_torchvision()
        """,
        f"{IMPORTS}; print('ok')",
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_missing_operators_are_declared_and_the_failed_import_is_forgotten():
    done = run(
        BROKEN,
        """
        try:
            import torchvision
        except RuntimeError as error:
            print(error)
        assert 'torchvision.part' in sys.modules
        sys.modules['torchvision.left'] = 'over'
        from training.models import compat
        compat.prepare_torchvision()
        import torchvision
        print(torchvision.__file__.startswith(str(folder)), torchvision.whole, torch.ops.torchvision.nms)
        print('torchvision.left' in sys.modules)
        compat._declare_operators()  # those that are there already, whoever declared them, are no trouble
        """,
    )
    expected = "operator torchvision::nms does not exist\nTrue True torchvision.nms\nFalse\n"
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_threads_may_all_ask_while_another_imports():
    done = run(
        BROKEN,
        """
        import contextlib, importlib, importlib.util, threading, training
        path = pathlib.Path(training.__file__).parent / 'models/compat.py'  # alone: its package would prepare at once
        spec = importlib.util.spec_from_file_location('compat', path)
        spec.loader.exec_module(compat := importlib.util.module_from_spec(spec))
        assert 'torchvision' not in sys.modules
        failed = []
        def ask():
            try:
                compat.prepare_torchvision()
                assert sys.modules['torchvision'].whole
            except BaseException as error:
                failed.append(repr(error))
        def use():
            with contextlib.suppress(RuntimeError):
                importlib.import_module('torchvision')
        threads = [threading.Thread(target=target) for target in (use, ask, ask, use, ask, ask)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(failed, sys.modules['torchvision'].whole)
        """,
    )
    assert (done.returncode, done.stdout) == (0, "[] True\n"), done.stderr


def test_nothing_happens_where_torchvision_works_or_is_not_there():
    done = run(
        """
        import sys, types
        sys.modules['torchvision'] = None  # as if it were not installed
        from training.models import compat
        compat.prepare_torchvision()
        sys.modules['torchvision'] = works = types.ModuleType('torchvision')
        compat.prepare_torchvision()
        print(compat._library, sys.modules['torchvision'] is works)
        """
    )
    assert (done.returncode, done.stdout) == (0, "None True\n"), done.stderr


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
