"""Whether published checkpoints, converted, give what the peers' own classes give: the measured differences.

    pip install --no-deps --target FOLDER -r benchmarks/peers.txt
    PYTHONPATH=FOLDER python benchmarks/peers.py

No published weights are at hand. For each checkpoint that ``wavtext5k-train convert`` reads, the class that the
published one was made by is built, every tensor of it (biases, norms and running statistics too) given random values,
and a file written under the documented names, with the documented wrapper. Our converter reads the file, and both
sides are given the same input: one log-mel spectrogram (the peer's forward with its front end taken out) or token ids,
in float32 and float64, and waveforms, of which each side makes its own spectrogram. Where a rule differs by design,
such as a random crop, the table says so and by how much.

Ends with 1 if a difference is above its tolerance. Writes the table (benchmarks/peers.md); the files are temporary,
2 GB at most at a time, and memory stays below 6 GB. What of the peers is stood in for: torchaudio and wget, which they
import for files and downloads alone; weights and tokenizers that they would fetch; HTSAT's repository, which is no
package and whose class msclap copies.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: nothing here is to be fetched

import _path  # noqa: F401  # curation.py beside this file has the name of a package
import torch
import typer
from _peer_models import PeerMissingError
from _peers_audio import htsat, msclap_2022, msclap_2023, panns
from _peers_result import Result, table
from _peers_setup import Peers, import_peers, roberta_tokenizer
from _peers_whole import laion, roberta_base, transformers_clap

COMPARISONS: dict[str, Callable[[Peers, Path], Result]] = {
    "panns-32k": lambda peers, folder: panns(peers, folder, preset="panns-32k", file_name="Cnn14_mAP=0.431.pth"),
    "panns-16k": lambda peers, folder: panns(peers, folder, preset="panns-16k", file_name="Cnn14_16k_mAP=0.438.pth"),
    "htsat": htsat,
    "msclap-2022": msclap_2022,
    "msclap-2023": msclap_2023,
    "laion": laion,
    "transformers-clap": lambda _, folder: transformers_clap(folder),
    "roberta-base": lambda _, folder: roberta_base(folder),
}

TABLE = Path(__file__).with_suffix(".md")


def main(
    only: Annotated[
        list[str] | None, typer.Option(help="Compare this one only; may be repeated. Writes no file.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The table to write.")] = TABLE,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Compare converted checkpoints with the peers' own classes, and write the table of differences."""
    if unknown := set(only or ()) - COMPARISONS.keys():
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: --only takes {', '.join(COMPARISONS)}")
    torch.set_num_threads(threads)
    try:
        peers = import_peers(roberta_tokenizer())
    except PeerMissingError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from error
    results = []
    for name in only or COMPARISONS:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            results.append(COMPARISONS[name](peers, Path(folder)))
        gc.collect()
        print(f"{name:<17}  {time.monotonic() - start:5.1f} s", file=sys.stderr)
    page = table(results)
    print(page)
    if not only:
        out.write_text(page, encoding="utf-8")
    if failed := [result.name for result in results if result.failed]:
        print(f"differs: {', '.join(failed)}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
