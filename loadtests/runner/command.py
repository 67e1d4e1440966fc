"""`vigil load PROFILE`: a server, a Locust and a verdict, from the command line to the exit code.

Owns the order of things. Who comes is in `mixes.py`, what they saw in `evidence.py`, whether it is good in
`verdict.py`. Imports neither Locust nor gevent: they live in a process of their own.
"""

import argparse
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vigil.loadtests.oracle.findings import Limits
from vigil.loadtests.people import mixes
from vigil.loadtests.people.collection import Batch
from vigil.loadtests.runner import processes
from vigil.loadtests.runner.interrupts import Interrupted, Interrupts
from vigil.loadtests.runner.memory import Memory
from vigil.loadtests.runner.options import (
    AGENT_LIMIT,
    DEMO_AGENT,
    SESSION_LIMIT,
    USER_LIMIT,
    LoadError,
    Target,
    limits_of,
    seconds,
)
from vigil.loadtests.runner.target import Unreachable, look
from vigil.loadtests.verdict.evidence import Evidence
from vigil.loadtests.verdict.report import html
from vigil.loadtests.verdict.text import WIDTH, text
from vigil.loadtests.verdict.thresholds import Threshold, parse
from vigil.loadtests.verdict.verdict import WORDS, Ending, Exit, Run, Verdict
from vigil.scenarios.reports import files
from vigil.scenarios.reports.junit import junit
from vigil.server.cli.argument_types import number, whole_number
from vigil.server.cli.extras import need

STOP_TIMEOUT_S = 20
OVERDUE_S = 60.0  # beyond its time and what people get to stop, a run is given up
PROGRESS_S = 1.0
SPAWN_PER_WORKER_MAX = 100  # a second; Locust warns above

PEOPLE_MAX, PROCESSES_MAX, SCALE_MAX = 100_000, 256, 100_000
_HOUR_S = 3600


@dataclass(frozen=True)
class Plan:
    """What was asked for, read and checked."""

    name: str
    profile: mixes.Profile
    people: int
    run_time_s: int
    processes: int
    said_scale: float | None
    limits: Limits
    thresholds: tuple[Threshold, ...]
    url: str
    api_key: str
    agents: tuple[str, ...]
    limit_flags: tuple[str, ...]
    csv: str = ""


