"""Reading the network's file, its arithmetic with random weights, and its values with the pinned ones."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engine.arrays import F32, U8
from engine.errors import AssetError
from engine.models import FETCH_COMMAND
from export import recognise
from export.recognise import Block, Likeness, Recogniser, likeness, load_recogniser, upright
from tests.support import data

DLIB = (-0.122008, 0.043131, 0.038035, 0.025915, -0.151108, -0.028977)


def integer(value: int) -> bytes:
    body = value.to_bytes((value.bit_length() + 7) // 8 or 1, "little")
    return bytes([len(body)]) + body


def tensor(values: F32) -> bytes:
    return b"\x01\x02" + b"".join(integer(n) for n in (values.size, 1, 1, 1)) + values.astype("<f4").tobytes()


def random_file(seed: int = 0, missing: int = 0) -> bytes:
    """A file like the pinned one, in miniature only in what lies between its tensors."""
    rng = np.random.default_rng(seed)
    content = b"\x01\x01\x01\x0dloss_metric_2"
    shapes = [(32, 3, 7)] + [
        shape for into, out in pairwise((32, *recognise.WIDTHS)) for shape in ((out, into, 3), (out, out, 3))
    ]
    for out, into, side in shapes[: len(shapes) - missing]:
        kernel = rng.normal(0, (2 / (into * side * side)) ** 0.5, out * (into * side * side + 1))
        content += b"\x01\x05con_4" + tensor(kernel.astype(np.float32)) + b"\x01\x03\x01\x03"
        affine = np.concatenate([np.ones(out), np.zeros(out)])
        content += b"\x01\x07affine_" + tensor(affine.astype(np.float32)) + b"\x08relu_110"
    head = rng.normal(0, 0.05, recognise.WIDTHS[-1] * recognise.SIZE).astype(np.float32)
    return content + b"\x01\x04fc_2" + integer(128) + integer(256) + tensor(head)


@pytest.fixture(scope="module")
def net() -> Recogniser:
    return Recogniser(random_file())


@pytest.fixture(scope="module")
def pinned() -> Recogniser:
    return load_recogniser(data.model_file(recognise.MODEL))


@pytest.fixture(scope="module")
def landmarks() -> F32:
    from engine.face.tracker import FaceTracker

    data.model_file("face_landmarker")
    found = FaceTracker().step(data.astronaut())
    assert found is not None
    return found.landmarks


def test_one_embedding_of_128_numbers_per_face(net: Recogniser) -> None:
    faces = torch.rand(3, 3, 150, 150, generator=torch.Generator().manual_seed(0)) * 255
    together = net(faces)
    assert together.shape == (3, recognise.SIZE)
    torch.testing.assert_close(net(faces[1:2]), together[1:2], rtol=1e-3, atol=1e-4)
    assert not any(p.requires_grad for p in net.parameters())


def test_factor_and_offset_are_part_of_the_convolution() -> None:
    rng = np.random.default_rng(1)
    layer = torch.nn.Conv2d(2, 3, 3)
    kernel, factor, offset = rng.normal(size=3 * 2 * 9 + 3), rng.normal(size=3), rng.normal(size=3)
    recognise._fill(layer, kernel.astype(np.float32), np.concatenate([factor, offset]).astype(np.float32))
    x = torch.from_numpy(rng.normal(size=(1, 2, 5, 6)).astype(np.float32))
    weight = torch.from_numpy(kernel[:-3].reshape(3, 2, 3, 3).astype(np.float32))
    plain = torch.nn.functional.conv2d(x, weight, torch.from_numpy(kernel[-3:].astype(np.float32)))
    wide = (torch.from_numpy(v.astype(np.float32))[None, :, None, None] for v in (factor, offset))
    want = plain * next(wide) + next(wide)
    torch.testing.assert_close(layer(x), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [35, 36])
def test_a_halving_block_adds_two_results_of_different_sizes(side: int) -> None:
    block = Block(4, 6, halving=True)
    x = torch.rand(1, 4, side, side, generator=torch.Generator().manual_seed(0))
    got = block(x)
    assert got.shape == (1, 6, side // 2, side // 2)
    deep = block.second(block.first(x).relu())
    short = torch.nn.functional.avg_pool2d(x, 2)
    end = deep.shape[2]
    torch.testing.assert_close(got[:, :4, :end, :end], (deep[:, :4] + short[..., :end, :end]).relu())
    torch.testing.assert_close(got[:, 4:, :end, :end], deep[:, 4:].relu())
    if end < side // 2:
        torch.testing.assert_close(got[:, :4, -1], short[:, :, -1].relu())


@pytest.mark.parametrize("content", [b"", b"no tensors", None], ids=["empty", "other", "short"])
def test_a_file_without_the_tensors_is_refused(content: bytes | None) -> None:
    with pytest.raises(AssetError, match="does not hold the tensors"):
        Recogniser(random_file(missing=2) if content is None else content)


def test_integers_of_the_file() -> None:
    for value in (0, 1, 127, 128, 4736, 70000):
        assert recognise._integer(b"x" + integer(value) + b"y", 1) == (value, 1 + len(integer(value)))


def test_a_file_that_is_not_the_pinned_one_is_never_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.dat").write_bytes(random_file())
    with pytest.raises(AssetError, match="not the pinned file"):
        load_recogniser(tmp_path / "net.dat")
    monkeypatch.setenv("LIVEDUB_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match=FETCH_COMMAND):
        load_recogniser()


def test_values_are_those_of_dlib(pinned: Recogniser) -> None:
    """Wanted values come from dlib 20.0.1 itself on this picture."""
    face = np.asarray(cv2.resize(data.astronaut()[40:210, 140:310], (150, 150)), np.uint8)
    got = pinned(torch.from_numpy(face.astype(np.float32).transpose(2, 0, 1)[None].copy()))[0]
    np.testing.assert_allclose(got[: len(DLIB)].numpy(), DLIB, atol=2e-5)


def test_a_face_is_like_itself_changed_and_unlike_another(pinned: Recogniser, landmarks: F32) -> None:
    picture = data.astronaut()
    itself = pinned.embed(picture, landmarks)
    darker = pinned.embed(np.asarray(picture * 0.8, np.uint8), landmarks)
    half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    smaller = pinned.embed(np.asarray(half, np.uint8), np.asarray(landmarks / 2, np.float32))
    stretched = cv2.resize(picture, None, fx=1.0, fy=1.5)
    other = pinned.embed(np.asarray(stretched, np.uint8), landmarks * np.array([1, 1.5, 1], np.float32))
    assert likeness(itself, itself) == 1.0
    assert likeness(itself, darker) > 0.85
    assert likeness(itself, smaller) > 0.8
    assert likeness(itself, other) < likeness(itself, smaller)


def test_upright_puts_eyes_and_nose_where_they_belong(landmarks: F32) -> None:
    picture = data.astronaut()
    turned = cv2.getRotationMatrix2D((225.0, 124.0), 30, 1.7)
    tilted = np.asarray(cv2.warpAffine(picture, turned, (512, 512)), np.uint8)
    moved = landmarks.copy()
    moved[:, :2] = landmarks[:, :2] @ turned[:, :2].T.astype(np.float32) + turned[:, 2].astype(np.float32)
    straight, back = upright(picture, landmarks), upright(tilted, moved)
    assert straight.shape == back.shape == (150, 150, 3)
    assert np.abs(straight.astype(int) - back)[10:-10, 10:-10].mean() < 6


def test_a_large_face_is_shrunk_without_skipping_pixels() -> None:
    stripes = np.zeros((1200, 1200, 3), np.uint8)
    stripes[::2] = 255
    face = np.zeros((478, 3), np.float32)
    places = (np.asarray(recognise.PLACES) + recognise.MARGIN) / (1 + 2 * recognise.MARGIN) * 1200
    face[list(recognise.POINTS), :2] = places
    got = upright(stripes, face)
    assert abs(float(got.mean()) - 127.5) < 2
    assert got.std() < 30


def test_landmarks_on_one_point_are_refused() -> None:
    with pytest.raises(ValueError, match="one point"):
        upright(data.astronaut(), np.full((478, 3), 9, np.float32))


def embedding(value: float) -> F32:
    return np.full(recognise.SIZE, value / np.sqrt(recognise.SIZE), np.float32)


def test_likeness_is_half_where_one_person_becomes_two() -> None:
    assert likeness(embedding(0), embedding(0.6)) == pytest.approx(0.5, abs=1e-6)
    assert likeness(embedding(0), embedding(1.2)) == pytest.approx(0.0, abs=1e-6)


def test_means_over_frames_and_their_yardsticks(net: Recogniser) -> None:
    real = [embedding(v) for v in (0.0, 0.1, 0.2, 0.3)]
    ours = [embedding(v) for v in (0.06, 0.16, 0.26, 0.36)]
    scores = Likeness(net, ours, real, [embedding(0.6)])
    assert scores.similarity() == pytest.approx(1 - 0.06 / 1.2, abs=1e-6)
    assert scores.among_real() == pytest.approx(1 - 0.2 / 1.2, abs=1e-6)
    assert scores.apart() == pytest.approx(1 - (0.14 + 0.14 + 0.26 + 0.26) / 4 / 1.2, abs=1e-6)
    assert scores.to_other() == pytest.approx(1 - (0.54 + 0.44 + 0.34 + 0.24) / 4 / 1.2, abs=1e-6)
    assert scores.real_to_other() == pytest.approx(1 - (0.6 + 0.5 + 0.4 + 0.3) / 4 / 1.2, abs=1e-6)


def test_nothing_is_said_of_nothing(net: Recogniser) -> None:
    nothing = Likeness(net)
    assert (nothing.similarity(), nothing.apart(), nothing.among_real()) == (None, None, None)
    assert (nothing.to_other(), nothing.real_to_other()) == (None, None)
    one = Likeness(net, [embedding(0)], [embedding(0)])
    assert (one.similarity(), one.apart()) == (1.0, None)


def test_frames_without_a_face_are_left_out(net: Recogniser, landmarks: F32) -> None:
    picture: U8 = data.astronaut()
    lost = np.full_like(landmarks, np.nan)
    scores = Likeness(net)
    scores.add(picture, lost, picture, landmarks)
    scores.add(picture, landmarks, picture, lost)
    scores.add_other(picture, lost)
    assert (scores.ours, scores.real, scores.other) == ([], [], [])
    scores.add(picture, landmarks, picture, landmarks)
    scores.add_other(picture, landmarks)
    assert scores.similarity() == scores.to_other() == 1.0
