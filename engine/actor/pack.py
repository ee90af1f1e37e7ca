"""The actor pack: all that is needed to dub one person, immutable, in one `.actor` file.

Format version 1. Integers are little-endian and unsigned; offsets count from the end of the manifest.

    8 bytes   magic: 89 41 43 54 4F 52 0D 0A  (as PNG's: a transfer as text breaks it)
    4 bytes   length of the manifest
    32 bytes  SHA-256 of the manifest
    manifest  JSON, UTF-8
    members   safetensors blobs, one after the other, up to the end of the file

* A file MUST NOT exceed 64 MiB, its manifest 64 KiB, the header of a member 1 MiB. It MUST be a regular file.
* The manifest MUST have `format_version`: 1, the fields of `Manifest`, and `members`: a list of
  {"name", "offset", "length", "sha256"}. A reader MUST refuse another version and MUST ignore unknown keys.
* The members MUST be `geometry`, `texture`, `style`, `references`, `weights` and `extras`, once each, in the
  order of their offsets, with no hole, no overlap and nothing behind the last. Unknown members are refused.
* Tensors: those of `ActorPack`, with its names, dtypes and shapes; `weights` and `extras` MAY be empty.
  Values MUST be finite. Metadata of a safetensors header is ignored.
* A writer MUST give the same bytes for the same content. Nothing in the file is executed or is a path.
"""

import hashlib
import os
import re
import stat
import struct
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from engine.actor.consent import ConsentRecord, check_text, parse_instant
from engine.arrays import F32, U8, Array, check_array
from engine.errors import ActorPackError, OutputError

