import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.doctor import gpu_names
from engine.backends import (
    available,
    backend_names,
    choose_precision,
    default_backend,
    load_network,
    onnxruntime_cpu,
    quantised,
    registry,
    rounded_tensors,
)
from engine.backends.cpu import cpu_info
from engine.errors import BackendError, BackendUnavailable
from tests.support import networks

MODEL = networks.gru()
UNET = networks.unet(size_px=16, widths=(8, 16))
REPOSITORY = Path(__file__).parents[2]


ON_CPU, ON_GPU = ("reference", "onnxruntime", "openvino"), ("tensorrt", "cuda-torch")


def without(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    for library in libraries:
        monkeypatch.setitem(sys.modules, library, None)


def integers_of(model: bytes) -> bytes:
    return quantised(model, np.tile(np.array([-4, 4], np.float32), (len(rounded_tensors(model)), 1)))


def test_all_are_available_here() -> None:
    statuses = {status.name: status for status in available()}
    assert tuple(statuses) == backend_names() == (*ON_CPU, *ON_GPU)
    for status in (statuses[name] for name in ON_CPU):
        assert status.available, status.detail
        assert status.version[0].isdigit()
        assert status.detail.startswith("auto = ")


AMX, VNNI, OLD = {"amx_bf16", "avx512_vnni"}, {"avx512_vnni"}, {"avx2"}
INT8 = "auto = int8 (f32 for an actor pack without its ranges)"


@pytest.mark.parametrize(
    ("flags", "details"),
    [
        (AMX, ["auto = f32", INT8, "auto = bf16"]),
        (VNNI, ["auto = f32", INT8, INT8]),
        (OLD, ["auto = f32", "auto = f32", "auto = f32"]),
    ],
)
def test_what_auto_means_is_said(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], details: list[str]
) -> None:
    monkeypatch.setattr(registry, "cpu_info", lambda: ("", frozenset(flags)))
    assert [status.detail for status in available() if status.name in ON_CPU] == details
    precisions = {status.name: status.precisions for status in available()}
    assert precisions == {
        "reference": ("f32", "int8"),
        "onnxruntime": ("f32", "int8"),
        "openvino": ("f32", "bf16", "int8"),
        "tensorrt": ("f16", "bf16", "f32"),
        "cuda-torch": ("f16", "f32"),
    }


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
        ({"precision": "f8"}, "precision = 'f8' must be one of auto, f32, bf16, f16, int8"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_network(MODEL, **{"backend": "onnxruntime", **arguments})


@pytest.mark.parametrize("name", ["reference", "onnxruntime"])
def test_bfloat16_is_refused_where_it_does_not_exist(name: str) -> None:
    with pytest.raises(BackendUnavailable, match=f"'{name}' offers f32 and int8, not bf16"):
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
    ("backend", "wanted", "integers", "flags", "chosen"),
    [
        ("openvino", "auto", True, AMX, "bf16"),
        ("openvino", "auto", True, VNNI, "int8"),
        ("openvino", "auto", False, VNNI, "f32"),
        ("openvino", "auto", True, OLD, "f32"),
        ("openvino", "f32", True, AMX, "f32"),
        ("openvino", "bf16", True, OLD, "bf16"),
        ("openvino", "int8", False, OLD, "int8"),
        ("onnxruntime", "auto", True, AMX, "int8"),
        ("onnxruntime", "auto", False, AMX, "f32"),
        ("reference", "auto", True, AMX, "f32"),
        ("reference", "int8", True, OLD, "int8"),
        ("tensorrt", "auto", True, AMX, "f16"),
        ("cuda-torch", "auto", False, OLD, "f16"),
        ("tensorrt", "bf16", True, OLD, "bf16"),
    ],
)
def test_the_choice_of_a_precision(
    monkeypatch: pytest.MonkeyPatch, backend: str, wanted: Any, integers: bool, flags: set[str], chosen: str
) -> None:
    monkeypatch.setattr(registry, "cpu_info", lambda: ("", frozenset(flags)))
    assert choose_precision(backend, wanted, integers=integers) == chosen


def test_a_choice_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="unknown backend 'tpu'"):
        choose_precision("tpu", integers=False)
    with pytest.raises(
        BackendUnavailable, match="'onnxruntime' offers f32 and int8, not bf16; use openvino or"
    ):
        choose_precision("onnxruntime", "bf16", integers=True)
    with pytest.raises(BackendUnavailable, match="'tensorrt' offers f16 and bf16 and f32, not int8; use"):
        load_network(integers_of(UNET), backend="tensorrt")


@pytest.mark.skipif(bool(gpu_names()), reason="this machine has a GPU")
@pytest.mark.parametrize("name", ON_GPU)
def test_without_a_gpu_its_backends_say_so(name: str) -> None:
    status = next(status for status in available() if status.name == name)
    assert (status.available, status.version) == (False, "")
    assert "an NVIDIA GPU" in status.detail
    with pytest.raises(BackendUnavailable, match="an NVIDIA GPU"):
        load_network(MODEL, backend=name)


def test_integers_that_would_be_clipped_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_cpu, "cpu_info", lambda: ("", frozenset({"sse2", "avx2"})))
    with pytest.raises(BackendUnavailable, match="'onnxruntime' needs a CPU with VNNI for int8"):
        load_network(integers_of(UNET), backend="onnxruntime")


@pytest.mark.parametrize(
    ("flags", "exact"), [(set(), True), ({"sse2", "avx2"}, False), ({"sse2", "avx_vnni"}, True)]
)
def test_which_cpus_clip_integers(flags: set[str], exact: bool) -> None:
    assert onnxruntime_cpu.adds_integers_exactly(frozenset(flags)) == exact


@pytest.mark.parametrize("name", ["reference", "onnxruntime", "openvino"])
def test_a_graph_of_integers_is_int8_and_nothing_else(name: str) -> None:
    integers = integers_of(UNET)
    if name == "onnxruntime" and not onnxruntime_cpu.adds_integers_exactly(cpu_info()[1]):
        pytest.skip("this CPU has no VNNI")
    assert load_network(integers, backend=name).precision == "int8"
    assert load_network(integers, backend=name, precision="int8").precision == "int8"
    with pytest.raises(ValueError, match="one of integers, which precision = 'f32' is not for"):
        load_network(integers, backend=name, precision="f32")
    with pytest.raises(ValueError, match="one of floats, which precision = 'int8' is not for"):
        load_network(UNET, backend=name, precision="int8")


_QUIET = """
import sys
def watch(event, args):
    if event == "subprocess.Popen" and str(args[0]).endswith("/ldconfig"):
        return  # where NVIDIA's driver lies, cuda.pathfinder asks the system
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.fork"):
        print(event, args)
sys.addaudithook(watch)
from engine.backends import available, load_network
from tests.support.networks import feeds_for, gru
for status in available():
    if not status.available:
        continue
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
    libraries = {"onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cuda", "torch", "msgspec"}
    program = f"import sys, engine.backends; print({libraries} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "set()"
