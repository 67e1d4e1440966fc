"""Every setting of `vigil serve`: name, environment variable, default, unit, range.

One model; flags, help, the table of docs/settings.md and the texts of errors are read from it.
A flag beats the environment, the environment beats the default. Opens no file and starts nothing.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args, get_origin

from pydantic import (
    BeforeValidator,
    Field,
    FilePath,
    PlainValidator,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from vigil.actors.core.errors import VigilError
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import TimeoutConfig
from vigil.actors.core.suggestion import did_you_mean
from vigil.server.http.addresses import UNIX
from vigil.server.input import origins


class SettingsError(VigilError):
    """Bad settings. The text has one line for each: its flag or variable, its value, what is allowed."""


class About(NamedTuple):
    """The help text of a setting. `allowed` completes "is not ..."; ranges and choices need none."""

    group: str
    metavar: str
    meaning: str
    allowed: str = ""
    default: str = ""
    flag: bool = True


class Setting(NamedTuple):
    """One row of the help and of the table of docs/settings.md. Without a flag only the environment sets it."""

    name: str
    flag: str | None
    env: str
    group: str
    metavar: str
    meaning: str
    allowed: str
    default: str
    choices: tuple[str, ...] = ()


def _limit(value: object) -> Limit:
    return value if isinstance(value, Limit) else Limit.parse(str(value))


def _listed(value: str | Iterable[str]) -> Iterable[str]:
    """What was typed once for each, or stands in a variable with commas."""
    return re.split(r"\s*,\s*", value.strip()) if isinstance(value, str) else value


def _hosts(value: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(map(_host, _listed(value)))


def _host(text: str) -> str:
    if text.startswith(UNIX) and text != UNIX:
        return text
    name = text[1:-1] if _IN_BRACKETS.fullmatch(text) else text
    if _HOST.fullmatch(name) is None or name == UNIX:
        raise ValueError("not a host")
    return name


def _root_path(text: str) -> str:
    path = text.rstrip("/")
    if _ROOT_PATH.fullmatch(path) is None:
        raise ValueError("not a path")
    return path


def _origins(value: str | Iterable[str]) -> tuple[str, ...]:
    """Origins as browsers send them, from a list or from a text with commas."""
    return tuple(map(_origin, _listed(value)))


def _origin(text: str) -> str:
    found = origins.origin(text)
    if found is None:
        raise ValueError("not an origin")
    return found


def _api_key(value: object) -> object:
    if isinstance(value, str) and _API_KEY.fullmatch(value) is None:
        raise ValueError("not a key")
    return value


def _typed(text: str) -> Any:
    """A default written as a person would type it, to be validated like that."""
    return text


def _not_empty(value: object) -> object:
    if value == "":
        raise ValueError("an empty path would be the current directory")
    return value


_IN_BRACKETS = re.compile(r"\[[^\[\]]*:[^\[\]]*\]")
_HOST = re.compile(r"[^\s/,\[\]]+")
_ROOT_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_API_KEY = re.compile(r"[A-Za-z0-9._~-]{16,}", re.ASCII)
_STORE = r"^(memory:|sqlite:[^:].*)$"

_LISTENING = "listening"
_KEEPING = "data and keys"
_AGENTS = "agents and content"
_LIMITS = "limits"
_LIFE = "the life of a session"
_LOGS = "time and logs"

_COUNT_PER_TIME = "COUNT/second, COUNT/minute or COUNT/hour, with a COUNT of at least 1"

NamedPath = Annotated[Path, BeforeValidator(_not_empty)]
RateLimit = Annotated[Limit, NoDecode, PlainValidator(_limit)]


class Settings(BaseSettings):
    """All settings of `vigil serve`. Durations are in the unit that the name says."""

    model_config = SettingsConfigDict(env_prefix="VIGIL_", frozen=True, hide_input_in_errors=True)

    host: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_hosts),
        About(
            _LISTENING,
            "ADDRESS",
            "where to listen, once for each address: 0.0.0.0 is every interface, :: every one of both families, "
            "unix:PATH a socket file with the access that the umask leaves; in the variable, commas between them",
            "a host name, an address or unix:PATH",
            "127.0.0.1",
        ),
    ] = ("127.0.0.1",)
    port: Annotated[
        int,
        Field(ge=0, le=65_535),
        About(_LISTENING, "N", "TCP port; 0 takes a free one and prints it"),
    ] = 3000
    tls_cert: Annotated[
        FilePath | None,
        About(
            _LISTENING,
            "FILE",
            "certificate chain in PEM; with it the server speaks HTTPS",
            "a file that exists",
        ),
    ] = None
    tls_key: Annotated[
        FilePath | None,
        About(_LISTENING, "FILE", "private key of that certificate in PEM", "a file that exists"),
    ] = None
    root_path: Annotated[
        str,
        BeforeValidator(_root_path),
        About(
            _LISTENING,
            "PATH",
            "what every path begins with, behind a proxy that keeps it; without it there is nothing",
            "a path such as /chat",
            "none",
        ),
    ] = ""
    allow_origin: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_origins),
        About(
            _LISTENING,
            "ORIGIN",
            "other web origins whose pages may call the API; in the variable, commas between them",
            "a list of origins, each SCHEME://HOST or SCHEME://HOST:PORT without a path",
        ),
    ] = ()
    front: Annotated[
        Literal["hot", "quart"],
        About(
            _LISTENING,
            "FRONT",
            "hot serves the frequent requests straight from the socket; quart sends all through the web framework",
        ),
    ] = "hot"
    header_timeout_s: Annotated[
        float,
        Field(gt=0, le=3600),
        About(_LISTENING, "S", "seconds that a client may take to send a request's headers"),
    ] = 10
    body_timeout_s: Annotated[
        float,
        Field(gt=0, le=3600),
        About(_LISTENING, "S", "seconds that a client may take to send a request's body"),
    ] = 30
    idle_timeout_s: Annotated[
        float,
        Field(gt=0, le=86_400),
        About(_LISTENING, "S", "seconds after which a connection without a request is closed"),
    ] = 75
    unsent_mib: Annotated[
        int,
        Field(ge=1, le=1_048_576),
        About(
            _LISTENING,
            "MIB",
            "MiB of answers that may wait for clients to read them; beyond it the slowest readers are cut",
        ),
    ] = 64
    grace_s: Annotated[
        float,
        Field(ge=0, le=3600),
        About(_LISTENING, "S", "seconds that running requests get to finish when the server is told to stop"),
    ] = 10

    data_dir: Annotated[
        NamedPath,
        About(
            _KEEPING, "DIR", "directory of the database, the API keys and the token secret; made if missing"
        ),
    ] = Path("vigil-data")
    store: Annotated[
        str | None,
        Field(pattern=_STORE),
        About(
            _KEEPING,
            "STORE",
            "sqlite:PATH is durable, memory: keeps nothing",
            "sqlite:PATH or memory:",
            "sqlite:DATA_DIR/vigil.db",
        ),
    ] = None
    api_key: Annotated[
        SecretStr | None,
        BeforeValidator(_api_key),
        About(
            _KEEPING,
            "KEY",
            "one more API key, with all scopes; no flag, because process lists show flags",
            "16 or more characters out of A-Z a-z 0-9 . _ ~ -",
            flag=False,
        ),
    ] = None

    agents: Annotated[
        NamedPath | None,
        About(_AGENTS, "FILE", "the agent catalogue; without one there is the demo agent agent-123, an echo"),
    ] = None
    content_policy: Annotated[
        Literal["active", "off"],
        About(_AGENTS, "POLICY", "whether messages that a browser would run as code are refused"),
    ] = "active"

    session_limit: Annotated[
        RateLimit,
        About(
            _LIMITS, "RATE", "requests that one session may make; an agent can override it", _COUNT_PER_TIME
        ),
    ] = _typed("60/minute")
    user_limit: Annotated[
        RateLimit, About(_LIMITS, "RATE", "requests that one user may make", _COUNT_PER_TIME)
    ] = _typed("1000/hour")
    agent_limit: Annotated[
        RateLimit,
        About(_LIMITS, "RATE", "requests that one agent may get; an agent can override it", _COUNT_PER_TIME),
    ] = _typed("5000/hour")
    session_max: Annotated[
        int, Field(ge=1, le=100_000_000), About(_LIMITS, "N", "sessions that may be live at once")
    ] = 1_000_000

    session_default_timeout_minutes: Annotated[
        int,
        Field(ge=5, le=1440, alias="SESSION_DEFAULT_TIMEOUT_MINUTES"),
        About(_LIFE, "MIN", "minutes without activity after which a session expires"),
    ] = 30
    session_default_auto_renew: Annotated[
        bool,
        Field(alias="SESSION_DEFAULT_AUTO_RENEW"),
        About(_LIFE, "BOOL", "whether messages and heartbeats put the expiry off", "true or false"),
    ] = True
    session_max_duration_minutes: Annotated[
        int,
        Field(ge=1, le=4320, alias="SESSION_MAX_DURATION_MINUTES"),
        About(_LIFE, "MIN", "minutes after its creation at which a session expires whatever happens"),
    ] = 180
    session_warning_threshold_minutes: Annotated[
        int,
        Field(ge=1, le=60, alias="SESSION_WARNING_THRESHOLD_MINUTES"),
        About(_LIFE, "MIN", "minutes before the expiry at which the warning is sent"),
    ] = 5
    session_tombstone_minutes: Annotated[
        int,
        Field(ge=1, le=525_600, alias="SESSION_TOMBSTONE_MINUTES"),
        About(_LIFE, "MIN", "minutes for which an expired session answers 410 before it is 404"),
    ] = 1440
    session_tombstone_max: Annotated[
        int,
        Field(ge=1, le=100_000_000, alias="SESSION_TOMBSTONE_MAX"),
        About(_LIFE, "N", "expired sessions that are remembered; beyond it the oldest is forgotten"),
    ] = 1_000_000

    time_scale: Annotated[
        float,
        Field(gt=0, le=100_000),
        About(_LOGS, "N", "how many times as fast as real time session time runs; 60 makes an hour a minute"),
    ] = 1
    log_format: Annotated[
        Literal["auto", "json", "text"],
        About(_LOGS, "FORMAT", "auto is text on a terminal and JSON elsewhere"),
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        About(_LOGS, "LEVEL", "the least severe entries that are logged"),
    ] = "info"
    log_file: Annotated[
        NamedPath | None,
        About(_LOGS, "FILE", "where the log goes instead of standard error; SIGHUP opens it anew"),
    ] = None
    record: Annotated[
        Path | None,
        About(
            _LOGS,
            "FILE",
            "write what comes in and goes out to a new FILE, for vigil replay; never keys and tokens",
            "a file that does not exist yet",
        ),
    ] = None
    record_content: Annotated[
        bool,
        About(_LOGS, "BOOL", "record what people wrote too, not fillers of the same length", "true or false"),
    ] = False

    @property
    def database(self) -> Path | None:
        """The SQLite file; None keeps everything in memory."""
        if self.store is None:
            return self.data_dir / "vigil.db"
        return None if self.store == "memory:" else Path(self.store.removeprefix("sqlite:"))

    @property
    def timeout_defaults(self) -> TimeoutConfig:
        return TimeoutConfig(
            self.session_default_timeout_minutes,
            self.session_default_auto_renew,
            self.session_max_duration_minutes,
            self.session_warning_threshold_minutes,
        )

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(
                "--tls-cert and --tls-key (VIGIL_TLS_CERT, VIGIL_TLS_KEY) go together: give both or none"
            )
        return self


def load_settings(flags: Mapping[str, Any]) -> Settings:
    """The settings in force: `flags` (name to text, as typed) over the environment over defaults.

    Raises SettingsError.
    """
    try:
        return Settings(**{_input_name(name): value for name, value in flags.items()})
    except ValidationError as error:
        # Not chained: a traceback would show what was typed, secrets too.
        raise SettingsError("\n".join(_faults(error, flags))) from None


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A line of warning for each variable that looks like a setting and is none."""
    known = {setting.env for setting in SETTINGS}
    return [line for name in sorted(environ) if name.upper() not in known for line in _suspicion(name, known)]


