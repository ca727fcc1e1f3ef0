"""What a body is, told from its first bytes: a server's Content-Type and an address's ending are often wrong.

SoundBible's grab.php names no type in its address, and BigSoundBank's old wav links answer 200 with a web page.
Whether the audio decodes is curation's to find out.
"""

from __future__ import annotations

EMPTY_BYTES = 44
"""A file of this size or less holds no sound: the header alone of a PCM WAV takes 44 bytes."""


def audio_extension(body: bytes) -> str | None:
    """Return the extension that fits: wav, flac, ogg, mp3, aac, aiff, m4a, caf or wma; None if it is not audio."""
    head = body[:64]
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[4:8] == b"ftyp":
        return "m4a"
    for magic, extension in _MAGIC:
        if head.startswith(magic):
            return extension
    # Two of the 116 SoundBible files at hand are MP3s whose first frame follows a block of zero bytes.
    return _mpeg(body[: _MAX_PADDING + 4].lstrip(b"\0"))


_MAGIC = (
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"ID3", "mp3"),
    (b"caff", "caf"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "wma"),
)
_MAX_PADDING = 8_192


def _mpeg(head: bytes) -> str | None:
    """Tell MPEG audio by a whole frame header: 11 sync bits alone would also take a UTF-16 page (FF FE) for sound."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bit_rate, sample_rate = head[2] >> 4, head[2] >> 2 & 3
    if layer == 0 and version >= 2 and head[1] & 0xF0 == 0xF0 and head[2] >> 2 & 15 < 13:
        return "aac"  # ADTS
    if layer in (1, 2) and version != 1 and bit_rate != 15 and sample_rate != 3:
        return "mp3"
    return None


def describe(body: bytes) -> str:
    """Return the first bytes of a body as a message shows them."""
    return repr(body[:24])[1:]
