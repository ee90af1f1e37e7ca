"""Lips from sound: how well audio-to-expression predicts unseen people's mouths, at every look-ahead.

    python -m benchmarks.bench_lips [--data DIR|SET] [--footage DIR] [--model FILE.onnx] [--out DIR] [--quick]
        [--styles]

DATA is a folder of footage with a manifest.csv, or what `livedub train prepare` made of it; its dev people
are measured. FOOTAGE is the folder whose manifest knows the clips' languages and whose `audio/` holds
recordings; DATA itself if that is a folder. Writes lips.json (`benchmarks.lips_schema`), lips.png (metric
against look-ahead) and lips_traces.png (prediction against truth over five seconds for three people).

- Real mouths: correlation, lag, range, error, closures and speed in silence; see `export.audio_metrics`.
- The sync measure on the prediction beside the same on the real mouth; see `export.sync_net`.
- Closures on p, b, m where the sounds' times are known: recordings, and synthetic speech in twelve languages.
- The sync measure on what is predicted for real speech in other languages.
- Lips while nobody speaks: silence, noise, hum, music.
- Ways of speaking: a person's own against other people's, on speech it was not found in.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks import lips_plots, lips_rows
from benchmarks.common import Settings
from benchmarks.experiments.options import Options, footage_folder, results_folder
from benchmarks.lips_schema import FootageRow, ForeignRow, LipStudy, SpeechRow, StyleRow, Trace
from benchmarks.lips_styles import style_rows
from benchmarks.lips_summary import results_of, style_text, text_of
from benchmarks.machine import describe_machine
from benchmarks.schema import Result
from engine.errors import AssetError, BackendUnavailable, InputError, LivedubError
from engine.expression.audio import LOOK_AHEADS_MS
from export.sync_net import SyncMeasure, load_sync_measure
from export.training_set import PackedClip, open_data

SUITE, NAME = "lips", "lips.json"
TRACE_LOOK_AHEAD_MS = 120
MIN_FOUND = 0.9  # share of frames with the face: who comes and goes is often not who speaks
QUICK_LANGUAGES, QUICK_LOOK_AHEADS_MS = ("en",), (TRACE_LOOK_AHEAD_MS,)

Say = Callable[[str], None]


def run(settings: Settings) -> list[Result]:
    """The suite with its defaults; its own files go to `benchmarks/results`.

    Raises:
        ValueError: a backend is named; this measures quality, which no backend changes.
        LivedubError: footage, or a model, is not there.
    """
    if settings.backend is not None:
        raise ValueError(f"{SUITE} measures quality: it has no backend {settings.backend!r}")
    if settings.quick:
        return results_of(study_of([], None, None, _tell, quick=True))
    folder = footage_folder(Options())
    study = study_of(_clips(folder), folder, None, _tell)
    write(study, results_folder(Options()))
    return results_of(study)


def study_of(
    clips: Sequence[PackedClip],
    footage: Path | None,
    model: Path | None,
    say: Say,
    *,
    quick: bool = False,
) -> LipStudy:
    """Measure everything.

    Args:
        clips: packed footage; people who are held out are measured.
        footage: folder with a manifest.csv and `audio/`; None where there is none.
        model: the exported network; None is the shipped one.
        say: told of everything in lines.
        quick: one language and look-ahead.

    Raises:
        InputError: the model cannot be read.
    """
    voices = _voices(model, QUICK_LOOK_AHEADS_MS if quick else LOOK_AHEADS_MS)
    measure = _measure(say)
    rows, traces = _footage(clips, footage, voices, measure, say)
    real_mm_s, real_s = lips_rows.real_silence([one for one in clips if one.clip.speaks])
    return LipStudy(
        metadata=describe_machine(datetime.now(UTC)),
        model=model.name if model else "shipped",
        real_silence_mm_s=real_mm_s,
        real_silence_s=real_s,
        footage=rows,
        speech=_speech(footage, voices, QUICK_LANGUAGES if quick else tuple(lips_rows.SENTENCES), say),
        foreign=_foreign(footage, voices, measure, say),
        silence=list(lips_rows.silence_rows(voices)),
        traces=lips_plots.chosen(traces),
        styles=styles_of(clips, model, say),
    )


def styles_of(clips: Sequence[PackedClip], model: Path | None, say: Say) -> list[StyleRow]:
    """Whether unseen people's own ways of speaking predict them best; for the arguments see `study_of`."""
    unseen = _unseen(clips, lambda line: None)
    if len({one.clip.identity for one in unseen}) < 2:
        return []
    say("finding ways of speaking")
    return list(style_rows(unseen, _bytes(model)))


