"""Requests a second over HTTP, as ratios to the ceiling of the same round, and latency at half of that load.

    python -m vigil.loadtests.bench.measures.http [--only get,send] [--against hot,llhttp] [--seconds 2] [--rounds 5]

All servers of an operation run at once on one core, and one after another is driven by wrk on another core, round after
round, so that what happens to the machine happens to all. Requests go round over `SESSIONS` sessions of as many users.
Then `hot` gets half of the requests a second that it answered, at a constant rate, and p99 is what people would feel.
"""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypedDict
from uuid import UUID

from vigil.loadtests.bench import open_model, wrk
from vigil.loadtests.bench.contestants import CEILING, CONTESTANTS
from vigil.loadtests.bench.figures import Figure, figure, ratios
from vigil.loadtests.bench.rig import BASE, KEY, Address, Http, cpu_s, generator_pinned
from vigil.loadtests.bench.tables import as_text, of_http
from vigil.loadtests.bench.wrk import Request, Sample

SESSIONS = 1000
MEASURED_AT_HALF = "hot"
HEADERS = (f"X-API-KEY: {KEY}", "Content-Type: application/json")


@dataclass(frozen=True, slots=True)
class Operation:
    """What is asked. `path` follows the base; `wanted` is the least ratio of the hot path, where one is."""

    method: str
    path: str
    body: str = ""
    agent: str = "silent"
    wanted: float | None = None


class Row(TypedDict):
    """One contestant. `ratio` is to the ceiling, `cpu_us` the server's own microseconds for a request."""

    per_s: Figure
    ratio: Figure
    ms_p50: Figure
    ms_p99: Figure
    cpu_us: Figure


class AtHalf(TypedDict):
    """At a constant rate of half of what was answered at most."""

    per_s: Figure
    ms_p50: Figure
    ms_p99: Figure
    ms_max: Figure


class Found(TypedDict):
    """All of one operation."""

    wanted: float | None
    contestants: dict[str, Row]
    at_half: AtHalf | None


_SEND = '{"content":"The quick brown fox jumps over the lazy dog, twice a day."}'
OPERATIONS = {
    "get": Operation("GET", "/{id}", wanted=0.45),
    "heartbeat": Operation("POST", "/{id}/heartbeat", wanted=0.25),
    "send": Operation("POST", "/{id}/messages", _SEND, wanted=0.20),
    "send-echo": Operation("POST", "/{id}/messages", _SEND, agent="echo"),
    "create": Operation("POST", "", '{"agentId":"silent","userId":"user-{n}"}', wanted=0.12),
}


@dataclass(frozen=True, slots=True)
class Lane:
    """A contestant that runs, and what it is asked."""

    address: Address
    requests: Sequence[Request]


@dataclass(frozen=True, slots=True)
class Turn:
    """A contestant's part of a round."""

    sample: Sample
    cpu_us: float


def measure(operation: Operation, names: Sequence[str], *, seconds: int, rounds: int) -> Found:
    """One operation, all these contestants, interleaved. The ceiling must be among them. Raises BenchError."""
    with ExitStack() as stack:
        core = stack.enter_context(generator_pinned())
        lanes: dict[str, Lane] = {}
        for name in names:
            address = stack.enter_context(CONTESTANTS[name].start(core))
            lanes[name] = Lane(address, requests_for(address, operation, CONTESTANTS[name].has_sessions))
        found = rows(
            [{name: take_turn(lane, seconds) for name, lane in lanes.items()} for _ in range(rounds)]
        )
        at_half = None
        if MEASURED_AT_HALF in lanes:
            half = found[MEASURED_AT_HALF]["per_s"]["median"] / 2
            at_half = _at_half(lanes[MEASURED_AT_HALF], half, seconds, rounds)
    return {"wanted": operation.wanted, "contestants": found, "at_half": at_half}


def rows(rounds: Sequence[Mapping[str, Turn]], ceiling: str = CEILING) -> dict[str, Row]:
    """Medians of what the rounds saw, and of the ratios inside each round."""
    ratio = ratios([{name: turn.sample.per_s for name, turn in one.items()} for one in rounds], ceiling)
    return {
        name: {
            "per_s": figure([one[name].sample.per_s for one in rounds], digits=0),
            "ratio": ratio[name],
            "ms_p50": figure([one[name].sample.ms_p50 for one in rounds]),
            "ms_p99": figure([one[name].sample.ms_p99 for one in rounds]),
            "cpu_us": figure([one[name].cpu_us for one in rounds], digits=1),
        }
        for name in rounds[0]
    }


def take_turn(lane: Lane, seconds: int) -> Turn:
    address = lane.address
    before_s = cpu_s(address.pids)
    sample = wrk.run(f"http://{address.host}:{address.port}", lane.requests, HEADERS, seconds)
    return Turn(sample, (cpu_s(address.pids) - before_s) / (sample.per_s * seconds) * 1_000_000)


def _at_half(lane: Lane, per_s: float, seconds: int, rounds: int) -> AtHalf:
    found = [
        open_model.run(lane.address, lane.requests, HEADERS, per_s=per_s, seconds=seconds)
        for _ in range(rounds)
    ]
    return {
        "per_s": figure([one["per_s"] for one in found], digits=0),
        "ms_p50": figure([one["ms_p50"] for one in found]),
        "ms_p99": figure([one["ms_p99"] for one in found]),
        "ms_max": figure([one["ms_max"] for one in found]),
    }


def requests_for(address: Address, operation: Operation, has_sessions: bool) -> list[Request]:
    ids = [str(UUID(int=n)) for n in range(SESSIONS)]
    if has_sessions and "{id}" in operation.path:
        http = Http(address.host, address.port)
        bodies = ({"agentId": operation.agent, "userId": f"user-{n}"} for n in range(SESSIONS))
        ids = [http.post("", body)["sessionId"] for body in bodies]
        http.socket.close()
    return [
        Request(
            operation.method,
            BASE + operation.path.replace("{id}", one),
            operation.body.replace("{n}", str(n)),
        )
        for n, one in enumerate(ids)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    runnable = [name for name, one in CONTESTANTS.items() if not one.missing()]
    parser = argparse.ArgumentParser(prog="python -m vigil.loadtests.bench.measures.http")
    parser.add_argument("--only", default=",".join(OPERATIONS), help="operations, with commas between them")
    parser.add_argument("--against", default=",".join(runnable), help="contestants, with commas between them")
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement (2)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts (5)")
    typed = parser.parse_args(argv)
    wrk.find()
    for name in typed.only.split(","):
        names = typed.against.split(",")
        found = measure(OPERATIONS[name], names, seconds=typed.seconds, rounds=typed.rounds)
        print(*map(as_text, of_http({name: found})), sep="\n", flush=True)


if __name__ == "__main__":
    main()
