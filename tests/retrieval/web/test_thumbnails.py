"""Pictures of clips show what is in them, whatever their length, and on any ground."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from curation.errors import AudioError
from retrieval.web.thumbnails import draw_thumbnail

RATE = 44_100
WAVE_ROWS = slice(0, 48)
SPECTROGRAM_ROWS = slice(52, 120)


def write(path: Path, waveform: np.ndarray) -> Path:
    soundfile.write(path, waveform.astype(np.float32), RATE, "PCM_16", format="FLAC")
    return path


def tone(frequency: float, seconds: float, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE)


def ink(png: bytes) -> np.ndarray:
    """Return the picture's opacity (height, width), 0 to 1."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))[:, :, 3] / 255


def test_the_picture_has_the_size_asked_for_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", tone(440, 1))
    assert ink(draw_thumbnail(path)).shape == (120, 480)
    assert ink(draw_thumbnail(path, width=33, height=24)).shape == (24, 33)
    assert draw_thumbnail(path) == draw_thumbnail(path)
    assert len(draw_thumbnail(path)) < 50_000


def test_the_wave_follows_the_level_and_the_time(tmp_path: Path) -> None:
    waveform = np.concatenate([tone(440, 1, 0.1), tone(440, 1, 0.9), np.zeros(RATE)])
    picture = ink(draw_thumbnail(write(tmp_path / "a.flac", waveform)))
    height = (picture[WAVE_ROWS] > 0.3).sum(axis=0)
    assert height[10:150].mean() < 9
    assert height[170:310].mean() > 40
    assert height[330:].max() <= 2
    assert picture[SPECTROGRAM_ROWS, 330:].max() == 0


def test_the_spectrogram_follows_the_frequency(tmp_path: Path) -> None:
    waveform = np.concatenate([tone(100, 1), tone(1000, 1), tone(10_000, 1)])
    picture = ink(draw_thumbnail(write(tmp_path / "a.flac", waveform)))[SPECTROGRAM_ROWS]
    rows = [picture[:, column].argmax() for column in (80, 240, 400)]
    assert rows[0] > rows[1] > rows[2]
    octaves = np.diff(rows) / -68 * np.log2(18_000 / 45)
    assert octaves == pytest.approx([np.log2(10)] * 2, abs=0.3)


def test_wave_and_spectrogram_share_their_time_axis(tmp_path: Path) -> None:
    waveform = np.zeros(RATE * 10)
    waveform[RATE * 6 : RATE * 7] = tone(2000, 1)
    picture = ink(draw_thumbnail(write(tmp_path / "a.flac", waveform)))
    wave = np.flatnonzero((picture[WAVE_ROWS] > 0.3).sum(axis=0) > 20)
    spectrum = np.flatnonzero(picture[SPECTROGRAM_ROWS].max(axis=0) > 0.5)
    assert (wave[0], wave[-1]) == pytest.approx((288, 335), abs=1)
    assert (spectrum[0], spectrum[-1]) == pytest.approx((288, 335), abs=2)


@pytest.mark.parametrize("num_samples", [1, 2, 3, 100, 4410])
def test_short_clips_are_drawn(tmp_path: Path, num_samples: int) -> None:
    picture = ink(draw_thumbnail(write(tmp_path / "a.flac", tone(3000, 1)[:num_samples] + 0.1)))
    assert (picture[WAVE_ROWS].max(axis=0) > 0).all()


@pytest.mark.parametrize("level", [0.0, 1 / 2**15])
def test_silence_is_a_line(tmp_path: Path, level: float) -> None:
    picture = ink(draw_thumbnail(write(tmp_path / "a.flac", np.full(RATE, level))))
    assert (picture[WAVE_ROWS].max(axis=0) > 0.3).all()
    assert picture[:20].max() == picture[30:].max() == 0


def test_a_quiet_clip_shows_its_shape(tmp_path: Path) -> None:
    picture = ink(draw_thumbnail(write(tmp_path / "a.flac", tone(440, 1, 0.01))))
    assert (picture[WAVE_ROWS] > 0.3).sum(axis=0).mean() > 40
    assert picture[SPECTROGRAM_ROWS].max() == 1


def test_the_colours_read_on_white_and_on_black(tmp_path: Path) -> None:
    """Everything that is wholly opaque has a contrast of 3 with both grounds at least (WCAG 2.1, 1.4.11)."""
    waveform = np.concatenate([tone(440, 1) * np.linspace(0, 1, RATE), np.random.default_rng(0).normal(0, 0.2, RATE)])
    png = draw_thumbnail(write(tmp_path / "a.flac", waveform))
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).reshape(-1, 4)
    colours = pixels[pixels[:, 3] > 250, :3] / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert len(luminance) > 1000
    assert (1.05 / (luminance + 0.05)).min() > 3
    assert ((luminance + 0.05) / (0.008 + 0.05)).min() > 3  # of #16181c


def test_a_clip_of_an_hour_is_sampled_within_bounds(tmp_path: Path) -> None:
    """Half of it a low tone, half a high one; read whole it would be 600 MB."""
    path = tmp_path / "a.flac"
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        for frequency, level in ((200, 0.1), (4000, 0.5)):
            minute = tone(frequency, 60, level)
            for _ in range(30):
                file.write(minute)
    tracemalloc.start()
    picture = ink(draw_thumbnail(path))
    assert tracemalloc.get_traced_memory()[1] < 30 * 2**20
    tracemalloc.stop()
    rows = picture[SPECTROGRAM_ROWS].argmax(axis=0)
    assert rows[:239].min() > rows[241:].max() + 20
    height = (picture[WAVE_ROWS] > 0.3).sum(axis=0)
    assert height[:239].max() < 15 < 40 < height[241:].min()


def test_other_rates_and_channels_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    stereo = np.stack([tone(440, 1), np.zeros(RATE)], axis=1)
    for rate in (8000, 192_000):
        soundfile.write(path, stereo, rate)
        assert ink(draw_thumbnail(path))[SPECTROGRAM_ROWS].max() == 1


@pytest.mark.parametrize("content", [b"", b"no sound", None])
def test_what_is_no_sound_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.flac"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.flac"):
        draw_thumbnail(path)


def test_a_clip_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", np.random.default_rng(0).normal(0, 0.1, RATE * 3))
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(AudioError, match=r"a\.flac"):
        draw_thumbnail(path)


def test_no_samples_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(0), RATE)
    with pytest.raises(AudioError, match="no samples"):
        draw_thumbnail(path)


@pytest.mark.parametrize(("width", "height"), [(0, 120), (480, 23)])
def test_a_picture_without_room_is_an_error(tmp_path: Path, width: int, height: int) -> None:
    with pytest.raises(ValueError, match="width must be at least 1 and height at least 24"):
        draw_thumbnail(write(tmp_path / "a.flac", tone(440, 1)), width=width, height=height)
