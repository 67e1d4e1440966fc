"""One running site: the directory's tasks and everything that requests need, whatever the way in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial

import orjson
import trio

from vigil.actors.agents.base import AgentEntry
from vigil.actors.core.quotas import Limit
from vigil.actors.limits.limiter import Limits
from vigil.actors.runtime import service
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.runtime.creation import Rules
from vigil.actors.runtime.directory import Directory, overrides
from vigil.actors.stores.base import Store
from vigil.server.api.auth import Authenticator, Principal
from vigil.server.api.call import Site
from vigil.server.api.routes import ROUTES
from vigil.server.docs import docs_page, openapi
from vigil.server.docs.pages import Page
from vigil.server.http.budget import Traffic
from vigil.server.ops.health import Health, LoopLag, StoreProbe
from vigil.server.ops.metrics import Metrics

KEYS_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """What a site is made of. The clock, ids, keys and secret are the caller's, so that any of them can be fake."""

    store: Store
    clock: ScaledClock
    new_id: Callable[[], str]
    find_key: Callable[[str], Principal | None]
    secret: bytes
    agents: Mapping[str, AgentEntry]
    in_force: Callable[[Principal], bool] = lambda _: True  # whether one who was let in still would be
    rules: Rules = field(default_factory=Rules)
    session_limit: Limit = Limit(60, 60)  # noqa: RUF009  a NamedTuple does not change
    user_limit: Limit = Limit(1000, 3600)  # noqa: RUF009
    agent_limit: Limit = Limit(5000, 3600)  # noqa: RUF009
    content_policy: bool = True
    allowed_origins: frozenset[str] = frozenset()
    root_path: str = ""
    traffic: Traffic = field(default_factory=Traffic)


async def run(
    plan: Plan, *, stop: trio.Event, task_status: trio.TaskStatus[Site] = trio.TASK_STATUS_IGNORED
) -> None:
    """Restore, then hand out the site, then serve it until `stop`. Cancelled, it leaves as a crash would."""
    async with trio.open_nursery() as watchers:
        async with trio.open_nursery() as nursery:
            directory = await nursery.start(partial(_run_directory, plan, stop))
            lag = LoopLag()
            site = _site(plan, directory, lag, watchers)
            if plan.clock.follows_wall:
                watchers.start_soon(lag.watch)
                watchers.start_soon(_watch_listeners, site, plan.in_force)
            task_status.started(site)
        watchers.cancel_scope.cancel()


async def _watch_listeners(site: Site, in_force: Callable[[Principal], bool]) -> None:
    """Cut the listeners whose key was revoked: within a second, as the keys themselves are read again."""
    while True:
        await trio.sleep(KEYS_LOOK_S)
        revoked = {principal for principal in set(site.listeners.values()) if not in_force(principal)}
        for subscription, principal in tuple(site.listeners.items()) if revoked else ():
            if principal in revoked:
                subscription.cut_off("revoked")


async def _run_directory(plan: Plan, stop: trio.Event, *, task_status: trio.TaskStatus[Directory]) -> None:
    await service.run(
        store=plan.store,
        clock=plan.clock,
        limits=Limits(plan.session_limit, plan.user_limit, plan.agent_limit, overrides(plan.agents)),
        agents=plan.agents,
        rules=plan.rules,
        new_id=plan.new_id,
        stop=stop,
        task_status=task_status,
    )


def _site(plan: Plan, directory: Directory, lag: LoopLag, nursery: trio.Nursery) -> Site:
    description, page = _documentation(plan.root_path)
    return Site(
        directory=directory,
        health=Health(directory, StoreProbe(directory, nursery), lag),
        metrics=Metrics(directory, lag, plan.traffic),
        auth=Authenticator(plan.find_key, plan.secret),
        new_id=plan.new_id,
        openapi=description,
        docs=page,
        traffic=plan.traffic,
        content_policy=plan.content_policy,
        allowed_origins=plan.allowed_origins,
        root_path=plan.root_path,
    )


@cache
def _documentation(root_path: str) -> tuple[bytes, Page]:
    """Made once: it is the same for every site at this path."""
    document = openapi.document(ROUTES, root_path)
    return orjson.dumps(document), docs_page.page(document)
