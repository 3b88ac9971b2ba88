"""The pictures of the README and of the docs."""

import sys
from pathlib import Path

import pytest

from tests.support.processes import run
from tests.support.requirements import find_program

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_one_command_makes_all_of_them(tmp_path):
    """Those that are in the repository, none above its limit of bytes."""
    find_program("chromium", package="chromium")
    run(sys.executable, "tools/screenshots", tmp_path, cwd=ROOT)
    stored = {path.name for path in (ROOT / "docs/images").glob("*.png")}
    assert {path.name for path in tmp_path.glob("*.png")} == stored
