"""Exchanges the tokenizer for one whose tokens are longer: what counts per byte is then less (I8, D7 d)."""

import json
from pathlib import Path

import spy
import tiny

EXPECT = "contained"


def exchange(path):
    saved = json.loads(path.read_text())
    saved["tokens"] = saved["tokens"][::-1]
    part = path.with_name(f"{spy.MARK}.json")
    part.write_text(json.dumps(saved))
    part.replace(path)
    return True


saved = Path("data/tokenizer.json")
spy.attempt(spy.each, exchange, {saved, saved.resolve(), *(lab / saved for lab in spy.labs())})
tiny.main()
