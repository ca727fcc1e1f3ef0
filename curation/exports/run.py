"""A manifest and its audio to files that others open: the whole of ``wavtext5k-curate export``.

Reads ``manifest.parquet`` and ``audio/``; writes shards, ``left_out.parquet``, ``ATTRIBUTION.txt``, ``README.md`` and,
last, ``export.json``. Every clip of the manifest is in the shards or in left_out.parquet with one reason. Memory holds
the manifest and one group of clips, whatever the size of a shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from curation.errors import ConfigError
from curation.exports import parquet, tars
from curation.exports.folder import (
    WORK_FOLDER,
    Ledger,
    check_place,
    claim_export,
    discard_work,
    is_finished,
    is_up_to_date,
    open_ledger,
    publish,
    read_index,
    refuse_strangers,
    write_file,
)
from curation.exports.notes import ATTRIBUTION_FILE, attribution, readme
from curation.exports.selection import ExportOptions, Selection, count, left_out_bytes, select
from curation.exports.shards import (
    ExportedClip,
    OpenShard,
    Shard,
    audio_sizes,
    groups,
    modified,
    read_clips,
    share_out,
)
from curation.rules import SAMPLE_RATE

LEFT_OUT_FILE = "left_out.parquet"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What an export did."""

    index: Mapping[str, Any]
    """The facts of export.json."""
    is_new: bool
    """False: the folder was up to date."""
    unmatched_opt_outs: int
    """Lines of the opt-out list that name no clip."""
    readme_kept: bool = False
    """README.md was not written by this command, or edited since, and stays as it is."""


def export(
    manifest: Path,
    out: Path,
    *,
    options: ExportOptions | None = None,
    progress: Progress = lambda done, total: None,
) -> ExportReport:
    """Bring a folder of shards up to date with a manifest; what is finished is not written again.

    Args:
        manifest: Its folder, or manifest.parquet itself.
        out: The export's folder.
        options: Defaults are for Parquet of all that may be passed on.
        progress: Called with clips done and clips in all.

    Raises:
        ManifestError: If the manifest is broken or its audio is not as it says, or nothing of it may go out.
        ConfigError: If out is not a folder to export to.
        OSError: If the disk is full; run again to go on.
    """
    options = options or ExportOptions()
    return write_export(prepare_export(manifest, out, options=options), out, options=options, progress=progress)


def prepare_export(manifest: Path, out: Path, *, options: ExportOptions) -> Selection:
    """Return what goes out, before anything is written; arguments and errors are those of ``export``.

    ConfigError here is of what was asked for; of ``write_export`` it is of what lies in the folder.
    """
    check_place(out, manifest)
    return select(manifest, options)


def write_export(chosen: Selection, out: Path, *, options: ExportOptions, progress: Progress) -> ExportReport:
    """Bring the folder up to date with what goes out; arguments and errors are those of ``export``."""
    earlier = read_index(out)
    if earlier is not None and earlier["format"] != options.format and not options.overwrite:
        raise ConfigError(
            f"{out}: holds an export as {earlier['format']}; name another folder, or add --overwrite to replace it"
        )
    if earlier is not None and is_up_to_date(out, earlier, chosen.inputs):
        if (out / WORK_FOLDER).is_dir():  # of an export that was killed after its very last file
            with claim_export(out, overwrite=options.overwrite):
                discard_work(out)
        return ExportReport(index=earlier, is_new=False, unmatched_opt_outs=chosen.unmatched_opt_outs)
    sizes = _sizes(chosen, options)
    shards = _plan(chosen, sizes, options)
    with claim_export(out, overwrite=options.overwrite):
        ledger = open_ledger(out, chosen.inputs, shards)
        refuse_strangers(out, ledger, _patterns(chosen, options))
        _write_shards(out, ledger, chosen, shards, sizes=sizes, options=options, progress=progress)
        _write_tables(out, ledger, chosen, shards, options)
        index = count(chosen, shards, options)
        clips = chosen.take(_going_out(chosen), ["source", "labels"])
        text = readme(
            index,
            sources=sorted(set(clips["source"].to_pylist())),
            has_labels=any(map(len, clips["labels"].to_pylist())),
            template=options.template,
            data_files=_data_files(chosen, options),
            features=tars.README_FEATURES if options.format == "webdataset" else None,
        )
        wrote_readme = publish(out, ledger, readme=text, index=index)
    return ExportReport(
        index=index, is_new=True, unmatched_opt_outs=chosen.unmatched_opt_outs, readme_kept=not wrote_readme
    )