@dataclass
class Outcome:
    """What a run has come to, as it goes. `signal` is the number of the one that ended it."""

    evidence: Evidence
    scale: float = 1.0
    memory: Memory = field(default_factory=Memory)
    began_s: float | None = None  # when the run began
    heard_s: float = 0.0  # how long it had lasted when it was last looked at
    failure: str = ""  # why Locust did not end as it should
    unreachable: str = ""
    signal: int = 0

    def take(self, batch: Batch | None, now_s: float) -> None:
        """A batch, or word that none has come. The first one says that the run has begun."""
        if batch is not None:
            self.began_s = now_s if self.began_s is None else self.began_s
            self.evidence.absorb(batch)
        if self.began_s is not None:
            self.heard_s = now_s - self.began_s

    @property
    def ran_s(self) -> float:
        return self.heard_s if self.evidence.ran_s is None else self.evidence.ran_s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `vigil load`; each has a default."""
    codes = ", ".join(f"{code.value} {WORDS.get(code, 'wrong usage')}" for code in Exit)
    parser.epilog = f"Exit codes: {codes}; interrupted 130. docs/load.md says what each means."
    meanings = "; ".join(f"{name}: {profile.meaning}" for name, profile in mixes.PROFILES.items())
    parser.add_argument("profile", metavar="PROFILE", choices=list(mixes.PROFILES), help=meanings)
    add = parser.add_argument
    add(
        "--profile",
        dest="any_api",
        metavar="FILE",
        type=Path,
        default=None,
        help="with limits: prove the limit of any HTTP API, as this file describes it",
    )
    add(
        "--url",
        metavar="URL",
        default="",
        help="the server; without it one of its own is started and stopped",
    )
    add("--api-key", metavar="KEY", default="", help="a key of that server with all scopes (VIGIL_API_KEY)")
    add("--agent", metavar="ID", action="append", default=None, help=f"its agents, each once ({DEMO_AGENT})")
    add(
        "--users",
        metavar="N",
        type=whole_number(0, PEOPLE_MAX),
        default=0,
        help="how many people; limits brings its own",
    )
    add("--run-time", metavar="TIME", default="", help="90s, 2m or 1h30m")
    add(
        "--processes",
        metavar="N",
        type=whole_number(1, PROCESSES_MAX),
        default=1,
        help="Locust processes (1)",
    )
    add(
        "--time-scale",
        metavar="N",
        type=number(most=SCALE_MAX),
        default=None,
        help="how fast its own server's time runs (1); that of one at --url is read from its answers",
    )
    for scope, limit in (("session", SESSION_LIMIT), ("user", USER_LIMIT), ("agent", AGENT_LIMIT)):
        flag = f"--{scope}-limit"
        add(flag, metavar="RATE", default=limit, help=f"what the server must keep ({limit})")
    add(
        "--threshold",
        metavar="TEXT",
        action="append",
        default=[],
        help="something that must hold: p99<250ms, send.p95<80ms, errors<1%%; once for each",
    )
    add("--report", metavar="FILE", type=Path, default=None, help="write an HTML page")
    add("--json", metavar="FILE", type=Path, default=None, help="write everything as JSON")
    add("--csv", metavar="PREFIX", default="", help="Locust's own PREFIX_stats.csv and its like")
    add("--junit", metavar="FILE", type=Path, default=None, help="write the checks as JUnit XML")


def run(arguments: argparse.Namespace) -> int:
    """Run one load test. Gives the exit code (`verdict.Exit`); raises LoadError for a command that cannot be run."""
    if arguments.any_api is not None:
        return _any_api(arguments)
    plan = _plan(arguments, os.environ.get("VIGIL_API_KEY", ""))
    need("vigil load", "load", "gevent", "geventhttpclient", "locust", "websocket")
    csv = Path(arguments.csv) if arguments.csv else None
    for path in (arguments.report, arguments.json, arguments.junit, csv):
        if path is not None and not path.parent.is_dir():
            raise LoadError(f"there is no directory {path.parent}: make it, or write {path.name} elsewhere")
    outcome = _drive(plan)
    verdict = outcome.evidence.verdict(_taken(plan, outcome), plan.thresholds, outcome.unreachable)
    try:
        _write(arguments, verdict, outcome)
    finally:  # what cannot be written can still be read
        _show(verdict, outcome)
    return int(verdict.exit_code)


def _any_api(arguments: argparse.Namespace) -> int:
    """Raises LoadError."""
    from vigil.loadtests.anywhere import command  # only this needs Trio

    if arguments.profile != "limits" or arguments.url:
        raise LoadError("--profile FILE goes with limits alone, and the file names the URL")
    return command.run(arguments.any_api, arguments.json)


def _taken(plan: Plan, outcome: Outcome) -> Run:
    """What was run, for the verdict."""
    lost = outcome.failure and f"Locust ended before the run did: {outcome.failure.splitlines()[-1]}"
    ending = Ending(
        0.0 if plan.profile.counts else plan.run_time_s,
        plan.people,
        outcome.evidence.came,
        outcome.signal,
        lost or outcome.evidence.missing,
    )
    target = plan.url or "vigil serve"
    return Run(plan.name, target, plan.people, outcome.ran_s, outcome.scale, plan.profile.must_reach, ending)


def _show(verdict: Verdict, outcome: Outcome) -> None:
    if outcome.unreachable:
        print(f"vigil: {outcome.unreachable}", file=sys.stderr)
        return
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else WIDTH
    print(text(verdict, width=width, colours=is_terminal and "NO_COLOR" not in os.environ))
    if outcome.memory.slope is not None:
        print(outcome.memory.text())


def _plan(arguments: argparse.Namespace, key: str) -> Plan:
    """Raises LoadError, or BadThreshold."""
    profile = mixes.PROFILES[arguments.profile]
    limits = limits_of(arguments)
    people = sum(profile.counts.values()) or arguments.users or profile.people
    if arguments.url:
        Target.parse(arguments.url)
    own_key = secrets.token_hex(16)
    api_key = arguments.api_key or (key if arguments.url else own_key)
    if not api_key:
        raise LoadError("the server at --url needs an API key: give --api-key, or set VIGIL_API_KEY")
    return Plan(
        arguments.profile,
        profile,
        people,
        seconds(arguments.run_time) if arguments.run_time else profile.run_time_s,
        arguments.processes,
        arguments.time_scale,
        limits,
        _thresholds(arguments.threshold, profile),
        arguments.url.rstrip("/"),
        api_key,
        _agents(arguments, profile, people, limits),
        tuple(f"--{scope}-limit={getattr(arguments, scope + '_limit')}" for scope in Limits._fields),
        arguments.csv,
    )


def _thresholds(typed: Sequence[str], profile: mixes.Profile) -> tuple[Threshold, ...]:
    """What was typed, and the profile's own where nothing was said of the same thing."""
    wanted = [parse(one) for one in typed]
    said = {(one.operation, one.metric) for one in wanted}
    own = [one for one in map(parse, profile.thresholds) if (one.operation, one.metric) not in said]
    return (*wanted, *own)


def _agents(
    arguments: argparse.Namespace, profile: mixes.Profile, people: int, limits: Limits
) -> tuple[str, ...]:
    """Those of the server at hand; for our own as many as keep steady people under the agent limit."""
    if arguments.url:
        return tuple(arguments.agent or [DEMO_AGENT])
    per_hour = limits.agent.requests * _HOUR_S / limits.agent.window_s
    count = mixes.agents_needed(profile, people, per_hour)
    return tuple(f"load-{number}" for number in range(1, count + 1))


