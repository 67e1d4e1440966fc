"""A simulated day: people, faults and a judge around one server, in virtual time, from one seed.

Settings in, outcome out. The same settings give the same outcome to the last bit of its hash, in any process.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from random import Random
from traceback import extract_tb
from typing import NamedTuple, TypeVar

import trio

from vigil.actors.agents.base import AgentEntry
from vigil.scenarios.model import AgentRules, Model, ModelSettings
from vigil.scenarios.model.observed import Violation
from vigil.scenarios.model.world import CONFIG
from vigil.scenarios.simulation import people
from vigil.scenarios.simulation.faults import plan as faults
from vigil.scenarios.simulation.faults.connection import LOST, Connection, Judge
from vigil.scenarios.simulation.faults.faulty import Disk, Mount, says
from vigil.scenarios.simulation.faults.plan import Band, Kind, StoreFault, Weather
from vigil.scenarios.simulation.leaks import left_behind
from vigil.scenarios.simulation.outcome import Outcome, Settings
from vigil.scenarios.simulation.person import Person
from vigil.scenarios.simulation.recorder import MINUTE_MS, Recorder, series
from vigil.scenarios.virtual import determinism
from vigil.scenarios.virtual.in_process import START_MS, InProcessServer, virtual_plan

K = TypeVar("K", int, str)

HOUR_S = 3600
HOURS_TO_REST = 72 + 24 + 2  # the longest session, its tombstone, and housekeeping


class Progress(NamedTuple):
    """How far a run has come. Told once a virtual minute."""

    at_ms: int
    length_ms: int
    requests: int


def simulate(
    settings: Settings,
    *,
    real_now: Callable[[], float],
    progress: Callable[[Progress], None] = lambda _: None,
    judge: Callable[[ModelSettings], Judge] = Model,
) -> Outcome:
    """Live through the day. `real_now` tells seconds of real time; nothing but `Outcome.real_s` depends on it."""

    async def main() -> Outcome:
        began = real_now()
        try:
            async with trio.open_nursery() as nursery:
                day = _Day(settings, judge, nursery, progress)
                await day.live()
                nursery.cancel_scope.cancel()
        except* Exception as died:
            day.server_died(died)
        return day.outcome(real_now() - began)

    return determinism.run(main, seed=settings.seed)


class _Day:
    def __init__(
        self,
        settings: Settings,
        judge: Callable[[ModelSettings], Judge],
        nursery: trio.Nursery,
        progress: Callable[[Progress], None],
    ) -> None:
        seed = settings.seed
        self.settings = settings
        self.bands = _bands(settings)
        self.cast = people.cast(seed, settings.people, settings.mix)
        self.weather = Weather(Random(f"{seed}/weather"))  # noqa: S311
        self.agents = people.catalogue(seed, settings.people, self.weather)
        self.disk = Disk(lambda: self.server.now)
        self.mount = Mount(self.disk, self.weather)
        self.server = InProcessServer(virtual_plan(seed=seed, store=self.mount, agents=self.agents), nursery)
        self.recorder = Recorder(START_MS)
        self.over = trio.CancelScope()
        self.connection = Connection(
            self.server, judge(_rules(self.agents)), self.recorder, self.weather, self.over
        )
        self.progress = progress
        self.actor_crashes = 0
        self.went_wrong = False

    async def live(self) -> None:
        """The day itself, and the days until everything is over. The first violation ends it."""
        try:
            await self._live_through()
        except Exception:
            self.went_wrong = True  # here and not in the server, which runs beside this
            raise

    def server_died(self, died: ExceptionGroup[Exception]) -> None:
        """A server that ends by itself is a violation; raises `died` when it was not the server."""
        if self.went_wrong:
            raise died
        why: BaseException = died
        while isinstance(why, BaseExceptionGroup):
            why = why.exceptions[0]
        where = extract_tb(why.__traceback__)[-1]
        place = f"{where.name} in {Path(where.filename).name}"
        self.connection.fail(Violation("10 server", f"the server died: {why!r} at {place}"))

    async def _live_through(self) -> None:
        with self.over:
            await self.server.start()
            async with trio.open_nursery() as day:
                day.start_soon(self._watch)
                for band in self.bands:
                    day.start_soon(_TO_PASS[band.kind], self, band)
                for number in self._people():
                    day.start_soon(self._live, number)
            await self._come_to_rest()
            self.connection.tell("finish", self.server.now)

    def outcome(self, real_s: float) -> Outcome:
        recorder, minutes = self.recorder, -(-self.settings.length_ms // MINUTE_MS)
        return Outcome(
            version=version("vigil-sessions"),
            settings=self.settings,
            violation=self.connection.violation,
            hash=recorder.hash,
            virtual_ms=self.server.now - START_MS,
            real_s=real_s,
            requests=recorder.requests,
            commits=self.disk.statistics().commits,
            answers=_by_operation(recorder.answers),
            limits_hit=_sorted(recorder.limits_hit),
            sessions_begun=self.disk.begun,
            sessions_ended=_sorted(self.disk.ended),
            events=_sorted(recorder.events),
            bands=self.bands,
            struck=_sorted(self.weather.struck),
            people=_sorted(Counter(self.cast[number] for number in self._people())),
            live_sessions=tuple(recorder.live_sessions),
            requests_by_minute=series(recorder.by_minute, minutes),
            refusals_by_minute=series(recorder.refusals_by_minute, minutes),
            lateness_ms=_sorted(self.disk.late_ms),
            worst=tuple(recorder.worst),
        )

    def _people(self) -> Sequence[int]:
        only = self.settings.only
        return range(self.settings.people) if only is None else only

    async def _live(self, number: int) -> None:
        """One person's day. What it is about to do when the day ends, it does not do."""
        random = Random(f"{self.settings.seed}/{number}")  # noqa: S311
        character = people.CHARACTERS[self.cast[number]]
        person = Person(number, random, self.connection, people.everyday(self.agents))
        with trio.move_on_at(_trio_time(self.settings.length_ms)):
            for at_ms in people.arrivals(character, random, START_MS, self.settings.planned_ms):
                await person.wait_until(at_ms)
                await character.visit(person)

    async def _watch(self) -> None:
        """Once a minute: how many sessions there are, and what the judge says to the time."""
        for minute in range(-(-self.settings.length_ms // MINUTE_MS)):
            await trio.sleep_until(_trio_time(minute * MINUTE_MS))
            self.recorder.live_sessions.append(self._live_sessions())
            self.connection.tell("time", self.server.now)
            self.progress(Progress(minute * MINUTE_MS, self.settings.length_ms, self.recorder.requests))

    def _live_sessions(self) -> int:
        return self.server.site.directory.counts().active if self.server.is_up else 0

    # --- faults

    async def pass_over_the_store(self, band: Band) -> None:
        """It is slow, or refuses commits, for a while."""
        kind = _STORE_FAULTS[band.kind]
        await trio.sleep_until(_trio_time(band.from_ms))
        self._begin_store_fault(kind)
        await trio.sleep_until(_trio_time(band.to_ms))
        await self._end_store_fault(kind)

    async def pass_over_agents(self, band: Band) -> None:
        await trio.sleep_until(_trio_time(band.from_ms))
        self.weather.agents_fail = True
        await trio.sleep_until(_trio_time(band.to_ms))
        self.weather.agents_fail = False

    async def pass_over_connections(self, band: Band) -> None:
        await trio.sleep_until(_trio_time(band.from_ms))
        self.weather.drops_answers = True
        await trio.sleep_until(_trio_time(band.to_ms))
        self.weather.drops_answers = False

    async def pass_over_the_server(self, band: Band) -> None:
        """It crashes, or is told to stop; and comes back from its disk."""
        await (self._stop(band) if band.clean else self._crash(band))
        self.actor_crashes += self.server.site.directory.publisher.counters.crashes
        before, self.mount = self.mount, Mount(self.disk, self.weather)
        down_s = (band.to_ms - band.from_ms) / 1000
        await self.server.restart(crash=not band.clean, down_s=down_s, store=self.mount)
        self.connection.tell("restarted", self.server.now, before.has_saved_windows)
        for kind in self.weather.store_faults():
            self.connection.tell("fault", kind, self.server.now)
        self.connection.open()

    async def _stop(self, band: Band) -> None:
        await trio.sleep_until(_trio_time(band.from_ms))
        self.connection.close()
        self.connection.tell("stopped", self.server.now)

    async def _crash(self, band: Band) -> None:
        """Commits hang before it, so that it finds some in the middle."""
        await trio.sleep_until(_trio_time(band.from_ms) - faults.BEFORE_CRASH_S)
        self.weather.is_about_to_crash = True
        self._begin_store_fault("slow")
        await trio.sleep_until(_trio_time(band.from_ms))
        self.connection.cut()
        self.connection.tell("crashed", self.server.now)
        await self.mount.crash()
        self.weather.is_about_to_crash = False
        await self._end_store_fault("slow")

    def _begin_store_fault(self, kind: StoreFault) -> None:
        self.weather.begin(kind)
        self.connection.tell("fault", kind, self.server.now)

    async def _end_store_fault(self, kind: StoreFault) -> None:
        self.weather.end(kind)
        await self.mount.settle()
        if kind not in self.weather.store_faults():
            self.connection.tell("healed", kind, self.server.now)

    # --- the end

    async def _come_to_rest(self) -> None:
        """Let every deadline and tombstone pass; then nothing may be left."""
        left: dict[str, int] = {}
        for _ in range(HOURS_TO_REST):
            await trio.sleep(HOUR_S)
            self.connection.tell("time", self.server.now)
            left = left_behind(self.server.site, self.disk)
            if not left:
                break
        if left:
            found = ", ".join(f"{count} {name}" for name, count in left.items())
            self.connection.fail(
                Violation("leak", f"after every deadline and tombstone there are left: {found}")
            )
        if crashes := self.actor_crashes + self.server.site.directory.publisher.counters.crashes:
            self.connection.fail(Violation("10 crashes", f"{crashes} actors crashed"))


_STORE_FAULTS: dict[Kind, StoreFault] = {"slow-store": "slow", "full-store": "full"}
_TO_PASS: dict[Kind, Callable[[_Day, Band], Awaitable[None]]] = {
    "crash": _Day.pass_over_the_server,
    "slow-store": _Day.pass_over_the_store,
    "full-store": _Day.pass_over_the_store,
    "agent": _Day.pass_over_agents,
    "disconnect": _Day.pass_over_connections,
}


def _rules(agents: Mapping[str, AgentEntry]) -> ModelSettings:
    """What the model has to know of the server."""
    rules = {
        entry.id: AgentRules(
            "none" if entry.agent is None else "scripted",
            {name: value for name, value in zip(CONFIG, entry.timeouts, strict=True) if value is not None},
            entry.session_limit,
            entry.agent_limit,
            says,
        )
        for entry in agents.values()
    }
    return ModelSettings(START_MS, rules)


def _bands(settings: Settings) -> tuple[Band, ...]:
    planned = faults.plan(settings.seed, settings.faults, settings.planned_ms)
    return tuple(band for band in planned if band.from_ms < settings.length_ms)


def _trio_time(at_ms: int) -> float:
    """The instant of Trio's clock, which stands at 0 when the run begins."""
    return at_ms / 1000


def _by_operation(answers: Counter[tuple[str, int]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (operation, status), count in sorted(answers.items()):
        found.setdefault(operation, {})[str(status) if status != LOST else "lost"] = count
    return found


def _sorted(counts: Mapping[K, int]) -> dict[K, int]:
    return dict(sorted(counts.items()))