FORMAT_VERSION: Literal[1] = 1
MAGIC = b"\x89ACTOR\r\n"
MAX_MANIFEST_BYTES = 64 * 2**10
MAX_PACK_BYTES = 64 * 2**20
MAX_MEMBER_HEADER_BYTES = 2**20
MAX_METRICS = 256
MAX_TENSORS = 4096
MAX_AXIS = 65_536
MAX_RANK = 8
_FIXED = {"geometry": {"neutral", "mean_residual"}} | {n: {n} for n in ("texture", "style", "references")}
MEMBERS = (*_FIXED, "weights", "extras")
_HEAD = struct.Struct("<8sI32s")
_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "U8": "|u1", "I32": "<i4", "I64": "<i8"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,127}")
_TIER = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a pack says about itself.

    Attributes:
        name: the actor's name, one line.
        created: ISO 8601 instant with a UTC offset, given by who makes the pack.
        face_model_sha256: hex digest of the face model that the geometry belongs to.
        prior_sha256: hex digest of the renderer prior that the texture and weights belong to.
        tier: renderer size, "cpu" or "gpu" as livedub makes them.
        image_size_px: side of the square crop that the renderer works on.
        seconds_used: seconds of video that the actor was learned from.
        rights: note on the rights in the footage; may be empty.
        consent: the person's consent, or None when there is no record.
        metrics: the adaptation's own held-out measures; finite.
        format_version: of the file.
    """

    name: str
    created: str
    face_model_sha256: str
    prior_sha256: str
    tier: str
    image_size_px: int
    seconds_used: float
    rights: str = ""
    consent: ConsentRecord | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    format_version: Literal[1] = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_text("name", self.name, most=200)
        check_text("rights", self.rights, most=4096, lines=True, empty=True)
        parse_instant("created", self.created)
        _check_form("face_model_sha256", self.face_model_sha256, _SHA256)
        _check_form("prior_sha256", self.prior_sha256, _SHA256)
        _check_form("tier", self.tier, _TIER)
        if not 16 <= self.image_size_px <= 4096:
            raise ValueError(f"image_size_px must be 16 to 4096, got {str(self.image_size_px)[:20]}")
        if not 0 <= self.seconds_used <= 1e6:
            raise ValueError(f"seconds_used must be 0 to 1e6, got {self.seconds_used}")
        if len(self.metrics) > MAX_METRICS:
            raise ValueError(f"at most {MAX_METRICS} metrics are allowed, got {len(self.metrics)}")
        for key, value in self.metrics.items():
            check_text("metrics", key, most=64)
            if not np.isfinite(value):
                raise ValueError(f"metrics[{key!r}] must be finite, got {value}")
        object.__setattr__(self, "image_size_px", int(self.image_size_px))
        object.__setattr__(self, "seconds_used", float(self.seconds_used))
        frozen = MappingProxyType({key: float(value) for key, value in sorted(self.metrics.items())})
        object.__setattr__(self, "metrics", frozen)

    def as_dict(self) -> dict[str, object]:
        """The fields as plain values, ready for JSON; a consent stays a `ConsentRecord`."""
        return {item.name: getattr(self, item.name) for item in fields(self)} | {
            "metrics": dict(self.metrics)
        }


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ActorPack:
    """One actor, shared by all sessions. Arrays are copied in and read-only; wrong ones are refused.

    Attributes:
        manifest: what the pack says about itself.
        neutral: float32 [V, 3], the resting face, in the face model's units.
        mean_residual: float32 [V, 3], the actor's mean offset from what the face model explains.
        texture: float16 [C, H, W], the neural texture.
        style: float32 [S], the actor's way of speaking; zeros for the average.
        references: uint8 [R, N, N, 3], RGB crops of the actor.
        weights: float16 or float32 tensors of the adapted renderer, by name; empty for the prior's own.
        extras: further arrays by name, such as "jaw_open".
    """

    manifest: Manifest
    neutral: F32
    mean_residual: F32
    texture: NDArray[np.float16]
    style: F32
    references: U8
    weights: Mapping[str, Array] = field(default_factory=dict)
    extras: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check shapes, dtypes and values, and make the arrays this pack's own."""
        check_array("neutral", self.neutral, (None, 3), np.float32)
        check_array("mean_residual", self.mean_residual, (self.neutral.shape[0], 3), np.float32)
        check_array("texture", self.texture, (None, None, None), np.float16)
        check_array("style", self.style, (None,), np.float32)
        check_array("references", self.references, (None, None, None, 3), np.uint8)
        if not (self.neutral.size and self.texture.size):
            raise ValueError("neutral and texture must not be empty")
        if self.references.shape[1] != self.references.shape[2]:
            raise ValueError(f"references must be square, got {list(self.references.shape)}")
        for name in set().union(*_FIXED.values()):
            object.__setattr__(self, name, _own(name, getattr(self, name), tuple(_DTYPES.values())))
        object.__setattr__(self, "weights", _own_all("weights", self.weights, ("<f2", "<f4")))
        object.__setattr__(self, "extras", _own_all("extras", self.extras, tuple(_DTYPES.values())))

    def __repr__(self) -> str:
        fixed = [tensors for member, tensors in self.members().items() if member in _FIXED]
        held = [f"{name}: {a.dtype} {list(a.shape)}" for tensors in fixed for name, a in tensors.items()]
        held += [f"weights: {len(self.weights)}", f"extras: {len(self.extras)}"]
        return f"ActorPack({self.manifest.name!r}, {', '.join(held)})"

    def members(self) -> dict[str, Mapping[str, Array]]:
        """The arrays by member and name, as they lie in a file."""
        return {
            "geometry": {"neutral": self.neutral, "mean_residual": self.mean_residual},
            "texture": {"texture": self.texture},
            "style": {"style": self.style},
            "references": {"references": self.references},
            "weights": self.weights,
            "extras": self.extras,
        }


class _Version(msgspec.Struct):
    format_version: int


class _Member(msgspec.Struct):
    name: str
    offset: int
    length: int
    sha256: str


class _Members(msgspec.Struct):
    members: list[_Member]


