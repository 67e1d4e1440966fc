"""The listener's first reader: the frequent requests, from the socket straight to the gateway and back.

It serves what it knows to the last byte (`server.front.fast_request`) and hands on the rest: the first request that is
anything else takes the whole connection, with every byte from there on, to the protocols behind it
(`server.http.connection`). So does one that does not come whole and soon: slow clients are theirs, and big bodies.
It owns what all connections of a site share. It refuses to know what one of them does (`server.front.fast_connection`).
"""

import trio

from vigil.server.api.call import Site
from vigil.server.front.fast_connection import FastConnection, FastTlsConnection
from vigil.server.front.fast_request import request_lines
from vigil.server.front.readiness import Readiness
from vigil.server.http.connection import Server
from vigil.server.http.tls_wire import Stream


class FastPath:
    """The readers of one site's connections."""

    def __init__(self, site: Site) -> None:
        self.readiness = Readiness()
        self._site = site
        self._lines = request_lines(site.root_path)

    def __call__(self, server: Server, stream: Stream) -> FastConnection:
        """The reader of a new connection."""
        kind = FastTlsConnection if isinstance(stream, trio.SSLStream) else FastConnection
        return kind(self._site, self._lines, self.readiness, server, stream)
