"""How much a face looks like the same person's: a network for recognising faces. Used in evaluation only.

The network is dlib's face recognition ResNet (D. King, "High Quality Face Recognition with Deep Metric
Learning", 2017; 99.38 % on Labeled Faces in the Wild), run here with torch from its own file, without dlib.
It maps an upright face to 128 numbers; two pictures show the same person when those lie less than 0.6 apart,
which is what it was trained to. The likeness of two faces is

    1 - distance / 1.2

so that 1 is the same picture, and 0.5 is where the network's author draws the line between one person and
two. It depends on light and head pose too, so it means something only beside the same number of real frames
of that person (`Likeness.among_real`), and of other people. Measured on 12 clips of 9 people who speak to the
camera: 0.80 between frames half a clip apart (5 % are below 0.72), 0.75 to 0.80 between two clips of one
person, 0.28 between two people (5 % are above 0.38, none of 18 201 pairs reaches 0.5).

The weights are a pinned third-party file (`engine.models`, `face_recognition`; public domain).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.arrays import F32, F64, U8
from engine.errors import AssetError
from engine.models import locate, pinned, verify

MODEL = "face_recognition"
SAME_PERSON = 0.6  # distance below which two pictures show one person
SIDE_PX = 150  # of the upright face
MARGIN = 0.25  # around the face, of its side
MEAN_RGB = (122.782, 117.001, 104.298)
SIZE = 128

# Outer and inner corner of each eye and the base of the nose: MediaPipe's landmarks, and where they belong in
# a face of side 1 (the mean face that the network's training pictures were moved to).
POINTS = (263, 362, 33, 133, 2)
PLACES = (
    (0.8595674595992, 0.2134981538014),
    (0.6460604764104, 0.2289674387677),
    (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242),
    (0.4901123135679, 0.6277975316475),
)
# filters of the residual blocks, and which of them halve the picture's side
WIDTHS = (32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256, 256)
HALVING = (3, 7, 10, 13)

TENSOR = b"\x01\x02"  # how the file announces a tensor: version 2, then four sizes and the numbers


class Block(nn.Module):
    """Two convolutions of 3 x 3 px beside a shortcut; the smaller of the two results is filled up with 0."""

    def __init__(self, into: int, out: int, *, halving: bool) -> None:
        super().__init__()
        self.halving = halving
        self.first = nn.Conv2d(into, out, 3, 2 if halving else 1, 0 if halving else 1)
        self.second = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H', W']."""
        deep = self.second(functional.relu(self.first(x)))
        short = functional.avg_pool2d(x, 2) if self.halving else x
        sizes = [max(a, b) for a, b in zip(deep.shape[1:], short.shape[1:], strict=True)]
        return functional.relu(_filled(deep, sizes) + _filled(short, sizes))


class Recogniser(nn.Module):
    """The network. Weights are frozen.

    Args:
        content: of the pinned file.

    Raises:
        AssetError: it does not hold the tensors that it should.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 7, 2)
        inputs = (WIDTHS[0], *WIDTHS)
        blocks = [Block(inputs[i], width, halving=i in HALVING) for i, width in enumerate(WIDTHS)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(WIDTHS[-1], SIZE, bias=False)
        self.register_buffer("mean", torch.tensor(MEAN_RGB)[None, :, None, None])
        self._load(content, [self.stem, *(c for b in blocks for c in (b.first, b.second))])
        self.requires_grad_(False)
        self.eval()

    mean: Tensor

    def forward(self, faces: Tensor) -> Tensor:
        """Upright faces [B, 3, 150, 150], R'G'B' in 0..255, to embeddings [B, 128]."""
        x = functional.relu(self.stem((faces - self.mean) / 256.0))
        x = self.blocks(functional.max_pool2d(x, 3, 2))
        embedding: Tensor = self.head(x.mean((2, 3)))
        return embedding

    def embed(self, image: U8, landmarks: F32) -> F32:
        """What the network says of one face, float32 [128].

        Args:
            image: uint8 [H, W, 3], RGB.
            landmarks: float32 [478, 2 or 3], px, finite.
        """
        face = torch.from_numpy(upright(image, landmarks).astype(np.float32).transpose(2, 0, 1)[None].copy())
        with torch.no_grad():
            return np.asarray(self(face)[0].numpy(), np.float32)

    def _load(self, content: bytes, convolutions: list[nn.Conv2d]) -> None:
        tensors = _tensors(content)
        try:
            for layer in convolutions:
                _fill(layer, next(tensors), next(tensors))
            weights = torch.from_numpy(next(tensors).reshape(WIDTHS[-1], SIZE).T.copy())
            self.head.load_state_dict({"weight": weights})
        except (StopIteration, ValueError, RuntimeError) as error:
            raise AssetError(
                f"the recognition network's file does not hold the tensors it should: {error}"
            ) from error


