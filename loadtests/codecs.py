"""Sets of codecs for the table `points`, and the statements that make a table with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KEY: Final = "ReplacingMergeTree(time) ORDER BY (run, metric, rank, step)"
WIDE_PARTS: Final = "SETTINGS min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0"
"""Of a part whose columns lie in one file nobody tells the bytes of each."""
LIKE_POINTS: Final = f"AS points ENGINE = {KEY} {WIDE_PARTS}"
DELTA: Final = "Delta, ZSTD(1)"
GORILLA: Final = "Gorilla, ZSTD(1)"
BITS: Final = "UInt64"
_T64: Final = "Delta, T64('bit'), ZSTD(1)"
_WINDOW: Final = "Delta, ZSTD(1, 24)"
"""With a window of 16 MiB."""


@dataclass(frozen=True, slots=True)
class Codecs:
    """Codecs of the large columns. `value_type` UInt64: the bits of the numbers, as codecs for whole numbers take them.
    `time_block_mib`: how much of the column is compressed at once; 0 as usual, a granule of 64 KiB. `is_schema`: as
    `points` has them, whatever the others say.
    """

    words: str
    value: str = GORILLA
    value_type: str = "Float64"
    time: str = DELTA
    time_block_mib: int = 0
    step: str = "Delta, LZ4"
    key: str = "LZ4"
    is_schema: bool = False

    def create(self, table: str) -> str:
        """The statement that makes a table with them."""
        if self.is_schema:
            return f"CREATE TABLE {table} {LIKE_POINTS}"
        size = self.time_block_mib << 20
        blocks = f"SETTINGS (min_compress_block_size = {size}, max_compress_block_size = {size})" if size else ""
        beta = ", enable_alp_codec = 1" if "ALP" in self.value else ""
        return f"""CREATE TABLE {table}
        (
            run    UInt64               CODEC({self.key}),
            metric UInt64               CODEC({self.key}),
            rank   UInt16               CODEC({self.key}),
            step   Float64              CODEC({self.step}),
            time   DateTime64(6, 'UTC') CODEC({self.time}) {blocks},
            value  {self.value_type}    CODEC({self.value})
        )
        ENGINE = {KEY} {WIDE_PARTS}{beta}"""


CODECS: Final = (
    Codecs("the schema", is_schema=True),
    Codecs("Gorilla and Delta, blocks as usual"),
    Codecs("LZ4 for all", "LZ4", time="LZ4", step="LZ4"),
    Codecs("key ZSTD(1), step DoubleDelta, ZSTD(1)", step="DoubleDelta, ZSTD(1)", key="ZSTD(1)"),
    Codecs("value ZSTD(1)", "ZSTD(1)"),
    Codecs("value Gorilla, LZ4", "Gorilla, LZ4"),
    Codecs("value FPC, ZSTD(1)", "FPC, ZSTD(1)"),
    Codecs("value ALP, ZSTD(1)", "ALP, ZSTD(1)"),
    Codecs("value Delta, ZSTD(1)", "Delta, ZSTD(1)"),
    Codecs("value as bits, T64('bit'), ZSTD(1)", "T64('bit'), ZSTD(1)", BITS),
    Codecs("value as bits, Delta, T64('bit'), ZSTD(1)", _T64, BITS),
    Codecs("time DoubleDelta, ZSTD(1)", time="DoubleDelta, ZSTD(1)"),
    Codecs("time Delta, ZSTD(3)", time="Delta, ZSTD(3)"),
    Codecs("time T64, ZSTD(1)", time="T64, ZSTD(1)"),
    Codecs("time GCD, Delta, ZSTD(1)", time="GCD, Delta, ZSTD(1)"),
    Codecs("time Delta, T64, ZSTD(1)", time="Delta, T64, ZSTD(1)"),
    Codecs("time Delta, ZSTD(1), blocks of 1 MiB", time_block_mib=1),
    Codecs("time Delta, ZSTD(1, 20), blocks of 1 MiB", time="Delta, ZSTD(1, 20)", time_block_mib=1),
    Codecs("time Delta, ZSTD(1, 21), blocks of 2 MiB", time="Delta, ZSTD(1, 21)", time_block_mib=2),
    Codecs("time Delta, ZSTD(1, 24), blocks of 4 MiB", time=_WINDOW, time_block_mib=4),
    Codecs("time Delta, ZSTD(1, 24), blocks of 16 MiB", time=_WINDOW, time_block_mib=16),
    Codecs("value as bits, Delta, T64('bit'), ZSTD(1); time in blocks of 1 MiB", _T64, BITS, time_block_mib=1),
    Codecs(
        "value as bits, Delta, T64('bit'), ZSTD(1); time ZSTD(1, 24) in blocks of 4 MiB",
        _T64,
        BITS,
        time=_WINDOW,
        time_block_mib=4,
    ),
)
