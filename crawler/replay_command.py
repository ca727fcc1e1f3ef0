"""wavtext5k-crawl replay: downloads what a published list names, or checks what of it is still to be had.

Parses the options, calls crawler.replay or crawler.replay_check, prints. Imports of either happen inside the command.
"""

from __future__ import annotations

import sys
from json import dumps
from math import isfinite
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crawler.published import Published, PublishedRow
    from crawler.replay import Job

    Rows = Mapping[str, Sequence[PublishedRow]]
    Plan = dict[str, tuple[dict[str, int], int]]
    """Source -> what its rows are, and the requests that a missing one takes."""

EPILOG = "Example: wavtext5k-crawl replay WavText5K.csv --limit 20 --contact mailto:you@example.org"

MAX_FAILED = 0.1
"""As of a crawl."""
TABLE = "replay_check.csv"

_SOURCES = ("soundbible", "bigsoundbank")

_REQUESTS = {"soundbible": 3, "bigsoundbank": 3}
_REQUESTS_WITHOUT_PAGES = {"soundbible": 2, "bigsoundbank": 3}
_REQUESTS_OF_CHECK = {"soundbible": 2, "bigsoundbank": 4}
"""Of most rows, as counted on the sites, redirects among them: a plan says how long it takes."""


def replay(
    published_csv: Annotated[Path, typer.Argument(metavar="CSV", help="The published list, such as WavText5K.csv.")],
    raw: Annotated[Path, typer.Option(help="Folder for records and audio.")] = Path("data/raw"),
    base_url: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Another host with the same pages: URL, or soundbible=URL; may be repeated."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows of each site, so many.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked; ask and write nothing.")] = False,
    max_failed: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the rows that may fail; more exits 1.")
    ] = MAX_FAILED,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Ask for headers only; write a table of what is alive, healed and gone. "
            "Reservations inside pages are not seen.",
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help=f"The table of --check; by default {TABLE} under --raw.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Check every row anew, also those in the table.")] = False,
    no_pages: Annotated[
        bool,
        typer.Option(
            "--no-pages",
            help="Read no page of a row that is alive: its licence stays unknown until its record is deleted.",
        ),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask rows again that failed for good within the last week.")
    ] = False,
    opt_out: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="File of clip_ids and addresses to leave out, one a line."),
    ] = None,
    contact: Annotated[str, typer.Option(help="Whom the sites may ask: mailto:you@example.org, or a page.")] = "",
    delay: Annotated[float, typer.Option(min=0, help="Seconds between two requests to a site.")] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON to stdout.")] = False,
) -> None:
    """Download what a published list of clips names, dead links healed through the clips' present pages.

    Title, description and tags are the list's own; author and licence come from the pages. A second run asks only for
    what is missing, and what a crawl has stored stays as it is.
    """
    if (out or again) and not check:
        raise typer.BadParameter("is of --check alone", param_hint="--out" if out else "--again")
    if check and (no_pages or retry_failed):
        hint = "--no-pages" if no_pages else "--retry-failed"
        raise typer.BadParameter("is of a replay alone, not of --check", param_hint=hint)
    if not isfinite(delay):
        raise typer.BadParameter(f"must be a number of seconds, got {delay}", param_hint="--delay")
    try:
        from crawler.published import PublishedError, read_published
        from crawler.replay import Job, by_source
        from crawler.replay_client import Manners
        from crawler.site import user_agent
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("requests", "urllib3", "parsel", "protego", "bs4", "w3lib"):
            raise
        _fail('a replay needs the crawl extra: pip install "wavtext5k[crawl]"')
    urls = _base_urls(base_url or [])
    opt_outs = _read_opt_outs(opt_out)
    try:
        published = read_published(published_csv)
    except PublishedError as error:
        _fail(str(error))
    for message in published.refused:
        print(f"refused: {message}", file=sys.stderr)
    rows = by_source(published.rows, limit)
    manners = Manners(agent=user_agent(contact), delay_s=delay)
    job = Job(
        raw=raw,
        manners=manners,
        base_urls=urls,
        opt_outs=opt_outs,
        retries_failed=retry_failed,
        reads_all_pages=not no_pages,
    )
    if not (dry_run or contact) and any(source not in urls for source in rows):
        print("name yourself to the sites: --contact mailto:you@example.org", file=sys.stderr)
    if check:
        out = out or raw / TABLE
        if dry_run:
            _plan_check(published, rows, job, out=out, again=again, json=json)
        else:
            _check(published, rows, job, out=out, again=again, max_failed=max_failed, json=json)
    elif dry_run:
        _plan(published, rows, job, json=json)
    else:
        _replay(published, rows, job, max_failed=max_failed, json=json)


def _replay(published: Published, rows: Rows, job: Job, *, max_failed: float, json: bool) -> None:
    from crawler.replay import replay as run

    reports = run(rows, job)
    if json:
        values = ", ".join(f'"{source}": {report.to_json(ascii_only=True)}' for source, report in reports.items())
        print(f'{{"refused": {dumps(published.refused)}, "sites": {{{values}}}}}')
    else:
        for source, report in reports.items():
            print(f"{source}\n{report.table()}")
            if report.stored:
                print(f"wrote              {job.raw / source}")
    wrong = [f"{source}: {message}" for source, report in reports.items() if (message := report.verdict(max_failed))]
    _conclude(published, wrong, sum(report.asked for report in reports.values()), max_failed)


