import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from engine.actor.pack import (
    MAX_MANIFEST_BYTES,
    MAX_PACK_BYTES,
    ActorPack,
    decode_pack,
    encode_pack,
    read_pack,
    write_pack,
)
from engine.errors import ActorPackError, OutputError
from tests.support.packs import (
    Header,
    join,
    make_manifest,
    make_pack,
    split,
    with_header,
    with_member,
)

VALID = encode_pack(make_pack())


def refused(data: bytes) -> str:
    with pytest.raises(ActorPackError) as caught:
        decode_pack(data)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_round_trip(tmp_path: Path) -> None:
    pack, path = make_pack(), tmp_path / "ada.actor"
    write_pack(pack, path)
    back = read_pack(path)
    assert back.manifest == pack.manifest
    for name, tensors in pack.members().items():
        assert back.members()[name].keys() == tensors.keys()
        for key, array in tensors.items():
            np.testing.assert_array_equal(back.members()[name][key], array)
            assert back.members()[name][key].dtype == array.dtype
    assert list(tmp_path.iterdir()) == [path]


def test_equal_content_gives_equal_bytes() -> None:
    weights = {"b": np.ones(2, np.float32), "a": np.zeros(3, np.float32)}
    swapped = dict(reversed(weights.items()))
    one = encode_pack(make_pack(weights=weights, manifest=make_manifest(metrics={"x": 1, "y": 2})))
    two = encode_pack(make_pack(weights=swapped, manifest=make_manifest(metrics={"y": 2, "x": 1})))
    assert one == two
    assert encode_pack(make_pack(seed=1)) != encode_pack(make_pack(seed=2))
    assert encode_pack(decode_pack(VALID)) == VALID


def test_weights_extras_references_and_consent_may_be_absent() -> None:
    pack = make_pack(
        weights={},
        extras={},
        references=np.zeros((0, 8, 8, 3), np.uint8),
        manifest=make_manifest(consent=None, metrics={}, rights=""),
    )
    back = decode_pack(encode_pack(pack))
    assert not back.weights
    assert not back.extras
    assert back.references.shape == (0, 8, 8, 3)
    assert back.manifest.consent is None


def test_a_pack_cannot_be_changed() -> None:
    mine = np.ones((7, 3), np.float32)
    pack = make_pack(neutral=mine)
    mine[:] = 2
    assert np.all(pack.neutral == 1)
    for array in (pack.neutral, pack.texture, pack.weights["head.weight"], decode_pack(VALID).style):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(TypeError):
        pack.weights["new"] = mine  # type: ignore[index]
    with pytest.raises(TypeError):
        pack.manifest.metrics["new"] = 1.0  # type: ignore[index]
    with pytest.raises(AttributeError):
        pack.neutral = mine  # type: ignore[misc]


def test_arrays_of_any_layout_are_kept_right() -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    big_endian = np.arange(3).astype(">f4")
    back = decode_pack(encode_pack(make_pack(weights={"turned": turned, "big_endian": big_endian})))
    np.testing.assert_array_equal(back.weights["turned"], turned)
    np.testing.assert_array_equal(back.weights["big_endian"], [0, 1, 2])


def test_repr_shows_shapes_and_no_values() -> None:
    text = repr(make_pack())
    assert "neutral: float32 [7, 3]" in text
    assert "weights: 1" in text
    assert len(text) < 300


