"""When a session expires, warns and is due: the one formula, as pure functions of the session (spec section 3).

It knows neither commands nor events: `core.lifecycle` says what happens at these instants.
"""

from enum import StrEnum
from functools import lru_cache

from vigil.actors.core.records import ExpiryReason, Session, State, TimeoutConfig, TimeoutPatch, Tombstone

MINUTE_MS = 60_000


class Phase(StrEnum):
    LIVE = "live"
    DUE = "due"
    EXPIRED = "expired"
    GONE = "gone"


def max_expires_at(session: Session) -> int:
    """The cap: no renewal extends a session beyond it."""
    return session.created_at + session.config.max_duration_minutes * MINUTE_MS


def expires_at(session: Session) -> int:
    """min(renewedAt + timeoutMinutes, createdAt + maxDurationMinutes), always."""
    config = session.config
    ends = session.renewed_at + config.timeout_minutes * MINUTE_MS
    cap = session.created_at + config.max_duration_minutes * MINUTE_MS
    return ends if ends < cap else cap  # `min` takes as long as all the rest


def warn_at(session: Session) -> int:
    """When its warning fires; it may lie in the past."""
    return expires_at(session) - session.config.warning_threshold_minutes * MINUTE_MS


def due_at(session: Session) -> int:
    """The next instant at which something happens by itself."""
    return expires_at(session) if session.warned else warn_at(session)


def can_extend(session: Session) -> bool:
    """Whether a renewal would still move its deadline: `expires_at` is below the cap."""
    return expires_at(session) < max_expires_at(session)


def is_near_expiration(session: Session, now: int) -> bool:
    ends = expires_at(session)
    return ends - session.config.warning_threshold_minutes * MINUTE_MS <= now < ends


def expiry_reason(session: Session) -> ExpiryReason:
    return "inactivity" if can_extend(session) else "max_duration"


def phase(state: State, now: int) -> Phase:
    if isinstance(state, Session):
        return Phase.LIVE if now < expires_at(state) else Phase.DUE
    return Phase.EXPIRED if isinstance(state, Tombstone) else Phase.GONE


def merge(config: TimeoutConfig, patch: TimeoutPatch) -> TimeoutConfig:
    """`config` with what `patch` says, field by field. Equal results are one object, for a million share it."""
    return _merged(config, patch)


@lru_cache(maxsize=4096)
def _merged(config: TimeoutConfig, patch: TimeoutPatch) -> TimeoutConfig:
    return _one(
        TimeoutConfig._make(old if new is None else new for old, new in zip(config, patch, strict=True))
    )


@lru_cache(maxsize=4096)
def _one(config: TimeoutConfig) -> TimeoutConfig:
    return config
