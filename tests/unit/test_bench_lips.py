"""The suite `lips`: its rows, its numbers in words, and its pictures, on made-up people."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from benchmarks import bench_lips, lips_plots, lips_rows
from benchmarks.common import Settings
from benchmarks.lips_schema import FootageRow, ForeignRow, LipStudy, SilenceRow, SpeechRow, StyleRow, Trace
from benchmarks.lips_styles import style_rows
from benchmarks.lips_summary import bars_of, mean_of, pooled, results_of, style_text, sync_ratio, text_of
from benchmarks.machine import describe_machine
from benchmarks.runner import SUITES
from engine.expression.audio import LOOK_AHEADS_MS
from export.sync_net import SyncMeasure
from export.training_set import PackedClip, pack_mels
from tests.support.toy_set import toy_packed
from tests.unit.test_sync_net import Echo

LARGEST_PICTURE = 150_000


def footage(clip: str, look_ahead_ms: int, **changes: float | str | None) -> FootageRow:
    values: dict[str, object] = {
        "clip": clip,
        "identity": clip[0],
        "language": "en",
        "look_ahead_ms": look_ahead_ms,
        "seconds": 5.0,
        "correlation": 0.7,
        "lag_ms": -10.0,
        "correlation_at_lag": 0.72,
        "range_ratio": 0.9,
        "speed_ratio": 0.9,
        "lve_mm": 4.0,
        "lve_centred_mm": 3.0,
        "closures": 6,
        "recall": 0.9,
        "precision": 0.8,
        "silence_s": 0.0,
        "silence_speed_mm_s": None,
        "silence_speed_real_mm_s": None,
        "wrong_correlation": -0.1,
        "sync_confidence": 9.0,
        "sync_real": 10.0,
        "sync_hits": 1.0,
        "sync_hits_real": 1.0,
        "sync_offset_ms": 0.0,
    }
    return msgspec.convert(values | changes, FootageRow)


def style_row(who: str, own: float, others: float, better: float = 1.0) -> StyleRow:
    return StyleRow(
        clip=f"{who}1",
        identity=who,
        found_in=f"{who}2",
        seconds=5.0,
        error_average=0.1,
        error_own=0.1 * own,
        error_others=0.1 * others,
        better=better,
    )


def study(*rows: FootageRow, traces: int = 3) -> LipStudy:
    curve: list[float | None] = [*np.sin(np.arange(499) / 20).tolist(), None]
    shown = [
        Trace(clip=f"c{i}", start_s=1.0, correlation=i / 3, real=curve, said=curve) for i in range(traces)
    ]
    speech = [
        SpeechRow(
            name="s",
            language=language,
            synthetic=True,
            look_ahead_ms=one,
            wanted=10,
            kept=kept,
            made=8,
            right=4,
        )
        for language, kept in (("en", 10), ("de", 5))
        for one in LOOK_AHEADS_MS
    ]
    foreign = [
        ForeignRow(name=name, language=name, look_ahead_ms=120, sync_confidence=value, sync_hits=1.0)
        for name, value in (("en", 8.0), ("fr", 6.0))
    ]
    silence = [
        SilenceRow(kind="hum", look_ahead_ms=one, gated=gated, speed_mm_s=1.0, widest_cm=0.1)
        for one in LOOK_AHEADS_MS
        for gated in (False, True)
    ]
    return LipStudy(
        metadata=describe_machine(datetime.now(UTC)),
        model="shipped",
        real_silence_mm_s=8.0,
        real_silence_s=30.0,
        footage=list(rows),
        speech=speech,
        foreign=foreign,
        silence=silence,
        traces=shown,
        styles=[style_row("a", 0.9, 1.1), style_row("b", 1.02, 1.0, 0.5)],
    )


def talker(identity: str = "eve", split: str = "dev", seconds: float = 5.0) -> PackedClip:
    packed = toy_packed(identity, split, frames=round(25 * seconds))
    mels = np.random.default_rng(1).normal(-4, 2, (round(100 * seconds), 80)).astype(np.float32)
    mels[200:260] = -13.8
    return replace(packed, mels=pack_mels(mels))


def test_people_weigh_the_same() -> None:
    rows = [footage("a1", 120, correlation=1.0), footage("a2", 120, correlation=0.0), footage("b1", 120)]
    assert mean_of(study(*rows), "correlation", 120) == pytest.approx((0.5 + 0.7) / 2)
    assert mean_of(study(*rows), "correlation", 60) is None
    assert mean_of(study(footage("a", 120, lag_ms=None)), "lag_ms", 120) is None


def test_ratios_and_pools() -> None:
    assert sync_ratio(study(footage("a", 120)), 120) == pytest.approx(0.9)
    assert sync_ratio(study(), 120) is None
    rows = study().speech
    assert pooled(row for row in rows if row.look_ahead_ms == 0) == (0.75, 0.5)
    assert pooled([]) == (None, None)


def test_bars_say_what_is_held_and_missed() -> None:
    rows = [footage("a", one, correlation=0.5 if one == 0 else 0.7) for one in LOOK_AHEADS_MS]
    bars = {(bar.what, bar.at_least): bar for bar in bars_of(study(*rows))}
    assert bars["correlation of opening, 120 ms", True].held
    assert bars["0 ms's over that", True].held is False
    assert bars["largest mean lag of any look-ahead, ms", False].measured == 10
    assert bars["p b m closed, 120 ms", True].measured == 0.75
    assert bars["p b m closed, other languages over English", True].measured == 0.5
    assert bars["sync measure on recordings, other languages over English", True].measured == 0.75
    assert bars["lip speed in pauses over real people's in silence", False].held is None


def test_results_and_text() -> None:
    whole = study(*(footage("a", one, language=name) for one in LOOK_AHEADS_MS for name in ("en", "pl")))
    results = {result.name: result for result in results_of(whole)}
    assert results["lag_ms 120 ms"].p50 == 10
    assert results["recall p b m 0 ms"].max == 1
    text = text_of(whole)
    for part in (
        "p b m recall, de",
        "correlation, pl",
        "sync on recordings, fr",
        "mm/s, hum, gated",
        "8.0 mm/s",
    ):
        assert part in text


def test_pictures_are_small(tmp_path: Path) -> None:
    whole = study(*(footage(clip, one) for one in LOOK_AHEADS_MS for clip in ("a", "b")))
    bench_lips.write(whole, tmp_path)
    for name in ("lips.png", "lips_traces.png", "lips_styles.png"):
        assert (tmp_path / name).stat().st_size < LARGEST_PICTURE
        picture = cv2.imread(str(tmp_path / name))
        assert picture is not None
        assert picture.std() > 5
    again = msgspec.json.decode((tmp_path / "lips.json").read_bytes(), type=LipStudy)
    assert again == whole


def test_own_ways_of_speaking_are_held_against_others() -> None:
    whole = study(footage("a", 120))
    bar = {one.what: one for one in bars_of(whole)}["people whose own way of speaking beats others'"]
    assert (bar.measured, bar.held) == (0.5, False)
    lines = style_text(whole.styles).splitlines()
    assert lines[1] == "  a: own 0.900, others 1.100, beats 100 % of them"
    assert lines[3] == "  mean: own 0.960, others 1.050, beats 75 % of them"
    assert lines[4].endswith("on 1 of 2 pieces of speech")
    assert style_text([]).count("\n") == 0


def test_a_persons_way_is_found_in_another_clip_or_in_the_other_half() -> None:
    clips = [talker("eve", seconds=3.0), talker("eve", seconds=2.6), talker("joe", seconds=3.0)]
    rows = list(style_rows(clips))
    assert [(row.clip, row.identity, row.found_in) for row in rows] == [
        ("eve_dev", "eve", "eve_dev"),
        ("eve_dev", "eve", "eve_dev"),
        ("joe_dev, second half", "joe", "first half"),
        ("joe_dev, first half", "joe", "second half"),
    ]
    assert rows[0].seconds < rows[1].seconds
    assert all(0 <= row.better <= 1 and row.error_own > 0 for row in rows)


def test_one_person_has_nobody_to_be_compared_with() -> None:
    lines: list[str] = []
    assert bench_lips.styles_of([talker("eve"), talker("ada", "train")], None, lines.append) == []
    assert lines == []


def test_best_median_and_worst_are_shown() -> None:
    traces = study(traces=5).traces
    assert [trace.clip for trace in lips_plots.chosen(traces)] == ["c4", "c2", "c0"]
    assert lips_plots.chosen([]) == []
    assert len(lips_plots.chosen(traces[:1])) == 1


def test_unseen_people_are_measured_at_every_look_ahead() -> None:
    gone = talker("ann")
    gone = replace(gone, found=np.arange(len(gone.found)) < 100)
    clips = [talker(), talker("ada", "train"), gone, talker("joe")]
    voices = [lips_rows.Voice(one, None) for one in (0, 240)]
    lines: list[str] = []
    rows, traces = bench_lips._footage(clips, None, voices, SyncMeasure(Echo()), lines.append)
    assert [(row.identity, row.look_ahead_ms) for row in rows] == [
        ("eve", 0),
        ("eve", 240),
        ("joe", 0),
        ("joe", 240),
    ]
    assert all(row.sync_confidence is not None for row in rows)
    assert all(row.seconds > 4 for row in rows)
    assert traces == []  # those are of 120 ms
    assert lines == ["ann_dev is left out: its face is there in 80 % of frames"]


def test_a_trace_is_five_seconds_where_both_are_known() -> None:
    clips = [talker("eve", seconds=6.0)]
    (_, trace), *_ = lips_rows.footage_rows(clips, {}, [lips_rows.Voice(120, None)], None)
    assert len(trace.real) == len(trace.said) == 500
    assert all(value is not None for value in (*trace.real, *trace.said))


def test_real_lips_in_silence() -> None:
    speed_mm_s, seconds = lips_rows.real_silence([talker()])
    assert seconds == pytest.approx(0.36, abs=0.05)
    assert speed_mm_s is not None
    assert speed_mm_s > 1  # a made-up mouth goes on moving
    assert lips_rows.real_silence([toy_packed(sound=False)]) == (None, 0)


def test_languages_come_from_the_manifest(tmp_path: Path) -> None:
    assert lips_rows.languages_of(tmp_path) == {}
    rows = "file,language\nclips/a.mp4,und (mostly en)\nclips/b.mp4,pl\nclips/c.mp4,und\n"
    (tmp_path / "manifest.csv").write_text(rows)
    found = lips_rows.languages_of(tmp_path)
    assert found == {"clips/a.mp4": "en", "clips/b.mp4": "pl", "clips/c.mp4": ""}


@pytest.mark.parametrize("kind", [kind for kind in lips_rows.NOISES_DBFS if kind != "digital silence"])
def test_noises_have_their_level(kind: str) -> None:
    sound = lips_rows.noise(kind, -40.0)
    assert 20 * np.log10(np.sqrt(np.mean(sound.astype(np.float64) ** 2))) == pytest.approx(-40, abs=0.01)
    np.testing.assert_array_equal(sound, lips_rows.noise(kind, -40.0))


def test_digital_silence_is_silent() -> None:
    assert not lips_rows.noise("digital silence", -np.inf).any()


def test_the_suite_is_known_and_takes_no_backend() -> None:
    assert SUITES["lips"].study
    with pytest.raises(ValueError, match="no backend"):
        bench_lips.run(Settings(backend="tensorrt"))


def test_wrong_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_lips.main(["--quick", "--model", str(tmp_path / "no.onnx")]) == 2
    assert "cannot read" in capsys.readouterr().err
    assert bench_lips.main(["--data", str(tmp_path / "no.safetensors")]) == 2


def test_quick_needs_no_footage() -> None:
    pytest.importorskip("espeakng_loader")
    results = {result.name for result in bench_lips.run(Settings(quick=True))}
    assert {"recall p b m 120 ms", "speed in noise mm/s 120 ms"} <= results
