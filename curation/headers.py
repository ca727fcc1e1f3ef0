"""What an audio file's own bytes say beside what its decoder reads: what it is, and whether all of it is there.

libsndfile takes a file that was cut short for a shorter one, and stops where a header or its own estimate says the
sound ends though more follows. The functions here read tags, chunks and pages to find that out; they take a file open
for reading bytes, and leave it at any position. No length that a file declares is used for anything but comparing.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

HEAD = 512
"""Bytes that tell what a file is."""

_STREAMED = 0x7FFF_F000  # a declared length from here on means "not known when the header was written"

# What libsndfile reads; then MP4, ASF (WMA), Matroska, AC-3, Ogg, AMR, which FFmpeg reads (AAC begins like MP3).
_AUDIO_MAGIC = re.compile(
    rb"RIFF|RIFX|RF64|riff|FORM|fLaC|ID3|\.snd|caff|wvpk|\xff[\xe0-\xff]"
    rb"|....ftyp|\x30\x26\xb2\x75|\x1a\x45\xdf\xa3|\x0b\x77|OggS|#!AMR",
    re.DOTALL,
)
_UTF16_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}

# libsndfile's log names the chunk that holds the samples in each container: WAV and CAF, AIFF, AU, RF64, W64.
_SHORT_DATA = re.compile(r"^\s*(?:data|SSND|Data Size|Riff size|riff)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)

# The first MPEG frame may hold no sound but counts: after 4 bytes of header, maybe 2 of checksum, and 9 to 32 of zeros.
_MPEG_COUNTS = re.compile(
    rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]..(?:..)?(?:.{9}|.{17}|.{32})"
    rb"(?:(?:Xing|Info)(?P<xing>.{12})|VBRI.{6}(?P<vbri>.{4}))",
    re.DOTALL,
)
_SEARCHED = 2**16  # bytes after the tags
_FRAME_MARKS = {  # first bytes of a frame, and the most bytes that one usually has
    "MP3": ([bytes([0xFF, low]) for low in (0xE2, 0xE3, 0xF2, 0xF3, 0xFA, 0xFB, 0xFC, 0xFD)], 1441),
    "FLAC": ([b"\xff\xf8", b"\xff\xf9"], 16_384),
}
_KILOBITS = {  # a second, of MP3, for MPEG 1 or not, by the number in a frame's header
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_LARGEST_OGG_PAGE = 65_307  # bytes


def why_not_audio(head: bytes) -> str | None:
    """Return why a file that begins so cannot be audio, or None; a tolerant decoder finds MPEG frames in a web page."""
    is_text = not (_AUDIO_MAGIC.match(head) or re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", head))
    if encoding := _UTF16_MARKS.get(head[:2]):  # one of them is also how an MPEG frame may begin
        is_text = "".join(head[2 : len(head) // 2 * 2].decode(encoding, "replace").split()).isprintable()
    return describe_head(head) if is_text else None


def describe_head(head: bytes) -> str:
    """Return what to say of a file that begins so and is no audio."""
    what = "a Git LFS pointer; " if head.startswith(b"version https://git-lfs") else ""
    return f"not audio: {what}the first bytes are {head[:16].decode('latin-1')!r}"


def begins_like_audio(head: bytes) -> bool:
    """Return whether a file that begins so may be sound, broken or not."""
    return _AUDIO_MAGIC.match(head) is not None


def missing_share(file: BinaryIO, container: str, log: str) -> float:
    """Return the share of its declared data that a file lacks, 0.0 where none is known to.

    Args:
        file: The file.
        container: soundfile's name of it, such as "WAV", or FFmpeg's, such as "wav".
        log: libsndfile's, which says what it found beside what was declared; "" where FFmpeg decoded.
    """
    if container in ("MP3", "mp3"):
        return _missing_share_of_mpeg(file)
    if container == "wav":
        return _missing_share_of_riff(file)
    pairs = [(int(declared), int(found)) for declared, found in _SHORT_DATA.findall(log)]
    return max([1 - found / declared for declared, found in pairs if found < declared < _STREAMED], default=0.0)


def is_ogg_cut(file: BinaryIO) -> bool:
    """Return whether an Ogg file ends before its last page, which carries a mark (RFC 3533, section 6)."""
    page = _last_ogg_page(file)
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    is_last = bool(page[5] & 4)
    return not is_last or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def goes_on(file: BinaryIO, container: str, at: int) -> bool:
    """Return whether sound follows where libsndfile found the end.

    It stops an MP3 at a length that it estimates from the first frame where no header gives one, a FLAC file at the
    length in its header, and an Ogg file after the first of several streams.

    Args:
        file: The file.
        container: soundfile's name of it.
        at: How far libsndfile has read, in bytes.
    """
    if container == "OGG":
        file.seek(0)
        return file.read(18)[14:18] != _last_ogg_page(file)[14:18]  # serial numbers of the streams
    if container not in _FRAME_MARKS:
        return False
    file.seek(at)
    rest = file.read(2**20)
    marks, longest = _FRAME_MARKS[container]
    # In tags and pictures such two bytes stand by chance: once in 65,536.
    found = max(rest.count(mark) for mark in marks)
    return found >= 4 and found * 2 * longest >= len(rest)


def find_mp3(file: BinaryIO) -> int | None:
    """Return where the first MP3 frame begins in a file that begins with zeros or amid a frame, as cut MP3s do."""
    file.seek(0)
    content = file.read(_SEARCHED)
    for mark in re.finditer(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", content):
        at, frames = mark.start(), 0
        while frames < 3 and (length := _mp3_frame_length(content[at : at + 4])):
            at, frames = at + length, frames + 1
        if frames == 3 or (frames == 2 and at >= len(content)):
            return mark.start()
    return None


def find_unset_data_size(file: BinaryIO) -> int | None:
    """Return where a WAV file says "0 bytes of sound" though sound follows, or None.

    A recorder writes the size when it stops; one whose battery died leaves 0. A file that is empty in truth has chunks
    of text after that 0, or nothing.
    """
    for at, name, length in _riff_chunks(file):
        if name == b"data":
            return at + 4 if length == 0 and not _is_all_chunks(file, at + 8) else None
    return None


def has_overlong_chunk(file: BinaryIO) -> bool:
    """Return whether a chunk other than the sound reaches beyond the end of a RIFF file: FFmpeg would ask for as much
    memory as it declares."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(4) not in (b"RIFF", b"RIFX"):
        return False
    return any(name != b"data" and at + 8 + length > size for at, name, length in _riff_chunks(file))


