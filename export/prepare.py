"""Footage to a training set: what needs the videos, the tracker and an encoder, done once.

H.264 at CRF 14 was chosen by measuring crops of 11 clips (bytes per crop; PSNR): CRF 10 3331, 42.3 dB;
CRF 12 2523, 41.8 dB; CRF 14 1928, 41.3 dB. HEVC is no smaller at this size, 4:4:4 adds 0.6 dB at the same
bytes, and WebP stills of 42 to 44 dB take 3700 to 10400 bytes, since they cannot use that crops hardly move.
As read back, with the decoder's rounding taken out, 12 clips have 42.3 dB, the worst of them 40.8 dB, the
worst frame 39.7 dB.

The development footage (169 clips, 26,828 frames, 18 minutes of sound, 12,997 crops of 106 clips) makes a
file of 60.4 MB: films 27.5, landmarks 15.8, log-mels 5.1, the same heard otherwise 10.5 (127 clips, three
times each), neutrals 0.9. The sync measure finds the offset of 96 clips; of 8 of them lists said another, by
up to 260 ms, or that the sound was not to be trusted. In three it finds none that holds.
"""

import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from engine.arrays import F32, U8
from engine.audio.logmel import HOP_SAMPLES, LogMel
from engine.errors import MediaError, NoFaceError
from engine.expression.audio import MELS_PER_STEP
from engine.face.fit import person_neutral
from engine.face.model import FaceModel, load_face_model
from engine.face.track import FaceTrack, track_video
from engine.image.resize import Square, read_square
from engine.image.yuv import I420, Colour, rgb_to_i420
from engine.media import ColourTags, VideoFrame, VideoInfo, open_video, open_writer, read_audio
from engine.timing import MEL_RATE_HZ
from export.dataset import Clip, Crops, cut_crops, list_clips
from export.heard import VARIANTS, heard
from export.offsets import with_offset
from export.training_set import (
    HEARD_STEP,
    LANDMARK_STEPS,
    SIZE_PX,
    OnProgress,
    PackedClip,
    pack_landmarks,
    pack_mels,
    write,
)

MIN_FACE_PX = 150.0  # narrower faces teach the renderer blur
MOST_FRAMES = 170  # of a clip, before every second one is left out
MIN_FRAMES = 30
CRF, PRESET = 14, "medium"
_COLOUR, _TAGS = Colour("bt601", full_range=False), ColourTags(1, 6, 6, 6)
_NOTHING = np.zeros(0, np.uint8)


def prepare(data: Path, *, size_px: int | None = SIZE_PX, on_progress: OnProgress) -> Iterator[PackedClip]:
    """Pack every clip of a folder that shows a face, one by one, in the order of its list.

    Args:
        data: the folder.
        size_px: side of the crops; None leaves all of them out.
        on_progress: called after each clip.

    Raises:
        MediaError: the folder has no video.
    """
    model = load_face_model()
    unique = list({clip.path: clip for clip in list_clips(data)}.values())
    for index, clip in enumerate(unique):
        packed = pack(clip, data, model, size_px=size_px)
        on_progress("pack", index + 1, len(unique))
        if packed is not None:
            yield with_heard(with_offset(packed, model), data)


def pack(clip: Clip, data: Path, model: FaceModel, *, size_px: int | None = SIZE_PX) -> PackedClip | None:
    """Pack one clip of the folder `data`, as `prepare`; None if it cannot be read or shows no face."""
    try:
        track = track_video(clip.path)
        neutral = person_neutral(model, track.landmarks)
        crops = _crops(clip, track, model, neutral, size_px)
        mels = _mels(clip)
    except (MediaError, NoFaceError):
        return None
    seen = track.landmarks[track.found]
    step_px = float(np.median(np.ptp(seen[..., 0], axis=1))) / LANDMARK_STEPS
    pictures = crops.pictures
    return PackedClip(
        clip=Clip(
            clip.path.relative_to(data),
            clip.identity,
            clip.split,
            clip.has_audio and len(mels) > 0,
            clip.sync,
            clip.audio_lag_ms,
        ),
        step_px=step_px,
        time_s=np.asarray(track.pts * float(track.time_base), np.float64),
        found=track.found,
        landmarks=pack_landmarks(seen, step_px),
        neutral=neutral,
        mels=mels,
        film=encode_film(pictures) if len(pictures) else _NOTHING,
        frames=crops.frames,
        squares=crops.squares,
        colour=np.asarray(pictures.mean((0, 1, 2)) if len(pictures) else np.zeros(3), np.float32),
    )


