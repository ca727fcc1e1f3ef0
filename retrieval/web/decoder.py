"""The child process that decodes one upload: whatever a hostile file does to a decoder, it does it here.

Started by ``retrieval.web.decoding`` as ``python -m retrieval.web.decoder`` with a socket for stdin. It imports what
decoding needs, no torch, then waits for its job: JSON, and with it two open files, the upload and an empty one for the
samples. It takes limits upon itself, decodes, answers in JSON and ends. It knows no file by name, and ends at once
when its socket closes, so that a server which is killed leaves nothing behind.
"""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np

from curation.audio import UnusableAudioError, listen

_MESSAGE_BYTES = 2**16
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SLACK_BYTES = 2**20


def main() -> None:
    """Take a job from the socket at stdin, do it, answer."""
    control = socket.socket(fileno=0)
    message, files, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, 2)
    if message:
        threading.Thread(target=_end_with, args=[control], daemon=True).start()
        job = json.loads(message)
        _limit(job)
        control.sendall(json.dumps(_decode(job, *files)).encode())
    os._exit(0)  # the files are closed; the interpreter's own end takes longer than most sounds


def _decode(job: dict[str, Any], upload: int, samples: int) -> dict[str, Any]:
    path, longest_s = Path(f"/dev/fd/{upload}"), job["max_duration_s"]
    try:
        with (
            listen(path, max_duration_s=longest_s, sample_rate=job["sample_rate"]) as sound,
            open(samples, "wb") as file,
        ):
            gain = np.float32(1 / max(1.0, sound.highest, -sound.lowest))
            for block in sound.blocks():
                file.write((block * gain).astype("<f4").data)
            return {"num_samples": sound.num_samples}
    except UnusableAudioError as error:
        return {"reason": error.reason.value, "problem": error.problem}
    except MemoryError:
        return {"reason": "memory", "problem": "it takes too much memory to decode"}
    except OSError as error:
        return {"reason": "disk" if error.errno in _FULL else "error", "problem": f"{type(error).__name__}: {error}"}
    except Exception as error:  # noqa: BLE001, told to the parent, which logs it
        return {"reason": "error", "problem": f"{type(error).__name__}: {error}"[:500]}


def _limit(job: dict[str, Any]) -> None:
    seconds, memory = math.ceil(job["timeout_s"]), job["memory_bytes"]
    most = int(job["max_duration_s"] * job["sample_rate"]) * 4 + _SLACK_BYTES
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    os.nice(5)  # searches come first


def _end_with(control: socket.socket) -> None:
    control.recv(1)  # the server never sends more: it is gone
    os._exit(1)


if __name__ == "__main__":
    main()
