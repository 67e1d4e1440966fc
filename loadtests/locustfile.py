"""What `locust -f loadtests/locustfile.py` opens: the people, a mix of them, and the way of what they saw to a verdict.

Locust's side of the wiring and nothing else: flags, start and end of a run, messages between workers and master.
`vigil load` runs this file too, and then hears of everything through a pipe instead of judging here.
"""

import logging
import os
import random
import sys
import time
from typing import Any

import gevent
import orjson
from gevent.socket import wait_read
from locust import LoadTestShape
from locust import events as locust_events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import STATE_MISSING, STATE_RUNNING, MasterRunner, Runner, WorkerRunner

from vigil.loadtests.people import mixes, shapes
from vigil.loadtests.people.collection import Batch, Recorder
from vigil.loadtests.people.greedy import AgentCrowd, GreedyOnAgent, GreedyOnSession, GreedyOnUser
from vigil.loadtests.people.person import Person, World
from vigil.loadtests.people.users import (
    Chatter,
    ClosedLaptop,
    Clumsy,
    Ghost,
    IdleTab,
    Listener,
    MultiDevice,
)
from vigil.loadtests.runner.options import (
    AGENT_LIMIT,
    DEMO_AGENT,
    END_VARIABLE,
    PIPE_VARIABLE,
    SESSION_LIMIT,
    USER_LIMIT,
    LoadError,
    Target,
    limits_of,
)
from vigil.loadtests.verdict.judge import SCALE, Judge, abandon, exit_code_of

__all__ = [
    "AgentCrowd",
    "Chatter",
    "ClosedLaptop",
    "Clumsy",
    "Ghost",
    "GreedyOnAgent",
    "GreedyOnSession",
    "GreedyOnUser",
    "IdleTab",
    "Listener",
    "MultiDevice",
]

SHIP_EVERY_S = 1.0
WORKERS_STOP_S_MAX = 60.0
MISSING_S_MAX = 10.0
HURRIED_STOP_S = 1.0

_BATCH = "vigil-batch"
_STOP = "vigil-stop"
_STOPPED = "vigil-stopped"

events: Any = locust_events  # untyped
logging.getLogger("httpx").setLevel(logging.WARNING)


