"""The training set: footage packed into one file, to train where there is neither footage nor a tracker.

A safetensors file. Its metadata holds `format`, `version` and `clips`, a JSON list of what is known of each
clip; the tensors of clip i are named `i.<name>`, as in `PackedClip`. Nothing here needs a media library.

- Crops are an H.264 film in MP4, BT.601, which OpenCV decodes.
- Landmarks are rounded to 1/4 px of a face 256 px wide, as differences in time from the frame before and from
  the median difference of the frame, zigzag, low bytes first, under LZMA.
- Log-mels are rounded to 0.1 (0.4 dB), as differences in time, under LZMA; those of the sound as it is heard
  elsewhere (`export.heard`), one after the other, to 0.2.

Somebody who is held out is in the file for scores; `read` gives those clips only when asked for nothing else.
"""

import json
import lzma
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from engine.arrays import F32, F64, I32, U8, Array, Bool
from engine.errors import InputError, OutputError
from engine.expression.audio import MEL_BANDS, AudioToExpression, step_time_ms
from engine.face.landmarks import COUNT
from engine.face.model import FaceModel
from export.dataset import Clip, Crops, FaceClip, fit_crops

FORMAT, VERSION = "livedub-training-set", "2"
READABLE = ("1", VERSION)  # version 1 has neither measured offsets nor sound heard otherwise
SIZE_PX = 224
LANDMARK_STEPS = 4 * 256  # in the width of a face
MEL_FLOOR, MEL_STEP, HEARD_STEP = -13.9, 0.1, 0.2
SPOKEN_LOOK_AHEAD_MS = 120
LARGEST_SHIFT = 3.0  # grey levels; a decoder that is further off has other colours

