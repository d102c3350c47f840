"""Limits of reading: how much of a delivery is in memory at once, and what is refused as too large."""

# --- pieces, in bytes -------------------------------------------------------------------------------------------------

# Size of a block: large enough that the cost per block does not count, small enough for the processor's cache.
BLOCK_BYTES = 1 << 18
LARGEST_BLOCK_BYTES = BLOCK_BYTES * 4
# Lines of a block, and of one record: each that is taken apart is some hundred bytes of objects, however short it is.
BLOCK_LINES = 1 << 16
GZIP_INPUT_BYTES = BLOCK_BYTES // 8
# zstd may expand its input some thousand times, and nothing bounds what one call returns: so the input is small.
ZSTD_INPUT_BYTES = 4096
# Memory that a zstd frame may ask for: what `zstd --ultra --long` needs, and no more.
ZSTD_WINDOW_BYTES = 1 << 27

# --- a delivery -------------------------------------------------------------------------------------------------------

# Business data shrinks 5 to 50 times. A delivery that expands more than MAX_EXPANSION times is a decompression bomb; up
# to EXPANSION_FREE_BYTES it may, because a few repeated rows compress without limit.
MAX_EXPANSION = 200
EXPANSION_FREE_BYTES = 1 << 26
# Columns that are not in the contract: more of them means that the file is another one.
MAX_UNKNOWN_COLUMNS = 100

# Columns without a header behind the last one that has one, as spreadsheets leave them: what Excel itself can hold.
MAX_UNNAMED_COLUMNS = 1 << 14
# Bytes of the keys of a line, as they are written, for which all lines of JSON are read by one pattern.
MAX_PATTERN_BYTES = 1 << 13

# Seconds for which the values of such columns are counted: it must cost a large delivery little.
UNKNOWN_COLUMN_SECONDS = 60.0

# --- a record ---------------------------------------------------------------------------------------------------------

# Bytes of a line of text, or of the texts of one row of a workbook or Parquet file.
MAX_RECORD_BYTES = 1 << 20
# Characters of a column header in a message.
SHOWN_CHARACTERS = 60

# --- a workbook -------------------------------------------------------------------------------------------------------

# calamine allocates the full rectangle from the first to the last cell, however few of its cells are filled.
MAX_SHEET_CELLS = 20_000_000
# What Excel itself can hold.
MAX_SHEET_ROWS, MAX_SHEET_COLUMNS = 1 << 20, 1 << 14

# --- a Parquet file ---------------------------------------------------------------------------------------------------

# Decoded bytes of a record batch.
PARQUET_BATCH_BYTES = 1 << 25
# Rows that are decoded at once, and rows where their size is not known before they are decoded (lists, delta
# encodings).
PARQUET_BATCH_ROWS, PARQUET_BATCH_ROWS_UNMEASURED = 10_000, 500
# Longest value of a fixed length (numbers, dates, UUIDs) that needs no measuring.
PARQUET_FIXED_BYTES = 64
