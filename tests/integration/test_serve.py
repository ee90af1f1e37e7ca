"""`livedub serve` as a person starts it and ends it."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.support.cli import LAUNCH
from tests.support.live_sessions import actors_in

SETTINGS = "[server]\nport = 0\n[actors]\nfolder = 'actors'\n[sessions]\nmeasure = false\nmost = 2\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_the_page_until_it_is_told_to_end(number: signal.Signals, tmp_path: Path) -> None:
    actors_in(tmp_path / "actors")
    (tmp_path / "livedub.toml").write_text(SETTINGS)
    argv = [sys.executable, "-c", LAUNCH, "serve", "--config", str(tmp_path / "livedub.toml")]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            found = re.search(r"The live page is at (http://127\.0\.0\.1:\d+)/", line)
            if found:
                break
        else:
            pytest.fail("".join(lines))
        url = found[1]
        with urlopen(url + "/") as answer:
            assert b"<html" in answer.read()
        with urlopen(url + "/v1/actors") as answer:
            known = json.load(answer)
        assert [actor["name"] for actor in known["actors"]] == ["ann"]
        assert (known["enrol"], known["speak"]) == (True, True)
        with urlopen(url + "/readyz") as answer:
            assert answer.status == 200
        with urlopen(Request(url + "/v1/sessions/none", method="DELETE")) as answer:
            assert answer.status == 204
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(30) == 0, rest
        assert "Traceback" not in rest
        assert "The server has ended." in rest
        assert process.stdout.read() == ""
