"""The paper's Tables 1 and 2 for any clips, as pandas data frames, with the rows that the paper prints beside them.

Reads manifests and, for text alone, caption data sets on disk; opens no audio. A clip's captions are its annotators';
one without any has its description for a caption, or what a template makes of its text.

Words are counted per caption and per audio (all words of a clip's captions; a clip without a caption has 0), and both
by white space and "bare" (``curation.words``), since the paper prints Clotho's per caption by white space (21, 11.34),
and WavText5K's 12.50 is bare words per audio.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from curation.entries import Collection
from curation.manifest import manifest_folder, read_manifest
from curation.text import render_caption, valid_text
from curation.words import bare_word_counts, word_counts

COLUMNS = ("clip_id", "source", "title", "description", "tags", "captions", "duration_s")
TABLE_1_COLUMNS = (
    "data_set",
    "counted_from",
    "hours",
    "audios",
    "captions",
    "max_duration_s",
    "mean_duration_s",
    "max_words_per_caption",
    "mean_words_per_caption",
    "mean_bare_words_per_caption",
    "max_words_per_audio",
    "mean_words_per_audio",
    "mean_bare_words_per_audio",
    "titles",
    "descriptions",
    "tag_lists",
)
TABLE_1_COUNTS = (
    "audios",
    "captions",
    "max_words_per_caption",
    "max_words_per_audio",
    "titles",
    "descriptions",
    "tag_lists",
)

PAPER = {
    "audiocaps": {
        "data_set": "AudioCaps",
        "hours": 135.01,
        "audios": 50_535,
        "captions": 55_512,
        "max_duration_s": 10.08,
        "mean_duration_s": 9.84,
        "max_words_per_caption": 52,
        "mean_words_per_caption": 8.80,
        "remark": "of the clips that its authors could still download; 135.01 h / 50,535 audios is 9.62 s, not 9.84",
    },
    "clotho": {
        "data_set": "Clotho",
        "hours": 37.05,
        "audios": 5_929,
        "captions": 29_645,
        "max_duration_s": 30.00,
        "mean_duration_s": 22.50,
        "max_words_per_caption": 21,
        "mean_words_per_caption": 11.34,
        "remark": "words by white space: without punctuation the longest caption has 20",
    },
    "macs": {
        "data_set": "MACS",
        "hours": 11.88,
        "audios": 3_930,
        "captions": 17_275,
        "max_duration_s": 10.88,
        "mean_duration_s": 10.88,
        "max_words_per_caption": 40,
        "mean_words_per_caption": 9.24,
        "remark": "10.88 s is 480,000 samples at 48 kHz read as if at 44.1 kHz; the clips last 10.0 s, 10.92 h in all",
    },
    "sounddescs": {
        "data_set": "SoundDescs",
        "hours": 1060.40,
        "audios": 32_979,
        "captions": 32_979,
        "max_duration_s": 4475.38,
        "mean_duration_s": 115.75,
        "max_words_per_caption": 65,
        "mean_words_per_caption": 15.28,
        "remark": "one description a clip, so words per caption are words per audio",
    },
    "wavtext5k": {
        "data_set": "WavText5K",
        "hours": 25.48,
        "audios": 4_525,
        "captions": 4_348,
        "max_duration_s": 2438.65,
        "mean_duration_s": 20.27,
        "max_words_per_caption": 82,
        "mean_bare_words_per_audio": 12.50,
        "titles": 4_525,
        "descriptions": 4_348,
        "tag_lists": 2_058,
        "remark": "12.50 is 56,542 bare words / 4,525 audios, 177 of them without a description; section 2.1 also says "
        "4,505 audios; 5 of the 4,525 titles are empty",
    },
}
"""Table 1 of arXiv 2209.14275 as printed (titles and tag lists: section 2), by the name of our reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedClips:
    """Clips under the name that a table shows."""

    name: str
    clips: pd.DataFrame
    """With COLUMNS; duration_s is NaN where only text was read."""
    is_text_only: bool
    """Whether no audio stands behind the clips."""

    @property
    def in_paper(self) -> str | None:
        """The key of PAPER for the data set that this is, or that it is a crawl of."""
        sources = set(self.clips["source"].unique())
        if sources and sources <= {"soundbible", "bigsoundbank"}:
            return "wavtext5k"
        return next((key for key in PAPER if sources == {key}), None)


def clips_of_manifest(path: Path, *, columns: Sequence[str] = ()) -> NamedClips:
    """Return the clips of a manifest, under its folder's name.

    Args:
        path: Its folder, or the file itself.
        columns: More of them than COLUMNS.

    Raises:
        ManifestError: If there is none, or it breaks its contract.
    """
    table = read_manifest(path).select([*COLUMNS, *columns])
    return NamedClips(
        name=valid_text(manifest_folder(path).resolve().name), clips=table.to_pandas(), is_text_only=False
    )


def clips_of_collection(name: str, collection: Collection) -> NamedClips:
    """Return the clips of a caption data set as its text alone has them."""
    columns = {column: [getattr(entry, column) for entry in collection.entries] for column in COLUMNS[:-1]}
    clips = pd.DataFrame({column: pd.Series(values, dtype=object) for column, values in columns.items()})
    return NamedClips(name=name, clips=clips.assign(duration_s=np.nan), is_text_only=True)


