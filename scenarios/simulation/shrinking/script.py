"""A simulation that failed, written as a scenario: the same requests at the same instants, and what should have come.

The script language has crashes and agents, but no slow or full disks and no lost answers: a failure that needs one
of those does not show in the script, and its `why` says so.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import yaml

from vigil.actors.core.quotas import Limit
from vigil.scenarios.language import durations, reading
from vigil.scenarios.language.script import VERB_OF
from vigil.scenarios.model import Model, ModelSettings
from vigil.scenarios.model.observed import Answered, Sent
from vigil.scenarios.play.player import play
from vigil.scenarios.play.results import Play
from vigil.scenarios.play.targets import Virtual
from vigil.scenarios.simulation.faults.plan import Band
from vigil.scenarios.simulation.outcome import Outcome, Settings
from vigil.scenarios.simulation.simulate import simulate
from vigil.scenarios.virtual import determinism
from vigil.server.api.wire_time import epoch_ms

Step = dict[str, Any]

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z", re.ASCII)
_HANG_ON_FAULTS = (409, 502, 503, 504)
_NAMES_DIFFER = ("sessionId", "channelId", "id")  # from those of the simulation
_CANNOT_SAY = ("slow-store", "full-store", "disconnect", "agent")


class Told(NamedTuple):
    """A scenario as YAML, and whether it fails as the simulation did when it is played here and now."""

    text: str
    fails: bool


def tell(failed: Outcome) -> Told:
    """The scenario of this run."""
    witness = _witness(failed.settings)
    text = _text(failed, witness, _steps(failed, witness))
    assert failed.violation is not None
    return Told(text, bool(failed.violation.expected) and _fails_at_its_end(text))


class _Witness(Model):
    """The model, which also keeps what it is told."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        self.settings = settings
        self.requests: list[Sent] = []
        self.answers: dict[int, Answered] = {}

    def sent(self, sent: Sent) -> None:
        self.requests.append(sent)
        super().sent(sent)

    def answered(self, number: int, answer: Answered) -> None:
        self.answers[number] = answer
        super().answered(number, answer)


def _witness(settings: Settings) -> _Witness:
    """Live through it once more, with eyes open."""
    seen: list[_Witness] = []

    def watch(rules: ModelSettings) -> _Witness:
        seen.append(_Witness(rules))
        return seen[0]

    simulate(settings, real_now=lambda: 0.0, judge=watch)
    return seen[0]


# --- steps


def _steps(failed: Outcome, witness: _Witness) -> list[Step]:
    """In the order in which it happened; the last is the one that failed, with what should have come."""
    assert failed.violation is not None
    start_ms = witness.settings.start_ms
    names = _names(witness)
    asked = [one for one in witness.requests if one.operation in VERB_OF]
    timed = [(one.at_ms - start_ms, 1, _request(one, witness, names)) for one in asked]
    timed += [(band.from_ms, 0, _restart(band)) for band in failed.bands if band.kind == "crash"]
    steps: list[Step] = [
        {"at": durations.show(at)} | step for at, _, step in sorted(timed, key=itemgetter(0, 1))
    ]
    concerned = [one.exchange.number for one in failed.violation.evidence]
    if failed.violation.expected and [asked[-1].number] == concerned:
        steps[-1]["expect"] |= _expectation(failed.violation.expected, start_ms)
    return steps


def _names(witness: _Witness) -> dict[str, str]:
    """What each session is called, by its id."""
    names: dict[str, str] = {}
    for sent in witness.requests:
        if (id_ := _created(sent, witness)) is not None:
            names.setdefault(id_, f"s{sent.number}")
    return names


def _created(sent: Sent, witness: _Witness) -> str | None:
    """The id of the session that a create was answered with."""
    answer = witness.answers.get(sent.number)
    if sent.operation != "createSession" or answer is None or answer.status != 201:  # noqa: PLR2004
        return None
    return str(orjson.loads(answer.body)["sessionId"])


def _request(sent: Sent, witness: _Witness, names: Mapping[str, str]) -> Step:
    answer = witness.answers.get(sent.number)
    said: Step = {name: int(value) if value.isdigit() else value for name, value in sent.query.items()}
    step: Step = {}
    if sent.flaw is not None:
        step["raw"] = {"body": _text_of(sent.body)}
    elif sent.body:
        said |= orjson.loads(sent.body)
    if sent.session is not None:
        said["session"] = names.get(sent.session, "unknown")
    if sent.idempotency_key is not None:
        said["idempotencyKey"] = sent.idempotency_key
    if (id_ := _created(sent, witness)) is not None:
        step["as"] = names[id_]
    if sent.credential in ("token", "none"):
        step["auth"] = sent.credential
    elif sent.credential != "key":
        other = next((name for id_, name in names.items() if id_ != sent.session), None)
        bearer = (
            f"${{{other}.sessionToken}}"
            if sent.credential == "other token" and other
            else "nobody-s-key-0000"
        )
        step.setdefault("raw", {})["headers"] = {"Authorization": f"Bearer {bearer}"}
    is_certain = answer is not None and answer.status not in _HANG_ON_FAULTS
    status: Any = answer.status if answer is not None and is_certain else {"present": True}
    return {VERB_OF[sent.operation]: said or None} | step | {"expect": {"status": status}}


