"""The kernels of geometry.cu, compiled for the CPU, against the renderer's rasteriser, mask and canvas."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.arrays import F32, I32, U8, Array
from engine.backends.cuda.params import FRAME_PARAMS
from engine.face.model import CAVITY, LOWER_TEETH, SKIN, UPPER_TEETH, load_face_model
from engine.render.canvas import empty_canvas, fill_canvas, fill_canvas_reference
from engine.render.mask import FEATHER_CM, MARGIN_CM, half_planes, hull, soft_mask, soft_mask_reference
from engine.render.raster import NOTHING, UvMap, rasterise, rasterise_reference
from tests.support.host_cuda import HostKernels, HostTexture, host_kernels
from tests.support.toy_actor import crop_head, opened, resting_face

if TYPE_CHECKING:
    from tests.support.host_cuda.device import DeviceKernels

    Kernels = HostKernels | DeviceKernels

SIZE_PX, TEXTURE_PX, CHANNELS = 112, 64, 16
GUARD = 64  # elements behind a kernel's output that it must leave alone
# what the kernels keep to themselves: the triangle and the texel a pixel shows, as resolve_canvas sees them
SHOW = """
extern "C" __global__ void show(const u64* vis, const u32* teeth, const float* vertices, const int* triangles,
                                const int* layers, const float* uv, signed char* layer, float* out, int S) {
  for (int p = first_index(); p < S * S; p += index_stride()) {
    int k = shown_triangle(vis[p], teeth[p], layers);
    layer[p] = k < 0 ? -1 : layers[k];
    if (k < 0) continue;
    const int* t = triangles + 3 * k;
    Weights w = weights_at(corners_of(vertices, t), p % S, p / S);
    out[2 * p] = mixed(w, uv[2 * t[0]], uv[2 * t[1]], uv[2 * t[2]]);
    out[2 * p + 1] = mixed(w, uv[2 * t[0] + 1], uv[2 * t[1] + 1], uv[2 * t[2] + 1]);
  }
}
"""


@dataclass(frozen=True)
class Mesh:
    vertices: F32
    triangles: I32
    layers: I32
    uv: F32

    def rasterise(self, size_px: int, *, reference: bool = False) -> UvMap:
        compute = rasterise_reference if reference else rasterise
        return compute(self.vertices, self.triangles, self.layers, self.uv, size_px, size_px)


@dataclass(frozen=True)
class How:
    """A launch; the result must not depend on it."""

    grid: int = 3
    block: int = 32
    backwards: bool = False


@dataclass
class Raster:
    vis: Array
    teeth: Array
    size_px: int


def kernels(canvas: str = "float") -> HostKernels:
    return host_kernels("geometry.cu", canvas=canvas, more=SHOW)


def face(
    *, opening: float = 0.0, size_px: int = SIZE_PX, yaw_deg: float = 0.0, roll_deg: float = 0.0
) -> Mesh:
    model = load_face_model()
    head = crop_head(size_px, yaw_deg=yaw_deg, roll_deg=roll_deg)
    vertices = model.vertices(resting_face(), opened(opening), head)
    return Mesh(vertices, model.triangles, model.layers, model.uv)


def empty_raster(size_px: int) -> Raster:
    """Not cleared: what a graph's buffers hold from the frame before."""
    cells = size_px * size_px + GUARD
    return Raster(np.full(cells, 7, np.uint64), np.full(cells, 7, np.uint32), size_px)


def draw(
    mesh: Mesh, size_px: int, how: How = How(), into: Raster | None = None, on: "Kernels | None" = None
) -> Raster:
    raster, compiled = into or empty_raster(size_px), on or kernels()
    shape, turned = (how.grid, how.block), how.backwards
    buffers = (raster.vis, raster.teeth)
    compiled.launch("clear_raster", *shape, *buffers, size_px * size_px, backwards=turned)
    arrays = (mesh.vertices, mesh.triangles, mesh.layers, len(mesh.triangles))
    compiled.launch("raster_triangles", *shape, *arrays, *buffers, size_px, backwards=turned)
    assert (raster.vis[-GUARD:] == 7).all(), "nothing behind the picture is written"
    assert (raster.teeth[-GUARD:] == 7).all()
    return raster


def shown(mesh: Mesh, size_px: int, how: How = How()) -> UvMap:
    raster = draw(mesh, size_px, how)
    out = UvMap(np.zeros((size_px, size_px, 2), np.float32), np.full((size_px, size_px), 9, np.int8))
    arrays = (raster.vis, raster.teeth, mesh.vertices, mesh.triangles, mesh.layers, mesh.uv)
    kernels().launch("show", 2, 32, *arrays, out.layer, out.uv, size_px)
    return out


