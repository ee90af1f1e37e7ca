"""The actor that nobody is, in whose frames a machine's capacity is measured."""

import pytest

from engine.backends import registry, selfbench
from engine.painting import open_painter
from streaming.worker.actor import made_up_pack


@pytest.mark.parametrize(
    ("flags", "precision"),
    [({"avx512_vnni"}, "int8"), ({"amx_bf16", "avx512_vnni"}, "bf16"), (set(), "f32")],
)
def test_it_is_drawn_in_what_sessions_will_use(
    flags: set[str], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(registry, "cpu_info", lambda: ("some CPU", frozenset(flags)))
    monkeypatch.setattr(selfbench, "load", lambda machine: None)
    painter = open_painter(made_up_pack())
    painter.close()
    assert painter.name == f"openvino {precision}"
