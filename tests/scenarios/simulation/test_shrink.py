"""A run that fails is cut down until nothing can be left out, and told as a scenario that fails the same way."""

from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.scenarios.breakages import broken
from tests.scenarios.simulation.bugs import BUGS, SHOWN, settings
from vigil.scenarios.language import reading
from vigil.scenarios.play.results import Play
from vigil.scenarios.replay import command as replay
from vigil.scenarios.simulation import command as simulation_command
from vigil.scenarios.simulation.outcome import Settings
from vigil.scenarios.simulation.shrinking.script import tell
from vigil.scenarios.simulation.shrinking.shrink import fewest, shrink
from vigil.scenarios.simulation.simulate import simulate
from vigil.server.cli.command_line import Command, command_parser

lived = partial(simulate, real_now=lambda: 0.0)


@pytest.mark.parametrize("culprits", [{3}, {0, 19}, {4, 5, 6}, set(range(20))])
def test_only_those_are_left_who_are_needed(culprits: set[int]) -> None:
    tries: list[Sequence[int]] = []

    def fails(some: Sequence[int]) -> bool:
        tries.append(some)
        return culprits <= set(some)

    assert list(fewest(range(20), fails)) == sorted(culprits)
    assert len(tries) < 20 * 20


@pytest.mark.parametrize(
    "bug", ["renewed-at-the-cap", "tombstones-are-forgotten-at-once", "refused-requests-are-charged"]
)
def test_a_bug_shrinks_to_two_people_and_a_script_that_shows_it(bug: str, tmp_path: Path) -> None:
    told: list[str] = []
    with broken(BUGS[bug]):
        smallest = shrink(lived(settings(SHOWN[bug].seed)), lived, told.append)
        script = tell(smallest)
        with_the_bug = played(script.text, tmp_path)
    assert smallest.violation is not None
    assert smallest.violation.rule == SHOWN[bug].rule
    assert smallest.settings.only is not None
    assert len(smallest.settings.only) <= 2
    assert smallest.settings.faults == ()
    assert smallest.requests < 60
    assert told
    assert script.fails
    assert with_the_bug.verdict == "failed"
    assert smallest.settings.repro in " ".join(script.text.split())
    assert played(script.text, tmp_path).verdict == "held"


def test_what_is_left_behind_is_cut_down_too() -> None:
    """It shows only after the day, so the end of the day is searched for."""
    with broken(BUGS["windows-are-never-forgotten"]):
        failed = lived(Settings(1, people=4, hours=0.5))
        smallest = shrink(failed, lived)
    assert smallest.violation is not None
    assert smallest.violation.rule == "leak"
    assert smallest.settings.only is not None
    assert len(smallest.settings.only) == 1
    assert smallest.settings.length_ms < failed.settings.length_ms


def test_the_command_writes_the_script_and_says_whether_it_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "small.yaml"
    words = ["--seed=1", "--people=20", "--hours=2", "--faults=all", f"--shrink={file}"]
    with broken(BUGS["tombstones-are-forgotten-at-once"]):
        assert simulation_command.run(typed(words)) == 1
    printed = capsys.readouterr().out.splitlines()
    assert any(line.startswith("still fails: 1 people") for line in printed)
    assert printed[-1] == f"vigil replay {file} fails too"
    assert reading.load(file).script.title == "A simulation violated rule 3 not found and was shrunk to this"


def typed(words: list[str]) -> Namespace:
    command = Command("simulate", "live a day", simulation_command.add_arguments, simulation_command.run)
    return command_parser([command]).parse_args(["simulate", *words])


def played(text: str, place: Path) -> Play:
    file = place / "shrunk.yaml"
    file.write_text(text)
    return replay.play_virtual([reading.load(file)], tell=lambda _: None)[0]
