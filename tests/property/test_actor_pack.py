"""Whatever bytes come in: a pack with exactly that content, or ActorPackError."""

import hashlib
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.actor.pack import MEMBERS, ActorPack, decode_pack, encode_pack
from engine.errors import ActorPackError
from tests.support.packs import HEAD_BYTES, join, make_consent, make_manifest, make_pack, split, with_member

VALID = encode_pack(make_pack())
HEADER, BODY = split(VALID)
SETTINGS = settings(deadline=None, max_examples=50)

names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_./-]{0,20}\Z")
texts = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=30)
small = st.integers(1, 4)


def tensors(dtypes: list[Any]) -> st.SearchStrategy[Any]:
    finite = {"allow_nan": False, "allow_infinity": False}
    shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    return st.sampled_from(dtypes).flatmap(
        lambda dtype: arrays.arrays(dtype, shapes, elements=finite if np.dtype(dtype).kind == "f" else None)
    )


@st.composite
def packs(draw: st.DrawFn) -> ActorPack:
    random = np.random.default_rng(draw(st.integers(0, 99)))
    vertices, side = draw(small), draw(small)
    return make_pack(
        manifest=make_manifest(
            name=draw(texts),
            seconds_used=draw(st.floats(0, 1e6)),
            consent=draw(st.none() | st.builds(make_consent, subject=texts, statement=texts)),
            metrics=draw(
                st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=4)
            ),
        ),
        neutral=random.standard_normal((vertices, 3)).astype(np.float32),
        mean_residual=random.standard_normal((vertices, 3)).astype(np.float32),
        texture=random.standard_normal((draw(small), side, draw(small))).astype(np.float16),
        references=random.integers(0, 256, (draw(small) - 1, side, side, 3), dtype=np.uint8),
        weights=draw(st.dictionaries(names, tensors([np.float16, np.float32]), max_size=4)),
        extras=draw(st.dictionaries(names, tensors([np.float64, np.uint8, np.int32, np.int64]), max_size=4)),
    )


@given(packs())
@SETTINGS
def test_round_trip(pack: ActorPack) -> None:
    data = encode_pack(pack)
    back = decode_pack(data)
    assert back.manifest == pack.manifest
    for name in MEMBERS:
        assert back.members()[name].keys() == pack.members()[name].keys()
        for key, array in pack.members()[name].items():
            assert back.members()[name][key].dtype == array.dtype
            np.testing.assert_array_equal(back.members()[name][key], array)
    assert encode_pack(back) == data


def content_or_refused(data: bytes) -> ActorPack | None:
    try:
        return decode_pack(data)
    except ActorPackError as error:
        if "\n" in str(error):
            raise
        return None


@given(st.integers(0, len(VALID) - 1), st.integers(0, 255))
@SETTINGS
def test_one_other_byte(at: int, value: int) -> None:
    pack = content_or_refused(VALID[:at] + bytes([value]) + VALID[at + 1 :])
    assert pack is None or encode_pack(pack) == VALID
    assert (pack is None) == (VALID[at] != value)


@given(st.integers(0, len(VALID)), st.integers(0, 64), st.binary(max_size=64))
@SETTINGS
def test_cut_and_insert(at: int, removed: int, inserted: bytes) -> None:
    pack = content_or_refused(VALID[:at] + inserted + VALID[at + removed :])
    assert pack is None or encode_pack(pack) == VALID


@given(st.integers(0, len(VALID) - 1))
@SETTINGS
def test_truncation(length: int) -> None:
    assert content_or_refused(VALID[:length]) is None


@given(st.binary(max_size=300))
@SETTINGS
def test_any_bytes(data: bytes) -> None:
    assert content_or_refused(data) is None


@given(st.data())
@SETTINGS
def test_a_signed_manifest_with_other_bytes(data: st.DataObject) -> None:
    """The checksum is no wall against an author: what lies behind it must refuse by itself."""
    text = VALID[HEAD_BYTES : len(VALID) - len(BODY)]
    at = data.draw(st.integers(0, len(text) - 1))
    text = text[:at] + data.draw(st.binary(max_size=4)) + text[at + data.draw(st.integers(0, 4)) :]
    pack = content_or_refused(join(text, BODY))
    assert pack is None or content_or_refused(encode_pack(pack)) is not None


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(HEADER)), json_values)
@SETTINGS
def test_a_signed_manifest_with_any_value(key: str, value: object) -> None:
    pack = content_or_refused(join(msgspec.json.encode(HEADER | {key: value}), BODY))
    assert pack is None or content_or_refused(encode_pack(pack)) is not None


@given(st.sampled_from(MEMBERS), st.data())
@SETTINGS
def test_a_signed_member_with_other_bytes(name: str, data: st.DataObject) -> None:
    member = next(m for m in HEADER["members"] if m["name"] == name)
    blob = BODY[member["offset"] : member["offset"] + member["length"]]
    assert hashlib.sha256(blob).hexdigest() == member["sha256"]
    at = data.draw(st.integers(0, len(blob) - 1))
    changed = blob[:at] + data.draw(st.binary(max_size=8)) + blob[at + data.draw(st.integers(0, 8)) :]
    pack = content_or_refused(with_member(VALID, name, changed))
    assert pack is None or content_or_refused(encode_pack(pack)) is not None
