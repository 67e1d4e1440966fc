"""Figures as tables, for a terminal and for PERFORMANCE.md. Pure: what was found in, text out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vigil.loadtests.bench.contestants import CONTESTANTS
from vigil.loadtests.bench.figures import Figure


class Table(NamedTuple):
    """`rows` are as wide as `head`. All but the first `words` columns are figures."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1


def as_text(table: Table) -> str:
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    lines = ["  ".join(_aligned(row, widths, table.words)).rstrip() for row in (table.head, *table.rows)]
    return "\n".join([table.title, *(f"  {line}" for line in lines)])


def as_markdown(table: Table) -> str:
    rule = ["---" if n < table.words else "---:" for n in range(len(table.head))]
    lines = [f"| {' | '.join(row)} |" for row in (table.head, rule, *table.rows)]
    return "\n".join([f"**{table.title}**", "", *lines])


def _aligned(row: Sequence[str], widths: Sequence[int], words: int) -> list[str]:
    return [
        f"{cell:<{width}}" if n < words else f"{cell:>{width}}"
        for n, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


# --- what each part found


def of_machine(found: Mapping[str, str]) -> list[Table]:
    return [Table("Machine", ("what", "value"), list(found.items()), words=2)]


def of_http(found: Mapping[str, Any]) -> list[Table]:
    head = ("operation", "server", "requests/s", "ratio", "min - max", "wanted", "p50 ms", "p99 ms", "CPU us")
    return [
        Table(
            "HTTP: 32 connections, ratios to bare llhttp on Trio in the same round",
            head,
            _http_rows(found),
            2,
        ),
        Table(
            "HTTP: the hot path at a constant rate of half of that load",
            ("operation", "requests/s", "p50 ms", "p99 ms", "max ms"),
            [
                (
                    name,
                    _whole(one["at_half"]["per_s"]),
                    *(_number(one["at_half"][key]) for key in ("ms_p50", "ms_p99", "ms_max")),
                )
                for name, one in found.items()
                if one["at_half"]
            ],
        ),
    ]


def _http_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            CONTESTANTS[contestant].what,
            _whole(row["per_s"]),
            f"{row['ratio']['median']:.3f}",
            f"{row['ratio']['min']:.3f} - {row['ratio']['max']:.3f}",
            f"{one['wanted']:.2f}" if one["wanted"] and contestant == "hot" else "",
            _number(row["ms_p50"]),
            _number(row["ms_p99"]),
            f"{row['cpu_us']['median']:.0f}",
        )
        for name, one in found.items()
        for contestant, row in one["contestants"].items()
    ]


def of_actors(found: Mapping[str, Any]) -> list[Table]:
    operations = list(next(iter(found["sizes"].values()))["per_s"])
    speeds = (f"{one}/s (ratio)" for one in operations)
    head = ("live sessions", "first created/s", "RSS bytes each", *speeds, "longest pause ms")
    rows = [
        (
            f"{int(size):,}",
            f"{one['created_per_s']:,}",
            f"{one['rss_bytes_each']:,}",
            *(f"{_whole(one['per_s'][name])} ({one['ratio'][name]['median']:.2f})" for name in operations),
            f"{one['pause_ms']['max']:.1f}",
        )
        for size, one in found["sizes"].items()
    ]
    return [
        Table("Actors: in process, memory store, 32 callers, ratios to the fewest sessions", head, rows),
        _plain("Actors: `live_sessions`", found["timers"]),
        _plain("Actors: `restart`", found["restart"]),
    ]


def of_store(found: Mapping[str, Any]) -> list[Table]:
    head = ("callers", *(f"{name} {what}" for name in found for what in ("commits/s", "a batch")))
    rows = [
        (callers, *(cell for name in found for cell in _store_cells(found[name][callers])))
        for callers in next(iter(found.values()))
    ]
    return [Table("Store: commits of a message, by callers at once", head, rows)]


def _store_cells(row: Mapping[str, Figure]) -> tuple[str, str]:
    return _whole(row["per_s"]), f"{row['batch']['median']:.1f}"


def of_growth(found: Mapping[str, Any]) -> list[Table]:
    sizes = found["send_us"]
    return [
        Table(
            "Growth: messages in the session, SQLite, one caller",
            ("messages", "send us", "newest page us"),
            [(f"{int(n):,}", _whole(found["send_us"][n]), _whole(found["page_us"][n])) for n in sizes],
        ),
        Table(
            "Growth: instants in each of the three windows",
            ("in the window", "admission us"),
            [(f"{int(n):,}", _number(one)) for n, one in found["admit_us"].items()],
        ),
        Table(
            "Growth: listeners on one session, until they have a message",
            ("listeners", "p50 ms", "p99 ms", "max ms", "lost"),
            [
                (f"{int(n):,}", *(str(one[key]) for key in ("ms_p50", "ms_p99", "ms_max", "lost")))
                for n, one in found["listeners"].items()
            ],
        ),
    ]


def of_sim(found: Mapping[str, Any]) -> list[Table]:
    row = (
        found["command"],
        f"{found['requests']:,}",
        _whole(found["per_s"]),
        f"{found['real_s']['median']:.2f}",
        found["hash"][:16],
    )
    return [Table("Simulation", ("command", "requests", "requests/s", "seconds", "hash"), [row])]


_MS = ("ms_p50", "ms_p99", "ms_max")


def of_floods(found: Mapping[str, Any]) -> list[Table]:
    """Of the parts that were measured."""
    return [
        table for name, of_part in _OF_FLOODS.items() if name in found for table in [of_part(found[name])]
    ]


def _of_attacks(rows: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        "Floods: /livez of new clients meanwhile",
        ("flood", "sockets", "p50 ms", "p99 ms", "max ms"),
        [(row["what"], str(row["sockets"]), *(f"{row[key]:.1f}" for key in _MS)) for row in rows],
    )


def _of_crowds(rows: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        "Crowds: sends to the echo agent without pause, and /livez of new clients",
        ("connections", "requests/s", "p50 ms", "max ms", "max/p50", "/livez p50", "p99", "max ms"),
        [
            (
                f"{row['connections']:,}",
                f"{row['sample']['per_s']:,.0f}",
                f"{row['sample']['ms_p50']:.1f}",
                f"{row['sample']['ms_max']:.1f}",
                f"{row['sample']['ms_max'] / row['sample']['ms_p50']:.1f}",
                *(f"{row['livez'][key]:.1f}" for key in _MS),
            )
            for row in rows
        ],
    )


_OF_FLOODS: Mapping[str, Callable[[Any], Table]] = {
    "floods": _of_attacks,
    "crowds": _of_crowds,
    "readers": lambda found: _plain("Readers: 1.7 MB asked for on each socket, nothing read", found),
    "descriptors": lambda found: _plain("Descriptors: few of them, and /livez of a new client", found),
}


def _plain(title: str, found: Mapping[str, Any]) -> Table:
    return Table(title, ("figure", "value"), [(name, str(value)) for name, value in found.items()])


def _whole(one: Figure) -> str:
    return f"{one['median']:,.0f}"


def _number(one: Figure) -> str:
    return f"{one['median']:.2f}"
