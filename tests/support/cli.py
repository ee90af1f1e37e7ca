"""The command line as a user meets it: arguments in; status, stdout and stderr out."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from clients.cli import run
from clients.console import Console

PROGRESS = re.compile(r"\.\.\. [^:]+: \d+.*")
# Python ignores Ctrl-C in what a shell started in the background; the child shall not.
LAUNCH = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from clients.cli import main; main()"
)


@dataclass(frozen=True)
class Outcome:
    """What one run left behind.

    Attributes:
        status: exit status.
        out: everything on stdout, down to the file descriptor.
        err: the same of stderr.
    """

    status: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """Lines of stderr that are no progress."""
        return [line for line in self.err.splitlines() if not PROGRESS.fullmatch(line)]


def invoke(capfd: pytest.CaptureFixture[str], *argv: str | Path) -> Outcome:
    """Run in this process; also what libraries write past Python is seen."""
    capfd.readouterr()
    with Console() as console:
        status = run([str(word) for word in argv], console)
    out, err = capfd.readouterr()
    return Outcome(status, out, err)


def interrupt(
    *argv: str | Path, number: signal.Signals, ready: Callable[[], bool], timeout_s: float = 60
) -> Outcome:
    """Run in a process of its own and send a signal as soon as it is ready."""
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCH, *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        for _ in range(int(timeout_s / 0.02)):
            if ready() or process.poll() is not None:
                break
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
        process.send_signal(number)
        try:
            out, err = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
        return Outcome(process.returncode, out, err)
