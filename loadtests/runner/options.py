"""What `vigil load` and the locustfile are both told. Imports neither Locust nor gevent."""

import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from vigil.actors.core.errors import VigilError
from vigil.loadtests.oracle.answers import Limit
from vigil.loadtests.oracle.findings import Limits

SESSION_LIMIT = "60/minute"
USER_LIMIT = "1000/hour"
AGENT_LIMIT = "5000/hour"
DEMO_AGENT = "agent-123"
PIPE_VARIABLE = "VIGIL_LOAD_PIPE"  # a file descriptor: where `vigil load` hears what its Locust saw
END_VARIABLE = "VIGIL_LOAD_END"  # another, which `vigil load` closes when the run is to end at once

_TIMESPAN = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s?)?", re.ASCII)


class LoadError(VigilError):
    """A load test that cannot be run as it was asked for. One line: what is wrong, and what to do."""


class Target(NamedTuple):
    """Where requests go. `prefix` is the path in front of the API's, usually ""."""

    host: str
    port: int
    tls: bool
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> "Target":
        """Read `http://host:port` or `https://...`. Raises LoadError."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LoadError(f"{url!r} is not the address of a server: write http://HOST:PORT")
        tls = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if tls else 80), tls, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def limits_of(options: Any) -> Limits:
    """The three limits that the server is expected to keep. Raises LoadError."""
    return Limits(_limit("session", options), _limit("user", options), _limit("agent", options))


def seconds(text: str) -> int:
    """Read `90`, `90s`, `2m` or `1h30m`. Raises LoadError."""
    match = _TIMESPAN.fullmatch(text)
    hours, minutes, rest = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + rest
    if total < 1:
        raise LoadError(f"--run-time {text!r} is not a time: write 90s, 2m or 1h30m")
    return total


def _limit(scope: str, options: Any) -> Limit:
    text = getattr(options, f"{scope}_limit")
    try:
        return Limit.parse(text)
    except ValueError as error:
        raise LoadError(f"--{scope}-limit: {error}") from None
