import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.arrays import F32
from engine.errors import MediaError
from engine.media import DubAudio, audio_balance, read_audio, read_dub_audio
from engine.media.audio import fitted, resampled
from tests.support.media import (
    ClipSpec,
    lag_samples,
    noise_burst,
    tone,
    write_clip,
    write_sound,
    write_sound_to,
)


def write_delayed(path: Path, starts: list[int], block: F32, rate_hz: int) -> Path:
    """Write `block` [1, T] at each of the samples `starts`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate_hz)
        stream.codec_context.layout = "mono"
        for start in starts[:-1]:
            frame = av.AudioFrame.from_ndarray(np.round(block * 32767).astype(np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, start, Fraction(1, rate_hz)
            container.mux(stream.encode(frame))
        write_sound_to(container, stream, block, rate_hz, start=starts[-1])
    return path


def test_a_wav_at_its_own_rate_is_exact(tmp_path: Path) -> None:
    sound = (np.round(tone(0.5, 16_000) * 32767) / 32768).astype(np.float32)
    got = read_audio(write_sound(tmp_path / "sound.wav", sound, 16_000))
    assert got.dtype == np.float32
    assert got.shape == (8000,)
    assert np.abs(got - sound[0]).max() <= 1 / 32768


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_other_rates_arrive_in_time(rate_hz: int, tmp_path: Path) -> None:
    got = read_audio(write_sound(tmp_path / "sound.wav", tone(1.0, rate_hz), rate_hz))
    assert abs(len(got) - 16_000) <= 1
    middle = slice(1000, 15_000)
    assert np.abs(got[middle] - tone(1.0, 16_000)[0][: len(got)][middle]).max() < 0.01


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [
        ("sound.mp3", "libmp3lame", 44_100),
        ("sound.m4a", "aac", 48_000),
        ("sound.ogg", "libopus", 48_000),
        ("sound.flac", "flac", 44_100),
        ("sound.mka", "aac", 44_100),
        ("sound.wav", "pcm_f32le", 48_000),
        ("sound.aiff", "pcm_s16be", 44_100),
    ],
)
def test_codecs_arrive_in_time(name: str, codec: str, rate_hz: int, tmp_path: Path) -> None:
    """The encoder's own delay is cut: what was at sample n is at sample n."""
    burst = noise_burst(2.0, rate_hz)
    dub = read_dub_audio(write_sound(tmp_path / name, burst, rate_hz, codec))
    assert dub.rate_hz == rate_hz
    assert dub.samples.shape[0] == 1
    assert lag_samples(dub.samples[0], burst[0]) == 0


def test_two_channels_are_averaged_for_the_model_and_kept_for_the_programme(tmp_path: Path) -> None:
    sound = np.concatenate([tone(0.5), np.zeros_like(tone(0.5))])
    path = write_sound(tmp_path / "sound.wav", sound, 48_000)
    assert np.abs(read_audio(path, 48_000) - sound[0] / 2).max() < 1e-3
    assert np.abs(read_dub_audio(path).samples - sound).max() < 1e-3


def test_six_channels_are_mixed_without_clipping(tmp_path: Path) -> None:
    loud = np.tile(tone(0.5) * 1.9, (6, 1))
    path = write_sound(tmp_path / "sound.wav", loud, 48_000, layout="5.1")
    dub = read_dub_audio(path)
    assert dub.samples.shape == (2, 24_000)
    assert 0.9 < np.abs(dub.samples).max() <= 1.0
    assert np.abs(read_audio(path)).max() <= 1.0


