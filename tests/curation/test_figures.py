from __future__ import annotations

import warnings
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner

from curation.cli import app
from curation.figures import NAMES, draw_figures, figure_bytes, is_figure
from curation.manifest import DROPPED_SCHEMA, write_manifest
from curation.words import STOP_WORDS
from tests.curation.card_support import drop, lay_manifest
from tests.curation.support import CAPTION_LIST, row, run

MANIFEST_FIGURES = ["words", "text_lengths", "durations", "sample_rates", "licences", "splits"]


def clips(number=6, **columns):
    values = {
        "clip_id": [f"mine-{at}" for at in range(number)],
        "source": ["mine"] * number,
        "title": ["Bell"] * number,
        "description": [f"A low bell rings {'twice ' * at}" for at in range(number)],
        "tags": [[]] * number,
        "captions": [[]] * number,
        "duration_s": np.linspace(0.5, 90, number),
        "license": ["cc0-1.0"] * number,
        "source_sample_rate": [44_100] * number,
        "split": ["train"] * number,
    }
    return pd.DataFrame(values | columns)


def texts_of(figure):
    """Return all that a figure says, as its SVG has it."""
    root = ElementTree.fromstring(figure_bytes(figure)["svg"])
    return ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_manifest_gives_every_figure_and_text_alone_two():
    dropped = pd.DataFrame({"reason": ["silent", "silent", "no_text"]})
    assert list(draw_figures("mine", clips(), dropped)) == [*MANIFEST_FIGURES, "dropped"] == list(NAMES)
    assert list(draw_figures("mine", clips())) == MANIFEST_FIGURES
    text_alone = clips().drop(columns=["license", "source_sample_rate", "split"])
    assert list(draw_figures("mine", text_alone)) == ["words", "text_lengths"]


def test_figures_say_what_is_counted_and_how_many():
    columns = {"license": ["cc0-1.0", "remarc", "remarc", "unknown", "unknown", "unknown"]}
    dropped = pd.DataFrame({"reason": ["silent", "silent", "no_text"]})
    said = {name: texts_of(figure) for name, figure in draw_figures("mine", clips(**columns), dropped).items()}
    assert said["words"][-2:] == [
        "mine: most frequent words in descriptions",
        f"6 descriptions of 6 clips; punctuation and our {len(STOP_WORDS)} stop words left out",
    ]
    assert {"twice", "15", "bell", "6"} <= set(said["words"])
    bars = [text for text in said["licences"] if "(" in text]
    assert bars == ["3 (50.0%)", "2 (33.3%)", "1 (16.7%)"]
    assert said["licences"][:3] == ["licence unknown", "RemArc licence", "CC0 1.0"]
    assert "3 of 9 records dropped; 6 kept" in said["dropped"]
    assert said["dropped"][:4] == ["silent", "no_text", "2 (22.2%)", "1 (11.1%)"]
    assert "6 clips, 0.08 h; mean 45.2 s, longest 1 min 30 s" in said["durations"]
    assert {"1 s", "10 s", "1 min", "median 45.2 s"} <= set(said["durations"])
    assert "6 descriptions: median 6.5, mean 6.5, most 9" in said["text_lengths"]
    assert "44.1 kHz" in said["sample_rates"]


def test_captions_take_the_place_of_descriptions():
    captions = [["a dog barks", "a dog"], ["dog"]]
    figures = draw_figures("mine", clips(2, description=["", ""], captions=captions))
    assert "mine: most frequent words in captions" in texts_of(figures["words"])
    assert "3 captions: median 2, mean 2.0, most 3" in texts_of(figures["text_lengths"])


def test_rare_values_are_drawn_as_one_bar():
    rates = [44_100] * 10 + list(range(8_000, 8_030))
    said = texts_of(draw_figures("mine", clips(40, source_sample_rate=rates))["sample_rates"])
    assert {"44.1 kHz", "10 (25.0%)", "17 others", "17 (42.5%)"} <= set(said)
    assert sum("(" in text for text in said) == 15


def test_the_same_data_gives_the_same_bytes_whatever_matplotlib_was_told():
    first = {name: figure_bytes(figure) for name, figure in draw_figures("mine", clips()).items()}
    with matplotlib.rc_context({"font.size": 30, "figure.facecolor": "red", "svg.fonttype": "path"}):
        second = {name: figure_bytes(figure) for name, figure in draw_figures("mine", clips()).items()}
        assert matplotlib.rcParams["font.size"] == 30
    assert first == second
    assert not any(b"matplotlib" in content["png"] or b"<dc:date>" in content["svg"] for content in first.values())


@pytest.mark.parametrize(
    "columns",
    [
        {"description": ["吠える 犬", "🐕", "नमस्ते", "$x^2$ $y", "<b>&amp;</b>", "כלב"]},
        {"duration_s": [1e-4, 0.1, 1, 60, 3_600, 90_000]},
        {"duration_s": [1.0] * 6},
        {"title": [""] * 6, "description": [""] * 6},
        {"description": ["word " * 5_000] * 6},
        {"license": ["a licence that nobody has ever heard of, of a very long name"] * 6},
    ],
    ids=["scripts", "durations", "one duration", "no text", "long text", "long label"],
)
def test_odd_data_is_drawn_without_a_warning(columns):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in draw_figures("$mine$ 犬\x1b" * 20, clips(**columns)).values():
            content = figure_bytes(figure)
            assert content["png"].startswith(b"\x89PNG")
            ElementTree.fromstring(content["svg"])


