"""What a person's footage did not show, and an adaptation therefore could not learn.

Measured on the crops themselves, with the face model's geometry: how the mouth moved, whether teeth showed,
how the head turned, how large, sharp and bright the face is. Thresholds that judge pictures (teeth, blur)
are from 90 clips of 80 people, and from those clips blurred on purpose.
"""

from dataclasses import asdict, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.arrays import F32, F64, U8
from engine.face.model import LANDMARKS, LOWER_TEETH, SKIN, UPPER_TEETH, FaceModel, aperture
from engine.render.raster import sample
from export.dataset import FaceClip
from export.render_batch import NO_NOISE, geometry, unproject

LOOKED_AT = 48  # frames
CANDIDATES, OPEN_SHARE = 24, 0.3  # frames considered as a reference, among the most open ones
GAP_TEXELS, NEAR_LOW, NEAR_HIGH = 1.5, 0.1, 0.3  # a texel with so much of its neighbourhood in view is seen
COLOURS_PX = 128  # side of the plain texture that shows a covered mouth as unlike the others
WIDE_CM, CLOSED_CM = 1.3, 0.25  # lip openings: a wide vowel; lips that touch
TEETH_LUMA, TEETH_SATURATION = 0.55, 0.8  # of the skin's: brighter and paler than that is a tooth
TEETH_SHARE, TEETH_PIXELS = 0.1, 60  # of what lies between the lips; fewer pixels tell nothing
FRONTAL_DEG, SMALL_FACE_PX, SHORT_S = 15.0, 120.0, 2.0
SHARP, DARK, BRIGHT = 0.135, 0.12, 0.92
MOST_TEXELS_SEEN = 0.85
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Coverage:
    """What footage showed.

    Attributes:
        seconds: of it; frames: how many were learned from.
        face_px: width of the face from ear to ear, in px of the video.
        widest_cm: widest lip opening; closest_cm: narrowest. In the face model's units, about cm.
        upper_teeth: greatest share of what is between the lips that looked like upper teeth; lower_teeth.
        yaw_low_deg: 5th percentile of the head's turn to one side; yaw_high_deg: the 95th.
        texels_seen: share of the mesh's texels that any frame showed.
        sharpness: fine against coarse detail; 0.16 to 0.5 in sharp crops, below 0.135 in blurred ones.
        brightness: median luma of the skin, 0..1.
    """

    seconds: float
    frames: int
    face_px: float
    widest_cm: float
    closest_cm: float
    upper_teeth: float
    lower_teeth: float
    yaw_low_deg: float
    yaw_high_deg: float
    texels_seen: float
    sharpness: float
    brightness: float

    def as_metrics(self) -> dict[str, float]:
        """The numbers under names for a pack's manifest."""
        return {f"coverage_{name}": float(value) for name, value in asdict(self).items()}


def look(clip: FaceClip, model: FaceModel, *, seconds: float, face_px: float, texture_px: int) -> Coverage:
    """Measure what a clip shows.

    Args:
        clip: the frames that are learned from.
        model: the face model.
        seconds: of video they are.
        face_px: width of the face in the video.
        texture_px: side of the texture.
    """
    opening = lip_opening_cm(clip, model)
    teeth, bright, sharp = [], [], []
    for index in _spread(opening):
        luma = clip.crops[index].astype(np.float32) @ _LUMA / 255
        upper, lower, skin = _look_inside(clip, int(index), luma, model)
        teeth.append((upper, lower))
        bright.append(skin)
        sharp.append(sharpness(luma))
    yaw = yaw_deg(clip)
    _, weight = unproject(clip, model, texture_px, LOOKED_AT)
    shown = texel_mask(model, texture_px)
    upper_teeth, lower_teeth = np.max(teeth, axis=0)
    return Coverage(
        seconds=seconds,
        frames=len(clip),
        face_px=face_px,
        widest_cm=float(opening.max()),
        closest_cm=float(opening.min()),
        upper_teeth=float(upper_teeth),
        lower_teeth=float(lower_teeth),
        yaw_low_deg=float(np.quantile(yaw, 0.05)),
        yaw_high_deg=float(np.quantile(yaw, 0.95)),
        texels_seen=float((weight[shown] > 0).mean()),
        sharpness=float(np.median(sharp)),
        brightness=float(np.median(bright)),
    )


