"""Uploads: every form of a form, every odd file, and what they cost while and after they are heard."""

from __future__ import annotations

import contextlib
import gc
import gzip
import hashlib
import io
import json
import logging
import os
import signal
import struct
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import pytest
import soundfile
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from retrieval.web import decoding
from retrieval.web.errors import Refused
from retrieval.web.uploads import MAX_PARTS, MAX_TEXT_BYTES, UploadLimits, receive_sound
from tests.support.webserver import Answer, ask, connected, form, read_answer, running_server

RATE = 22_050
LIMITS = UploadLimits(max_bytes=3 * 2**20, max_duration_s=20, decode_timeout_s=15)
AUDIO = {"Content-Type": "audio/wav"}
Stuck = Callable[[UploadLimits], AbstractContextManager[tuple[str, int]]]


def app(limits: UploadLimits) -> Starlette:
    async def take(request: Request) -> Response:
        sound = await receive_sound(request, sample_rate=RATE, limits=limits)
        assert sound.waveform.dtype == np.float32
        values = sound.waveform[:: max(1, len(sound.waveform) // 50)]
        assert np.isfinite(values).all()
        assert np.abs(values).max() <= 1
        return JSONResponse(
            {
                "name": sound.name,
                "duration_s": sound.duration_s,
                "sha256": sound.sha256,
                "rms": float(np.sqrt(np.square(sound.waveform).mean())),
            }
        )

    async def refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return JSONResponse({"error": error.message}, status_code=error.status)

    return Starlette(routes=[Route("/", take, methods=["POST"])], exception_handlers={Refused: refusal})


@contextmanager
def server(limits: UploadLimits) -> Iterator[str]:
    with running_server(app(limits)) as address:
        yield address


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with server(LIMITS) as found:
        yield found


def upload(address: str, content: bytes, *, name: str = "a.wav") -> Answer:
    content_type, body = form(("sound", name, content))
    return ask(address, method="POST", headers={"Content-Type": content_type}, body=body)


def wav(
    *,
    seconds: float = 0.5,
    rate: int = RATE,
    channels: int = 1,
    level: float = 0.5,
    subtype: str = "PCM_16",
    kind: str = "WAV",
) -> bytes:
    file = io.BytesIO()
    tone = level * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    soundfile.write(file, np.repeat(tone[:, None], channels, axis=1), rate, subtype, format=kind)
    return file.getvalue()


def as_wav(samples: np.ndarray, *, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, "FLOAT", format="WAV")
    return file.getvalue()


def constant(value: float, *, seconds: float = 0.5, rate: int = RATE) -> bytes:
    return as_wav(np.full(int(seconds * rate), value), rate=rate)


def as_json(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer
    found: dict[str, Any] = json.loads(answer.body)
    return found


def check_refused(answer: Answer, status: int, words: str) -> None:
    assert answer.status == status, answer
    assert words in answer.text


def test_a_form_brings_a_sound_among_other_fields(address: str) -> None:
    content = wav()
    content_type, body = form(("tag", None, b"dog"), ("sound", "bark.wav", content), ("tag", None, "hörbar".encode()))
    answer = ask(address, method="POST", headers={"Content-Type": content_type}, body=body)
    found = as_json(answer)
    assert found["name"] == "bark.wav"
    assert found["duration_s"] == pytest.approx(0.5, abs=1 / RATE)
    assert found["sha256"] == hashlib.sha256(content).hexdigest()
    assert found["rms"] == pytest.approx(0.5 / 2**0.5, rel=1e-3)


@pytest.mark.parametrize("kind", ["audio/wav", "audio/x-anything; a=b", "AUDIO/MPEG", "application/octet-stream"])
def test_a_program_may_send_the_bare_file(address: str, kind: str) -> None:
    answer = ask(address, method="POST", headers={"Content-Type": kind}, body=wav(kind="FLAC"))
    assert as_json(answer)["name"] == ""


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_24"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
        ("AIFF", "FLOAT"),
    ],
)
def test_formats_rates_and_channels_become_one(address: str, kind: str, subtype: str) -> None:
    answer = upload(address, wav(seconds=1, rate=48_000, channels=2, kind=kind, subtype=subtype), name="misnamed.txt")
    found = as_json(answer)
    assert found["duration_s"] == pytest.approx(1, abs=0.1)
    assert found["rms"] == pytest.approx(0.5 / 2**0.5, rel=0.05)


def test_sound_above_full_scale_is_scaled_to_fit(address: str) -> None:
    answer = upload(address, wav(level=40.0, subtype="FLOAT"))
    assert as_json(answer)["rms"] == pytest.approx(1 / 2**0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("C:\\fakepath\\bark.wav", "bark.wav"),
        ("../../etc/passwd", "passwd"),
        ("bell\u202egpj.wav", "bellgpj.wav"),
        ("a\x00b\x1b[31m.wav", "ab[31m.wav"),
        ("\u96e8 \u7684 \u58f0\u97f3.flac", "\u96e8 \u7684 \u58f0\u97f3.flac"),
        ("a" * 500, "a" * 120),
        ("<script>", "<script>"),
    ],
)
def test_a_name_is_kept_without_folders_and_what_cannot_be_seen(address: str, name: str, shown: str) -> None:
    assert as_json(upload(address, wav(), name=name))["name"] == shown