@pytest.mark.parametrize(
    "changes",
    [
        {"neutral": np.zeros((7, 2), np.float32)},
        {"neutral": np.zeros((0, 3), np.float32), "mean_residual": np.zeros((0, 3), np.float32)},
        {"neutral": np.zeros((7, 3), np.float64)},
        {"neutral": np.full((7, 3), np.nan, np.float32)},
        {"neutral": [[0.0, 0.0, 0.0]]},
        {"mean_residual": np.zeros((6, 3), np.float32)},
        {"texture": np.zeros((4, 6, 5), np.float32)},
        {"texture": np.full((4, 6, 5), np.inf, np.float16)},
        {"style": np.zeros((1, 3), np.float32)},
        {"style": np.zeros(70_000, np.float32)},
        {"references": np.zeros((2, 4, 5, 3), np.uint8)},
        {"references": np.zeros((2, 4, 4, 3), np.float32)},
        {"weights": {"w": np.zeros(2, np.float64)}},
        {"weights": {"w": np.array([np.nan], np.float32)}},
        {"weights": {"../w": np.zeros(2, np.float32)}},
        {"weights": {"__metadata__": np.zeros(2, np.float32)}},
        {"weights": {f"w{i}": np.zeros(0, np.float32) for i in range(5000)}},
        {"extras": {"w": np.zeros(2, np.complex64)}},
        {"extras": {"w": np.zeros((1,) * 9, np.float32)}},
        {"extras": {"w": np.array(["text"])}},
        {"extras": {"w": 3.0}},
    ],
)
def test_wrong_arrays_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        make_pack(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a\x1b[31m"},
        {"name": "a\nb"},
        {"name": "\ud800"},
        {"name": "a" * 201},
        {"created": "yesterday"},
        {"created": "2026-01-01T00:00:00"},
        {"prior_sha256": "F" * 64},
        {"face_model_sha256": "0" * 63},
        {"tier": "../cpu"},
        {"image_size_px": 0},
        {"image_size_px": 10**30},
        {"seconds_used": float("nan")},
        {"seconds_used": -1.0},
        {"metrics": {"x": float("nan")}},
        {"metrics": {"": 1.0}},
        {"metrics": {str(i): 1.0 for i in range(300)}},
        {"rights": "x" * 5000},
    ],
)
def test_wrong_manifests_are_refused_by_writer_and_reader(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        make_manifest(**changes)
    if changes.get("name") != "\ud800":  # which JSON cannot carry
        refused(with_header(VALID, lambda header: header.update(changes)))


def set_version(version: object) -> bytes:
    return with_header(VALID, lambda header: header.update(format_version=version))


def change_member(index: int, **changes: object) -> bytes:
    return with_header(VALID, lambda header: header["members"][index].update(changes))


def swap_members(header: Header) -> None:
    header["members"][0], header["members"][1] = header["members"][1], header["members"][0]


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty file"),
    "other file": (lambda: b"PK\x03\x04" + bytes(100), "not an actor pack"),
    "sent as text": (lambda: VALID.replace(b"\r\n", b"\n", 1), "not an actor pack"),
    "only the magic": (lambda: VALID[:8], "truncated before the manifest"),
    "half a manifest": (lambda: VALID[:200], "truncated within the manifest"),
    "half a member": (lambda: VALID[:-1], "truncated within member 'extras'"),
    "trailing bytes": (lambda: VALID + b"\0", "1 bytes follow"),
    "long header": (lambda: VALID[:8] + b"\xff\xff\xff\xff" + VALID[12:], "claims 4294967295 bytes"),
    "header over the cap": (lambda: join(b" " * (MAX_MANIFEST_BYTES + 1), b""), "claims 65537 bytes"),
    "flipped manifest": (lambda: VALID[:60] + b"~" + VALID[61:], "manifest's checksum"),
    "flipped member": (lambda: VALID[:-1] + b"~", "checksum of member 'extras'"),
    "newer": (lambda: set_version(7), "made by a newer livedub: format 7, this one reads 1"),
    "far newer": (lambda: set_version(2**63), "made by a newer livedub: format 9223372036854775808"),
    "version 0": (lambda: set_version(0), "format 0 does not exist"),
    "version -1": (lambda: set_version(-1), "format -1 does not exist"),
    "version text": (lambda: set_version("1"), "manifest cannot be used"),
    "no version": (lambda: with_header(VALID, lambda h: h.pop("format_version")), "format_version"),
    "no name": (lambda: with_header(VALID, lambda h: h.pop("name")), "name"),
    "no members": (lambda: with_header(VALID, lambda h: h.pop("members")), "members"),
    "not JSON": (lambda: join(b"format: 1", split(VALID)[1]), "manifest cannot be used"),
    "not UTF-8": (lambda: join(b'{"name":"\xff"}', split(VALID)[1]), "manifest cannot be used"),
    "a list": (lambda: join(b"[]", split(VALID)[1]), "manifest cannot be used"),
    "deep": (lambda: join(b'{"x":' + b"[" * 60_000, b""), "manifest cannot be used"),
    "NaN": (lambda: join(b'{"format_version":NaN}', b""), "manifest cannot be used"),
    "infinite": (lambda: join(b'{"format_version":1,"seconds_used":1e999}', b""), "manifest cannot be used"),
    "unknown member": (lambda: change_member(0, name="engine"), "'engine', which this livedub does not know"),
    "path as member": (lambda: change_member(0, name="../../etc/passwd"), "does not know"),
    "member twice": (lambda: change_member(0, name="texture"), "missing or there twice"),
    "member missing": (lambda: with_header(VALID, lambda h: h["members"].pop()), "missing or there twice"),
    "hole": (
        lambda: change_member(1, offset=split(VALID)[0]["members"][1]["offset"] + 8),
        "hole or overlaps",
    ),
    "overlap": (lambda: change_member(1, offset=0), "hole or overlaps"),
    "negative": (lambda: change_member(0, length=-1), "hole or overlaps"),
    "huge": (lambda: change_member(0, length=2**62), "truncated within member 'geometry'"),
    "order": (lambda: with_header(VALID, swap_members), "hole or overlaps"),
    "checksum text": (lambda: change_member(0, sha256="?"), "checksum of member 'geometry'"),
    "consent without words": (
        lambda: with_header(VALID, lambda h: h["consent"].update(statement="")),
        "consent.statement",
    ),
    "not safetensors": (lambda: with_member(VALID, "style", b"x" * 40), "too long a header"),
    "empty member": (lambda: with_member(VALID, "style", b""), "member 'style' cannot be used"),
    "pickle": (lambda: with_member(VALID, "style", b"\x80\x04K\x01.\0\0\0"), "too long a header"),
    "long member header": (
        lambda: with_member(VALID, "style", (2**20 + 1).to_bytes(8, "little") + b" " * (2**20 + 1)),
        "too long a header",
    ),
    "wrong tensor": (
        lambda: with_member(VALID, "style", save({"stile": np.zeros(3, np.float32)})),
        "must hold style",
    ),
    "one tensor more": (
        lambda: with_member(VALID, "style", save({n: np.zeros(3, np.float32) for n in ("style", "x")})),
        "must hold style",
    ),
    "wrong dtype": (
        lambda: with_member(VALID, "style", save({"style": np.zeros(3, np.float64)})),
        "style must be an array of float32",
    ),
    "dtype not allowed": (
        lambda: with_member(VALID, "extras", save({"x": np.zeros(3, np.bool_)})),
        "BOOL, which is not allowed",
    ),
    "wrong shape": (
        lambda: with_member(VALID, "texture", save({"texture": np.zeros((4, 6), np.float16)})),
        "texture must have shape",
    ),
    "absurd shape": (
        lambda: with_member(VALID, "extras", save({"x": np.zeros((0, 2**40), np.float32)})),
        "absurd shape",
    ),
    "NaN in a texture": (
        lambda: with_member(VALID, "texture", save({"texture": np.full((4, 6, 5), np.nan, np.float16)})),
        "not finite",
    ),
    "NaN in a weight": (
        lambda: with_member(VALID, "weights", save({"w": np.full(3, np.inf, np.float32)})),
        "not finite",
    ),
    "odd tensor name": (
        lambda: with_member(VALID, "weights", save({"a\x1b[2J": np.zeros(3, np.float32)})),
        "a name in weights",
    ),
    "oversized": (lambda: VALID + bytes(MAX_PACK_BYTES), "larger than"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_in_one_line(case: str) -> None:
    make, reason = HOSTILE[case]
    assert reason in refused(make())


def test_unknown_manifest_keys_are_ignored() -> None:
    data = with_header(VALID, lambda header: header.update(later={"any": [1, None]}))
    assert encode_pack(decode_pack(data)) == VALID


def test_files_that_are_no_regular_files_are_refused(tmp_path: Path) -> None:
    real, link, pipe = tmp_path / "real.actor", tmp_path / "link.actor", tmp_path / "pipe.actor"
    write_pack(make_pack(), real)
    link.symlink_to(real)
    os.mkfifo(pipe)
    (tmp_path / "empty.actor").touch()
    for path, reason in {
        link: "symbolic link",
        pipe: "not an actor pack",
        tmp_path: "not an actor pack",
        Path("/dev/zero"): "not an actor pack",
        tmp_path / "none.actor": "no such actor pack",
        real / "below": "cannot be read",
        Path("a\0b"): "cannot be read",
        tmp_path / "empty.actor": "empty file",
    }.items():
        with pytest.raises(ActorPackError, match=reason) as caught:
            read_pack(path)
        assert repr(str(path)) in str(caught.value)


def test_a_file_beyond_the_cap_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "sparse.actor"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ActorPackError, match="larger than"):
        read_pack(path)


def test_writing_replaces_and_never_leaves_a_part(tmp_path: Path) -> None:
    path = tmp_path / "ada.actor"
    write_pack(make_pack(seed=1), path)
    write_pack(make_pack(seed=2), path)
    assert path.read_bytes() == encode_pack(make_pack(seed=2))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*ada\.actor"):
            write_pack(make_pack(seed=3), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == encode_pack(make_pack(seed=2))
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written_are_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (
        tmp_path,
        tmp_path / "none" / "a.actor",
        tmp_path / "file" / "a.actor",
        Path("/proc/a.actor"),
    ):
        with pytest.raises(OutputError, match="cannot write"):
            write_pack(make_pack(), path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_a_pack_beyond_the_limits_is_not_written() -> None:
    big: ActorPack = make_pack(weights={f"w{i}": np.zeros((1024, 4096), np.float32) for i in range(4)})
    with pytest.raises(ValueError, match="at most 67108864"):
        encode_pack(big)
    wordy = {"metrics": {"é" * 60 + str(i): 1.0 for i in range(256)}, "name": "é", "rights": "é" * 4000}
    consent = decode_pack(VALID).manifest.consent
    assert consent is not None
    with pytest.raises(ValueError, match="at most 65536"):
        encode_pack(
            make_pack(
                manifest=make_manifest(
                    **wordy,
                    consent=type(consent)(
                        "é" * 8000, "é" * 8000, "é" * 8000, ("de",), "2026-01-01T00:00:00Z", None, "é" * 8000
                    ),
                )
            )
        )
