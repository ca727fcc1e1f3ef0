"""What a report says and draws, of run folders written by script as training writes them, and of one real run."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.errors import ConfigError
from tests.training.clips import small_config, write_clips
from training.recipe import to_yaml
from training.report import MARK, compare_settings, markdown, read_runs
from training.report_cli import report_app
from training.report_figure import draw_curves, figure_bytes, is_figure
from training.runlog import RunLog


def scores(level: float) -> dict[str, dict[str, float]]:
    names = ("map_at_10", "recall_at_1", "recall_at_5", "recall_at_10", "recall_at_50")
    t2a = {name: level + 0.01 * place for place, name in enumerate(names)}
    return {"text_to_audio": t2a, "audio_to_text": {name: value / 2 for name, value in t2a.items()}}


def write_run(folder: Path, *, name: str, steps: int = 40, val=(), **sections) -> Path:
    """Write a run of ten steps an epoch; ``val`` has the level of the scores by epoch."""
    config = small_config(folder, Path("data/sounds"), **sections)
    path = folder / name
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(to_yaml(config))
    log = RunLog(path / "metrics.jsonl")
    levels = dict(val)
    for step in range(5, steps + 1, 5):
        epoch = (step - 1) // 10 + 1
        log.write("train", step=step, epoch=epoch, loss=4 / step, scale=14.0, lr=1e-3, pairs_per_s=100.0, data_wait=0.1)
        if step % 10 == 0 and epoch in levels:
            log.write("val", step=step, epoch=epoch, clips=50, **scores(levels[epoch]))
    return path


@pytest.fixture
def two(tmp_path) -> list[Path]:
    return [
        write_run(tmp_path, name="base", val={1: 0.1, 2: 0.3, 3: 0.2, 4: 0.3}, run={"epochs": 4}),
        write_run(
            tmp_path, name="wide", val={2: 0.2, 4: 0.25}, run={"epochs": 4, "eval_every": 2}, model={"embed_dim": 32}
        ),
    ]


def cells(text: str, start: str) -> list[str]:
    """Return the cells of the table row that begins with a cell."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith(f"| {start} |")
    ]


def test_the_best_epoch_is_the_first_with_the_highest_mean_map(two):
    base, wide = read_runs(two)
    assert (base.best["epoch"], wide.best["epoch"]) == (2, 4)
    text = markdown([base, wide])
    trained, scored = cells(text, "base")
    assert trained == ["base", "sounds (train)", "4", "4 of 4", "40", "0.100", "100", "10%"]
    assert scored[:5] == ["base", "50", "2", "0.300", "0.310"]
    assert scored[8:10] == ["0.150", "0.155"]
    assert cells(text, "`model.embed_dim`") == [["`model.embed_dim`", "16", "32"]]
    assert cells(text, "`run.eval_every`") == [["`run.eval_every`", "5", "2"]]
    assert "run.name" not in text


def test_the_best_is_the_one_that_training_took(tmp_path):
    from training.engine import train

    rows = [{"split": "val" if number > 7 else "train"} for number in range(12)]
    manifest = write_clips(tmp_path / "manifest", rows)
    config = small_config(
        tmp_path,
        manifest,
        data={"val": [{"manifest": str(manifest), "splits": ["val"]}]},
        run={"log_every": 1, "eval_every": 1},
    )
    result = train(config)
    [run] = read_runs([result.folder])
    assert run.best["epoch"] == result.best["epoch"]
    assert run.best["text_to_audio"] == result.best["text_to_audio"]
    assert run.steps == result.steps
    assert run.settings["run.batch_size"] == 4
    assert len(run.train) == result.steps


def test_a_run_without_val_or_config_or_lines_is_shown_as_far_as_it_goes(tmp_path, two):
    plain = write_run(tmp_path, name="plain")
    bare = write_run(tmp_path, name="bare", val={1: 0.1})
    (bare / "config.yaml").unlink()
    empty = write_run(tmp_path, name="empty", steps=0)
    (empty / "metrics.jsonl").unlink()
    runs = read_runs([*two, plain, bare, empty])
    text = markdown(runs)
    assert cells(text, "plain")[1][1:] == ["-"] * 12
    assert cells(text, "bare")[0][1:4] == ["-", "-", "4 of ?"]
    assert cells(text, "bare")[1][2] == "1"
    assert cells(text, "empty")[0][3:] == ["0 of 2", "0", "-", "-", "-"]
    assert "Nothing logged yet: empty." in text
    assert cells(text, "`run.epochs`") == [["`run.epochs`", "4", "4", "2", "none", "2"]]
    assert len(figure_bytes(draw_curves(runs))["png"]) > 10_000
    assert "Scores on data.val" not in markdown([runs[2], runs[4]])


