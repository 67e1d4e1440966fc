"""The open model: people send when a request falls due, however long the server takes over the one before.

A due instant is there whether or not it can be kept. Response time counts from it, service time from the first byte
out; what fell due and was never sent is counted. Pure: reads no clock, draws from what it was given, knows no Locust.
"""

import random
from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]  # seconds, monotonic


class OpenModel:
    """One person's due instants: a Poisson process of `per_s` requests a second, from `start_s` on."""

    def __init__(self, per_s: float, start_s: float, rng: random.Random) -> None:
        self._per_s = per_s
        self._rng = rng
        self._began = True  # nothing is due before the first `advance`
        self.due_s = start_s

    def advance(self) -> float:
        """Go on to the next due instant, which may have passed already. Gives it."""
        self.due_s += self._rng.expovariate(self._per_s)
        self._began = False
        return self.due_s

    def begin(self) -> float:
        """The request that is due is being sent. Gives the instant from which its response time counts."""
        self._began = True
        return self.due_s

    def missed(self, now_s: float) -> int:
        """How many fell due until now and were never sent. To be asked once, at the end."""
        count = 0
        if self._began:
            self.advance()
        while self.due_s <= now_s:
            count += 1
            self.advance()
        return count


def lag_s(sent_s: float, due_s: float, free_s: float) -> float:
    """How late the generator itself was: after the request was due and the person had the answer before."""
    return sent_s - max(due_s, free_s)
