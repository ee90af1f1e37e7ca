"""The demonstration as a whole: files from nothing, and the page in a real browser."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.live.browser import FLAGS, find_browser
from clients.demo.job import DemoProgress, DemoRequest, run_demo
from clients.demo.live import demo_server
from engine.actor.pack import read_pack
from engine.errors import AssetError
from engine.image.yuv import I420
from engine.media import open_video, probe, read_audio
from engine.models import cache_dir, locate

MOUTH = (slice(320, 420), slice(240, 400))  # px of the portrait's frames
FOREHEAD = (slice(190, 240), slice(260, 380))


def need_everything() -> None:
    pytest.importorskip("torch")
    try:
        locate("face_landmarker")
    except AssetError as error:
        pytest.skip(str(error))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with the models alone, so that a run begins from nothing."""
    models = cache_dir() / "models"
    cache = tmp_path / "cache"
    cache.mkdir()
    if models.is_dir():
        (cache / "models").symlink_to(models)
    monkeypatch.setenv("LIVEDUB_CACHE", str(cache))
    return cache


def luma(path: Path) -> list[np.ndarray]:
    def plane(image: I420) -> np.ndarray:
        return image.y.astype(np.float32)

    with open_video(path) as reader:
        return [plane(frame.image) for frame in reader]


@pytest.mark.slow
def test_from_nothing_to_a_face_that_speaks(tmp_path: Path, own_cache: Path) -> None:
    need_everything()
    told: list[DemoProgress] = []
    request = DemoRequest(out_dir=tmp_path / "out", text="Papa, open wide.", steps=1)
    result = run_demo(request, told.append)
    source, dubbed = luma(result.source), luma(result.dubbed)
    assert len(source) == len(dubbed) == result.report["frames"]
    assert probe(result.dubbed).duration_s == pytest.approx(result.report["audio_s"] + 0.2, abs=0.1)
    assert np.abs(read_audio(result.dubbed)).max() > 0.1
    changed = [np.abs(a - b) for a, b in zip(source, dubbed, strict=True)]
    assert np.mean([picture[MOUTH].mean() for picture in changed]) > 2.0
    assert np.mean([picture[FOREHEAD].mean() for picture in changed]) < 1.5
    assert {progress.step for progress in told} == {"speech", "footage", "actor", "dub"}
    consent = read_pack(result.actor).manifest.consent
    assert consent is not None
    assert "NASA" in consent.subject
    assert json.loads((tmp_path / "out" / "report.json").read_text())["frames"] == len(dubbed)
    again = run_demo(request, told.append)
    assert again.report["actor_was_there"]
    assert all(np.array_equal(a, b) for a, b in zip(dubbed, luma(again.dubbed), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ending_it_leaves_nothing_of_the_user_behind(
    tmp_path: Path, own_cache: Path, how: signal.Signals
) -> None:
    need_everything()
    program = (
        "import sys; from clients.demo import *; say = lambda line: print(line, flush=True); "
        "sys.exit(main(DemoOptions(steps=1), say))"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path), "LIVEDUB_CACHE": str(own_cache)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "http://127.0.0.1:" in line)
            assert line.rstrip().endswith("/#session=demo")
            assert list(tmp_path.glob("livedub-demo-*"))
            assert "Ctrl-C" in process.stdout.readline()
            process.send_signal(how)
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert not list(tmp_path.glob("livedub-demo-*"))


@pytest.mark.skipif(find_browser() is None, reason="no Chromium here to look at the page with")
@pytest.mark.slow
def test_the_page_opens_with_a_face_that_speaks(tmp_path: Path, own_cache: Path) -> None:
    need_everything()
    request = DemoRequest(tmp_path / "out", text="Papa, open wide. My blue plums.", steps=1, keep_dir=None)

    async def scenario() -> None:
        async with asyncio.timeout(200), demo_server(request, 0, lambda progress: None) as url:
            await asyncio.to_thread(look, url, tmp_path)

    asyncio.run(scenario())
    picture = cv2.imread(str(tmp_path / "page.png"))
    assert picture is not None
    height, width = picture.shape[:2]
    left, right = picture[60:400, : width // 2], picture[60:400, width // 2 :]
    assert left.std() > 30  # both show a picture
    assert right.std() > 30
    assert height > 800


def look(url: str, folder: Path) -> None:
    """Let the page run for twelve seconds, then take its picture."""
    command = [str(find_browser()), *FLAGS, f"--user-data-dir={folder / 'profile'}", "--hide-scrollbars"]
    command += ["--window-size=1280,1200", "--timeout=12000", f"--screenshot={folder / 'page.png'}", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-800:]
