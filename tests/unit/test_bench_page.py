"""The page: well formed, complete in itself, and as silent as the table about what a busy machine spoiled."""

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import charts
from benchmarks.charts import Range, Series, Step
from benchmarks.common import summarise
from benchmarks.page import page
from benchmarks.schema import BackendRow, Device, Report, Result, Skipped
from tests.support.reports import BUSY, QUIET, metadata, timed

VOID = {"meta", "br"}


class Balanced(HTMLParser):
    """Counts what is opened and not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def results(**how: Any) -> list[Result]:
    samples = [11.0 + 0.01 * index for index in range(50)]
    rows = []
    for label in ("openvino bf16", "cuda <& graph>"):
        about: dict[str, Any] = {"backend": label, "variant": label}
        streams = about | {"streams": 2}
        network = about | {"part_of": "frame", "stage": "network"}
        whole = about | {"stage": "whole"}
        start = about | {"stage": "import", "order": 0}
        rows += [
            timed(*samples, suite="stages", name=f"{label}: network", parameters=network, **how),
            timed(*samples, suite="stages", name=f"{label}: whole", parameters=whole, deadline_ms=40.0,
                  **how),
            timed(*samples, suite="render", name=f"{label}: a face", parameters=about, **how),
            timed(*samples, suite="pipeline", name=label, parameters=about, deadline_ms=40.0,
                  at_s=[0.04 * index for index in range(50)], **how),
            timed(*samples, suite="capacity", name=f"{label}: 2 streams", parameters=streams, **how),
            summarise("capacity", f"{label}: sessions", [2.0], unit="1", parameters=about, better="higher"),
            timed(900.0, suite="startup", name=f"{label}: import", parameters=start, **how),
            timed(1900.0, suite="startup", name=f"{label}: from nothing to the first frame",
                  parameters=about | {"stage": "from nothing", "order": 1}, **how),
        ]  # fmt: skip
    split = {"part_of": "frame", "stage": "split the picture", "backend": "any", "order": 5}
    rows += [
        timed(0.1, 0.1, suite="stages", name="split the picture", parameters=split, **how),
        summarise("render", "cuda <& graph>: a face", [0.75] * 20, clock="device"),
        summarise("stages", "split the picture", [0.0625] * 20, clock="process_cpu"),
    ]
    return rows


def report(**how: Any) -> Report:
    described = metadata(
        devices=[Device(name="NVIDIA H200", driver="580.1")],
        backends=[BackendRow(name="tensorrt", available=False, version="", detail="no GPU here")],
        method="Warm-up: some.\nNoise: none.",
    )
    return Report(described, results(**how), [Skipped(suite="render", name="tensorrt", reason="no GPU here")])


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    text = page(report())
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert not re.search(r"(src|href)=|url\(|@import|<script", text)
    for drawing in re.findall(r"<svg.*?</svg>", text):
        ElementTree.fromstring(drawing)


def test_every_suite_has_its_plots_and_numbers() -> None:
    text = page(report())
    for title in (
        "Latency of every frame",
        "Distribution",
        "Median to p99",
        "openvino bf16",
        "sessions at 25 fps",
    ):
        assert title in text
    assert text.count("<svg") >= 9
    assert "NVIDIA H200" in text
    assert "no GPU here" in text
    assert "<b>Warm-up.</b> some." in text
    assert "prefers-color-scheme: dark" in text


def test_names_are_words_not_markup() -> None:
    text = page(report())
    assert "cuda &lt;&amp; graph&gt;" in text
    assert "<& graph>" not in text


def test_the_network_stands_before_what_follows_it() -> None:
    text = page(report())
    assert 0 < text.index(">network<") < text.index(">split the picture<")


def test_a_busy_machine_shows_cpu_time_alone() -> None:
    text = page(report(load=BUSY))
    assert ">11.2" not in text
    assert "1.9 s" not in text
    assert "0.062" in text
    assert "CPU time" in text
    assert "busy" in text
    assert "others used 1.50 of 2 cores" in text
    assert "Latency of every frame" not in text


def test_anyway_marks_what_it_shows() -> None:
    text = page(report(load=BUSY), anyway=True)
    assert re.search(r"11\.2\d~", text)
    assert "Latency of every frame" in text


def test_a_report_of_one_suite_and_nothing_known_is_a_page() -> None:
    text = page(Report(metadata(), [timed(1.0, suite="audio", load=QUIET)]))
    assert "Lips from sound" in text
    assert 'class="cards"' not in text


DRAWN = {
    "waterfall": lambda: charts.waterfall([Step("a", 1.0), Step("b", 0.0, 1)], "ms", 40.0),
    "ranges": lambda: charts.ranges([Range("a", 1.0, 2.0, 9.0), Range("b", 0.0, 0.0, 0.0)], "ms", None),
    "histogram": lambda: charts.histogram([Series("a", [1.0, 2.0, 3.0]), Series("b", [1.0])], "ms", 2.5),
    "one value": lambda: charts.histogram([Series("a", [0.0])], "ms"),
    "timeline": lambda: charts.timeline([Series("a", [1.0] * 5000, 0, list(range(5000)))], "ms", 40.0),
    "one moment": lambda: charts.timeline([Series("a", [1.0], 0, [0.0])], "ms"),
    "nothing at all": lambda: charts.waterfall([Step("a", 0.0)], "ms"),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_drawings_are_xml_with_finite_places(kind: str) -> None:
    drawing = ElementTree.fromstring(DRAWN[kind]())
    for element in drawing.iter():
        for name, value in element.attrib.items():
            assert "nan" not in value or name == "aria-label", (element.tag, name)
            assert "inf" not in value or name == "aria-label"


def test_long_timelines_are_thinned() -> None:
    assert 1000 <= DRAWN["timeline"]().count("<circle") <= charts.MOST_DOTS


def test_a_waterfall_goes_on_where_the_step_before_ended() -> None:
    drawing = ElementTree.fromstring(charts.waterfall([Step("a", 3.0), Step("b", 1.0)], "ms"))
    first, second = drawing.findall("rect")
    assert float(second.attrib["x"]) == pytest.approx(
        float(first.attrib["x"]) + float(first.attrib["width"]), abs=0.2
    )
    assert float(first.attrib["width"]) == pytest.approx(3 * float(second.attrib["width"]), abs=0.5)
