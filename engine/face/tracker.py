"""Following one face through the frames of a video.

What a frame gives:

* Landmarks are raw: no smoothing, which would lag behind a moving head. They depend on earlier frames only
  through the region that is looked at.
* No face: `None`, and the next frames are searched again until one is found.
* Several faces: the first choice is the one that is largest and most central, or with `face=k` the k-th
  from the left (1 = leftmost) of the first frame that shows at least k. The tracker then stays on that
  face, also when another becomes larger.
* A programme cut (the picture as a whole changes at once) marks the frame, forgets the face and chooses
  anew by the same rule.
* A loss without a cut (hidden, out of the picture): `None` until a face is found again. Where other faces
  were seen, only one near the lost one's place and of its size is taken, for `MEMORY_FRAMES` frames;
  afterwards the first rule chooses.
* Every `VERIFY_FRAMES` frames the detector looks at the region again; three looks in a row that show no
  face end the track, so that it does not stay on something that is not a face. In the frames
  after that it looks, at a part of the picture in each, who else has come in: they are not to be taken for
  this face once it is lost.
"""

import io
import math
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.arrays import F32, U8, check_array
from engine.backends.litert import LiteRTNetwork
from engine.errors import AssetError
from engine.face.detector import CONFIRM_SCALE, Detection, FaceDetector, Region, suppress, windows
from engine.face.landmarks import LandmarkNetwork, Landmarks
from engine.face.picture import FramePicture, Picture, RgbPicture
from engine.image.yuv import I420, Colour
from engine.models import locate

VERSION = 3  # of the behaviour; part of the key of cached tracks
MIN_CONFIDENCE = 0.5
VERIFY_FRAMES = 25
VERIFY_FAILURES = 3
MEMORY_FRAMES = 75
MAX_JUMP = 0.5  # of the region's centre between two frames, in its sides; more is another face or none
MAX_GROWTH = 1.6  # of the region's side between two frames, either way
RETURN_DISTANCE = 1.0  # from a lost face's place to where it is taken as the same, in sides of its region
RETURN_RATIO = 1.8  # between the sizes before and after
CENTRE_WEIGHT = 1.0  # how much a face at the border counts less than one of equal size in the middle

HISTOGRAM_BINS = 8  # per colour
CUT_HISTOGRAM = 0.12  # share of pixels that change their bin; measured: within shots <= 0.06, across >= 0.11
CUT_DIFFERENCE = 0.08  # mean absolute difference of the pixels, of full scale; within <= 0.06, across >= 0.09
CUT_RATIO = 3.0  # that share against its recent mean: a cut is sudden
CUT_LUMA = 0.25  # change of the mean alone, of full scale: a cut from or to black


@dataclass(frozen=True)
class LandmarkResult:
    """The tracked face in one frame.

    Attributes:
        landmarks: float32 [478, 3], px of the frame, as in `engine.face.landmarks`; the caller's.
        confidence: 0.5..1.
        region: where the next frame is looked at.
    """

    landmarks: F32
    confidence: float
    region: Region


@dataclass(frozen=True)
class TrackerState:
    """All that the tracker knows from earlier frames; a value.

    Attributes:
        region: of the face being followed; None if there is none.
        lost: the region of a face that was lost without a cut; None otherwise.
        lost_frames: how long ago that was.
        rivals: other faces were seen when this one was chosen, last searched for or last verified.
        unverified_frames: since the detector last saw the face.
        failures: looks of the detector in a row that showed no face.
        looked: into how many windows it has looked who else is there; None while it does not look.
        others: whom it has seen there so far.
        thumbnail: float32 [36, 64, 3] 0..1 of the last frame; None before the first.
        restlessness: recent mean share of pixels that change their colour bin from frame to frame.
        cut: the last frame was the first one after a programme cut.
    """

    region: Region | None = None
    lost: Region | None = None
    lost_frames: int = 0
    rivals: bool = False
    unverified_frames: int = 0
    failures: int = 0
    looked: int | None = None
    others: tuple[Detection, ...] = ()
    thumbnail: F32 | None = None
    restlessness: float = 0.0
    cut: bool = False

    def __repr__(self) -> str:
        return f"TrackerState(region={self.region}, lost={self.lost}, cut={self.cut})"


