"""Pages of other origins (CORS): off unless origins are listed. Which headers say so; nothing is decided by them."""

from vigil.server.api.call import Call
from vigil.server.api.errors import MethodNotAllowed
from vigil.server.input import origins

_EXPOSED_HEADERS = "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy"
_ACCEPTED_HEADERS = "Authorization, Content-Type, Idempotency-Key, X-API-KEY, X-Request-Id"
_PREFLIGHT_LIFE_S = 600


def headers(call: Call) -> list[tuple[str, str]]:
    """Of every answer of a site that lists origins."""
    added = [("Vary", "Origin")]
    if is_allowed(call):
        added.append(("Access-Control-Allow-Origin", origin(call)))
        added.append(("Access-Control-Expose-Headers", _EXPOSED_HEADERS))
    return added


def origin(call: Call) -> str:
    """As the browser wrote it: it wants to read the same bytes in the answer."""
    return ", ".join(call.request.header("origin"))


def is_allowed(call: Call) -> bool:
    return origins.origin(origin(call)) in call.site.allowed_origins


def is_own(call: Call) -> bool:
    """Whether the page came from here."""
    page = origins.origin(origin(call))
    return any(page in origins.of_host(host) for host in call.request.header("host"))


def is_preflight(call: Call) -> bool:
    asks = call.request.method == "OPTIONS" and call.request.header("access-control-request-method")
    return bool(asks) and is_allowed(call)


def preflight_headers(error: MethodNotAllowed) -> list[tuple[str, str]]:
    return [
        ("Access-Control-Allow-Methods", error.allowed),
        ("Access-Control-Allow-Headers", _ACCEPTED_HEADERS),
        ("Access-Control-Max-Age", str(_PREFLIGHT_LIFE_S)),
    ]
