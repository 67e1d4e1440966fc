"""SIGHUP: the agent catalogue, the keys and the log file, read or opened anew while the server runs (spec section 10).

Owns what is read again and when the old is released. A bad file changes nothing and is logged in one line.
"""

from collections.abc import Callable, Mapping

import structlog
import trio

from vigil.actors.agents import catalogue
from vigil.actors.agents.base import AgentEntry
from vigil.actors.agents.catalogue import CatalogueError
from vigil.actors.runtime.directory import Directory
from vigil.server.ops import logs
from vigil.server.ops.keys import KeyRing
from vigil.server.ops.logs import LogError

log = structlog.get_logger()

Agents = Mapping[str, AgentEntry]

_AFTER_TURN_S = 1.0  # beyond what a turn may take, until its agent's connections are closed


class Reloading:
    """Knows the agents in force. `read_agents` raises CatalogueError; None where there is no file.

    `nursery` closes the agents that were, and is cancelled at the server's end.
    """

    def __init__(
        self, agents: Agents, read_agents: Callable[[], Agents] | None, nursery: trio.Nursery
    ) -> None:
        self.agents = agents
        self._read_agents = read_agents
        self._nursery = nursery

    async def reload(self, directory: Directory, ring: KeyRing) -> None:
        """All of it; each part for itself."""
        self._reopen_log()
        ring.reread()
        if self._read_agents is not None:
            await self._reread_agents(self._read_agents, directory)
        log.info("reloaded", agents=len(self.agents))

    def _reopen_log(self) -> None:
        try:
            logs.reopen()
        except LogError as error:
            log.error(f"The log goes on in the old file: {error}")  # noqa: TRY400  no bug

    async def _reread_agents(self, read: Callable[[], Agents], directory: Directory) -> None:
        try:
            agents = await trio.to_thread.run_sync(read)  # a long file takes long
        except CatalogueError as error:
            why = "; ".join(str(error).splitlines())
            log.error(f"The agents stay as they were: {why}")  # noqa: TRY400  no bug
            return
        if directory.publisher.watch is not None:
            log.warning(
                "The recording knows the agents of its beginning only: a replay differs where others answer"
            )
        before, self.agents = self.agents, agents
        directory.use_agents(agents)
        self._nursery.start_soon(_let_go, before)


async def _let_go(agents: Agents) -> None:
    """Close their connections once the turns are over that had begun with them: at the server's end at the latest."""
    try:
        await trio.sleep(max(entry.turn_timeout_s for entry in agents.values()) + _AFTER_TURN_S)
    finally:
        with trio.CancelScope(shield=True):
            await catalogue.close(agents)