def _mp3_frame_length(header: bytes) -> int:
    """Return how many bytes a frame of MPEG layer III has (ISO/IEC 11172-3, 2.4.1.3); 0 if none begins so."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, kilobits, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or kilobits == 15 or rate == 3:
        return 0
    is_mpeg1 = version == 3
    hertz = (44_100, 48_000, 32_000)[rate] >> (0 if is_mpeg1 else 1 if version == 2 else 2)
    padding = header[2] >> 1 & 1
    return (144 if is_mpeg1 else 72) * _KILOBITS[is_mpeg1][kilobits] * 1000 // hertz + padding


def _missing_share_of_mpeg(file: BinaryIO) -> float:
    at = _end_of_id3(file)
    file.seek(at)
    counts = _MPEG_COUNTS.search(file.read(_SEARCHED))
    if counts is None:
        return 0.0
    declared = _bytes_declared(counts)
    found = file.seek(0, os.SEEK_END) - at - counts.start()
    return 1 - found / declared if found < declared else 0.0


def _missing_share_of_riff(file: BinaryIO) -> float:
    size = file.seek(0, os.SEEK_END)
    for at, name, length in _riff_chunks(file):
        if name == b"data" and at + 8 + length > size and length < _STREAMED:
            return 1 - (size - at - 8) / length
    return 0.0


def _bytes_declared(counts: re.Match[bytes]) -> int:
    """Return the length of an MPEG stream as its first frame tells it; 0 where it does not."""
    if counts["vbri"]:
        return int(struct.unpack(">I", counts["vbri"])[0])
    flags, first, second = struct.unpack(">III", counts["xing"])
    if not flags & 2:
        return 0
    return int(second if flags & 1 else first)  # after the number of frames, if that is there


def _end_of_id3(file: BinaryIO) -> int:
    at = 0
    for _ in range(8):  # some files have two
        file.seek(at)
        tag = file.read(10)
        if len(tag) < 10 or not tag.startswith(b"ID3"):
            break
        at += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    return at


def _last_ogg_page(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LARGEST_OGG_PAGE))
    tail = file.read(_LARGEST_OGG_PAGE)
    return tail[max(0, tail.rfind(b"OggS")) :]


def _riff_chunks(file: BinaryIO, at: int = 12) -> Iterator[tuple[int, bytes, int]]:
    """Yield where each chunk of a RIFF file begins, its name and the length that it declares."""
    file.seek(0)
    layout = ">4sI" if file.read(4) == b"RIFX" else "<4sI"
    for _ in range(1000):  # a hostile file may have millions
        file.seek(at)
        header = file.read(8)
        if len(header) < 8:
            return
        name, length = struct.unpack(layout, header)
        yield at, name, length
        at += 8 + length + length % 2


def _is_all_chunks(file: BinaryIO, start: int) -> bool:
    size = file.seek(0, os.SEEK_END)
    return all(
        name.isascii() and name.decode().isprintable() and at + 8 + length <= size
        for at, name, length in _riff_chunks(file, start)
    )
