from __future__ import annotations

import pytest

from crawler.items import LICENSES
from crawler.licenses import LICENSE_URLS, license_of


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("Public Domain", "public-domain"),
        ("Attribution 3.0", "cc-by-3.0"),
        ("  attribution  3.0 ", "cc-by-3.0"),
        ("CC BY 4.0", "cc-by-4.0"),
        ("Attribution-ShareAlike 3.0", "cc-by-sa-3.0"),
        ("Noncommercial 3.0", "cc-by-nc-3.0"),
        ("Attribution-NonCommercial 4.0", "cc-by-nc-4.0"),
        ("Sampling Plus 1.0", "cc-sampling-plus-1.0"),
        ("Sampling+", "cc-sampling-plus-1.0"),
        ("CC0 (public domain)", "cc0-1.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("Personal Use Only", "personal-use"),
        ("RemArc", "remarc"),
        ("Attribution", "unknown"),  # no version: not guessed
        ("Attribution 2.5", "unknown"),
        ("NonCommercial Sampling Plus 1.0", "unknown"),
        ("Attribution-NoDerivs 3.0", "unknown"),
        ("Attribution-NonCommercial-ShareAlike 3.0", "unknown"),
        ("Attribution 3.0 Unported", "cc-by-3.0"),
        ("CC BY-NC-SA 4.0", "unknown"),
        ("Attribution 13.0", "unknown"),
        ("CC0 (domaine public)", "cc0-1.0"),
        ("Domaine public", "public-domain"),
        ("Paternité 3.0", "cc-by-3.0"),
        ("Attribution - Partage dans les mêmes conditions 3.0", "cc-by-sa-3.0"),
        ("Attribution - Pas d'utilisation commerciale 4.0", "cc-by-nc-4.0"),
        ("Attribution - Pas de modification 4.0", "unknown"),
        ("Usage personnel uniquement", "personal-use"),
        ("https://creativecommons.org/licenses/by/4.0/deed.fr", "cc-by-4.0"),
        ("https://creativecommons.org/licenses/by-nc/3.0/", "cc-by-nc-3.0"),
        ("License: " * 1_000, "unknown"),
        ("\u200b\0\ud800", "unknown"),
        ("", "unknown"),
        ("Ask me", "unknown"),
    ],
)
def test_license_of_maps_printed_labels_and_guesses_nothing(label: str, expected: str) -> None:
    assert license_of(label) == expected
    assert expected in LICENSES


def test_license_urls_are_of_known_licences() -> None:
    assert set(LICENSE_URLS) <= set(LICENSES)
