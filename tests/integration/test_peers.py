"""`loadtests/peers`: what is lost, wrong or doubled is seen, and Thalweg itself loses nothing, killed or not."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtests.peers.data import Checked, Row, check, names, value
from loadtests.peers.files import leveldb_records, tensorflow_records
from loadtests.peers.findings import Findings
from loadtests.peers.program import Measured
from loadtests.report import Report

ROOT = Path(__file__).parents[2]
GOOD: list[Row] = [(name, step, value(step, index)) for step in range(2) for index, name in enumerate(names(3))]
MEASURE = """
import json, sys
from loadtests.peers.processes import adopt_orphans
from loadtests.peers.running import site

adopt_orphans()
with site(sys.argv[1], sys.executable) as place:
    found = place.measure(10, 20, 60.0)
    checked, killed = place.crash(10, 30)
print(json.dumps([len(found.took_ns), found.readable_s, found.loop_cpu_s, checked.right, checked.wrong, killed]))
"""


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (GOOD, Checked(6, 0)),
        (GOOD[:-1], Checked(5, 0)),
        ([*GOOD, GOOD[0]], Checked(6, 1)),
        ([*GOOD[1:], (GOOD[0][0], 0, 0.1)], Checked(5, 1)),
        ([*GOOD, (GOOD[0][0], 2, value(2, 0))], Checked(6, 1)),
        ([*GOOD, (GOOD[0][0], 0.5, value(0, 0))], Checked(6, 1)),
        ([*GOOD, ("other", 0, 0.0)], Checked(6, 1)),
    ],
)
def test_each_point_that_was_logged_counts_once_and_all_others_are_wrong(rows: list[Row], wanted: Checked) -> None:
    assert check(rows, 3, 2) == wanted


def test_values_kept_in_32_bits_are_compared_in_32_bits() -> None:
    rows = [(name, step, struct.unpack("f", struct.pack("f", number))[0]) for name, step, number in GOOD]
    assert check(rows, 3, 2, is_single=True) == Checked(6, 0)
    assert check(rows, 3, 2).wrong > 0


def leveldb_log(records: list[bytes]) -> bytes:
    """As LevelDB writes it, after 7 bytes of something else."""
    text = b"header!"
    for record in records:
        is_first = True
        while True:
            if 32_768 - len(text) % 32_768 < 7:
                text += bytes(32_768 - len(text) % 32_768)
            part = record[: 32_768 - len(text) % 32_768 - 7]
            record = record[len(part) :]
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[is_first, not record]
            text += struct.pack("<IHB", 0, len(part), kind) + part
            is_first = False
            if not record:
                break
    return text


def test_records_over_the_blocks_of_a_log_are_read_whole_and_one_that_was_cut_off_is_not() -> None:
    records = [b"a" * 10, b"b" * 40_000, b"c" * 25_500, b"d" * 100_000]
    text = leveldb_log(records)
    assert list(leveldb_records(text, 7)) == records
    assert list(leveldb_records(text[:-1], 7)) == records[:-1]


def test_records_of_an_event_file_are_read_whole_and_one_that_was_cut_off_is_not() -> None:
    text = b"".join(struct.pack("<QI", len(record), 0) + record + bytes(4) for record in (b"ab", b"cde"))
    assert list(tensorflow_records(text)) == [b"ab", b"cde"]
    assert list(tensorflow_records(text[:-1])) == [b"ab"]


def test_others_are_compared_round_by_round_and_not_where_they_failed_in_one() -> None:
    findings = Findings(2)
    for own_ns, other_ns in ((1_000, 20_000), (2_000, 30_000)):
        findings.add_loop("thalweg, offline, 10 metrics", Measured([own_ns], 1e-6, 1e-6, None), 10)
        findings.add_loop("trackio, 10 metrics", Measured([other_ns], 4e-6, 2e-6, 1.0), 10)
    findings.add_loop("aim, 10 metrics", Measured([1], 0.0, 0.0, None), 10)
    report = Report("t", "")
    findings.tell(report)
    findings.compare(report, [10])
    figures = {figure.name: figure.values for figure in report.figures}
    assert figures["times thalweg, offline, 10 metrics: log(), median"] == [20.0, 15.0]
    assert figures["times thalweg, offline, 10 metrics: CPU with finishing"] == pytest.approx([3.0, 3.0])
    assert not any(name.startswith("aim") for name in figures)
    assert any(note.startswith("aim, 10 metrics: log(), median: left out") for note in findings.notes)


@pytest.mark.parametrize("peer", ["thalweg, offline", "thalweg, online"])
def test_thalweg_gives_back_every_point_also_after_sigkill(peer: str) -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE, peer], capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    calls, readable_s, cpu_s, *crash = json.loads(done.stdout.splitlines()[-1])
    assert calls == 20
    assert cpu_s > 0
    assert (readable_s is not None) == (peer == "thalweg, online")
    assert crash == [300, 0, 0]


def test_a_program_that_fails_is_told_with_its_last_words() -> None:
    script = MEASURE.replace("place.measure(10, 20, 60.0)", "place.measure(-1, 20, 60.0)")
    done: Any = subprocess.run(
        [sys.executable, "-c", script, "thalweg, offline"], capture_output=True, text=True, timeout=200, cwd=ROOT
    )
    assert done.returncode != 0
    assert "PeerError: measure ended with 1: IndexError" in done.stderr
