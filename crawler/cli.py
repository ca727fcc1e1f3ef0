"""wavtext5k-crawl: the spiders of this package, from any folder, with a verdict.

``scrapy crawl soundbible`` runs the same spiders with the same options in a folder that holds a scrapy.cfg, and exits
0 whatever happened; this command exits 1 when the crawl did not finish or more clips failed than ``--max-failed``.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from json import dumps
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from crawler.items import open_whole
from crawler.replay_command import EPILOG, replay

if TYPE_CHECKING:
    from types import FrameType

    from scrapy import Spider
    from scrapy.settings import BaseSettings
    from twisted.python.failure import Failure

    from crawler.report import CrawlReport

app = typer.Typer(
    help="Crawl a sound-effect site into raw records, politely; a second run asks only for what is missing.",
    epilog="Example: wavtext5k-crawl soundbible --limit 20 --raw data/raw",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)

SCRAPY_CFG = "[settings]\ndefault = crawler.settings\n"

BaseUrl = Annotated[str, typer.Option(help="Another host that serves the same pages: http://127.0.0.1:8000.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Stop after this many clips, stored ones included.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Read the listing, say what a crawl would ask and bring, write nothing.")
]
Raw = Annotated[Path, typer.Option(help="Folder for records and audio.")]
MaxFailed = Annotated[float, typer.Option(min=0, max=1, help="Share of the asked clips that may fail; more exits 1.")]
OptOut = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="File of clip_ids and addresses to leave out, one a line."),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Ask again for clips that were found gone within the last week.")
]
Verify = Annotated[bool, typer.Option("--verify", help="Read stored audio and compare its SHA-256, not only its size.")]
Contact = Annotated[str, typer.Option(help="Whom the site may ask: mailto:you@example.org, or a page.")]
Settings = Annotated[
    list[str] | None, typer.Option("-s", metavar="NAME=VALUE", help="A Scrapy setting; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the crawl report to stdout.")]

MAX_FAILED = 0.1
"""Of SoundBible's 2,115 listed sounds 57 (2.7 %) were not to be had in 2022; three times that is a changed site."""


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a folder's name may be more than the terminal can show
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:  # closed by the caller
                sys.stdout.flush()
    except OSError as error:
        where = error.filename or "standard output"
        with suppress(OSError):  # else Python tries once more at its end, and complains
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"error: {where}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=lambda on: _print_version(on)),
    ] = False,
) -> None:
    pass


def _add_site(name: str) -> None:
    """Add the command of a spider."""

    @app.command(name, epilog=f"Example: wavtext5k-crawl {name} --limit 20 --contact mailto:you@example.org")
    def crawl(
        base_url: BaseUrl = "",
        limit: Limit = None,
        dry_run: DryRun = False,
        raw: Raw = Path("data/raw"),
        max_failed: MaxFailed = MAX_FAILED,
        opt_out: OptOut = None,
        retry_failed: RetryFailed = False,
        verify: Verify = False,
        contact: Contact = "",
        settings: Settings = None,
        json: Json = False,
    ) -> None:
        arguments = {
            "base_url": base_url,
            "limit": str(limit or ""),
            "dry_run": "1" if dry_run else "",
            "opt_out": str(opt_out or ""),
            "retry_failed": "1" if retry_failed else "",
            "verify": "1" if verify else "",
        }
        given = {argument: value for argument, value in arguments.items() if value}
        named = [f"CONTACT={contact}"] if contact else []
        report = _crawl(name, given, raw=raw, settings=named + (settings or []))
        _conclude(report, raw=raw, dry_run=dry_run, max_failed=max_failed, json=json)

    crawl.__doc__ = (
        f"Crawl {name} into raw records.\n\nTitle, description, tags, author, licence and best audio of each clip."
    )


for _name in sorted(module.name for module in iter_modules([str(Path(__file__).parent / "spiders")])):
    if _name != "base":  # a spider has the name of its module, so that this needs no Scrapy
        _add_site(_name)

app.command("replay", epilog=EPILOG)(replay)


@app.command(epilog="Example: wavtext5k-crawl init && scrapy crawl soundbible -a limit=20")
def init() -> None:
    """Write scrapy.cfg into the working folder, so that ``scrapy crawl soundbible`` works there."""
    path = Path("scrapy.cfg")
    try:
        found = path.read_bytes().decode("utf-8", "replace").split() if path.exists() else []
        if found and found != SCRAPY_CFG.split():
            lines = SCRAPY_CFG.rstrip()
            _fail(f"{path.resolve()} is there and says something else; put these two lines into it:\n{lines}")
        if not found:
            with open_whole(path, "w") as file:
                file.write(SCRAPY_CFG)
    except OSError as error:
        _fail(f"{path.resolve()}: {error.strerror}")
    print(path.resolve())


