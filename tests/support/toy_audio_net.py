"""An audio-to-expression network with random weights: the size, streams and states of the real one."""

import torch

from engine.expression.audio import SILENCE
from export.audio_net import AudioNet
from export.speech_front import SpeechFront


def tiny_audio_net(expressions: int, seed: int = 0) -> AudioNet:
    """A network that listens, to sound and to style, ready for inference."""
    torch.manual_seed(seed)
    net = AudioNet(expressions).eval()
    net.front.load_state_dict(random_front(seed).state_dict())
    with torch.no_grad():
        net.stretch.weight.normal_(0, 0.2)
        net.out.weight.mul_(4)
        net.offset.fill_(-5)
        net.gain.fill_(0.4)
    return net


def random_front(seed: int = 0) -> SpeechFront:
    """A front end that has learned nothing, with features of a sensible size, settled in silence."""
    torch.manual_seed(seed)
    front = SpeechFront()
    for layer in front.layers:
        torch.nn.init.kaiming_normal_(layer.weight, a=0.2)  # type: ignore[arg-type]
    front.settle(SILENCE)
    return front