def _drive(plan: Plan) -> Outcome:
    """Start what is to be started, and take in everything until Locust is through or a signal comes."""
    children = processes.Children()
    interrupts = Interrupts(children.kill)
    outcome = Outcome(Evidence(plan.limits, plan.said_scale or 1.0), plan.said_scale or 1.0)
    try:
        with interrupts.handled(), suppress(Interrupted):
            _run_on_a_server(plan, outcome, children, interrupts)
    finally:
        children.kill()
    outcome.signal = interrupts.number
    return outcome


def _run_on_a_server(
    plan: Plan, outcome: Outcome, children: processes.Children, interrupts: Interrupts
) -> None:
    with _server(plan, children) as server:
        user = f"load-look-{secrets.token_hex(8)}"
        agents = plan.agents if plan.url else plan.agents[:1]  # in our own, one is as new as the other
        try:
            seen = look(server.url, plan.api_key, agents, user, plan.limits, plan.said_scale)
        except Unreachable as error:
            outcome.unreachable = str(error)
            return
        outcome.scale = seen.scale
        outcome.evidence = Evidence(plan.limits, seen.scale, seen.before)
        outcome.evidence.add(seen.observations)
        _collect(plan, server, outcome, children, interrupts)


def _server(plan: Plan, children: processes.Children) -> Any:
    if plan.url:
        return nullcontext(processes.OwnServer(plan.url, 0))
    flags = (f"--time-scale={plan.said_scale or 1.0:g}", *plan.limit_flags)
    return processes.own_server(children, flags, plan.agents, plan.api_key)


def _collect(
    plan: Plan,
    server: processes.OwnServer,
    outcome: Outcome,
    children: processes.Children,
    interrupts: Interrupts,
) -> None:
    """Raises LoadError when Locust ends before it has begun."""
    next_s = 0.0
    flags = _locust_flags(plan, server.url, outcome.scale)
    with (
        _progress_to(sys.stderr) as progress,
        processes.locust(children, flags, {"VIGIL_API_KEY": plan.api_key}) as locust,
        interrupts.answered_by(locust.end),
    ):
        locust.give_up_after(plan.run_time_s + STOP_TIMEOUT_S + OVERDUE_S)
        for batch in locust.batches():
            now_s = time.monotonic()
            outcome.take(batch, now_s)
            if now_s >= next_s and outcome.began_s is not None:
                next_s = now_s + PROGRESS_S
                progress(outcome.evidence.progress(outcome.heard_s, now_s))
                outcome.memory.look(server.pid, now_s)
    outcome.failure = locust.failure
    if locust.failure and outcome.began_s is None and not interrupts.number:
        raise LoadError(f"Locust ended before the run began:\n{locust.failure}")


def _locust_flags(plan: Plan, url: str, scale: float) -> list[str]:
    ramp_s = min(plan.profile.ramp_s, plan.run_time_s / 2)
    spawn_per_s = min(plan.people / ramp_s, SPAWN_PER_WORKER_MAX * plan.processes)
    flags = {
        "host": url,
        "mix": plan.name,
        "agent": ",".join(plan.agents),
        "users": plan.people,
        "spawn-rate": max(1.0, spawn_per_s),
        "run-time": f"{plan.run_time_s}s",
        "stop-timeout": STOP_TIMEOUT_S,
        "time-scale": scale,
        "loglevel": "WARNING",
    }
    several = [f"--processes={plan.processes}"] if plan.processes > 1 else []
    several += [f"--csv={plan.csv}"] if plan.csv else []
    return [*(f"--{name}={value}" for name, value in flags.items()), *plan.limit_flags, *several]


@contextmanager
def _progress_to(stream: Any) -> Iterator[Callable[[str], None]]:
    """A line once a second; on a terminal always the same one, which is gone at the end."""
    is_terminal = stream.isatty()
    begin, end = ("\r", "\x1b[K") if is_terminal else ("", "\n")

    def show(line: str) -> None:
        width = shutil.get_terminal_size().columns - 1 if is_terminal else len(line)
        with suppress(OSError):  # a terminal that has gone ends no run
            stream.write(f"{begin}{line[:width]}{end}")
            stream.flush()

    try:
        yield show
    finally:
        if is_terminal:
            show("")


def _write(arguments: argparse.Namespace, verdict: Verdict, outcome: Outcome) -> None:
    """Raises LoadError for the first file that cannot be written, after the others."""
    whole = {**verdict.to_json(), "server": outcome.memory.to_json()}
    texts: list[tuple[Path | None, Callable[[], str]]] = [
        (arguments.json, lambda: json.dumps(whole, indent=2) + "\n"),
        (arguments.junit, lambda: junit(f"vigil load {verdict.run.profile}", verdict.cases())),
        (arguments.report, lambda: html(verdict, datetime.now(UTC))),
    ]
    failures = [_written(path, make()) for path, make in texts if path is not None]
    for failure in filter(None, failures):
        raise LoadError(failure)


def _written(path: Path, content: str) -> str:
    """Why it cannot be; "" when it was."""
    try:
        files.write(path, content)
    except files.CannotWrite as error:
        return str(error)
    return ""
