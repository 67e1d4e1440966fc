"""What goes wrong around the server, and what that excuses: slow answers, refused commits (spec sections 9, 10)."""

from typing import Literal

from vigil.scenarios.model.observed import Violation
from vigil.scenarios.model.session import COMMANDS, COMMANDS_MAX, WAITING_MAX, Exchange, Session

StoreFault = Literal["slow", "failing", "full"]


class Troubles:
    """`margin_ms` after a fault or a restart everything is calm again."""

    def __init__(self, margin_ms: int) -> None:
        self._margin_ms = margin_ms
        self._faults: set[StoreFault] = set()
        self._healed_at: dict[str, int] = {}
        self._calm_from = 0
        self.is_up = True

    def down(self) -> None:
        self.is_up = False

    def up(self, at_ms: int) -> None:
        self.is_up = True
        self._heal("restart", at_ms)

    def begin(self, kind: StoreFault) -> None:
        self._faults.add(kind)

    def end(self, kind: StoreFault, at_ms: int) -> None:
        self._faults.discard(kind)
        self._heal(kind, at_ms)

    def is_calm(self, now: int) -> bool:
        """No fault, now or lately: commands are applied at once."""
        return self.is_up and not self._faults and now >= self._calm_from

    def check_refusal(self, exchange: Exchange, *, is_full: bool) -> None:
        """503 STORE_UNAVAILABLE while commits are refused, OVERLOADED when too much waits: `is_full` says that there
        are as many sessions as there may be. Raises Violation."""
        session = exchange.session
        if exchange.sent.operation not in COMMANDS | {"createSession", "cancelTurn"}:
            is_allowed = False
        elif exchange.body["code"] == "STORE_UNAVAILABLE":
            is_allowed = self._refused_commits(exchange.sent.at_ms)
        else:
            is_allowed = is_full if session is None else _has_too_much_waiting(session)
        if not is_allowed:
            raise Violation("9 unavailable", f"503 {exchange.body['code']} for no reason", exchange.number)

    def _heal(self, what: str, at_ms: int) -> None:
        self._healed_at[what] = at_ms
        self._calm_from = at_ms + self._margin_ms

    def _refused_commits(self, at_ms: int) -> bool:
        """Whether it did when something was asked then, or shortly before."""
        since = at_ms - self._margin_ms
        kinds: tuple[StoreFault, ...] = ("failing", "full")
        return any(kind in self._faults or self._healed_at.get(kind, since - 1) >= since for kind in kinds)


def _has_too_much_waiting(session: Session) -> bool:
    return len(session.open) >= COMMANDS_MAX or session.history.unanswered() > WAITING_MAX
