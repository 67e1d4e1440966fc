"""What a site tells of itself: liveness, readiness, metrics, and its own documentation."""

from vigil.server.api.call import Call
from vigil.server.api.errors import NotReady

OK = b'{"status":"ok"}'


def livez(_call: Call) -> bytes:
    return OK


def readyz(call: Call) -> bytes:
    """Raises NotReady while the server starts or stops."""
    if not call.site.ready:
        raise NotReady
    return OK


def metrics(call: Call) -> bytes:
    return call.site.metrics.text()


def openapi(call: Call) -> bytes:
    return call.site.openapi


def docs(call: Call) -> bytes:
    call.headers = [("Content-Security-Policy", call.site.docs.policy)]
    return call.site.docs.html