def _crawl(spider: str, arguments: dict[str, str], *, raw: Path, settings: list[str]) -> CrawlReport:
    """Run a spider in this process and return its report; a reactor runs once a process, so this does too."""
    try:
        from scrapy import signals
        from scrapy.crawler import CrawlerProcess
        from scrapy.settings import Settings as ScrapySettings
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("scrapy", "twisted"):
            raise
        _fail('crawling needs the crawl extra: pip install "wavtext5k[crawl]"')
    from crawler.reporter import Reporter
    from crawler.site import Site

    spider_class = _spider_class(spider)

    try:
        Site("https://example.org", (), arguments.get("base_url", ""))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--base-url") from error
    values = ScrapySettings()
    values.setmodule("crawler.settings", priority="project")
    values.set("LOG_LEVEL", "WARNING", priority="project")
    values.set("RAW_DIR", str(raw), priority="cmdline")
    values.set("PRINT_RESULT", False, priority="cmdline")
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"must be NAME=VALUE, got {setting!r}", param_hint="-s")
        if name == "RAW_DIR":
            raise typer.BadParameter("RAW_DIR has an option of its own; say --raw", param_hint="-s")
        _set(values, name, value)
    try:
        process = CrawlerProcess(values)
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        _refuse(error, settings)
    # The report names every failure; these would say each again, with a traceback.
    for name in ("downloadermiddlewares.retry", "core.downloader.handlers.http11"):
        logging.getLogger(f"scrapy.{name}").setLevel(logging.CRITICAL)
    crawler = process.create_crawler(spider_class)
    errors: list[BaseException] = []

    def note(failure: Failure) -> None:
        errors.append(failure.value)  # type: ignore[arg-type]

    crawler.signals.connect(_announce_interrupt, signal=signals.spider_opened)
    process.crawl(crawler, **arguments).addErrback(note)
    process.start()
    if errors and isinstance(errors[0], SystemExit):  # a wrong argument, which the spider has named
        raise typer.Exit(2)
    if errors:
        _refuse(errors[0], settings)
    reporter = crawler.get_extension(Reporter)
    if reporter is None or not reporter.report.source:
        _fail("the crawl did not start; its log says why")
    if reporter.report.finish_reason == "running":  # a second Ctrl-C ended it without a closing word
        reporter.spider_closed(crawler.spider, "stopped")  # type: ignore[arg-type]
    return reporter.report


def _announce_interrupt() -> None:
    """Answer a Ctrl-C at once: what is on its way may take a while."""
    stop = signal.getsignal(signal.SIGINT)
    if not callable(stop):  # told to ignore it, as in the background of a script
        return

    def announce(number: int, frame: FrameType | None) -> None:
        print("ending after what is on its way; Ctrl-C again ends at once", file=sys.stderr, flush=True)
        stop(number, frame)

    signal.signal(signal.SIGINT, announce)


def _spider_class(name: str) -> type[Spider]:
    """Return the spider of a module; a mistake in it shows its traceback."""
    for value in vars(import_module(f"crawler.spiders.{name}")).values():
        if isinstance(value, type) and getattr(value, "name", None) == name:
            return value
    _fail(f"crawler/spiders/{name}.py has no spider whose name is {name!r}")


def _set(values: BaseSettings, name: str, value: str) -> None:
    """Take a setting, or refuse a value that is not of the kind of its default: Scrapy would end in a traceback."""
    from scrapy.settings import Settings as ScrapySettings

    defaults = ScrapySettings()
    defaults.setmodule("crawler.settings")
    default = defaults.get(name)
    if default is None and name not in defaults and (near := get_close_matches(name, list(defaults), 1, cutoff=0.8)):
        raise typer.BadParameter(f"no setting is called {name!r}; did you mean {near[0]!r}?", param_hint="-s")
    kind = "JSON"
    try:
        values.set(name, value, priority="cmdline")
        if name == "LOG_LEVEL":
            kind = f"one of {', '.join(logging.getLevelNamesMapping())}"
            _ = logging.getLevelNamesMapping()[value]
        elif isinstance(default, bool):
            kind = "1 or 0"
            values.getbool(name)
        elif isinstance(default, int | float):
            kind = "a number, 0 or more"
            if not values.getfloat(name) >= 0:
                raise ValueError(value)
    except (ValueError, KeyError) as error:
        raise typer.BadParameter(f"{name} must be {kind}, got {value!r}", param_hint="-s") from error


def _refuse(error: BaseException, settings: list[str]) -> NoReturn:
    """Say in one line what kept a crawl from starting, if a setting may have; else it is a bug of ours."""
    if not settings:
        raise error
    _fail(f"the crawl did not start with -s {' -s '.join(settings)}: {type(error).__name__}: {error}")


def _conclude(report: CrawlReport, *, raw: Path, dry_run: bool, max_failed: float, json: bool) -> None:
    if json and dry_run:
        print(dumps({"source": report.source, "known": len(report.known), "plan": report.plan_json()}, indent=1))
    elif json:
        print(report.to_json(ascii_only=True), end="")
    elif report.known:
        print(report.plan() if dry_run else report.table())
        if report.stored and not dry_run:
            print(f"wrote              {raw / report.source}")
    message = report.verdict(max_failed)
    if dry_run and report.known:
        message = report.error or None
    if message:
        _fail(message)


def _print_version(on: bool) -> None:
    if on:
        print(f"wavtext5k {version('wavtext5k')}")
        raise typer.Exit


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(1)


if __name__ == "__main__":
    main()
