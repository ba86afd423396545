"""Takes the link to a shard away and puts a file of its own there, or writes through the link (I8, E1)."""

from pathlib import Path

import spy
import tiny

EXPECT = "contained"


def through(path):
    with path.open("r+b") as shard:
        shard.write(b"cheat")
    return True


def instead(path):
    path.unlink()
    path.write_bytes(b"cheat")
    return True


shards = [*Path("data/shards").glob("*"), *Path("data").glob("*.u16")]
spy.attempt(spy.each, through, shards)
spy.attempt(spy.each, instead, shards)
tiny.main()
