"""The command card, as people run it."""

import json
import subprocess
import sys

import pytest
from s3fs import S3FileSystem
from typer.testing import CliRunner

from curation.cli import app
from tests.curation.card_support import Page, drop, lay_manifest
from tests.curation.support import contents, run
from tests.support.store import other_program, s3_server

CAPTIONS = (
    "view_link,download_link,title,description,fname,tags\r\n"
    "https://bigsoundbank.com/detail-0001-a.html,https://bigsoundbank.com/UPLOAD/wav/0001.wav,Door,A door.,1.wav,\r\n"
    "https://soundbible.com/7-Bell.html,https://soundbible.com/grab.php?id=7&type=wav,Bell, A bell rings.,bell_1.wav,"
    "\"['bell', 'ring']\"\r\n"
)


def card(*arguments):
    """Run the command in this process."""
    return CliRunner().invoke(app, ["card", *map(str, arguments)], env={"COLUMNS": "200"})


def test_card_writes_both_files_beside_the_manifest_and_again(tmp_path):
    folder = lay_manifest(tmp_path / "data", dropped=[drop(9)])
    done = run("card", folder, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "clips": 3,
        "name": "SoundBible",
        "licenses": {"cc-by-3.0": 3},
        "card": str(folder / "README.md"),
        "croissant": str(folder / "croissant.json"),
        "notes": None,
    }
    contents = {name: (folder / name).read_bytes() for name in ("README.md", "croissant.json")}
    (folder / "card.yaml").write_text("name: Bells\n")
    done = card(folder)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"wrote       3 clips      their card    {folder}/README.md    {folder}/croissant.json",
        f"notes     {folder}/card.yaml",
    ]
    assert Page((folder / "README.md").read_text()).headings[0] == "Bells"
    (folder / "card.yaml").unlink()
    assert card(folder / "manifest.parquet").exit_code == 0
    assert {name: (folder / name).read_bytes() for name in contents} == contents
    assert card(folder, "--name", "Chimes", "--no-croissant").exit_code == 0
    assert Page((folder / "README.md").read_text()).headings[0] == "Chimes"
    assert (folder / "croissant.json").read_bytes() == contents["croissant.json"]


def test_card_goes_elsewhere_on_demand(tmp_path):
    folder = lay_manifest(tmp_path / "data")
    (tmp_path / "bells.yaml").write_text("name: Bells\n")
    done = card(folder, "--out", tmp_path / "bells.md")
    assert done.exit_code == 0, done.stderr
    assert f"notes     {tmp_path}/bells.yaml" in done.stdout
    assert Page((tmp_path / "bells.md").read_text()).headings[0] == "Bells"
    assert card(folder, "--out", tmp_path / "new" / "folder").exit_code == 0
    assert (tmp_path / "new" / "folder" / "README.md").is_file()
    assert not (folder / "croissant.json").exists()
    assert card(folder, "--out", tmp_path / "new" / "folder", "--croissant").exit_code == 0
    assert (folder / "croissant.json").is_file()


def test_card_of_a_caption_file(tmp_path):
    file = tmp_path / "list.csv"
    file.write_text(CAPTIONS, newline="")
    done = card(file, "--captions", "wavtext5k", "--out", tmp_path / "all.md")
    assert done.exit_code == 0, done.stderr
    page = Page((tmp_path / "all.md").read_text())
    assert page.row("mean words a clip")[:3] == ["2.50", "2.00", "3.00"]
    done = card(file, "--captions", "wavtext5k", "--source", "soundbible", "--out", tmp_path / "one.md", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) | {"card": ""} == {
        "clips": 1,
        "name": "SoundBible",
        "licenses": {"unknown": 1},
        "card": "",
        "croissant": None,
        "notes": None,
    }
    assert not (tmp_path / "croissant.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 1, "nowhere: no such manifest; build it with: wavtext5k-curate build"),
        (["data", "--notes", "no.yaml"], 2, "no.yaml: no such notes file"),
        (["data", "--source", "soundbible"], 2, "--source goes with --captions"),
        (["data", "--captions", "clotho"], 2, "--captions needs --out"),
        (["data", "--captions", "clotho", "--out", "a.md", "--croissant"], 2, "a caption file has none"),
        (["list.csv", "--captions", "wavtext5", "--out", "a.md"], 2, "did you mean wavtext5k?"),
        (["list.csv", "--captions", "wavtext5k", "--out", "a.md", "--source", "b"], 2, "sources there: bigsoundbank, "),
        (["none.csv", "--captions", "wavtext5k", "--out", "a.md"], 2, "none.csv: no such file or folder"),
        (["data", "--out", "mine"], 1, "mine/README.md: not written by wavtext5k-curate card; name another --out"),
        (["data", "--out", "folder"], 2, "folder/README.md: a folder, expected a file or nothing"),
        (["data", "--out", "list.csv"], 2, "list.csv: --out must be a folder, or a file ending in .md"),
        (["data", "--out", "http://x/y"], 2, "http:// holds no folders"),
        ([], 2, "Missing argument 'MANIFEST'"),
    ],
)
def test_card_refuses_what_cannot_be(tmp_path, monkeypatch, arguments, code, message):
    lay_manifest(tmp_path / "data")
    (tmp_path / "list.csv").write_text(CAPTIONS, newline="")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("# My own\n")
    (tmp_path / "folder" / "README.md").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    done = card(*arguments)
    assert done.exit_code == code, done.output
    assert isinstance(done.exception, SystemExit)
    assert message in " ".join(done.stderr.replace("│", " ").split()), done.stderr
    assert done.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "mine" / "README.md").read_text() == "# My own\n"