def captions_of(clips: pd.DataFrame, *, template: str | None = None) -> pd.DataFrame:
    """Return one row a caption, with clip_id and caption, in the order of the clips.

    Args:
        clips: With COLUMNS.
        template: Makes the caption of a clip that has none of its own (``curation.text.render_caption``). None: its
            description, and nothing if that is empty.

    Raises:
        ValueError: If the template cannot be.
    """
    has_captions = clips["captions"].map(len) > 0
    own = clips.loc[has_captions, ["clip_id", "captions"]].explode("captions").rename(columns={"captions": "caption"})
    rest = clips[~has_captions]
    if template is None:
        made = rest["description"]
    else:
        texts = zip(rest["title"], rest["description"], rest["tags"], strict=True)
        rendered = [render_caption(template, title=title, description=text, tags=tags) for title, text, tags in texts]
        made = pd.Series(rendered, index=rest.index, dtype=object)
    described = rest.assign(caption=made)[["clip_id", "caption"]]
    captions = pd.concat([own, described[described["caption"] != ""]]).sort_index(kind="stable")
    return captions.reset_index(drop=True)


def table_1(sets: Sequence[NamedClips], *, template: str | None = None, with_paper: bool = True) -> pd.DataFrame:
    """Return one row a data set: hours, audios, captions, durations, words; NaN for what is not known.

    Args:
        sets: At least one.
        template: As in ``captions_of``.
        with_paper: Also the row that the paper prints, below the row of a data set that the paper has.

    Raises:
        ValueError: If the template cannot be.
    """
    rows = []
    for named in sets:
        rows.append(_row(named, template))
        if with_paper and (printed := named.in_paper) is not None:
            rows.append({"counted_from": "the paper"} | PAPER[printed])
    frame = pd.DataFrame(rows, columns=[*TABLE_1_COLUMNS, "remark"])
    return frame.astype(dict.fromkeys(TABLE_1_COUNTS, "Int64"))


def table_2(sets: Sequence[NamedClips], *, word: str, seed: int = 0, template: str | None = None) -> pd.DataFrame:
    """Return one caption of each data set that mentions a word or its plain plural ("dog", "dogs"), chosen by the seed.

    Whole words, whatever their case. The choice does not change when other captions come or go. Columns: data_set,
    mentions (captions that mention it), captions (in all), clip_id and caption ("" where none does).

    Args:
        sets: At least one.
        word: One word, or several in a row.
        seed: Another seed, another choice.
        template: As in ``captions_of``.

    Raises:
        ValueError: If the word is blank, or the template cannot be.
    """
    if not word.split():
        raise ValueError("word must not be blank")
    phrase = r"\s+".join(map(re.escape, word.split()))
    mention = re.compile(rf"(?<!\w){phrase}(?:s|es)?(?!\w)", re.IGNORECASE)
    rows = []
    for named in sets:
        captions = captions_of(named.clips, template=template)
        found = captions[np.array([mention.search(caption) is not None for caption in captions["caption"]], dtype=bool)]
        keys = [_lot(seed, *pair) for pair in zip(found["clip_id"], found["caption"], strict=True)]
        chosen = found.iloc[keys.index(min(keys))] if keys else {"clip_id": "", "caption": ""}
        counts = {"data_set": named.name, "mentions": len(found), "captions": len(captions)}
        rows.append(counts | {"clip_id": chosen["clip_id"], "caption": chosen["caption"]})
    return pd.DataFrame(rows)


def _row(named: NamedClips, template: str | None) -> dict[str, Any]:
    clips = named.clips
    captions = captions_of(clips, template=template)
    words, bare = (count(pa.array(captions["caption"], pa.string())) for count in (word_counts, bare_word_counts))
    per_audio = pd.Series(words).groupby(captions["clip_id"].to_numpy()).sum().to_numpy()
    audios, durations = len(clips), clips["duration_s"].to_numpy(dtype=np.float64)
    seconds = math.nan if named.is_text_only else math.fsum(durations)
    return {
        "data_set": named.name,
        "counted_from": "text alone" if named.is_text_only else "manifest",
        "hours": seconds / 3600,
        "audios": audios,
        "captions": len(captions),
        "max_duration_s": durations.max() if audios else math.nan,
        "mean_duration_s": _ratio(seconds, audios),
        "max_words_per_caption": words.max(initial=0),
        "mean_words_per_caption": _ratio(words.sum(), len(captions)),
        "mean_bare_words_per_caption": _ratio(bare.sum(), len(captions)),
        "max_words_per_audio": per_audio.max(initial=0),
        "mean_words_per_audio": _ratio(words.sum(), audios),
        "mean_bare_words_per_audio": _ratio(bare.sum(), audios),
        "titles": int((clips["title"] != "").sum()),
        "descriptions": int((clips["description"] != "").sum()),
        "tag_lists": int((clips["tags"].map(len) > 0).sum()),
        "remark": "",
    }


def _lot(seed: int, clip_id: str, caption: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{clip_id}\n{caption}".encode()).digest()


def _ratio(total: float, number: int) -> float:
    return total / number if number else math.nan