def test_a_name_that_is_no_unicode_is_shown_with_marks(address: str) -> None:
    content_type, body = form(("sound", "NAME", wav()))
    body = body.replace(b"NAME", b"caf\xe9.wav")
    answer = ask(address, method="POST", headers={"Content-Type": content_type}, body=body)
    assert as_json(answer)["name"] == "caf\ufffd.wav"


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        pytest.param(b"", 400, "The file is empty.", id="nothing"),
        pytest.param(b"just words", 415, "not audio: the first bytes are 'just words'", id="text"),
        pytest.param(b"<!DOCTYPE html><html>", 415, "not audio", id="html"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(100), 415, "not audio", id="picture"),
        pytest.param(os.urandom(5000), 415, "not audio", id="noise"),
        pytest.param(gzip.compress(bytes(5_000_000)), 415, "not audio", id="gzip bomb"),
        pytest.param(wav(seconds=0), 422, "empty: no samples in it", id="no samples"),
        pytest.param(wav()[:2000], 422, "truncated", id="cut"),
        pytest.param(wav(seconds=0.01), 422, "too short to search with: 0.010 s", id="a click"),
        pytest.param(wav(seconds=21, rate=8000), 422, "longer than 20 s. Cut out", id="long"),
        pytest.param(wav(rate=500), 422, "the header says 500 Hz", id="low rate"),
        pytest.param(wav(level=0), 422, "nothing to hear in this file: its sound stays below -80 dBFS", id="zeros"),
        pytest.param(wav(level=9e-5, subtype="FLOAT"), 422, "stays below -80 dBFS", id="faint"),
        pytest.param(constant(0.5), 422, "nothing to hear in this file: all of its samples are one", id="constant"),
        pytest.param(constant(-3.0), 422, "one constant value", id="beyond full scale"),
        pytest.param(constant(0.5, rate=48_000), 422, "one constant value", id="constant, resampled"),
        pytest.param(constant(0.5, rate=8_000), 422, "one constant value", id="constant, from fewer samples"),
        pytest.param(constant(0.001, seconds=0.06, rate=44_100), 422, "one constant value", id="short and constant"),
    ],
)
def test_what_is_no_sound_is_refused_with_a_sentence(address: str, content: bytes, status: int, words: str) -> None:
    check_refused(upload(address, content, name="sound.flac"), status, words)


def test_what_can_hardly_be_heard_is_taken(address: str) -> None:
    click = np.zeros(RATE)
    click[0] = 0.5
    offset = 0.5 + 0.001 * np.sin(np.arange(RATE) / 10)
    for samples in (click, offset, np.where(np.arange(RATE) == 9000, 2e-4, 0)):
        assert upload(address, as_wav(samples)).status == 200
    assert upload(address, wav(level=1.1e-4, subtype="FLOAT")).status == 200


def test_an_archive_is_no_sound_whatever_it_swells_to(address: str) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sound.wav", bytes(50_000_000))
    check_refused(upload(address, file.getvalue(), name="sound.flac"), 415, "not audio")