class MixShape(LoadTestShape):
    """A table of `shapes.py` as Locust asks for it. Used when the mix names one."""

    abstract = True

    def __init__(self, profile: mixes.Profile, people: int, run_time_s: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._table = profile.shape, run_time_s, people, profile.ramp_s

    def tick(self) -> tuple[int, float] | None:
        shape, run_time_s, people, ramp_s = self._table
        at_s: float = self.get_run_time()  # type: ignore[no-untyped-call]
        return shapes.tick(shape, at_s, run_time_s, people, ramp_s)


class Wiring:
    """One process's part of a run: who generates ships, who is master or alone receives."""

    def __init__(self, environment: Environment, runner: Runner, judge: Judge | None) -> None:
        """`judge` is where batches are judged; None in a worker, and where `vigil load` does that."""
        self._environment = environment
        self._runner = runner
        self._judge = judge
        self._stopped: set[str] = set()
        self._began_s: float | None = None
        self._recorder: Recorder | None = None
        self._is_in_a_hurry = False
        if isinstance(runner, WorkerRunner):
            runner.register_message(_STOP, self._stop_worker, concurrent=True)
        else:
            runner.register_message(_BATCH, lambda msg, **_: self._receive(msg.data))
            runner.register_message(_STOPPED, lambda msg, **_: self._stopped.add(msg.node_id))
            gevent.spawn(self._leave_when_all_have_left)

    def start(self) -> None:
        """A run begins: in the web UI there can be several."""
        options: Any = self._environment.parsed_options
        if self._judge is not None:
            self._judge.open()
        self._began_s = time.monotonic()
        if not isinstance(self._runner, WorkerRunner):
            self._receive({"source": "", "began": True})
        if not isinstance(self._runner, MasterRunner):
            self._recorder = Recorder(f"{os.getpid()}", time.monotonic, time.process_time)
            Person.world = _world(self._environment, options, self._recorder)
            gevent.spawn(self._ship_now_and_then, self._recorder)

    def stopping(self) -> None:
        """Before Locust ends the run. Workers are given the time to finish what is under way, and to ship it."""
        if self._recorder is not None:
            self._recorder.closing = True
        if not isinstance(self._runner, MasterRunner):
            return
        self._stopped.clear()
        self._runner.send_message(_STOP, {"hurry": self._is_in_a_hurry})
        began_s = waited_s = time.monotonic()
        while waited_s - began_s < WORKERS_STOP_S_MAX and self._workers_left(waited_s - began_s):
            gevent.sleep(0.05)
            waited_s = time.monotonic()

    def quitting(self) -> None:
        """Locust leaves. If that is in the middle of a run, somebody has told it to: it is ended quickly, and judged.

        A worker ends its part first; then Locust tells the master that it goes.
        """
        if self._began_s is not None:
            self.hurry()
            if self._judge is not None:
                self._judge.is_interrupted = True
        if isinstance(self._runner, WorkerRunner) or self._began_s is not None:
            self._runner.stop()

    def hurry(self) -> None:
        """From now on people get a moment to stop, not their time, and begin nothing more."""
        self._is_in_a_hurry = True
        self._environment.stop_timeout = min(self._environment.stop_timeout, HURRIED_STOP_S)
        if self._recorder is not None:
            self._recorder.in_a_hurry = True

    def end_when_told(self, told: int) -> None:
        """`vigil load` has closed its end of that pipe, or has gone itself: the run is over."""
        wait_read(told)
        self.hurry()
        if self._began_s is None:
            abandon(1)
        self._runner.quit()

    def stop(self) -> None:
        """All people of this process have left."""
        if self._recorder is not None:
            recorder, self._recorder = self._recorder, None
            self._ship(recorder, last=True)
        if self._began_s is not None and not isinstance(self._runner, WorkerRunner):
            self._receive({"source": "", "end": True, "ran_s": time.monotonic() - self._began_s})
        self._began_s = None

    def _receive(self, batch: Batch) -> None:
        """Where batches end: in the pipe of `vigil load`, or in a judge of our own."""
        pipe = os.environ.get(PIPE_VARIABLE)
        if pipe is not None:
            _write(int(pipe), orjson.dumps(batch) + b"\n")
        elif self._judge is not None:
            self._judge.hear(batch)

    def _workers_left(self, waited_s: float) -> set[str]:
        """Those that have neither shipped the last of it nor gone (Ctrl-C reaches them too).

        One without a heartbeat may be slow, and is waited for a little; then it is held for dead.
        """
        assert isinstance(self._runner, MasterRunner)  # only a master asks
        may_come = waited_s < MISSING_S_MAX
        here = {one.id for one in self._runner.clients.all if may_come or one.state != STATE_MISSING}
        return here - self._stopped

    def _stop_worker(self, msg: Any, **_: Any) -> None:
        if msg.data["hurry"]:
            self.hurry()
        self._runner.stop()
        self._runner.send_message(_STOPPED)

    def _ship_now_and_then(self, recorder: Recorder) -> None:
        while recorder is self._recorder:
            gevent.sleep(SHIP_EVERY_S)
            if recorder is self._recorder:
                self._ship(recorder)

    def _ship(self, recorder: Recorder, *, last: bool = False) -> None:
        for batch in recorder.batches(last=last):
            batch["people"] = self._runner.user_count
            self._runner.send_message(_BATCH, batch)

    def _leave_when_all_have_left(self) -> None:
        """People with a script leave when they are through; with nobody left the run is over."""
        came = False
        while True:
            gevent.sleep(0.5)
            people = self._runner.user_count
            came = came or (people > 0 and self._runner.state == STATE_RUNNING)
            if came and people == 0 and self._runner.state == STATE_RUNNING:
                came = False
                gevent.spawn(self._runner.quit if _is_headless(self._environment) else self._runner.stop)


def add_flags(parser: LocustArgumentParser) -> None:
    """What people need to know beside Locust's own flags; also fields of the web UI, but for the key."""
    add: Any = parser.add_argument  # Locust's own: it takes `is_secret` and `include_in_web_ui` too
    who = "who comes: see docs/load.md. Ignored when user classes are named"
    kept = "what the server is expected to keep"
    add("--mix", choices=list(mixes.PROFILES), default="realistic", env_var="VIGIL_LOAD_MIX", help=who)
    add(
        "--agent",
        default=DEMO_AGENT,
        env_var="VIGIL_LOAD_AGENTS",
        help="agents of the server, commas between",
    )
    add(
        "--time-scale",
        default="",
        env_var="VIGIL_LOAD_TIME_SCALE",
        help="the server's; need not be said, for its answers say it",
    )
    add("--session-limit", default=SESSION_LIMIT, help=kept)
    add("--user-limit", default=USER_LIMIT, help=kept)
    add("--agent-limit", default=AGENT_LIMIT, help=kept)
    add(
        "--api-key",
        default="",
        env_var="VIGIL_API_KEY",
        help="a key with all scopes",
        include_in_web_ui=False,
    )


def set_up(environment: Environment, runner: Runner, **_: Any) -> None:
    """Choose who comes, and wire this process."""
    gevent.get_hub().loop.update_now()  # the run time would count from before the imports
    options: Any = environment.parsed_options
    profile = mixes.PROFILES[options.mix]
    if not options.user_classes:
        environment.user_classes = _kinds(environment, profile)
    if profile.shape and not isinstance(runner, WorkerRunner):
        people = options.num_users or profile.people
        shape = MixShape(profile, people, options.run_time or profile.run_time_s)
        shape.runner = runner
        environment.shape_class = shape
    wiring = Wiring(environment, runner, _judge(environment, runner))
    if END_VARIABLE in os.environ and not isinstance(runner, WorkerRunner):
        gevent.spawn(wiring.end_when_told, int(os.environ[END_VARIABLE]))
    events.test_start.add_listener(lambda **_: wiring.start())
    events.test_stopping.add_listener(lambda **_: wiring.stopping())
    events.test_stop.add_listener(lambda **_: wiring.stop())
    events.quitting.add_listener(lambda **_: wiring.quitting())


def _kinds(environment: Environment, profile: mixes.Profile) -> list[Any]:
    """The user classes of a mix, each with its share or its number."""
    found = []
    for kind in environment.user_classes:
        kind.weight = profile.shares.get(kind.__name__, 0)
        kind.fixed_count = profile.counts.get(kind.__name__, 0)
        if (kind.weight or kind.fixed_count) and _is_tagged(kind, environment.parsed_options):
            found.append(kind)
    return found


def _is_tagged(kind: Any, options: Any) -> bool:
    """Whether `--tags` and `--exclude-tags` leave this kind something to do."""
    wanted, unwanted = set(options.tags or ()), set(options.exclude_tags or ())
    tags: list[set[str]] = [getattr(each, "locust_tag_set", set()) for each in kind.tasks]
    return any((not wanted or wanted & each) and not unwanted & each for each in tags)


def _world(environment: Environment, options: Any, recorder: Recorder) -> World:
    return World(
        target=Target.parse(environment.host or ""),
        api_key=options.api_key,
        clock=time.monotonic,
        rng=random.Random(),  # noqa: S311  nothing secret; each process draws its own
        recorder=recorder,
        limits=limits_of(options),
        agents=tuple(options.agent.split(",")),
        scale=getattr(options, SCALE),
        reads_back=mixes.PROFILES[options.mix].reads_back,
    )


def _judge(environment: Environment, runner: Runner) -> Judge | None:
    """Where this process judges itself. What could only fail ends here, before anything starts."""
    if isinstance(runner, WorkerRunner):
        return None
    if PIPE_VARIABLE in os.environ:
        options: Any = environment.parsed_options
        setattr(options, SCALE, float(options.time_scale))
        return None
    judge = Judge(environment)
    try:
        judge.check_options()
        if _is_headless(environment):
            judge.look()
    except LoadError as error:
        print(f"vigil: {error}", file=sys.stderr)
        abandon(exit_code_of(error))
    return judge


def _is_headless(environment: Environment) -> bool:
    options: Any = environment.parsed_options
    return bool(options.headless)


def _write(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data) :]


events.init_command_line_parser.add_listener(add_flags)
events.init.add_listener(set_up)
