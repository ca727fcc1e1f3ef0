from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

CLI = [sys.executable, "-m", "crawler.cli"]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


def test_version() -> None:
    assert run("--version").stdout == f"wavtext5k {version('wavtext5k')}\n"


@pytest.mark.parametrize(
    "arguments", [("--help",), ("soundbible", "--help"), ("bigsoundbank", "--help"), ("init", "--help")]
)
def test_help_ends_with_an_example(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 0
    assert "Example: wavtext5k-crawl" in done.stdout.strip().splitlines()[-1] + done.stdout.strip().splitlines()[-2]


def test_help_needs_no_scrapy() -> None:
    code = "import sys; sys.modules['scrapy'] = None; import crawler.cli; crawler.cli.app(['soundbible', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_missing_scrapy_names_the_extra() -> None:
    code = "import sys; sys.modules['scrapy'] = None; import crawler.cli; crawler.cli.app(['soundbible'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == 'error: crawling needs the crawl extra: pip install "wavtext5k[crawl]"\n'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("soundbible", "--limit", "0"), "--limit"),
        (("soundbible", "--base-url", "localhost"), "base_url must be like http://127.0.0.1:8000"),
        (("soundbible", "--max-failed", "2"), "--max-failed"),
        (("soundbible", "--base-url", "http://127.0.0.1:99999"), "--base-url"),
        (("soundbible", "--base-url", "http://user:pw@127.0.0.1"), "base_url must be like http://127.0.0.1:8000"),
        (("soundbible", "-s", "LOG_LEVEL"), "must be NAME=VALUE"),
        (("soundbible", "-s", "LOG_LEVEL=foo"), "LOG_LEVEL must be one of CRITICAL"),
        (("soundbible", "-s", "DOWNLOAD_DELAY=abc"), "DOWNLOAD_DELAY must be a number, 0 or more, got 'abc'"),
        (("soundbible", "-s", "DOWNLOAD_DELAY=-1"), "DOWNLOAD_DELAY must be a number, 0 or more, got '-1'"),
        (
            ("soundbible", "-s", "DOWLOAD_DELAY=3"),
            "no setting is called 'DOWLOAD_DELAY'; did you mean 'DOWNLOAD_DELAY'?",
        ),
        (("soundbible", "-s", "ROBOTSTXT_OBEY=maybe"), "ROBOTSTXT_OBEY must be 1 or 0, got 'maybe'"),
        (("soundbible", "-s", "ITEM_PIPELINES=abc"), "ITEM_PIPELINES must be JSON, got 'abc'"),
        (("soundbible", "-s", "RAW_DIR=c5", "--raw", "c4b"), "say --raw"),
        (("nosuchsite",), "No such command"),
    ],
)
def test_wrong_usage_exits_2(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_setting_that_scrapy_refuses_is_one_line(tmp_path: Path) -> None:
    done = run("soundbible", "-s", "DOWNLOADER=no.such", "--raw", str(tmp_path / "raw"))
    assert done.returncode == 1
    message = "error: the crawl did not start with -s DOWNLOADER=no.such: ModuleNotFoundError: No module named 'no'\n"
    assert done.stderr == message


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("a file", encoding="utf-8")
    done = run("soundbible", "--base-url", "http://127.0.0.1:1", "--raw", str(tmp_path / "raw"))
    assert done.returncode == 1
    assert f"error: cannot write to {tmp_path / 'raw/soundbible'}: " in done.stderr
    assert "; mend that and run the same command again" in done.stderr
    assert "Traceback" not in done.stderr


def test_init_writes_scrapy_cfg_once_and_overwrites_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        done = run("init", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'scrapy.cfg'}\n")
    listed = subprocess.run(
        [sys.executable, "-m", "scrapy", "list"], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert listed.stdout.split() == ["bigsoundbank", "soundbible"]
    (tmp_path / "scrapy.cfg").write_text("[settings]\ndefault = mine.settings\n", encoding="utf-8")
    done = run("init", cwd=tmp_path)
    assert done.returncode == 1
    assert "says something else" in done.stderr
    assert "mine.settings" in (tmp_path / "scrapy.cfg").read_text(encoding="utf-8")


def test_init_on_a_full_disk_leaves_nothing_and_works_when_there_is_room(tmp_path: Path) -> None:
    # A file that would pass this limit fails as on a full disk.
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
    line = [sys.executable, "-B", "-c", code + "from crawler.cli import main\nmain()", "init"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path / 'scrapy.cfg'}: File too large\n"
    assert not list(tmp_path.iterdir())
    (tmp_path / "scrapy.cfg").touch()  # as earlier versions left it
    assert run("init", cwd=tmp_path).returncode == 0
    assert "crawler.settings" in (tmp_path / "scrapy.cfg").read_text(encoding="utf-8")


def test_init_refuses_what_is_no_text_file(tmp_path: Path) -> None:
    cfg = tmp_path / "scrapy.cfg"
    cfg.write_bytes(b"\xff\xfe")
    done = run("init", cwd=tmp_path)
    assert done.returncode == 1
    assert "says something else" in done.stderr
    cfg.unlink()
    cfg.mkdir()
    done = run("init", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"error: {cfg}: Is a directory\n")
