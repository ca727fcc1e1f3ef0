"""Fixtures: a folder of real audio files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.audio import write_html, write_tone


@pytest.fixture(scope="session")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one tone as tone.wav, tone.mp3, tone.flac, tone.ogg, and HTML as page.wav."""
    folder = tmp_path_factory.mktemp("audio")
    for name in ("tone.wav", "tone.mp3", "tone.flac", "tone.ogg"):
        write_tone(folder / name, seconds=0.2)
    write_html(folder / "page.wav")
    return folder
