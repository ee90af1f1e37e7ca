"""Training where engine/ and export/ were copied to, and next to nothing is installed."""

import os
import subprocess
import sys
from pathlib import Path

from engine.face.model import load_face_model
from export.training_set import write
from tests.support.toy_set import toy_packed

BARE = """
import sys
NOT_HERE = {"av", "msgspec", "mediapipe", "ai_edge_litert", "openvino", "aiohttp", "webrtcvad"}
NOT_NEEDED = {"engine.media", "engine.face.tracker", "clients", "streaming"}
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in NOT_HERE or name in NOT_NEEDED:
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Missing())
"""


def bare(code: str, *argv: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code where only what a GPU machine has can be imported."""
    return subprocess.run(
        [sys.executable, "-c", BARE + code, *map(str, argv)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
    )


def test_reading_needs_no_media_library(tmp_path: Path) -> None:
    write(tmp_path / "set.safetensors", [toy_packed()])
    done = bare(
        "from pathlib import Path\n"
        "from engine.face.model import load_face_model\n"
        "from export.training_set import read\n"
        "clips = read(Path(sys.argv[1]), load_face_model(), size_px=32)\n"
        "sys.stdout.write(f'{len(clips)} {clips[0].spoken.shape}')\n",
        tmp_path / "set.safetensors",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"1 (7, {load_face_model().expressions})"


def test_training_needs_no_media_library_and_no_downloaded_model(tmp_path: Path) -> None:
    write(tmp_path / "set.safetensors", [toy_packed("ada"), toy_packed("bob"), toy_packed("cem", "dev")])
    done = bare(
        "from export.train_prior_job import main\n"
        "sys.exit(main([sys.argv[1], '-o', sys.argv[2], '--steps', '1', '--device', 'cpu']))",
        tmp_path / "set.safetensors",
        tmp_path / "out",
        LIVEDUB_CACHE=str(tmp_path / "empty"),
    )
    assert done.returncode == 0, done.stderr
    assert "without the perceptual loss" in done.stderr
    assert '"people": 2' in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "prior_cpu.onnx",
        "prior_cpu_texture.safetensors",
        "prior_cpu.checkpoint.safetensors",
        "prior_cpu.csv",
        "prior_cpu.png",
        "prior_cpu.clips.json",
    }


def test_audio_training_needs_no_media_library() -> None:
    done = bare("import export.jobs_audio")
    assert done.returncode == 0, done.stderr