def test_no_clips_are_drawn_as_nothing():
    no_drops = DROPPED_SCHEMA.empty_table().to_pandas()
    for name, figure in draw_figures("mine", clips(0), no_drops).items():
        assert texts_of(figure)[0].startswith("mine: "), name


def test_non_latin_words_are_text_in_the_svg():
    said = texts_of(draw_figures("mine", clips(1, description=["吠える 犬 собака $x$"]))["words"])
    assert {"吠える", "犬", "собака", "x"} <= set(said)


def test_the_command_writes_png_and_svg_of_each_data_set(tmp_path):
    write_manifest(tmp_path / "bells", [row(1), row(2, duration_s=1.0, num_samples=44_100)])
    published = tmp_path / "WavText5K.csv"
    published.write_text(CAPTION_LIST, encoding="utf-8")
    out = tmp_path / "figures"
    one = run("figures", tmp_path / "bells", "--out", out)
    assert one.returncode == 0, one.stderr
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{name}.{suffix}" for name in MANIFEST_FIGURES for suffix in ("png", "svg")
    )
    assert one.stdout.splitlines()[0] == str(out / "words.png")
    with Image.open(out / "words.png") as image:
        assert image.width == 1_125
    before = (out / "durations.svg").read_bytes()
    two = run("figures", tmp_path / "bells", "--captions", "wavtext5k", published, "--out", out / "both")
    assert two.returncode == 0, two.stderr
    assert sorted(path.name for path in (out / "both" / "wavtext5k").iterdir()) == [
        "text_lengths.png",
        "text_lengths.svg",
        "words.png",
        "words.svg",
    ]
    assert (out / "both" / "bells" / "durations.svg").read_bytes() == before


def test_the_command_refuses_what_it_cannot_do(tmp_path):
    nothing = CliRunner().invoke(app, ["figures", "--out", str(tmp_path)])
    assert (nothing.exit_code, nothing.stdout) == (2, "")
    assert "name a manifest, or --captions NAME FILE" in nothing.stderr
    write_manifest(tmp_path / "bells", [row(1)])
    (tmp_path / "file").write_text("here")
    blocked = CliRunner().invoke(app, ["figures", str(tmp_path / "bells"), "--out", str(tmp_path / "file")])
    assert (blocked.exit_code, blocked.stdout) == (2, "")
    assert "--out must be a folder" in blocked.stderr


def figures(*arguments):
    return CliRunner().invoke(app, ["figures", *map(str, arguments)], env={"COLUMNS": "200"})


def test_without_out_figures_go_into_a_folder_of_that_name(tmp_path, monkeypatch):
    write_manifest(tmp_path / "bells", [row(1)])
    monkeypatch.chdir(tmp_path)
    done = figures("bells")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "figures/words.png"
    assert (tmp_path / "figures" / "words.svg").is_file()


def draw(figure):
    """Draw what someone else may have drawn with matplotlib."""
    plain = Figure()
    plain.savefig(figure)
    return figure.read_bytes()


@pytest.mark.parametrize("name", ["words.png", "splits.svg", "dropped.png"])
def test_a_figure_that_someone_else_drew_is_not_replaced_unasked(tmp_path, name):
    write_manifest(tmp_path / "bells", [row(1)])
    out = tmp_path / "figures"
    out.mkdir()
    mine = draw(out / name)
    assert not is_figure(mine)
    refused = figures(tmp_path / "bells", "--out", out)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert f"{name}: not drawn by wavtext5k-curate figures; name another --out, or add --overwrite" in refused.stderr
    assert [file.name for file in out.iterdir()] == [name]
    assert (out / name).read_bytes() == mine
    assert figures(tmp_path / "bells", "--out", out, "--overwrite").exit_code == 0
    assert is_figure((out / "words.png").read_bytes())
    assert (name == "dropped.png") == (mine == (out / name).read_bytes())  # which this manifest does not give


def test_figures_that_are_drawn_no_more_go_and_all_else_stays(tmp_path):
    lay_manifest(tmp_path / "bells", dropped=[drop(9)])
    out = tmp_path / "figures"
    assert figures(tmp_path / "bells", "--out", out).exit_code == 0
    assert (out / "dropped.png").is_file()
    (out / "notes.txt").write_text("mine")
    (tmp_path / "list.csv").write_text(CAPTION_LIST, encoding="utf-8")
    assert figures("--captions", "wavtext5k", tmp_path / "list.csv", "--out", out).exit_code == 0
    assert sorted(file.name for file in out.iterdir()) == [
        "notes.txt",
        "text_lengths.png",
        "text_lengths.svg",
        "words.png",
        "words.svg",
    ]
