"""The places that tools/mutants breaks: each is there, and each room of the package has one."""

import tomllib

from tests.support.offenders import collect_offenders
from tests.support.site import ROOT

MUTANTS = tomllib.loads((ROOT / "tools/mutants.toml").read_text())["mutant"]
PACKAGE = ROOT / "notifications"
#: Folders without one: `make test` has no tests of them, or they have no code.
EXCEPT = {"contrib", "contrib/jazzmin", "contrib/unfold", "contrib/wagtail", "migrations"}


def test_each_text_is_in_its_file_once():
    with collect_offenders() as offenders:
        for mutant in MUTANTS:
            with offenders.row(f"{mutant['file']}: {mutant['old']}"):
                assert (ROOT / mutant["file"]).read_text().count(mutant["old"]) == 1
                assert mutant["new"] != mutant["old"]
                assert mutant["tests"] and all((ROOT / path).is_file() for path in mutant["tests"])


def test_there_are_at_least_sixty_in_all_rooms():
    assert len(MUTANTS) >= 60
    initials = [*PACKAGE.glob("*/__init__.py"), *PACKAGE.glob("contrib/*/__init__.py")]
    rooms = {path.parent.relative_to(PACKAGE).as_posix() for path in initials} - EXCEPT
    files = [mutant["file"] for mutant in MUTANTS]
    assert not {room for room in rooms if not any(f"notifications/{room}/" in file for file in files)}
