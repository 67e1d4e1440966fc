"""A real `vigil serve` process for each script: the script's settings as flags, its data in a directory that goes away.

It can be killed, stopped and started again, and its agents do what the script says.
"""

import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import trio

from vigil.actors.agents.catalogue import DEMO_ID
from vigil.scenarios.errors import ScenarioError
from vigil.scenarios.language.script import Script, steps_of
from vigil.scenarios.language.settings import Settings
from vigil.scenarios.language.verbs import AgentBehaviour
from vigil.scenarios.play import tied
from vigil.scenarios.play.live import LiveTarget, http_client
from vigil.scenarios.play.own_agents import OwnAgents, running_agents

START_S_MAX = 60
STOP_S_MAX = 30
TURN_S = 60.0  # the catalogue's default

_LISTENING = re.compile(rb"Vigil is listening on (\S+)")
_SECRET = "REPLAY_AGENT_SECRET"  # noqa: S105  the name of a variable
_DEMO: Mapping[str, Any] = {"id": DEMO_ID, "kind": "echo", "name": "Demo agent"}
_FLAGS: Mapping[str, Callable[[Settings], Any]] = {
    "--session-limit": lambda settings: settings.limits.session,
    "--user-limit": lambda settings: settings.limits.user,
    "--agent-limit": lambda settings: settings.limits.agent,
    "--session-max": lambda settings: settings.session_max,
    "--content-policy": lambda settings: settings.content_policy,
    "--session-tombstone-minutes": lambda settings: settings.tombstone_minutes,
    "--session-tombstone-max": lambda settings: settings.tombstone_max,
    "--session-default-timeout-minutes": lambda settings: settings.defaults.timeout_minutes,
    "--session-default-auto-renew": lambda settings: settings.defaults.auto_renew,
    "--session-max-duration-minutes": lambda settings: settings.defaults.max_duration_minutes,
    "--session-warning-threshold-minutes": lambda settings: settings.defaults.warning_threshold_minutes,
}


