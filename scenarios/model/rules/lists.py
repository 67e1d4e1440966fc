"""What lists, their totals and health must count (spec sections 1 and 10).

A session that is being created, ended or expired at this very moment may be counted or not; all others are.
"""

# ruff: noqa: PLR2004  status codes are the vocabulary here

from collections import Counter
from collections.abc import Iterator, Mapping
from heapq import merge
from itertools import islice, pairwise, repeat

from sortedcontainers import SortedDict

from vigil.scenarios.model.observed import Violation
from vigil.scenarios.model.rules.answers import difference
from vigil.scenarios.model.session import Exchange, Session
from vigil.scenarios.model.world import MINUTE_MS, Json, Life, World, epoch_ms, iso

_WANTED: dict[str, tuple[Life, ...]] = {
    "active": ("live",),
    "expired": ("expired",),
    "all": ("live", "expired"),
}
_PLACES: tuple[Life, ...] = ("live", "expired", "unsure")


class Lists:
    """Sessions by where they are counted. `busy` ones have commands on their way."""

    def __init__(self, tombstone_max: int) -> None:
        self._tombstone_max = tombstone_max
        self._all: dict[Life, SortedDict] = {place: SortedDict() for place in _PLACES}
        self._counts: Counter[tuple[Life, str | None, str | None]] = Counter()
        self._of_user: dict[str, dict[str, Session]] = {}
        self._expected: Counter[tuple[str, str]] = Counter()  # creates on their way, by agent and user
        self.busy: dict[str, Session] = {}
        self._lately: list[tuple[int, Session]] = []  # expired then, and perhaps not taken note of yet
        self._health_checks = 0

    # --- keeping count

    def add(self, session: Session) -> None:
        self._all[session.place][_order(session)] = session
        self._of_user.setdefault(session.user, {})[session.id] = session
        self._count(session, 1)

    def remove(self, session: Session) -> None:
        del self._all[session.place][_order(session)]
        of_user = self._of_user[session.user]
        del of_user[session.id]
        if not of_user:
            del self._of_user[session.user]
        self._count(session, -1)

    def move(self, session: Session, life: Life, now: int, *, is_calm: bool) -> Session | None:
        """Gives a tombstone that is one too many, the oldest."""
        self.remove(session)
        session.place = life
        if life == "gone":
            return None
        self.add(session)
        if life != "expired":
            return None
        if is_calm:
            self._lately = [(at, one) for at, one in self._lately if at >= now]
        self._lately.append((now, session))
        stones = self._all["expired"]
        if len(stones) <= self._tombstone_max:
            return None
        oldest: Session = min(stones.values(), key=lambda stone: (stone.worlds[0].ends_lo, stone.id))
        return oldest

    def expect(self, agent: str, user: str, change: int) -> None:
        self._expected[agent, user] += change
        if not self._expected[agent, user]:
            del self._expected[agent, user]

    def live_count(self) -> int:
        return len(self._all["live"]) + len(self._all["unsure"]) + self._expected.total()

    def unnamed(self, agent: str, user: str, created: int) -> Session | None:
        """A session that was created although its creator got no answer."""
        of_user = self._of_user.get(user, {}).values()
        return next((s for s in of_user if not s.is_named and (s.agent, s.created) == (agent, created)), None)

    # --- checks

    def check_page(self, exchange: Exchange, sessions: Mapping[str, Session], *, is_calm: bool) -> None:
        """Raises Violation. Every id on the page is known by now, or its create is on its way."""
        assert exchange.answer is not None
        body, query, now = exchange.body, exchange.sent.query, exchange.answer.at_ms
        agent, user = query.get("agentId"), query.get("userId")
        limit, offset = int(query.get("limit", 50)), int(query.get("offset", 0))
        wanted = _WANTED[query.get("status", "active")]
        if (body["limit"], body["offset"]) != (limit, offset) or len(body["sessions"]) > limit:
            raise Violation("1 list", f"limit {body['limit']} and offset {body['offset']}", exchange.number)
        unsure = self._unsure(now, is_calm=is_calm)
        for entry in body["sessions"]:
            self._check_entry(entry, sessions.get(entry["sessionId"]), (agent, user), now, exchange.number)
        self._check_order(body["sessions"], exchange.number)
        self._check_counts(body, wanted, (agent, user), unsure, exchange.number)
        if not unsure and not self._expected:
            found = islice(self._found(wanted, agent, user), offset, offset + limit)
            expected = [session.id for session in found]
            shown = [entry["sessionId"] for entry in body["sessions"]]
            if shown != expected and not self._is_tie(expected, shown, sessions):
                raise Violation("1 list", f"the page shows {shown}, not {expected}", exchange.number)

    def check_health(self, exchange: Exchange, up_since: int, *, is_calm: bool) -> None:
        assert exchange.answer is not None
        body, now = exchange.body, exchange.answer.at_ms
        statuses = ("healthy",) if is_calm else ("healthy", "unhealthy", "degraded")
        if body["status"] not in statuses or (exchange.status == 503) != (body["status"] == "unhealthy"):
            raise Violation("10 health", f"{exchange.status} {body['status']}", exchange.number)
        asked_at = epoch_ms(body["timestamp"])
        is_right = exchange.sent.at_ms <= asked_at <= now and body["uptime"] == (asked_at - up_since) // 1000
        if not is_right or body["invalidSessions"] != 0:
            raise Violation(
                "10 health",
                f"health at {iso(now)} of a server up since {iso(up_since)}: {body}",
                exchange.number,
            )
        unsure = self._unsure(now, is_calm=is_calm)
        sure, most = self._bounds("live", None, None, unsure)
        if not sure <= body["activeSessions"] <= most:
            raise Violation(
                "10 health", f"{body['activeSessions']} active, not {sure} to {most}", exchange.number
            )
        self._health_checks += 1
        if self._health_checks % 8 == 1:
            self._check_expiring(body["expiringSoon"], unsure, now, exchange.number, is_calm=is_calm)

    # --- private

    def _count(self, session: Session, change: int) -> None:
        place, agent, user = session.place, session.agent, session.user
        for key in ((place, None, None), (place, agent, None), (place, None, user), (place, agent, user)):
            self._counts[key] += change
            if not self._counts[key]:
                del self._counts[key]

    def _unsure(self, now: int, *, is_calm: bool) -> dict[str, Session]:
        """Sessions that may be counted or not."""
        unsure = {session.id: session for session in self._all["unsure"].values()} | self.busy
        return unsure | {session.id: session for at, session in self._lately if at >= now or not is_calm}

    def _bounds(
        self, place: Life, agent: str | None, user: str | None, unsure: Mapping[str, Session]
    ) -> tuple[int, int]:
        of_these = [s for s in unsure.values() if agent in (None, s.agent) and user in (None, s.user)]
        sure = self._counts[place, agent, user] - sum(session.place == place for session in of_these)
        coming = sum(n for (a, u), n in self._expected.items() if agent in (None, a) and user in (None, u))
        return sure, sure + len(of_these) + (coming if place == "live" else 0)

    def _found(self, wanted: tuple[Life, ...], agent: str | None, user: str | None) -> Iterator[Session]:
        if user is not None:
            of_user = self._of_user.get(user, {}).values()
            sessions: Iterator[Session] = iter(sorted((s for s in of_user if s.place in wanted), key=_order))
        else:
            ordered = merge(*(self._all[place].items() for place in wanted), key=lambda item: item[0])
            sessions = (session for _, session in ordered)
        return (session for session in sessions if agent in (None, session.agent))

    def _check_counts(
        self,
        body: Json,
        wanted: tuple[Life, ...],
        asked: tuple[str | None, str | None],
        unsure: Mapping[str, Session],
        number: int,
    ) -> None:
        bounds = [self._bounds(place, *asked, unsure) for place in wanted]
        low, high = sum(low for low, _ in bounds), sum(high for _, high in bounds)
        if not low <= body["total"] <= high:
            raise Violation("1 total", f"total is {body['total']}, not {low} to {high}", number)
        stats = body["stats"]
        for name, place in (("activeSessions", "live"), ("expiredSessions", "expired")):
            low, high = self._bounds(place, None, None, unsure)  # type: ignore[arg-type]
            if not low <= stats[name] <= high:
                raise Violation("1 stats", f"{name} is {stats[name]}, not {low} to {high}", number)
        if stats["totalSessions"] != stats["activeSessions"] + stats["expiredSessions"]:
            raise Violation("1 stats", f"{stats} does not add up", number)

    def _check_entry(
        self,
        entry: Json,
        session: Session | None,
        asked: tuple[str | None, str | None],
        now: int,
        number: int,
    ) -> None:
        agent, user = asked
        if agent not in (None, entry["agentId"]) or user not in (None, entry["userId"]):
            raise Violation("1 list", f"{entry} for {asked}", number)
        if session is None:
            if not self._expected[entry["agentId"], entry["userId"]]:
                raise Violation("1 list", f"a session that nobody made: {entry}", number)
            return
        if session.open:
            return
        differences = [_entry_difference(entry, session, now, n) for n in range(len(session.worlds))]
        if all(differences):
            raise Violation("1 list", differences[0], number)

    def _is_tie(self, expected: list[str], shown: list[str], sessions: Mapping[str, Session]) -> bool:
        """Whether they differ only where the id of an unnamed session decides about the order."""
        ours, theirs = [[sessions[id_].created for id_ in ids] for ids in (expected, shown)]
        doubtful = {session.created for session in sessions.values() if not session.is_named}
        pairs = zip(expected, shown, ours, strict=False)
        return ours == theirs and all(one == other or created in doubtful for one, other, created in pairs)

    def _check_order(self, entries: list[Json], number: int) -> None:
        keys = [(-epoch_ms(entry["createdAt"]), entry["sessionId"]) for entry in entries]
        if any(one >= other for one, other in pairwise(keys)):
            raise Violation("1 list", "not newest first, ties by id", number)

    def _check_expiring(
        self, told: int, unsure: Mapping[str, Session], now: int, number: int, *, is_calm: bool
    ) -> None:
        """A session counts once its warning is committed, which a store that refuses commits puts off."""
        sure, most = 0, len(unsure) + self._expected.total()
        for session in self._all["live"].values():
            if session.id in unsure:
                continue
            near = [world.is_near(now) for world in session.worlds]
            sure += is_calm and all(near) and not any(map(_begins_to_be_near, session.worlds, repeat(now)))
            most += any(near)
        if not sure <= told <= most:
            raise Violation("10 health", f"{told} expiring soon, not {sure} to {most}", number)


def _begins_to_be_near(world: World, now: int) -> bool:
    """Its warning is due at this very instant, and may be committed or not."""
    return world.ends_lo - now == world.config[3] * MINUTE_MS


def _order(session: Session) -> tuple[int, str]:
    return -session.created, session.id


def _entry_difference(entry: Json, session: Session, now: int, world: int) -> str:
    stands = session.worlds[world]
    if stands.gone:
        return "it was ended"
    narrowed = stands.with_end(epoch_ms(entry["expiresAt"]))
    if narrowed is None:
        return f"expiresAt is {entry['expiresAt']}, not {iso(stands.ends_lo)}"
    whole = session.description(narrowed, now)
    expected = {name: whole[name] for name in entry if name in whole}
    return "" if entry == expected and len(entry) == _FIELDS else difference(entry, expected)


_FIELDS = 9
