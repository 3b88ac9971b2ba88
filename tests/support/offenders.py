"""One test for a table of rows or files, which names all that fail.

def test_refused():
    with collect_offenders() as offenders:
        for url in REFUSED:
            with offenders.row(url):
                assert is_refused(url)
"""

import traceback
from contextlib import contextmanager
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent


class Offenders:
    """The rows that have failed, each with its error."""

    def __init__(self):
        self.errors = {}
        self.number_of_rows = 0

    @contextmanager
    def row(self, name):
        """Check one row: an error inside is kept under the name, and the next row is checked."""
        self.number_of_rows += 1
        try:
            yield
        except (Exception, pytest.fail.Exception) as error:
            self.errors[f"{self.number_of_rows}. {name}"] = describe(error)


@contextmanager
def collect_offenders():
    """Fail at the end if a row has failed, and name each. A table without rows fails too."""
    offenders = Offenders()
    yield offenders
    assert offenders.number_of_rows, "The table has no rows."
    if offenders.errors:
        details = "\n".join(f"{name}\n    {error}" for name, error in offenders.errors.items())
        pytest.fail(
            f"{len(offenders.errors)} of {offenders.number_of_rows} rows failed:\n{details}", pytrace=False
        )


def describe(error):
    """Return the error and the last line of a test that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_of_tests(frame.filename)]
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = str(error).replace("\n", "\n    ")
    return f"{type(error).__name__}: {text}{where}"


def is_of_tests(path):
    return Path(path).is_relative_to(TESTS) and Path(path) != Path(__file__)
