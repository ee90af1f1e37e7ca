"""What holds for every test: one thread, no telemetry, equal random numbers. The header says what is here."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is loaded
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import random
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import hypothesis
import numpy as np
import pytest

from clients.doctor import gpu_names
from engine.models import statuses
from tests.support.data import ROOT

REQUIRE_CUDA = os.environ.get("LIVEDUB_REQUIRE_CUDA") == "1"

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _random_numbers_are_restored() -> Iterator[None]:
    """No test depends on which ran before it, or moves the numbers of the next one."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  the global one is what must not leak
    torch = sys.modules.get("torch")
    others = torch.get_rng_state() if torch else None
    yield
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    if torch:
        torch.set_rng_state(others)


def pytest_report_header() -> list[str]:
    models = ", ".join(f"{status.model.name} {status.state}" for status in statuses())
    data = os.environ.get("LIVEDUB_DATA") or ROOT.parent / "shared" / "data"
    footage = "there" if os.path.isdir(data) else "not here (set LIVEDUB_DATA)"
    assets = sorted(path.name for path in (ROOT / "engine" / "assets").iterdir() if path.suffix != ".py")
    return [
        f"models: {models}",
        f"development footage: {footage}; torch: {'there' if find_spec('torch') else 'not here'}",
        f"gpu: {'; '.join(gpu_names()) or 'none'}{' (required)' if REQUIRE_CUDA else ''}",
        f"assets: {', '.join(assets)}",
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a GPU its tests skip, unless the machine is said to have one: then they fail."""
    marked = [item for item in items if "gpu" in item.keywords]
    if not marked or REQUIRE_CUDA or gpu_names():
        return
    for item in marked:
        item.add_marker(
            pytest.mark.skip(reason="no CUDA device here (LIVEDUB_REQUIRE_CUDA=1 makes this a failure)")
        )
