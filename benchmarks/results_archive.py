"""The rows of a run in one small file, from which its folder of results can be made again and gone on with.

Single precision is kept of the scores: seven digits, in an eighth of the space of the part files.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from relprop.evaluation.results.parts import PARTS, read_tables, valid_parts, write_tables, write_whole
from relprop.evaluation.results.rows import SCHEMA
from relprop.evaluation.results.run_file import RUN, read_settings
from relprop.files import atomic, make_folder

FILE, SETTINGS = "file", b"settings"
_NUMBERS = (
    *("scores.key_value.value", "curves.key_value.value.list.element", "statistics.key_value.value.list.element", "seconds"),
)
_MAPS = ("scores", "curves", "statistics")
_NAMES = (
    *(
        "image",
        "model",
        "weights",
        "method",
        "method_options",
        "metric",
        "metric_options",
        "status",
        "relprop",
        "torch",
        "device",
    ),
    *(FILE, *(f"{name}.key_value.key" for name in _MAPS)),
)


def pack(folder: Path, archive: Path, data: str) -> None:
    """Write the settings and rows of a results folder to one file; ``data``, the data set's path, is not kept."""
    settings = read_settings(folder)
    parts = valid_parts(folder, settings["metric_sets"])[0]
    tables = [
        pa.concat_tables(read_tables([part])).append_column(FILE, pa.repeat(part.path.name, _rows(part.path))) for part in parts
    ]
    whole = pa.concat_tables(tables).combine_chunks()
    columns = [_single(whole[name].chunk(0)) if name in {*_MAPS, "seconds"} else whole[name] for name in whole.column_names]
    text = json.dumps(settings, ensure_ascii=False).replace(json.dumps(data)[1:-1], "{data}")
    packed = pa.table(columns, names=whole.column_names).replace_schema_metadata({SETTINGS: text})
    make_folder(archive.parent)
    with atomic(archive) as path:
        pq.write_table(
            packed,
            path,
            compression="zstd",
            compression_level=19,
            use_dictionary=list(_NAMES),
            column_encoding=dict.fromkeys(_NUMBERS, "BYTE_STREAM_SPLIT"),
        )


def unpack(archive: Path, folder: Path, data: str) -> None:
    """Make a results folder of an archive, with the path of the data set."""
    packed = pq.read_table(archive)
    make_folder(folder / PARTS)
    text = packed.schema.metadata[SETTINGS].decode().replace("{data}", json.dumps(data)[1:-1])
    write_whole(folder / RUN, json.dumps(json.loads(text), indent=2, ensure_ascii=False).encode() + b"\n")
    files = packed[FILE].to_pylist()
    for name in dict.fromkeys(files):
        rows = packed.filter(pa.array([file == name for file in files])).drop_columns([FILE])
        write_tables(folder / PARTS / name, [rows.cast(SCHEMA).combine_chunks()])


def _rows(path: Path) -> int:
    return pq.read_metadata(path).num_rows


def _single(values: Any) -> Any:  # noqa: ANN401 - an Arrow array; the library is not typed
    """Round the numbers of an array, at whatever depth, to single precision."""
    if pa.types.is_map(values.type):
        return pa.MapArray.from_arrays(values.offsets, values.keys, _single(values.items))
    if pa.types.is_list(values.type):
        return pa.ListArray.from_arrays(values.offsets, _single(values.values))
    return pa.array(values.to_numpy(zero_copy_only=False).astype(np.float32).astype(np.float64), values.type)