def _check(
    published: Published, rows: Rows, job: Job, *, out: Path, again: bool, max_failed: float, json: bool
) -> None:
    from crawler.replay_check import State, Table, TableError, check, table_text
    from crawler.store import words_of

    try:
        table = Table(out, again=again)
    except TableError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or out}: {words_of(error)}")
    with table:
        verdict = check(rows, job, table)
    if json:
        values = {
            "refused": published.refused,
            "states": verdict.states,
            "left_out": verdict.left_out,
            "unchecked": verdict.unchecked,
            "requests": verdict.requests,
            "warnings": verdict.warnings,
            "error": verdict.error,
            "table": str(out),
        }
        print(dumps(values, indent=1))
    else:
        print(table_text(verdict))
        print(f"wrote {out}")
    wrong = [verdict.error] if verdict.error else []
    rows_checked = sum(states.total() for states in verdict.states.values())
    lost = sum(states[State.GONE] + states[State.UNKNOWN] for states in verdict.states.values())
    if not wrong and lost > max_failed * rows_checked:
        wrong.append(f"{lost} of {rows_checked} rows are gone or unknown, more than --max-failed {max_failed:g}")
    _conclude(published, wrong, rows_checked, max_failed)


def _plan_check(published: Published, rows: Rows, job: Job, *, out: Path, again: bool, json: bool) -> None:
    from crawler.replay_check import SiteCheck, TableError, read_table

    try:
        done = {} if again else read_table(out)
    except TableError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{out}: {error.strerror}")
    plan: Plan = {}
    for source, those in rows.items():
        one = SiteCheck(source, those, job, done, Event())
        missing = len(one.missing())
        parts = {"checked": one.states().total(), "left_out": len(one.left_out), "missing": missing}
        plan[source] = (parts, _REQUESTS_OF_CHECK[source])
    _print_plan(published, plan, job, json=json)


def _plan(published: Published, rows: Rows, job: Job, *, json: bool) -> None:
    from crawler.replay import SiteReplay

    plan: Plan = {}
    each = _REQUESTS if job.reads_all_pages else _REQUESTS_WITHOUT_PAGES
    for source, those in rows.items():
        one = SiteReplay(source, those, job, Event())
        missing = len(one.missing())
        parts = {
            "stored": len(one.report.already),
            "left_out": len(one.report.left_out),
            "failed": len(one.report.failures),
            "missing": missing,
        }
        plan[source] = (parts, each[source])
    _print_plan(published, plan, job, json=json)


def _print_plan(published: Published, plan: Plan, job: Job, *, json: bool) -> None:
    """Print what each source's rows are, and the requests that the missing ones take."""
    delay_s = job.manners.delay_s
    words = {"left_out": "left out (opted_out)", "failed": "failed for good lately"}
    values = {}
    for source, (parts, each) in plan.items():
        rows, missing = sum(parts.values()), parts["missing"]
        requests = missing * each + 2 * bool(missing)  # robots.txt and tdmrep.json
        seconds = requests * delay_s
        values[source] = {"rows": rows, **parts, "requests": requests, "seconds": seconds}
        if not json:
            those = ", ".join(f"{n} {words.get(name, name)}" for name, n in parts.items() if n or name == "missing")
            effort = f"about {requests} requests, {seconds / 60:.0f} minutes at {delay_s:g} s between two"
            print(f"{source}: {rows} rows: {those}: {effort}")
    if json:
        print(dumps({"refused": published.refused, "sites": values}, indent=1))


def _conclude(published: Published, wrong: list[str], asked: int, max_failed: float) -> None:
    """End with 1 if something is wrong; refused rows count as failed ones."""
    if not (published.rows or published.refused):
        wrong.append("the list has no row")
    refused = len(published.refused)
    if refused > max_failed * (asked + refused):
        share = f"{refused} of {asked + refused} rows were refused (named above)"
        wrong.append(f"{share}, more than --max-failed {max_failed:g}")
    if wrong:
        for message in wrong[:-1]:
            print(f"error: {message}", file=sys.stderr)
        _fail(wrong[-1])


def _base_urls(options: list[str]) -> dict[str, str]:
    """Return source -> base_url; one without a source holds for every source that has none of its own."""
    urls: dict[str, str] = {}
    for option in options:
        name, equals, url = option.partition("=")
        if not (equals and name in _SOURCES):
            name, url = "", option
        if name in urls:
            raise typer.BadParameter(f"{name or 'both sites'} named twice", param_hint="--base-url")
        urls[name] = _checked_url(url)
    return {source: urls[key] for source in _SOURCES if (key := source if source in urls else "") in urls}


def _checked_url(url: str) -> str:
    from crawler.site import Site

    try:
        return Site("https://example.org", (), url).base_url
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--base-url") from error


def _read_opt_outs(file: Path | None) -> frozenset[str]:
    from crawler.items import RecordError, read_opt_outs

    if file is None:
        return frozenset()
    try:
        return read_opt_outs(file)
    except OSError as error:
        _fail(f"{file}: {error.strerror}")
    except RecordError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(1)