def _crops(clip: Clip, track: FaceTrack, model: FaceModel, neutral: F32, size_px: int | None) -> Crops:
    """The crops of a clip whose face is large enough for long enough; else none."""
    widths = np.ptp(track.landmarks[track.found][..., 0], axis=1)
    if size_px is None or len(widths) < MIN_FRAMES or np.median(widths) < MIN_FACE_PX:
        return cut_crops([], track.landmarks, model, neutral, size_px=SIZE_PX)
    stride = 1 if len(track) < MOST_FRAMES else 2
    with open_video(clip.path) as reader:
        cutters = (partial(_cut, frame.image, reader.info.colour) for frame in reader)
        return cut_crops(cutters, track.landmarks, model, neutral, size_px=size_px, stride=stride)


def _cut(image: I420, colour: Colour, square: Square, size_px: int) -> U8:
    picture = read_square(image, square, colour, size_px)
    if picture is None:
        raise NoFaceError("the face lies outside the picture")
    return picture


def _mels(clip: Clip) -> U8:
    if not clip.has_audio:
        return _NOTHING
    try:
        sound = _whole(read_audio(clip.path))
    except MediaError:
        return _NOTHING
    return pack_mels(LogMel().offline(sound[None])[0]) if len(sound) else _NOTHING


def with_heard(packed: PackedClip, data: Path) -> PackedClip:
    """The clip with its sound as others would hear it, if it may be learned from; the same every time.

    Args:
        packed: the clip.
        data: the folder it is from.

    Raises:
        MediaError: its sound cannot be read any more.
    """
    if packed.clip.held_out or not packed.clip.speaks:
        return packed
    sound = _whole(read_audio(data / packed.clip.path))
    rng = np.random.default_rng(zlib.crc32(packed.clip.path.as_posix().encode()))
    others = [LogMel().offline(heard(sound, rng)[None])[0] for _ in range(VARIANTS)]
    return replace(packed, heard=pack_mels(np.concatenate(others), HEARD_STEP))


def _whole(sound: F32) -> F32:
    """As much of a sound [T] as is whole steps."""
    step = HOP_SAMPLES * MELS_PER_STEP
    return sound[: len(sound) // step * step]


def encode_film(pictures: U8) -> U8:
    """An MP4 file of pictures [K, S, S, 3] RGB, S even."""
    height, width = pictures.shape[1:3]
    info = VideoInfo(width, height, Fraction(1, 25), Fraction(25), _COLOUR, tags=_TAGS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        with open_writer(path, info, audio=None, crf=CRF, preset=PRESET) as writer:
            for index, picture in enumerate(pictures):
                writer.write(VideoFrame(rgb_to_i420(picture, _COLOUR), index, 1))
        return np.frombuffer(path.read_bytes(), np.uint8)


@dataclass(frozen=True)
class PrepareReport:
    """What went into a training set.

    Attributes:
        clips_that_speak: whose sound says what the lips do, as far as is known.
        offsets_measured: of these, by the sync measure instead of by the list.
        clips_out_of_sync: in which the measure finds no offset that holds.
        file_mb: in millions of bytes.
    """

    clips: int
    people: int
    held_out_people: int
    frames: int
    clips_with_crops: int
    crops: int
    minutes_of_sound: float
    clips_that_speak: int
    offsets_measured: int
    clips_out_of_sync: int
    file_mb: float


def write_training_set(
    data: Path, out: Path, *, size_px: int = SIZE_PX, on_progress: OnProgress
) -> PrepareReport:
    """Pack a folder of footage into a training set.

    Raises:
        MediaError: the folder has no video with a face.
        OutputError: the file cannot be written.
    """
    packed = list(prepare(data, size_px=size_px, on_progress=on_progress))
    if not packed:
        raise MediaError(f"no video in {data} shows a face")
    write(out, packed)
    mels = [one.log_mels() for one in packed]
    return PrepareReport(
        clips=len(packed),
        people=len({one.clip.identity for one in packed}),
        held_out_people=len({one.clip.identity for one in packed if one.clip.held_out}),
        frames=sum(len(one.found) for one in packed),
        clips_with_crops=sum(len(one.film) > 0 for one in packed),
        crops=sum(len(one.frames) for one in packed),
        minutes_of_sound=sum(len(one) for one in mels if one is not None) / 60 / MEL_RATE_HZ,
        clips_that_speak=sum(one.clip.speaks for one in packed),
        offsets_measured=sum(one.clip.fits is True for one in packed),
        clips_out_of_sync=sum(one.clip.fits is False for one in packed),
        file_mb=out.stat().st_size / 1e6,
    )
