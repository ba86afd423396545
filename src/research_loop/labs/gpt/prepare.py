"""The locked half of the lab: constants, tokenizer, rows, dataloader and the score. Never edited by an experiment.

`research-loop prepare` fills data/shards with documents and then runs this file, which trains the tokenizer and packs
the rows. `train.py` imports the rest. Names, shapes and meaning are those of karpathy/autoresearch, so that a
`train.py` written for one runs in the other.
"""

import base64
import bisect
import functools
import hashlib
import itertools
import json
import math
import os
import random
import socket
import sys
import time
from pathlib import Path

import numpy as np
import tiktoken
import torch

MAX_SEQ_LEN = 2048  # tokens a row
TIME_BUDGET = 300  # seconds of training
EVAL_TOKENS = 40 * 524288  # validation tokens of a score; fewer where the validation shard holds fewer
VOCAB_SIZE = 8192
HELD_ROWS = 2048  # validation rows kept for each of the harness's two later looks; fewer where there are few

DATA_DIR = Path(__file__).parent / "data"
SEED = int(os.environ.get("RESEARCH_LOOP_SEED", "42"))  # order of the training rows

# GPT-4's pattern with numbers cut every two digits: a small vocabulary has no room for three.
SPLIT_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"""
)
SPECIAL_TOKENS = [f"<|reserved_{i}|>" for i in range(4)]
BOS_TOKEN = SPECIAL_TOKENS[0]
HUNG_UP = '{"score": null}'  # the harness has seen enough; its verdict says why


def device_type():
    """ "cuda", "mps" or "cpu": what this machine trains on."""
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def with_harness_seed(by, *given, **named):
    """Seeds `by` what train.py names and the harness's seed: luck that a file fixes would be kept for its worth."""
    return by(random.Random(f"{SEED} {(*given, *named.values())}").getrandbits(32))


if "RESEARCH_LOOP_SEED" in os.environ:
    torch_seeds = [(at, "manual_seed") for at in (torch, torch.random, torch.cuda)] + [(torch.cuda, "manual_seed_all")]
    for at, name in [*torch_seeds, (random, "seed"), (np.random, "seed")]:
        setattr(at, name, functools.partial(with_harness_seed, getattr(at, name)))
    torch.manual_seed(torch.initial_seed())  # what was seeded before
    random.seed(random.getrandbits(64))
    np.random.seed(np.random.randint(2**31))


# ------------------------------------------------------------------------------------------------------- tokenizer


class Tokenizer:
    """Byte-pair encoding trained by rustbpe, run by tiktoken."""

    def __init__(self, enc):
        self.enc = enc
        self.bos_token_id = enc.encode_single_token(BOS_TOKEN)

    @classmethod
    def from_directory(cls, tokenizer_dir=None):
        saved = json.loads((Path(tokenizer_dir or DATA_DIR) / "tokenizer.json").read_text())
        ranks = {base64.b64decode(token): rank for rank, token in enumerate(saved["tokens"])}
        special = {name: len(ranks) + i for i, name in enumerate(saved["special"])}
        return cls(tiktoken.Encoding("lab", pat_str=saved["pattern"], mergeable_ranks=ranks, special_tokens=special))

    @classmethod
    def train(cls, documents, vocab_size, directory):
        """Learns `vocab_size` tokens, specials included, and writes directory/tokenizer.json."""
        import rustbpe

        bpe = rustbpe.Tokenizer()
        bpe.train_from_iterator(documents, vocab_size - len(SPECIAL_TOKENS), pattern=SPLIT_PATTERN)
        ranked = sorted(bpe.get_mergeable_ranks(), key=lambda pair: pair[1])
        tokens = [base64.b64encode(bytes(token)).decode() for token, _ in ranked]
        saved = {"pattern": bpe.get_pattern(), "special": SPECIAL_TOKENS, "tokens": tokens}
        write_whole(Path(directory) / "tokenizer.json", [json.dumps(saved).encode()])
        return cls.from_directory(directory)

    def get_vocab_size(self):
        return self.enc.n_vocab

    def get_bos_token_id(self):
        return self.bos_token_id

    def encode(self, text, prepend=None, num_threads=8):
        """Token ids of a text, or a list of them for a list of texts; `prepend` is a token id put first."""
        head = [] if prepend is None else [prepend]
        if isinstance(text, str):
            return head + self.enc.encode_ordinary(text)
        return [head + ids for ids in self.enc.encode_ordinary_batch(text, num_threads=num_threads)]

    def decode(self, ids):
        return self.enc.decode(ids)


def get_token_bytes(device="cpu"):
    """int32 [vocab]: UTF-8 bytes of each token, 0 for specials. Upstream's rule: a token that is part of a
    character counts as the replacement character it decodes to."""
    return torch.from_numpy(np.load(DATA_DIR / "token_bytes.npy")).to(device)


