"""croissant.json, judged by mlcroissant."""

import dataclasses
import hashlib
import json
import socket

import mlcroissant
import pytest

from curation.card_notes import Notes, facts
from curation.cards import manifest_card
from curation.croissant import MARK, croissant_bytes
from curation.errors import ConfigError
from curation.manifest import DROPPED_SCHEMA, SCHEMA, read_manifest
from curation.marks import is_unchanged
from tests.curation.card_support import HOSTILE, drop, lay_manifest, row

# What mlcroissant uses: rdflib warns of itself, pandas of how it is called.
pytestmark = [
    pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame"),
]

ROWS = [
    row(1, tags=[], title="Crème", license="public-domain"),
    row(2, labels=["a", "b"], fold=3, duration_s=1.0, num_samples=44_100),
    row(3, description='"quoted", \\ and\ttab'),
]


@pytest.fixture
def _no_network(monkeypatch):
    """mlcroissant is to need no network: any connection is an error."""

    def refuse(*arguments):
        raise AssertionError(f"asked the network: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def lay(folder, rows=ROWS, notes=None, **tables):
    lay_manifest(folder, rows, **tables)
    notes = notes or Notes()
    (folder / "croissant.json").write_bytes(croissant_bytes(folder, manifest_card(folder, notes), notes))
    return folder / "croissant.json"


def values(record):
    """Return a record as the manifest's row says it: mlcroissant gives text as bytes, numbers as NumPy's."""

    def plain(value):
        if isinstance(value, list):
            return [plain(item) for item in value]
        return value.decode() if isinstance(value, bytes) else value.item()

    return {key.split("/")[1]: plain(value) for key, value in record.items()}


@pytest.mark.usefixtures("_no_network")
def test_mlcroissant_has_nothing_to_say_and_reads_every_row(tmp_path):
    file = lay(tmp_path, dropped=[drop(8), drop(9, "no_text")])
    data = mlcroissant.Dataset(str(file))
    assert (set(data.metadata.ctx.issues.errors), set(data.metadata.ctx.issues.warnings)) == (set(), set())
    assert [values(record) for record in data.records("clips")] == read_manifest(tmp_path).to_pylist()
    assert [values(record)["reason"] for record in data.records("dropped")] == ["silent", "no_text"]


@pytest.mark.usefixtures("_no_network")
def test_sounds_are_joined_with_their_files(tmp_path):
    file = lay(tmp_path)
    (tmp_path / "audio").mkdir()
    for clip in read_manifest(tmp_path).to_pylist():
        (tmp_path / clip["audio_path"]).write_bytes(b"sound of " + clip["clip_id"].encode())
    described = json.loads(file.read_bytes())
    # mlcroissant has no reader of FLAC; as another kind of file, of the same name, it reads the bytes.
    described["distribution"][1]["encodingFormat"] = "text/plain"
    file.write_text(json.dumps(described))
    records = list(mlcroissant.Dataset(str(file)).records("sounds"))
    assert [record["sounds/audio"] for record in records] == [
        b"sound of " + record["sounds/clip_id"] for record in records
    ]
    assert [record["sounds/audio_path"].decode() for record in records] == [
        clip["audio_path"] for clip in read_manifest(tmp_path).to_pylist()
    ]


def test_files_are_named_with_size_and_hash(tmp_path):
    described = json.loads(lay(tmp_path).read_bytes())
    content = (tmp_path / "manifest.parquet").read_bytes()
    manifest, audio, dropped = described["distribution"]
    assert manifest["sha256"] == hashlib.sha256(content).hexdigest()
    assert manifest["contentSize"] == f"{len(content)} B"
    assert manifest["contentUrl"] == "manifest.parquet"
    assert (audio["includes"], audio["encodingFormat"]) == ("audio/*.flac", "audio/flac")
    assert dropped["contentUrl"] == "dropped.parquet"
    fields = {records["@id"]: [field["name"] for field in records["field"]] for records in described["recordSet"]}
    assert fields["clips"] == SCHEMA.names
    assert fields["dropped"] == DROPPED_SCHEMA.names
    assert described["license"] == ["https://creativecommons.org/licenses/by/3.0/", "public domain"]
    assert described["version"] == f"1.0.0+{manifest['sha256'][:12]}"
    assert described["datePublished"] == "2026-01-02"


@pytest.mark.usefixtures("_no_network")
def test_mlcroissant_refuses_a_manifest_that_was_changed(tmp_path):
    file = lay(tmp_path)
    lay_manifest(tmp_path, [row(1)])
    with pytest.raises(mlcroissant.GenerationError) as caught:
        list(mlcroissant.Dataset(str(file)).records("clips"))
    assert "manifest.parquet is not identical with the reference" in str(caught.value.__cause__)


@pytest.mark.usefixtures("_no_network")
def test_notes_and_hostile_text_are_only_text(tmp_path):
    notes = Notes(
        name=HOSTILE,
        summary=HOSTILE,
        version="2.0.0",
        date_published="2026-05-06",
        url="https://example.org/a",
        publisher='"Us" \\',
        citation="@misc{a}",
        tags=("doors",),
    )
    file = lay(tmp_path, [row(1, title=HOSTILE, author=HOSTILE)], notes=notes, dropped=None)
    data = mlcroissant.Dataset(str(file))
    assert not data.metadata.ctx.issues.errors
    assert not data.metadata.ctx.issues.warnings
    assert data.metadata.version == "2.0.0"
    described = json.loads(file.read_bytes())
    assert described["publisher"] == {"@type": "sc:Organization", "name": '"Us" \\'}
    assert described["datePublished"] == "2026-05-06"
    assert [records["@id"] for records in described["recordSet"]] == ["clips", "sounds"]
    assert [values(record)["title"] for record in data.records("clips")] == [HOSTILE]


@pytest.mark.parametrize("license_id", sorted(facts()["licenses"]))
def test_every_licence_has_an_address_or_a_name(tmp_path, license_id):
    described = json.loads(lay(tmp_path, [row(1, license=license_id)]).read_bytes())
    assert len(described["license"]) == 1
    assert described["license"][0]


def test_a_file_tells_whether_it_is_as_it_was_written(tmp_path):
    content = lay(tmp_path).read_bytes()
    assert is_unchanged(content, MARK)
    assert not is_unchanged(content.replace(b"sound effects", b"sounds"), MARK)
    assert not is_unchanged(content.replace(b"sha256 ", b"sha256 0", 1), MARK)
    assert not is_unchanged(b'{"description": "written by wavtext5k-curate"}', MARK)


def test_a_name_that_is_not_unicode_is_refused(tmp_path):
    folder = lay_manifest(tmp_path)
    card = manifest_card(folder, Notes())
    with pytest.raises(ConfigError, match=r"not Unicode text: .* half a character"):
        croissant_bytes(folder, dataclasses.replace(card, name="Bells \udcff"), Notes())


def test_the_same_data_give_the_same_bytes(tmp_path):
    assert lay(tmp_path / "a").read_bytes() == lay(tmp_path / "b", ROWS[::-1]).read_bytes()
