from __future__ import annotations

import numpy

from curation.versions import differences, versions


def test_what_the_bytes_depend_on_is_named():
    found = versions()
    assert found["numpy"] == numpy.__version__
    assert {"Python", "this package's code", "soxr", "soundfile", "libsndfile", "av"} <= found.keys()
    assert all(found.values())
    assert differences(found, found) == []


def test_what_differs_is_said():
    ours = {"soxr": "1.1.0", "av": "none", "numpy": "2.4.6"}
    assert differences({"soxr": "1.0.0", "numpy": "2.4.6"}, ours) == ["soxr 1.0.0 (here 1.1.0)"]
    assert differences({"soxr": "1.1.0", "av": "18.1.0", "numpy": "2.4.6"}, ours) == ["av 18.1.0 (here none)"]
