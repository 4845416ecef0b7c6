"""Programs that tests start, and where things are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]


def environment(**more: str) -> dict[str, str]:
    """The environment of a program that finds the modules of this folder, and all that this process finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *filter(None, sys.path)]), **more}
