"""Real x264 and Opus: what comes out is what was asked for, decoded again."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from engine.errors import BackendError
from engine.image.yuv import I420, Colour
from streaming.rtc.encoder import (
    AUDIO_BLOCK_SAMPLES,
    AudioEncoder,
    AudioSettings,
    EncodedFrame,
    VideoEncoder,
    VideoSettings,
    level_dbov,
)
from streaming.types import PCM

BT709 = Colour("bt709", full_range=False)
WIDTH, HEIGHT = 256, 144
THREADS = Path("/proc/self/task")
NOISE = np.random.default_rng(3).integers(0, 255, (HEIGHT // 2, WIDTH * 2), dtype=np.uint8).repeat(2, 0)


def picture(index: int, width: int = WIDTH, height: int = HEIGHT) -> I420:
    """A texture that moves and flickers a little: as hard as bits go."""
    image = I420.blank(width, height)
    shift = abs((index * 3) % (2 * WIDTH) - WIDTH)  # back and forth: a jump would be a cut
    flicker = np.random.default_rng(index).integers(0, 24, (height, width), dtype=np.uint8)
    image.y[...] = np.resize(NOISE[:, shift : shift + width], (height, width)) // 2 + flicker + 30
    return image


def run(
    encoder: VideoEncoder, targets: list[int], *, step: int = 1920, first: int = 0, keyframe_at: int = -1
) -> list[EncodedFrame]:
    return [
        encoder.encode(
            picture(i), BT709, (first + i) * step, target_bps=target, keyframe=first + i == keyframe_at
        )
        for i, target in enumerate(targets)
    ]


def kbit_s(frames: list[EncodedFrame], fps: float = 25) -> float:
    return sum(len(frame.data) for frame in frames) * 8 * fps / len(frames) / 1000


def decode(frames: list[EncodedFrame]) -> list[VideoFrame]:
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    made = [picture for frame in frames for picture in decoder.decode(av.Packet(frame.data))]
    return made + decoder.decode(None)


def test_every_picture_comes_out_at_once_and_can_be_decoded() -> None:
    frames = run(VideoEncoder(), [2_000_000] * 12)
    decoded = decode(frames)
    assert len(decoded) == 12
    assert [frame.position for frame in frames] == [i * 1920 for i in range(12)]
    assert [frame.keyframe for frame in frames] == [True] + [False] * 11
    luma = np.frombuffer(memoryview(decoded[-1].planes[0]), np.uint8).reshape(HEIGHT, -1)[:, :WIDTH]
    error = luma.astype(float) - picture(11).y
    assert np.sqrt((error**2).mean()) < 12


def test_bitrate_is_followed_down_and_up_without_a_keyframe() -> None:
    encoder = VideoEncoder()
    frames = run(encoder, [1_800_000] * 60 + [600_000] * 70 + [1_500_000] * 60)
    measured = [kbit_s(frames[part]) for part in (slice(20, 60), slice(80, 130), slice(150, 190))]
    assert measured == pytest.approx([1800, 600, 1500], rel=0.2)
    assert [i for i, frame in enumerate(frames) if frame.keyframe] == [0]
    assert encoder.opened == 1


def test_a_higher_ceiling_comes_with_a_keyframe_that_is_due_anyway() -> None:
    encoder = VideoEncoder()
    run(encoder, [1_200_000] * 5)
    frames = run(encoder, [3_500_000] * 60, first=5, keyframe_at=8)
    assert [i for i, frame in enumerate(frames) if frame.keyframe] == [3]
    assert kbit_s(frames[20:]) > 2600
    assert encoder.opened == 2


def test_a_higher_ceiling_that_is_wanted_for_long_gets_one_keyframe() -> None:
    encoder = VideoEncoder()
    run(encoder, [1_200_000] * 5)
    frames = run(encoder, [3_500_000] * 100, first=5)
    assert sum(frame.keyframe for frame in frames) == 1
    assert encoder.opened == 2


@pytest.mark.parametrize(("target_bps", "ceiling_bps"), [(800_000, 1_000_000), (1_500_000, 2_000_000)])
def test_a_forced_keyframe_stays_within_the_buffer(target_bps: int, ceiling_bps: int) -> None:
    settings = VideoSettings()
    frames = run(VideoEncoder(settings), [target_bps] * 50, keyframe_at=40)
    assert frames[40].keyframe
    assert len(frames[40].data) * 8 <= ceiling_bps * settings.buffer_s
    assert frames[40].size_bytes >= len(frames[40].data) * 0.9


def test_a_keyframe_brings_what_a_decoder_needs() -> None:
    frames = run(VideoEncoder(), [1_000_000] * 20, keyframe_at=10)
    assert len(decode(frames[10:])) == 10


@pytest.mark.parametrize("fps", [Fraction(15), Fraction(24000, 1001), Fraction(60)])
def test_the_bitrate_is_per_second_whatever_the_frame_rate(fps: Fraction) -> None:
    encoder = VideoEncoder()
    step = round(48_000 / fps)
    frames = run(encoder, [900_000] * 110, step=step)
    assert kbit_s(frames[50:], float(fps)) == pytest.approx(900, rel=0.25)


@pytest.mark.parametrize(
    ("colour", "tags"),
    [
        (Colour("bt709", full_range=False), (1, 1, 1, 1)),
        (Colour("bt601", full_range=True), (2, 6, 6, 6)),
        (Colour("bt2020", full_range=False), (1, 9, 9, 14)),
    ],
)
def test_the_stream_says_what_its_colours_mean(colour: Colour, tags: tuple[int, int, int, int]) -> None:
    made = VideoEncoder().encode(picture(0), colour, 0, target_bps=1_000_000, keyframe=False)
    (decoded,) = decode([made])
    got = decoded.color_range, decoded.colorspace, decoded.color_primaries, decoded.color_trc
    assert tuple(map(int, got)) == tags


def test_another_size_or_colour_begins_anew() -> None:
    encoder = VideoEncoder()
    sizes = [(WIDTH, HEIGHT), (WIDTH, HEIGHT), (161, 91), (161, 91)]
    frames = [
        encoder.encode(picture(i, *size), BT709, i * 1920, target_bps=900_000, keyframe=False)
        for i, size in enumerate(sizes)
    ]
    assert [frame.keyframe for frame in frames] == [True, False, True, False]
    sizes_out = [(f.width, f.height) for part in (frames[:2], frames[2:]) for f in decode(part)]
    assert sizes_out == [(WIDTH, HEIGHT)] * 2 + [(160, 90)] * 2
    full = encoder.encode(
        picture(9, 161, 91), Colour("bt709", full_range=True), 9 * 1920, target_bps=900_000, keyframe=False
    )
    assert full.keyframe


def test_positions_must_grow() -> None:
    encoder = VideoEncoder()
    run(encoder, [900_000])
    with pytest.raises(ValueError, match="larger"):
        run(encoder, [900_000])
    with pytest.raises(ValueError, match="too small"):
        encoder.encode(I420.blank(8, 8), BT709, 9999, target_bps=900_000, keyframe=False)


def test_a_setting_that_x264_refuses_is_a_backend_error() -> None:
    with pytest.raises(BackendError, match="encoder failed"):
        run(VideoEncoder(VideoSettings(preset="warp")), [900_000])


def tone(block: int, amplitude: float = 8000.0) -> PCM:
    at = np.arange(block * AUDIO_BLOCK_SAMPLES, (block + 1) * AUDIO_BLOCK_SAMPLES)
    return (amplitude * np.sin(2 * np.pi * 440 * at / 48_000)).astype(np.int16)


def decode_sound(frames: list[EncodedFrame]) -> tuple[PCM, int]:
    """Sound and the position of its first sample, as a receiver takes it: nothing skipped."""
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate = 48_000
    decoder.layout = "mono"
    parts = [part.to_ndarray() for frame in frames for part in decoder.decode(av.Packet(frame.data))]
    mono = np.concatenate(parts, axis=1)[0]
    return (mono if mono.dtype == np.int16 else (mono * 32767).astype(np.int16)), frames[0].position


def test_sound_is_where_its_position_says() -> None:
    encoder = AudioEncoder()
    blocks = 40
    onset = 20 * AUDIO_BLOCK_SAMPLES
    frames = [encoder.encode(tone(i) if i >= 20 else tone(i, 0), i * 960) for i in range(blocks)]
    sound, first = decode_sound(frames)
    envelope = np.convolve(np.abs(sound.astype(float)), np.ones(48) / 48, "same")
    heard = int(np.argmax(envelope > 2500)) + first
    assert abs(heard - onset) < 120
    assert sound.size == blocks * AUDIO_BLOCK_SAMPLES


def test_sound_positions_follow_a_jump() -> None:
    encoder = AudioEncoder()
    got = [encoder.encode(tone(0), position).position for position in (0, 960, 9600, 10_560)]
    assert np.diff(got).tolist() == [960, 8640, 960]
    assert got[0] == -312


def test_sound_keeps_its_bitrate_and_carries_its_level() -> None:
    encoder = AudioEncoder(AudioSettings(bit_rate_bps=32_000))
    frames = [encoder.encode(tone(i), i * 960) for i in range(100)]
    assert kbit_s(frames[10:], 50) < 45
    assert {frame.level_dbov for frame in frames} <= {level_dbov(tone(0)) + d for d in (-1, 0, 1)}
    assert frames[0].payloads == (frames[0].data,)


@pytest.mark.parametrize(
    ("samples", "level"),
    [(np.zeros(960, np.int16), -127), (np.full(960, -32768, np.int16), 0), (tone(0, 3276.7), -23)],
)
def test_levels(samples: PCM, level: int) -> None:
    assert level_dbov(samples) == level


def test_sound_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="960"):
        AudioEncoder().encode(np.zeros(480, np.int16), 0)


@pytest.mark.skipif(not THREADS.exists(), reason="needs Linux's /proc")
def test_closing_ends_an_encoders_threads() -> None:
    before = len(list(THREADS.iterdir()))
    video, sound = VideoEncoder(), AudioEncoder()
    video.encode(picture(0), BT709, 0, target_bps=1_000_000, keyframe=True)
    sound.encode(np.zeros(960, np.int16), 0)
    for encoder in (video, sound, sound):
        encoder.close()
    assert len(list(THREADS.iterdir())) == before
    with pytest.raises(BackendError, match="closed"):
        sound.encode(np.zeros(960, np.int16), 0)
