import av
import numpy as np
import pytest
from av.audio.codeccontext import AudioCodecContext
from av.codec.context import CodecContext
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import BackendUnavailable, MediaError
from streaming.rtc import opus
from streaming.rtc.opus import OpusDecoder, packet_samples
from streaming.types import PCM


def tone(samples: int, hz: float = 440) -> PCM:
    return (9000 * np.sin(2 * np.pi * hz * np.arange(samples) / 48_000)).astype(np.int16)


def packets_of(samples: PCM, *, channels: int = 1, bit_s: int = 48_000, **options: str) -> list[bytes]:
    """Opus packets of 20 ms."""
    encoder = CodecContext.create("libopus", "w")
    assert isinstance(encoder, AudioCodecContext)
    encoder.sample_rate, encoder.format = 48_000, "s16"
    encoder.layout = "mono" if channels == 1 else "stereo"
    encoder.bit_rate = bit_s
    encoder.options = {"application": "voip", "frame_duration": "20", **options}
    packets = []
    for at in range(0, len(samples), 960):
        piece = np.repeat(samples[at : at + 960], channels)[None]
        frame = av.AudioFrame.from_ndarray(piece, format="s16", layout=encoder.layout.name)
        frame.sample_rate, frame.pts = 48_000, at
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets


def level(samples: PCM) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


@pytest.mark.parametrize("channels", [1, 2])
def test_a_tone_comes_out_as_it_went_in(channels: int) -> None:
    sound, decoder = tone(48_000), OpusDecoder()
    out = np.concatenate([decoder.decode(packet) for packet in packets_of(sound, channels=channels)])
    assert out.dtype == np.int16
    assert len(out) == len(sound)
    spectrum = np.abs(np.fft.rfft(out[4800:].astype(np.float64)))
    assert np.argmax(spectrum) * 48_000 / len(out[4800:]) == pytest.approx(440, abs=2)
    assert level(out[4800:]) == pytest.approx(level(sound), rel=0.05)


def test_a_packet_says_how_long_it_is() -> None:
    assert packet_samples(packets_of(tone(960))[0]) == 960
    assert packet_samples(b"") == 0
    assert packet_samples(b"\xff\xff") == 0


def test_a_missing_packet_is_concealed_by_sound_that_fades_out() -> None:
    decoder = OpusDecoder()
    for packet in packets_of(tone(48_000))[:20]:
        heard = decoder.decode(packet)
    made_up = [decoder.conceal(960) for _ in range(20)]
    assert {len(piece) for piece in made_up} == {960}
    assert level(made_up[0]) > 0.5 * level(heard)
    assert level(made_up[-1]) < 0.2 * level(heard)


def test_the_copy_in_the_next_packet_is_better_than_concealment() -> None:
    sweep = (9000 * np.sin(2 * np.pi * np.cumsum(np.linspace(200, 900, 48_000)) / 48_000)).astype(np.int16)
    packets = packets_of(sweep, fec="1", packet_loss="20")
    whole, with_copy, without = OpusDecoder(), OpusDecoder(), OpusDecoder()
    for packet in packets[:30]:
        for decoder in (whole, with_copy, without):
            decoder.decode(packet)
    truth = whole.decode(packets[30]).astype(np.float64)
    copy_error = level((with_copy.recover(packets[31], 960) - truth).astype(np.int32))
    plc_error = level((without.conceal(960) - truth).astype(np.int32))
    assert copy_error < 0.7 * plc_error


def test_damaged_packets_are_media_errors_and_the_decoder_goes_on() -> None:
    decoder, packet = OpusDecoder(), packets_of(tone(960))[0]
    for damaged in (b"\xff\xff", b"", bytes(2000)):
        with pytest.raises(MediaError, match="Opus packet"):
            decoder.decode(damaged)
    assert len(decoder.decode(packet)) == 960


@settings(deadline=None, max_examples=50)
@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_decode_or_are_a_media_error(data: bytes) -> None:
    decoder = OpusDecoder()
    try:
        samples = decoder.decode(data)
    except MediaError:
        samples = decoder.conceal(960)
    assert 0 < len(samples) <= opus.PACKET_MAX_SAMPLES


def test_a_decoder_that_is_closed_says_so() -> None:
    decoder = OpusDecoder()
    decoder.close()
    decoder.close()
    assert not decoder.is_open
    with pytest.raises(MediaError, match="closed"):
        decoder.conceal(960)


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    opus.library.cache_clear()
    monkeypatch.setattr(opus, "_candidates", lambda: ["/nowhere/libopus.so"])
    with pytest.raises(BackendUnavailable, match="install PyAV"):
        OpusDecoder()
    monkeypatch.undo()
    assert opus.library() is opus.library()
