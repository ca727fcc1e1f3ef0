"""Licences and recordings, as tables name them."""

from __future__ import annotations

import pytest

from curation.datasets.provenance import license_of, origin_of


@pytest.mark.parametrize(
    ("text", "license_id"),
    [
        ("http://creativecommons.org/licenses/by/3.0/", "cc-by-3.0"),
        ("https://creativecommons.org/licenses/by-nc/4.0/deed.en", "cc-by-nc-4.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("http://creativecommons.org/licenses/sampling+/1.0/", "cc-sampling-plus-1.0"),
        ("http://creativecommons.org/licenses/nc-sampling+/1.0/", "unknown"),
        ("CC BY 4.0", "cc-by-4.0"),
        ("cc_by_sa_3.0", "cc-by-sa-3.0"),
        ("Attribution-NonCommercial 4.0 International", "cc-by-nc-4.0"),
        ("Attribution 3.0 Unported License", "cc-by-3.0"),
        ("Creative Commons 0", "cc0-1.0"),
        ("CC0 1.0 Universal", "cc0-1.0"),
        ("Sampling+", "cc-sampling-plus-1.0"),
        ("personal-use", "personal-use"),
        ("Public Domain", "public-domain"),
        # Nothing is guessed.
        ("CC-BY", "unknown"),
        ("CC BY-SA 4.0", "unknown"),
        ("CC BY-NC-ND 4.0", "unknown"),
        ("not in the public domain", "unknown"),
        ("CC BY 4.0 or ask me", "unknown"),
        ("GPL-2", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_licence_by_name_or_address(text, license_id):
    assert license_of(text) == license_id


@pytest.mark.parametrize(
    ("page_url", "origin"),
    [
        ("http://www.freesound.org/people/Some%20One/sounds/32318/", ("freesound", "32318")),
        ("https://freesound.org/s/188423", ("freesound", "188423")),
        ("https://soundbible.com/2122-40-Smith-Wesson.html", ("soundbible", "2122")),
        ("https://bigsoundbank.com/detail-0100-forest.html", ("bigsoundbank", "0100")),
        ("https://bigsoundbank.com/door-s319.html", ("bigsoundbank", "0319")),
        ("https://m.youtube.com/watch?v=r1nicOVtvkQ&t=3s", ("youtube", "r1nicOVtvkQ")),
        ("https://youtu.be/r1nicOVtvkQ", ("youtube", "r1nicOVtvkQ")),
        ("https://freesound.org/people/one/", ("", "")),
        ("https://www.youtube.com/watch", ("", "")),
        ("https://evil.example/freesound.org/s/1/", ("", "")),
        ("http://[", ("", "")),
        ("", ("", "")),
    ],
)
def test_the_recording_that_a_page_is_of(page_url, origin):
    assert origin_of(page_url) == origin