class FaceTracker:
    """One face of one video; the rules are those of this module's docstring.

    Not to be used by two threads at once. With `threads=1` it never leaves the calling thread.
    """

    def __init__(
        self, models: bytes | Path | None = None, *, face: int | None = None, threads: int = 1
    ) -> None:
        """Open the networks.

        Args:
            models: `face_landmarker.task`, its content or its path; by default the pinned one.
            face: which face to choose, from the left, 1 = leftmost; by default the largest and most central.
            threads: CPU threads of one network run.

        Raises:
            AssetError: the file is missing, not the pinned one, or not a model bundle.
            BackendError: LiteRT is not installed or cannot run it.
            ValueError: `face` or `threads` is less than 1.
        """
        if face is not None and face < 1:
            raise ValueError(f"{face = } must be at least 1 (the leftmost)")
        detector, landmarks = read_bundle(locate("face_landmarker") if models is None else models)
        self._detector = FaceDetector(LiteRTNetwork(detector, label="face detector", threads=threads))
        self._landmarks = LandmarkNetwork(LiteRTNetwork(landmarks, label="landmark network", threads=threads))
        self._face = face
        self._scratch: U8 = np.empty((0, 0, 3), np.uint8)
        self.state = TrackerState()

    @property
    def cut(self) -> bool:
        """Whether the last frame was the first one after a programme cut."""
        return self.state.cut

    def reset(self) -> None:
        """Forget everything: the next frame is a first frame."""
        self.state = TrackerState()

    def step(self, rgb: U8) -> LandmarkResult | None:
        """The face in the next frame; None if there is none.

        Args:
            rgb: uint8 [H, W, 3]; not kept.
        """
        check_array("rgb", rgb, (None, None, 3), np.uint8)
        return self._step(RgbPicture(rgb))

    def step_frame(self, image: I420, colour: Colour) -> LandmarkResult | None:
        """As `step` of the whole frame as R'G'B', to the bit; only what is looked at is converted.

        Args:
            image: the next frame; not kept.
            colour: how its bytes are meant.
        """
        size = (image.height, image.width, 3)
        if self._scratch.shape != size:
            self._scratch = np.empty(size, np.uint8)
        return self._step(FramePicture(image, colour, self._scratch))

    def rehearse(self, image: I420, colour: Colour, region: Region) -> None:
        """Do the work of following a face there, whatever there is, and keep nothing of it."""
        picture = FramePicture(image, colour, np.empty((image.height, image.width, 3), np.uint8))
        watch(picture.thumbnail(), self.state)
        self._follow(picture.around(region), region)

    def _step(self, picture: Picture) -> LandmarkResult | None:
        result, self.state = self._advance(picture, self.state)
        return result

    def advance(self, rgb: U8, state: TrackerState) -> tuple[LandmarkResult | None, TrackerState]:
        """As `step`, with the state passed in and out.

        Args:
            rgb: uint8 [H, W, 3]; not kept.
            state: after the frame before; `TrackerState()` for the first.
        """
        check_array("rgb", rgb, (None, None, 3), np.uint8)
        return self._advance(RgbPicture(rgb), state)

    def _advance(self, picture: Picture, state: TrackerState) -> tuple[LandmarkResult | None, TrackerState]:
        state = watch(picture.thumbnail(), state)
        if state.region is not None:
            found = self._follow(picture.around(state.region), state.region)
            if found is not None:
                return self._verified(picture, found, state)
            state = _lose(state)
        return self._search(picture.whole(), state)

    def _follow(self, rgb: U8, region: Region) -> Landmarks | None:
        """The face in `region`, unless it is not one or has moved as no head does."""
        found = self._landmarks.read(rgb, region)
        if found.confidence < MIN_CONFIDENCE:
            return None
        after = found.region()
        jump = math.hypot(after.x_px - region.x_px, after.y_px - region.y_px)
        growth = after.side_px / region.side_px
        if jump > MAX_JUMP * region.side_px or not 1 / MAX_GROWTH < growth < MAX_GROWTH:
            return None
        return found

    def _first(self, rgb: U8, region: Region) -> Landmarks | None:
        """The face in a detector's region, read twice: the second region is as close as a followed face's."""
        found = self._landmarks.read(rgb, region)
        if found.confidence >= MIN_CONFIDENCE:
            found = self._landmarks.read(rgb, found.region())
        return found if found.confidence >= MIN_CONFIDENCE else None

    def _verified(
        self, picture: Picture, found: Landmarks, state: TrackerState
    ) -> tuple[LandmarkResult | None, TrackerState]:
        """The result and the state after a frame with the followed face, the detector's look included."""
        region = found.region()
        state = self._look_around(picture, state)
        unverified, failures = state.unverified_frames + 1, state.failures
        if unverified >= VERIFY_FRAMES:
            state = replace(state, looked=0, others=())
        if unverified >= VERIFY_FRAMES or failures:
            seen = self._detector.confirm(picture.around(region.larger(CONFIRM_SCALE)), region)
            unverified, failures = 0, 0 if seen else failures + 1
        if failures >= VERIFY_FAILURES:
            return None, _lose(state)
        state = replace(state, region=region, unverified_frames=unverified, failures=failures)
        return LandmarkResult(found.points, found.confidence, region), state

    def _look_around(self, picture: Picture, state: TrackerState) -> TrackerState:
        """Look who is in the next window, if there is a look around; after the last one it is known."""
        if state.looked is None:
            return state
        parts = windows(*picture.size)
        part = parts[state.looked]
        others = (*state.others, *self._detector.look(picture.inside(part), part))
        if state.looked + 1 < len(parts):
            return replace(state, looked=state.looked + 1, others=others)
        return replace(state, rivals=len(suppress(list(others))) > 1, looked=None, others=())

    def _search(self, rgb: U8, state: TrackerState) -> tuple[LandmarkResult | None, TrackerState]:
        """Detect, choose and read a face where none is followed."""
        faces = self._detector.detect(rgb)
        height, width = rgb.shape[:2]
        rivals = state.rivals or len(faces) > 1
        if state.lost is not None and rivals and state.lost_frames < MEMORY_FRAMES:
            chosen = nearest(faces, state.lost)
        else:
            chosen = choose(faces, width, height, self._face)
        found = None if chosen is None else self._first(rgb, chosen.region())
        if found is None:
            lost_frames = state.lost_frames + 1 if state.lost is not None else 0
            return None, replace(state, rivals=rivals, lost_frames=lost_frames)
        region = found.region()
        state = replace(
            state,
            region=region,
            lost=None,
            lost_frames=0,
            rivals=len(faces) > 1,
            unverified_frames=0,
            failures=0,
            looked=None,
            others=(),
        )
        return LandmarkResult(found.points, found.confidence, region), state


