"""Sessions in minutes of virtual time."""

from typing import Any

import trio

from tests.harness import START_MS, Answer, Api
from vigil.server.api.wire_time import iso

MIN = 60_000


HELLO = {"content": "hello"}


def at(minutes: float) -> str:
    """So many minutes after the test began, as it is written on the wire."""
    return iso(START_MS + int(minutes * MIN))


async def minutes(count: float) -> None:
    await trio.sleep(count * 60)


def config(timeout: int = 30, auto: bool = True, most: int = 180, warn: int = 5) -> dict[str, Any]:
    return {
        "timeoutMinutes": timeout,
        "autoRenew": auto,
        "maxDurationMinutes": most,
        "warningThresholdMinutes": warn,
    }


async def created(api: Api, **fields: Any) -> str:
    """The id of a new session with this timeout config."""
    return str((await api.create(timeoutConfig=config(**fields)))["sessionId"])


async def post(api: Api, session_id: str, what: str, body: object = None) -> Answer:
    return await api.request("POST", f"/{session_id}/{what}", body)


async def patch(api: Api, session_id: str, **fields: Any) -> Answer:
    return await api.request("PATCH", f"/{session_id}/timeout", fields)