def test_a_half_written_line_is_passed_over(two):
    before = markdown(read_runs(two))
    with (two[0] / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "val", "step": 50, "epoch": 5, "text_to_au')
    assert markdown(read_runs(two)) == before


def test_lines_of_other_kinds_and_without_metrics_do_no_harm(two):
    with (two[0] / "metrics.jsonl").open("a") as file:
        for line in (
            {"kind": "note", "step": 41, "epoch": 5},
            {"kind": "val", "step": 50, "epoch": 5},
            {"kind": "train", "step": 50, "epoch": 5, "loss": None},
            {"kind": "val", "step": 60, "epoch": 6, "text_to_audio": 3},
        ):
            file.write(json.dumps(line) + "\n")
    runs = read_runs(two)
    assert runs[0].best["epoch"] == 2
    assert cells(markdown(runs), "base")[0][3:6] == ["6 of 4", "60", "-"]
    draw_curves(runs)


def test_settings_are_compared_through_sections_that_are_off_and_by_what_all_state(tmp_path):
    on = write_run(tmp_path, name="on")
    off = write_run(tmp_path, name="off", model={"spec_augment": None}, data={"templates": ["{title} | {description}"]})
    old = write_run(tmp_path, name="old")
    lines = (old / "config.yaml").read_text().splitlines()
    (old / "config.yaml").write_text("\n".join(line for line in lines if "ema_decay" not in line))
    different, unknown = compare_settings(read_runs([on, off, old]))
    assert different["model.spec_augment.time_width"] == [12, None, 12]
    assert "model.spec_augment" not in different
    assert unknown == ["optimizer.ema_decay"]
    text = markdown(read_runs([on, off, old]))
    assert "do not state them: optimizer.ema_decay." in text
    assert '["{title} \\| {description}"]' in text
    assert cells(text, "`model.spec_augment.time_width`")[0][1:] == ["12", "none", "12"]


def test_runs_that_differ_in_nothing_are_said_to(tmp_path):
    runs = read_runs([write_run(tmp_path, name="a"), write_run(tmp_path, name="b")])
    assert markdown(runs).endswith("No setting differs but the names.\n")


def test_data_are_named_with_splits_and_weights(tmp_path):
    train = [{"manifest": "data/clotho", "splits": ["train", "val"]}, {"manifest": "far/away/wavtext5k", "weight": 2.0}]
    [run] = read_runs([write_run(tmp_path, name="a", data={"train": train})])
    assert cells(markdown([run]), "a")[0][1] == "clotho (train, val) + wavtext5k (train) x 2"


def test_runs_of_one_name_are_told_apart_and_one_named_twice_comes_once(tmp_path):
    first, second = (write_run(tmp_path / part, name="run") for part in ("x", "y"))
    assert [run.name for run in read_runs([first, second, first])] == [str(first), str(second)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no such run"),
        (
            lambda folder: folder.mkdir(),
            "not a run folder .it has neither config.yaml nor metrics.jsonl.; name another",
        ),
        (lambda folder: folder.write_text("x"), "is a file; name the folder of a run"),
        (lambda folder: write_run(folder, name="inside"), "it holds runs: .*/inside"),
        (lambda folder: broken(folder, "- 1\n- 2\n"), r"config\.yaml: damaged \(it holds no settings\)"),
        (lambda folder: broken(folder, "a: [1\n"), r"config\.yaml: damaged \(while parsing"),
        (lambda folder: broken(folder, b"\xff\xfe\xff"), r"config\.yaml: damaged \('utf-8'"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, make, message):
    make(tmp_path / "it")
    with pytest.raises(ConfigError, match=message):
        read_runs([tmp_path / "it"])


def broken(folder: Path, content: str | bytes) -> None:
    folder.mkdir()
    (folder / "config.yaml").write_bytes(content.encode() if isinstance(content, str) else content)


def drawn(figure) -> dict[str, list]:
    """Return the lines of each panel that is not empty, by the panel's title."""
    return {axes.get_title("left"): axes.get_lines() for axes in figure.axes if axes.get_lines()}


def test_the_figure_holds_the_runs_curves(two):
    lines = drawn(draw_curves(read_runs(two)))
    assert set(lines) == {
        "loss, nats",
        "mAP@10 on data.val",
        "R@1 on data.val",
        "R@10 on data.val",
        "scale (1 / temperature)",
        "learning rate",
        "pairs per second",
        "time spent waiting for data",
    }
    base, wide = lines["loss, nats"]
    assert base.get_xydata().tolist() == [[step, 4 / step] for step in range(5, 41, 5)]
    assert base.get_color() != wide.get_color()
    # both directions and their two rings, of both runs
    assert len(lines["mAP@10 on data.val"]) == 8
    t2a = lines["mAP@10 on data.val"][0]
    assert t2a.get_xydata().tolist() == [[10, 0.1], [20, 0.3], [30, 0.2], [40, 0.3]]
    assert lines["mAP@10 on data.val"][1].get_xydata().tolist() == [[20, 0.3]]


def test_runs_of_different_batches_are_drawn_by_pairs_seen(tmp_path):
    runs = read_runs([write_run(tmp_path, name="a"), write_run(tmp_path, name="b", run={"batch_size": 8})])
    figure = draw_curves(runs)
    small, large = drawn(figure)["loss, nats"]
    assert (small.get_xdata()[-1], large.get_xdata()[-1]) == (160, 320)
    assert "pairs seen" in {axes.get_xlabel() for axes in figure.axes}
    assert "mAP@10 on data.val" not in {axes.get_title("left") for axes in figure.axes}


def test_of_a_long_run_the_moving_mean_is_drawn(tmp_path):
    [run] = read_runs([write_run(tmp_path, name="long", steps=2000)])
    raw, mean = drawn(draw_curves([run]))["loss, nats"]
    assert len(raw.get_ydata()) == len(mean.get_ydata()) == 400
    assert mean.get_ydata()[200] == pytest.approx(sum(raw.get_ydata()[195:206]) / 11)
    assert mean.get_ydata()[0] == pytest.approx(sum(raw.get_ydata()[:6]) / 6)


def test_the_same_runs_give_the_same_bytes(two):
    first, second = (figure_bytes(draw_curves(read_runs(two))) for _ in range(2))
    assert first == second
    assert all(is_figure(content) for content in first.values())
    width, height = struct.unpack(">II", first["png"][16:24])
    assert (width, height) == (1350, 1203)


def test_many_runs_have_as_many_colours(tmp_path):
    runs = read_runs([write_run(tmp_path, name=f"run{number}") for number in range(12)])
    assert len({str(line.get_color()) for line in drawn(draw_curves(runs))["loss, nats"]}) == 12


def invoke(*arguments: object):
    return CliRunner().invoke(report_app, [str(argument) for argument in arguments])


def test_the_command_prints_the_table_and_writes_the_files(tmp_path, two):
    done = invoke(*two, "--out", tmp_path / "report")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == markdown(read_runs(two))
    files = [tmp_path / "report" / name for name in ("curves.png", "curves.svg", "table.md")]
    assert done.stderr.splitlines() == [str(file) for file in files]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert files[2].read_text() == f"{done.stdout}\n{MARK}\n"
    again = invoke(two[0], "--out", tmp_path / "report", "--json")
    assert again.exit_code == 0, again.stderr
    found = json.loads(again.stdout)
    assert found["files"] == [str(file) for file in files]
    [run] = found["runs"]
    assert (run["name"], run["epoch"], run["epochs"], run["steps"], run["batch_size"]) == ("base", 4, 4, 40, 4)
    assert run["best"]["text_to_audio"]["map_at_10"] == 0.3
    assert run["last_loss"] == 0.1


@pytest.mark.parametrize("name", ["curves.svg", "table.md"])
def test_others_files_are_not_written_over_unless_asked(tmp_path, two, name):
    out = tmp_path / "report"
    out.mkdir()
    (out / name).write_text("mine")
    done = invoke(*two, "--out", out)
    assert done.exit_code == 1
    assert f"{out / name}: not written by wavtext5k-train report" in done.stderr
    assert [file.name for file in out.iterdir()] == [name]
    assert invoke(*two, "--out", out, "--overwrite").exit_code == 0
    assert (out / name).read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Missing argument"),
        (("no-such",), 1, "error: no-such: no such run"),
        (("RUN", "--out", "FILE"), 2, "--out must be a folder"),
    ],
)
def test_the_command_refuses(tmp_path, two, arguments, code, message):
    (tmp_path / "file").write_text("")
    places = {"RUN": two[0], "FILE": tmp_path / "file"}
    done = invoke(*(places.get(argument, argument) for argument in arguments))
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr


def test_help_is_light_and_a_report_loads_no_torch(tmp_path, two):
    code = (
        "import sys; from training.report_cli import report_app\n"
        "try: report_app(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    for arguments, loaded in (
        (["--help"], "[]"),
        ([str(two[0]), "--out", str(tmp_path / "r")], "['matplotlib', 'numpy']"),
    ):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.endswith(f"{loaded}\n"), done.stdout
        if loaded == "[]":
            assert "Example: wavtext5k-train report runs/paper-a" in done.stdout
