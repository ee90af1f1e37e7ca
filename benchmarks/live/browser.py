"""Headless Chromium, started by hand: no driver between us and what is measured."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.errors import LivedubError

FOLDERS = ("/usr/lib/chromium", "/usr/lib/chromium-browser", "/opt/google/chrome")
NAMES = ("chromium", "chromium-browser", "chrome", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--use-fake-ui-for-media-stream",
    "--window-size=1320,900",
)


def find_browser() -> str | None:
    """The browser itself, not a distribution's wrapper script, which is hard to stop; else None."""
    path = os.pathsep.join([*FOLDERS, os.environ.get("PATH", "")])
    return next((found for name in NAMES if (found := shutil.which(name, path=path))), None)


@contextlib.contextmanager
def browser(
    url: str, *, prefix: Sequence[str] = (), flags: Sequence[str] = (), log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Show a page until the end of the block.

    Args:
        url: of the page.
        prefix: put before the command, for example to enter a network namespace.
        flags: more of Chromium's.
        log: where its output goes; None: nowhere.

    Raises:
        LivedubError: no Chromium is installed.
    """
    program = find_browser()
    if program is None:
        raise LivedubError("this needs Chromium: on Debian and Ubuntu, apt install chromium")
    with contextlib.ExitStack() as stack:
        profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        output = stack.enter_context(log.open("wb")) if log else subprocess.DEVNULL
        command = [*prefix, program, *FLAGS, *flags, f"--user-data-dir={profile}", url]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        _yields(process.pid)
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _yields(pid: int) -> None:
    """Let a browser run after what is measured: it stands for somebody else's machine.

    Linux weighs sessions of processes, and it has its own (sched(7), autogroup).
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("5", encoding="ascii")
