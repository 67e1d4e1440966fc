"""`vigil load PROFILE`: a server, a Locust and a verdict, from the command line to the exit code.

Owns the order of things. Who comes is in `mixes.py`, what they saw in `evidence.py`, whether it is good in
`verdict.py`. Imports neither Locust nor gevent: they live in a process of their own.
"""

import argparse
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from loadtests import mixes, processes
from loadtests.evidence import Evidence
from loadtests.memory import Memory
from loadtests.options import (
    AGENT_LIMIT,
    DEMO_AGENT,
    SESSION_LIMIT,
    USER_LIMIT,
    LoadError,
    Target,
    limits_of,
    seconds,
)
from loadtests.oracle_tally import Limits
from loadtests.report import html
from loadtests.target import Look, Unreachable, look
from loadtests.thresholds import Threshold, parse
from loadtests.verdict import Exit, Run, Verdict
from loadtests.verdict_text import text
from scenarios.junit import junit
from server.argument_types import number, whole_number
from server.extras import need

STOP_TIMEOUT_S = 20
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
    scale: float
    limits: Limits
    thresholds: tuple[Threshold, ...]
    url: str
    api_key: str
    agents: tuple[str, ...]
    limit_flags: tuple[str, ...]


@dataclass
class Outcome:
    """What a run has come to, as it goes."""

    evidence: Evidence
    memory: Memory = field(default_factory=Memory)
    unreachable: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `vigil load`; each has a default."""
    meanings = "; ".join(f"{name}: {profile.meaning}" for name, profile in mixes.PROFILES.items())
    parser.add_argument("profile", metavar="PROFILE", choices=list(mixes.PROFILES), help=meanings)
    add = parser.add_argument
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
        default=1.0,
        help="how fast the server's time runs (1)",
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
    add("--junit", metavar="FILE", type=Path, default=None, help="write the checks as JUnit XML")


def run(arguments: argparse.Namespace) -> int:
    """Run one load test. Gives the exit code (`verdict.Exit`); raises LoadError for a command that cannot be run."""
    plan = _plan(arguments, os.environ.get("VIGIL_API_KEY", ""))
    need("vigil load", "load", "gevent", "geventhttpclient", "locust", "websocket")
    for path in (arguments.report, arguments.json, arguments.junit):
        if path is not None and not path.parent.is_dir():
            raise LoadError(f"there is no directory {path.parent}: make it, or write {path.name} elsewhere")
    began_s = time.monotonic()
    with _handling(dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), _leave)):
        outcome = _drive(plan, _progress_to(sys.stderr))
    if outcome.unreachable:
        print(f"vigil: {outcome.unreachable}", file=sys.stderr)
        return Exit.UNREACHABLE
    taken = Run(
        plan.name,
        plan.url or "vigil serve",
        plan.people,
        time.monotonic() - began_s,
        plan.scale,
        plan.profile.must_reach,
    )
    verdict = outcome.evidence.verdict(taken, plan.thresholds)
    print(text(verdict))
    if outcome.memory.slope is not None:
        print(outcome.memory.text())
    _write(arguments, verdict, outcome)
    return int(verdict.exit_code)


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


def _drive(plan: Plan, progress: Callable[[Evidence], None]) -> Outcome:
    """Start what is to be started, and take in everything until Locust is through."""
    with _server(plan) as server:
        user = f"load-look-{secrets.token_hex(8)}"
        try:
            agents = plan.agents if plan.url else plan.agents[:1]  # in our own, one is as new as the other
            seen = look(server.url, plan.api_key, agents, user, plan.limits, plan.scale)
        except Unreachable as error:
            return Outcome(Evidence(plan.limits, plan.scale), unreachable=str(error))
        return _collect(plan, server, seen, progress)


def _server(plan: Plan) -> Any:
    if plan.url:
        return nullcontext(processes.OwnServer(plan.url, 0))
    flags = (f"--time-scale={plan.scale:g}", *plan.limit_flags)
    return processes.own_server(flags, plan.agents, plan.api_key)


def _collect(
    plan: Plan, server: processes.OwnServer, seen: Look, progress: Callable[[Evidence], None]
) -> Outcome:
    outcome = Outcome(Evidence(plan.limits, plan.scale, seen.before))
    outcome.evidence.add(seen.observations)
    next_s = time.monotonic() + PROGRESS_S
    with (
        _left_to_locust(signal.SIGINT),
        processes.locust(_locust_flags(plan, server.url), {"VIGIL_API_KEY": plan.api_key}) as batches,
    ):
        for batch in batches:
            outcome.evidence.absorb(batch)
            if time.monotonic() >= next_s:
                next_s += PROGRESS_S
                progress(outcome.evidence)
                outcome.memory.look(server.pid, time.monotonic())
    return outcome


def _locust_flags(plan: Plan, url: str) -> list[str]:
    spawn_per_s = min(plan.people / plan.profile.ramp_s, SPAWN_PER_WORKER_MAX * plan.processes)
    flags = {
        "host": url,
        "mix": plan.name,
        "agent": ",".join(plan.agents),
        "users": plan.people,
        "spawn-rate": max(1.0, spawn_per_s),
        "run-time": f"{plan.run_time_s}s",
        "stop-timeout": STOP_TIMEOUT_S,
        "time-scale": plan.scale,
        "loglevel": "WARNING",
    }
    several = [f"--processes={plan.processes}"] if plan.processes > 1 else []
    return [*(f"--{name}={value}" for name, value in flags.items()), *plan.limit_flags, *several]


def _progress_to(stream: Any) -> Callable[[Evidence], None]:
    """A line once a second; on a terminal always the same one."""
    begin, end = ("\r", "\x1b[K") if stream.isatty() else ("", "\n")

    def show(evidence: Evidence) -> None:
        stream.write(f"{begin}{evidence.progress()}{end}")
        stream.flush()

    return show


def _write(arguments: argparse.Namespace, verdict: Verdict, outcome: Outcome) -> None:
    if arguments.json is not None:
        whole = {**verdict.to_json(), "server": outcome.memory.to_json()}
        arguments.json.write_text(json.dumps(whole, indent=2) + "\n")
    if arguments.junit is not None:
        arguments.junit.write_text(junit(f"vigil load {verdict.run.profile}", verdict.cases()))
    if arguments.report is not None:
        arguments.report.write_text(html(verdict, datetime.now(UTC)))


def _leave(number: int, _: object) -> NoReturn:
    """Told to stop, or without a terminal: the context managers on the way out stop what was started."""
    sys.exit(128 + number)


@contextmanager
def _handling(handlers: Mapping[int, Callable[[int, Any], object]]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _left_to_locust(number: signal.Signals) -> Iterator[None]:
    """Ctrl-C reaches Locust too, which then ends the run in order; the second one is for us."""

    def wait(*_: object) -> None:
        signal.signal(number, _leave)

    with _handling({number: wait}):
        yield
