"""Heartbeats beside a block of the user's code: warns once, stops when the session is lost."""

from collections.abc import Callable
from typing import Self

from vigil_client._async.io import Act, Background
from vigil_client.errors import Forbidden, SessionGone, Unauthenticated, VigilError
from vigil_client.models import SessionInfo

MINUTE_S = 60.0
LONGEST_INTERVAL_S = 5 * MINUTE_S
RETRY_S = 5.0
LOST = (SessionGone, Unauthenticated, Forbidden)


class AsyncKeepAlive:
    """Around a block. `session` is what the last heartbeat answered, `lost` why there are no more of them."""

    def __init__(
        self,
        heartbeat: Act[SessionInfo],
        time_scale: Callable[[], float],
        every_s: float | None,
        on_warning: Callable[[SessionInfo], None] | None,
        on_lost: Callable[[Exception], None] | None,
    ) -> None:
        self.session: SessionInfo | None = None
        self.lost: VigilError | None = None
        self._heartbeat = heartbeat
        self._time_scale = time_scale
        self._every_s = every_s
        self._on_warning = on_warning
        self._on_lost = on_lost
        self._has_warned = False
        self._background = Background(self._beat_on)

    async def __aenter__(self) -> Self:
        await self._background.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._background.__aexit__()

    async def _beat_on(self) -> None:
        pause_s = 0.0
        while self.lost is None and not await self._background.pause(pause_s):
            pause_s = await self._beat()

    async def _beat(self) -> float:
        """One heartbeat. Gives the seconds until the next; one that failed is made up for soon."""
        try:
            self.session = await self._heartbeat()
        except LOST as error:
            self._lose(error)
            return 0.0
        except VigilError:
            return min(RETRY_S, self._interval_s())
        self._warn(self.session)
        return self._interval_s()

    def _lose(self, error: VigilError) -> None:
        self.lost = error
        if self._on_lost is not None:
            self._on_lost(error)

    def _warn(self, session: SessionInfo) -> None:
        if session.is_near_expiration and not self._has_warned and self._on_warning is not None:
            self._on_warning(session)
        self._has_warned = session.is_near_expiration

    def _interval_s(self) -> float:
        if self._every_s is not None:
            return self._every_s
        if self.session is None:
            return RETRY_S
        timeout_s = self.session.timeout_config.timeout_minutes * MINUTE_S
        return min(LONGEST_INTERVAL_S, timeout_s / 4) / self._time_scale()
