"""`vigil load` as people use it: real processes, real sockets, and a verdict that names what is wrong."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import ROOT
from tests.loadtests.oracle.limiters import FAULTS
from tests.measure import PROVING
from tests.process import KEY
from vigil.actors.core.errors import VigilError
from vigil.loadtests.runner import command as load
from vigil.loadtests.verdict.verdict import Exit
from vigil.server.cli.parser import Parser

# Small limits and a fast clock: a minute is two seconds, and an hour does not come round.
LIMITS = ("--session-limit=8/minute", "--user-limit=200/hour", "--agent-limit=800/hour")
FAST = "--time-scale=30"
AGENTS = ("one", "two")

# What a machine of any speed may show, beside the fault that is looked for: a generator that was too slow.
SLOW = {Exit.HELD, Exit.OVERLOADED}

_LISTENING = re.compile(r"Vigil is listening on (\S+)")


class Outcome(NamedTuple):
    code: int
    json: Any

    def limit(self, scope: str) -> Any:
        return next(limit for limit in self.json["limits"] if limit["scope"] == scope)

    @property
    def accused(self) -> set[str]:
        """The limits against which something was proven."""
        return {limit["scope"] for limit in self.json["limits"] if limit["findings"]}


def vigil_load(tmp_path: Path, *arguments: str) -> Outcome:
    """The command in this process: what it starts are processes of their own."""
    parser = Parser(prog="vigil load")
    load.add_arguments(parser)
    found = tmp_path / "found.json"
    code = load.run(parser.parse_args([*arguments, f"--json={found}"]))
    return Outcome(code, json.loads(found.read_text()))


@contextmanager
def bad_server(fault: str, tmp_path: Path) -> Iterator[str]:
    agents = tmp_path / "agents.yaml"
    agents.write_text(json.dumps({"agents": [{"id": one, "name": one, "kind": "none"} for one in AGENTS]}))
    command = [
        sys.executable,
        "-m",
        "tests.loadtests.runner.bad_server",
        fault,
        "--port=0",
        "--store=memory:",
    ]
    command += [f"--data-dir={tmp_path / 'data'}", f"--agents={agents}", "--log-level=error", FAST, *LIMITS]
    root = ROOT
    environ = {**os.environ, "VIGIL_API_KEY": KEY}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=environ) as server:
        assert server.stdout is not None
        match = _LISTENING.match(server.stdout.readline())
        assert match is not None
        try:
            yield match[1]
        finally:
            server.send_signal(signal.SIGTERM)


def test_a_server_that_keeps_its_limits_is_held_to_all_three(tmp_path: Path) -> None:
    report, junit = tmp_path / "report.html", tmp_path / "junit.xml"
    outcome = vigil_load(tmp_path, "limits", FAST, *LIMITS, f"--report={report}", f"--junit={junit}")
    assert outcome.accused == set()
    assert all(limit["reached"] for limit in outcome.json["limits"])
    assert all(limit["refused"] for limit in outcome.json["limits"])
    assert outcome.json["errors"] == {}
    assert outcome.code in SLOW
    assert "<svg" in report.read_text()
    assert "<testsuite" in junit.read_text()


def test_a_day_of_people_in_two_processes_meets_no_error_and_no_limit(tmp_path: Path) -> None:
    """And what was acknowledged is there at the end; a threshold that is not held fails the run nevertheless."""
    flags = ("--time-scale=200", "--users=24", "--run-time=4s", "--processes=2", "--threshold=send.p50<1us")
    outcome = vigil_load(tmp_path, "soak", *flags)
    assert outcome.json["errors"] == {}
    assert outcome.accused == set()
    assert outcome.json["messages"]["acknowledged"] > 0
    assert outcome.json["messages"]["lost"] == 0
    assert [each["held"] for each in outcome.json["thresholds"]] == [False, True]
    assert outcome.code in {Exit.FAILED, Exit.OVERLOADED}


QUICKLY = ("61/minute", "4999/hour")
SKIPPED = pytest.mark.skipif(not PROVING, reason="the long measure: VIGIL_PROVE=1")


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=() if fault in QUICKLY or PROVING else SKIPPED) for fault in FAULTS]
)
def test_a_wrong_limiter_is_caught_and_the_limit_named(fault: str, tmp_path: Path) -> None:
    with bad_server(fault, tmp_path) as url:
        outcome = vigil_load(
            tmp_path,
            "limits",
            f"--url={url}",
            f"--api-key={KEY}",
            "--agent=one",
            "--agent=two",
            FAST,
            *LIMITS,
        )
    assert FAULTS[fault].names in outcome.accused
    assert outcome.code == Exit.FAILED


def test_a_target_that_is_not_there_is_said_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "found.json"
    flags = ("--url=http://127.0.0.1:9", "--api-key=any", f"--json={found}")
    assert run_only("realistic", *flags) == Exit.UNREACHABLE
    assert json.loads(found.read_text())["verdict"] == "target not reachable"
    _, said = capfd.readouterr()
    assert said.startswith("vigil: nothing answers at http://127.0.0.1:9")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["realistic", "--url=http://127.0.0.1:9"], "needs an API key"),
        (["realistic", "--url=somewhere", "--api-key=any"], "is not the address of a server"),
        (["limits", "--session-limit=60"], "--session-limit: '60' is not a limit"),
        (["limits", "--run-time=soon"], "--run-time 'soon' is not a time"),
        (["limits", "--threshold=p99"], "'p99' is not a threshold"),
        (["limits", "--report=/no/such/place/report.html"], "there is no directory /no/such/place"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(
    arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VIGIL_API_KEY", raising=False)
    with pytest.raises(VigilError, match=re.escape(reason)):
        run_only(*arguments)


def test_vigil_itself_never_meets_gevent() -> None:
    """Importing Locust patches sockets and threads, under Trio's feet."""
    code = "import sys, vigil.loadtests.runner.command; sys.exit('gevent' in sys.modules or 'locust' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def run_only(*arguments: str) -> int:
    parser = Parser(prog="vigil load")
    load.add_arguments(parser)
    return load.run(parser.parse_args(arguments))