@pytest.mark.parametrize(("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
def test_hours_of_silence_in_a_small_file_are_refused(address: str, kind: str, subtype: str) -> None:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 8000, 1, subtype, format=kind) as sound:
        for _ in range(30 if kind == "FLAC" else 1):
            sound.write(np.zeros(8000 * 120, np.float32))
    assert len(file.getvalue()) < LIMITS.max_bytes
    check_refused(upload(address, file.getvalue(), name=f"sound.{kind.lower()}"), 422, "longer than 20 s")


def header(*, rate: int = RATE, channels: int = 1, bits: int = 16, size: int = 2000, kind: int = 1) -> bytes:
    """Return a WAV header that says what it is told."""
    width = max(1, bits // 8)
    layout = struct.pack("<HHIIHH", kind, channels, rate, rate * width % 2**32, width * channels % 2**16, bits)
    return (
        b"RIFF"
        + struct.pack("<I", (size + 36) % 2**32)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + layout
        + b"data"
        + struct.pack("<I", size)
    )


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"size": 2_000_000_000}, "truncated: 0.00% of the declared data is there"),
        ({"rate": 1}, "the header says 1 Hz"),
        ({"rate": 2**32 - 1}, "sound"),
        ({"rate": 2**31 - 1}, "sound"),
        ({"rate": 0}, "sound"),
        ({"channels": 0}, "sound"),
        ({"channels": 2**16 - 1}, "sound"),
        ({"bits": 0}, "sound"),
        ({"bits": 2**16 - 1}, "sound"),
        ({"kind": 0x55}, "sound"),
        ({"kind": 0xFFFF}, "sound"),
    ],
)
def test_headers_that_lie_are_refused(address: str, head: dict[str, int], words: str) -> None:
    check_refused(upload(address, header(**head) + bytes(range(256)) * 8), 422, words)


@pytest.mark.parametrize("size", [2**32 - 1, 3_900_000_000])
def test_a_data_size_of_gigabytes_means_to_the_end(address: str, size: int) -> None:
    """As programs write it that cannot seek back: what is there is heard, no more."""
    answer = upload(address, header(size=size) + bytes(range(256)) * (RATE // 128) + bytes(RATE * 2 % 256))
    assert as_json(answer)["duration_s"] == pytest.approx(1)


def test_many_channels_are_heard_as_one(address: str) -> None:
    assert as_json(upload(address, wav(seconds=0.1, channels=256)))["rms"] == pytest.approx(0.5 / 2**0.5, rel=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e35])
def test_samples_that_are_no_numbers_are_refused(address: str, value: float) -> None:
    samples = np.zeros(8000, np.float32)
    samples[4000] = value
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, "FLOAT", format="WAV")
    check_refused(upload(address, file.getvalue()), 422, "the first is sample 4000")


def test_a_flac_header_that_lies_about_its_length(address: str) -> None:
    content = bytearray(wav(kind="FLAC"))
    content[21] |= 0x0F  # the number of samples: 36 bits in bytes 21 to 25
    content[22:26] = b"\xff" * 4
    check_refused(upload(address, bytes(content)), 422, "truncated")


@pytest.mark.parametrize(
    ("content_type", "body", "words"),
    [
        ("multipart/form-data", b"", "names no boundary"),
        ("multipart/form-data; boundary=", b"", "names no boundary"),
        ("multipart/form-data; boundary=" + "a" * 71, b"", "names no boundary"),
        ("multipart/form-data; boundary=a", b"", "ends before its end"),
        ("multipart/form-data; boundary=a", b"--b\r\n", "is not multipart"),
        ("multipart/form-data; boundary=a", b"nothing of the kind", "is not multipart"),
        ("multipart/form-data; boundary=a", b"--a--\r\n", "has no file"),
        ("multipart/form-data; boundary=a", b"--a\r\n\r\nabc\r\n--a--\r\n", "has no file"),
        ("multipart/form-data; boundary=a", b"--a\r\n\x00: b\r\n\r\n", "is not multipart"),
        ("multipart/form-data; boundary=a", b"--a\r\n" + b"X: " + b"y" * 10_000, "broken"),
        ("multipart/form-data; boundary=a", b"--a\r\n" + b"X: y\r\n" * 100_000, "broken"),
        ("multipart/form-data; boundary=a", b"--a\r\n" + b"X" * 100_000, "broken"),
        ("multipart/form-data; boundary=a", b"--a\r\n\r\n\r\n" * (MAX_PARTS + 1), f"more than {MAX_PARTS} fields"),
        ("multipart/form-data; boundary=a", b"--a\r\n\r\n" + bytes(MAX_TEXT_BYTES + 1), "holds too much"),
    ],
)
def test_a_broken_form_is_refused(address: str, content_type: str, body: bytes, words: str) -> None:
    answer = ask(address, method="POST", headers={"Content-Type": content_type}, body=body)
    check_refused(answer, 400, words)


