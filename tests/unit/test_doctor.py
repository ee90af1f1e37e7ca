import os
import stat
from pathlib import Path

import pytest

from clients import doctor
from clients.doctor import Finding, as_report, as_table, can_dub, examine, gpu_names, verdict
from engine.backends import available

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
