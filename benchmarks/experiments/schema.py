"""What a file of an experiment holds: the only description of it, and its check.

A study is JSON: metadata of the last run, what was asked for, one row per adaptation, and the bars.
"""

from typing import Annotated, Any

import msgspec

from benchmarks.schema import Amount, Count, Metadata, Text

PHOTO_S = 0.0  # stands for a single picture where seconds are given

Metric = Annotated[float | None, msgspec.Meta(description="None: could not be measured")]


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What decides about the result of one adaptation; two equal ones are made once.

    Attributes:
        clip: file name of the footage without its ending.
        seconds: of the face being seen that are learned from, those just before the held-out part; 0 is one
            picture.
        variant: "prior", "scratch", or what was left out.
        start: "prior" or "scratch".
        without: parts that are left out.
        steps: of optimisation, at most.
        seed: of everything random.
        prior: hash of the prior's network and mean texture.
        people: whom that prior knows; None if that is not known.
        checked_every: steps between two measurements of the curve; 0 for none.
        until_loss: held-out loss at which a curve has come far enough; None for never.
    """

    clip: Text
    seconds: Amount
    variant: Text
    start: Text
    without: tuple[str, ...] = ()
    steps: Annotated[int, msgspec.Meta(ge=0)]
    seed: Count
    prior: Text
    people: int | None = None
    checked_every: Count = 0
    until_loss: Amount | None = None


class Scores(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Means over the scored held-out frames; the face is the stable crop of the lower face.

    Attributes:
        face_psnr_db, face_ssim: of the whole crop, the drawn picture pasted all over the soft mask.
        mouth_psnr_db, mouth_ssim: of the box around the lips.
        mouth_lmd_px: distance of the 40 lip landmarks, tracked in the drawn and in the real frame, for a face
            of 256 px.
        perceptual: ST-LPIPS of the crop.
        identity: likeness of the face to the real frame's, where it was measured.
    """

    face_psnr_db: Metric = None
    face_ssim: Metric = None
    mouth_psnr_db: Metric = None
    mouth_ssim: Metric = None
    mouth_lmd_px: Metric = None
    perceptual: Metric = None
    identity: Metric = None


METRICS = tuple(Scores.__struct_fields__)


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One point of a learning curve.

    Attributes:
        step: steps done.
        seconds: of optimisation so far, without the checks themselves.
        loss: the training loss on scored held-out frames, undisturbed and without its perceptual part.
        hole_psnr_db, mouth_psnr_db: of the drawn area and of the lips.
    """

    step: Count
    seconds: Amount
    loss: Amount
    hole_psnr_db: float
    mouth_psnr_db: float


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One adaptation and how it did.

    Attributes:
        condition: which.
        frames: learned from.
        held_out_frames: scored.
        steps: of optimisation that were done.
        wall_s, cpu_s: that they took, looks included.
        utc_time: when it began.
        commit: of the code; a "+" says that it was changed since.
        load: average of the machine over the minute before.
        scores: at the end, of what was drawn; None for a run that ended once its curve was done.
        also: the same with other ways of compositing, by name.
        curve: on the way, if the condition asks for it.
    """

    condition: Condition
    frames: Count
    held_out_frames: Count
    steps: Count
    wall_s: Amount
    cpu_s: Amount
    utc_time: Text
    commit: Text
    load: Amount
    scores: Scores | None
    also: dict[str, Scores] = {}
    curve: list[Check] = []


class Bar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One promise, checked.

    Attributes:
        what: in words, with the unit.
        wanted: the bound.
        at_least: whether the bound is the least (True) or the most.
        measured: None if no pair of conditions shows it.
        bound: measured is only known to be at least that (">=").
        note: what it was measured on.
    """

    what: Text
    wanted: float
    at_least: bool
    measured: float | None
    bound: bool = False
    note: str = ""

    @property
    def held(self) -> bool | None:
        """Whether the promise is kept; None if that is open."""
        if self.measured is None:
            return None
        if self.at_least:
            return True if self.measured >= self.wanted else (None if self.bound else False)
        return self.measured <= self.wanted


class Study(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An experiment, whole or as far as it got."""

    metadata: Metadata
    suite: Text
    settings: dict[str, Any]
    complete: bool
    rows: list[Row]
    bars: list[Bar] = []

    def __post_init__(self) -> None:
        keys = [key_of(row.condition) for row in self.rows]
        if len(set(keys)) != len(keys):
            raise ValueError("a study holds each condition once")


def key_of(condition: Condition) -> bytes:
    """What two conditions that lead to the same result share: all but their names."""
    fields = msgspec.structs.asdict(condition)
    del fields["variant"], fields["people"]
    if condition.start == "scratch":
        del fields["prior"]
    return msgspec.json.encode(fields, order="deterministic")


def encode_study(study: Study) -> bytes:
    """Indented JSON with a newline at its end.

    Raises:
        ValueError: a value is not a number.
    """
    data = msgspec.json.encode(study)
    if decode_study(data) != study:
        raise ValueError("a study holds a value that JSON has no word for")
    return msgspec.json.format(data, indent=1) + b"\n"


def decode_study(data: bytes | str) -> Study:
    """Read and check.

    Raises:
        ValueError: it is not JSON, or not a study; the message says where.
    """
    try:
        return msgspec.json.decode(data, type=Study)
    except msgspec.DecodeError as error:
        raise ValueError(f"not an experiment's results: {error}") from error
