"""What a value has to be, and whether it is. One function a matcher; it knows neither steps nor servers.

Times are compared with the moment's tolerance: none in virtual time, some of the network's delay live.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vigil.scenarios.language import durations
from vigil.scenarios.language.expectations import Matcher
from vigil.scenarios.language.paths import MISSING, NoValue, fill
from vigil.server.api.wire_time import epoch_ms, iso

SHOWN_MAX = 300

_TIME = re.compile(
    rf"(?P<base>start|now|\$\{{[^{{}}]+\}})(?:\s*(?P<sign>[+-])\s*(?P<off>{durations.PATTERN}))?"
)
_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)


class Moment(NamedTuple):
    """What an expectation is seen from. Instants are session time in milliseconds since the epoch."""

    start_ms: int
    now_ms: int  # when the request was sent
    tolerance_ms: int
    names: Mapping[str, Any]


class Finding(NamedTuple):
    held: bool
    expected: str
    came: str


def judge(matcher: Matcher, value: Any, moment: Moment) -> Finding:
    """Whether all that `matcher` says holds for `value` (MISSING when there is none), in words for people."""
    given = {name: getattr(matcher, name) for name in matcher.model_fields_set}
    try:
        held = all(_HOLDS[name](value, wanted, moment) for name, wanted in given.items())
        expected = " and ".join(_expected(name, wanted, moment) for name, wanted in sorted(given.items()))
    except NoValue as error:
        return Finding(False, str(error), shown(value))
    return Finding(held, expected, _came(value, given, moment))


def judge_header(matcher: Matcher, value: Any, moment: Moment) -> Finding:
    """Likewise for a header's text, to which the number 60 is `60`."""
    as_text = {
        name: str(wanted)
        for name in ("equals",)
        if isinstance(wanted := getattr(matcher, name), int) and name in matcher.model_fields_set
    }
    return judge(matcher.model_copy(update=as_text), value, moment)


def instant(text: str, moment: Moment) -> int:
    """The milliseconds of `start+30m`, `now` or `${saved}-5s`. Raises NoValue."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise NoValue(f"{text!r} is not a time")
    base = {"start": moment.start_ms, "now": moment.now_ms}.get(match["base"])
    if base is None:
        base = _as_ms(fill(match["base"], moment.names))
    if base is None:
        raise NoValue(f"{match['base']} is not a time")
    away = durations.parse(match["off"]) if match["off"] else 0
    return base - away if match["sign"] == "-" else base + away


def shown(value: Any) -> str:
    """A value for people, not endless."""
    if value is MISSING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}... ({len(text)} characters)"


# --- one function a matcher: (what came, what is wanted, moment)


def _equals(value: Any, wanted: Any, moment: Moment) -> bool:
    return _same(value, fill(wanted, moment.names))


def _one_of(value: Any, wanted: Any, moment: Moment) -> bool:
    return any(_same(value, one) for one in fill(wanted, moment.names))


def _present(value: Any, _wanted: Any, _moment: Moment) -> bool:
    return value is not MISSING


def _absent(value: Any, _wanted: Any, _moment: Moment) -> bool:
    return value is MISSING


def _time(value: Any, wanted: str, moment: Moment) -> bool:
    ms = _as_ms(value)
    return ms is not None and abs(ms - instant(wanted, moment)) <= moment.tolerance_ms


def _approx(value: Any, wanted: int, moment: Moment) -> bool:
    number = _as_number(value)
    return number is not None and abs(number - wanted) <= moment.tolerance_ms


def _approx_s(value: Any, wanted: int, moment: Moment) -> bool:
    number = _as_number(value)
    return number is not None and -moment.tolerance_ms <= number * 1000 - wanted <= 999 + moment.tolerance_ms


def _length(value: Any, wanted: int, _moment: Moment) -> bool:
    return isinstance(value, str | list | dict) and len(value) == wanted


def _regex(value: Any, wanted: str, _moment: Moment) -> bool:
    return isinstance(value, str) and re.search(wanted, value) is not None


def _less(value: Any, wanted: Any, moment: Moment) -> bool:
    pair = _comparable(value, wanted, moment)
    return pair is not None and pair[0] < pair[1]


def _greater(value: Any, wanted: Any, moment: Moment) -> bool:
    pair = _comparable(value, wanted, moment)
    return pair is not None and pair[0] > pair[1]


_HOLDS: Mapping[str, Callable[[Any, Any, Moment], bool]] = {
    "equals": _equals,
    "one_of": _one_of,
    "present": _present,
    "absent": _absent,
    "time": _time,
    "approx": _approx,
    "approx_s": _approx_s,
    "length": _length,
    "regex": _regex,
    "less": _less,
    "greater": _greater,
}


# --- values


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1, 5.0 is 5."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


def _as_number(value: Any) -> float | None:
    """Numbers, and headers that are one."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _as_ms(value: Any) -> int | None:
    """An API time, or a cursor in epoch milliseconds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return epoch_ms(value)
    except (ValueError, TypeError, AttributeError):
        return None


def _comparable(value: Any, wanted: Any, moment: Moment) -> tuple[float, float] | None:
    """Both as numbers, or both as milliseconds."""
    if isinstance(wanted, str) and _TIME.fullmatch(wanted) and wanted[0] != "$":
        pair: tuple[float | None, float | None] = _as_ms(value), instant(wanted, moment)
    else:
        other = fill(wanted, moment.names)
        pair = _as_number(value), _as_number(other)
        if isinstance(other, str) and pair[1] is None:
            pair = _as_ms(value), _as_ms(other)
    left, right = pair
    return None if left is None or right is None else (left, right)


# --- words


def _expected(name: str, wanted: Any, moment: Moment) -> str:
    if name == "equals":
        return shown(fill(wanted, moment.names))
    if name in {"present", "absent"}:
        return name
    if name == "time":
        return f"{iso(instant(wanted, moment))} ({wanted}{_give_or_take(moment)})"
    if name in {"approx", "approx_s"}:
        return f"{durations.show(wanted)}{_give_or_take(moment)}"
    return f"{name.replace('_', ' ')} {shown(fill(wanted, moment.names))}"


def _give_or_take(moment: Moment) -> str:
    return f", give or take {durations.show(moment.tolerance_ms)}" if moment.tolerance_ms else ""


def _came(value: Any, given: Mapping[str, Any], moment: Moment) -> str:
    ms = _as_ms(value) if "time" in given else None
    if ms is None:
        return shown(value)
    since = durations.show(ms - moment.start_ms)
    return f"{iso(ms)} (start{'' if since.startswith('-') else '+'}{since})"
