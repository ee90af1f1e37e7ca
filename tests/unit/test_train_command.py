"""`livedub train`, and what its jobs promise besides learning: logs, choices, refusals."""

import json
from itertools import pairwise
from pathlib import Path

import cv2
import pytest
import torch

from engine.errors import BackendUnavailable, InputError
from export.jobs_prior import PriorOptions, check_same_clips, choose, chosen_device, clip_list, start_log
from export.plots import plot_log
from export.training_set import write
from tests.support.cli import invoke
from tests.support.toy_set import toy_packed


@pytest.fixture
def small_set(tmp_path: Path) -> Path:
    write(
        tmp_path / "set.safetensors", [toy_packed("ada", large=False), toy_packed("bob", "dev", large=False)]
    )
    return tmp_path / "set.safetensors"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("prepare --data OUT/absent -o OUT/s.safetensors", "there is no such folder"),
        ("prepare --data OUT/set.safetensors -o OUT/s.safetensors", "there is no such folder"),
        ("prepare --data OUT -o OUT/s.zip", ".safetensors"),
        ("prepare --data OUT -o OUT/no/s.safetensors", "there is no folder"),
        ("prepare --data OUT -o OUT/s.safetensors --size 225", "must be even"),
        ("prepare --data OUT -o OUT/s.safetensors", "no video in"),
        ("face-model --data OUT/set.safetensors -o OUT/m.safetensors", "there is no such folder"),
        ("prior --data OUT/absent -o OUT/p", "there is no such folder or training set"),
        ("prior --data OUT/broken.safetensors -o OUT/p", "training set"),
        ("prior --data OUT/set.safetensors -o OUT/p", "shows a face that is large enough"),
        ("prior --data OUT/set.safetensors -o OUT/p --tier huge", "must be one of cpu, gpu"),
        ("prior --data OUT/set.safetensors -o OUT/p --people 0", "--people"),
        ("prior --data OUT/set.safetensors -o OUT/p --device tpu", "--device"),
        ("audio --data OUT/absent -o OUT/a.onnx", "there is no such folder or training set"),
        ("audio --data OUT/set.safetensors -o OUT/a.onnx", "has a face and sound to learn from"),
    ],
)
def test_refusals_name_the_cause(
    line: str, complaint: str, small_set: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (small_set.parent / "broken.safetensors").write_bytes(b"broken")
    outcome = invoke(capfd, "train", *(word.replace("OUT", str(small_set.parent)) for word in line.split()))
    assert outcome.status != 0
    assert complaint in " ".join(outcome.err.split())
    assert "Traceback" not in outcome.err


def test_people_are_the_first_of_a_shuffle_and_clips_keep_their_order() -> None:
    clips = [toy_packed(who, frames=3, size_px=32) for who in "fbdaceab"]
    assert [one.clip.identity for one in choose(clips, PriorOptions())] == list("fbdaceab")
    orders = [[one.clip.identity for one in choose(clips, PriorOptions(people=n))] for n in range(1, 8)]
    assert [len(set(order)) for order in orders] == [1, 2, 3, 4, 5, 6, 6]
    for fewer, more in pairwise(orders):
        assert set(fewer) <= set(more)
        assert fewer == [who for who in "fbdaceab" if who in fewer]
    assert choose(clips, PriorOptions(people=3)) == choose(clips, PriorOptions(people=3))
    others = {
        tuple(one.clip.identity for one in choose(clips, PriorOptions(people=2, seed=s))) for s in range(8)
    }
    assert len(others) > 1


def test_clips_without_crops_are_left_out() -> None:
    clips = [toy_packed("ada", large=False), toy_packed("bob")]
    assert [one.clip.identity for one in choose(clips, PriorOptions())] == ["bob"]


def test_checkpoint_of_other_clips_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "prior_cpu.checkpoint.safetensors"
    check_same_clips(checkpoint, ["a.mp4"])  # nothing is known of it
    assert clip_list(checkpoint) == tmp_path / "prior_cpu.clips.json"
    clip_list(checkpoint).write_text(json.dumps(["a.mp4", "b.mp4"]))
    check_same_clips(checkpoint, ["a.mp4", "b.mp4"])
    with pytest.raises(InputError, match="give the same --data"):
        check_same_clips(checkpoint, ["b.mp4", "a.mp4"])
    clip_list(checkpoint).write_text("[")
    with pytest.raises(InputError, match="cannot be read"):
        check_same_clips(checkpoint, ["a.mp4"])


def test_log_has_a_header_and_goes_on_where_training_does(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    start_log(log, 0)
    assert log.read_text() == "step,loss,psnr_db,mouth_psnr_db\n"
    log.write_text(log.read_text() + "100,1.0,20.0,19.0\n200,0.9,21.0,20.0\n300,0.8,22.0,21.0\n")
    start_log(log, 200)
    assert log.read_text().splitlines()[1:] == ["100,1.0,20.0,19.0", "200,0.9,21.0,20.0"]
    start_log(log, 0)
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.parametrize("lines", [[], ["100,1.0,20.0,19.0"], ["100,1.0,20.0,nan", "200,0.9,21.0,20.0"]])
def test_plot_of_a_log(tmp_path: Path, lines: list[str]) -> None:
    log = tmp_path / "log.csv"
    log.write_text("\n".join(["step,loss,psnr_db,mouth_psnr_db", *lines]) + "\n")
    plot_log(log, tmp_path / "log.png")
    picture = cv2.imread(str(tmp_path / "log.png"))
    assert picture is not None
    assert picture.shape == (400, 900, 3)
    assert picture.std() > 1


@pytest.mark.parametrize("text", ["", "step\n1\n", "step,loss\n1,two\n", "step,loss\n1\n"])
def test_what_is_no_log_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(InputError, match="no training log"):
        plot_log(tmp_path / "log.csv", tmp_path / "log.png")


def test_device() -> None:
    assert chosen_device("cpu").type == "cpu"
    if torch.cuda.is_available():
        assert chosen_device(None).type == "cuda"
        return
    assert chosen_device(None).type == "cpu"
    with pytest.raises(BackendUnavailable, match="no CUDA device"):
        chosen_device("cuda")
