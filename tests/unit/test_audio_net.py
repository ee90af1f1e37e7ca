from pathlib import Path
from warnings import catch_warnings, simplefilter

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import torch

from engine.errors import AssetError
from engine.expression.audio import LOOK_AHEADS_MS, MEL_BANDS, SILENCE, STATES, STYLE_SIZE, AudioToExpression
from export.audio_assets import export_audio, read_front
from export.audio_net import AudioNet
from export.onnx_file import write_onnx
from tests.support.contract import verify_contract
from tests.support.toy_audio_net import tiny_audio_net

STEPS, EXPRESSIONS = 6, 16


@pytest.fixture(scope="module")
def net() -> AudioNet:
    return tiny_audio_net(EXPRESSIONS)


@pytest.fixture(scope="module")
def exported(net: AudioNet, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("assets") / "audio.onnx"
    with catch_warnings():
        simplefilter("ignore")  # torch.export warns of itself
        export_audio(net, path)
    return path.read_bytes()


def mels(rows: int = 2) -> torch.Tensor:
    return torch.randn((rows, 4 * STEPS, MEL_BANDS), generator=torch.Generator().manual_seed(0)) - 5


def code(look_ahead_ms: int, rows: int = 2) -> torch.Tensor:
    row = torch.tensor([[float(known == look_ahead_ms) for known in LOOK_AHEADS_MS]])
    return row.repeat(rows, 1)


def whole(net: AudioNet, look_ahead_ms: int = 120) -> torch.Tensor:
    with torch.no_grad():
        y, *_ = net(mels(), code(look_ahead_ms), torch.zeros(2, STYLE_SIZE), *net.initial_state(2))
    assert isinstance(y, torch.Tensor)
    return y


def test_steps_are_the_whole(net: AudioNet) -> None:
    state, parts = net.initial_state(2), []
    with torch.no_grad():
        for start in range(0, 4 * STEPS, 4):
            y, *rest = net(mels()[:, start : start + 4], code(120), torch.zeros(2, STYLE_SIZE), *state)
            state = (rest[0], rest[1], rest[2], rest[3], rest[4])
            parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole(net), atol=1e-5, rtol=1e-5)


def test_states_have_the_engines_shapes(net: AudioNet) -> None:
    for tensor, shape in zip(net.initial_state(3), STATES.values(), strict=True):
        assert tensor.shape == (3, *shape)


def test_look_ahead_is_told(net: AudioNet) -> None:
    assert (whole(net, 0) - whole(net, 240)).abs().max() > 1e-4


def test_all_answers_are_there_at_once(net: AudioNet) -> None:
    mel_history, stem_history, front_history, memory, _ = net.initial_state(2)
    heard = torch.cat([mel_history, mels()], 1)
    with torch.no_grad():
        fast, slow, _ = net.front(heard[:, 1:], front_history)
        answers = net.answers(heard, fast, slow, torch.zeros(2, STYLE_SIZE), stem_history, memory)[0]
    for index, look_ahead_ms in enumerate(LOOK_AHEADS_MS):
        torch.testing.assert_close(answers[:, index], whole(net, look_ahead_ms))


def test_memory_0_is_silence(net: AudioNet) -> None:
    state = net.initial_state(1)
    quiet = torch.full((1, 8, MEL_BANDS), SILENCE)
    with torch.no_grad():
        _, *after = net(quiet, code(120, 1), torch.zeros(1, STYLE_SIZE), *state)
    torch.testing.assert_close(after[2], state[2], atol=1e-4, rtol=0)


def test_style_is_told(net: AudioNet) -> None:
    with torch.no_grad():
        y, *_ = net(mels(), code(120), torch.ones(2, STYLE_SIZE), *net.initial_state(2))
    assert (y - whole(net)).abs().max() > 1e-3


def test_size_is_within_its_budget() -> None:
    assert sum(parameter.numel() for parameter in AudioNet(EXPRESSIONS).parameters()) <= 1_500_000


def test_front_end_is_read_back(net: AudioNet, exported: bytes) -> None:
    for name, value in read_front(exported).state_dict().items():
        torch.testing.assert_close(value, net.front.state_dict()[name])


def test_network_without_a_front_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    write_onnx(torch.nn.Linear(2, 2), {"x": torch.zeros(1, 2)}, ["y"], path)
    with pytest.raises(AssetError, match="no speech front end"):
        read_front(path.read_bytes())


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_exported_step_is_the_network(net: AudioNet, exported: bytes, backend: str) -> None:
    got = AudioToExpression(120, model=exported, backend=backend).offline(mels().numpy())
    np.testing.assert_allclose(got, whole(net).numpy(), atol=1e-4)


def test_exported_step_keeps_the_contract(exported: bytes) -> None:
    verify_contract(AudioToExpression(60, model=exported), mels().numpy(), atol=2e-5)