def write(study: LipStudy, folder: Path) -> None:
    """The study and its pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_text(_lines(study))
    lips_plots.draw_look_aheads(study, folder / "lips.png")
    if study.traces:
        lips_plots.draw_traces(study, folder / "lips_traces.png")
    if study.styles:
        lips_plots.draw_styles(study, folder / "lips_styles.png")


def _lines(study: LipStudy) -> str:
    """The study as JSON, one row on a line."""
    parts = []
    for name in study.__struct_fields__:
        value = getattr(study, name)
        if isinstance(value, list) and value:
            rows = (msgspec.json.encode(one).decode() for one in value)
            text = "[\n  " + ",\n  ".join(rows) + "\n ]"
        else:
            text = msgspec.json.encode(value).decode()
        parts.append(f' "{name}": {text}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _voices(model: Path | None, look_aheads_ms: Sequence[int]) -> list[lips_rows.Voice]:
    network = _bytes(model)
    return [lips_rows.Voice(look_ahead_ms, network) for look_ahead_ms in look_aheads_ms]


def _bytes(model: Path | None) -> bytes | None:
    try:
        return model.read_bytes() if model else None
    except OSError as error:
        raise InputError(f"cannot read {model}: {error}") from error


def _measure(say: Say) -> SyncMeasure | None:
    try:
        return load_sync_measure()
    except AssetError as error:
        say(f"without the sync measure: {error}")
        return None


def _footage(
    clips: Sequence[PackedClip],
    footage: Path | None,
    voices: Sequence[lips_rows.Voice],
    measure: SyncMeasure | None,
    say: Say,
) -> tuple[list[FootageRow], list[Trace]]:
    rows: list[FootageRow] = []
    traces: list[Trace] = []
    unseen = _unseen(clips, say)
    languages = lips_rows.languages_of(footage) if footage else {}
    for row, trace in lips_rows.footage_rows(unseen, languages, voices, measure):
        rows.append(row)
        if row.look_ahead_ms == TRACE_LOOK_AHEAD_MS:
            traces.append(trace)
            say(f"{row.clip}: correlation {row.correlation or 0:.2f}")
    return rows, traces


def _unseen(clips: Sequence[PackedClip], say: Say) -> list[PackedClip]:
    """The clips of people who are held out whose sound is the mouth's, and whose face is there."""
    unseen = [one for one in clips if one.clip.held_out and one.clip.speaks and one.log_mels() is not None]
    for one in unseen:
        share = float(one.found.mean())
        if share < MIN_FOUND:
            say(f"{one.clip.path.stem} is left out: its face is there in {100 * share:.0f} % of frames")
    return [one for one in unseen if one.found.mean() >= MIN_FOUND]


def _speech(
    footage: Path | None, voices: Sequence[lips_rows.Voice], languages: Sequence[str], say: Say
) -> list[SpeechRow]:
    rows = list(lips_rows.aligned_rows(footage / "audio", voices)) if footage else []
    try:
        rows += lips_rows.synthetic_rows(languages, voices)
    except BackendUnavailable as error:
        say(f"without synthetic speech: {error}")
    return rows


def _foreign(
    footage: Path | None, voices: Sequence[lips_rows.Voice], measure: SyncMeasure | None, say: Say
) -> list[ForeignRow]:
    if footage is None or measure is None:
        return []
    say("reading speech in other languages")
    return list(lips_rows.foreign_rows(footage / "audio", voices, measure))


def _clips(data: Path) -> list[PackedClip]:
    return open_data(data, size_px=None, on_progress=lambda stage, done, total: None)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 2 for wrong use, 1 if something is missing."""
    parser = argparse.ArgumentParser(
        "benchmarks.bench_lips", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, metavar="DIR|SET", help="footage, or a training set")
    parser.add_argument("--footage", type=Path, metavar="DIR", help="for languages and recordings")
    parser.add_argument("--model", type=Path, metavar="FILE.onnx", help="instead of the shipped one")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--styles", action="store_true", help="only ways of speaking; writes nothing")
    parser.add_argument("--quick", action="store_true", help="only prove that it works, without footage")
    given = parser.parse_args(argv)
    try:
        data = None if given.quick else given.data or footage_folder(Options())
        footage = given.footage or (data if data and data.is_dir() else None)
        clips = [] if data is None else _clips(data)
        if given.styles:
            print(style_text(styles_of(clips, given.model, _tell)))
            return 0
        study = study_of(clips, footage, given.model, _tell, quick=given.quick)
        if given.out or not given.quick:
            write(study, results_folder(Options(out=given.out)))
        print(text_of(study))
    except (ValueError, OSError, InputError) as error:
        _tell(f"benchmarks: {error}")
        return 2
    except LivedubError as error:
        _tell(f"benchmarks: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