def read_pack(path: Path) -> ActorPack:
    """Read an actor pack from a file.

    Raises:
        ActorPackError: no such file, not a regular file, or not a pack of this format.
    """
    try:
        return decode_pack(_read_regular_file(Path(path)))
    except ActorPackError as error:
        raise ActorPackError(f"{str(path)!r}: {error}") from None


def write_pack(pack: ActorPack, path: Path) -> None:
    """Write an actor pack; the file appears whole or not at all.

    Raises:
        OutputError: no permission, disk full, no such folder.
        ValueError: the pack is larger than the format allows.
    """
    path = Path(path)
    data = encode_pack(pack)
    partial = path.parent / f".{uuid.uuid4().hex}.partial"
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def encode_pack(pack: ActorPack) -> bytes:
    """The bytes of a pack's file; equal for equal content.

    Raises:
        ValueError: larger than the format allows.
    """
    blobs = {name: save(dict(tensors)) for name, tensors in pack.members().items()}
    entries: list[_Member] = []
    offset = 0
    for name, blob in blobs.items():
        entries.append(_Member(name, offset, len(blob), hashlib.sha256(blob).hexdigest()))
        offset += len(blob)
    manifest = msgspec.json.encode(pack.manifest.as_dict() | {"members": entries}, order="sorted")
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise ValueError(f"the manifest has {len(manifest)} bytes, at most {MAX_MANIFEST_BYTES} are allowed")
    head = _HEAD.pack(MAGIC, len(manifest), hashlib.sha256(manifest).digest())
    data = b"".join([head, manifest, *blobs.values()])
    if len(data) > MAX_PACK_BYTES:
        raise ValueError(f"the pack has {len(data)} bytes, at most {MAX_PACK_BYTES} are allowed")
    return data


def decode_pack(data: bytes) -> ActorPack:
    """The pack in the bytes of a file.

    Raises:
        ActorPackError: the bytes are no pack of this format; nothing else, whatever the bytes.
    """
    if len(data) > MAX_PACK_BYTES:
        raise ActorPackError(f"larger than {MAX_PACK_BYTES} bytes, which no actor pack is")
    text, body = _split(data)
    version = _parse(text, _Version).format_version
    if version > FORMAT_VERSION:
        raise ActorPackError(
            f"made by a newer livedub: format {str(version)[:20]}, this one reads {FORMAT_VERSION}"
        )
    if version != FORMAT_VERSION:
        raise ActorPackError(
            f"format {str(version)[:20]} does not exist, this livedub reads {FORMAT_VERSION}"
        )
    manifest = _parse(text, Manifest)
    tensors = _members(_parse(text, _Members).members, body)
    fixed: dict[str, Array] = {}
    for member, names in _FIXED.items():
        if tensors[member].keys() != names:
            raise ActorPackError(f"member {member!r} must hold {' and '.join(sorted(names))}, nothing else")
        fixed |= tensors[member]
    try:
        return ActorPack(manifest=manifest, weights=tensors["weights"], extras=tensors["extras"], **fixed)
    except (ValueError, TypeError) as error:
        raise ActorPackError(f"damaged: {error}") from None


def _read_regular_file(path: Path) -> bytes:
    """Bytes of a regular file: never through a link, no waiting for a pipe, at most one byte over the cap."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        if path.is_symlink():
            raise ActorPackError("a symbolic link, give the file itself")
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ActorPackError("a folder or device, not an actor pack")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_PACK_BYTES + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise ActorPackError("no such actor pack") from None
    except (OSError, ValueError) as error:
        raise ActorPackError(f"cannot be read: {error}") from None


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The manifest's text, proven whole, and the bytes behind it."""
    if not data:
        raise ActorPackError("an empty file")
    if not data.startswith(MAGIC):
        raise ActorPackError("not an actor pack")
    if len(data) < _HEAD.size:
        raise ActorPackError("truncated before the manifest")
    _, length, digest = _HEAD.unpack_from(data)
    if length > MAX_MANIFEST_BYTES:
        raise ActorPackError(f"the manifest claims {length} bytes, at most {MAX_MANIFEST_BYTES} are allowed")
    text = data[_HEAD.size : _HEAD.size + length]
    if len(text) < length:
        raise ActorPackError("truncated within the manifest")
    if hashlib.sha256(text).digest() != digest:
        raise ActorPackError("damaged: the manifest's checksum is wrong")
    return text, data[_HEAD.size + length :]