def assert_same(got: UvMap, want: UvMap) -> None:
    np.testing.assert_array_equal(got.layer, want.layer)
    np.testing.assert_array_equal(got.uv, want.uv)


@pytest.mark.parametrize("size_px", [SIZE_PX, 384])
@pytest.mark.parametrize(
    ("yaw_deg", "roll_deg", "opening"), [(0, 0, 0), (15, 20, 1), (-40, -5, 2.5), (80, 0, 1), (0, 180, 3)]
)
def test_a_face_has_the_cpus_pixels(yaw_deg: float, roll_deg: float, opening: float, size_px: int) -> None:
    mesh = face(opening=opening, size_px=size_px, yaw_deg=yaw_deg, roll_deg=roll_deg)
    got = shown(mesh, size_px)
    assert_same(got, mesh.rasterise(size_px))
    assert (got.layer == SKIN).any()
    if size_px == SIZE_PX:
        slow = mesh.rasterise(size_px, reference=True)
        assert np.mean(got.layer == slow.layer) >= 0.9999
        both = (got.layer == slow.layer)[..., None]
        np.testing.assert_allclose(got.uv * both, slow.uv * both, atol=1e-5)


def test_an_open_mouth_shows_every_layer() -> None:
    got = shown(face(opening=2.5), SIZE_PX)
    assert set(np.unique(got.layer)) == {NOTHING, SKIN, CAVITY, LOWER_TEETH, UPPER_TEETH}


COORDINATES = st.one_of(
    st.integers(-4, 28).map(lambda n: n / 2), st.floats(-5, 17, width=32), st.sampled_from([-1e6, 1e6])
)
DEPTHS = st.one_of(st.sampled_from([-1.0, -0.0, 0.0, 1.0]), st.floats(-9, 9, width=32))


@st.composite
def meshes(draw_from: Any) -> Mesh:
    """Any mesh: flat triangles, triangles off the picture, equal depths, corners used twice."""
    vertices = draw_from(st.lists(st.tuples(COORDINATES, COORDINATES, DEPTHS), min_size=3, max_size=10))
    corner = st.integers(0, len(vertices) - 1)
    triangles = draw_from(st.lists(st.tuples(corner, corner, corner), min_size=1, max_size=12))
    layers = draw_from(
        st.lists(st.integers(SKIN, UPPER_TEETH), min_size=len(triangles), max_size=len(triangles))
    )
    uv = np.random.default_rng(0).random((len(vertices), 2), np.float32)
    return Mesh(
        np.array(vertices, np.float32), np.array(triangles, np.int32), np.array(sorted(layers), np.int32), uv
    )


@settings(deadline=None, max_examples=50)
@given(meshes(), st.integers(1, 14), st.builds(How, st.integers(1, 3), st.integers(1, 40), st.booleans()))
def test_any_mesh_has_the_cpus_pixels(mesh: Mesh, size_px: int, how: How) -> None:
    assert_same(shown(mesh, size_px, how), mesh.rasterise(size_px))


def quad(z: float, layer: int, corner: int) -> tuple[list[tuple[float, float, float]], list[tuple[int, ...]]]:
    place = [(0.0, 0.0, z), (8.0, 0.0, z), (8.0, 8.0, z), (0.0, 8.0, z)]
    return place, [(corner, corner + 1, corner + 2, layer), (corner, corner + 2, corner + 3, layer)]


def layered(*quads: tuple[float, int]) -> Mesh:
    """Squares that cover the picture, each of one depth, layer and texel."""
    vertices: list[tuple[float, float, float]] = []
    triangles: list[tuple[int, ...]] = []
    for z, layer in quads:
        place, corners = quad(z, layer, len(vertices))
        vertices += place
        triangles += corners
    rows = np.array(triangles, np.int32)
    texels = np.repeat(np.arange(len(quads), dtype=np.float32) / 8, 4)
    return Mesh(
        np.array(vertices, np.float32),
        np.ascontiguousarray(rows[:, :3]),
        np.ascontiguousarray(rows[:, 3]),
        np.stack([texels, texels], -1),
    )


