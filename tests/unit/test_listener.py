from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from engine.arrays import F32
from engine.audio.logmel import LogMel
from engine.errors import InputError
from export.listener import LAYERS_KEPT, WIDTH, load_listener, read_ctranslate2
from tests.support.toy_listener import packed, tiny_whisper


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("whisper") / "model.bin"
    path.write_bytes(packed(tiny_whisper()))
    return path


def mels(seconds: float) -> F32:
    sound = np.random.default_rng(1).normal(0, 0.1, (1, int(seconds * 100) * 160)).astype(np.float32)
    return np.asarray(LogMel().offline(sound)[0], np.float32)


def test_variables_are_read_back(file: Path) -> None:
    stored = read_ctranslate2(file.read_bytes())
    assert stored.keys() == tiny_whisper().keys()
    for name, value in tiny_whisper().items():
        np.testing.assert_array_equal(stored[name], value)


@pytest.mark.parametrize(("seconds", "count"), [(1.23, 60), (21.0, 1050)])
def test_features_are_two_for_every_whole_step_however_long(file: Path, seconds: float, count: int) -> None:
    listener = load_listener(file)
    assert listener is not None
    heard = listener.features(mels(seconds))
    assert heard.shape == (count, LAYERS_KEPT, WIDTH)
    assert heard.dtype == np.float32
    assert np.isfinite(heard).all()
    assert heard.std() > 0


@pytest.mark.parametrize("damaged", ["", "no network", "cut", "empty"])
def test_other_files_are_refused(damaged: str, tmp_path: Path) -> None:
    whole = {"cut": packed(tiny_whisper())[:5000], "empty": packed({})}
    path = tmp_path / "model.bin"
    path.write_bytes(whole.get(damaged, damaged.encode()))
    with pytest.raises(InputError, match="no Whisper tiny"):
        load_listener(path)
