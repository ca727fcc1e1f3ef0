"""Finds pretrained text encoders and tokenizers: a folder, this machine's cache of published models, or the network.

Only here does training ask a network for anything, and briefly: a machine without one must hear so at once.
"""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation.errors import ConfigError


def folder_or_name(source: str | Path) -> str:
    """Return a folder that exists, or what may be the name of a published model.

    Raises:
        ConfigError: If it is neither: a file, or a path where nothing is. The network is not asked about those.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HFValidationError

    path = Path(source).expanduser() if str(source).startswith("~/") else Path(source)
    try:
        if str(source) and path.is_dir():
            return str(path)
        if path.is_file():
            raise ConfigError(f"{path}: is a file; name the folder that holds it with its config.json and tokenizer")
        hf_hub_url(str(source), "config.json")
    except HFValidationError:
        raise ConfigError(f"{source}: no such folder, and no name of a published model either") from None
    except OSError as error:
        raise ConfigError(f"{source}: cannot be opened: {error.strerror}") from error
    return str(source)


def local_or_fetched(load: Callable[..., Any], source: str, **options: Any) -> Any:
    """Return what a from_pretrained function loads: from this machine if it is there, otherwise over the network.

    The network is asked one short question first: the libraries would try a dead one again and again, for minutes.

    Raises:
        OSError: If it is neither here nor to be had.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with _quiet():
        try:
            return load(source, local_files_only=True, **options)
        except OSError:
            if Path(source).is_dir():
                raise
        try:
            get_hf_file_metadata(hf_hub_url(source, "config.json"), timeout=5)
        except Exception as error:
            raise OSError(f"not on this machine, and not to be fetched: {error}") from error
        return load(source, **options)


def not_loaded(source: str, error: Exception) -> str:
    """Return the message for a text encoder or tokenizer that cannot be loaded."""
    reason = textwrap.shorten(str(error).strip().partition("\n")[0], 200, placeholder=" ...")
    if not isinstance(error, OSError | ValueError):
        reason = f"{type(error).__name__}: {reason}"
    if Path(source).is_dir():
        return f"{source}: could not be loaded ({reason})"
    return (
        f"model.text.encoder: {source!r} could not be loaded ({reason}); fetch it on a machine with a network and name "
        "its folder: model.text.encoder=/path/to/roberta-base, or train a small one: model.text.encoder=scratch"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' bars and reports off the screen: what matters of them is said by ``_check_loaded``."""
    import transformers

    bars: Any = transformers.utils.logging
    loggers = {name: logging.getLogger(name) for name in ("transformers", "huggingface_hub")}
    levels, had_bars = {name: logger.level for name, logger in loggers.items()}, bars.is_progress_bar_enabled()
    for logger in loggers.values():
        logger.setLevel(logging.ERROR)
    bars.disable_progress_bar()
    try:
        yield
    finally:
        for name, logger in loggers.items():
            logger.setLevel(levels[name])
        if had_bars:
            bars.enable_progress_bar()
