"""Web origins as values that can be compared (RFC 6454): scheme, host and port, however they are written.

Knows no request and no setting.
"""

import re
from functools import lru_cache
from types import MappingProxyType

_USUAL_PORT = MappingProxyType({"http": "80", "https": "443"})
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{0,5}))?", re.ASCII)


@lru_cache(maxsize=1024)
def origin(text: str) -> str | None:
    """`SCHEME://HOST` or `SCHEME://HOST:PORT` in lower case and without the scheme's usual port; None for none."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    scheme, host, port = match.groups("")
    port = port.lstrip("0")
    return f"{scheme}://{host}" + (f":{port}" if port and port != _USUAL_PORT.get(scheme) else "")


@lru_cache(maxsize=1024)
def of_host(host: str) -> frozenset[str]:
    """The origins of pages at this `Host`: whether a proxy speaks TLS for the server, it cannot know."""
    return frozenset(found for scheme in _USUAL_PORT if (found := origin(f"{scheme}://{host}")))
