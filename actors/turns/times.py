"""How long agents take to answer, by their kind and by what came of it: plain numbers, for whoever wants metrics."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

import trio

BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)


class Took:
    """A histogram; the last of its buckets is what is beyond the bounds."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = dict.fromkeys((*BUCKETS_S, inf), 0)
        self.seconds = 0.0


class TurnTimes:
    """By (kind, outcome); an outcome is `answered`, `failed` or `stopped`: cancelled, or out of time."""

    def __init__(self) -> None:
        self.took: dict[tuple[str, str], Took] = {}

    @contextmanager
    def noting(self, agent: object, now: Callable[[], int]) -> Iterator[None]:
        """Note how long what is inside took. `now` tells milliseconds."""
        began = now()
        outcome = "failed"
        try:
            yield
            outcome = "answered"
        except trio.Cancelled:
            outcome = "stopped"
            raise
        finally:
            self._note((kind_of(agent), outcome), (now() - began) / 1000)

    def _note(self, key: tuple[str, str], seconds: float) -> None:
        took = self.took.setdefault(key, Took())
        took.buckets[(*BUCKETS_S, inf)[bisect_left(BUCKETS_S, seconds)]] += 1
        took.seconds += seconds


def kind_of(agent: object) -> str:
    """The word of the catalogue: what the agent says of itself, or `openai` for an OpenAIAgent."""
    said: str = getattr(agent, "kind", "")
    return said or type(agent).__name__.removeprefix("_").removesuffix("Agent").lower()
