"""`vigil serve`: a site from its settings to its end. Files, sockets, signals and the real clock meet here."""

import ctypes
import gc
import logging
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import structlog
import trio

from vigil.actors.agents import catalogue
from vigil.actors.agents.base import AgentEntry
from vigil.actors.core.errors import DatabaseGone, StoreError
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.runtime.creation import Rules
from vigil.actors.stores.base import Store
from vigil.actors.stores.memory import MemoryStore
from vigil.actors.stores.sqlite.store import SqliteStore
from vigil.server.api.call import Site
from vigil.server.cli import ends
from vigil.server.cli.command_line import base_url, curl_line
from vigil.server.front.fast_path import FastPath
from vigil.server.front.quart_app import make_app
from vigil.server.http.addresses import UNIX
from vigil.server.http.budget import MIB, Traffic
from vigil.server.http.listener import Endpoint, listen
from vigil.server.http.protocols import Limits
from vigil.server.ops import last_resort, logs, site, token_secrets
from vigil.server.ops.data_dir import (
    DATABASE_NOTE,
    kept_database,
    note_database,
    open_data_dir,
    session_secret,
)
from vigil.server.ops.keys import KeyRing, ensure_default_key
from vigil.server.ops.reloading import Reloading
from vigil.server.recording import recorder as recording
from vigil.server.settings.settings import Settings

log = structlog.get_logger()

RECORDING_FLUSH_S = 0.25
_PAGES = (("Documentation", "/docs"),)  # for people, as the banner names them
_ANSWER_S = 5.0
_UUID_DIGITS = 32
_IDS_AT_ONCE = 256
# The store, the listeners, the log, calls to agents; and one part in sixteen for more calls.
_OWN_DESCRIPTORS = 32
_MALLOC_OPTIONS = {  # of mallopt, by their numbers in malloc.h
    -3: 1024 * 1024,  # M_MMAP_THRESHOLD: what is as long as this is given back at once
    # M_TRIM_THRESHOLD: with the usual 128 KiB a busy server would give back and ask again all the time.
    -1: 16 * 1024 * 1024,
}
_GC_THRESHOLDS = (5_000, 3, 2)
_GC_PAUSE_S_MAX = 0.003  # of a collection, after which what it went through is not looked at again


