"""README.md, whose front matter tells ``datasets`` and the Hub what is where, and ATTRIBUTION.txt; pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from curation.card_notes import facts
from curation.exports.policy import NON_COMMERCIAL, REDISTRIBUTABLE
from curation.text import LICENSE_NAMES

ATTRIBUTION_FILE = "ATTRIBUTION.txt"

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_CREDIT = """\
The sounds of this export, and whom to credit. A licence that asks for attribution asks for this line, and for a word
on what was changed; it stands at the end. The same is in the columns "attribution" and "modifications".

"""

_PARQUET = """\
```python
from datasets import Audio, load_dataset

data = load_dataset("FOLDER OR NAME ON THE HUB")  # playable audio at {sample_rate} Hz; needs torchcodec
data = data.cast_column("audio", Audio(decode=False))  # or: the bytes of each FLAC, for soundfile
```

`text` is what a model may be trained with: the annotators' `captions`, or one caption made as `{template}`.
"""

_TARS = """\
Each `<key>.flac` ({sample_rate} Hz, mono) stands beside a `<key>.json` with `text`, `tag` and, in `original_data`, all
columns of the manifest, and beside a `<key>.txt` with the first text. The key is the clip_id with "%2E" for ".".

- webdataset: `webdataset.WebDataset("train/train-{{000000..00000N}}.tar")`
- open_clip: `--train-data 'train/train-{{000000..00000N}}.tar'`; it resamples, and wants as many shards as workers
- LAION-CLAP: `--datasetpath` names the folder above this one, `--datasetnames` this one. It reads splits train, valid
  and test, and does not resample: what is not at 48000 Hz it hears at another pitch.{rate_hint}
"""


def readme(
    index: Mapping[str, Any],
    *,
    template: str,
    data_files: Mapping[str, str],
    features: Sequence[Mapping[str, Any]] | None,
) -> bytes:
    """Return README.md.

    Args:
        index: The facts of export.json.
        template: Of captions.
        data_files: Pattern of the shards of each split.
        features: Columns for readers that cannot tell them from the files; None where they can.
    """
    clips = index["clips"]["exported"]
    config = {"config_name": "default", "data_files": [{"split": s, "path": p} for s, p in data_files.items()]}
    front: dict[str, Any] = {
        **_license(list(index["licenses"])),
        "size_categories": [next((name for most, name in _SIZES if clips < most), "n>1M")],
        "tags": ["audio", "sound-effects", "audio-text-retrieval"],
        "configs": [config],
    }
    if features is not None:
        front["dataset_info"] = {"features": list(features)}
    how = _PARQUET if index["format"] == "parquet" else _TARS
    hint = "" if index["sample_rate"] == 48_000 else " Export for it with `--sample-rate 48000`."
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        "# Sounds and what they are called",
        f"{clips} clips, {index['hours']:.2f} hours, exported by `wavtext5k-curate export` from a manifest of "
        f"{index['clips']['in_manifest']}.",
        _splits(index),
        "## How to read it",
        how.format(sample_rate=index["sample_rate"], template=template, rate_hint=hint).rstrip(),
        "## Licences",
        _licenses(index),
        "## Left out",
        _left_out(index),
    ]
    return ("\n\n".join(parts) + "\n").encode()


def attribution(clips: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Give ATTRIBUTION.txt line by line, one a clip.

    Args:
        clips: Rows of the manifest: clip_id, attribution and modifications.
    """
    yield _CREDIT.encode()
    for clip in clips:
        changes = f"; changed: {', '.join(clip['modifications'])}" if clip["modifications"] else ""
        yield (" ".join(f"{clip['clip_id']}: {clip['attribution']}{changes}".split()) + "\n").encode()


def _license(license_ids: Sequence[str]) -> dict[str, str]:
    """Return the licence as the Hub names it; it has one for a whole data set."""
    if len(license_ids) != 1:
        return {"license": "other", "license_name": "mixed-see-each-clip"}
    (license_id,) = license_ids
    if name := facts()["licenses"][license_id]["hub"]:
        return {"license": name}
    return {"license": "other", "license_name": license_id}


def _splits(index: Mapping[str, Any]) -> str:
    lines = ["| split | clips | hours | shards |", "|---|---:|---:|---:|"]
    for split, counts in index["splits"].items():
        lines.append(f"| {split} | {counts['clips']} | {counts['hours']:.2f} | {counts['shards']} |")
    return "\n".join(lines)


def _licenses(index: Mapping[str, Any]) -> str:
    lines = ["| licence | clips | |", "|---|---:|---|"]
    for license_id, clips in index["licenses"].items():
        remark = "not for profit" if license_id in NON_COMMERCIAL else ""
        remark = remark if license_id in REDISTRIBUTABLE else "may not be passed on: for your own use only"
        lines.append(f"| {LICENSE_NAMES[license_id]} | {clips} | {remark} |")
    credit = f"Every clip has its own licence and credit: columns `license`, `attribution`, and {ATTRIBUTION_FILE}."
    return "\n".join([*lines, "", credit])


def _left_out(index: Mapping[str, Any]) -> str:
    counts: Mapping[str, int] = index["left_out"]
    if not counts:
        return "Nothing: every clip of the manifest is here."
    lines = ["| reason | clips |", "|---|---:|", *(f"| {reason} | {clips} |" for reason, clips in counts.items())]
    kept = index["clips"]["text_only"]
    text = f" Of {kept} of them the text is here, without the sound." if kept else ""
    return "\n".join([*lines, "", f"Each by name, with its reason, in left_out.parquet.{text}"])
