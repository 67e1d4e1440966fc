"""Every setting of `vigil serve`: name, environment variable, default, unit, range, help text.

One model; flags, help, the table of docs/settings.md and the texts of errors are read from it
(`server.settings.rows`). It refuses to know where values come from (`server.settings.loading`).
"""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    Field,
    FilePath,
    SecretStr,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from vigil.actors.core.records import TimeoutConfig
from vigil.server.settings.values import (
    STORE,
    NamedPath,
    RateLimit,
    as_typed,
    read_api_key,
    read_hosts,
    read_origins,
    read_root_path,
)


class About(NamedTuple):
    """The help text of a setting. `allowed` completes "is not ..."; ranges and choices need none."""

    group: str
    metavar: str
    meaning: str
    allowed: str = ""
    default: str = ""
    flag: bool = True


_LISTENING = "listening"
_KEEPING = "data and keys"
_AGENTS = "agents and content"
_LIMITS = "limits"
_LIFE = "the life of a session"
_LOGS = "time and logs"

_COUNT_PER_TIME = "COUNT/second, COUNT/minute or COUNT/hour, with a COUNT of at least 1"


class Settings(BaseSettings):
    """All settings of `vigil serve`. Durations are in the unit that the name says."""

    model_config = SettingsConfigDict(env_prefix="VIGIL_", frozen=True, hide_input_in_errors=True)

    host: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(read_hosts),
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
        BeforeValidator(read_root_path),
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
        BeforeValidator(read_origins),
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
        Field(pattern=STORE),
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
        BeforeValidator(read_api_key),
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
    ] = as_typed("60/minute")
    user_limit: Annotated[
        RateLimit, About(_LIMITS, "RATE", "requests that one user may make", _COUNT_PER_TIME)
    ] = as_typed("1000/hour")
    agent_limit: Annotated[
        RateLimit,
        About(_LIMITS, "RATE", "requests that one agent may get; an agent can override it", _COUNT_PER_TIME),
    ] = as_typed("5000/hour")
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
