"""The comparison of costs with an earlier revision tells a dearer tree from noise."""

import shutil
import subprocess

import pytest

from bench import guard

pytestmark = [pytest.mark.any_database, pytest.mark.any_django]


def judge(*ratios):
    return guard.report({"a job": [(100.0, 100.0 * ratio) for ratio in ratios]}, 1.05)


def test_a_cost_that_grew_fails():
    assert judge(1.06, 1.09, 1.08, 1.2, 1.07, 1.08, 1.02, 1.09) == ["a job"]


def test_a_cost_within_the_tolerance_passes():
    assert judge(1.04, 1.05, 1.04, 1.05, 1.04, 1.03, 1.04, 1.04) == []


def test_ratios_that_scatter_around_1_pass():
    assert judge(0.8, 1.3, 1.2, 0.9, 1.1, 1.4, 0.95, 1.1) == []


def test_a_weight_that_is_measured_once_fails():
    assert judge(1.06) == ["a job"]
    assert judge(1.04) == []


def test_one_statement_more_fails():
    for now, dearer in ((30.0, False), (31.0, True)):
        name = f"{guard.EXACT} a question, SQLite"
        assert guard.report({name: [(30.0, now)]}, 1.05) == [name] * dearer


def test_what_is_meant_to_be_dearer_passes():
    names = [
        "µs of CPU of a question, SQLite",
        "µs of CPU a job, SQLite",
        f"{guard.EXACT} a question, SQLite",
    ]
    message = "Ask two users\n\nThe second is read.\n\nDearer: question, one user more is read\n"
    assert guard.without_meant(names, message) == ["µs of CPU a job, SQLite"]


def test_turns_of_what_looks_dearer_go_on():
    for now, turns in ((100.0, guard.MIN_TURNS), (108.0, guard.MAX_TURNS)):
        figures = {"of another database": [(1.0, 2.0)]}
        guard.alternate([lambda: {"a job": 100.0}, lambda now=now: {"a job": now}], 60, figures)
        assert len(figures["a job"]) == turns


def test_a_figure_that_is_not_judged_neither_fails_nor_takes_more_turns():
    latency = f"ms to a message {guard.NOT_JUDGED}"
    figures = {}
    guard.alternate([lambda: {latency: 5.0}, lambda: {latency: 10.0}], 60, figures)
    assert len(figures[latency]) == guard.MIN_TURNS
    assert guard.report(figures, 1.05) == []


@pytest.mark.parametrize(("second", "is_dearer"), [(1.09, True), (0.99, False)])
@pytest.mark.parametrize(
    ("name", "database"),
    [
        ("µs of CPU of notify(), PostgreSQL", "PostgreSQL"),
        (f"µs of CPU of notify(), {guard.OLD_DJANGO}", guard.OLD_DJANGO),
        ("µs of CPU a push", "SQLite"),
        ("ms that a writer waits, longest 5 %", "SQLite"),
    ],
)
def test_what_looks_dearer_is_measured_once_more_by_new_processes(name, database, second, is_dearer):
    """Equal trees differ by the memory layout of their processes."""
    compared = []

    def compare(only, databases):
        compared.append((only, databases))
        return {name: [(100.0, 100.0 * (1.08 if len(compared) == 1 else second))] * 8}

    dearer = guard.find_dearer(compare, {"jobs", "notify", "push"}, 1.05, "")
    assert dearer == [name] * is_dearer
    assert compared == [
        ({"jobs", "notify", "push"}, set(guard.DATABASES)),
        ({guard.measure_of(name)}, {database}),
    ]


def test_numbers_of_things_are_measured_once():
    names = [
        f"{guard.EXACT} sync, SQLite",
        "modules of the server",
        "bytes of /notifications/ with its files",
    ]
    figures = {name: [(30.0, 33.0)] for name in names}
    calls = []
    assert guard.find_dearer(lambda *args: calls.append(args) or figures, set(), 1.05, "") == names
    assert len(calls) == 1


def test_each_scattering_figure_has_its_measure():
    assert set(guard.SCATTERING.values()) == set(guard.MEASURES) - {"statements", "startup", "page", "older"}


@pytest.fixture
def repository(monkeypatch, tmp_path):
    """repository(*arguments) runs git in a repository with four commits, and returns its output."""
    if not shutil.which("git"):
        pytest.skip("git is not installed (apt install git).")
    monkeypatch.setattr(guard, "TREE", tmp_path)
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@users.example")

    def run(*arguments):
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    run("init", "-q")
    for number in range(4):
        run("commit", "-q", "--allow-empty", "-m", str(number))
    return run


def test_base_is_the_commit_before(repository):
    assert guard.find_base() == repository("rev-parse", "HEAD^")


def test_base_is_the_one_that_is_named(repository, tmp_path):
    """Else costs could grow by less than the tolerance with each commit."""
    (tmp_path / "bench").mkdir()
    named = tmp_path / "bench" / "guard_base.txt"
    named.write_text(repository("rev-parse", "--short", "HEAD~3") + "\n")
    assert guard.find_base() == repository("rev-parse", "HEAD~3")
    named.write_text("0123456789\n")  # not in a shallow clone
    assert guard.find_base() == repository("rev-parse", "HEAD^")


def test_base_is_the_last_release(repository, tmp_path):
    repository("tag", "-m", "1.0", "1.0", "HEAD~2")
    repository("tag", "-m", "of HEAD itself", "1.1")
    assert guard.find_base() == "1.0"


def test_nothing_is_compared_without_an_earlier_revision(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(guard, "TREE", tmp_path)
    monkeypatch.setattr("sys.argv", ["guard"])
    guard.main()
    assert "Nothing is compared" in capsys.readouterr().out
