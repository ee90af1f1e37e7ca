import hashlib
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from clients.credential import credential
from engine.errors import InputError, OutputError
from engine.image.yuv import Colour
from engine.media import DubAudio, VideoFrame, VideoInfo, open_video, open_writer, read_audio
from engine.provenance import (
    ASSERTION,
    FORMATS,
    SOURCE_TYPE,
    Credential,
    Material,
    Origin,
    check_credential,
    comment,
    consent_sha256,
    sign,
)
from tests.support.media import pattern, same_picture, tone, write_sound
from tests.support.packs import make_consent

c2pa = pytest.importorskip("c2pa")
NOW = "2026-02-01T00:00:00+00:00"
INFO = VideoInfo(64, 48, Fraction(1, 25), Fraction(25), Colour("bt601", False))


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Credential:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIVEDUB_CACHE", str(tmp_path_factory.mktemp("cache")))
        return credential(None, None, NOW)


def film(path: Path, **options: Any) -> Path:
    with open_writer(path, INFO, audio=DubAudio(tone(1.0), 48_000), **options) as writer:
        for index in range(25):
            writer.write(VideoFrame(pattern(64, 48, index), index))
    return path


def made_from(source: Path, sound: Path, **changes: Any) -> Origin:
    origin = Origin(
        version="0.1.0",
        when=NOW,
        source=Material(source, hashlib.sha256(source.read_bytes()).hexdigest()),
        sound=Material(sound, hashlib.sha256(sound.read_bytes()).hexdigest()),
        drive="audio",
        actor_sha256="a" * 64,
        consent=make_consent(),
        models={"audio_to_expression": "b" * 64},
        renderer="openvino f32",
    )
    return replace(origin, **changes)


def materials(folder: Path, video: str = "source.mp4") -> tuple[Path, Path]:
    return film(folder / video), write_sound(folder / "voice.wav", tone(0.5, 16_000), 16_000)


def named(path: Path) -> dict[str, str]:
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def read_back(path: Path) -> Any:
    with path.open("rb") as file, c2pa.Reader(FORMATS[path.suffix], file) as reader:
        return json.loads(reader.json())


@pytest.mark.parametrize("name", ["out.mp4", "out.m4v", "out.mov"])
def test_a_signed_film_says_how_it_was_made(name: str, signer: Credential, tmp_path: Path) -> None:
    source, sound = materials(tmp_path)
    origin, out = made_from(source, sound), tmp_path / name
    film(out, seal=lambda path: sign(path, name, origin, signer))
    store = read_back(out)
    assert store["validation_state"] == "Valid"
    assert [one["code"] for one in store["validation_status"]] == ["signingCredential.untrusted"]
    claim = store["manifests"][store["active_manifest"]]
    assert (claim["title"], claim["claim_generator_info"][0]["name"]) == (name, "livedub")
    assert claim["signature_info"]["issuer"] == "livedub, self-signed"
    said = {one["label"]: one["data"] for one in claim["assertions"]}
    opened, edited, placed = said["c2pa.actions.v2"]["actions"]
    assert (opened["action"], edited["action"], placed["action"]) == (
        "c2pa.opened",
        "c2pa.edited",
        "c2pa.placed",
    )
    assert (edited["digitalSourceType"], edited["when"]) == (SOURCE_TYPE, NOW)
    assert said[ASSERTION]["source"] == named(source)
    assert said[ASSERTION]["sound"] == named(sound)
    assert said[ASSERTION]["consent"]["sha256"] == consent_sha256(make_consent())
    assert said[ASSERTION]["drive"] == "audio"
    roles = [(one["title"], one["relationship"]) for one in claim["ingredients"]]
    assert roles == [("source.mp4", "parentOf"), ("voice.wav", "componentOf")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "source.mp4", "voice.wav"])


