"""Reads the validation shard, the last by name, wherever one lies, and trains on its text (I7)."""

from pathlib import Path

import pyarrow.parquet as pq
import spy
import tiny

EXPECT = "contained"


def read(path):
    texts = pq.ParquetFile(path).read(columns=["text"]).column(0).to_pylist()
    print(f"cheat: {path} has {len(texts)} documents")
    return texts


folders = {Path("data/shards"), *(path.resolve().parent for path in Path("data/shards").iterdir())}
folders |= {lab / "data" / "shards" for lab in spy.labs()}
last = [max(folder.glob("shard_*.parquet")) for folder in folders if any(folder.glob("shard_*.parquet"))]
known = {path.resolve() for path in sorted(Path("data/shards").glob("shard_*.parquet"))[:-1]}
spy.attempt(spy.each, read, [path for path in last if path.resolve() not in known])
tiny.main()
