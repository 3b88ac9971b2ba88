"""The table of the states of a job agrees with the modules that change them, and with their docstring."""

import re

from notifications.jobs import transitions
from notifications.models import Job
from tests.docs.pages import DOCS
from tests.jobs.transitions.test_state_writes import TRANSITIONS, find_state_writes

#: They write a row that another module changes, or other columns of jobs than the state.
HELPERS = {
    "batch_outcomes",
    "guards",
    "handing_over",
    "isolating",
    "observed_groups",
    "outcomes",
    "resending",
    "running",
}


def read_rows():
    page = (DOCS / "explanation/architecture.md").read_text()
    table = re.search(r"^### States of a job$(.*?)^### ", page, re.M | re.S)[1]
    return re.findall(r"^\| [^|]+ \| ([a-z, -]+) \| ([a-z, ]+) \| ([`a-z_, ]+) \|$", table, re.M)[1:]


def test_every_module_that_changes_states_is_in_the_table():
    writers = {path.stem for path in TRANSITIONS.glob("*.py") if find_state_writes(path.read_text())}
    named = {name for *_, modules in read_rows() for name in re.findall(r"\w+", modules)}
    assert named == writers - HELPERS


def test_the_states_of_the_table_exist():
    before, after, _ = zip(*read_rows(), strict=True)
    assert {state for cell in before for state in cell.split(", ")} == {*Job.State.values, "-"}
    assert {state for cell in after for state in cell.split(", ")} == {*Job.State.values}


def test_the_docstring_names_no_module_that_the_table_does_not():
    named = {name for *_, modules in read_rows() for name in re.findall(r"\w+", modules)}
    assert {
        name for name in re.findall(r"\b\w+\b", transitions.__doc__) if (TRANSITIONS / f"{name}.py").exists()
    } <= (named | HELPERS)
