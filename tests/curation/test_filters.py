from __future__ import annotations

import pytest

from curation.errors import ConfigError
from curation.filters import DropReason, Limits, RecordRules, check_record, check_sound

GOOD_RECORD = {
    "names": ("soundbible-1", "http://x/1"),
    "title": "Bell",
    "description": "A bell.",
    "license_id": "unknown",
}
GOOD_SOUND = {"duration_s": 1.0, "peak_dbfs": -6.0}


def test_reasons_are_those_of_the_contract():
    assert " ".join(DropReason) == (
        "missing_audio not_audio undecodable empty_audio truncated too_short too_long too_large silent not_finite "
        "no_text required_text_missing duplicate_bytes duplicate_pcm opted_out license_excluded"
    )


@pytest.mark.parametrize(
    ("rules", "change", "reason"),
    [
        ({}, {}, None),
        ({}, {"title": "", "description": ""}, DropReason.NO_TEXT),
        ({}, {"title": ""}, None),
        ({"require": ("title", "description")}, {"title": ""}, DropReason.REQUIRED_TEXT_MISSING),
        ({"require": ("title", "description")}, {"description": ""}, DropReason.REQUIRED_TEXT_MISSING),
        ({"require": ("title",)}, {"description": ""}, None),
        ({"require": ("title",)}, {"title": "", "description": ""}, DropReason.NO_TEXT),
        ({"exclude_licenses": ("unknown",)}, {}, DropReason.LICENSE_EXCLUDED),
        ({"exclude_licenses": ("personal-use",)}, {}, None),
        ({"opted_out": frozenset({"soundbible-1"})}, {}, DropReason.OPTED_OUT),
        ({"opted_out": frozenset({"http://x/1"})}, {}, DropReason.OPTED_OUT),
        ({"opted_out": frozenset({"soundbible-11"})}, {}, None),
    ],
)
def test_check_record_gives_one_reason_each(rules, change, reason):
    drop = check_record(RecordRules(**rules), **(GOOD_RECORD | change))
    assert (drop.reason if drop else None) is reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"duration_s": 0.1}, None),
        ({"duration_s": 0.0999}, DropReason.TOO_SHORT),
        ({"duration_s": 3600.1}, DropReason.TOO_LONG),
        ({"peak_dbfs": -80.0}, None),
        ({"peak_dbfs": -80.1}, DropReason.SILENT),
    ],
)
def test_check_sound_gives_one_reason_each(change, reason):
    drop = check_sound(Limits(), **(GOOD_SOUND | change))
    assert (drop.reason if drop else None) is reason


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Limits(min_duration_s=5, max_duration_s=1), "min_duration_s=5 and max_duration_s=1"),
        (lambda: Limits(max_bytes=0), "max_bytes=0"),
        (lambda: Limits(silent_peak_dbfs=3), "silent_peak_dbfs=3"),
        (lambda: RecordRules(require=("name",)), "'name' is not title or description"),
        (lambda: RecordRules(exclude_licenses=("mit",)), "mit is not one of cc0-1.0"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