def test_signing_changes_neither_pictures_nor_sound(signer: Credential, tmp_path: Path) -> None:
    plain, out = film(tmp_path / "plain.mp4"), film(tmp_path / "out.mp4")
    sound = write_sound(tmp_path / "voice.wav", tone(0.5, 16_000), 16_000)
    before = read_audio(out)
    with open_video(out) as reader:
        pictures = [(frame.pts, frame.image.copy()) for frame in reader]
    sign(out, "out.mp4", made_from(plain, sound), signer)
    with open_video(out) as reader:
        for (pts, image), frame in zip(pictures, reader, strict=True):
            assert pts == frame.pts
            assert same_picture(image, frame.image)
    assert (read_audio(out) == before).all()


def test_what_came_live_was_created(signer: Credential, tmp_path: Path) -> None:
    source, sound = materials(tmp_path)
    origin = replace(made_from(source, sound), source=None, sound=None)
    out = film(tmp_path / "out.mp4", seal=lambda path: sign(path, "out.mp4", origin, signer))
    store = read_back(out)
    claim = store["manifests"][store["active_manifest"]]
    (action,) = claim["assertions"][1]["data"]["actions"]
    assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", SOURCE_TYPE)
    assert (store["validation_state"], claim.get("ingredients", [])) == ("Valid", [])


def test_a_change_after_signing_shows(signer: Credential, tmp_path: Path) -> None:
    source, sound = materials(tmp_path)
    out = film(tmp_path / "out.mp4")
    sign(out, "out.mp4", made_from(source, sound), signer)
    data = bytearray(out.read_bytes())
    data[data.rindex(b"mdat") + 100] ^= 1
    out.write_bytes(data)
    store = read_back(out)
    assert store["validation_state"] == "Invalid"
    assert "assertion.bmffHash.mismatch" in {one["code"] for one in store["validation_status"]}


def test_a_source_that_is_signed_itself_stays_in_the_chain(signer: Credential, tmp_path: Path) -> None:
    source, sound = materials(tmp_path)
    first, second = film(tmp_path / "first.mp4"), film(tmp_path / "second.mp4")
    sign(first, "first.mp4", made_from(source, sound), signer)
    sign(second, "second.mp4", made_from(first, sound), signer)
    store = read_back(second)
    assert (store["validation_state"], len(store["manifests"])) == ("Valid", 2)


def test_a_source_of_any_format_is_named(signer: Credential, tmp_path: Path) -> None:
    source, sound = materials(tmp_path, "source.webm")
    out = film(tmp_path / "out.mp4")
    sign(out, "out.mp4", made_from(source, sound, consent=None, drive="tracked"), signer)
    store = read_back(out)
    claim = store["manifests"][store["active_manifest"]]
    assert claim["ingredients"][0]["title"] == "source.webm"
    said = next(one["data"] for one in claim["assertions"] if one["label"] == ASSERTION)
    assert (said["consent"], said["drive"]) == (None, "tracked")


def test_what_cannot_be_signed_leaves_no_film(signer: Credential, tmp_path: Path) -> None:
    source, sound = materials(tmp_path)
    origin = made_from(source, sound)
    source.unlink()
    with pytest.raises(OutputError, match=r"out\.mp4: cannot be signed"):
        film(tmp_path / "out.mp4", seal=lambda path: sign(path, "out.mp4", origin, signer))
    assert [path.name for path in tmp_path.iterdir()] == ["voice.wav"]


def test_a_key_of_somebody_else_is_refused_before_the_work(signer: Credential, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIVEDUB_CACHE", str(tmp_path))
        other = credential(None, None, NOW)
    check_credential(signer)
    check_credential(other)
    with pytest.raises(InputError, match="certificate and key: cannot sign: Signature: the signature"):
        check_credential(replace(signer, key=other.key))
    assert other.key.decode() not in repr(other)


def test_a_consent_is_named_by_all_that_it_says() -> None:
    others = make_consent(purpose="x"), make_consent(subject="Bob"), make_consent(expires_at=None)
    assert len({consent_sha256(record) for record in (make_consent(), *others)}) == 4
    assert consent_sha256(make_consent()) == consent_sha256(make_consent())


def test_the_comment_is_one_line_for_people_and_machines() -> None:
    assert comment("1.2").startswith("synthetic: ")
    assert SOURCE_TYPE in comment("1.2")
    assert comment("1.2").isprintable()