def read_bundle(models: bytes | Path) -> tuple[bytes, bytes]:
    """The detector and the landmark network out of `face_landmarker.task`, which is a zip file.

    Raises:
        AssetError: it cannot be read or has not these members.
    """
    try:
        source = io.BytesIO(models) if isinstance(models, bytes) else models
        with zipfile.ZipFile(source) as members:
            return members.read("face_detector.tflite"), members.read("face_landmarks_detector.tflite")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise AssetError(f"not a face landmarker bundle: {error}") from error


def choose(faces: list[Detection], width_px: int, height_px: int, face: int | None) -> Detection | None:
    """The face that a track starts with: the `face`-th from the left, or the largest and most central one.

    Args:
        faces: of one frame.
        width_px: of the frame.
        height_px: of the frame.
        face: 1 = leftmost; None for the largest and most central.

    Returns:
        None if there are not that many.
    """
    if face is not None:
        ordered = sorted(faces, key=lambda f: f.x_px)
        return ordered[face - 1] if face <= len(ordered) else None

    def weight(one: Detection) -> float:
        away = (
            2
            * math.hypot(one.x_px - width_px / 2, one.y_px - height_px / 2)
            / math.hypot(width_px, height_px)
        )
        return math.sqrt(one.width_px * one.height_px) / (1 + CENTRE_WEIGHT * away)

    return max(faces, key=weight, default=None)


def nearest(faces: list[Detection], lost: Region) -> Detection | None:
    """The face that may be the lost one: near its place and of its size; None if there is none."""

    def distance(one: Detection) -> float:
        return math.hypot(one.x_px - lost.x_px, one.y_px - lost.y_px) / lost.side_px

    alike = [
        one
        for one in faces
        if distance(one) < RETURN_DISTANCE
        and 1 / RETURN_RATIO < one.region().side_px / lost.side_px < RETURN_RATIO
    ]
    return min(alike, key=distance, default=None)


def watch(small: F32, state: TrackerState) -> TrackerState:
    """The state with the new frame's thumbnail; at a cut with `cut` set and the face forgotten."""
    if state.thumbnail is None:
        return replace(state, thumbnail=small, cut=False)
    histogram, difference, luma = change(state.thumbnail, small)
    sudden = histogram > max(CUT_HISTOGRAM, CUT_RATIO * state.restlessness)
    if (sudden and difference > CUT_DIFFERENCE) or luma > CUT_LUMA:
        return TrackerState(thumbnail=small, cut=True)
    restlessness = 0.8 * state.restlessness + 0.2 * histogram
    return replace(state, thumbnail=small, restlessness=restlessness, cut=False)


def change(before: F32, after: F32) -> tuple[float, float, float]:
    """How much two thumbnails differ.

    Returns:
        The share of pixels that change their colour bin wherever they are, 0..1; the mean absolute difference
        of the pixels and the difference of the means, of full scale.
    """
    size = before.size / 3
    moved = sum(
        float(np.abs(_bins(before[..., i]) - _bins(after[..., i])).sum()) / 2 / size for i in range(3)
    )
    return moved / 3, float(np.abs(before - after).mean()), abs(float(before.mean() - after.mean()))


def _bins(channel: F32) -> F32:
    at = np.minimum((channel * HISTOGRAM_BINS).astype(np.int64), HISTOGRAM_BINS - 1)
    return np.bincount(at.ravel(), minlength=HISTOGRAM_BINS).astype(np.float32)


def _lose(state: TrackerState) -> TrackerState:
    """The state after the followed face is gone without a cut."""
    lost = replace(state, region=None, lost=state.region, lost_frames=0)
    return replace(lost, unverified_frames=0, failures=0, looked=None, others=())
