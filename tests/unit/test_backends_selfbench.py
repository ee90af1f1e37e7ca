import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backends import Precision, choose_precision, openvino_cpu, registry, selfbench
from engine.backends.selfbench import WORTH, Machine, decide, load, store

ALL: tuple[Precision, ...] = ("f32", "bf16", "int8")
FLOATS: tuple[Precision, ...] = ("f32", "bf16")
CLAIMS_ALL = frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16"})
CLAIMS_NOTHING = frozenset({"avx2"})
MACHINE = Machine("Some CPU", CLAIMS_ALL, "openvino", "1.2", "abc")
TIMES: dict[Precision, float] = {"f32": 40.0, "bf16": 200.0, "int8": 18.5}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("flags", "offered", "ms", "precision"),
    [
        # bf16 is claimed, and emulated
        (CLAIMS_ALL, ALL, {"f32": 40.0, "bf16": 200.0, "int8": 18.0}, "int8"),
        (CLAIMS_ALL, FLOATS, {"f32": 40.0, "bf16": 200.0, "int8": 18.0}, "f32"),
        # neither is what the flags promise
        (CLAIMS_ALL, ALL, {"f32": 40.0, "bf16": 200.0, "int8": 90.0}, "f32"),
        # more than the flags promise
        (CLAIMS_NOTHING, ALL, {"f32": 40.0, "bf16": 20.0, "int8": 45.0}, "bf16"),
        # a precision that could not be run
        (CLAIMS_ALL, ALL, {"f32": 40.0, "int8": 18.0}, "int8"),
        (CLAIMS_ALL, ALL, {"f32": 40.0}, "f32"),
        # nearly as fast: the finer one
        (CLAIMS_ALL, ALL, {"f32": 40.0, "bf16": 9.6, "int8": 8.7}, "bf16"),
        (CLAIMS_ALL, ALL, {"f32": 9.9, "bf16": 9.6, "int8": 8.7}, "f32"),
        # nothing was measured: the flags
        (CLAIMS_ALL, ALL, None, "bf16"),
        (CLAIMS_ALL, ALL, {}, "bf16"),
        (CLAIMS_NOTHING, ALL, None, "f32"),
        (CLAIMS_ALL, ("f32",), {"bf16": 9.0}, "f32"),
    ],
)
def test_what_was_measured_decides_and_flags_only_without_it(
    flags: frozenset[str], offered: tuple[Precision, ...], ms: dict[Precision, float] | None, precision: str
) -> None:
    assert decide(flags, offered, ms) == precision


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from(ALL), st.floats(0.01, 1e4), min_size=1))
def test_no_choice_is_much_slower_than_the_fastest(ms: dict[Precision, float]) -> None:
    assert ms[decide(CLAIMS_ALL, ALL, ms)] <= WORTH * min(ms.values())


def test_a_measurement_is_found_again(cache: Path) -> None:
    assert load(MACHINE) is None
    path = store(MACHINE, TIMES)
    assert path.parent == cache / "precision"
    assert load(MACHINE) == TIMES
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "other",
    [
        Machine("Another CPU", CLAIMS_ALL, "openvino", "1.2", "abc"),
        Machine("Some CPU", CLAIMS_NOTHING, "openvino", "1.2", "abc"),
        Machine("Some CPU", CLAIMS_ALL, "onnxruntime", "1.2", "abc"),
        Machine("Some CPU", CLAIMS_ALL, "openvino", "1.3", "abc"),
        Machine("Some CPU", CLAIMS_ALL, "openvino", "1.2", "abd"),
    ],
)
def test_another_machine_library_or_network_is_measured_anew(other: Machine) -> None:
    data = store(MACHINE, TIMES).read_bytes()
    assert load(other) is None
    assert other.decode(data) is None
    assert MACHINE.decode(data) == TIMES


def changed(**fields: object) -> bytes:
    return json.dumps(json.loads(MACHINE.encode(TIMES)) | fields).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"[" * 100_000,
        MACHINE.encode(TIMES)[:-20],
        changed(format=2),
        changed(machine="Some CPU"),
        changed(cpu_ms_per_frame=[1.0]),
        changed(cpu_ms_per_frame={"f64": 1.0}),
        changed(cpu_ms_per_frame={"f32": "fast"}),
        changed(cpu_ms_per_frame={"f32": True}),
        changed(cpu_ms_per_frame={"f32": 0.0}),
        changed(cpu_ms_per_frame={"f32": float("nan")}),
        changed(cpu_ms_per_frame={"f32": float("inf")}),
    ],
)
def test_a_damaged_measurement_is_none(data: bytes) -> None:
    store(MACHINE, TIMES).write_bytes(data)
    assert load(MACHINE) is None


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    assert MACHINE.decode(data) is None


def test_a_folder_that_cannot_be_written_is_left_as_it_was(cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(OSError, match="cache"):
        store(MACHINE, TIMES)
    assert load(MACHINE) is None


@pytest.mark.parametrize(("integers", "chosen"), [(True, "int8"), (False, "f32")])
def test_auto_heeds_what_was_measured(monkeypatch: pytest.MonkeyPatch, integers: bool, chosen: str) -> None:
    monkeypatch.setattr(registry, "cpu_info", lambda: ("Some CPU", CLAIMS_ALL))
    assert choose_precision("openvino", integers=integers) == "bf16"
    machine = selfbench.machine_of(("Some CPU", CLAIMS_ALL), "openvino", openvino_cpu.version())
    store(machine, TIMES)
    assert choose_precision("openvino", integers=integers) == chosen
    assert choose_precision("openvino", "bf16", integers=integers) == "bf16"
    assert choose_precision("reference", integers=integers) == "f32"