def not_learned(coverage: Coverage) -> tuple[str, ...]:
    """What a person should know of it, in sentences; none if everything was there to be learned."""
    found = _of_the_mouth(coverage)
    if coverage.frames == 1:
        found.append("One picture cannot show how this person moves: that is the prior's.")
    elif coverage.seconds < SHORT_S:
        found.append(f"{coverage.seconds:.1f} s are few: {SHORT_S:g} s or more show more mouths.")
    low, high = coverage.yaw_low_deg, coverage.yaw_high_deg
    if low > FRONTAL_DEG or high < -FRONTAL_DEG:
        found.append("The face was never seen from the front: one cheek is the prior's.")
    if coverage.texels_seen < MOST_TEXELS_SEEN:
        share = 100 * (1 - coverage.texels_seen)
        found.append(f"{share:.0f} % of the lower face and mouth were never seen: they are the prior's.")
    if coverage.face_px < SMALL_FACE_PX:
        found.append(f"The face is {coverage.face_px:.0f} px wide: fine detail is not in the picture.")
    if coverage.sharpness < SHARP:
        found.append("The picture is blurred: fine detail is not in it.")
    if coverage.brightness < DARK:
        found.append("The picture is dark: colours and detail are uncertain.")
    elif coverage.brightness > BRIGHT:
        found.append("The picture is overexposed: colours and detail are uncertain.")
    return tuple(found)


def _of_the_mouth(coverage: Coverage) -> list[str]:
    found = []
    unseen = [
        name
        for name, share in (("upper", coverage.upper_teeth), ("lower", coverage.lower_teeth))
        if share < TEETH_SHARE
    ]
    if len(unseen) == 2:
        found.append("Teeth were never seen: they are the prior's.")
    elif unseen:
        found.append(f"The {unseen[0]} teeth were never seen: they are the prior's.")
    if coverage.widest_cm < WIDE_CM:
        widest = max(0.0, coverage.widest_cm)
        found.append(
            f"The mouth was never wide open ({widest:.1f} cm at most): wider vowels are the prior's."
        )
    if coverage.closest_cm > CLOSED_CM:
        found.append("The lips were never closed: how they meet is the prior's.")
    return found


def lip_opening_cm(clip: FaceClip, model: FaceModel) -> F64:
    """Lip opening of every frame, [F], in the face model's units; about 0 for closed lips."""
    return np.asarray(
        aperture(clip.neutral[:LANDMARKS]) + clip.expression @ aperture(model.basis), np.float64
    )


def yaw_deg(clip: FaceClip) -> F64:
    """The head's turn about the vertical in every frame, [F]; 0 is frontal."""
    return np.asarray(np.degrees(np.arctan2(clip.rotation[:, 0, 2], clip.rotation[:, 2, 2])), np.float64)


def seen_colours(clip: FaceClip, model: FaceModel, texture_px: int) -> tuple[F32, F32]:
    """A person's plain colours, and where any frame shows them.

    A photo has fewer pixels than the texture has texels: small gaps between them are filled.

    Returns:
        float32 [texture_px, texture_px, 3] in 0..1, and [texture_px, texture_px]: 0 never seen, 1 seen.
    """
    colour, weight = unproject(clip, model, texture_px, LOOKED_AT)
    sure = np.minimum(weight, 1)[..., None]
    near = cv2.GaussianBlur(sure[..., 0], (0, 0), GAP_TEXELS)
    filled = cv2.GaussianBlur(colour * sure, (0, 0), GAP_TEXELS) / np.maximum(near, 1e-6)[..., None]
    seen = np.clip((near - NEAR_LOW) / (NEAR_HIGH - NEAR_LOW), 0, 1)
    return np.asarray(sure * colour + (1 - sure) * filled, np.float32), np.asarray(seen, np.float32)


