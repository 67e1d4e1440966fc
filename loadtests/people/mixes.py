"""Who comes, how many of them, and what each does in an hour: tables. Knows no Locust and starts nothing.

Rates are requests of one person in an hour of session time, so `--time-scale 60` makes a person sixty times as quick.
docs/load.md shows these tables; a test compares the two.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from vigil.loadtests.people.observation import SCOPES, Scope

# What people with a steady rate do, by task (the method of their class in users.py).
PER_HOUR: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "Chatter": {"send": 40, "read": 16, "look": 4, "renew": 1, "change_timeout": 1, "start_anew": 2},
        "IdleTab": {"heartbeat": 12, "look": 2},
        "MultiDevice": {"send": 20, "read_elsewhere": 20, "heartbeat": 8},
        "Clumsy": {"blunder": 24, "send": 6},
        "Listener": {"send": 20, "look": 2},
    }
)

# What the others do, about; their scripts decide.
SCRIPTED_PER_HOUR: Mapping[str, int] = MappingProxyType(
    {"ClosedLaptop": 12, "Ghost": 36, "GreedyOnSession": 4000, "GreedyOnUser": 1100, "GreedyOnAgent": 5100}
)


class Profile(NamedTuple):
    """One way to run. `shares` is of every 100 people; with `counts` the number of people is theirs."""

    meaning: str
    people: int
    run_time_s: int
    shares: Mapping[str, int] = MappingProxyType({})
    counts: Mapping[str, int] = MappingProxyType({})
    ramp_s: float = 5.0
    reads_back: bool = False  # every acknowledged message is looked for at the end
    shape: str = ""
    must_reach: tuple[Scope, ...] = ()
    thresholds: tuple[str, ...] = ("errors<=0%",)


_EVERYBODY: Mapping[str, int] = MappingProxyType(
    {
        "Chatter": 48,
        "IdleTab": 22,
        "ClosedLaptop": 10,
        "MultiDevice": 8,
        "Listener": 6,
        "Ghost": 3,
        "Clumsy": 3,
    }
)

_LIMITS: Mapping[str, int] = MappingProxyType(
    {"GreedyOnSession": 12, "GreedyOnUser": 1, "GreedyOnAgent": 1, "AgentCrowd": 3}
)

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "realistic": Profile("what a day looks like", 200, 120, _EVERYBODY),
        "limits": Profile(
            "greedy people at every limit",
            sum(_LIMITS.values()),
            140,
            counts=_LIMITS,
            ramp_s=1.0,
            must_reach=SCOPES,
        ),
        "soak": Profile(
            "the same day for long, and every message read back", 200, 1800, _EVERYBODY, reads_back=True
        ),
        "spike": Profile(
            "five times as many people for a while",
            500,
            120,
            _EVERYBODY,
            shape="spike",
            thresholds=("errors<1%",),
        ),
    }
)

AGENT_HEADROOM = 0.6  # of an agent's limit that people with steady rates may use up


def per_hour(kind: str) -> int:
    """About how many requests one such person makes in an hour of session time."""
    steady = PER_HOUR.get(kind)
    return sum(steady.values()) if steady else SCRIPTED_PER_HOUR[kind]


def requests_per_hour(shares: Mapping[str, int], people: int) -> float:
    """What so many people make together, in an hour of session time."""
    return people * sum(share * per_hour(kind) for kind, share in shares.items()) / sum(shares.values())


def agents_needed(profile: Profile, people: int, agent_limit_per_hour: float) -> int:
    """How many agents keep the steady people under the agent limit. Greedy people seek it: one is for them alone."""
    if not profile.shares:
        return 2
    wanted = requests_per_hour(profile.shares, people)
    return max(1, -int(-wanted // (agent_limit_per_hour * AGENT_HEADROOM)))


def population(profile: Profile, people: int) -> dict[str, int]:
    """How many of each kind come: the counts, or `people` by the shares (largest remainder)."""
    if profile.counts:
        return dict(profile.counts)
    whole = sum(profile.shares.values())
    exact = {kind: people * share / whole for kind, share in profile.shares.items()}
    found = {kind: int(number) for kind, number in exact.items()}
    by_remainder = sorted(exact, key=lambda kind: found[kind] - exact[kind])
    for kind in by_remainder[: people - sum(found.values())]:
        found[kind] += 1
    return found
