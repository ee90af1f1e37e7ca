"""What is known about a media file before its frames are decoded."""

from dataclasses import dataclass
from fractions import Fraction

from engine.image.yuv import Colour


@dataclass(frozen=True)
class ColourTags:
    """Colour description as numbers of ITU-T H.273, as the source carries it; 2 (range: 0) is unspecified.

    Attributes:
        colour_range: 0 unspecified, 1 limited, 2 full (FFmpeg's numbers).
        matrix: H.273 table 4.
        primaries: H.273 table 2.
        transfer: H.273 table 3.
    """

    colour_range: int = 0
    matrix: int = 2
    primaries: int = 2
    transfer: int = 2


@dataclass(frozen=True)
class VideoInfo:
    """The video stream of a file, as `VideoReader` gives it out: upright, 8-bit 4:2:0.

    Attributes:
        width: of the upright picture, px.
        height: of the upright picture, px.
        time_base: seconds in one tick of a frame's pts.
        rate: average frames per second, None if the file does not say.
        colour: how the bytes of the frames map to R'G'B'. Unspecified: BT.709 from 720 px of height, else
            BT.601; limited range, except grey pictures (full).
        tags: colour description to write into a copy.
        sample_aspect_ratio: width of a pixel over its height.
        rotation_deg: 0, 90, 180 or 270, clockwise turn that made the frames upright.
        frame_count: None if the container does not say.
        duration_s: None if the container does not say.
        codec: FFmpeg's name of the codec.
        pixel_format: FFmpeg's name of the pixel format in the file.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction | None
    colour: Colour
    tags: ColourTags = ColourTags()
    sample_aspect_ratio: Fraction = Fraction(1)
    rotation_deg: int = 0
    frame_count: int | None = None
    duration_s: float | None = None
    codec: str = ""
    pixel_format: str = "yuv420p"


@dataclass(frozen=True)
class AudioInfo:
    """The first audio stream of a file.

    Attributes:
        rate_hz: sample rate.
        channels: number of channels.
        codec: FFmpeg's name of the codec.
        duration_s: None if the container does not say.
    """

    rate_hz: int
    channels: int
    codec: str
    duration_s: float | None


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds.

    Attributes:
        container: FFmpeg's name of the container format.
        is_still: the file is a single picture (PNG, JPEG, HEIF...); then `video` is None.
        video: None without moving pictures; cover art in a music file does not count.
        audio: None without sound.
        duration_s: None if the container does not say.
    """

    container: str
    is_still: bool
    video: VideoInfo | None
    audio: AudioInfo | None
    duration_s: float | None

    @property
    def has_video(self) -> bool:
        """Whether there are moving pictures."""
        return self.video is not None

    @property
    def has_audio(self) -> bool:
        """Whether there is sound."""
        return self.audio is not None
