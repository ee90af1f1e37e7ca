import pytest

pytest.importorskip("torch")

import torch

from engine.expression.audio import MEL_BANDS, SILENCE
from export.speech_front import FAST_FEATURES, MEMORY, SLOW_FEATURES, SpeechFront
from tests.support.toy_audio_net import random_front

STEPS = 20


@pytest.fixture(scope="module")
def front() -> SpeechFront:
    return random_front()


def mels(seed: int = 0) -> torch.Tensor:
    """With two frames of silence before."""
    sound = torch.randn((2, 4 * STEPS, MEL_BANDS), generator=torch.Generator().manual_seed(seed)) * 2 - 5
    return torch.cat([torch.full((2, 2, MEL_BANDS), SILENCE), sound], 1)


def test_steps_are_the_whole(front: SpeechFront) -> None:
    fast, slow, memory = front(mels(), torch.zeros(2, MEMORY))
    assert fast.shape == (2, 1 + 2 * STEPS, FAST_FEATURES)
    assert slow.shape == (2, STEPS, SLOW_FEATURES)
    state, fasts, slows = torch.zeros(2, MEMORY), [], []
    for start in range(0, 4 * STEPS, 4):
        a, b, state = front(mels()[:, start : start + 6], state)
        fasts.append(a[:, 1:])
        slows.append(b)
    torch.testing.assert_close(torch.cat(fasts, 1), fast[:, 1:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cat(slows, 1), slow, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(state, memory, atol=1e-4, rtol=1e-4)


def test_nothing_is_heard_early(front: SpeechFront) -> None:
    changed = mels()
    changed[:, 42:] += 3  # the steps from the tenth on
    fast, slow, _ = front(mels(), torch.zeros(2, MEMORY))
    other_fast, other_slow, _ = front(changed, torch.zeros(2, MEMORY))
    torch.testing.assert_close(other_fast[:, :21], fast[:, :21])
    torch.testing.assert_close(other_slow[:, :10], slow[:, :10])
    assert (other_slow[:, 10] - slow[:, 10]).abs().max() > 1e-3


def test_settled_memory_is_silence(front: SpeechFront) -> None:
    quiet = torch.full((1, 2 + 4 * STEPS, MEL_BANDS), SILENCE)
    fast, slow, memory = front(quiet, torch.zeros(1, MEMORY))
    assert memory.abs().max() < 1e-3
    assert fast.std(1).max() < 1e-3
    assert slow.std(1).max() < 1e-3


def test_its_weights_stay(front: SpeechFront) -> None:
    assert not any(parameter.requires_grad for parameter in front.parameters())
