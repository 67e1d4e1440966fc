"""Who is measured: Vigil by its two ways in, the ceilings, and what a user would write instead.

Each is started on a core and gives its address. What it is asked is `loadtests.bench.measures.http`'s.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from vigil.loadtests.bench.rig import Address, on_core, server_on_core, vigil_server
from vigil.scenarios.play import tied
from vigil.server.cli.extras import install_line

CEILING = "llhttp"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server. A ceiling has no sessions: any id does. `missing` says why it cannot run here, and what to do."""

    what: str
    start: Callable[[int], AbstractContextManager[Address]]
    has_sessions: bool = True
    missing: Callable[[], str] = lambda: ""


def _peer(core: int, *, module: str) -> AbstractContextManager[Address]:
    return server_on_core([*tied.COMMAND, f"vigil.loadtests.bench.peers.{module}"], core)


@contextmanager
def _with_redis(core: int) -> Iterator[Address]:
    """Both processes on the one core that every server has. The log of writes is flushed once a second."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory, "redis.sock"))
        redis = ["redis-server", "--port", "0", "--unixsocket", path, "--dir", directory, "--save", ""]
        redis += ["--appendonly", "yes", "--appendfsync", "everysec"]
        peer = [*tied.COMMAND, "vigil.loadtests.bench.peers.fastapi_sessions", "--redis", path]
        with on_core(redis, core, "ready to accept") as (pid, _), server_on_core(peer, core) as address:
            yield address._replace(pids=(*address.pids, pid))


def _no_fastapi() -> str:
    absent = [name for name in ("fastapi", "uvicorn", "uvloop", "redis") if find_spec(name) is None]
    return f"{', '.join(absent)} not installed: `{install_line('bench')}`" if absent else ""


def _no_redis() -> str:
    if shutil.which("redis-server") is None:
        return "redis-server is not installed: `apt-get install redis-server`"
    return _no_fastapi()


CONTESTANTS = {
    "hot": Contestant("Vigil, hot path", vigil_server),
    "quart": Contestant("Vigil, --front quart", lambda core: vigil_server(core, "--front=quart")),
    CEILING: Contestant("bare llhttp on Trio", partial(_peer, module="llhttp"), has_sessions=False),
    "hypercorn": Contestant("bare Hypercorn", partial(_peer, module="hypercorn_empty"), has_sessions=False),
    "fastapi": Contestant(
        "FastAPI, in-memory dict", partial(_peer, module="fastapi_sessions"), missing=_no_fastapi
    ),
    "fastapi-redis": Contestant("FastAPI, Redis", _with_redis, missing=_no_redis),
}