# ------------------------------------------------------------------------------------------------------------ rows


def shard_paths(split):
    """Parquet files of a split; the last shard by name is the validation shard."""
    paths = sorted((DATA_DIR / "shards").glob("shard_*.parquet"))
    if len(paths) < 2:
        sys.exit(f"{DATA_DIR / 'shards'}: needs two shards or more, found {len(paths)}: run `research-loop prepare`")
    return paths[-1:] if split == "val" else paths[:-1]


def read_documents(split):
    """Texts of a split, in file order."""
    import pyarrow.parquet as pq

    for path in shard_paths(split):
        if path.stat().st_size == 0:
            sys.exit(f"{path.name}: the validation text is not shown to runs of the harness")
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1024, columns=["text"]):
            yield from (text for text in batch.column(0).to_pylist() if text)


def encode_documents(tokenizer, texts):
    """Token lists, each behind a BOS."""
    while block := list(itertools.islice(texts, 1024)):
        yield from tokenizer.encode(block, prepend=tokenizer.get_bos_token_id(), num_threads=os.cpu_count() or 1)


def pack_rows(documents, capacity, buffer_size=1000):
    """Best-fit packing: lists of exactly `capacity` tokens that start with a document's start, no padding.

    Each place takes the longest buffered document that fits; where none fits, the shortest is cropped to fill the
    row. The documents are read once; the buffer runs empty at their end and an unfilled last row is dropped.
    """
    documents = enumerate(documents)
    keys, buffered = [], {}  # keys: (length, -arrival) in order, so that among equals the earliest is taken
    row = []
    while True:
        while len(keys) < buffer_size and (block := list(itertools.islice(documents, 128))):
            for arrival, tokens in block:
                bisect.insort(keys, (len(tokens), -arrival))
                buffered[arrival] = tokens
        if not keys:
            return
        space = capacity - len(row)
        limit = space if keys[0][0] <= space else keys[0][0]
        _, arrival = keys.pop(bisect.bisect_right(keys, (limit, 1)) - 1)
        row += buffered.pop(-arrival)[:space]
        if len(row) == capacity:
            yield row
            row = []


def make_rows(tokenizer, split, T, buffer_size=1000):
    """uint16 [T + 1] each. Packing leaves other documents for its end; of shuffled validation rows any cut is alike."""
    tokens = encode_documents(tokenizer, read_documents(split))
    rows = (np.array(row, dtype=np.uint16) for row in pack_rows(tokens, T + 1, buffer_size))
    if split == "val":
        rows = iter(random.Random(0).sample(rows := list(rows), len(rows)))
    if (first := next(rows, None)) is None:
        sys.exit(f"{split} documents: less than one row of {T + 1} tokens: use shorter rows, or more text with --data")
    return itertools.chain([first], rows)


def rows_path(split, T):
    return DATA_DIR / f"{split}_{T}.u16"


def packed_rows(split, T):
    return np.memmap(rows_path(split, T), dtype=np.uint16, mode="r").reshape(-1, T + 1)


def load_rows(tokenizer, split, T, buffer_size=1000):
    """uint16 [rows, T + 1]: a memory map for the prepared T, packed on the spot for any other."""
    if rows_path(split, T).exists():
        return packed_rows(split, T)
    return np.stack(list(make_rows(tokenizer, split, T, buffer_size)))


def row_numbers(count, shuffled, seed=SEED):
    """Endless (row, epoch); the order of an epoch depends on the seed alone."""
    for epoch in itertools.count(1):
        order = np.random.default_rng((seed, epoch)).permutation(count) if shuffled else range(count)
        yield from ((int(row), epoch) for row in order)


def make_dataloader(tokenizer, B, T, split, buffer_size=1000):
    """Endless (inputs, targets, epoch): int64 [B, T] each on the training device; targets are inputs one later."""
    assert split in ("train", "val")
    rows = load_rows(tokenizer, split, T, buffer_size)
    numbers = row_numbers(len(rows), shuffled=split == "train")
    while True:
        chosen, epochs = zip(*itertools.islice(numbers, B), strict=True)
        yield (*to_device(rows[list(chosen)]), epochs[-1])


def to_device(rows):
    """[B, T + 1] rows -> inputs and targets [B, T] on the training device."""
    block = upload(rows)
    return block[:, :-1].contiguous(), block[:, 1:].contiguous()


def upload(tokens):
    """int64 tensor on the training device, copied while that works."""
    block = torch.from_numpy(tokens.astype(np.int64))
    device = device_type()
    block = block.pin_memory() if device == "cuda" else block
    return block.to(device, non_blocking=device == "cuda")


# ----------------------------------------------------------------------------------------------------------- score


