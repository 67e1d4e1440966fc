"""`vigil bench`: what is typed, what is measured, what is printed and written."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from vigil.loadtests.bench import machine, tables, wrk
from vigil.loadtests.bench.contestants import CONTESTANTS
from vigil.loadtests.bench.measures import actors, floods, growth, http, sim, store
from vigil.loadtests.bench.rig import BenchError
from vigil.loadtests.bench.tables import Table, as_markdown, as_text
from vigil.scenarios.reports import files
from vigil.server.cli import ends
from vigil.server.cli.argument_types import whole_number

ROUNDS_MAX = 1000


class Part(NamedTuple):
    """`measure` takes rounds; `tables` makes what it found readable."""

    what: str
    measure: Callable[[int], Any]
    tables: Callable[[Any], list[Table]]
    check: Callable[[], object] = lambda: None


def _http(rounds: int) -> dict[str, Any]:
    names = [name for name, one in CONTESTANTS.items() if not _is_missing(name, one.missing())]
    return {name: http.measure(one, names, seconds=2, rounds=rounds) for name, one in http.OPERATIONS.items()}


def _is_missing(name: str, why: str) -> bool:
    if why:
        _say(f"without {name}: {why}")
    return bool(why)


def _actors(rounds: int) -> dict[str, Any]:
    return {
        "sizes": actors.measure(actors.SIZES, seconds=0.5, rounds=rounds),
        "timers": actors.printed_by("live_sessions"),
        "restart": actors.printed_by("restart"),
    }


PARTS = {
    "http": Part("requests over HTTP, Vigil and others", _http, tables.of_http, wrk.find),
    "actors": Part("live sessions in process", _actors, tables.of_actors),
    "store": Part(
        "commits by callers",
        lambda rounds: store.measure(store.CALLERS, seconds=1, rounds=rounds),
        tables.of_store,
    ),
    "growth": Part("how cost grows", lambda rounds: dict(growth.measure(rounds=rounds)), tables.of_growth),
    "floods": Part(
        "what hostile clients and crowds cost others",
        lambda rounds: floods.measure(seconds=rounds / 2),
        tables.of_floods,
        wrk.find,
    ),
    "sim": Part("simulated people", lambda rounds: dict(sim.measure(rounds=rounds)), tables.of_sim),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Close everything else first: figures of a busy machine are noise. All of it takes about 15 minutes. "
        f"Parts: {'; '.join(f'{name} - {part.what}' for name, part in PARTS.items())}."
    )
    add = parser.add_argument
    add(
        "part",
        metavar="PART",
        nargs="?",
        choices=[*PARTS, "all"],
        default="all",
        help="what to measure (default all)",
    )
    add(
        "--rounds",
        type=whole_number(1, ROUNDS_MAX),
        default=5,
        metavar="N",
        help="of which the median counts (default 5)",
    )
    add("--json", type=Path, default=None, metavar="FILE", help="write everything that was found as JSON")
    add("--markdown", action="store_true", default=False, help="print the tables of PERFORMANCE.md")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, write. Gives 0, or 1 when a part could not be measured. Raises BenchError, CannotWrite."""
    files.check_places(arguments.json)
    names = list(PARTS) if arguments.part == "all" else [arguments.part]
    for name in names:
        PARTS[name].check()
    render = as_markdown if arguments.markdown else as_text
    found: dict[str, Any] = {
        "command": f"vigil bench {arguments.part} --rounds {arguments.rounds}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.described(),
        "parts": {},
        "failed": {},
    }
    _write(arguments.json, found)  # on a disk that is full, better known now
    _print(tables.of_machine(found["machine"]), render)
    with ends.interruptible(lambda: _so_far(found, arguments.json)):
        for name in names:
            _measure(name, arguments.rounds, found, render)
            _write(arguments.json, found)
    return 1 if found["failed"] else 0


def _measure(name: str, rounds: int, found: dict[str, Any], render: Callable[[Table], str]) -> None:
    """A part that fails leaves the others their minutes."""
    _say(f"measuring {name}: {PARTS[name].what}")
    try:
        found["parts"][name] = PARTS[name].measure(rounds)
    except BenchError as error:
        found["failed"][name] = str(error)
        _say(f"{name} was not measured: {error}")
    else:
        _print(PARTS[name].tables(found["parts"][name]), render)


def _print(all_tables: Sequence[Table], render: Callable[[Table], str]) -> None:
    for table in all_tables:
        print(render(table), end="\n\n", flush=True)


def _say(line: str) -> None:
    """On the way, so not on standard output, where tables are."""
    ends.complain(line)


def _write(file: Path | None, found: dict[str, Any]) -> None:
    if file is not None:
        files.write(file, json.dumps(found, indent=2) + "\n")


def _so_far(found: Mapping[str, Any], file: Path | None) -> str:
    """For an interrupt."""
    done = ", ".join([*found["parts"], *found["failed"]]) or "nothing"
    left = next((name for name in PARTS if name not in {*found["parts"], *found["failed"]}), "")
    kept = f"; what was found is in {file}" if file else ""
    return f"with {done} measured{kept}. A part alone: vigil bench {left}"
