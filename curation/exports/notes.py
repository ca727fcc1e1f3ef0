"""README.md, whose front matter tells ``datasets`` and the Hub what is where, and ATTRIBUTION.txt; pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from curation.card_notes import facts, source_names
from curation.exports.policy import REDISTRIBUTABLE
from curation.front_matter import about_sources, front_matter, hub_licenses
from curation.markdown import Markdown, code, grid, plain
from curation.text import LICENSE_NAMES

ATTRIBUTION_FILE = "ATTRIBUTION.txt"

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
    sources: Sequence[str],
    has_labels: bool,
    template: str,
    data_files: Mapping[str, str],
    features: Sequence[Mapping[str, Any]] | None,
) -> bytes:
    """Return README.md.

    Args:
        index: The facts of export.json.
        sources: Of the clips that go out.
        has_labels: Whether any of them has classes.
        template: Of captions.
        data_files: Pattern of the shards of each split.
        features: Columns for readers that cannot tell them from the files; None where they can.
    """
    clips = index["clips"]["exported"]
    name, about = " and ".join(source_names(sources)), about_sources(sources)
    front = front_matter(
        name=name,
        clips=clips,
        license_ids=hub_licenses(index["licenses"]),
        languages=about.languages,
        annotations=about.annotations,
        is_original=about.is_original,
        has_labels=has_labels,
        files={"default": [{"split": split, "path": path} for split, path in data_files.items()]},
        features=features,
    )
    how = _PARQUET if index["format"] == "parquet" else _TARS
    hint = "" if index["sample_rate"] == 48_000 else " Export for it with `--sample-rate 48000`."
    parts = [
        front.rstrip("\n"),
        f"# {plain(name)}",
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


def _splits(index: Mapping[str, Any]) -> str:
    rows = [[split, found["clips"], found["hours"], found["shards"]] for split, found in index["splits"].items()]
    return grid(["split", "clips", "hours", "shards"], rows)


def _licenses(index: Mapping[str, Any]) -> str:
    rows = []
    for license_id, clips in index["licenses"].items():
        condition = Markdown(facts()["licenses"][license_id]["condition"])
        rows.append([LICENSE_NAMES[license_id], clips, license_id in REDISTRIBUTABLE, condition])
    credit = f"Every clip has its own licence and credit: columns `license`, `attribution`, and {ATTRIBUTION_FILE}."
    if not all(license_id in REDISTRIBUTABLE for license_id in index["licenses"]):
        credit += " Some clips may not be passed on: this export is for your own use only."
    return f"{grid(['licence', 'clips', 'copies may be passed on', 'on condition of'], rows)}\n\n{credit}"


def _left_out(index: Mapping[str, Any]) -> str:
    counts: Mapping[str, int] = index["left_out"]
    if not counts:
        return "Nothing: every clip of the manifest is here."
    kept = index["clips"]["text_only"]
    text = f" Of {kept} of them the text is here, without the sound." if kept else ""
    rows = [[code(reason), clips] for reason, clips in counts.items()]
    return f"{grid(['reason', 'clips'], rows)}\n\nEach by name, with its reason, in left_out.parquet.{text}"
