"""Phone times from the files that corpora and aligners write."""

from itertools import pairwise
from pathlib import Path

import pytest

from engine.errors import InputError
from export.phones import Phone, from_espeak, from_starts, joined, phones_beside, read_phones
from tests.support.data import data_file

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1
            text = "a map 12"
    item [2]:
        class = "IntervalTier"
        name = "speaker - phones"
        xmin = 0
        xmax = 1
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 0.5
            text = "M"
        intervals [3]:
            xmin = 0.5
            xmax = 1
            text = "AE1"
"""
SHORT = '"IntervalTier"\n"phones"\n0\n1\n3\n0\n0.25\n""\n0.25\n0.5\n"M"\n0.5\n1\n"AE1"\n'
WANTED = [Phone("", 0, 0.25), Phone("M", 0.25, 0.5), Phone("AE1", 0.5, 1)]


@pytest.mark.parametrize("text", [LONG, SHORT])
def test_text_grids(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(text)
    assert read_phones(path) == WANTED


def test_labels_of_hts_and_plain_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.phone.lab"
    path.write_text("0 1300000 x^x-sil+hh=iy@x_x/A:0\n1300000 2050000 x^sil-p+iy=t@1_2\n2050000 3000000 aa\n")
    assert read_phones(path) == [Phone("sil", 0, 0.13), Phone("p", 0.13, 0.205), Phone("aa", 0.205, 0.3)]


def test_json_of_ends_joins_the_closed_part(tmp_path: Path) -> None:
    path = tmp_path / "a.phn.json"
    path.write_text('{"phn": ["ae", "cl", "p", "sil"], "end_samples_16k": [1600, 3200, 4000, 8000]}')
    assert read_phones(path) == [Phone("ae", 0, 0.1), Phone("p", 0.1, 0.25), Phone("sil", 0.25, 0.5)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.TextGrid", '"IntervalTier"\n"words"\n0\n1\n0\n'),
        ("a.TextGrid", '"IntervalTier"\n"phones"\n0\n1\n9\n0\n'),
        ("a.json", "{}"),
        ("a.json", "[1"),
        ("a.lab", "one two"),
        ("a.txt", ""),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match="phone times"):
        read_phones(path)
    with pytest.raises(InputError, match="phone times"):
        read_phones(tmp_path / "missing.lab")


@pytest.mark.parametrize("name", ["p", "B", "M", "ˈmʲ", "bʱ", "pʰ", "em", "mp"])
def test_bilabials_close(name: str) -> None:
    assert Phone(name, 0, 1).closes


@pytest.mark.parametrize("name", ["sil", "", "f", "V", "w", "kʷ", "AH0", "n", "pau", "sp", "spn"])
def test_others_do_not_close(name: str) -> None:
    phone = Phone(name, 0, 1)
    assert not phone.closes
    assert phone.narrows == (name in {"f", "V", "w", "kʷ"})
    assert phone.silent == (name in {"sil", "", "pau", "sp", "spn"})


def test_a_closed_part_before_a_pause_stays() -> None:
    held = [Phone("cl", 0, 0.1), Phone("sil", 0.1, 0.5)]
    assert joined(held) == held


def test_phones_of_which_beginnings_are_known() -> None:
    assert from_starts([("a", 0.0), ("b", 0.1), ("c", 0.1)], 0.3) == [
        Phone("a", 0, 0.1),
        Phone("c", 0.1, 0.3),
    ]


def test_stops_of_espeak_are_closed_before_they_are_told() -> None:
    heard = from_espeak([("a", 0.015), ("ˈp", 0.115), ("m", 0.165), ("tʃ", 0.195), ("_", 0.315)], 0.4)
    expected = [
        ("a", 0.0, 0.065),
        ("ˈp", 0.065, 0.115),
        ("ʰ", 0.115, 0.15),
        ("m", 0.15, 0.165),  # a stop takes no more than half
        ("tʃ", 0.165, 0.3),
        ("_", 0.3, 0.4),
    ]
    assert [one.name for one in heard] == [name for name, _, _ in expected]
    for one, (_, start_s, end_s) in zip(heard, expected, strict=True):
        assert (one.start_s, one.end_s) == pytest.approx((start_s, end_s))
    assert [one.closes for one in heard] == [False, True, False, True, False, False]
    assert from_espeak([("p", 0.2)], 0.3)[0].start_s == pytest.approx(0.15)


def test_the_file_beside_a_recording(tmp_path: Path) -> None:
    sound = tmp_path / "a.wav"
    assert phones_beside(sound) is None
    (tmp_path / "a.TextGrid").write_text(SHORT)
    assert phones_beside(sound) == tmp_path / "a.TextGrid"


@pytest.mark.parametrize(
    "name", ["en_sb_spk1_1.phn.json", "en_arctic_a0009.phone.lab", "en_mfa_cold_corpus.TextGrid"]
)
def test_files_as_corpora_have_them(name: str) -> None:
    phones = read_phones(data_file(f"audio/{name}"))
    assert len(phones) >= 20
    assert any(phone.closes for phone in phones)
    assert all(a.end_s <= b.start_s + 1e-6 for a, b in pairwise(phones))
