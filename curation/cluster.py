"""A Dask cluster that runs elsewhere, as a place where work runs: Slurm, Kubernetes, or a few machines.

Its workers need this package, in the same versions, and the folders that the work names; a scheduler needs Dask alone.
How to reach it (certificates) and how patient to be is set where Dask's users set it, in Dask's own configuration.
"""

from __future__ import annotations

import contextlib
import re
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

from curation.errors import ConfigError
from curation.machines import Machines, Slots, deaths, gone, quiet_logs
from curation.versions import differences, versions

_CONNECT_S = 10
_ADDRESS = re.compile(r"(tcp|tls)://[^/\s]+:[0-9]{1,5}")


@contextlib.contextmanager
def cluster(address: str) -> Iterator[Machines]:
    """Give the workers of a running Dask cluster, however many there are at a time.

    Args:
        address: Of its scheduler: ``tcp://host:8786``.

    Raises:
        ConfigError: If there is no scheduler at that address, or its versions are not ours.
        EngineError: If it has no workers for minutes, or the scheduler goes away.
    """
    check_address(address)
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_logs())
        client = stack.enter_context(contextlib.closing(_connect(address)))
        found = client.get_versions()
        check_versions(found["scheduler"]["packages"], found["client"]["packages"], address)
        slots = Slots(client, address, advice=f"start some: dask worker {address} --nthreads 1")
        try:
            yield Machines(
                executor=client.get_executor(pure=False),
                slots=slots,
                deaths=deaths(),
                versions=versions(),
                is_own=False,
            )
        except CancelledError as error:
            raise gone(address) from error
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{address}: a worker says: {error}; install this package with the same versions on every machine "
                "that works, start the workers again, and run the same command again"
            ) from error


def check_address(address: str) -> None:
    """Refuse what cannot be the address of a scheduler; asks nobody.

    Raises:
        ConfigError: If it is none.
    """
    if not _ADDRESS.fullmatch(address):
        raise ConfigError(f"--scheduler {address}: must be a Dask scheduler's address, such as tcp://10.0.0.5:8786")


def _connect(address: str) -> Any:
    from distributed import Client, Security

    if address.startswith("tls:") and Security().get_connection_args("client")["ssl_context"] is None:
        raise ConfigError(
            f"--scheduler {address}: name your certificates in Dask's configuration, distributed.comm.tls"
        )
    answer: Future[Any] = Future()

    def connect() -> None:
        try:
            answer.set_result(Client(address, timeout=_CONNECT_S, set_as_default=False, name="wavtext5k-curate"))
        except Exception as error:  # noqa: BLE001  the future raises it again
            answer.set_exception(error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other versions on workers: each says so itself, see the engine
        # In a thread, since Dask waits for ever where something listens that is no scheduler and says nothing.
        threading.Thread(target=connect, daemon=True).start()
        try:
            return answer.result(timeout=_CONNECT_S + 1)
        except (OSError, ValueError, RuntimeError, ImportError) as error:  # TimeoutError is an OSError
            said = " ".join(str(error).split()) or "it says nothing"
            raise ConfigError(
                f"--scheduler {address}: no Dask scheduler answers there ({said}); "
                "start one with: dask scheduler, and name the address that it prints"
            ) from error


def check_versions(theirs: dict[str, Any], ours: dict[str, Any], address: str) -> None:
    """Refuse a scheduler of another Python or Dask: what they send each other is not promised to fit.

    Args:
        theirs, ours: Versions of packages by name, as Dask tells them.
        address: Of the scheduler.

    Raises:
        ConfigError: If they differ in what counts.
    """
    if others := differences(_speech(theirs), _speech(ours)):
        raise ConfigError(
            f"--scheduler {address}: it runs {', '.join(others)}; install the same versions there and here"
        )


def _speech(packages: dict[str, Any]) -> dict[str, str]:
    python = ".".join(str(packages["python"]).split(".")[:2])
    return {"Python": python} | {name: str(packages[name]) for name in ("dask", "distributed", "cloudpickle")}