def _text_of(body: bytes) -> str:
    """A body that was refused. A script is text: what is not UTF-8 becomes something else that is refused."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return "{"


def _restart(band: Band) -> Step:
    how = "clean" if band.clean else "crash"
    return {"restart": {"how": how, "down": durations.show(band.to_ms - band.from_ms)}}


def _expectation(expected: Mapping[str, Any], start_ms: int) -> Step:
    found: Step = {}
    for path, value in expected.items():
        part, _, name = path.partition(".")
        if name.rpartition(".")[2] in _NAMES_DIFFER:
            continue
        if name:
            found.setdefault(part, {})[name] = _matcher(value, start_ms)
        else:
            found[part] = value
    return found


def _matcher(value: Any, start_ms: int) -> Any:
    """An instant is one of the script's own time."""
    if not isinstance(value, str) or _INSTANT.fullmatch(value) is None:
        return {"equals": value} if isinstance(value, dict) else value
    since = epoch_ms(value) - start_ms
    return {"time": f"start{'-' if since < 0 else '+'}{durations.show(abs(since))}"}


# --- the script


def _text(failed: Outcome, witness: _Witness, steps: Sequence[Step]) -> str:
    assert failed.violation is not None
    settings = failed.settings
    beyond = [kind for kind in settings.faults if kind in _CANNOT_SAY]
    doubt = f" No script has its {' and '.join(beyond)} faults: it may hold here." if beyond else ""
    only = "all" if settings.only is None else ",".join(map(str, settings.only))
    values = {
        "title": f"A simulation violated rule {failed.violation.rule} and was shrunk to this",
        "why": f"{failed.violation.message} First seen by: {settings.repro} (people {only}, until "
        f"{settings.length_ms} ms).{doubt}",
        "settings": {"agents": list(_agents(witness))},
        "steps": list(steps),
    }
    return yaml.dump(values, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)


class _Plain(yaml.SafeDumper):
    """Scripts have no aliases."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def _agents(witness: _Witness) -> Iterator[Step]:
    """Those of the simulation; they say what was said to them, as late as somebody waited for it."""
    waited = [rule for sent in witness.requests if (rule := _rule(sent, witness)) is not None]
    creates = [one for one in witness.requests if one.operation == "createSession" and one.flaw is None]
    used = {orjson.loads(one.body)["agentId"] for one in creates}
    for id_, rules in witness.settings.agents.items():
        if id_ not in used:
            continue
        entry: Step = {"id": id_, "kind": "none"}
        if rules.kind != "none":
            entry |= {"kind": "scripted", "rules": [*waited, {"reply": "$message"}]}
        if rules.timeouts:
            entry["timeoutConfig"] = dict(rules.timeouts)
        for name, limit in (("session_limit", rules.session_limit), ("agent_limit", rules.agent_limit)):
            if limit is not None:
                entry[name] = str(Limit(*limit))
        yield entry


def _rule(sent: Sent, witness: _Witness) -> Step | None:
    """What the agent does with a message whose sender waited for the answer, or for the session's end."""
    answer = witness.answers.get(sent.number)
    request = orjson.loads(sent.body) if sent.operation == "sendMessage" and sent.flaw is None else {}
    if answer is None or request.get("transport", "websocket") == "websocket":
        return None
    took_ms = answer.at_ms - sent.at_ms + (answer.status != 201)  # noqa: PLR2004  not before the session was over
    return {
        "match": f"^{re.escape(request['content'])}$",
        "reply": "$message",
        "delay_ms": {"min": took_ms, "max": took_ms},
    }


def _fails_at_its_end(text: str) -> bool:
    """Whether its last step, and only that, is not as it should be."""
    located = reading.parse(text, Path("shrunk.yaml"))
    played: Play = determinism.run(partial(_play, located))
    failed = [judged.step for judged in played.judged if not judged.held]
    return bool(failed) and set(failed) == {len(played.steps) - 1}


async def _play(located: reading.Located) -> Play:
    async with Virtual().open(located.script) as target:
        return await play(located, target, clock=lambda: 0.0)