@dataclass(slots=True)
class Likeness:
    """Mean likeness of a dub's faces to the person's, and of the person's real frames among themselves.

    Attributes:
        recogniser: the network.
        ours: embeddings of the dub's frames.
        real: of the reference's, same moments.
        other: of another real clip of the person.
    """

    recogniser: Recogniser
    ours: list[F32] = field(default_factory=list)
    real: list[F32] = field(default_factory=list)
    other: list[F32] = field(default_factory=list)

    def add(self, out: U8, out_face: F32, reference: U8, reference_face: F32) -> None:
        """Count one pair of frames and their landmarks [478, 3]; nothing if one shows no face."""
        if np.isfinite(out_face).all() and np.isfinite(reference_face).all():
            self.ours.append(self.recogniser.embed(out, out_face))
            self.real.append(self.recogniser.embed(reference, reference_face))

    def add_other(self, image: U8, face: F32) -> None:
        """Count a frame of another real clip of the person, and its landmarks [478, 3]."""
        if np.isfinite(face).all():
            self.other.append(self.recogniser.embed(image, face))

    def similarity(self) -> float | None:
        """Mean over frames of the likeness of the dub's to the reference's; `None` before any pair."""
        return _mean([likeness(a, b) for a, b in zip(self.ours, self.real, strict=True)])

    def apart(self) -> float | None:
        """As `similarity`, against the reference half the clip away; `None` of fewer than two frames."""
        return self._half_apart(self.ours)

    def among_real(self) -> float | None:
        """The same of the reference against itself: the yardstick of `apart`."""
        return self._half_apart(self.real)

    def to_other(self) -> float | None:
        """Mean likeness of the dub's frames to all of the other clip's; `None` without those."""
        return _mean([likeness(a, b) for a in self.ours for b in self.other])

    def real_to_other(self) -> float | None:
        """The same of the reference's frames: the yardstick of `to_other`."""
        return _mean([likeness(a, b) for a in self.real for b in self.other])

    def _half_apart(self, some: list[F32]) -> float | None:
        count = len(self.real)
        if count < 2:
            return None
        return _mean([likeness(some[i], self.real[(i + count // 2) % count]) for i in range(count)])


def likeness(a: F32, b: F32) -> float:
    """1 - distance / 1.2 of two embeddings [128]: 1 is the same picture, below 0.5 are two people."""
    return 1.0 - float(np.linalg.norm(a.astype(np.float64) - b)) / (2 * SAME_PERSON)


def upright(image: U8, landmarks: F32) -> U8:
    """The face moved, turned and scaled to where the network expects it: uint8 [150, 150, 3].

    Raises:
        ValueError: the landmarks are not finite, or fall on one point.
    """
    found = landmarks[list(POINTS), :2].astype(np.float64)
    places = (np.asarray(PLACES) + MARGIN) / (1 + 2 * MARGIN) * SIDE_PX
    matrix = _similarity(found, places)
    scale = float(np.hypot(matrix[0, 0], matrix[0, 1]))
    if scale < 0.5:  # halve first, so that no pixel is skipped
        times = int(np.floor(-np.log2(scale)))
        smaller = cv2.resize(image, None, fx=0.5**times, fy=0.5**times, interpolation=cv2.INTER_AREA)
        ratio = image.shape[1] / smaller.shape[1], image.shape[0] / smaller.shape[0]
        matrix = matrix @ np.diag([*ratio, 1.0])
        image = np.asarray(smaller, np.uint8)
    face = cv2.warpAffine(
        image, matrix[:2], (SIDE_PX, SIDE_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(face, np.uint8)


def load_recogniser(path: Path | None = None) -> Recogniser:
    """The network with the pinned weights.

    Args:
        path: of the pinned file; `None` takes it from the cache folder.

    Raises:
        AssetError: the file is missing or is not the pinned one.
    """
    if path is None:
        path = locate(MODEL)
    else:
        verify(pinned(MODEL), path)
    return Recogniser(path.read_bytes())


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _similarity(points: F64, places: F64) -> F64:
    """The turn, scale and shift [3, 3] that bring points nearest to places (Umeyama 1991)."""
    centre, wanted = points.mean(0), places.mean(0)
    a, b = points - centre, places - wanted
    size = float((a**2).sum())
    if not size > 0:
        raise ValueError("the landmarks must be finite and must not fall on one point")
    real, imaginary = float((a * b).sum()) / size, float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / size
    turn = np.array([[real, -imaginary], [imaginary, real]])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = turn, wanted - turn @ centre
    return matrix


def _filled(x: Tensor, sizes: list[int]) -> Tensor:
    """[B, C, H, W] with zeros after the end of each of the last three axes."""
    missing = [size - have for size, have in zip(sizes, x.shape[1:], strict=True)]
    return functional.pad(x, (0, missing[2], 0, missing[1], 0, missing[0])) if any(missing) else x


def _fill(layer: nn.Conv2d, kernel: F32, affine: F32) -> None:
    """A convolution [filters and then biases] and the factor and offset that follow it, made one."""
    count = layer.out_channels
    weight = kernel[:-count].reshape(tuple(layer.weight.shape))
    factor, offset = affine.reshape(2, count)
    bias = kernel[-count:] * factor + offset
    folded = {"weight": weight * factor[:, None, None, None], "bias": bias}
    layer.load_state_dict({name: torch.from_numpy(value) for name, value in folded.items()})


def _tensors(content: bytes) -> Iterator[F32]:
    """The tensors of the learned layers, in the order of the file, which is that of the network."""
    at = 0
    while True:
        found = [(content.find(tag, at), tag) for tag in (b"\x05con_4", b"\x07affine_", b"\x04fc_2")]
        there = [(place, tag) for place, tag in found if place >= 0]
        if not there:
            return
        place, tag = min(there)
        start = content.find(TENSOR, place + len(tag)) + len(TENSOR)
        sizes = []
        for _ in range(4):
            value, start = _integer(content, start)
            sizes.append(value)
        at = start + 4 * int(np.prod(sizes))
        yield np.frombuffer(content[start:at], "<f4").astype(np.float32)


def _integer(content: bytes, at: int) -> tuple[int, int]:
    """One of dlib's integers, a length and that many bytes, and where the next thing begins."""
    length = content[at] & 0x0F
    return int.from_bytes(content[at + 1 : at + 1 + length], "little"), at + 1 + length