def _suspicion(name: str, known: Iterable[str]) -> Iterator[str]:
    """Any VIGIL_ name is suspect; SESSION_ ones, which desktops use too, only when nearly a setting's."""
    if name in _OTHERS or _KUBERNETES.fullmatch(name):
        return
    like = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
    hint = f": did you mean {like[0]}?" if like else ". See: vigil serve --help"
    if name.startswith("VIGIL_") or (like and name.startswith("SESSION_")):
        yield f"The environment variable {name} is not a setting{hint}"


def _input_name(name: str) -> str:
    """What pydantic takes a field by. Not by both names: VIGIL_SESSION_... would be taken too."""
    return Settings.model_fields[name].alias or name


_OTHERS = frozenset({"VIGIL_PROVE"})  # read by the tests
# What Kubernetes sets in every pod beside a service that is called vigil.
_KUBERNETES = re.compile(r"VIGIL_(SERVICE_(HOST|PORT)\w*|PORT_\d+_(TCP|UDP)\w*)", re.ASCII)


def _faults(error: ValidationError, flags: Mapping[str, Any]) -> Iterator[str]:
    settings = {setting.name: setting for setting in SETTINGS}
    for fault in error.errors(include_url=False):
        if not fault["loc"]:
            yield str(fault["ctx"]["error"])
            continue
        name = str(fault["loc"][0]).lower()
        yield _fault(settings[name], fault["input"], given_as_flag=name in flags)