def test_a_form_without_its_file_or_with_two_is_refused(address: str) -> None:
    for parts, words in (
        ([("other", "a.wav", wav())], 'no file in its field \\"sound\\"'),
        ([("sound", "", b"")], "No file was chosen."),
        ([("sound", "a.wav", wav()), ("sound", "b.wav", wav())], "more than one file"),
    ):
        content_type, body = form(*parts)
        answer = ask(address, method="POST", headers={"Content-Type": content_type}, body=body)
        check_refused(answer, 400, words)


def test_half_a_form_is_refused(address: str) -> None:
    content_type, body = form(("sound", "a.wav", wav()))
    for end in (100, len(body) // 2, len(body) - 5):
        answer = ask(address, method="POST", headers={"Content-Type": content_type}, body=body[:end])
        check_refused(answer, 400, "ends before its end")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json", "application/x-www-form-urlencoded", "audio"])
def test_other_content_is_refused(address: str, kind: str) -> None:
    check_refused(
        ask(address, method="POST", headers={"Content-Type": kind}, body=wav()), 415, "Send the sound as a form"
    )


def test_a_file_beyond_the_limit_is_refused(address: str) -> None:
    check_refused(upload(address, bytes(LIMITS.max_bytes + 1)), 413, "at most 3 MB")
    answer = ask(address, method="POST", headers=AUDIO, body=bytes(LIMITS.max_bytes + 1))
    check_refused(answer, 413, "at most 3 MB")


def test_an_upload_that_never_ends_is_refused() -> None:
    with server(UploadLimits(receive_timeout_s=0.3)) as address, connected(address) as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\nContent-Length: 99\r\n\r\nRIFF"
        )
        check_refused(read_answer(client), 408, "The upload took more than 0.3 s")


def hour_of_silence() -> bytes:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 8000, 1, "PCM_16", format="FLAC") as sound:
        for _ in range(60):
            sound.write(np.zeros(8000 * 60, np.int16))
    return file.getvalue()


def test_a_file_that_takes_long_to_decode_is_given_up() -> None:
    with server(UploadLimits(max_duration_s=1e5, decode_timeout_s=0.1)) as address:
        check_refused(upload(address, hour_of_silence()), 422, "This file takes more than 0.1 s to decode.")


def test_a_file_that_takes_much_memory_is_given_up() -> None:
    with server(UploadLimits(max_duration_s=1e5, decode_memory_bytes=220 * 2**20)) as address:
        check_refused(upload(address, hour_of_silence()), 422, "too much memory")
        assert upload(address, wav()).status == 200


def test_a_file_that_takes_much_disk_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with server(LIMITS) as address:
        monkeypatch.setattr(tempfile, "TemporaryFile", full)
        with caplog.at_level(logging.WARNING):
            check_refused(upload(address, wav(seconds=9)), 507, "has no room")
        assert "an upload could not be stored: [Errno 28] No space left on device" in caplog.text


def full(**_: Any) -> IO[bytes]:
    """A file on a disk without room."""
    return Path("/dev/full").open("r+b", buffering=0)


def unwritable(**_: Any) -> IO[bytes]:
    return Path(os.devnull).open("rb")


def test_a_decoder_without_room_is_told_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with server(LIMITS) as address:
        monkeypatch.setattr(decoding, "tempfile", SimpleNamespace(TemporaryFile=full))
        with caplog.at_level(logging.WARNING):
            check_refused(upload(address, wav()), 507, "has no room")
        assert "no room for a decoder's sound: OSError: [Errno 28] No space left on device" in caplog.text


def test_another_fault_of_the_disk_is_not_called_a_lack_of_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with server(LIMITS) as address:
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "tempfile", SimpleNamespace(TemporaryFile=unwritable))
            check_refused(upload(address, wav()), 422, "cannot be decoded")
        assert "a decoder failed: OSError: [Errno 9]" in caplog.text
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        check_refused(upload(address, wav()), 500, "could not store this sound; its log says why")
        assert "an upload could not be stored: [Errno 2]" in caplog.text


