"""The app as it is installed."""

import sys

import pytest

from tests.packaging.test_wheel import run
from tests.support.site import ROOT


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The path of the wheel of this commit."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", folder, ROOT)
    [path] = folder.glob("asyncsite_notifications-*.whl")
    return path