OnProgress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class PackedClip:
    """One clip as it lies in the file.

    Attributes:
        clip: what is known of it; its path is relative to the footage.
        step_px: one step of the landmarks.
        time_s: float64 [F], media time of every frame.
        found: bool [F], whether the frame shows the face.
        landmarks: uint8, packed, of the frames with a face; see `unpack_landmarks`.
        neutral: float32 [468, 3], the person's own at rest, fitted before the landmarks were rounded.
        mels: uint8, packed log-mels at 100 Hz from media time 0; empty without sound.
        film: uint8, an MP4 file of the crops; empty where the face is too small to learn from.
        frames: int32 [K], squares: int32 [K, 3]: as of `Crops`.
        colour: float32 [3], mean RGB of all crops before they were encoded.
        heard: uint8, packed log-mels of the same sound heard otherwise, several times over; empty without.
    """

    clip: Clip
    step_px: float
    time_s: F64
    found: Bool
    landmarks: U8
    neutral: F32
    mels: U8
    film: U8
    frames: I32
    squares: I32
    colour: F32
    heard: U8 = field(default_factory=lambda: np.zeros(0, np.uint8))

    def all_landmarks(self) -> F32:
        """Landmarks float32 [F, 478, 3] px; NaN where the frame shows no face."""
        result = np.full((len(self.found), COUNT, 3), np.nan, np.float32)
        with self._whole("landmarks"):
            result[self.found] = unpack_landmarks(self.landmarks, self.step_px)
        return result

    def log_mels(self) -> F32 | None:
        """Log-mels float32 [M, 80] at 100 Hz; None without sound."""
        with self._whole("mels"):
            return unpack_mels(self.mels) if len(self.mels) else None

    def heard_mels(self) -> tuple[F32, ...]:
        """The same sound heard otherwise: float32 [M, 80] each, of the length of `log_mels`."""
        if not len(self.heard):
            return ()
        with self._whole("mels"):
            one, every = unpack_mels(self.mels), unpack_mels(self.heard, HEARD_STEP)
            return tuple(np.split(every, len(every) // len(one)))

    def crops(self) -> Crops | None:
        """The decoded crops; None if there are none.

        Raises:
            InputError: they cannot be decoded here, or in other colours.
        """
        if not len(self.film):
            return None
        pictures = decode_film(self.film)
        name = self.clip.path.name
        if len(pictures) != len(self.frames):
            raise InputError(f"{name}: {len(pictures)} crops decode, {len(self.frames)} should; pack it anew")
        shift = self.colour - pictures.mean((0, 1, 2))
        if np.abs(shift).max() > LARGEST_SHIFT:
            raise InputError(f"{name}: OpenCV decodes the crops in other colours here (by {shift.round(1)})")
        moved = pictures.astype(np.int16) + np.rint(shift).astype(np.int16)
        return Crops(self.frames, self.squares, moved.clip(0, 255).astype(np.uint8))

    @contextmanager
    def _whole(self, name: str) -> Iterator[None]:
        try:
            yield
        except (lzma.LZMAError, ValueError) as error:
            raise InputError(f"{self.clip.path.name}: the {name} are damaged: {error}") from error


def pack_landmarks(landmarks: F32, step_px: float) -> U8:
    """Landmarks [N, 478, 3] px, finite, rounded to steps and compressed."""
    steps = np.rint(landmarks / step_px).astype(np.int32)
    change = np.diff(steps, axis=0, prepend=np.zeros_like(steps[:1]))
    common = np.rint(np.median(change, axis=1, keepdims=True)).astype(np.int32)
    rows = np.concatenate([common, change - common], 1).reshape(len(steps), -1)
    zigzag = ((rows << 1) ^ (rows >> 31)).astype("<u4")
    planes = zigzag.T.copy().view(np.uint8).reshape(-1, 4).T
    return np.frombuffer(lzma.compress(planes.tobytes()), np.uint8)


def unpack_landmarks(packed: U8, step_px: float) -> F32:
    """What `pack_landmarks` packed, to half a step: float32 [N, 478, 3] px."""
    planes = np.frombuffer(lzma.decompress(packed.tobytes()), np.uint8).reshape(4, -1)
    zigzag = np.ascontiguousarray(planes.T).view("<u4")
    rows = (zigzag >> 1).astype(np.int32) ^ -(zigzag & 1).astype(np.int32)
    rows = rows.reshape((COUNT + 1) * 3, -1).T.reshape(-1, COUNT + 1, 3)
    change = rows[:, 1:] + rows[:, :1]
    return np.asarray(np.cumsum(change, 0) * step_px, np.float32)


def pack_mels(mels: F32, step: float = MEL_STEP) -> U8:
    """Log-mels [M, 80], rounded to steps and compressed."""
    steps = np.rint((mels - MEL_FLOOR) / step).clip(0, 255).astype(np.uint8)
    change = np.diff(steps, axis=0, prepend=np.zeros_like(steps[:1]))  # modulo 256
    return np.frombuffer(lzma.compress(change.T.tobytes()), np.uint8)


def unpack_mels(packed: U8, step: float = MEL_STEP) -> F32:
    """What `pack_mels` packed, to half a step: float32 [M, 80]."""
    change = np.frombuffer(lzma.decompress(packed.tobytes()), np.uint8).reshape(MEL_BANDS, -1).T
    return np.asarray(np.cumsum(change, 0, dtype=np.uint8) * step + MEL_FLOOR, np.float32)


def decode_film(film: U8) -> U8:
    """The pictures uint8 [K, S, S, 3] RGB of an MP4 file in memory."""
    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        path.write_bytes(film.tobytes())
        reader = cv2.VideoCapture(str(path))
        while (read := reader.read())[0]:
            pictures.append(np.ascontiguousarray(read[1][..., ::-1], np.uint8))
        reader.release()
    return np.stack(pictures) if pictures else np.zeros((0, 1, 1, 3), np.uint8)


_TENSORS = ("time_s", "found", "landmarks", "neutral", "mels", "film", "frames", "squares", "colour")


def write(path: Path, clips: Iterable[PackedClip]) -> None:
    """Write a training set; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    tensors: dict[str, Array] = {}
    about = []
    for index, packed in enumerate(clips):
        known = asdict(packed.clip) | {"path": packed.clip.path.as_posix(), "step_px": packed.step_px}
        about.append(known)
        for name in (*_TENSORS, *(["heard"] if len(packed.heard) else [])):
            tensors[f"{index}.{name}"] = np.ascontiguousarray(getattr(packed, name))
    temporary = path.with_name(f".{path.name}.partial")
    try:
        save_file(tensors, temporary, {"format": FORMAT, "version": VERSION, "clips": json.dumps(about)})
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error}") from error


def open_set(path: Path) -> list[PackedClip]:
    """Every clip of a training set, in the file's order, still packed.

    Raises:
        InputError: the file is missing, damaged, or no training set of this version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT or about.get("version") not in READABLE:
                raise InputError(
                    f"{path} is no training set of version {VERSION}; write one with: livedub train prepare"
                )
            names = set(file.keys())
            return [
                PackedClip(
                    clip=Clip(
                        Path(known["path"]),
                        **{k: v for k, v in known.items() if k not in {"path", "step_px"}},
                    ),
                    step_px=float(known["step_px"]),
                    **{
                        name: file.get_tensor(f"{index}.{name}")
                        for name in (*_TENSORS, "heard")
                        if name != "heard" or f"{index}.heard" in names
                    },
                )
                for index, known in enumerate(json.loads(about["clips"]))
            ]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot read the training set {path}: {error}") from error


def open_data(data: Path, *, size_px: int | None = SIZE_PX, on_progress: OnProgress) -> list[PackedClip]:
    """The packed clips of a training set, or of a folder of footage, which is packed in memory.

    Args:
        data: either.
        size_px: side of the crops of a folder; None leaves them out. A set has what it has.
        on_progress: called after each clip of a folder.

    Raises:
        InputError: as `open_set`; the folder has no video.
    """
    if not data.is_dir():
        return open_set(data)
    from export.prepare import prepare  # needs what reads and writes videos; a training set does not

    return list(prepare(data, size_px=size_px, on_progress=on_progress))


def trainable(clips: Sequence[PackedClip]) -> list[PackedClip]:
    """Those that may be trained on: nobody of whom any clip is held out."""
    held_out = {packed.clip.identity for packed in clips if packed.clip.held_out}
    return [packed for packed in clips if packed.clip.identity not in held_out]


def face_clips(
    clips: Sequence[PackedClip],
    model: FaceModel,
    *,
    size_px: int = SIZE_PX,
    on_progress: OnProgress | None = None,
) -> list[FaceClip]:
    """The clips whose faces are large enough, decoded and fitted, in their order.

    Args:
        clips: packed.
        model: the face model.
        size_px: side of the crops; others than were packed are resized.
        on_progress: called after each clip.

    Raises:
        InputError: a film cannot be decoded here.
    """
    result = []
    for index, packed in enumerate(clips):
        crops = packed.crops()
        if crops is not None:
            fitted = fit_crops(
                packed.clip.identity, crops.resized(size_px), packed.all_landmarks(), model, packed.neutral
            )
            result.append(replace(fitted, spoken=_spoken(packed)))
        if on_progress:
            on_progress("fit", index + 1, len(clips))
    return result


def read(path: Path, model: FaceModel, *, size_px: int = SIZE_PX, held_out: bool = False) -> list[FaceClip]:
    """The renderer's clips of a training set, in the file's order.

    Args:
        path: the file.
        model: the face model.
        size_px: side of the crops.
        held_out: the people kept for scores instead of those to train on; never both.

    Raises:
        InputError: as `open_set` and `face_clips`.
    """
    packed = open_set(path)
    chosen = [one for one in packed if one.clip.held_out] if held_out else trainable(packed)
    return face_clips(chosen, model, size_px=size_px)


def _spoken(packed: PackedClip) -> F32 | None:
    """What audio-to-expression says for each cropped frame, [K, E]; None if the sound is not the face's."""
    mels = packed.log_mels()
    if mels is None or not packed.clip.speaks:
        return None
    said = AudioToExpression(SPOKEN_LOOK_AHEAD_MS).offline(mels[None])[0]
    known_s = [step_time_ms(step, SPOKEN_LOOK_AHEAD_MS) / 1000 for step in range(len(said))]
    wanted_s = packed.time_s[packed.frames] - packed.clip.late_s
    return np.stack([np.interp(wanted_s, known_s, column) for column in said.T], 1).astype(np.float32)
