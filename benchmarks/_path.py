"""Importing this moves the benchmarks' folder behind all other places where Python looks for modules.

``curation.py`` in it has the name of a package, and a script's own folder comes first there.
"""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:] = [*(place for place in sys.path if Path(place).resolve() != _HERE), str(_HERE)]