class OwnServers:
    """Opens a server of its own for each script."""

    def __init__(
        self,
        scale: float,
        tolerance_ms: int,
        environ: Mapping[str, str],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """`tolerance_ms` is real time; `environ` is what the processes get, but for Vigil's own settings."""
        self._scale = scale
        self._tolerance_ms = tolerance_ms
        self._environ = environ
        self._random_bytes = random_bytes

    async def check(self) -> None:
        """Whether a server starts shows when one is started."""

    def lacks(self, script: Script) -> str:  # noqa: ARG002  it can play everything
        return ""

    @asynccontextmanager
    async def open(self, script: Script) -> AsyncIterator["OwnTarget"]:
        with TemporaryDirectory(prefix="vigil-replay-") as directory:
            async with running_agents(self._scale) as agents:
                process = _Process(
                    Path(directory), self._variables(), self._scale, agents, spoiled_in(script)
                )
                try:
                    url = await process.start(script.settings or Settings())
                    async with http_client(url, through_proxies=False) as client:
                        target = OwnTarget(process, url, self._scale, self._tolerance_ms, client)
                        await target.set_clock()
                        yield target
                finally:
                    with trio.CancelScope(shield=True):
                        await process.kill()

    def _variables(self) -> dict[str, str]:
        secrets = {name: f"replay-{self._random_bytes(16).hex()}" for name in ("VIGIL_API_KEY", _SECRET)}
        return tied.usual_environment(self._environ) | secrets


class OwnTarget(LiveTarget):
    """A live target that can be taken down and whose agents can be spoiled."""

    def __init__(
        self, process: "_Process", url: str, scale: float, tolerance_ms: int, client: httpx.AsyncClient
    ) -> None:
        super().__init__(url, process.environ["VIGIL_API_KEY"], scale, tolerance_ms, client)
        self.name = "serve"
        self._process = process

    async def restart(self, *, crash: bool, down_ms: int, settings: Settings) -> None:
        up_s = trio.current_time() + down_ms / 1000 / self.scale
        await (self._process.kill() if crash else self._process.stop())
        await trio.sleep_until(up_s)
        await self._process.start(settings)

    async def set_agents(self, behaviours: Mapping[str, AgentBehaviour]) -> None:
        self._process.agents.behaviours.update(behaviours)


def spoiled_in(script: Script) -> frozenset[str]:
    """The agents whose behaviour the script changes."""
    return frozenset(
        agent_id for step in steps_of(script.steps) if step.verb == "agent" for agent_id in step.action
    )


class _Process:
    """`vigil serve`, once or several times, on one port and one data directory."""

    def __init__(
        self,
        directory: Path,
        environ: Mapping[str, str],
        scale: float,
        agents: OwnAgents,
        spoiled: frozenset[str],
    ) -> None:
        self.environ = environ
        self.agents = agents
        self._directory = directory
        self._scale = scale
        self._spoiled = spoiled
        self._port = "0"  # a free one; the same again after a restart
        self._process: trio.Process | None = None

    async def start(self, settings: Settings) -> str:
        """The URL, once it listens. Raises ScenarioError when it does not."""
        catalogue = self._directory / "agents.yaml"
        catalogue.write_text(json.dumps({"agents": self._catalogue(settings)}), encoding="utf-8")
        command = [*tied.COMMAND, "vigil", "serve", *self._flags(settings, catalogue)]
        with self._log.open("wb") as log:
            self._process = await trio.lowlevel.open_process(
                command, env=self.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        with trio.move_on_after(START_S_MAX):
            if match := _LISTENING.match(await self._first_line()):
                url = match[1].decode()
                self._port = url.rpartition(":")[2]
                return url
        said = self._log.read_text(errors="replace").strip().rpartition("\n")[2]
        await self.kill()
        raise ScenarioError(f"vigil serve did not start: {said or 'it said nothing'}")

    async def _first_line(self) -> bytes:
        assert self._process is not None  # only start asks
        assert self._process.stdout is not None  # it is a pipe
        line = b""
        while b"\n" not in line and (more := await self._process.stdout.receive_some()):
            line += more
        return line

    async def stop(self) -> None:
        """SIGTERM. Raises ScenarioError when it does not end."""
        if self._process is None:
            return
        self._process.terminate()
        with trio.move_on_after(STOP_S_MAX) as waiting:
            await self._process.wait()
        await self.kill()
        if waiting.cancelled_caught:
            raise ScenarioError(f"vigil serve did not stop within {STOP_S_MAX} s")

    async def kill(self) -> None:
        """SIGKILL, if it still runs."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        await process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                await pipe.aclose()

    @property
    def _log(self) -> Path:
        return self._directory / "serve.log"

    def _flags(self, settings: Settings, catalogue: Path) -> list[str]:
        given = {flag: value(settings) for flag, value in _FLAGS.items()}
        return [
            f"--port={self._port}",
            f"--data-dir={self._directory / 'data'}",
            f"--time-scale={self._scale:g}",
            f"--agents={catalogue}",
            "--log-level=warning",
            *(f"{flag}={_typed(value)}" for flag, value in given.items() if value is not None),
        ]

    def _catalogue(self, settings: Settings) -> list[dict[str, Any]]:
        entries: Sequence[Mapping[str, Any]] = [_DEMO] if settings.agents is None else settings.agents
        return [self._entry(entry) for entry in entries]

    def _entry(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Agents live in real time: what they take is session time, and so that much shorter."""
        turn_s = entry.get("turn_timeout_s", TURN_S) / self._scale
        own = {"turn_timeout_s": turn_s}
        if entry["id"] in self._spoiled:
            own |= {"kind": "webhook", "url": self.agents.url(entry["id"]), "secret_env": _SECRET}
        return {**_shortened(entry, self._scale), **own}


def _shortened(value: Any, scale: float, *, is_delay: bool = False) -> Any:
    """With every delay of a scripted agent in real milliseconds."""
    if isinstance(value, Mapping):
        return {
            name: _shortened(
                part, scale, is_delay=name.endswith("delay_ms") or (is_delay and name != "sigma")
            )
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [_shortened(part, scale) for part in value]
    return value / scale if is_delay else value


def _typed(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
