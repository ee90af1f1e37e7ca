import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import pytest

from engine.errors import MediaError
from engine.media import open_video, probe, read_audio, read_dub_audio
from tests.support.media import ClipSpec, av_frame, pattern, tone, write_clip, write_sound


def read_video(path: Path) -> int:
    with open_video(path) as reader:
        return sum(1 for _ in reader)


READERS: list[Callable[[Path], object]] = [probe, read_video, read_audio, read_dub_audio]


def png() -> bytes:
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 16, 16, "rgb24"
    encoder.time_base = Fraction(1, 25)
    frame = av_frame(pattern(16, 16, 0), "rgb24")
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("missing.mp4", None, "no such file"),
        ("empty.mp4", b"", "is empty"),
        ("text.txt", b"hello, this is text\n" * 50, "not a video or audio file"),
        ("text.mp4", b"hello, this is text\n" * 50, "not a video or audio file"),
        ("zeros.mp4", b"\0" * 4000, "not a video or audio file"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n", "not a video or audio file"),
        ("titles.srt", b"1\n00:00:00,000 --> 00:00:02,000\nhello\n\n", "has n"),
        ("page.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 9 RTP/AVP 96\n", "file"),
    ],
)
def test_what_is_no_media_is_named(
    read: Callable[[Path], object], name: str, data: bytes | None, says: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(MediaError, match=says) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", READERS)
def test_folders_and_pipes_are_refused(read: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is a directory"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MediaError, match="not a regular file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize("read", READERS)
def test_a_playlist_cannot_reach_other_files(read: Callable[[Path], object], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", ClipSpec(tone=tone(0.3)))
    path = tmp_path / "list.mp4"
    path.write_text(f"ffconcat version 1.0\nfile '{clip}'\n")
    with pytest.raises(MediaError):
        read(path)


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Run as an ordinary user: permissions do not bind root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    yield
    os.seteuid(0)


@pytest.mark.parametrize("read", READERS)
def test_no_permission(
    read: Callable[[Path], object], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    request.getfixturevalue("unprivileged")
    with pytest.raises(MediaError, match="Permission denied"):
        read(path)


def test_a_picture_is_not_a_video_but_can_be_told(tmp_path: Path) -> None:
    for name in ("still.png", "still.mp4", "still%03d.png"):
        path = tmp_path / name
        path.write_bytes(png())
        info = probe(path)
        assert (info.is_still, info.has_video, info.has_audio) == (True, False, False)
        with pytest.raises(MediaError, match="still picture"):
            open_video(path)


def test_sound_alone_and_picture_alone(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "sound.wav", tone(0.2), 48_000)
    assert (probe(sound).has_video, probe(sound).has_audio, probe(sound).is_still) == (False, True, False)
    with pytest.raises(MediaError, match="no video stream"):
        open_video(sound)
    silent = write_clip(tmp_path / "silent.mp4")
    assert (probe(silent).has_video, probe(silent).has_audio) == (True, False)
    for read in (read_audio, read_dub_audio):
        with pytest.raises(MediaError, match="has no sound"):
            read(silent)


def test_cover_art_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("libmp3lame", rate=44_100)
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        container.start_encoding()
        container.mux(cover.encode(av_frame(pattern(16, 16, 0), "rgb24")))
        container.mux(cover.encode(None))
        frame = av.AudioFrame.from_ndarray(tone(0.5, 44_100), "fltp", "mono")
        frame.sample_rate = 44_100
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    info = probe(path)
    assert (info.has_video, info.has_audio, info.is_still) == (False, True, False)
    with pytest.raises(MediaError, match="no video stream"):
        open_video(path)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("options", [{}, {"movflags": "+faststart"}])
def test_a_cut_file_is_refused(
    read: Callable[[Path], object], options: dict[str, str], tmp_path: Path
) -> None:
    path = write_clip(tmp_path / "cut.mp4", ClipSpec(tone=tone(0.4), container_options=options))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match="is cut off"):
        read(path)


@pytest.mark.parametrize("read", READERS[1:])
@pytest.mark.parametrize(
    ("name", "says"), [("damaged.mp4", "decoding.* stops at"), ("damaged.mkv", "it ends after")]
)
def test_damage_in_the_middle_ends_in_an_error(
    read: Callable[[Path], object], name: str, says: str, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / name, ClipSpec(frames=75, tone=tone(3.0, channels=2)))
    data = bytearray(path.read_bytes())
    for index in range(len(data) // 3, len(data) // 3 + 3000):
        data[index] = (data[index] * 7 + 13) % 256
    path.write_bytes(data)
    with pytest.raises(MediaError, match=says):
        read(path)


def test_a_codec_without_a_decoder_is_named(tmp_path: Path) -> None:
    data = write_clip(tmp_path / "clip.mkv", ClipSpec(tone=tone(0.3))).read_bytes()
    path = tmp_path / "other.mkv"
    path.write_bytes(data.replace(b"V_MPEG4/ISO/AVC", b"V_XXXX4/ISO/AVC"))
    assert (probe(path).has_video, probe(path).has_audio) == (False, True)
    with pytest.raises(MediaError, match="video is in a format that cannot be decoded"):
        read_video(path)
    path.write_bytes(data.replace(b"A_AAC", b"A_XXX"))
    assert (probe(path).has_video, probe(path).has_audio) == (True, False)
    with pytest.raises(MediaError, match="sound is in a format that cannot be decoded"):
        read_audio(path)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.ts"])
def test_a_hostile_file_gives_a_media_error_or_frames(name: str, tmp_path: Path) -> None:
    codec = {"clip.avi": "mpeg4"}.get(name, "libx264")
    path = write_clip(tmp_path / name, ClipSpec(codec=codec, options={}, tone=tone(0.3)))
    data = path.read_bytes()
    rng = random.Random(7)
    outcomes = 0
    for _ in range(25):
        broken = bytearray(data)
        for _ in range(rng.choice([1, 5, 50])):
            broken[rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 2000))] = rng.randrange(
                256
            )
        path.write_bytes(broken)
        for read in READERS:
            with suppress(MediaError):
                read(path)
            outcomes += 1
    assert outcomes == 25 * len(READERS)


def test_odd_names_are_just_names(tmp_path: Path) -> None:
    for name in ("a:b.mp4", "%d.mp4", "-i.mp4", "ü ñ 漢.mp4", "file:x.mp4", "q?a=b#c.mp4"):
        path = write_clip(tmp_path / "plain.mp4").rename(tmp_path / name)
        assert read_video(path) == ClipSpec().frames