@torch.no_grad()
def evaluate_bpb(model, tokenizer, batch_size):
    """Validation bits per byte of `model(inputs, targets, reduction="none")`, the nats of every position.

    Scores the same EVAL_TOKENS tokens at T = MAX_SEQ_LEN whatever the batch size. Tokens of no bytes (specials) count
    for nothing. Under the harness the validation text is not here: the harness asks, and the score is its word.
    """
    if os.environ.get("RESEARCH_LOOP_EXAM"):
        return answer_harness(model, batch_size)
    rows = load_rows(tokenizer, "val", MAX_SEQ_LEN)
    rows = rows[: validation_cuts(len(rows))["score"][1]]
    nats = all_nats(model, rows[:, :-1], rows[:, 1:], batch_size)
    sizes = np.load(DATA_DIR / "token_bytes.npy")[rows[:, 1:]]
    return float((nats * (sizes > 0)).sum(dtype=np.float64) / (math.log(2) * sizes.sum()))


def validation_cuts(count):
    """Which of `count` validation rows are for what, as (first, end).

    Every run is scored on "score". "confirm" and "audit" are asked about one prefix at a time, before a keep and by
    `research-loop audit`, so that what a model remembers of other rows is of no use to it.
    """
    held = min(HELD_ROWS, count // 8)
    scored = min(EVAL_TOKENS // MAX_SEQ_LEN, count - 2 * held)
    return {"score": (0, scored), "confirm": (count - 2 * held, count - held), "audit": (count - held, count)}


@torch.no_grad()
def answer_harness(model, batch_size, descriptor=0):
    """Answers the harness over a socket, standard input, until it says the score; bits per byte.

    Messages both ways are a line of JSON and as many raw bytes as its "bytes" says. It asks for "nats" of uint16
    inputs and targets [2, n, T], answered in float32 [n, T]: targets need not be the inputs one later. And for
    "logits" of uint16 inputs [n, T] at k places of each row, answered in float32 [n, k, vocab]: the model is called
    without targets then, uncompiled, so that nothing is compiled for it.
    """
    channel = socket.socket(fileno=os.dup(descriptor)).makefile("rwb")
    send_message(channel, {"ready": True})
    while "score" not in (request := json.loads(channel.readline() or HUNG_UP)):
        rows = np.frombuffer(channel.read(request["bytes"]), np.uint16)
        try:
            if request["ask"] == "nats":
                answer = all_nats(model, *rows.reshape(2, request["rows"], -1), batch_size)
            else:
                bare = getattr(model, "_orig_mod", model)
                inputs = rows.reshape(request["rows"], -1)
                answer = logits_at(bare, inputs, request["places"], request["vocabulary"], min(batch_size, 8))
            send_message(channel, {}, answer.astype(np.float32).tobytes())
        except Exception as error:  # whatever the model raises: the harness is told, the log says what
            print(f"the model could not answer for {request['ask']}: {error!r}", flush=True)
            send_message(channel, {"error": True})
    return request["score"] if request["score"] is not None else math.nan


def send_message(channel, header, payload=b""):
    channel.write(json.dumps({**header, "bytes": len(payload)}).encode() + b"\n" + payload)
    channel.flush()


def all_nats(model, inputs, targets, batch_size):
    """float32 [n, T]; the last batch is filled up, so that every batch has one shape."""
    nats = torch.empty(inputs.shape, dtype=torch.float32, device=device_type())  # a copy a batch would wait for each
    for start in range(0, len(inputs), batch_size):
        batch = np.arange(start, start + batch_size) % len(inputs)
        x, y = upload(inputs[batch]), upload(targets[batch])
        nats[start : start + batch_size] = model(x, y, reduction="none").view(y.shape)[: len(inputs) - start]
    return nats.cpu().numpy()


def logits_at(model, inputs, places, vocabulary, size):
    """float32 [n, k, vocab]: logits at k places of each row, `size` rows at a time; fewer where memory runs out."""
    parts = []
    try:
        for start in range(0, len(inputs), size):
            logits = model(upload(inputs[start : start + size]))
            if logits.size(-1) != vocabulary:
                fact = f"its logits are {logits.size(-1)} wide, the vocabulary is {vocabulary}"
                raise ValueError(f"{fact}: cut off the rest")
            chosen = torch.as_tensor(places[start : start + size], device=logits.device)
            rows = torch.arange(len(chosen), device=logits.device)[:, None]
            parts.append(logits[rows, chosen].float().cpu().numpy())
    except torch.OutOfMemoryError:
        if size == 1:
            raise
        return logits_at(model, inputs, places, vocabulary, max(1, size // 4))
    return np.concatenate(parts)


def count_model_bpb(vocab_size):
    """(unigram, bigram) bits per byte on the validation rows of models that count the training rows.

    The bigram backs off to the unigram by absolute discounting (Ney, Essen and Kneser, 1994) with 0.75. It is the
    line that a network must pass to have learnt anything from its context.
    """
    train, val = packed_rows("train", MAX_SEQ_LEN), packed_rows("val", MAX_SEQ_LEN)
    unigrams = np.ones(vocab_size)
    bigrams = np.zeros(vocab_size * vocab_size, dtype=np.int32)
    for block in np.array_split(train, max(1, train.size // 4_000_000)):
        unigrams += np.bincount(block[:, 1:].ravel(), minlength=vocab_size)
        pairs = block[:, :-1].astype(np.int64) * vocab_size + block[:, 1:]
        np.add.at(bigrams, *np.unique(pairs, return_counts=True))
    unigram = unigrams / unigrams.sum()
    bigrams = bigrams.reshape(vocab_size, vocab_size)
    seen, followers = bigrams.sum(1), (bigrams > 0).sum(1)
    val = val[: validation_cuts(len(val))["score"][1]]
    before, target = val[:, :-1].ravel(), val[:, 1:].ravel()
    size = np.load(DATA_DIR / "token_bytes.npy")[target]
    discounted = np.maximum(bigrams[before, target] - 0.75, 0) + 0.75 * followers[before] * unigram[target]
    bigram = np.where(seen[before] > 0, discounted / np.maximum(seen[before], 1), unigram[target])
    return tuple(float(-np.log2(p)[size > 0].sum() / size.sum()) for p in (unigram[target], bigram))


# ----------------------------------------------------------------------------------------------------- preparation


def write_whole(path, pieces):
    """The file is there whole or not at all, whatever happens in between."""
    part = path.with_suffix(f".{os.getpid()}.part")
    with open(part, "wb") as f:
        f.writelines(pieces)
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)


def token_byte_counts(tokenizer):
    special = {tokenizer.enc.encode_single_token(name) for name in SPECIAL_TOKENS}
    sizes = [0 if i in special else len(tokenizer.decode([i]).encode()) for i in range(tokenizer.get_vocab_size())]
    return np.array(sizes, dtype=np.int32)


def fingerprint():
    """What the prepared files depend on: constants and the shards' digests."""
    shards = json.loads((DATA_DIR / "shards" / "shards.json").read_text())["shards"]
    digests = hashlib.sha256("".join(shard["sha256"] for shard in shards).encode()).hexdigest()
    rows = {"T": MAX_SEQ_LEN, "eval": EVAL_TOKENS, "held": HELD_ROWS, "val": "shuffled"}
    return {**rows, "vocab": VOCAB_SIZE, "shards": digests}


def is_prepared():
    """Whether everything that train.py needs is there, made from these shards with these constants."""
    try:
        report = json.loads((DATA_DIR / "prepared.json").read_text())
        return report["of"] == fingerprint() and report["files"] == {p.name: p.stat().st_size for p in prepared_files()}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def prepared_files():
    tables = [DATA_DIR / "tokenizer.json", DATA_DIR / "token_bytes.npy"]
    return [*tables, *(rows_path(split, MAX_SEQ_LEN) for split in ("train", "val"))]


def main():
    done = DATA_DIR / "prepared.json"
    shard_paths("train")
    if is_prepared():
        done.touch()  # newer than what it was made of, which spares the harness to ask again
        return
    for path in (done, *prepared_files()):  # half of the old with half of the new would train on noise
        path.unlink(missing_ok=True)
    start = time.time()
    capped = (text[:10_000] for text in read_documents("train"))
    tokenizer = Tokenizer.train(capped, VOCAB_SIZE, DATA_DIR)
    np.save(DATA_DIR / "token_bytes.npy", token_byte_counts(tokenizer))
    print(f"tokenizer: {tokenizer.get_vocab_size()} tokens in {time.time() - start:.1f} s", flush=True)
    start = time.time()
    for split in ("train", "val"):
        write_whole(rows_path(split, MAX_SEQ_LEN), (row.tobytes() for row in make_rows(tokenizer, split, MAX_SEQ_LEN)))
    rows = {split: len(packed_rows(split, MAX_SEQ_LEN)) for split in ("train", "val")}
    counts = f"{rows['train']:,} for training, {rows['val']:,} for validation, {MAX_SEQ_LEN} tokens each"
    print(f"rows: {counts}, in {time.time() - start:.1f} s", flush=True)
    unigram, bigram = count_model_bpb(tokenizer.get_vocab_size())
    report = {"of": fingerprint(), "rows": rows, "unigram_bpb": unigram, "bigram_bpb": bigram}
    report |= {"cuts": validation_cuts(rows["val"]), "files": {p.name: p.stat().st_size for p in prepared_files()}}
    write_whole(done, [json.dumps(report, indent=1).encode()])


if __name__ == "__main__":
    main()
