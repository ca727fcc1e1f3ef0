from __future__ import annotations

import pyarrow as pa
import pytest
import yaml

from crawler.items import LICENSES
from curation.card_notes import TEMPLATES
from curation.errors import ConfigError
from curation.exports.policy import NON_COMMERCIAL, REDISTRIBUTABLE, LeftOutReason, Policy, judge, texts_of
from curation.manifest import SCHEMA
from tests.curation.support import row

TEMPLATE = "{title}. {description}"


def reasons(rows, needs_text=False, **policy):
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    left_out, unmatched = judge(table, Policy(**policy), template=TEMPLATE, needs_text=needs_text)
    return {rows[number]["clip_id"]: str(found.reason) for number, found in left_out.items()}, unmatched


@pytest.mark.parametrize("license_id", LICENSES)
def test_each_licence_goes_out_or_stays(license_id):
    stays = license_id in ("remarc", "personal-use", "unknown")
    assert (license_id not in REDISTRIBUTABLE) == stays
    found, _ = reasons([row(1, license=license_id)])
    assert found == ({"soundbible-1": "license_excluded"} if stays else {})
    assert reasons([row(1, license=license_id)], licenses="all")[0] == {}


def test_cards_call_the_same_licences_not_commercial():
    said = yaml.safe_load((TEMPLATES / "facts.yaml").read_text(encoding="utf-8"))["licenses"]
    assert {name for name, facts in said.items() if "not commercially" in facts["condition"]} == NON_COMMERCIAL


def test_licences_are_added_and_taken_away():
    rows = [row(1, license="remarc"), row(2, license="cc-by-nc-4.0"), row(3)]
    assert reasons(rows, include=("remarc",), exclude=("cc-by-nc-4.0",))[0] == {"soundbible-2": "license_excluded"}
    assert reasons(rows, licenses="all", exclude=("remarc",))[0] == {"soundbible-1": "license_excluded"}


@pytest.mark.parametrize(
    "line",
    ["soundbible-1", "https://www.example.org/1", "http://example.org/1", "http://example.org/1.wav"],
)
def test_an_opt_out_names_a_clip_its_page_or_its_audio(line):
    rows = [row(1, page_url="http://example.org/1", audio_url="https://example.org/1.wav"), row(2)]
    assert reasons(rows, opted_out=frozenset({line, "soundbible-77"})) == ({"soundbible-1": "opted_out"}, 1)


def test_an_opt_out_outweighs_every_licence():
    rows = [row(1, license="unknown", split="test")]
    found, _ = reasons(rows, licenses="all", include=("unknown",), opted_out=frozenset({"soundbible-1"}))
    assert found == {"soundbible-1": "opted_out"}


def test_splits_are_chosen():
    rows = [row(1), row(2, split="val"), row(3, split="test", license="unknown")]
    assert reasons(rows, splits=("val",))[0] == {"soundbible-1": "other_split", "soundbible-3": "other_split"}
    with pytest.raises(ConfigError, match="no split 'dev' in the manifest; it has test, train, val"):
        reasons(rows, splits=("dev",))


def test_a_clip_without_text_stays_out_where_text_is_needed():
    rows = [row(1, title="", description="", tags=[]), row(2)]
    assert reasons(rows)[0] == {}
    assert reasons(rows, needs_text=True)[0] == {"soundbible-1": "no_text"}


def test_the_reasons_are_a_closed_list():
    assert {str(reason) for reason in LeftOutReason} == {"opted_out", "other_split", "license_excluded", "no_text"}


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"licenses": "some"}, "license policy is 'some', must be one of redistributable, all"),
        ({"include": ("cc-by",)}, "licence to include: cc-by is not one of cc0-1.0, "),
        ({"exclude": ("CC0-1.0",)}, "licence to exclude: CC0-1.0 is not one of "),
        ({"include": ("remarc",), "exclude": ("remarc",)}, "both to include and to exclude: remarc"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(policy, message):
    with pytest.raises(ConfigError, match=message):
        Policy(**policy)


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        ({}, ["Bell. A bell."]),
        ({"captions": ["One.", "", "Two."]}, ["One.", "Two."]),
        ({"description": ""}, ["Bell"]),
        ({"title": "", "description": "", "tags": ["bell", "metal"]}, ["bell, metal"]),
        ({"title": "", "description": "", "tags": [], "labels": ["church_bells", "rain"]}, ["church bells, rain"]),
        ({"title": "", "description": "", "tags": []}, []),
    ],
)
def test_captions_come_before_what_a_template_makes(change, texts):
    assert texts_of(row(1, **change), TEMPLATE) == texts