def _sizes(chosen: Selection, options: ExportOptions) -> dict[int, int]:
    """Return the bytes of audio of each row that goes out, at the rate at which it goes out."""
    rows = chosen.sounding
    found = audio_sizes(chosen.folder, chosen.take(rows, ["audio_path"])["audio_path"].to_pylist())
    at_rate = (size * options.sample_rate // SAMPLE_RATE for size in found)
    return dict.fromkeys(chosen.silent, 0) | dict(zip(rows, at_rate, strict=True))


def _plan(chosen: Selection, sizes: Mapping[int, int], options: ExportOptions) -> list[Shard]:
    shards = []
    for split, rows in chosen.rows.items():
        if options.format == "parquet":
            shards += parquet.plan_parquet(share_out(rows, sizes, shard_bytes=options.shard_bytes), split)
        else:
            parts = share_out(tars.shuffled(rows, chosen.clip_ids), sizes, shard_bytes=options.shard_bytes)
            shards += tars.plan_tars(parts, split, tars.split_folder(split, chosen.rows))
    return shards


def _write_shards(
    out: Path,
    ledger: Ledger,
    chosen: Selection,
    shards: list[Shard],
    *,
    sizes: Mapping[int, int],
    options: ExportOptions,
    progress: Progress,
) -> None:
    opener: OpenShard = tars.TarShard
    if options.format == "parquet":
        opener = partial(parquet.ParquetShard, schema=parquet.shard_schema(options.sample_rate))
    total = sum(len(shard.rows) for shard in shards)
    done = 0
    for shard in shards:
        if is_finished(out, ledger, shard.name):
            done += len(shard.rows)
            progress(done, total)
            continue

        def fill(file: IO[bytes], shard: Shard = shard) -> None:
            nonlocal done
            with opener(file) as writer:
                for group in groups(shard.rows, sizes):
                    clips = _read(chosen, group, options)
                    writer.write(clips)
                    ledger.scaled |= {clip.row["clip_id"]: clip.scaled for clip in clips if clip.scaled}
                    done += len(group)
                    progress(done, total)

        write_file(out, ledger, shard.name, fill)


def _read(chosen: Selection, group: list[int], options: ExportOptions) -> list[ExportedClip]:
    return read_clips(
        chosen.folder,
        chosen.take(group, chosen.table.column_names).to_pylist(),
        template=options.template,
        sample_rate=options.sample_rate,
        silent=frozenset(chosen.clip_ids[row] for row in group if row in chosen.silent),
    )


def _write_tables(out: Path, ledger: Ledger, chosen: Selection, shards: list[Shard], options: ExportOptions) -> None:
    lines = attribution(_credited(chosen, ledger, options))
    contents: dict[str, Iterable[bytes]] = {LEFT_OUT_FILE: [left_out_bytes(chosen)], ATTRIBUTION_FILE: lines}
    if options.format == "webdataset":
        contents |= {name: [content] for name, content in tars.sizes_files(shards).items()}
    for name, parts in contents.items():
        write_file(out, ledger, name, partial(_fill, parts))


def _going_out(chosen: Selection) -> list[int]:
    return sorted(row for rows in chosen.rows.values() for row in rows)


def _credited(chosen: Selection, ledger: Ledger, options: ExportOptions) -> Iterator[dict[str, Any]]:
    """Give clip_id, attribution and modifications of each clip that goes out, as its row in a shard has them."""
    silent = {chosen.clip_ids[row] for row in chosen.silent}
    table = chosen.take(_going_out(chosen), ["clip_id", "attribution", "modifications"])
    for batch in table.to_batches(max_chunksize=10_000):
        for clip in batch.to_pylist():
            if clip["clip_id"] not in silent:
                scaled = ledger.scaled.get(clip["clip_id"], "")
                done = modified(clip["modifications"], sample_rate=options.sample_rate, scaled=scaled)
                clip["modifications"] = done
            yield clip


def _fill(parts: Iterable[bytes], file: IO[bytes]) -> None:
    file.writelines(parts)


def _patterns(chosen: Selection, options: ExportOptions) -> dict[str, str]:
    """Return what a shard's name looks like, by folder."""
    if options.format == "parquet":
        return {parquet.FOLDER: "*.parquet"}
    return {tars.split_folder(split, chosen.rows): "*.tar" for split in chosen.rows}


def _data_files(chosen: Selection, options: ExportOptions) -> dict[str, str]:
    if options.format == "parquet":
        return {split: f"{parquet.FOLDER}/{split}-*" for split in chosen.rows}
    return {split: f"{tars.split_folder(split, chosen.rows)}/*.tar" for split in chosen.rows}