def _parse(text: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise ActorPackError(f"the manifest cannot be used: {' '.join(str(error).split())[:200]}") from None


def _members(entries: list[_Member], body: bytes) -> dict[str, dict[str, Array]]:
    names = [entry.name for entry in entries]
    for name in names:
        if name not in MEMBERS:
            raise ActorPackError(f"has a member {name[:40]!r}, which this livedub does not know")
    if sorted(names) != sorted(MEMBERS):
        raise ActorPackError("a member is missing or there twice")
    end = 0
    tensors: dict[str, dict[str, Array]] = {}
    for entry in entries:
        if entry.offset != end or entry.length < 0:
            raise ActorPackError(f"member {entry.name!r} leaves a hole or overlaps another")
        end += entry.length
        blob = body[entry.offset : end]
        if len(blob) < entry.length:
            raise ActorPackError(f"truncated within member {entry.name!r}")
        if hashlib.sha256(blob).hexdigest() != entry.sha256:
            raise ActorPackError(f"damaged: the checksum of member {entry.name!r} is wrong")
        tensors[entry.name] = _tensors(entry.name, blob)
    if end != len(body):
        raise ActorPackError(f"{len(body) - end} bytes follow the last member")
    return tensors


def _tensors(member: str, blob: bytes) -> dict[str, Array]:
    if int.from_bytes(blob[:8], "little") > MAX_MEMBER_HEADER_BYTES:
        raise ActorPackError(f"member {member!r} has too long a header")
    tensors: dict[str, Array] = {}
    try:
        for name, tensor in deserialize(blob):  # type: ignore[no-untyped-call]
            dtype = _DTYPES.get(tensor["dtype"])
            if dtype is None:
                raise ActorPackError(
                    f"member {member!r} has a tensor of {tensor['dtype']}, which is not allowed"
                )
            tensors[name] = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
    except (SafetensorError, ValueError) as error:
        raise ActorPackError(
            f"member {member!r} cannot be used: {' '.join(str(error).split())[:200]}"
        ) from None
    return tensors


def _check_form(what: str, text: str, form: re.Pattern[str]) -> None:
    if not form.fullmatch(text):
        raise ValueError(f"{what} must match {form.pattern}, got {text[:80]!r}")


def _own_all(what: str, tensors: Mapping[str, Array], dtypes: tuple[str, ...]) -> Mapping[str, Array]:
    if len(tensors) > MAX_TENSORS:
        raise ValueError(f"{what} holds {len(tensors)} arrays, at most {MAX_TENSORS} are allowed")
    for name in tensors:
        _check_form(f"a name in {what}", name, _NAME)
    return MappingProxyType(
        {name: _own(f"{what}[{name!r}]", tensors[name], dtypes) for name in sorted(tensors)}
    )


def _own(what: str, array: Array, dtypes: tuple[str, ...]) -> Array:
    """A read-only copy, checked."""
    if not isinstance(array, np.ndarray) or array.dtype.newbyteorder("<").str not in dtypes:
        got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{what} must be an array of one of {', '.join(dtypes)}, got {got}")
    if array.ndim > MAX_RANK or max(array.shape, default=1) > MAX_AXIS:
        raise ValueError(f"{what} has an absurd shape: {list(array.shape)[:MAX_RANK]}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{what} has values that are not finite")
    copy = np.array(array, array.dtype.newbyteorder("<"), order="C", copy=True)
    copy.setflags(write=False)
    return copy
