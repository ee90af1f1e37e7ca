"""Our kernels in the order in which a frame launches them, each with its arguments by name.

The same names as in their source (kernels/*.cu). Numbers: `S` side of the crop, `n` its pixels, `s` side of
its light's grid (`params.blocks_of`), `cells` side of its displacement's (`params.cells_of`), `count` the
mesh's triangles. Of the arrays, those of the mapped block and of an actor are `params.FrameLayout`'s and
`frame.FrameConstants`'; what lies between is written by one kernel and read by later ones:

    ry, ru, rv      u8 [MAX_SIDE, MAX_SIDE], u8 [MAX_SIDE / 2, MAX_SIDE / 2] twice: the region as it came
    by, bu, bv      likewise: as it will be
    crop, bent      u8 [S, S, 3]: the source, and bent to the expression
    rgb, matched    u8 [S, S, 3]: as drawn, and with the source's light
    vis, teeth      u64 [S, S], u32 [S, S]
    canvas          CANVAS_T [1, S, S, 23], the network's input
    picture         PICTURE_T [1, S, S, 4], its output
    mask, wmask     f32 [S, S]: the soft mask, and faded towards the crop's edge
    alpha           f32 [S, S]
    sums, rows      f32 [s, s, 4]
    offset          f32 [s, s, 3]

Every kernel is right at any launch; `blocks` and `threads` are enough for a crop of 384 px, and small kernels
have small blocks, to use more of the device's cores.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class KernelSpec:
    """One launch.

    Attributes:
        name: of the entry point.
        arguments: their names, in order.
        blocks: of the launch, along one axis.
        threads: of a block.
    """

    name: str
    arguments: tuple[str, ...]
    blocks: int
    threads: int


def _spec(name: str, arguments: str, blocks: int = 576, threads: int = 256) -> KernelSpec:
    return KernelSpec(name, tuple(arguments.split()), blocks, threads)


BEFORE_NETWORK = (
    _spec("copy_in", "params y u v ry ru rv", 128),
    _spec("read_crop", "params ry ru rv crop S"),
    _spec("bend_crop", "params field cells crop bent S"),
    _spec("clear_raster", "vis teeth n"),
    _spec("raster_triangles", "vertices triangles layers count vis teeth S", 128),
    _spec(
        "resolve_canvas",
        "params half_planes vis teeth vertices triangles layers uv t0 t1 t2 t3 bent reference canvas mask S",
    ),
)
AFTER_NETWORK = (
    _spec("split_picture", "picture mask rgb alpha wmask S"),
    _spec("ring_difference", "rgb bent wmask alpha sums S s", 72, 32),
    _spec("blur_rows", "sums rows s", 144, 64),
    _spec("blur_columns", "rows offset s", 72, 32),
    _spec("add_light", "rgb offset s matched S"),
    _spec("bend_region", "params field cells ry ru rv by bu bv S"),
    _spec("blend_region", "params matched alpha by bu bv S"),
    _spec("copy_out", "params by bu bv out_y out_u out_v", 128),
)
KERNELS = BEFORE_NETWORK + AFTER_NETWORK