def _fault(setting: Setting, value: object, *, given_as_flag: bool) -> str:
    source = setting.flag if given_as_flag and setting.flag else setting.env
    shown = "its value (not shown)" if setting.flag is None else repr(value)[:120]
    near = did_you_mean(str(value), setting.choices)
    return f"{source}: {shown} is not {setting.allowed}{near}"


def _setting(name: str, field: FieldInfo) -> Setting:
    about = next(item for item in field.metadata if isinstance(item, About))
    return Setting(
        name,
        f"--{name.replace('_', '-')}" if about.flag else None,
        field.alias or f"VIGIL_{name.upper()}",
        about.group,
        about.metavar,
        about.meaning,
        about.allowed or _allowed(field),
        about.default or _default(field.default),
        _choices(field),
    )


def _choices(field: FieldInfo) -> tuple[str, ...]:
    """The words that can be typed, where there are only some."""
    if field.annotation is bool:
        return ("true", "false")
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def _allowed(field: FieldInfo) -> str:
    """What the type and its bounds say."""
    if get_origin(field.annotation) is Literal:
        *others, last = get_args(field.annotation)
        return f"{', '.join(others)} or {last}"
    bounds = {
        bound: getattr(item, bound) for item in field.metadata for bound in _BOUNDS if hasattr(item, bound)
    }
    if not bounds:
        return "a path"
    kind = "whole number" if field.annotation is int else "number"
    low = f"above {bounds['gt']}" if "gt" in bounds else f"from {bounds['ge']}"
    return f"a {kind} {low} to {bounds['le']}"


_BOUNDS = ("gt", "ge", "le")


def _default(value: object) -> str:
    if value is None or value == ():
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


SETTINGS: tuple[Setting, ...] = tuple(_setting(name, field) for name, field in Settings.model_fields.items())
