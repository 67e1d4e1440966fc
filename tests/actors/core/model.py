"""Section 3 of the spec, written a second time as a small model, and random commands to compare by."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.actors.core.sessions import ANSWER, BEGIN_TURN, MIN, SEND, T0
from vigil.actors.core.commands import Answer, Command, End, Heartbeat, Renew, Retime, Send, Tick
from vigil.actors.core.events import (
    Broadcast,
    Ended,
    Event,
    ExpirationWarning,
    Expired,
    Renewed,
    TimeoutUpdated,
)
from vigil.actors.core.expiry import expires_at
from vigil.actors.core.records import TimeoutConfig, TimeoutPatch


@dataclass
class Model:
    """Section 3 once more, told as plans: at each arming it is settled when the warning will come."""

    timeout: int
    auto: bool
    most: int
    warn: int
    renewed: int = T0
    active: int = T0
    renewals: int = 0
    stamp: int = 0
    warning_due: int | None = None
    ended: str = ""  # "", "inactivity", "max_duration" or "deleted"
    told: list[tuple[Any, ...]] = field(default_factory=list)

    def deadline(self) -> int:
        return min(self.renewed + self.timeout * MIN, self.cap())

    def cap(self) -> int:
        return T0 + self.most * MIN

    def arm(self, now: int) -> None:
        self.warning_due = max(now, self.deadline() - self.warn * MIN)

    def next(self) -> int | None:
        if self.ended:
            return None
        return self.deadline() if self.warning_due is None else self.warning_due

    def tick(self, now: int) -> None:
        if not self.ended and now >= self.deadline():
            self.ended = "max_duration" if self.deadline() == self.cap() else "inactivity"
            self.told.append((now, "expired", self.deadline(), self.ended))
        if not self.ended and self.warning_due is not None and now >= self.warning_due:
            self.warning_due = None
            self.told.append((now, "warning", self.deadline()))

    def renew(self, now: int) -> None:
        self.renewed = now
        self.renewals += 1
        self.told.append((now, "renewed", self.deadline(), self.renewals))
        self.arm(now)

    def sign_of_life(self, now: int) -> None:
        self.active = now
        if self.auto and self.deadline() < self.cap():
            self.renew(now)
        elif self.auto:
            self.renewed = now

    def message(self, now: int) -> None:
        self.stamp = now if now > self.stamp else self.stamp + 1
        self.told.append((now, "message", self.stamp))

    def patch(self, now: int, patch: TimeoutPatch) -> bool:
        was = (self.timeout, self.auto, self.most, self.warn, self.renewed)
        deadline = self.deadline()
        timeout, auto, most, warn = patch
        if auto and not self.auto:
            self.renewed = max(self.renewed, self.active)
        self.timeout, self.most = timeout or self.timeout, most or self.most
        self.auto, self.warn = self.auto if auto is None else auto, warn or self.warn
        if self.deadline() <= now:
            self.timeout, self.auto, self.most, self.warn, self.renewed = was
            return False
        self.told.append((now, "retimed", self.deadline()))
        if self.deadline() != deadline or self.warn != was[3]:
            self.arm(now)
        return True

    def do(self, command: Command, now: int) -> bool:
        """Carry out one command; False when it is refused."""
        if self.ended or now >= self.deadline():
            self.tick(now)
            deletes = isinstance(command, End) and self.ended != "deleted"
            self.ended = "deleted" if deletes else self.ended
            return deletes or isinstance(command, Tick)
        done = self.carry_out(command, now)
        if done:  # a refused command changes nothing, not even a warning that is due: its timer is about to
            self.tick(now)
        return done

    def carry_out(self, command: Command, now: int) -> bool:
        match command:
            case Send():
                self.message(now)
                self.sign_of_life(now)
            case Answer():
                self.message(now)
            case Heartbeat():
                self.sign_of_life(now)
            case Renew() if self.deadline() == self.cap():
                return False
            case Renew():
                self.renew(now)
            case Retime(patch):
                return self.patch(now, patch)
            case End():
                self.ended = "deleted"
                self.told.append((now, "ended", now))
        return True


def tell(event: Event) -> tuple[Any, ...] | None:
    """An event in the model's words."""
    told: tuple[Any, ...] | None = None
    match event.data:
        case Broadcast(message):
            told = ("message", message.created_at)
        case Renewed(deadline, count):
            told = ("renewed", deadline, count)
        case TimeoutUpdated(session):
            told = ("retimed", expires_at(session))
        case ExpirationWarning(deadline, remaining):
            assert remaining == deadline - event.at
            told = ("warning", deadline)
        case Expired(deadline, reason):
            told = ("expired", deadline, reason)
        case Ended(ended_at):
            told = ("ended", ended_at)
    return told and (event.at, *told)


timeouts = st.sampled_from([5, 6, 30, 60, 1440])
caps = st.sampled_from([1, 5, 29, 30, 31, 90, 180, 4320])
thresholds = st.sampled_from([1, 4, 5, 6, 30, 60])
configs = st.builds(TimeoutConfig, timeouts, st.booleans(), caps, thresholds)
patches = st.builds(
    TimeoutPatch, st.none() | timeouts, st.none() | st.booleans(), st.none() | caps, st.none() | thresholds
)
commands = st.one_of(
    st.sampled_from([SEND, Heartbeat()]),
    st.sampled_from([SEND, Heartbeat(), Renew(), ANSWER, BEGIN_TURN, Tick()]),
    st.builds(Retime, patches),
    st.builds(Retime, patches),
    st.sampled_from([Renew(), End()]),
)
waits = st.one_of(
    st.integers(0, 40).map(lambda minutes: minutes * MIN),
    st.integers(0, 3),
    st.integers(0, 45 * MIN),
    st.sampled_from(["just before", "at", "just after"]),  # whatever falls due next
)
