"""Locust run in its own way, without `vigil load`: what is refused before it starts, and the verdict at its end.

Owns Locust's exit code: the verdict decides it. Lives in the process that is master or alone; workers know nothing of
it but what the master's options tell them. Who comes and what they do is not its business.
"""

import logging
import os
import secrets
import signal
import sys
from typing import Any, NoReturn

import gevent
import psutil
from gevent import GreenletExit
from locust.env import Environment

from vigil.loadtests.people import mixes
from vigil.loadtests.people.collection import Batch
from vigil.loadtests.runner.options import LoadError, Target, limits_of
from vigil.loadtests.runner.target import Look, Unreachable, look
from vigil.loadtests.verdict.evidence import Evidence
from vigil.loadtests.verdict.text import text
from vigil.loadtests.verdict.thresholds import parse
from vigil.loadtests.verdict.verdict import Ending, Exit, Run
from vigil.scenarios.play.api_key import api_key_fault
from vigil.scenarios.play.time_scale import time_scale

SCALE = "vigil_scale"  # the option by which workers hear how fast the server's time runs

log = logging.getLogger("vigil.load")


class Judge:
    """Takes in what one run after another has shown, and judges it."""

    def __init__(self, environment: Environment) -> None:
        self.is_interrupted = False
        self._environment = environment
        self._signal = signal.SIGINT
        self._seen: Look | None = None
        self._evidence: Evidence | None = None
        gevent.signal_handler(signal.SIGTERM, self._told_to_end)

    @property
    def _options(self) -> Any:
        return self._environment.parsed_options

    def check_options(self) -> None:
        """What is wrong whatever the server says. Raises LoadError."""
        options = self._options
        limits_of(options)
        if fault := api_key_fault(options.api_key):
            raise LoadError(
                f"the API key {fault}: give one with all scopes with --api-key, or set VIGIL_API_KEY"
            )
        self._said_scale()
        if options.headless and not self._environment.host:
            raise LoadError("no server was named: say --host http://HOST:PORT")
        if self._environment.host:
            Target.parse(self._environment.host)

    def look(self) -> None:
        """At the server, before a run. Raises LoadError, Unreachable."""
        options, limits = self._options, limits_of(self._options)
        agents, user = tuple(options.agent.split(",")), f"load-look-{secrets.token_hex(8)}"
        host = (self._environment.host or "").rstrip("/")
        Target.parse(host)
        self._seen = look(host, options.api_key, agents, user, limits, self._said_scale())
        setattr(options, SCALE, self._seen.scale)

    def open(self) -> None:
        """A run begins, in the web UI one of several. Ends the greenlet that starts it when it is of no use."""
        try:
            if self._seen is None:
                self.look()
        except LoadError as error:
            self._environment.process_exit_code = exit_code_of(error)
            print(f"vigil: {error}", file=sys.stderr)
            raise GreenletExit from None
        seen, self._seen = self._seen, None
        assert seen is not None  # it was looked for
        self._evidence = Evidence(limits_of(self._options), seen.scale, seen.before)
        self._evidence.add(seen.observations)
        self.is_interrupted = False

    def hear(self, batch: Batch) -> None:
        """Of the last one the verdict is made and logged, and Locust's exit code decided."""
        if self._evidence is None:
            return
        self._evidence.absorb(batch)
        if batch.get("end"):
            thresholds = map(parse, mixes.PROFILES[self._options.mix].thresholds)
            verdict = self._evidence.verdict(self._run(self._evidence), thresholds)
            self._environment.process_exit_code = int(verdict.exit_code)
            log.info("\n%s", text(verdict))

    def _run(self, evidence: Evidence) -> Run:
        """Who gave no run time ends a run as they please: that interrupts nothing."""
        options = self._options
        profile = mixes.PROFILES[options.mix]
        planned_s = float(options.run_time or 0)
        is_cut = self.is_interrupted and planned_s
        ending = Ending(
            0.0 if profile.counts or not options.headless else planned_s,
            (options.num_users or 0) if options.headless else 0,
            evidence.came,
            self._signal if is_cut else 0,
            evidence.missing,
        )
        host, ran_s = self._environment.host or "", evidence.ran_s or 0.0
        return Run(options.mix, host, evidence.people_most, ran_s, evidence.scale, profile.must_reach, ending)

    def _said_scale(self) -> float | None:
        said = str(self._options.time_scale).strip()
        if not said:
            return None
        scale = time_scale(said)
        if scale is None:
            raise LoadError(f"--time-scale {said!r} is not a number above 0")
        return scale

    def _told_to_end(self) -> None:
        self._signal = signal.SIGTERM


def exit_code_of(error: LoadError) -> int:
    return int(Exit.UNREACHABLE if isinstance(error, Unreachable) else Exit.USAGE)


def abandon(code: int) -> NoReturn:
    """End this process now, and the workers that Locust has forked: they would go on waiting for a master."""
    for worker in psutil.Process().children():
        worker.kill()
    sys.stderr.flush()
    os._exit(code)