@pytest.mark.parametrize(
    ("quads", "winner"),
    [
        ([(1.0, SKIN), (0.0, SKIN)], 1),  # nearer
        ([(0.0, SKIN), (0.0, SKIN)], 0),  # of equals the first
        ([(0.0, SKIN), (-0.0, SKIN)], 0),  # minus nought is no nearer
        ([(-0.0, SKIN), (0.0, CAVITY)], 0),
        ([(2e9, SKIN), (4e9, SKIN)], None),  # as far as nothing
        (
            [(1.0, CAVITY), (5.0, LOWER_TEETH), (0.0, LOWER_TEETH)],
            2,
        ),  # the last lower tooth, whatever its depth
        (
            [(1.0, CAVITY), (5.0, LOWER_TEETH), (9.0, UPPER_TEETH), (0.0, UPPER_TEETH)],
            2,
        ),  # the first upper one
        ([(0.0, SKIN), (1.0, CAVITY), (-9.0, LOWER_TEETH), (-9.0, UPPER_TEETH)], 0),  # skin hides the mouth
        ([(0.0, UPPER_TEETH)], None),  # no teeth without a mouth
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_who_wins_a_pixel(quads: list[tuple[float, int]], winner: int | None, backwards: bool) -> None:
    mesh = layered(*quads)
    got = shown(mesh, 8, How(backwards=backwards))
    assert_same(got, mesh.rasterise(8))
    assert (got.layer == (NOTHING if winner is None else quads[winner][1])).all()
    np.testing.assert_allclose(got.uv, 0 if winner is None else winner / 8, atol=1e-6)


@pytest.mark.parametrize("far", [1e30, -1e30, np.inf, -np.inf, np.nan])
def test_a_vertex_that_is_nowhere_draws_nothing_wrong(far: float) -> None:
    mesh = layered((0.0, SKIN))
    mesh.vertices[2, :2] = far
    raster = draw(mesh, 8)
    drawn = raster.vis[:-GUARD] != np.iinfo(np.uint64).max
    if np.isfinite(far):
        assert (raster.vis[:-GUARD][drawn] & 0xFFFFFFFF < 2).all()
    else:
        assert not drawn.any()


def test_the_frame_before_leaves_nothing_behind() -> None:
    first, second = face(opening=2.5, yaw_deg=30), face(opening=0.5, yaw_deg=-20)
    used = draw(second, SIZE_PX, into=draw(first, SIZE_PX))
    fresh = draw(second, SIZE_PX)
    np.testing.assert_array_equal(used.vis, fresh.vis)
    np.testing.assert_array_equal(used.teeth, fresh.teeth)


@dataclass(frozen=True)
class Scene:
    """What resolve_canvas reads for one frame."""

    mesh: Mesh
    corners: F32
    margin_px: float
    feather_px: float
    texture: F32
    source: U8
    reference: U8

    @property
    def size_px(self) -> int:
        return len(self.source)

    def canvas(
        self, canvas_type: str = "float", how: How = How(grid=5), on: "Kernels | None" = None
    ) -> tuple[F32, F32]:
        """The kernel's canvas, as float32, and its mask."""
        compiled, size = on or kernels(canvas_type), self.size_px
        raster = draw(self.mesh, size)
        params = np.zeros(1, FRAME_PARAMS)
        normals, offsets = half_planes(self.corners)
        planes = np.concatenate([normals, offsets[:, None]], 1)
        params["planes"], params["margin_px"] = len(planes), self.margin_px
        params["slope"] = 1 / self.feather_px
        quads = [HostTexture(self.texture[..., c : c + 4]) for c in range(0, CHANNELS, 4)]
        element = np.float32 if canvas_type == "float" else np.float16
        canvas = np.full(size * size * (CHANNELS + 7) + GUARD, 7, element)
        mask = np.full(size * size + GUARD, 7, np.float32)
        given = (params, planes, raster.vis, raster.teeth)
        mesh = (self.mesh.vertices, self.mesh.triangles, self.mesh.layers, self.mesh.uv)
        rest = (*quads, self.source, self.reference, canvas, mask, size)
        shape = (how.grid, how.block)
        compiled.launch("resolve_canvas", *shape, *given, *mesh, *rest, backwards=how.backwards)
        assert (canvas[-GUARD:] == 7).all()
        assert (mask[-GUARD:] == 7).all()
        pixels = canvas[:-GUARD].reshape(size, size, CHANNELS + 7)
        return pixels.astype(np.float32), mask[:-GUARD].reshape(size, size)

    def expected(self, *, reference: bool = False) -> tuple[F32, F32]:
        size = self.size_px
        out = empty_canvas(self.texture, self.reference)[0]
        compute = soft_mask_reference if reference else soft_mask
        mask = compute(self.corners, self.margin_px, self.feather_px, size, size)
        fill = fill_canvas_reference if reference else fill_canvas
        fill(self.texture, self.mesh.rasterise(size), mask, self.source, out)
        return out, mask


def scene(*, smooth: bool = False, opening: float = 1.5, yaw_deg: float = 0.0) -> Scene:
    random = np.random.default_rng(1)
    texture = random.uniform(-0.8, 0.8, (TEXTURE_PX, TEXTURE_PX, CHANNELS))
    if smooth:
        texture = np.add.accumulate(np.add.accumulate(texture, 0), 1) / TEXTURE_PX
    head = crop_head(SIZE_PX, yaw_deg=yaw_deg)
    pictures = random.integers(0, 256, (2, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    return Scene(
        mesh=face(opening=opening, yaw_deg=yaw_deg),
        corners=hull(load_face_model(), resting_face(), opened(opening), head),
        margin_px=MARGIN_CM * head.scale_px,
        feather_px=FEATHER_CM * head.scale_px,
        texture=texture.astype(np.float16).astype(np.float32),
        source=pictures[0],
        reference=pictures[1],
    )


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("yaw_deg", [0.0, -35.0])
@pytest.mark.parametrize("smooth", [False, True])
def test_the_canvas_is_the_cpus(smooth: bool, yaw_deg: float, reference: bool) -> None:
    one = scene(smooth=smooth, yaw_deg=yaw_deg)
    canvas, mask = one.canvas()
    want, want_mask = one.expected(reference=reference)
    if reference:
        np.testing.assert_allclose(mask, want_mask, atol=1e-5)
    else:
        np.testing.assert_array_equal(mask, want_mask)
    np.testing.assert_array_equal(canvas[..., -1], mask)
    np.testing.assert_allclose(canvas[..., CHANNELS:], want[..., CHANNELS:], atol=1e-5)
    off = canvas[..., :CHANNELS] - want[..., :CHANNELS]
    assert np.sqrt(np.mean(off[mask > 0] ** 2)) <= (5e-4 if smooth else 2e-3)  # the texture unit's weights
    assert np.abs(off).max() <= 1e-2
    assert not canvas[mask == 0, :CHANNELS].any()
    assert canvas[..., :CHANNELS].any()


def test_a_canvas_of_halves_is_the_rounded_one() -> None:
    one = scene()
    whole, mask = one.canvas()
    halves, mask_of_halves = one.canvas("__half")
    np.testing.assert_array_equal(halves, whole.astype(np.float16))
    np.testing.assert_array_equal(mask, mask_of_halves)
    want, _ = one.expected()
    assert np.sqrt(np.mean((halves - want) ** 2)) <= 2e-3


@pytest.mark.parametrize("how", [How(1, 1), How(2, 33), How(4, 128, backwards=True)])
def test_the_launch_does_not_matter(how: How) -> None:
    one = scene(yaw_deg=10)
    for got, want in zip(one.canvas(how=how), one.canvas(), strict=True):
        np.testing.assert_array_equal(got, want)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(-20, 130), st.integers(-20, 130)), min_size=3, max_size=12),
    st.floats(0, 9, width=32),
    st.floats(0.5, 20, width=32),
)
def test_any_hulls_mask_is_the_cpus(points: list[tuple[int, int]], margin: float, feather: float) -> None:
    import cv2

    corners = np.asarray(cv2.convexHull(np.array(points, np.float32)), np.float32).reshape(-1, 2)
    base = scene()
    one = Scene(base.mesh, corners, margin, feather, base.texture, base.source, base.reference)
    _, mask = one.canvas()
    np.testing.assert_array_equal(mask, one.expected()[1])


@pytest.mark.gpu
def test_a_device_draws_what_the_host_draws() -> None:
    from engine.backends.cuda.cuda_core import CudaDriver
    from tests.support.host_cuda.device import DeviceKernels

    driver = CudaDriver()
    try:
        for canvas_type in ("float", "__half"):
            device = DeviceKernels(driver, canvas=canvas_type)
            for yaw_deg in (0.0, 35.0):
                one = scene(yaw_deg=yaw_deg)
                there, here = draw(one.mesh, SIZE_PX, on=device), draw(one.mesh, SIZE_PX)
                np.testing.assert_array_equal(there.vis, here.vis)
                np.testing.assert_array_equal(there.teeth, here.teeth)
                (got, mask), (want, want_mask) = one.canvas(canvas_type, on=device), one.canvas(canvas_type)
                np.testing.assert_array_equal(mask, want_mask)
                np.testing.assert_array_equal(got[..., CHANNELS:], want[..., CHANNELS:])
                assert np.sqrt(np.mean((got - want) ** 2)) <= 2e-3
    finally:
        driver.close()