@pytest.mark.parametrize("channels", [3, 6, 7])
def test_channels_without_names(channels: int, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(16_000)
        sound = np.round(tone(0.25, 16_000, channels=channels).T * 32767)
        file.writeframes(sound.astype("<i2").tobytes())
    dub = read_dub_audio(tmp_path / "sound.wav")
    assert dub.samples.shape == (2, 4000)
    assert 0.3 < np.abs(dub.samples).max() <= 1.0


def test_sound_that_changes_its_layout_on_the_way(tmp_path: Path) -> None:
    """As a broadcast does between programmes: the first layout and rate hold for all."""
    one = write_sound(tmp_path / "a.aac", tone(0.5), 48_000, "aac").read_bytes()
    two = write_sound(tmp_path / "b.aac", tone(0.5, 44_100, channels=2), 44_100, "aac").read_bytes()
    path = tmp_path / "both.aac"
    path.write_bytes(one + two)
    dub = read_dub_audio(path)
    assert (dub.rate_hz, dub.samples.shape[0]) == (48_000, 1)
    assert dub.duration_s == pytest.approx(1.0, abs=0.1)
    assert np.abs(dub.samples[:, 30_000:45_000]).max() > 0.4


def test_sound_that_starts_late_is_preceded_by_silence(tmp_path: Path) -> None:
    path = write_delayed(tmp_path / "late.mkv", [24_000], tone(0.5), 48_000)
    got = read_audio(path, 48_000)
    assert abs(len(got) - 48_000) <= 48
    assert np.abs(got[:23_950]).max() == 0.0
    assert np.abs(got[24_050:]).max() > 0.4


def test_a_hole_is_silence_and_an_overlap_is_cut(tmp_path: Path) -> None:
    block = tone(0.25, hz=400)
    got = read_audio(write_delayed(tmp_path / "hole.mkv", [0, 24_000], block, 48_000), 48_000)
    assert abs(len(got) - 36_000) <= 48
    assert np.abs(got[12_100:23_900]).max() == 0.0
    got = read_audio(write_delayed(tmp_path / "overlap.mkv", [0, 9600], block, 48_000), 48_000)
    assert abs(len(got) - 21_600) <= 480


def test_millisecond_times_do_not_tear_the_sound(tmp_path: Path) -> None:
    """Matroska rounds the start of every block; none of it reaches the samples."""
    sound = tone(2.0, 44_100)
    dub = read_dub_audio(write_sound(tmp_path / "sound.mkv", sound, 44_100))
    assert dub.samples.shape == sound.shape
    assert np.abs(dub.samples - sound).max() < 1e-3


def test_sound_of_a_transport_stream_keeps_its_place_beside_the_picture(tmp_path: Path) -> None:
    burst = noise_burst(2.0, 48_000)
    heard = read_dub_audio(write_clip(tmp_path / "clip.ts", ClipSpec(frames=50, tone=burst))).samples[0]
    with av.open(str(tmp_path / "clip.ts")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.start_time is not None
        assert audio.start_time is not None
        ahead = (video.start_time - audio.start_time) * 48_000 // 90_000
    assert abs(lag_samples(heard, burst[0]) - ahead) <= 1


def test_a_tiny_sound(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "sound.wav", tone(0.001), 48_000)
    assert read_dub_audio(path).samples.shape == (1, 48)
    assert len(read_audio(path)) == 16


def test_a_sound_without_a_block_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(write_sound(tmp_path / "x.wav", tone(0.1), 48_000).read_bytes()[:-9600])
    data = bytearray(path.read_bytes())
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    data[-4:] = (0).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(MediaError, match="not one block"):
        read_audio(path)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 2),
    st.integers(0, 3000),
    st.sampled_from([8_000, 16_000, 44_100, 192_000]),
    st.sampled_from([16_000, 24_000, 48_000]),
)
def test_resampling_keeps_the_length_in_seconds(channels: int, length: int, from_hz: int, to_hz: int) -> None:
    dub = resampled(DubAudio(np.ones((channels, length), np.float32), from_hz), to_hz)
    assert dub.rate_hz == to_hz
    assert abs(Fraction(dub.samples.shape[1], to_hz) - Fraction(length, from_hz)) <= Fraction(1, 2 * to_hz)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 50), st.integers(0, 50))
def test_fitting_cuts_or_pads(have: int, want: int) -> None:
    samples = np.ones((2, have), np.float32)
    got = fitted(samples, want)
    assert got.shape == (2, want)
    assert got.sum() == 2 * min(have, want)


@pytest.mark.parametrize(
    ("audio_s", "video_s", "left_over_s", "missing_s"),
    [(5.0, 3.0, 2.0, 0.0), (3.0, 5.0, 0.0, 2.0), (4.0, 4.0, 0.0, 0.0)],
)
def test_the_balance(audio_s: float, video_s: float, left_over_s: float, missing_s: float) -> None:
    balance = audio_balance(audio_s, video_s)
    assert (balance.left_over_s, balance.missing_s) == (left_over_s, missing_s)


def test_dub_audio_checks_itself() -> None:
    dub = DubAudio(tone(0.5, 8000, channels=2), 8000)
    assert dub.duration_s == 0.5
    assert repr(dub) == "DubAudio(float32 [2, 4000], 8000 Hz)"
    with pytest.raises(ValueError, match="1 or 2 channels"):
        DubAudio(np.zeros((3, 10), np.float32), 8000)
    with pytest.raises(ValueError, match="must be positive"):
        DubAudio(np.zeros((1, 10), np.float32), 0)
    with pytest.raises(TypeError, match="float32"):
        DubAudio(np.zeros((1, 10)), 8000)  # type: ignore[arg-type]
