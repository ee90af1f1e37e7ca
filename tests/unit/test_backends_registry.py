import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.backends import available, backend_names, default_backend, load_network
from engine.backends.openvino_cpu import decide_precision
from engine.errors import BackendError, BackendUnavailable
from tests.support import networks

MODEL = networks.gru()
REPOSITORY = Path(__file__).parents[2]


def without(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    for library in libraries:
        monkeypatch.setitem(sys.modules, library, None)


def test_all_are_available_here() -> None:
    statuses = {status.name: status for status in available()}
    assert tuple(statuses) == backend_names() == ("reference", "onnxruntime", "openvino")
    for status in statuses.values():
        assert status.available, status.detail
        assert status.version[0].isdigit()
        assert status.detail in ("auto = f32", "auto = bf16")


def test_openvino_is_preferred() -> None:
    assert default_backend() == "openvino"


def test_without_openvino_it_is_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "openvino")
    assert default_backend() == "onnxruntime"


def test_without_any_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "openvino", "onnxruntime")
    with pytest.raises(BackendUnavailable, match="pip install openvino"):
        default_backend()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    without(monkeypatch, name)
    with pytest.raises(BackendUnavailable, match=f"backend '{name}' needs: pip install '{name}"):
        load_network(MODEL, backend=name)
    status = next(status for status in available() if status.name == name)
    assert (status.available, status.version) == (False, "")
    assert f"pip install '{name}" in status.detail


@pytest.mark.parametrize("name", ["reference", "onnxruntime", "openvino"])
def test_networks_say_what_they_are(name: str) -> None:
    network = load_network(MODEL, backend=name, precision="f32")
    assert (network.name, network.precision) == (name, "f32")
    assert [(s.name, s.shape, str(s.dtype)) for s in network.inputs.values()] == [
        ("x", (1, 12), "float32"),
        ("state", (1, 16), "float32"),
    ]
    assert list(network.outputs) == ["y", "next"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "tpu"}, "unknown backend 'tpu'; known: reference, onnxruntime, openvino"),
        ({"threads": 0}, "threads = 0 must be at least 1"),
        ({"precision": "f16"}, "precision = 'f16' must be auto, f32 or bf16"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_network(MODEL, **{"backend": "onnxruntime", **arguments})


@pytest.mark.parametrize("name", ["reference", "onnxruntime"])
def test_bfloat16_is_refused_where_it_does_not_exist(name: str) -> None:
    with pytest.raises(BackendUnavailable, match=f"'{name}' offers f32, not bf16"):
        load_network(MODEL, backend=name, precision="bf16")


@pytest.mark.parametrize("name", ["reference", "onnxruntime", "openvino"])
def test_an_operator_that_does_not_exist_is_a_backend_error(name: str) -> None:
    builder = networks.GraphBuilder(0)
    builder.node("Nonsense", ["x"], "y")
    model = builder.finish({"x": (1, 2)}, {"y": (1, 2)}, check=False)
    with pytest.raises(BackendError, match=f"{name} failed while"):
        load_network(model, backend=name).run({"x": np.zeros((1, 2), np.float32)})


@pytest.mark.parametrize("name", ["reference", "onnxruntime"])
def test_a_failure_while_running_is_a_backend_error(name: str) -> None:
    builder = networks.GraphBuilder(0)
    builder.node("Add", ["a", "b"], "y")
    model = builder.finish({"a": ("A",), "b": ("B",)}, {"y": ("Y",)}, check=False)
    network = load_network(model, backend=name)
    with pytest.raises(BackendError, match=f"{name} failed while running"):
        network.run({"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)})


@pytest.mark.parametrize("name", ["reference", "onnxruntime", "openvino"])
def test_open_axes_of_one_name_have_one_length(name: str) -> None:
    network = load_network(networks.gru(batch="B"), backend=name)
    feeds = networks.feeds_for({"x": (3, 12), "state": (2, 16)})
    with pytest.raises(ValueError, match="axis B of tensor 'state' is 2 long, but 3 in 'x'"):
        network.run(feeds)


@pytest.mark.parametrize(
    ("wanted", "flags", "decided"),
    [
        ("auto", {"amx_bf16"}, "bf16"),
        ("auto", {"avx2"}, "f32"),
        ("f32", {"amx_bf16"}, "f32"),
        ("bf16", set(), "bf16"),
    ],
)
def test_openvino_computes_in_what_was_asked(wanted: Any, flags: set[str], decided: str) -> None:
    assert decide_precision(wanted, frozenset(flags)) == decided


_QUIET = """
import sys
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.fork"):
        print(event, args)
sys.addaudithook(watch)
from engine.backends import available, load_network
from tests.support.networks import feeds_for, gru
for status in available():
    load_network(gru(), backend=status.name).run(feeds_for({"x": (1, 12), "state": (1, 16)}))
print(sorted(m for m in sys.modules if m.startswith("openvino_telemetry")), "openvino" in sys.modules)
"""


def test_no_library_talks_to_the_network_or_writes_into_the_home(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _QUIET],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[] True"
    assert list(tmp_path.iterdir()) == []


def test_importing_the_backends_imports_no_library() -> None:
    program = "import sys, engine.backends; print({'onnx', 'onnxruntime', 'openvino'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "set()"