def choose_reference(clip: FaceClip, model: FaceModel) -> int:
    """The frame to show the renderer as this person's mouth: open, with teeth, sharp, frontal, uncovered."""
    opening = lip_opening_cm(clip, model)
    order = np.argsort(-opening)[: max(3, int(len(clip) * OPEN_SHARE))]
    places = np.unique(np.linspace(0, len(order) - 1, min(CANDIDATES, len(order))).astype(int))
    candidates = order[places]
    colours, _ = unproject(clip, model, COLOURS_PX, LOOKED_AT)
    rows = np.array([_as_reference(clip, int(index), colours, model) for index in candidates])
    teeth, sharp, strange = rows.T
    score = (
        np.minimum(opening[candidates], WIDE_CM) / WIDE_CM
        + 0.5 * teeth
        + 0.5 * sharp / max(sharp.max(), 1e-6)
    )
    score -= 3 * (1 - clip.rotation[candidates, 2, 2])
    score -= np.maximum(0, strange / max(float(np.median(strange)), 1e-6) - 1)
    return int(candidates[np.argmax(score)])


def _as_reference(clip: FaceClip, index: int, colours: F32, model: FaceModel) -> tuple[float, float, float]:
    """How much of the teeth shows in a frame, how sharp it is, and how unlike the other frames' lips."""
    uv_map, _, mouth = geometry(clip, index, model, NO_NOISE, np.random.default_rng(0))
    picture = clip.crops[index].astype(np.float32) / 255
    usual = np.zeros_like(picture)
    sample(colours, uv_map, usual)
    weight = mouth * (uv_map.layer == SKIN)
    strange = float((np.abs(picture - usual).mean(-1) * weight).sum() / (weight.sum() + 1e-6))
    luma = picture @ _LUMA
    upper, lower, _ = _look_inside(clip, index, luma, model)
    return max(upper, lower), sharpness(luma), strange


def sharpness(luma: F32) -> float:
    """Fine against coarse detail in the middle of a crop [S, S] 0..1; the picture's contrast cancels out."""
    edge = len(luma) // 10
    fine, coarse = (
        float((luma - cv2.GaussianBlur(luma, (0, 0), sigma))[edge:-edge, edge:-edge].std())
        for sigma in (len(luma) * 0.0054, len(luma) * 0.0223)
    )
    return fine / max(coarse, 1e-6)


def texel_mask(model: FaceModel, texture_px: int) -> NDArray[np.bool_]:
    """The texels [texture_px, texture_px] that the mesh shows at all."""
    drawn: U8 = np.zeros((texture_px, texture_px), np.uint8)
    for corners in np.rint(model.uv[model.triangles] * texture_px - 0.5).astype(np.int32):
        cv2.fillConvexPoly(drawn, corners, 1)
    return np.asarray(drawn > 0)


def _spread(opening: F64) -> NDArray[np.int64]:
    """Frames to look at: evenly from the widest mouth to the most closed."""
    order = np.argsort(-opening)
    places = np.linspace(0, len(order) - 1, min(LOOKED_AT, len(order))).astype(int)
    return np.asarray(order[places], np.int64)


def _look_inside(clip: FaceClip, index: int, luma: F32, model: FaceModel) -> tuple[float, float, float]:
    """Shares of the upper and lower teeth's areas that look like teeth, and the skin's luma, of one frame."""
    uv_map, _, _ = geometry(clip, index, model, NO_NOISE, np.random.default_rng(0))
    skin = uv_map.layer == SKIN
    if not skin.any():
        return 0.0, 0.0, float(np.median(luma))
    rgb = clip.crops[index].astype(np.float32)
    saturation = (rgb.max(-1) - rgb.min(-1)) / (rgb.max(-1) + 1)
    skin_luma = float(np.median(luma[skin]))
    pale = saturation < TEETH_SATURATION * float(np.median(saturation[skin]))
    like_teeth = pale & (luma > TEETH_LUMA * skin_luma)
    shares = []
    for layer in (UPPER_TEETH, LOWER_TEETH):
        area = uv_map.layer == layer
        shares.append(float(like_teeth[area].mean()) if area.sum() >= TEETH_PIXELS else 0.0)
    return shares[0], shares[1], skin_luma
