"""All sessions that the model knows, and when each is to be counted elsewhere because its time has come."""

import heapq

from vigil.scenarios.model.rules.history import NEVER, History
from vigil.scenarios.model.rules.limits import Limits, policy
from vigil.scenarios.model.rules.lists import Lists
from vigil.scenarios.model.session import Session
from vigil.scenarios.model.settings import ModelSettings
from vigil.scenarios.model.troubles import Troubles
from vigil.scenarios.model.world import MINUTE_MS, Json, Life, new_world

_LOOK_AGAIN_MS = 1000


class Sessions:
    def __init__(self, settings: ModelSettings, limits: Limits, lists: Lists, troubles: Troubles) -> None:
        self.by_id: dict[str, Session] = {}
        self._settings = settings
        self._limits = limits
        self._lists = lists
        self._troubles = troubles
        self._deadlines: list[tuple[int, str]] = []
        self._tombstone_ms = settings.tombstone_minutes * MINUTE_MS

    def begin(self, id_: str, request: Json, at: int) -> Session:
        """As a create asked for it."""
        agent, user, settings = request["agentId"], request["userId"], self._settings
        rules = settings.agents[agent]
        worlds = [new_world(at, settings.config(request))]
        session = self.by_id[id_] = Session(id_, agent, user, worlds, self._tombstone_ms)
        session.history = History(user, agent, answers=rules.kind != "none", reply=rules.reply)
        session.is_echoed = rules.kind == "echo"
        session.metadata = request.get("metadata", {})
        session.names = settings.windows(agent, user, id_)
        session.policy = policy(settings.rates(agent, create=False))
        self._lists.add(session)
        self.file(session, at)
        return session

    def name(self, session: Session, id_: str, now: int) -> None:
        """What was created for nobody has an id after all."""
        self._lists.remove(session)
        self.by_id.pop(session.id)
        session.id, session.is_named = id_, True
        session.names = (session.names[0]._replace(subject=id_), *session.names[1:])
        session.worlds = [world for world in session.worlds if not world.gone]
        self.by_id[id_] = session
        self._lists.add(session)
        session.due = NEVER
        self.file(session, now)

    def file(self, session: Session, now: int) -> None:
        """Count the session where it belongs now, and come back to it at its next deadline."""
        if not session.open:
            self._lists.busy.pop(session.id, None)
        life = session.life(now)
        if life != session.place:
            self._move(session, life, now)
        if life == "gone":
            return
        due = now + _LOOK_AGAIN_MS
        if life != "unsure":
            due = session.worlds[0].ends_lo + (0 if life == "live" else self._tombstone_ms)
        if due < session.due or session.due <= now:
            session.due = due
            heapq.heappush(self._deadlines, (due, session.id))

    def pass_time(self, now: int) -> None:
        """It is this late: sessions whose deadline has come are over."""
        while self._deadlines and self._deadlines[0][0] <= now:
            _, id_ = heapq.heappop(self._deadlines)
            session = self.by_id.get(id_)
            if session is not None:
                session.due = NEVER
                self.file(session, now)

    def crashed(self) -> None:
        for session in self.by_id.values():
            session.was_troubled = True

    def _move(self, session: Session, life: Life, now: int) -> None:
        surplus = self._lists.move(session, life, now, is_calm=self._troubles.is_calm(now))
        if life in ("expired", "gone"):
            self._limits.drop_session(session.id)
            session.history.end()
        if surplus is not None:
            surplus.worlds = [surplus.worlds[0]._replace(gone=True)]
            self.file(surplus, now)
