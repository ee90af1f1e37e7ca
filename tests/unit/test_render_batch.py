from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from engine.face.model import aperture, load_face_model
from engine.render.raster import rasterise_reference
from export.dataset import FaceClip
from export.render_batch import (
    NO_NOISE,
    TRAINING_NOISE,
    Noise,
    Sample,
    geometry,
    make_batch,
    reference_order,
    unproject,
)
from tests.support.toy_clip import toy_clip

SIZE = 48


@pytest.fixture(scope="module")
def clip() -> FaceClip:
    return toy_clip(size_px=SIZE)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_batch_geometry(clip: FaceClip) -> None:
    model = load_face_model()
    batch = make_batch(
        [clip, clip], [Sample(0, 1, 3), Sample(1, 2, 3), Sample(0, 5, 4)], model, NO_NOISE, rng()
    )
    assert batch.clips == [0, 1, 0]
    assert batch.target.shape == batch.reference.shape == (3, 3, SIZE, SIZE)
    assert batch.uv.shape == (3, SIZE, SIZE, 2)
    for area in (batch.covered, batch.mask, batch.mouth):
        assert area.shape == (3, 1, SIZE, SIZE)
        assert area.min() >= 0
        assert area.max() <= 1
    np.testing.assert_allclose(batch.target[1].permute(1, 2, 0).numpy() * 255, clip.crops[2], atol=1e-3)
    np.testing.assert_allclose(batch.reference[2].permute(1, 2, 0).numpy() * 255, clip.crops[4], atol=1e-3)


def test_without_noise_the_geometry_is_the_frames(clip: FaceClip) -> None:
    model = load_face_model()
    uv_map, mask, mouth = geometry(clip, 3, model, NO_NOISE, rng())
    vertices = model.vertices(clip.neutral, clip.expression[3], clip.pose(3))
    slow = rasterise_reference(vertices, model.triangles, model.layers, model.uv, SIZE, SIZE)
    np.testing.assert_array_equal(uv_map.layer, slow.layer)
    x, y = vertices[[13, 14], :2].mean(0).astype(int)
    assert mask[y, x] == mouth[y, x] == 1
    assert mouth.sum() < 0.5 * mask.sum()
    assert (mask[mouth > 0] > 0).all()


def test_noise_moves_a_little_and_repeats(clip: FaceClip) -> None:
    model = load_face_model()
    plain, _, _ = geometry(clip, 3, model, NO_NOISE, rng())
    noisy, mask, _ = geometry(clip, 3, model, TRAINING_NOISE, rng())
    again, same_mask, _ = geometry(clip, 3, model, TRAINING_NOISE, rng())
    np.testing.assert_array_equal(noisy.uv, again.uv)
    np.testing.assert_array_equal(mask, same_mask)
    both = (plain.layer == 0) & (noisy.layer == 0)
    moved = np.abs(plain.uv - noisy.uv)[both]
    assert 0 < moved.max() < 0.2
    assert moved.mean() < 0.03


def test_light_keeps_the_range_and_is_the_sources_too(clip: FaceClip) -> None:
    batch = make_batch([clip], [Sample(0, 2, 2)], load_face_model(), Noise(colour=0.1, light=0.1), rng())
    assert batch.target.min() >= 0
    assert batch.target.max() <= 1
    np.testing.assert_array_equal(batch.target.numpy(), batch.source.numpy())
    assert np.abs(batch.target[0].permute(1, 2, 0).numpy() * 255 - clip.crops[2]).max() > 1
    assert (batch.reference != batch.target).any(), "the reference was filmed in other light"


def test_one_look_has_one_light(clip: FaceClip) -> None:
    same, also, other = make_batch(
        [clip],
        [Sample(0, 2, 2), Sample(0, 2, 2), Sample(0, 2, 2, look=1)],
        load_face_model(),
        TRAINING_NOISE,
        rng(),
    ).target
    np.testing.assert_array_equal(same.numpy(), also.numpy())
    assert (other != same).any()


def test_compression_spoils_what_comes_in_alone(clip: FaceClip) -> None:
    noise = Noise(compression=1.0)
    batch = make_batch([clip], [Sample(0, 2, 4)], load_face_model(), noise, rng())
    np.testing.assert_allclose(batch.target[0].permute(1, 2, 0).numpy() * 255, clip.crops[2], atol=1e-3)
    assert 0 < (batch.source - batch.target).abs().mean() < 0.1


def test_source_may_have_another_mouth(clip: FaceClip) -> None:
    """The source's mouth is another frame's; well away from the face it is the same picture."""
    closed, opened = (int(reference_order(clip, load_face_model())[k]) for k in (-1, 0))
    batch = make_batch([clip], [Sample(0, closed, opened, other=opened)], load_face_model(), NO_NOISE, rng())
    change = (batch.source - batch.target).abs()
    np.testing.assert_allclose(batch.target[0].permute(1, 2, 0).numpy() * 255, clip.crops[closed], atol=1e-3)
    assert change[0].amax(0)[batch.mouth[0, 0] > 0.5].max() > 0.1
    assert change[..., :3, :].max() < 1e-3


def test_expression_is_partly_what_the_sound_says_and_the_target_follows(clip: FaceClip) -> None:
    model, frame = load_face_model(), int(reference_order(clip, load_face_model())[0])
    speaking = replace(clip, spoken=np.zeros_like(clip.expression))
    plain, spoken = (
        make_batch([one], [Sample(0, frame, 0)], model, Noise(spoken=1.0), rng()) for one in (clip, speaking)
    )
    assert (spoken.uv != plain.uv).any(), "the mouth is drawn less open than it was filmed"
    assert (spoken.target != plain.target).any()
    np.testing.assert_array_equal(spoken.target.numpy(), spoken.source.numpy())


def test_sound_does_not_open_a_filmed_mouth_wide(clip: FaceClip) -> None:
    model, frame = load_face_model(), int(reference_order(clip, load_face_model())[-1])
    wide = replace(clip, spoken=clip.expression + 3 * model.jaw_open)
    shown = make_batch([wide], [Sample(0, frame, 0)], model, Noise(spoken=1.0), rng())
    plain = make_batch([clip], [Sample(0, frame, 0)], model, NO_NOISE, rng())
    assert (shown.target - plain.target).abs().mean() < 0.02


def test_references_are_of_the_open_mouth(clip: FaceClip) -> None:
    model = load_face_model()
    order = reference_order(clip, model)
    assert sorted(order.tolist()) == list(range(len(clip)))
    openings = clip.expression[order] @ aperture(model.basis)
    assert (np.diff(openings) <= 0).all()


def test_unprojected_colours_are_the_footages(clip: FaceClip) -> None:
    """Where skin was seen, the texture has skin's colours; where nothing was seen it has no weight."""
    colour, weight = unproject(clip, load_face_model(), 32)
    assert colour.shape == (32, 32, 3)
    assert weight.shape == (32, 32)
    assert (weight > 0).any()
    assert not colour[weight == 0].any()
    skin = colour[weight > 1]
    seen = clip.crops.reshape(-1, 3) / 255
    assert skin.min() >= seen.min() - 1e-3
    assert skin.max() <= seen.max() + 1e-3
    assert np.abs(np.median(skin, 0) - np.median(seen, 0)).max() < 0.15


def test_frames_kept_for_measuring_are_not_unprojected(clip: FaceClip) -> None:
    spoiled = clip.crops.copy()
    spoiled[9:] = 0
    got, _ = unproject(replace(clip, crops=spoiled), load_face_model(), 32, end=9)
    np.testing.assert_array_equal(got, unproject(clip, load_face_model(), 32, end=9)[0])
