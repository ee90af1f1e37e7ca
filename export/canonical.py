"""MediaPipe's canonical face mesh, read out of face_landmarker.task without a protobuf library.

The member is a protobuf message; only its wire format matters here (varints and length-delimited fields).
Field 1 is the mesh: its field 3 holds five floats a vertex (x y z u v), its field 4 the triangles' indices.
"""

import zipfile
from collections.abc import Iterator

import numpy as np

from engine.errors import AssetError
from export.train_face_model import CanonicalMesh

MEMBER = "geometry_pipeline_metadata_landmarks.binarypb"
MESH, VERTEX_BUFFER, INDEX_BUFFER = 1, 3, 4
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def read_canonical_mesh(task: zipfile.ZipFile) -> CanonicalMesh:
    """The mesh of an opened .task file, y down and z into the head.

    Raises:
        AssetError: the file does not hold it.
    """
    try:
        floats, indices = _buffers(task.read(MEMBER))
        rows = np.frombuffer(floats, "<f4").reshape(-1, 5)
        triangles = np.array(indices, np.int32).reshape(-1, 3)
    except (KeyError, ValueError, IndexError) as error:
        raise AssetError(f"the face landmarker holds no canonical mesh: {error}") from error
    vertices = rows[:, :3] * np.array([1, -1, -1], np.float32)
    return CanonicalMesh(vertices.astype(np.float32), rows[:, 3:].copy(), triangles)


def _buffers(message: bytes) -> tuple[bytes, list[int]]:
    floats, indices = b"", []
    for number, content in _fields(message):
        if number != MESH or isinstance(content, int):
            continue
        for part, value in _fields(content):
            if part == VERTEX_BUFFER and isinstance(value, bytes):
                floats += value
            elif part == INDEX_BUFFER:
                indices += [value] if isinstance(value, int) else _varints(value)
    return floats, indices


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _varints(data: bytes) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire not in {FIXED64, BYTES, FIXED32}:
            raise ValueError(f"wire type {wire} is not supported")
        size = {FIXED64: 8, FIXED32: 4}.get(wire)
        if size is None:
            size, at = _varint(data, at)
        yield key >> 3, data[at : at + size]
        at += size
