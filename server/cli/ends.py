"""How a command ends, whatever happens: one rule for interrupts, closed pipes, full disks and expected errors.

Owns the exit codes of bad ends and what becomes of the standard streams. A command gives its summary (`interruptible`)
and says nothing of codes. Imports nothing that takes time: an interrupt may come while the rooms are still imported.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

from vigil.actors.core.errors import VigilError

WRONG = 2  # what was typed, or a file that it names
INTERRUPTED = 128 + signal.SIGINT
READER_GONE = 128 + signal.SIGPIPE


class Interrupted(KeyboardInterrupt):
    """An interrupt that says in one line what was done and how to go on."""


@contextmanager
def interruptible(summary: Callable[[], str]) -> Iterator[None]:
    """An interrupt inside ends the command with `summary()`."""
    try:
        yield
    except BaseException as error:
        if not _is_interrupt(error):
            raise
        raise Interrupted(summary()) from None


@contextmanager
def as_interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP end a command as SIGINT does, so that what it started is stopped too.

    Signals that somebody ignores or handles already stay as they are.
    """
    numbers = (signal.SIGTERM, signal.SIGHUP)
    with _handling(_interrupt, *numbers if _interrupts_are_usual() else ()):
        yield


def _interrupts_are_usual() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)  # Trio knows where it may raise one, and where it must not


noted: list[int] = []
"""The signals that came while `noting`, and nobody has seen to yet."""


@contextmanager
def noting() -> Iterator[None]:
    """Signals interrupt nothing. They are `noted` for the server, which sees to them when it has come that far."""
    with _handling(_note, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


def _note(number: int, _frame: FrameType | None) -> None:
    noted.append(number)


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    usual = {signal.SIG_DFL, signal.default_int_handler}
    ours = {number: before for number in numbers if (before := signal.getsignal(number)) in usual}
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in ours.items():
            signal.signal(number, before)


def end(error: BaseException) -> int:
    """Say why a command ended, if there is anything to say. Gives the exit code; raises `error` when it is a bug."""
    if _is_interrupt(error):
        said = str(error) if isinstance(error, Interrupted) else ""
        if sys.stderr.isatty():
            say("")  # what shows how far it is, and ^C, stand on this line
        complain(f"interrupted {said}" if said else "interrupted")
        return INTERRUPTED
    errors = list(_leaves(error))
    expected = [one for one in errors if isinstance(one, VigilError)]
    if len(expected) == len(errors):
        for one in expected:
            _refuse(one)
        return WRONG
    if any(isinstance(one, OSError) for one in errors) and (code := _unwritable()):
        return code
    raise error


def _refuse(error: VigilError) -> None:
    """Say what is wrong; where a file is, also what a right one could look like."""
    complain(str(error))
    if error.example:
        _tell(
            "\n".join(["This is how one could look:", *(f"  {line}" for line in error.example.splitlines())])
        )


def flushed(code: int) -> int:
    """Write out what was printed. Gives `code`, or that of a standard output that cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            code = _lost(stream, error, code)
    return code


def _unwritable() -> int:
    """The code of a standard stream that cannot be written; 0 when both can, and the error was another's."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
            os.write(stream.fileno(), b"\n")  # without a buffer nothing is left to be flushed
        except OSError as error:
            return _lost(stream, error, WRONG)
    return 0


def _lost(stream: TextIO, error: OSError, code: int) -> int:
    give_up(stream)
    if isinstance(error, BrokenPipeError):
        return READER_GONE
    if stream is not sys.stdout:
        return code
    complain(f"standard output cannot be written: {error.strerror}")
    return WRONG


# --- the standard streams


def open_closed_streams() -> None:
    """A standard stream that is closed becomes /dev/null: else the next file that is opened takes its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if not _is_open(number):
            _to_nowhere(number)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode))


def say(text: str) -> None:
    """Print it. A standard output that cannot be written is no reason to stop: from then on it leads nowhere."""
    try:
        print(text, flush=True)
    except (OSError, ValueError):
        give_up(sys.stdout)


def complain(text: str) -> None:
    """Tell whoever ran the command, on standard error, if that can be written."""
    _tell("\n".join(f"vigil: {line}" for line in text.splitlines()))


def _tell(text: str) -> None:
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def give_up(stream: TextIO) -> None:
    """What is still to be written there, now and at the end of the process, goes nowhere."""
    with suppress(OSError, ValueError):
        _to_nowhere(stream.fileno())


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(nowhere, number)
        os.close(nowhere)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


# --- what an error is made of


def _is_interrupt(error: BaseException) -> bool:
    """Also one that something on its way turned into another error, as class creation does."""
    return any(isinstance(one, KeyboardInterrupt) for leaf in _leaves(error) for one in _chain(leaf))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for inner in error.exceptions:
        yield from _leaves(inner)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
