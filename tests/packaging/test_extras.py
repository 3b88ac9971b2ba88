"""The extras work with the lowest and with the newest versions that they allow."""

import sys
import tomllib

import pytest

from tests.packaging.test_wheel import pip_install, run
from tests.support.site import ROOT

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600), pytest.mark.nightly]

#: Tests of what each extra is for.
TESTS = [
    "tests/contrib/celery/test_engine.py",
    "tests/contrib/deliveries/test_pushes.py",
    "tests/contrib/schedules/test_timing.py",
    "tests/contrib/webhooks/test_signing.py",
    "tests/contrib/operations/test_metrics.py",
    "tests/outbound/test_decompression.py",
    "tests/realtime/doorbell/test_channel_layer.py",
    "tests/tracing/test_spans.py",
]


def read_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [requirement for name, needed in extras.items() if name != "django52" for requirement in needed]


@pytest.mark.parametrize("bound", ["lowest", "newest"])
def test_extras(bound, tmp_path):
    """In an environment whose packages come before those of the tests."""
    python = tmp_path / "venv/bin/python"
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    requirements = [needed.replace(">=", "==") if bound == "lowest" else needed for needed in read_extras()]
    # The tests of spans have the SDK too, whose version is that of the API.
    sdk = [
        needed.replace("-api", "-sdk") for needed in requirements if needed.startswith("opentelemetry-api")
    ]
    pip_install(python, "--upgrade", *requirements, *sdk)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    of_tests = run(sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    with open(f"{site}/of_the_tests.pth", "w") as file:
        file.write(of_tests)
    found = [path for path in TESTS if (ROOT / path).exists()]
    printed = run(python, "-m", "pytest", "-q", "-n", "0", "-m", "not slow", *found, cwd=ROOT)
    assert " passed" in printed and " failed" not in printed