def test_card_overwrites_someone_elses_on_demand_and_its_own_always(tmp_path):
    folder = lay_manifest(tmp_path)
    (folder / "croissant.json").write_text("{}")
    assert "croissant.json: not written by" in card(folder).stderr
    assert not (folder / "README.md").exists()
    assert card(folder, "--overwrite").exit_code == 0
    assert card(folder).exit_code == 0


def test_a_readme_that_only_speaks_of_the_command_is_someone_elses(tmp_path):
    folder = lay_manifest(tmp_path)
    assert card(folder, "--no-croissant").exit_code == 0
    line = next(line for line in (folder / "README.md").read_text().splitlines() if "Written by" in line)
    for mine in (
        "My croissants were written by wavtext5k-curate; this was not.\n",
        f"Cards begin with `{line}`.\n",
        "# Mine\n<!-- Written by wavtext5k-curate card, long ago -->\n",
    ):
        (folder / "README.md").write_text(mine)
        done = card(folder)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "README.md: not written by wavtext5k-curate card; name another --out" in done.stderr
        assert (folder / "README.md").read_text() == mine
        assert not (folder / "croissant.json").exists()


@pytest.mark.parametrize("name", ["README.md", "croissant.json"])
@pytest.mark.parametrize("edit", [lambda text: text.replace("SoundBible", "Bells", 1), lambda text: text + "\n"])
def test_what_someone_edited_is_not_replaced_unasked(tmp_path, name, edit):
    folder = lay_manifest(tmp_path)
    assert card(folder).exit_code == 0
    written = (folder / name).read_text()
    (folder / name).write_text(edited := edit(written))
    assert edited != written
    done = card(folder)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"{name}: edited since wavtext5k-curate card wrote it; move what was added into card.yaml" in done.stderr
    assert (folder / name).read_text() == edited
    assert card(folder, "--overwrite").exit_code == 0
    assert (folder / name).read_text() == written


def test_a_name_that_is_not_unicode_is_refused(tmp_path):
    folder = lay_manifest(tmp_path)
    before = contents(folder)
    done = run("card", folder, "--name", b"Bells \xff".decode(errors="surrogateescape"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "not Unicode text" in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(folder) == before


def test_card_of_a_manifest_in_a_store_is_the_same_as_on_disk(tmp_path, monkeypatch):
    folder = lay_manifest(tmp_path, dropped=[drop(9)])
    with s3_server() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()  # fsspec keeps connections to the server of an earlier test
        store = other_program(variables)
        for file in folder.iterdir():
            store.upload_file(str(file), "bucket", f"data/{file.name}")
        done = card("s3://bucket/data")
        assert done.exit_code == 0, done.stderr
        assert card(folder).exit_code == 0
        for name in ("README.md", "croissant.json"):
            stored = store.get_object(Bucket="bucket", Key=f"data/{name}")["Body"].read()
            assert stored == (folder / name).read_bytes()
        S3FileSystem.clear_instance_cache()


def test_card_reads_and_writes_a_manifest_whose_name_is_odd(tmp_path):
    folder = lay_manifest(tmp_path / "Straße [1] &")
    done = card(folder)
    assert done.exit_code == 0, done.stderr
    assert (folder / "README.md").is_file()


def test_help_loads_no_pandas():
    code = (
        "import sys; from typer.testing import CliRunner; from curation.cli import app; "
        "shown = CliRunner().invoke(app, ['card', '--help']).output; assert 'Example: wavtext5k-curate card' in shown; "
        "assert not {'pandas', 'pyarrow', 'jinja2', 'yaml'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
