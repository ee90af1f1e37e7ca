import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from clients import doctor
from clients.cli import Interrupted
from engine.errors import AssetError, BackendUnavailable, InputError
from tests.support.cli import Outcome, invoke

Run = Callable[..., Outcome]
COMMANDS = ("demo", "adapt", "dub", "evaluate", "serve", "token", "bench", "export", "doctor", "train")


@pytest.fixture
def livedub(capfd: pytest.CaptureFixture[str]) -> Run:
    return lambda *argv: invoke(capfd, *argv)


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `livedub doctor` end like this."""

    def examine() -> None:
        raise error

    monkeypatch.setattr(doctor, "examine", examine)


def test_help_names_what_there_is_and_nothing_else(livedub: Run) -> None:
    outcome = livedub("--help")
    listed = outcome.out.partition("Commands:")[2].split("\n")
    assert outcome.status == 0
    assert {line.split()[0] for line in listed if line.strip()} >= set(COMMANDS)


@pytest.mark.parametrize(
    "command", [(name,) for name in COMMANDS] + [("train", name) for name in ("face-model", "prior", "audio")]
)
def test_every_command_has_help(command: tuple[str, ...], livedub: Run) -> None:
    outcome = livedub(*command, "--help")
    assert outcome.status == 0
    assert outcome.out.startswith("Usage: livedub " + " ".join(command))
    assert outcome.err == ""


@pytest.mark.parametrize("argv", [(), ("train",)])
def test_no_arguments_give_the_help_and_a_failure(argv: tuple[str, ...], livedub: Run) -> None:
    outcome = livedub(*argv)
    assert outcome.status == 2
    assert outcome.err.startswith("Usage: livedub")
    assert outcome.out == ""


def test_version(livedub: Run) -> None:
    outcome = livedub("--version")
    assert outcome.status == 0
    assert outcome.out.startswith("livedub 0.")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("nonsense",), "livedub: No such command 'nonsense'; see livedub --help"),
        (("evaluate",), "livedub: Missing argument 'OUT.mp4'; see livedub evaluate --help"),
        (("evaluate", "a", "b", "-x"), "livedub: No such option: -x; see livedub evaluate --help"),
        (("adapt", "a", "-o", "b", "--steps", "0"), "; see livedub adapt --help"),
        (
            ("dub", "a", "b", "-o", "c", "--actor", "d", "--drive", "me"),
            "is not one of 'audio', 'tracked'; see",
        ),
        (
            ("dub", "a", "b", "-o", "c", "--actor", "d", "--precision", "f8"),
            "is not one of 'auto', 'f32', 'bf16', 'f16', 'int8'; see",
        ),
        (
            ("dub", "a", "b", "-o", "c", "--actor", "d", "--mark", "loud"),
            "is not one of 'none', 'visible'; see",
        ),
    ],
)
def test_wrong_use_is_one_line(argv: tuple[str, ...], line: str, livedub: Run) -> None:
    outcome = livedub(*argv)
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("livedub: ")
    assert line in outcome.err


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("a\nb"), 2, "livedub: a b"),
        (AssetError("gone; run: livedub doctor --fetch"), 1, "livedub: gone; run: livedub doctor --fetch"),
        (BackendUnavailable("pip install it"), 1, "livedub: pip install it"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.mp4"),
            1,
            "livedub: a.mp4: No space left on device",
        ),
        (MemoryError(), 1, "livedub: there is not enough memory for this"),
        (KeyboardInterrupt(), 130, "livedub: stopped by SIGINT"),
        (Interrupted(signal.SIGTERM), 143, "livedub: stopped by SIGTERM"),
    ],
)
def test_errors_become_a_status_and_a_line(
    error: BaseException, status: int, line: str, livedub: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, error)
    outcome = livedub("doctor")
    assert (outcome.status, outcome.out, outcome.err) == (status, "", line + "\n")


@pytest.mark.parametrize("argv", [("-v", "doctor"), ("doctor", "-v")])
def test_verbose_has_the_traceback_too(
    argv: tuple[str, ...], livedub: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, InputError("odd"))
    outcome = livedub(*argv)
    assert outcome.status == 2
    assert "Traceback" in outcome.err
    assert outcome.err.endswith("livedub: odd\n")


def test_our_own_mistakes_are_not_hidden(livedub: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        livedub("doctor")


def test_suites_are_listed(livedub: Run) -> None:
    outcome = livedub("bench", "--list")
    assert outcome.status == 0
    assert any(line.startswith("backends ") for line in outcome.out.splitlines())


def test_bench_needs_the_source(livedub: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "benchmarks":
                raise ModuleNotFoundError(name, name=name)

    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Gone(), *sys.meta_path])
    outcome = livedub("bench", "--list")
    assert (outcome.status, outcome.out) == (1, "")
    assert "checkout" in outcome.err


def test_json_goes_to_stdout_alone(livedub: Run) -> None:
    outcome = livedub("doctor", "--json")
    assert json.loads(outcome.out)["can_dub"] is (outcome.status == 0)
    assert outcome.err == ""


def test_a_reader_that_has_gone_away_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    code = "from clients.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_start_up_is_light() -> None:
    """Only what every command needs is imported at first; help must come at once."""
    code = "import sys; import clients.cli; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "cv2", "av", "onnxruntime", "openvino", "numba", "scipy", "skimage"}
    assert heavy & set(done.stdout.split()) == set()


def test_the_signals_are_ours_only_if_nobody_ignores_them() -> None:
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "sys.argv = ['livedub', '--version']\n"
        "from clients import cli\n"
        "try: cli.main()\n"
        "except SystemExit as end: print(end.code, signal.getsignal(signal.SIGHUP).name, "
        "signal.getsignal(signal.SIGTERM) is cli._stop)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 SIG_IGN True"