def serve(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM. Gives the exit code: 0. Raises VigilError, perhaps in a group."""
    logs.configure(settings.log_format, settings.log_level, settings.log_file)
    _run(settings)
    return 0


def random_ids(random_bytes: Callable[[int], bytes]) -> Callable[[], str]:
    """Random UUIDs. The system is asked for many at once: a question costs it more than an id costs us."""
    drawn: list[str] = []

    def new_id() -> str:
        if not drawn:
            digits = random_bytes(_IDS_AT_ONCE * _UUID_DIGITS // 2).hex()
            drawn.extend(
                [_uuid4(digits[at : at + _UUID_DIGITS]) for at in range(0, len(digits), _UUID_DIGITS)]
            )
        return drawn.pop()

    return new_id


def _uuid4(digits: str) -> str:
    """32 random hexadecimal digits as RFC 9562 wants them for version 4."""
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def collect_seldom() -> None:
    """Collect nothing until `freeze_what_is_there`, and after that never stop the world for long.

    Parked tasks are many, live long and leave no cycles: to go through them again and again is for nothing. So
    what a slow collection went through is frozen, and the next has only to do with what came since.
    """
    gc.disable()
    gc.set_threshold(*_GC_THRESHOLDS)
    if _slow_collections not in gc.callbacks:
        gc.callbacks.append(_slow_collections)


def freeze_what_is_there() -> None:
    """What a start has made stays: no collection need look at it again."""
    gc.freeze()
    gc.collect()  # of nothing: the collector forgets how much it was, and what is much to it is little again
    gc.enable()


class _SlowCollections:
    """A callback of the garbage collector: freezes what is there after a collection that took long.

    Never after one of the youngest generation, where requests are that will be over in a moment.
    """

    def __init__(self) -> None:
        self._began_s = 0.0

    def __call__(self, phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            self._began_s = time.perf_counter()
        elif info["generation"] and time.perf_counter() - self._began_s > _GC_PAUSE_S_MAX:
            gc.freeze()


_slow_collections = _SlowCollections()


def _run(settings: Settings) -> None:
    collect_seldom()
    give_memory_back()
    raise_descriptor_limit()
    umask = os.umask(0o077)  # before the data directory narrows it, which does not mean socket files
    open_data_dir(settings.data_dir)
    agents = _agents(settings)
    if settings.api_key is None:
        ensure_default_key(settings.data_dir, created=datetime.now(UTC).date(), random_bytes=os.urandom)
    endpoint = Endpoint(settings.host, settings.port, settings.tls_cert, settings.tls_key, umask)
    trio.run(_serve, settings, endpoint, _store(settings), agents)


def give_memory_back() -> None:
    """What is freed of long answers goes back to the system. Else glibc learns to keep such sizes, and holds hundreds
    of MiB after a moment with many. Elsewhere than on glibc nothing is done.
    """
    with suppress(AttributeError, OSError):
        for option, value in _MALLOC_OPTIONS.items():
            ctypes.CDLL(None).mallopt(option, value)


def raise_descriptor_limit() -> None:
    """A connection is a descriptor; the usual soft limit of 1024 is for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _agents(settings: Settings) -> Mapping[str, AgentEntry]:
    read = _reader(settings)
    return catalogue.demo() if read is None else read()


def _reader(settings: Settings) -> Callable[[], Mapping[str, AgentEntry]] | None:
    """Reads the catalogue; None where there is no file."""
    if settings.agents is None:
        return None
    return partial(catalogue.load, settings.agents, os.environ, wall=_wall_ms)


def _store(settings: Settings) -> Store:
    """Raises StoreError, also for a database that has vanished: an empty server in its place would look healthy."""
    if settings.database is None:
        return MemoryStore()
    path, data_dir = os.path.realpath(settings.database), settings.data_dir
    is_known = kept_database(data_dir) == path
    try:
        store = SqliteStore(path, may_be_new=not is_known)
    except DatabaseGone as error:
        note = data_dir / DATABASE_NOTE
        raise StoreError(
            f"{error}. Restore it from a backup, or mount its disk; to begin anew without these sessions: rm {note}"
        ) from None
    if not is_known:
        note_database(data_dir, path)
    return store


class _Orders:
    """What signals have asked of the server, and how far it is with that."""

    def __init__(self) -> None:
        self.stop = trio.Event()
        self.reload = trio.Event()
        self.doing = "it was still starting"

    def on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self.reload.set()
        else:
            log.info("stopping", signal=signal.Signals(number).name, again=self.stop.is_set() or None)
            self.stop.set()


async def _serve(
    settings: Settings, endpoint: Endpoint, store: Store, agents: Mapping[str, AgentEntry]
) -> None:
    orders = _Orders()
    patience_s = settings.grace_s + last_resort.AFTER_GRACE_S
    with last_resort.last_resort(patience_s, partial(_give_up, patience_s, orders, store)) as begin_to_wait:
        async with trio.open_nursery() as nursery:
            await nursery.start(_heed_signals, orders)
            if orders.stop.is_set():
                begin_to_wait()
            reloading = Reloading(agents, _reader(settings), nursery)
            try:
                await _serve_until(orders, settings, endpoint, store, reloading)
            finally:
                orders.doing = "the store was being closed"
                with trio.CancelScope(shield=True):
                    await catalogue.close(reloading.agents)
                    await store.close()
                nursery.cancel_scope.cancel()
    log.info("stopped")


def _give_up(patience_s: float, orders: _Orders, store: Store) -> None:
    """Say what was not finished. Runs in another thread, beside a loop that may stand still."""
    waiting = store.statistics().waiting
    lost = (
        f"{waiting} changes wait for a disk that does not answer; none of them was acknowledged. "
        if waiting
        else ""
    )
    line = f"ended {patience_s:g} s after the signal to stop, before all was finished: {orders.doing}. "
    log.error(f"{line}{lost}What was acknowledged is kept, rate-limit windows may start empty")


async def _heed_signals(
    orders: _Orders, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """From before anything runs until all is closed: a second signal must not cut a clean stop short."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        for number in ends.noted:  # while everything was imported
            orders.on_signal(number)
        task_status.started()
        async for number in signals:
            orders.on_signal(number)


async def _serve_until(
    orders: _Orders, settings: Settings, endpoint: Endpoint, store: Store, reloading: Reloading
) -> None:
    stop = trio.Event()
    clock = ScaledClock.resume(store.anchor, wall=_wall_ms, scale=settings.time_scale)
    async with trio.open_nursery() as nursery:
        ring = _key_ring(settings)
        plan = _plan(settings, store, reloading.agents, clock, ring)
        running: Site = await nursery.start(partial(site.run, plan, stop=stop))
        running.auth.use_secrets(*token_secrets.secrets_in_force(settings.data_dir, datetime.now(UTC)))
        running.logs_requests = log.is_enabled_for(logging.INFO)
        freeze_what_is_there()
        async with _recording(settings, plan, running), trio.open_nursery() as beside:
            beside.start_soon(_reload, orders, partial(reloading.reload, running.directory, ring))
            beside.start_soon(partial(_follow_secrets, settings.data_dir, running))
            await _listen(orders, settings, endpoint, running, next(iter(reloading.agents)))
            beside.cancel_scope.cancel()
            orders.doing = "what is recorded was being written"
        orders.doing = "the rate-limit windows were being saved"
        stop.set()


async def _follow_secrets(data_dir: Path, running: Site) -> None:
    use = running.auth.use_secrets
    await token_secrets.follow(data_dir, use, warn=log.warning, now=partial(datetime.now, UTC))


async def _reload(orders: _Orders, reload: Callable[[], Awaitable[None]]) -> None:
    """Whatever goes wrong with it, the server goes on."""
    while True:
        await orders.reload.wait()
        orders.reload = trio.Event()
        try:
            await reload()
        except Exception:
            log.exception("reloading has failed")


@asynccontextmanager
async def _recording(settings: Settings, plan: site.Plan, running: Site) -> AsyncIterator[None]:
    """Write what comes in and goes out to a file, if a setting says so."""
    if settings.record is None:
        yield
        return
    content = settings.record_content
    start = recording.Start(version("vigil-sessions"), running.directory.counts().active, content)
    with recording.opened(settings.record) as file, recording.outbox(file, content=content) as box:
        recorder = recording.Recorder(box.put, plan.clock)
        recorder.begin(plan, start)
        running.record, running.directory.publisher.watch = recorder.answered, recorder.on_committed
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_flush_now_and_then, box)
            yield
            nursery.cancel_scope.cancel()
        running.record = running.directory.publisher.watch = None


async def _flush_now_and_then(box: recording.Outbox) -> None:
    while True:
        await trio.sleep(RECORDING_FLUSH_S)
        box.flush()


async def _listen(
    orders: _Orders, settings: Settings, endpoint: Endpoint, running: Site, agent_id: str
) -> None:
    """Take requests until a signal to stop, and then until those under way are finished."""
    shutdown = trio.Event()
    app = make_app(running, body_timeout_s=settings.body_timeout_s)
    first = FastPath(running) if settings.front == "hot" else None
    serving = partial(
        listen,
        app,
        endpoint,
        shutdown=shutdown,
        limits=_limits(settings),
        first=first,
        traffic=running.traffic,
    )
    async with trio.open_nursery() as nursery:
        for url in await nursery.start(serving):
            _announce(settings, base_url(url, settings.root_path), agent_id)
        await orders.stop.wait()
        orders.doing = "requests were under way"
        running.stop_taking_requests()
        shutdown.set()


def _announce(settings: Settings, url: str, agent_id: str) -> None:
    ends.say(f"Vigil is listening on {url}")
    for name, path in _PAGES if not url.startswith(UNIX) else ():
        ends.say(f"{name}: {url}{path}")
    if line := curl_line(url, settings, agent_id):
        ends.say(f"Try it:\n  {line}")


def _limits(settings: Settings) -> Limits:
    return Limits(
        idle_s=settings.idle_timeout_s,
        head_s=settings.header_timeout_s,
        body_s=settings.body_timeout_s + _ANSWER_S,  # the app comes first, and says what was wrong
        grace_s=settings.grace_s,
    )


def _key_ring(settings: Settings) -> KeyRing:
    key = settings.api_key.get_secret_value() if settings.api_key else None
    return KeyRing(settings.data_dir, monotonic=time.monotonic, warn=log.warning, environment_key=key)


def _plan(
    settings: Settings, store: Store, agents: Mapping[str, AgentEntry], clock: ScaledClock, ring: KeyRing
) -> site.Plan:
    return site.Plan(
        store=store,
        clock=clock,
        new_id=random_ids(os.urandom),
        find_key=ring.find,
        in_force=ring.in_force,
        secret=session_secret(settings.data_dir, os.urandom),
        agents=agents,
        rules=Rules(
            settings.timeout_defaults,
            settings.session_max,
            settings.session_tombstone_minutes,
            settings.session_tombstone_max,
        ),
        session_limit=settings.session_limit,
        user_limit=settings.user_limit,
        agent_limit=settings.agent_limit,
        content_policy=settings.content_policy == "active",
        allowed_origins=frozenset(settings.allow_origin),
        root_path=settings.root_path,
        traffic=Traffic(unsent_bytes_max=settings.unsent_mib * MIB, connections_max=_connections_max()),
    )


def _connections_max() -> int:
    """As many as there are descriptors, but for those that the server itself needs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - soft // 16 - _OWN_DESCRIPTORS)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
