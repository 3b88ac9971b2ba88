"""The browser client's own tests, which Node runs."""

import subprocess
from pathlib import Path

from tests.support.npm import require_node_modules
from tests.support.requirements import find_program

ROOT = Path(__file__).resolve().parent.parent


def test_javascript():
    """All of tests/js passes; what does not is shown as Node reports it."""
    tests = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests/js").glob("*.test.js"))
    assert tests
    done = subprocess.run(
        [find_program("node", package="nodejs"), "--test", *tests],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_bundles_are_those_of_the_modules():
    """The committed scripts that pages load are built from the modules as they are now: npm run bundle."""
    require_node_modules()
    done = subprocess.run(
        [find_program("node", package="nodejs"), "js/bundle.js", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
