"""The job behind `livedub train audio`: footage or a training set in, audio-to-expression out."""

from dataclasses import dataclass
from pathlib import Path

from engine.errors import MediaError
from engine.expression.audio import shipped_model
from engine.face.model import FaceModel, load_face_model
from export.audio_assets import export_audio, read_front
from export.audio_data import SpokenClip, read_spoken
from export.train_audio import AudioProgress, steps_in_all, train_audio_net
from export.training_set import OnProgress, open_data, trainable

AUDIO_STEPS = 220


@dataclass(frozen=True)
class AudioReport:
    """What audio-to-expression was trained on, and how well other speakers are predicted at 120 ms."""

    clips: int
    people: int
    minutes: float
    held_out_clips: int
    aperture_correlation: float
    wrong_audio_correlation: float
    range_ratio: float


def train_audio(
    data: Path, out: Path, *, steps: int | None, seed: int, on_progress: OnProgress
) -> AudioReport:
    """Train audio-to-expression from footage or a training set and write the ONNX asset.

    Raises:
        InputError: no clip has a face and sound, or the set cannot be read.
    """
    model, total = load_face_model(), steps or AUDIO_STEPS
    training, held_out = _spoken_clips(data, model, on_progress)
    if not training:
        raise MediaError(f"no clip in {data} has a face and sound to learn from")

    def follow(line: AudioProgress) -> None:
        on_progress("train", line.step, steps_in_all(total))

    net, score = train_audio_net(
        training,
        held_out or training[:8],
        model,
        read_front(shipped_model()),
        steps=total,
        seed=seed,
        on_progress=follow,
    )
    export_audio(net, out)
    minutes = sum(len(clip.mels) for clip in training) / 6000
    return AudioReport(
        len(training),
        len({clip.identity for clip in training}),
        minutes,
        len(held_out),
        score.correlation,
        score.wrong,
        score.range_ratio,
    )


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
