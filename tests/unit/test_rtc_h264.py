"""NAL units to RTP payloads: whole, bounded, and as aiortc's receiver reads them."""

import numpy as np
import pytest
from aiortc.codecs.h264 import h264_depayload
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.rtc import h264

unit_sizes = st.lists(st.integers(1, 5000), min_size=1, max_size=12)


def units(sizes: list[int]) -> list[bytes]:
    """NAL units without a start code inside and without zeros at the end, as encoders make them."""
    rng = np.random.default_rng(sum(sizes))
    kinds = (0x67, 0x68, 0x65, 0x41, 0x06)
    return [
        bytes([kinds[i % 5]]) + rng.integers(1, 256, size, dtype=np.uint8).tobytes()
        for i, size in enumerate(sizes)
    ]


def annex_b(parts: list[bytes]) -> bytes:
    return b"".join((b"\0\0\0\1" if i % 2 == 0 else b"\0\0\1") + part for i, part in enumerate(parts))


@settings(deadline=None, max_examples=50)
@given(sizes=unit_sizes, limit=st.integers(200, 1400))
def test_a_receiver_puts_the_same_units_together(sizes: list[int], limit: int) -> None:
    made = units(sizes)
    cut = h264.payloads(annex_b(made), limit)
    assert max(map(len, cut)) <= limit
    assert list(h264.nal_units(b"".join(h264_depayload(payload) for payload in cut))) == made


def test_a_large_unit_is_cut_into_nearly_equal_pieces() -> None:
    cut = h264.payloads(annex_b(units([3600])), 1200)
    assert len(cut) == 4
    assert max(map(len, cut)) - min(map(len, cut)) <= 1
    assert [payload[1] & 0xC0 for payload in cut] == [0x80, 0, 0, 0x40]


def test_small_units_share_a_packet() -> None:
    cut = h264.payloads(annex_b(units([20, 5, 900, 900])), 1200)
    assert [payload[0] & 0x1F for payload in cut] == [24, 0x41 & 0x1F]


def test_what_holds_no_unit_gives_no_payload() -> None:
    assert h264.payloads(b"") == ()
    assert h264.payloads(b"\0\0\0\0") == ()


@pytest.mark.parametrize("size", [1195, 1196, 1197, 1198, 1199, 1200])
def test_sizes_around_the_limit(size: int) -> None:
    made = units([size, 3])
    cut = h264.payloads(annex_b(made), 1200)
    assert max(map(len, cut)) <= 1200
    assert list(h264.nal_units(b"".join(map(h264_depayload, cut)))) == made
