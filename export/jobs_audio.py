"""The job behind `livedub train audio`: footage or a training set in, audio-to-expression out.

With a set of synthetic speech (`livedub train speech`), and with a recogniser installed (`export.listener`),
it learns far more than footage tells; the network that ships was made with both.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.arrays import Bool
from engine.errors import MediaError
from engine.expression.audio import shipped_model
from engine.face.model import FaceModel, load_face_model
from engine.timing import MEL_RATE_HZ
from export.audio_assets import export_audio, read_front
from export.audio_data import SpokenClip, read_spoken
from export.audio_views import Closures
from export.listener import load_listener
from export.phone_classes import CLOSED
from export.synthetic_speech import read_speech
from export.train_audio import AudioProgress, Sound, steps_in_all, train_audio_net
from export.training_set import OnProgress, open_data, trainable

AUDIO_STEPS = 350
MELS_PER_MINUTE = 60 * MEL_RATE_HZ


@dataclass(frozen=True)
class AudioReport:
    """What audio-to-expression was trained on, and how well other speakers are predicted at 120 ms.

    Attributes:
        minutes: of footage; speech_minutes: of sound that nobody was filmed to.
        listened: whether its teachers heard with a recogniser's ear.
    """

    clips: int
    people: int
    minutes: float
    speech_minutes: float
    listened: bool
    held_out_clips: int
    aperture_correlation: float
    wrong_audio_correlation: float
    range_ratio: float


def train_audio(
    data: Path,
    out: Path,
    *,
    speech: Path | None = None,
    steps: int | None,
    seed: int,
    on_progress: OnProgress,
) -> AudioReport:
    """Train audio-to-expression from footage or a training set and write the ONNX asset.

    Args:
        data: either.
        out: the asset.
        speech: a set of synthetic speech; not used where no recogniser is installed.
        steps: of the network that ships.
        seed: decides everything.
        on_progress: told how far it is.

    Raises:
        InputError: no clip has a face and sound, or a set cannot be read.
    """
    model, total, listener = load_face_model(), steps or AUDIO_STEPS, load_listener()
    training, held_out = _spoken_clips(data, model, on_progress)
    if not training:
        raise MediaError(f"no clip in {data} has a face and sound to learn from")
    sounds = _sounds(speech) if speech and listener else []

    def follow(line: AudioProgress) -> None:
        on_progress("train", line.step, steps_in_all(total, listens=listener is not None))

    net, score = train_audio_net(
        training,
        held_out or training[:8],
        model,
        read_front(shipped_model()),
        steps=total,
        listener=listener,
        sounds=sounds,
        seed=seed,
        on_progress=follow,
    )
    export_audio(net, out)
    return AudioReport(
        len(training),
        len({clip.identity for clip in training}),
        sum(len(clip.mels) for clip in training) / MELS_PER_MINUTE,
        sum(len(sound.mels) for sound in sounds) / MELS_PER_MINUTE,
        listener is not None,
        len(held_out),
        score.correlation,
        score.wrong,
        score.range_ratio,
    )


def _sounds(speech: Path) -> list[Sound]:
    """The utterances that may be learned from, and where their lips must close."""
    return [
        Sound(one.mels, closures(one.labels == CLOSED)) for one in read_speech(speech) if not one.held_out
    ]


def closures(shut: Bool) -> Closures:
    """Closures of a sound, bool [M] at 100 Hz, each a hundredth of a second longer on either side."""
    around = np.pad(shut, 1)
    wide = around[:-2] | around[1:-1] | around[2:]
    return Closures((np.arange(len(shut)) + 0.5) / MEL_RATE_HZ, wide.astype(np.float32))


def _spoken_clips(
    data: Path, model: FaceModel, on_progress: OnProgress
) -> tuple[list[SpokenClip], list[SpokenClip]]:
    packed = open_data(data, size_px=None, on_progress=on_progress)
    learned_from = {one.clip.path for one in trainable(packed)}
    training: list[SpokenClip] = []
    held_out: list[SpokenClip] = []
    for index, one in enumerate(packed):
        spoken = read_spoken(one, model)
        if spoken is not None and (one.clip.held_out or one.clip.path in learned_from):
            (held_out if one.clip.held_out else training).append(spoken)
        on_progress("read", index + 1, len(packed))
    return training, held_out
