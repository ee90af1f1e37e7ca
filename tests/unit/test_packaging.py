"""What set-up relies on: the pins cover what is required, and a wrong Python is said in one line."""

import re
import shutil
import subprocess
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.support.data import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
EXTRAS = PROJECT["optional-dependencies"]
WANTED = [Requirement(text) for text in (*PROJECT["dependencies"], *EXTRAS["train"], *EXTRAS["dev"])]


def plain(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_every_requirement_has_a_pin_within_its_range(wanted: Requirement) -> None:
    assert plain(wanted.name) in PINS
    assert wanted.specifier.contains(PINS[plain(wanted.name)])


def test_pins_are_names_and_versions_and_nothing_else() -> None:
    assert all(
        re.fullmatch(r"[a-z0-9-]+", name) and re.fullmatch(r"[0-9a-z.]+", v) for name, v in PINS.items()
    )
    assert list(PINS) == sorted(PINS)


def test_what_runs_here_is_what_is_pinned() -> None:
    here = {plain(found.metadata["Name"]): found.version.partition("+")[0] for found in distributions()}
    differing = {name: here[name] for name, pin in PINS.items() if name in here and here[name] != pin}
    assert differing == {}


def test_the_command_is_where_it_is_said_to_be() -> None:
    module, _, name = PROJECT["scripts"]["livedub"].partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))


@pytest.mark.parametrize(
    ("answer", "about"),
    [("exit 1", "needs Python 3.11 or newer"), ('case "$2" in *ensurepip*) exit 1;; esac', "python3-venv")],
)
def test_a_python_that_will_not_do_is_named_in_one_line(answer: str, about: str, tmp_path: Path) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not here")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{answer}\n")
    python.chmod(0o755)
    command = [make, "setup", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode != 0
    assert len(said) == 1
    assert about in said[0]
    assert not (tmp_path / "venv").exists()
