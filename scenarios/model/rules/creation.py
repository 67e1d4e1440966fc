"""How sessions begin: creates, their idempotency keys, those without an answer (spec sections 1, 3, 4)."""

# ruff: noqa: PLR2004  status codes are the vocabulary here

from uuid import UUID

import orjson

from vigil.scenarios.model.observed import Violation
from vigil.scenarios.model.rules.answers import difference
from vigil.scenarios.model.rules.history import NEVER
from vigil.scenarios.model.rules.keys import check_key_refusal, find_saved, is_same
from vigil.scenarios.model.rules.limits import Limits, policy
from vigil.scenarios.model.rules.lists import Lists
from vigil.scenarios.model.session import Exchange, Saved, Session
from vigil.scenarios.model.sessions import Sessions
from vigil.scenarios.model.settings import ModelSettings
from vigil.scenarios.model.troubles import Troubles
from vigil.scenarios.model.world import CONFIG, Json, epoch_ms, iso, new_world


class Creation:
    def __init__(
        self,
        settings: ModelSettings,
        sessions: Sessions,
        limits: Limits,
        lists: Lists,
        troubles: Troubles,
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._limits = limits
        self._lists = lists
        self._troubles = troubles
        self._under_way: list[Exchange] = []
        self._keys: dict[str, Saved] = {}

    def sent(self, exchange: Exchange) -> None:
        sent = exchange.sent
        if sent.flaw is not None:
            exchange.early = sent.flaw
            return
        request = exchange.request = orjson.loads(sent.body)
        agent, user = request["agentId"], request["userId"]
        if agent not in self._settings.agents:
            exchange.early = 404
            return
        exchange.charge = self._limits.charge(sent.at_ms, self._settings.windows(agent, user))
        if exchange.charge.admitted is not False:
            key = sent.idempotency_key
            exchange.has_rival = key is not None and any(
                one.sent.idempotency_key == key for one in self._under_way
            )
            self._under_way.append(exchange)
            self._lists.expect(agent, user, 1)

    def answered(self, exchange: Exchange) -> None:
        """Raises Violation."""
        assert exchange.answer is not None
        assert exchange.charge is not None
        self._over(exchange)
        self._limits.check(exchange.charge, exchange.answer, exchange.number)
        status, rates = exchange.status, self._settings.rates(exchange.request["agentId"], create=True)
        if exchange.answer.headers.get("ratelimit-policy") != policy(rates):
            raise Violation("7 policy", "a create's policy names its user and its agent", exchange.number)
        if status == 503:
            is_full = self._lists.live_count() >= self._settings.session_max
            self._troubles.check_refusal(exchange, is_full=is_full)
        elif status in (409, 422):
            self._saved(exchange)
            check_key_refusal(self._keys, exchange)
        elif status == 201:
            self._created(exchange)
        elif status != 429:
            raise Violation("9 status", f"createSession answered {status}: {exchange.body}", exchange.number)

    def lost(self, exchange: Exchange) -> None:
        """A session that nobody knows may have begun."""
        if exchange not in self._under_way:
            return
        self._over(exchange)
        saved = self._saved(exchange)
        if saved is not None and saved.is_sure:
            return
        at, charge = exchange.sent.at_ms, exchange.charge
        is_sure = exchange.is_calm and charge is not None and charge.admitted is True and saved is None
        is_sure = is_sure and not exchange.has_rival
        session = self._sessions.begin(f"~{exchange.number}", exchange.request, at)
        session.is_named = False
        if not is_sure:
            session.worlds = [*session.worlds, session.worlds[0]._replace(gone=True)]
        self._remember(exchange, None, session, is_sure=is_sure)
        self._sessions.file(session, at)

    def _created(self, exchange: Exchange) -> None:
        body = dict(exchange.body)
        token = body.pop("sessionToken", "")
        if not token.startswith(f"{body['sessionId']}."):
            raise Violation("6 token", f"the token of {body['sessionId']} is {token}", exchange.number)
        saved = self._saved(exchange)
        if saved is not None and is_same(saved, exchange, body, body["createdAt"]):
            if saved.session is not None and not saved.session.is_named:
                self._sessions.name(saved.session, body["sessionId"], exchange.sent.at_ms)
            session = self._session_of(exchange, body)
            saved.answer, saved.is_sure, saved.session = body, True, session
            return
        self._remember(exchange, body, self._session_of(exchange, body))

    def _session_of(self, exchange: Exchange, body: Json) -> Session:
        """The session that a 201 speaks of, checked against its request."""
        at = epoch_ms(body["createdAt"])
        session = self._sessions.by_id.get(body["sessionId"])
        if session is None:
            assert exchange.answer is not None
            if not exchange.sent.at_ms <= at <= exchange.answer.at_ms:
                raise Violation("3 created", f"createdAt {body['createdAt']}", exchange.number)
            session = self._sessions.begin(body["sessionId"], exchange.request, at)
        if session.channel is None:
            session.channel = body.get("channelId")
        expected = self._description(session, exchange.request, at)
        if body != expected or not session.channel or not _is_uuid(session.id):
            raise Violation("3 created", difference(body, expected), exchange.number)
        session.is_named = True
        return session

    def _description(self, session: Session, request: Json, at: int) -> Json:
        first = new_world(at, self._settings.config(request))
        return {
            "sessionId": session.id,
            "channelId": session.channel,
            "agentId": request["agentId"],
            "userId": request["userId"],
            "createdAt": iso(at),
            "expiresAt": iso(first.ends_lo),
            "maxExpiresAt": iso(first.cap),
            "status": "active",
            "timeoutConfig": dict(zip(CONFIG, first.config, strict=True)),
            "renewalCount": 0,
            "metadata": request.get("metadata", {}),
        }

    def _over(self, exchange: Exchange) -> None:
        if exchange in self._under_way:
            self._under_way.remove(exchange)
            self._lists.expect(exchange.request["agentId"], exchange.request["userId"], -1)

    def _saved(self, exchange: Exchange) -> Saved | None:
        """What the key of a create stands for; nothing when its session is over."""
        saved = find_saved(self._keys, exchange)
        if saved is None or saved.session is None:
            return saved
        life = saved.session.life(exchange.sent.at_ms)
        if life == "unsure" or exchange.began < saved.session.ended < NEVER:
            saved.is_sure = False
        elif life in ("expired", "gone"):
            del self._keys[exchange.sent.idempotency_key or ""]
            return None
        return saved

    def _remember(
        self, exchange: Exchange, body: Json | None, session: Session, *, is_sure: bool = True
    ) -> None:
        key = exchange.sent.idempotency_key
        if key is not None:
            saved = self._keys[key] = Saved(exchange.sent.body, body, exchange.sent.at_ms, is_sure=is_sure)
            saved.session = session


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
