"""A crowd without a network: clients as generators, a limiter, and delays that are drawn. Virtual seconds.

A client yields (instant, session, user, agent) and gets the Observation back. What the oracle sees is what a real
client would: instants of sending and receiving, headers, nothing of the instant of the decision.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Generator, Iterable
from typing import TypeAlias

from tests.loadtests.oracle.limiters import Limiter
from vigil.loadtests.people.observation import Observation

Ask: TypeAlias = tuple[float, str | None, str, str]
Client: TypeAlias = Generator[Ask, Observation, None]
Delay: TypeAlias = Callable[[], float]

START_S = 12_345.678


def play(
    limiter: Limiter,
    clients: Iterable[Client],
    delay: Delay,
    *,
    scale: float = 1.0,
    lost: Delay = lambda: 1.0,
) -> list[Observation]:
    """Every client until it ends. `delay` is of one way, in real seconds; an answer is lost when `lost()` is under .05.

    Observations are in real seconds, the limiter in session seconds.
    """
    seen: list[Observation] = []
    count = itertools.count()
    arrivals: list[tuple[float, int, Client, Ask]] = []

    def send(client: Client, ask: Ask) -> None:
        heapq.heappush(arrivals, (ask[0] + delay(), next(count), client, ask))

    for client in clients:
        send(client, next(client))
    while arrivals:
        now_s, _, client, (sent_s, session, user, agent) = heapq.heappop(arrivals)
        decision = limiter.admit(now_s * scale, session, user, agent)
        operation = "create" if session is None else "heartbeat"
        answer: tuple[object, ...] = (429 if decision.scope else 200, decision.rate_limit, decision.policy)
        if decision.scope:
            answer += (str(decision.retry_after_s), decision.wait_ms, decision.scope)
        received_s = now_s + delay()
        observation = Observation(sent_s, received_s, operation, session, user, agent, *answer)  # type: ignore[arg-type]
        if lost() < 0.05:
            seen.append(Observation(sent_s, None, operation, session, user, agent, 0))
        else:
            seen.append(observation)
        try:
            send(client, client.send(observation))
        except StopIteration:
            continue
    return seen


def greedy(
    until_s: float,
    session: str,
    user: str,
    agent: str,
    *,
    start_s: float = START_S,
    scale: float = 1.0,
    gap_s: float = 1e-5,
) -> Client:
    """As `observation.py` advises: at once until refused, then probes of the edge, then Retry-After to the letter."""
    now_s, round_trip_s = start_s, 0.003
    for turn in itertools.count():
        if now_s > until_s:
            return
        seen = yield now_s + gap_s, session, user, agent
        assert seen.received_s is not None
        now_s = seen.received_s
        while seen.status == 429:
            again_s = now_s + (int(seen.retry_after) + 0.002) / scale
            second_before_s = seen.sent_s + (int(seen.retry_after) - 1) / scale - 2 * round_trip_s
            exact_s = seen.sent_s + (seen.retry_after_ms or 0) / 1000 / scale
            probes = ((), (second_before_s,), (exact_s - 3 * round_trip_s,), (exact_s + 3 * round_trip_s,))[
                turn % 4
            ]
            turn += 1
            for probe_s in probes:
                if now_s < probe_s < again_s:
                    again_s = probe_s
            if again_s > until_s:
                return
            seen = yield again_s, session, user, agent
            assert seen.received_s is not None
            now_s = seen.received_s


def wanderer(
    until_s: float, choose: random.Random, pause_s: float, sessions: int, users: int, agents: int
) -> Client:
    """Anybody's request at any time; sometimes as long after a refusal as it was told to wait."""
    now_s = START_S
    while now_s < until_s:
        user = choose.randrange(users)
        session = None if choose.random() < 0.1 else f"s{user}.{choose.randrange(sessions)}"
        seen = yield now_s, session, f"u{user}", f"a{user % agents}"
        assert seen.received_s is not None
        now_s = seen.received_s + choose.expovariate(1 / pause_s)
        if seen.status == 429 and choose.random() < 0.5:
            now_s = seen.received_s + int(seen.retry_after)


def uniform(random_numbers: random.Random, most_s: float) -> Delay:
    return lambda: random_numbers.uniform(0, most_s)
