"""A dict in parts, for what may grow to a million entries.

A dict that grows moves all that it holds, while everybody waits: a tenth of a second for a million. A part of them
moves unnoticed. Sets of Trio's own grow in the same way, so actors are tasks of many nurseries
(`actors.runtime.service`).
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

PARTS = 128

V = TypeVar("V")


class ShardedDict(Generic[V]):
    """As much of a dict by strings as is needed here. Its order is that of no two processes."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[dict[str, V]] = [{} for _ in range(PARTS)]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __getitem__(self, key: str) -> V:
        return self._part(key)[key]

    def __setitem__(self, key: str, value: V) -> None:
        self._part(key)[key] = value

    def __delitem__(self, key: str) -> None:
        del self._part(key)[key]

    def get(self, key: str) -> V | None:
        return self._part(key).get(key)

    def values(self) -> Iterator[V]:
        for part in self._parts:
            yield from part.values()

    def _part(self, key: str) -> dict[str, V]:
        return self._parts[(hash(key) >> 32) % PARTS]  # the parts themselves go by the lower bits