def decoders() -> list[int]:
    """Return the decoders that are this process's children."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (folder / "stat").read_text().rpartition(")")[2].split()
            if state[1] == str(os.getpid()) and state[0] != "Z" and b"decoder" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    ended = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ended
        time.sleep(0.02)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stuck:
    """Servers whose next decoder is stopped, as one in an endless loop would be."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    @contextmanager
    def run(limits: UploadLimits) -> Iterator[tuple[str, int]]:
        gc.collect()
        others = set(decoders())  # of other servers
        with server(limits) as address:
            assert upload(address, wav()).status == 200
            wait_until(lambda: len(set(decoders()) - others) == 1)  # a moment after its start it has no command line
            (decoder,) = set(decoders()) - others
            os.kill(decoder, signal.SIGSTOP)
            yield address, decoder
            assert list(tmp_path.iterdir()) == []
            assert upload(address, wav()).status == 200

    return run


def test_a_decoder_that_hangs_is_killed(stuck: Stuck) -> None:
    with stuck(UploadLimits(decode_timeout_s=0.3)) as (address, decoder):
        check_refused(upload(address, wav()), 422, "takes more than 0.3 s")
        assert decoder not in decoders()


def test_a_decoder_whose_client_has_gone_is_killed(stuck: Stuck) -> None:
    with stuck(LIMITS) as (address, decoder):
        content_type, body = form(("sound", "a.wav", wav()))
        with connected(address) as client:
            head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            time.sleep(0.3)
            assert decoder in decoders()
        wait_until(lambda: decoder not in decoders())


def test_a_client_that_goes_while_it_sends_leaves_nothing(stuck: Stuck) -> None:
    with stuck(LIMITS) as (address, decoder):
        with connected(address) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: audio/wav\r\nContent-Length: 99\r\n\r\nRIFF")
        os.kill(decoder, signal.SIGCONT)


def test_a_decoder_that_dies_is_told_of_and_replaced(stuck: Stuck) -> None:
    with stuck(LIMITS) as (address, decoder), ThreadPoolExecutor() as threads:
        answer = threads.submit(upload, address, wav())
        time.sleep(0.3)
        os.kill(decoder, signal.SIGKILL)
        check_refused(answer.result(), 422, "This file breaks the decoder")


def test_a_decoder_that_died_while_it_waited_is_replaced(stuck: Stuck) -> None:
    with stuck(LIMITS) as (address, decoder):
        os.kill(decoder, signal.SIGKILL)
        wait_until(lambda: decoder not in decoders())
        assert upload(address, wav()).status == 200


def test_no_more_than_so_many_decode_at_once(stuck: Stuck) -> None:
    with stuck(UploadLimits(decode_at_once=1, wait_s=0.2)) as (address, decoder), ThreadPoolExecutor() as threads:
        answers = [threads.submit(upload, address, wav()) for _ in range(3)]
        wait_until(lambda: sum(answer.done() for answer in answers) == 2)
        os.kill(decoder, signal.SIGCONT)
        assert sorted(answer.result().status for answer in answers) == [200, 503, 503]


def test_two_decode_at_once_and_a_third_waits(stuck: Stuck) -> None:
    with stuck(LIMITS) as (address, decoder), ThreadPoolExecutor() as threads:
        answers = [threads.submit(upload, address, wav()) for _ in range(3)]
        wait_until(lambda: sum(answer.done() for answer in answers) == 2)
        os.kill(decoder, signal.SIGCONT)
        assert [answer.result().status for answer in answers] == [200, 200, 200]


def test_no_decoder_outlives_its_app(stuck: Stuck) -> None:
    before = set(decoders())
    with stuck(LIMITS) as (_, decoder):
        os.kill(decoder, signal.SIGCONT)
    gc.collect()
    assert set(decoders()) <= before


HARD = Path(os.environ.get("WAVTEXT5K_DATA", ".")) / "hard-audio"


@pytest.mark.long
@pytest.mark.skipif(not HARD.is_dir(), reason="needs the folder hard-audio in WAVTEXT5K_DATA")
def test_every_odd_file_is_heard_or_refused_with_a_sentence() -> None:
    found: Counter[int] = Counter()
    with server(UploadLimits()) as address:
        for path in sorted(HARD.iterdir()):
            answer = upload(address, path.read_bytes(), name="sound")
            assert answer.status in (200, 400, 415, 422), (path, answer)
            assert answer.status == 200 or answer.text.endswith(('."}', '")}')), (path, answer)
            found[answer.status] += 1
    print(found)
    assert found.total() == len(list(HARD.iterdir())) > 100
