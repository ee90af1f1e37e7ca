import io
import logging
import os
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from rich.table import Table

from clients.console import Console, PlainProgress, check_place, encode_report, summary, write_report
from engine.errors import OutputError


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_plain_progress_is_silent_at_first_and_then_now_and_again() -> None:
    lines: list[str] = []
    clock = Clock()
    tell = PlainProgress(lines.append, clock)
    for second in range(31):
        clock.now_s = float(second)
        tell("tracking", second, 40 if second < 20 else None)
    assert lines == ["... tracking: 2 of 40 (5 %)", "... tracking: 12 of 40 (30 %)", "... tracking: 22"]


def test_progress_of_a_pipe_goes_to_stderr_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Console(clock_s=clock).progress() as tell:
        clock.now_s = 5.0
        tell("cropping", 1, 4)
    assert capsys.readouterr() == ("", "... cropping: 1 of 4 (25 %)\n")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_a_bar_that_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with Console().progress() as tell:
        tell("tracking", 1, None)
        tell("learning", 1, 2)
        tell("learning", 2, 2)
    assert "learning" in screen.getvalue()
    assert "100%" in screen.getvalue()


def test_our_warnings_are_lines_and_others_are_not_ours(capsys: pytest.CaptureFixture[str]) -> None:
    with Console():
        logging.getLogger("engine.face").warning("dim light")
        logging.getLogger("engine.face").info("more than anybody asked for")
        logging.getLogger("numba.core").warning("of no use to anybody")
    logging.getLogger("engine.face").warning("after the end")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "livedub: WARNING: dim light"
    assert all("anybody" not in line for line in lines)


def test_verbose_shows_logs_and_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger().level
    with Console() as console:
        console.be_verbose()
        logging.getLogger("clients.dub").debug("frame 1")
        console.fail(ValueError("odd"), "odd\nthing")
    err = capsys.readouterr().err
    assert "livedub: DEBUG: frame 1" in err
    assert "ValueError: odd" in err
    assert err.endswith("livedub: odd thing\n")
    assert logging.getLogger().level == level


def test_a_failure_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Console().fail(ValueError("odd"), "two\n  lines ")
    assert capsys.readouterr() == ("", "livedub: two lines\n")


class Nested(msgspec.Struct):
    psnr_db: float | None


class Report(msgspec.Struct):
    frames: int
    after: Nested
    notes: tuple[str, ...] = ("one", "two")
    unit: ClassVar[str] = "dB"


def test_results_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.result("a line")
    console.result(summary(Report(3, Nested(None))))
    out, err = capsys.readouterr()
    assert out.startswith("a line\n")
    assert "after.psnr_db" in out
    assert err == ""


def test_a_summary_has_a_row_for_each_number() -> None:
    table = summary(Report(3, Nested(33.123456)))
    assert isinstance(table, Table)
    cells = [list(column.cells) for column in table.columns]
    assert cells == [["frames", "after.psnr_db", "notes"], ["3", "33.12", "one\ntwo"]]


def test_reports_are_json_with_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = encode_report(Report(3, Nested(None)))
    path = tmp_path / "r.json"
    write_report(path, data)
    assert msgspec.json.decode(path.read_bytes()) == {
        "frames": 3,
        "after": {"psnr_db": None},
        "notes": ["one", "two"],
    }
    assert path.read_bytes().endswith(b"}\n")
    write_report(Path("-"), data)
    assert capsys.readouterr().out.encode() == data
    assert os.listdir(tmp_path) == ["r.json"]


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "full"
    target.mkdir()
    (target / "something").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(target, b"{}")
    with pytest.raises(OutputError, match="cannot be written: No such file"):
        write_report(tmp_path / "absent" / "r.json", b"{}")
    assert os.listdir(tmp_path) == ["full"]


def test_a_report_in_the_middle_of_which_we_are_stopped_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path / "r.json", b"{}")
    assert os.listdir(tmp_path) == []


def test_places_are_checked_before_the_work(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.touch()
    (tmp_path / "link.mp4").symlink_to(video)
    check_place(Path("-"))
    check_place(tmp_path / "new.mp4", video)
    for place, about in (
        (tmp_path, "is a folder"),
        (tmp_path / "absent" / "x", "there is no folder"),
        (video / "x", "there is no folder"),
        (tmp_path / "link.mp4", "is the input"),
    ):
        with pytest.raises(OutputError, match=about):
            check_place(place, video)
