import os
import stat
import sys
from pathlib import Path

import pytest

from clients import doctor
from clients.doctor import (
    Finding,
    as_report,
    as_table,
    can_dub,
    examine,
    fit_in_words,
    gpu_names,
    precision_in_words,
    verdict,
)
from clients.measure_cpu import Measured
from engine.backends import Precision, available
from engine.backends.selfbench import Machine

OK, OPTIONAL = Finding("a", "ok", "1"), Finding("b", "optional", "not installed", "pip install b")
MISSING = Finding("c", "missing", "does not work", "reinstall")


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    named = {finding.what: finding for finding in findings}
    assert len(named) == len(findings)
    return named


def test_only_what_a_dub_needs_decides() -> None:
    assert can_dub([OK, OPTIONAL])
    assert not can_dub([OK, MISSING])
    assert verdict([OK, OPTIONAL]) == "This machine can dub."
    assert verdict([MISSING, OK]) == "This machine cannot dub yet: c."


def test_findings_for_people_and_programs() -> None:
    assert as_table([OK, OPTIONAL, MISSING]).row_count == 3
    assert as_report([OK, MISSING]) == {"can_dub": False, "findings": [OK, MISSING]}


def test_every_part_is_looked_at() -> None:
    found = by_name(examine())
    assert {"python", "platform", "cpu", "media (PyAV)", "face tracking", "torch", "gpu", "disk"} <= set(
        found
    )
    assert {f"backend {status.name}" for status in available()} <= set(found)
    assert found["python"].state == "ok"
    assert "libavcodec" in found["media (PyAV)"].detail
    assert found["face model"].state == "ok"
    assert all(finding.advice for finding in found.values() if finding.state != "ok")


AMX, OLD = frozenset({"amx_bf16", "avx512_vnni"}), frozenset({"avx2"})


def measured(flags: frozenset[str], *, kept: bool = True, **ms: float) -> Measured:
    times: dict[Precision, float] = {name: ms[name] for name in ("f32", "bf16", "int8") if name in ms}
    return Measured(Machine("Some CPU", flags, "openvino", "1", "abc"), times, kept)


def test_the_choice_of_a_precision_is_explained() -> None:
    found = by_name(examine())
    assert found["precision"].state == "ok"
    assert "flags promise" in found["precision"].detail
    assert set(found["precision"].numbers or {}) >= {"f32", "bf16"}
    assert "a frame has 40 ms" in found["25 fps"].detail
    assert found["threads"].detail.startswith("one for the network")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            measured(AMX, f32=41.7, bf16=8.4, int8=9.3),
            "flags promise bf16; measured, ms of CPU a frame on one thread of openvino:"
            " f32 41.7, bf16 8.4, int8 9.3; used: bf16",
        ),
        (
            measured(AMX, f32=40, bf16=200, int8=18),
            "flags promise bf16; the measurement counts; measured, ms of CPU a frame on one thread of"
            " openvino: f32 40.0, bf16 200.0, int8 18.0; used: int8"
            " (f32 for an actor pack without its ranges)",
        ),
        (
            measured(OLD, f32=70, kept=False),
            "flags promise f32; measured, ms of CPU a frame on one thread of openvino: f32 70.0; used: f32;"
            " cannot be kept, so every start measures anew",
        ),
    ],
)
def test_flags_and_measurement_are_set_side_by_side(what: Measured, words: str) -> None:
    assert precision_in_words(what) == words


def test_what_fits_a_core() -> None:
    state, text, advice = fit_in_words(measured(AMX, f32=40, bf16=8))
    assert (state, advice) == ("ok", "")
    assert "the network in bf16 about 10" in text
    assert "1.9 times as large" in text
    state, text, advice = fit_in_words(measured(OLD, f32=40))
    assert state == "optional"
    assert text.startswith("a live face does not fit a core")
    assert "AMX" in advice


def test_a_machine_without_a_library_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, library, None)
    found = by_name(examine())
    assert found["precision"].state == "optional"
    assert "no inference library" in found["precision"].detail
    assert "25 fps" not in found


def test_missing_models_are_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path))
    found = by_name(examine())
    assert found["model face_landmarker"].state == "missing"
    assert "livedub doctor --fetch" in found["model face_landmarker"].advice
    assert found["model perceptual_alex"].state == "optional"
    assert found["face tracking"].state == "missing"


def test_an_asset_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.expression.audio.ASSET", "absent.onnx")
    finding = by_name(examine())["audio to expression"]
    assert finding.state == "missing"
    assert "reinstall" in finding.advice


def test_too_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MIN_FREE_GB", 1e9)
    finding = by_name(examine())["disk"]
    assert finding.state == "missing"
    assert "LIVEDUB_CACHE" in finding.advice


def fake_tool(folder: Path, script: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("echo 'NVIDIA H200, 143771 MiB, 580.1'; echo", ["NVIDIA H200, 143771 MiB, 580.1"]),
        ("exit 9", []),
        ("exec sleep 60", []),
        ("", []),
    ],
)
def test_the_driver_is_asked(
    script: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tool(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(doctor, "NVIDIA_LIMIT_S", 0.5)
    assert gpu_names() == names


def test_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_names() == []
    assert by_name(examine())["gpu"].state == "optional"
