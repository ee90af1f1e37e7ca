"""A small actor pack from a seed, and the bytes of packs that break one rule of the format."""

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from engine.actor.consent import ConsentRecord
from engine.actor.pack import MAGIC, ActorPack, Manifest

Header = dict[str, Any]
HEAD_BYTES = 8 + 4 + 32


def make_consent(**changes: Any) -> ConsentRecord:
    fields: dict[str, Any] = {
        "subject": "Ada",
        "granted_by": "Ada",
        "purpose": "tests",
        "languages": ("de", "pt"),
        "granted_at": "2026-01-01T00:00:00+00:00",
        "expires_at": "2027-01-01T00:00:00Z",
        "statement": "I agree.\nTo this, too.",
    }
    return ConsentRecord(**(fields | changes))


def make_manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "name": "Ada",
        "created": "2026-02-03T04:05:06Z",
        "face_model_sha256": "0" * 64,
        "prior_sha256": "f" * 64,
        "tier": "cpu",
        "image_size_px": 224,
        "seconds_used": 10.0,
        "rights": "own footage",
        "consent": make_consent(),
        "metrics": {"psnr_db": 33.5, "frames": 250.0},
    }
    return Manifest(**(fields | changes))


def make_pack(seed: int = 0, **changes: Any) -> ActorPack:
    random = np.random.default_rng(seed)
    fields: dict[str, Any] = {
        "manifest": make_manifest(),
        "neutral": random.standard_normal((7, 3)).astype(np.float32),
        "mean_residual": random.standard_normal((7, 3)).astype(np.float32),
        "texture": random.standard_normal((4, 6, 5)).astype(np.float16),
        "style": random.standard_normal(3).astype(np.float32),
        "references": random.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8),
        "weights": {"head.weight": random.standard_normal((2, 3)).astype(np.float16)},
        "extras": {"jaw_open": np.array(0.5, np.float32)},
    }
    return ActorPack(**(fields | changes))


def split(data: bytes) -> tuple[Header, bytes]:
    """Manifest and members of a valid pack."""
    length = int.from_bytes(data[8:12], "little")
    header: Header = msgspec.json.decode(data[HEAD_BYTES : HEAD_BYTES + length])
    return header, data[HEAD_BYTES + length :]


def join(text: bytes, body: bytes) -> bytes:
    """A file with a right checksum over any manifest."""
    return struct.pack("<8sI32s", MAGIC, len(text), hashlib.sha256(text).digest()) + text + body


def with_header(data: bytes, change: Callable[[Header], object]) -> bytes:
    """The pack with a changed and newly signed manifest."""
    header, body = split(data)
    change(header)
    return join(msgspec.json.encode(header), body)


def with_member(data: bytes, name: str, blob: bytes) -> bytes:
    """The pack with another blob for a member, newly signed."""
    header, body = split(data)
    blobs = {m["name"]: body[m["offset"] : m["offset"] + m["length"]] for m in header["members"]}
    blobs[name] = blob
    offset = 0
    for member in header["members"]:
        content = blobs[member["name"]]
        member |= {"offset": offset, "length": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        offset += len(content)
    body = b"".join(blobs[member["name"]] for member in header["members"])
    return join(msgspec.json.encode(header), body)
