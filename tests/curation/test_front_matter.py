"""The block on top of README.md, of a data card and of an export alike."""

import datasets
import pytest
import yaml

from crawler.items import LICENSES
from curation.card_notes import Notes, facts
from curation.cards import manifest_card
from curation.errors import ConfigError
from curation.front_matter import about_sources, front_matter, hub_licenses
from tests.curation.card_support import Page, drop, lay_manifest, make_rows


def test_front_matter_is_what_the_hub_and_datasets_read(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    folder = lay_manifest(tmp_path / "data", make_rows(), dropped=[drop(9)])
    (folder / "README.md").write_text(manifest_card(folder, Notes()).text, encoding="utf-8")
    front = Page((folder / "README.md").read_text(encoding="utf-8")).front
    assert (front["license"], front["license_name"]) == ("other", "mixed-see-each-clip")
    assert front["language"] == ["en"]
    assert front["size_categories"] == ["n<1K"]
    assert front["source_datasets"] == ["original"]
    assert front["annotations_creators"] == ["found"]
    assert front["task_categories"] == ["text-to-audio"]
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded["clip_id"][:2] == ["bigsoundbank-0005", "bigsoundbank-0006"]
    assert loaded.features._to_yaml_list() == front["dataset_info"][0]["features"]
    lost = datasets.load_dataset(str(folder), "dropped", cache_dir=str(tmp_path / "cache"))["train"]
    assert lost["reason"] == ["silent"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"license_ids": {"cc-by-3.0": "cc-by-33"}}, "license is 'cc-by-33', the Hub knows: cc0-1.0, "),
        ({"annotations": ["by hand"]}, "annotations_creators is 'by hand', the Hub knows: "),
        ({"tags": ["a: b\n- c"]}, "tag .* must be letters"),
    ],
)
def test_front_matter_refuses_what_the_hub_does_not_know(changes, message):
    values = {"name": "x", "clips": 1, "license_ids": {}, "languages": ["en"], "annotations": ["found"]}
    with pytest.raises(ConfigError, match=message):
        front_matter(**(values | {"is_original": True, "has_labels": False} | changes))


@pytest.mark.parametrize(
    ("clips", "size"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (4525, "1K<n<10K"),
        (10**6, "1M<n<10M"),
        (10**9, "1B<n<10B"),
        (10**10, "10B<n<100B"),
        (10**12 - 1, "100B<n<1T"),
        (10**12, "n>1T"),
    ],
)
def test_front_matter_names_the_size(clips, size):
    block = front_matter(
        name="a: b",
        clips=clips,
        license_ids={"remarc": ""},
        languages=["en"],
        annotations=["found"],
        is_original=False,
        has_labels=True,
    )
    front = yaml.safe_load(block.split("---\n")[1])
    assert front["size_categories"] == [size]
    assert (front["pretty_name"], front["license"], front["license_name"]) == ("a: b", "other", "remarc")
    assert front["task_categories"] == ["text-to-audio", "audio-classification"]


@pytest.mark.parametrize("source", [*facts()["sources"], "my_doors"])
@pytest.mark.parametrize("license_id", LICENSES)
def test_all_that_is_known_of_licences_and_sources_is_what_the_hub_knows(source, license_id):
    about = about_sources([source])
    block = front_matter(
        name="x",
        clips=1,
        license_ids=hub_licenses([license_id]),
        languages=about.languages,
        annotations=about.annotations,
        is_original=about.is_original,
        has_labels=False,
    )
    assert ("language" in yaml.safe_load(block.split("---\n")[1])) == (source in facts()["sources"])
