"""The tour that docs/tour.py plays, with the weights of the package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perceive_ir._catalogue import FOLDER_VARIABLE

TOUR = Path(__file__).parents[2] / "docs" / "tour.py"


@pytest.mark.slow
def test_the_tour_ends_with_a_script_that_gives_the_same_pixels(tmp_path: Path) -> None:
    own_weights = {name: value for name, value in os.environ.items() if name != FOLDER_VARIABLE}
    done = subprocess.run([sys.executable, TOUR, tmp_path], env=own_weights, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("What was copied gives the same pixels.\n")
    pictures = [path.read_bytes() for path in tmp_path.glob("*.png")]
    assert len(pictures) == len(set(pictures)) == 7
