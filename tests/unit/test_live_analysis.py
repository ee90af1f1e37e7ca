import msgspec
import numpy as np
import pytest

from benchmarks.live.analysis import Seen, Sent, analyse, captured_ms

SENT = Sent(start_ms=1000.0, frame_ms=40.0, round_frames=250)


def _seen(
    late_ms: float, *, audio_late_ms: float = 0.0, missing: range = range(0), count: int = 1000
) -> Seen:
    frames = [
        (k % 250, 1000 + 40 * k + late_ms, 1000 + 40 * k + late_ms + 16, 1280, 720)
        for k in range(count)
        if k not in missing
    ]
    beeps = [1000 + 1000 * s + late_ms + 16 + audio_late_ms for s in range(count // 25)]
    stats = [{"at": 1000.0 * s, "video": {"bytesReceived": 250_000 * s}} for s in range(count // 25)]
    return Seen(frames, beeps, stats, None, frames[0][1] - 300, frames[0][1] - 200, "connected")


def test_latency_and_skew_come_back() -> None:
    viewed = analyse(_seen(137.0, audio_late_ms=25.0), SENT, warm_up_ms=2000, per_second=25)
    assert viewed.glass_ms == pytest.approx(np.full(len(viewed.glass_ms), 137.0))
    assert viewed.display_ms == pytest.approx(np.full(len(viewed.glass_ms), 153.0))
    assert viewed.skew_ms == pytest.approx(np.full(len(viewed.skew_ms), -25.0))
    assert len(viewed.skew_ms) > 30
    assert viewed.shown == viewed.expected
    assert (viewed.freezes, viewed.frozen_ms) == (0, 0)
    assert viewed.first_frame_ms == pytest.approx(300)
    assert viewed.kbit_s == pytest.approx(2000)


def test_a_gap_is_a_freeze_and_its_frames_are_missed() -> None:
    viewed = analyse(_seen(100.0, missing=range(500, 510)), SENT, warm_up_ms=0, per_second=25)
    assert viewed.freezes == 1
    assert viewed.frozen_ms == pytest.approx(440)
    assert viewed.expected - viewed.shown == 10


def test_one_dropped_frame_is_no_freeze() -> None:
    assert analyse(_seen(100.0, missing=range(500, 501)), SENT, warm_up_ms=0, per_second=25).freezes == 0


@pytest.mark.parametrize("late_ms", [10.0, 200.0, 5000.0])
def test_a_number_belongs_to_the_latest_round_that_could_be(late_ms: float) -> None:
    for k in (0, 249, 250, 5003):
        assert captured_ms(SENT, k % 250, 1000 + 40 * k + late_ms) == 1000 + 40 * k


def test_nothing_seen_is_an_error_in_words() -> None:
    with pytest.raises(ValueError, match="saw no frame"):
        analyse(Seen([], [], [], "TypeError: x", 0, 0, "failed"), SENT, warm_up_ms=0, per_second=25)


def test_what_the_output_adds_counts() -> None:
    seen = _seen(250, audio_late_ms=-30)
    louder = msgspec.structs.replace(seen, output_ms=30.0)
    assert np.median(analyse(seen, SENT, warm_up_ms=0, per_second=25).skew_ms) == pytest.approx(30)
    assert np.median(analyse(louder, SENT, warm_up_ms=0, per_second=25).skew_ms) == pytest.approx(0)
