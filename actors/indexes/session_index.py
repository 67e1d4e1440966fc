"""Which sessions there are, newest first, by agent and by user (spec section 1, "List").

It knows ids and instants, nothing else of a session. The order is newest `created_at` first, ties by id.
A page costs what offset + limit cost, and a step for each agent when none is asked for; a count costs a few
hundred steps at most: the population does not come into it. The index may not change under an open iterator.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice

from sortedcontainers import SortedList

from vigil.actors.indexes.sharded_dict import ShardedDict

Entry = tuple[int, str, str]  # (-created_at, session_id, agent_id): sorts newest first

FEW = 256  # so many sessions of one user fit in a plain list, which a million users with one session need


class SessionIndex:
    """An ordered set of sessions. The caller adds each once and removes it with the same arguments."""

    def __init__(self) -> None:
        self._all = _ByAgent()
        self._users: ShardedDict[list[Entry] | _ByAgent] = ShardedDict()

    def add(self, created_at: int, session_id: str, agent_id: str, user_id: str) -> None:
        entry = (-created_at, session_id, agent_id)
        self._all.add(entry)
        held = self._users.get(user_id)
        if held is None:
            self._users[user_id] = [entry]
        elif isinstance(held, _ByAgent):
            held.add(entry)
        elif len(held) < FEW:
            insort(held, entry)
        else:
            self._users[user_id] = _ByAgent([*held, entry])

    def remove(self, created_at: int, session_id: str, agent_id: str, user_id: str) -> None:
        """Raises KeyError when it was not added so, and changes nothing."""
        entry = (-created_at, session_id, agent_id)
        held = self._users[user_id]
        if isinstance(held, _ByAgent):
            held.remove(entry)
        else:
            _remove_from_few(held, entry)
        if not len(held):
            del self._users[user_id]
        self._all.remove(entry)

    def count(self, agent_id: str | None = None, user_id: str | None = None) -> int:
        """How many there are of an agent, of a user, of both, or in all."""
        held = self._all if user_id is None else self._of_user(user_id)
        if isinstance(held, _ByAgent):
            return len(held) if agent_id is None else len(held.of(agent_id))
        return sum(1 for _ in _filtered(held, agent_id))

    def page(
        self, agent_id: str | None = None, user_id: str | None = None, *, offset: int, limit: int
    ) -> list[str]:
        """The ids of `limit` sessions after the first `offset`."""
        entries = islice(self._entries(agent_id, user_id), offset, offset + limit)
        return [session_id for _, session_id, _ in entries]

    def _of_user(self, user_id: str) -> "Sequence[Entry] | _ByAgent":
        held = self._users.get(user_id)
        return () if held is None else held

    def _entries(self, agent_id: str | None, user_id: str | None) -> Iterator[Entry]:
        held = self._all if user_id is None else self._of_user(user_id)
        if isinstance(held, _ByAgent):
            return iter(held) if agent_id is None else iter(held.of(agent_id))
        return _filtered(held, agent_id)


def merged(
    indexes: Sequence[SessionIndex], agent_id: str | None = None, user_id: str | None = None
) -> Iterator[tuple[int, str]]:
    """(created_at, session_id) of several indexes in one order, one by one."""
    entries = merge(*(index._entries(agent_id, user_id) for index in indexes))
    return ((-negated, session_id) for negated, session_id, _ in entries)


class _ByAgent:
    """Many entries: an ordered list for each agent, and how many there are in all."""

    __slots__ = ("_agents", "_size")

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self._agents: dict[str, SortedList] = {}
        self._size = 0
        for entry in entries:
            self.add(entry)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Entry]:
        return merge(*self._agents.values())

    def of(self, agent_id: str) -> Sequence[Entry]:
        entries: Sequence[Entry] = self._agents.get(agent_id, ())
        return entries

    def add(self, entry: Entry) -> None:
        agent_id = entry[2]
        if agent_id not in self._agents:
            self._agents[agent_id] = SortedList()
        self._agents[agent_id].add(entry)
        self._size += 1

    def remove(self, entry: Entry) -> None:
        agent_id = entry[2]
        entries = self._agents[agent_id]
        try:
            entries.remove(entry)
        except ValueError:
            raise KeyError(entry) from None
        self._size -= 1
        if not entries:
            del self._agents[agent_id]


def _remove_from_few(entries: list[Entry], entry: Entry) -> None:
    at = bisect_left(entries, entry)
    if entries[at : at + 1] != [entry]:
        raise KeyError(entry)
    del entries[at]


def _filtered(entries: Sequence[Entry], agent_id: str | None) -> Iterator[Entry]:
    return (entry for entry in entries if agent_id is None or entry[2] == agent_id)
