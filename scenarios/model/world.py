"""One possible state of a session, and what each command makes of it (spec section 3). Pure.

Instants that no answer has told yet are kept as the earliest and the latest that they can be; an answer that tells
them narrows them. It knows no request and no list.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple

MINUTE_MS = 60_000

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)

Life = Literal["live", "expired", "gone", "unsure"]
Config = tuple[int, bool, int, int]  # in the order of CONFIG
Json = dict[str, Any]

CONFIG = ("timeoutMinutes", "autoRenew", "maxDurationMinutes", "warningThresholdMinutes")


class World(NamedTuple):
    """A session as it may stand. `gone`: ended, forgotten, or it never was. Made by `world`."""

    created: int
    config: Config
    renewed_lo: int
    renewed_hi: int
    active_lo: int
    active_hi: int
    renewals: int
    gone: bool
    cap: int
    ends_lo: int
    ends_hi: int

    @property
    def is_exact(self) -> bool:
        return self.renewed_lo == self.renewed_hi and self.active_lo == self.active_hi

    def life(self, now: int, tombstone_ms: int) -> Life:
        if self.gone or now >= self.ends_hi + tombstone_ms:
            return "gone"
        if now < self.ends_lo:
            return "live"
        return "expired" if self.ends_hi <= now < self.ends_lo + tombstone_ms else "unsure"

    def is_near(self, now: int) -> bool:
        return 0 < self.ends_lo - now <= self.config[3] * MINUTE_MS

    def renewed(self, lo: int, hi: int) -> "World":
        """The same, last renewed between these instants."""
        created, config, _, _, active_lo, active_hi, renewals, gone, *_ = self
        return world(created, config, (lo, hi), (active_lo, active_hi), renewals, gone=gone)

    def split(self) -> "tuple[World, ...]":
        """Apart, where it is not known whether the cap is reached."""
        edge = self.cap - self.config[0] * MINUTE_MS
        if self.renewed_lo < edge <= self.renewed_hi:
            return self.renewed(self.renewed_lo, edge - 1), self.renewed(edge, self.renewed_hi)
        return (self,)

    def with_end(self, ends: int) -> "World | None":
        """Narrowed to this `expiresAt`; None when it cannot be that."""
        if not self.ends_lo <= ends <= self.ends_hi:
            return None
        if self.renewed_lo == self.renewed_hi:
            return self
        renewed = ends - self.config[0] * MINUTE_MS
        if ends == self.cap:
            return self.renewed(max(self.renewed_lo, renewed), self.renewed_hi)
        return self.renewed(renewed, renewed)

    def with_activity(self, at: int) -> "World | None":
        if not self.active_lo <= at <= self.active_hi:
            return None
        return self._replace(active_lo=at, active_hi=at)


def world(
    created: int,
    config: Config,
    renewed: tuple[int, int],
    active: tuple[int, int],
    renewals: int = 0,
    *,
    gone: bool = False,
) -> World:
    """THE FORMULA: expiresAt = min(renewedAt + timeoutMinutes, createdAt + maxDurationMinutes)."""
    timeout_ms, cap = config[0] * MINUTE_MS, created + config[2] * MINUTE_MS
    lo, hi = renewed
    ends_lo, ends_hi = min(lo + timeout_ms, cap), min(hi + timeout_ms, cap)
    return World(created, config, lo, hi, *active, renewals, gone, cap, ends_lo, ends_hi)


def new_world(created: int, config: Config) -> World:
    """Of a session that has just begun."""
    at = (created, created)
    return world(created, config, at, at)


# --- what commands do, applied somewhere between `lo` and `hi`


def after_activity(before: World, lo: int, hi: int) -> World:
    if not before.config[1]:
        return before._replace(active_lo=lo, active_hi=hi)
    renewals = before.renewals + (before.ends_lo < before.cap)
    return world(before.created, before.config, (lo, hi), (lo, hi), renewals)


def after_renewal(before: World, lo: int, hi: int) -> World | None:
    """None at the cap."""
    if before.ends_lo == before.cap:
        return None
    return before._replace(renewals=before.renewals + 1).renewed(lo, hi)


def after_patch(before: World, patch: Mapping[str, Any]) -> World:
    """Merged over its own config. The caller looks whether it would have expired."""
    config = merged(before.config, patch)
    renewed_lo, renewed_hi = before.renewed_lo, before.renewed_hi
    if config[1] and not before.config[1]:
        renewed_lo, renewed_hi = max(renewed_lo, before.active_lo), max(renewed_hi, before.active_hi)
    return before._replace(config=config).renewed(renewed_lo, renewed_hi)


def merged(config: Config, patch: Mapping[str, Any]) -> Config:
    timeout, auto_renew, most, warning = (
        patch.get(name, old) for name, old in zip(CONFIG, config, strict=True)
    )
    return int(timeout), auto_renew, int(most), int(warning)


# --- times on the wire


@lru_cache(65_536)
def iso(ms: int) -> str:
    second, rest = divmod(ms, 1000)
    return f"{datetime.fromtimestamp(second, UTC).isoformat()[:19]}.{rest:03d}Z"


@lru_cache(65_536)
def epoch_ms(text: object) -> int:
    """The inverse of `iso`. Raises ValueError for anything else."""
    if not isinstance(text, str) or _TIME.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a time with milliseconds in UTC")
    second = datetime.fromisoformat(text[:19] + "+00:00")
    return int(second.timestamp()) * 1000 + int(text[20:23])
