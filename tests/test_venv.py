"""tools/venv takes the newest Python that really runs, and names the Debian package when none can."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("sh", "cat", "cksum", "basename", "dirname", "rm", "sleep", "mkdir")

# Stands for a Python: answers the probe, and for `-m venv` leaves a copy of itself in the new environment.
FAKE = """#!/bin/sh
case "$*" in
    *ensurepip*) {probe} ;;
    *"print(sys.version)"*) echo "{version}" ;;
    *platform*) echo "{version}" ;;
    *"-m venv"*)
        for folder; do :; done
        mkdir -p "$folder/bin"
        cat "$0" >"$folder/bin/python"
        {chmod} +x "$folder/bin/python" ;;
    *"-m pip install"*) echo installed >>"{log}" ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


class Machine:
    """A PATH with nothing on it but a shell, its tools and the Pythons that a test puts there."""

    def __init__(self, folder):
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.installs = folder / "installs"
        for name in TOOLS:
            which = subprocess.run(["which", name], capture_output=True, text=True, check=True)
            (self.bin / name).symlink_to(which.stdout.strip())
        (folder / "requirements.txt").write_text("first\n")

    def python(self, name, version, *, probe=None, place=None):
        major, minor, micro = map(int, version.split("."))
        probe = probe or f"echo {major}{minor:03}{micro:03}"
        path = (place or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        chmod = subprocess.run(["which", "chmod"], capture_output=True, text=True, check=True).stdout.strip()
        path.write_text(FAKE.format(probe=probe, version=version, log=self.installs, chmod=chmod))
        path.chmod(0o755)
        return path

    def venv(self, **variables):
        return subprocess.run(
            [ROOT / "tools/venv", ".venv", "requirements.txt"],
            cwd=self.folder,
            env={"PATH": str(self.bin), "HOME": str(self.folder), **variables},
            capture_output=True,
            text=True,
            timeout=30,
        )

    @property
    def installed(self):
        return self.installs.read_text().count("installed") if self.installs.exists() else 0


def test_takes_the_newest_that_runs(machine):
    """A shim that runs nothing is passed over; pyenv's versions count; the newest wins, not the first."""
    machine.python("python3.14", "3.14.0", probe="echo 'pyenv: no such command' >&2; exit 127")
    machine.python("python3", "3.11.2")
    machine.python("python3", "3.13.1", place=machine.folder / ".pyenv/versions/3.13.1/bin")
    machine.python("python3.12", "3.12.9")
    done = machine.venv()
    assert done.returncode == 0, done.stderr
    assert f"with Python 3.13.1 ({machine.folder}/.pyenv/versions/3.13.1/bin/python3)" in done.stdout


def test_second_time_does_nothing(machine):
    """No pip and no word, until a requirements file changes."""
    machine.python("python3.12", "3.12.9")
    machine.venv()
    second = machine.venv()
    assert (second.returncode, second.stdout, second.stderr, machine.installed) == (0, "", "", 1)
    (machine.folder / "requirements.txt").write_text("second\n")
    machine.venv()
    assert machine.installed == 2


def test_environment_whose_python_is_gone_is_made_anew(machine):
    """After an upgrade of the system the old .venv runs nothing."""
    machine.python("python3.11", "3.11.2")
    machine.venv()
    (machine.folder / ".venv/bin/python").unlink()
    machine.python("python3.12", "3.12.9")
    done = machine.venv()
    assert "with Python 3.12.9" in done.stdout
    assert machine.installed == 2


def test_debian_without_venv(machine):
    """One line that names the package."""
    machine.python("python3.11", "3.11.2", probe="echo novenv 3.11; exit 1")
    done = machine.venv()
    assert (done.returncode, done.stderr) == (
        1,
        "error: Python 3.11 has no venv: apt-get install python3.11-venv\n",
    )


def test_a_python_without_venv_is_passed_over(machine):
    """An older one that works is taken before a newer one that does not."""
    machine.python("python3.13", "3.13.0", probe="echo novenv 3.13; exit 1")
    machine.python("python3.11", "3.11.2")
    assert "with Python 3.11.2" in machine.venv().stdout


def test_no_python_at_all(machine):
    """One line that says what to install."""
    done = machine.venv()
    assert (done.returncode, done.stderr) == (
        1,
        "error: no Python 3.11 to 3.14 runs here: apt-get install python3 python3-venv\n",
    )


def test_named_python_only(machine):
    """PYTHON takes that one, and fails when it is not fit."""
    machine.python("python3.13", "3.13.0")
    old = machine.python("python3.10", "3.10.1", probe="exit 1")
    fit = machine.python("python3.11", "3.11.2")
    assert "with Python 3.11.2" in machine.venv(PYTHON=str(fit)).stdout
    done = machine.venv(PYTHON=str(old))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {old} does not run here")
