"""The pictures of the README and of the docs."""

import sys
from pathlib import Path

import pytest

from tests.support.processes import run
from tests.support.requirements import find_program

pytestmark = pytest.mark.nightly

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_command_makes_all_of_them(tmp_path):
    """Those that are in the repository, none above its limit of bytes."""
    pytest.importorskip("playwright", reason="Playwright is not installed (pip install playwright).")
    find_program("chromium", package="chromium")
    run(sys.executable, "tools/screenshots", tmp_path, cwd=ROOT, timeout=500)
    stored = {path.name for path in (ROOT / "docs/images").glob("*.png")}
    assert {path.name for path in tmp_path.glob("*.png")} == stored
