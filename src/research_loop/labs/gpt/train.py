"""GPT pre-training in one file: the half of the lab that experiments edit. CUDA, MPS and CPU.

    uv run train.py > run.log 2>&1
    grep "^val_bpb:\\|^peak_vram_mb:" run.log

Trains for TIME_BUDGET seconds, then prints validation bits per byte (lower is better). The shape follows
karpathy/nanochat and karpathy/autoresearch; each technique names its source where it stands
(modded-nanogpt: github.com/KellerJordan/modded-nanogpt).
"""

import gc
import itertools
import math
import os
import random
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from prepare import MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, evaluate_bpb, make_dataloader

# ------------------------------------------------------------------------------------------------------- constants

DEPTH = 8  # transformer blocks
ASPECT_RATIO = 64  # width = DEPTH * ASPECT_RATIO, rounded up to whole heads
HEAD_DIM = 128
WINDOW_PATTERN = "SSSL"  # per layer, repeated: S attends within SHORT_WINDOW tokens, L all; the last layer is L
SHORT_WINDOW = 512

TOTAL_BATCH_SIZE = 2**17  # tokens an optimizer step
DEVICE_BATCH_SIZE = 64  # rows a forward pass: lower it when memory runs out
EMBEDDING_LR = 0.6  # token and value embeddings (Adam)
UNEMBEDDING_LR = 0.004  # output head (Adam)
MATRIX_LR = 0.04  # matrices inside the blocks, but for gates (Muon)
SCALAR_LR = 0.5  # shares of the embedding; a hundredth of it residual scalars, a tenth gates (Adam)
WEIGHT_DECAY = 0.2  # of the matrices, falling to 0 over the run
ADAM_BETAS = (0.8, 0.95)
ADAM_EPS = 1e-10
WARMUP_RATIO = 0.0  # shares of the time budget
WARMDOWN_RATIO = 0.75
FINAL_LR_FRAC = 0.05
AVERAGE_HALF_LIFE = 0.0  # share of the budget, of the moving average of the weights that is scored; 0 for the last ones

MUON_MOMENTUM = 0.95
MUON_DIP = 0.1  # its momentum is lower by so much at first, until step MUON_DIP_STEPS, and toward the end
MUON_DIP_STEPS = 300
MUON_BETA2 = 0.95  # second moment of a matrix's rows
ROPE_BASE = 10_000
SOFTCAP = 15  # above 0; logits stay within it (Gemma 2, arXiv 2408.00118)
X0_INIT = 0.1  # share of the embedding added back before each block
GATE_CHANNELS = 32  # of a layer's input, which the gates of value embeddings read
BIGRAM_ROWS = 2**18  # of a table of hashed pairs of tokens, one for each layer with value embeddings; 0 for none
TRIGRAM_ROWS = 2**19  # of the one table of hashed triples
NGRAM_INPUT = 0.0  # how much of the last layer's bigrams and of the trigrams joins the tokens' embedding; 0 for none
NGRAM_LR = 2.0  # of those tables (Adagrad), the same throughout the run

# --------------------------------------------------------------------------------------------------------- machine

SEED = int(os.environ.get("RESEARCH_LOOP_SEED", "42"))
DEVICE = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
CUDA = DEVICE == "cuda"
UNTIMED_STEPS = 10 if CUDA else 1  # compilation and first touch; the budget starts after them
PEAK_BF16_FLOPS = {"H100": 989e12, "H200": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}


def compute_dtype():
    """bf16 on GPUs from capability 8.0 on and on CPUs with AMX: where it is emulated, float32 is far quicker."""
    if CUDA:
        return torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float32
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return torch.bfloat16 if DEVICE == "cpu" and has_amx() else torch.float32


DTYPE = compute_dtype()
# the tiles of a product are cut for its shared memory; ROCm counts its chips' capabilities otherwise
HOPPER = CUDA and torch.version.hip is None and torch.cuda.get_device_capability() == (9, 0)


def compiled(function):
    """torch.compile on CUDA; on a CPU its half minute of C++ would not pay within a short budget."""
    return torch.compile(function, dynamic=False) if CUDA else function


# ----------------------------------------------------------------------------------------------------------- model


def norm(x):
    """RMSNorm without weights (Zhang and Sennrich, arXiv 1910.07467)."""
    return F.rms_norm(x, (x.size(-1),))


class Linear(nn.Linear):
    """float32 weights, used in the activations' dtype; no bias."""

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out, bias=False)

    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype))


def rotary_tables(T, head_dim, device):
    """cos, sin [1, T, 1, head_dim / 2] of rotary position embedding (RoFormer, arXiv 2104.09864)."""
    frequencies = ROPE_BASE ** (-torch.arange(0, head_dim, 2, device=device).float() / head_dim)
    angles = torch.outer(torch.arange(T, device=device).float(), frequencies)
    return tuple(table.to(DTYPE)[None, :, None] for table in (angles.cos(), angles.sin()))


def rotate(x, cos, sin):
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos + right * sin, right * cos - left * sin), dim=-1)


def window_sizes():
    """Tokens of the blocks that each layer attends within."""
    letters = [WINDOW_PATTERN[i % len(WINDOW_PATTERN)] for i in range(DEPTH - 1)] + ["L"]
    return [MAX_SEQ_LEN if letter == "L" else min(SHORT_WINDOW, MAX_SEQ_LEN) for letter in letters]


def blocks_of(x, size):
    """[B, T, heads, head_dim] -> [n, heads, size, head_dim]; zeros fill up the last block of a row."""
    spare = -x.size(1) % size
    x = F.pad(x, (0, 0, 0, 0, 0, spare)) if spare else x
    return x.reshape(-1, size, *x.shape[2:]).transpose(1, 2)


def attend(q, k, v, window):
    """Causal attention within blocks of `window` tokens (blockwise: arXiv 1911.02972); [B, T, heads, head_dim] each.

    Nothing is seen beyond a block's start. Windows that slide are hardly faster than whole rows by what torch has.
    """
    B, T, heads, head_dim = q.shape
    q, k, v = (blocks_of(x, min(window, T)) for x in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).reshape(B, -1, heads, head_dim)[:, :T]


class Attention(nn.Module):
    """Multi-head attention with normalised queries and keys (arXiv 2010.04245).

    Value embeddings, as many as the layer has (modded-nanogpt, after arXiv 2410.17897), join the values through a gate
    a head each, read off the first channels of the input.
    """

    def __init__(self, width, window, embeddings):
        super().__init__()
        self.heads, self.window = width // HEAD_DIM, window
        self.c_q, self.c_k, self.c_v = (Linear(width, width) for _ in range(3))
        self.c_proj = Linear(width, width)
        self.gate_channels = min(GATE_CHANNELS, width)
        self.ve_gates = nn.ModuleList(Linear(self.gate_channels, self.heads) for _ in range(embeddings))

    def forward(self, x, value_embeddings, cos_sin):
        q, k, v = (c(x).unflatten(-1, (self.heads, HEAD_DIM)) for c in (self.c_q, self.c_k, self.c_v))
        for i, values in enumerate(value_embeddings):
            gate = 2 * torch.sigmoid(self.ve_gates[i](x[..., : self.gate_channels]))
            v = v + gate.unsqueeze(-1) * values.unflatten(-1, (self.heads, HEAD_DIM))
        q, k = norm(rotate(q, *cos_sin)), norm(rotate(k, *cos_sin))
        return self.c_proj(attend(q, k, v, self.window).flatten(-2))


class MLP(nn.Module):
    """Two layers with ReLU squared (Primer, arXiv 2109.08668)."""

    def __init__(self, width):
        super().__init__()
        self.c_fc, self.c_proj = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(self, x):
        return squared_mlp(x, self.c_fc.weight, self.c_proj.weight)


class Block(nn.Module):
    def __init__(self, width, window, embeddings):
        super().__init__()
        self.attn, self.mlp = Attention(width, window, embeddings), MLP(width)

    def forward(self, x, value_embeddings, cos_sin):
        x = x + self.attn(norm(x), value_embeddings, cos_sin)
        return x + self.mlp(norm(x))


HASH_PRIME = 2**31 - 1


class NgramTables(nn.Module):
    """Embeddings [B, T, width] of the last `n` tokens at each place, hashed into rows; forward gives them by table.

    sizes: {name: (n, rows)}. Two hashes give half of the width each, so that two n-grams rarely share both. Trained by
    `update` with the rows' own gradients, which costs by the tokens of a batch and not by the rows; each row has the
    step size of its own history (Adagrad, Duchi, Hazan and Singer, 2011). Hashed n-grams in the value path:
    recursive.com/articles/first-steps-toward-automated-ai-research; hash embeddings: arXiv 1709.03933.
    """

    def __init__(self, sizes, width, vocab_size):
        super().__init__()
        self.sizes, self.vocab_size = sizes, vocab_size
        halves = [2 * rows for _, rows in sizes.values()]
        self.first = dict(zip(sizes, itertools.accumulate(halves, initial=0), strict=False))  # stretches of one table
        # a spare row takes the updates that are no row's; half the bytes where memory is dear
        shape, dtype = (sum(halves) + 1, width // 2), DTYPE if CUDA else torch.float32
        self.register_buffer("weight", torch.zeros(shape, dtype=dtype, device=DEVICE))  # 1.6 GB take 2 s to get there
        self.register_buffer("squares", torch.zeros(shape[0], device=DEVICE))
        self.waiting, self.steps = [], 0  # (index, gradient) of the backward passes since the last step
        self.frozen = False

    def index(self, name, idx):
        """int64 [B, T, 2]: rows of each place's n-gram. Before a row's start stands token 0."""
        (n, rows), draw, key = self.sizes[name], random.Random(name), idx
        for back in range(1, n):
            key = key * self.vocab_size + F.pad(idx, (back, 0))[:, :-back]
        key = key % HASH_PRIME
        hashed = [key * draw.randrange(1, HASH_PRIME) % HASH_PRIME % rows for _ in range(2)]
        return torch.stack([self.first[name] + i * rows + h for i, h in enumerate(hashed)], -1)

    def forward(self, idx):
        return {name: self.look_up(self.index(name, idx)) for name in self.sizes}

    def look_up(self, index):
        rows = self.weight[index].flatten(-2).to(DTYPE).requires_grad_()
        rows.register_hook(lambda grad: self.waiting.append((index, grad)))
        return rows

    @torch.no_grad()
    def update(self, lr):
        """One step along the gradients of all backward passes since zero_grad."""
        if self.waiting and not self.frozen:
            index = torch.cat([index.flatten() for index, _ in self.waiting])
            grads = torch.cat([grad.view(-1, self.weight.size(1)) for _, grad in self.waiting])
            step = ngram_step_fused if CUDA else ngram_step
            step(self.weight, self.squares, index, grads, lr, self.steps)
            self.steps += 1

    def text_comes_again(self, left):
        """Text finds itself in them the second time: they are learnt anew in each pass over it (MEDA, arXiv
        2407.01607), and stay as they are where less than a third of one is `left`."""
        self.frozen = left < 1 / 3
        if not self.frozen:
            self.weight.zero_()
            self.squares.zero_()


def ngram_step(weight, squares, index, grads, lr, seed):
    """Adagrad on the rows `index` [n] of weight [rows + 1, width] with grads [n, width], in place."""
    index, order = index.sort()
    slot = torch.cat((index.new_zeros(1), (index[1:] != index[:-1]).long().cumsum(0)))  # which distinct row it is
    total = torch.zeros_like(grads, dtype=torch.float32).index_add_(0, slot, grads[order].float())
    row = torch.full_like(index, weight.size(0) - 1).index_put_((slot,), index)
    square = squares[row] + total.square().mean(1)
    squares.index_put_((row,), square)
    step = lr * total * square.clamp_min(1e-20).rsqrt()[:, None]
    weight.index_put_((row,), (weight[row].float() - step).to(weight.dtype))


def ngram_step_fused(weight, squares, index, grads, lr, seed):
    """ngram_step in one kernel: each gradient is read once, and only the rows that were touched are written."""
    (index, order), width = index.sort(), weight.size(1)
    dials = {"WIDTH": width, "LANES": triton.next_power_of_2(width), "num_warps": 2}
    ngram_kernel[(len(index),)](weight, squares, index, order, grads, lr, len(index), seed, **dials)


class GPT(nn.Module):
    """Decoder-only transformer. forward(idx [B, T]) gives logits [B, T, vocab]; with targets, the loss."""

    def __init__(self, vocab_size):
        super().__init__()
        width = math.ceil(DEPTH * ASPECT_RATIO / HEAD_DIM) * HEAD_DIM
        self.windows = window_sizes()
        with_values = [i for i in range(DEPTH) if i % 2 == (DEPTH - 1) % 2]  # every other layer, the last included
        self.wte = nn.Embedding(vocab_size, width)
        self.value_embeds = nn.ModuleDict({str(i): nn.Embedding(vocab_size, width) for i in with_values})
        wanted = {**{f"bigrams of {i}": (2, BIGRAM_ROWS) for i in with_values}, "trigrams": (3, TRIGRAM_ROWS)}
        self.ngrams = NgramTables({name: (n, rows) for name, (n, rows) in wanted.items() if rows}, width, vocab_size)
        kinds = 1 + bool(BIGRAM_ROWS) + bool(TRIGRAM_ROWS)
        self.blocks = nn.ModuleList(Block(width, w, kinds * (i in with_values)) for i, w in enumerate(self.windows))
        self.lm_head = Linear(width, vocab_size)
        self.resid_lambdas = nn.Parameter(torch.ones(DEPTH))
        self.x0_lambdas = nn.Parameter(torch.full((DEPTH,), float(X0_INIT)))
        self.init_weights(width)
        self.to(DEVICE)
        self.cos_sin = rotary_tables(MAX_SEQ_LEN, HEAD_DIM, DEVICE)

    @torch.no_grad()
    def init_weights(self, width):
        """Uniform matrices of deviation width^-0.5 (nanochat); what writes to the residual stream starts at zero
        (modded-nanogpt)."""
        bound = 3**0.5 * width**-0.5
        nn.init.normal_(self.wte.weight, std=1.0)
        nn.init.normal_(self.lm_head.weight, std=0.001)
        for table in self.value_embeds.values():
            nn.init.uniform_(table.weight, -bound, bound)
        for block in self.blocks:
            for matrix in (block.attn.c_q, block.attn.c_k, block.attn.c_v, block.mlp.c_fc):
                nn.init.uniform_(matrix.weight, -bound, bound)
            for matrix in (block.attn.c_proj, block.mlp.c_proj, *block.attn.ve_gates):
                nn.init.zeros_(matrix.weight)

    def forward(self, idx, targets=None, reduction="mean"):
        ngrams = self.ngrams(idx)
        if targets is None:
            return self.logits(idx, ngrams)
        training = torch.is_grad_enabled()
        with torch.enable_grad():  # also where nobody wants it: one compiled graph for training and evaluation
            nats = self.nats(idx, targets, ngrams)
        nats = nats if training else nats.detach()
        return nats if reduction == "none" else nats.mean()

    def features(self, idx, ngrams):
        """[B, T, width], what the head reads; `ngrams` are what the tables give, by their names.

        Before each block the stream is scaled and takes a share of the embedding (modded-nanogpt, nanochat), where
        n-grams may stand beside the tokens (Hyra, github.com/Tencent-Hunyuan/Hyra-results).
        """
        cos_sin = tuple(table[:, : idx.size(1)] for table in self.cos_sin)
        embedding = self.wte(idx).to(DTYPE)
        if NGRAM_INPUT:
            last = (f"bigrams of {DEPTH - 1}", "trigrams")
            embedding = embedding + NGRAM_INPUT * sum(ngrams[name] for name in last if name in ngrams)
        x = x0 = norm(embedding)
        for i, block in enumerate(self.blocks):
            x = self.resid_lambdas[i] * x + self.x0_lambdas[i] * x0
            values = [self.value_embeds[str(i)](idx).to(DTYPE)] if str(i) in self.value_embeds else []
            if values:
                values += [ngrams[name] for name in (f"bigrams of {i}", "trigrams") if name in ngrams]
            x = block(x, values, cos_sin)
        return norm(x)

    def logits(self, idx, ngrams):
        """float32 [B, T, vocab]."""
        logits = self.lm_head(self.features(idx, ngrams)).float()
        logits = SOFTCAP * torch.tanh(logits / SOFTCAP)
        return logits

    @compiled
    def nats(self, idx, targets, ngrams):
        """float32 [B * T], the cross-entropy of `logits`."""
        x = self.features(idx, ngrams).flatten(0, 1)
        return capped_nats(x, self.lm_head.weight, targets.flatten(), SOFTCAP)

    def zero_grad(self, set_to_none=True):
        super().zero_grad(set_to_none)
        self.ngrams.waiting.clear()

    def flops_per_token(self):
        """Six a matrix weight, and attention as if every query saw its whole window (upstream's count)."""
        matrices = sum(p.numel() for p in [*self.blocks.parameters(), *self.lm_head.parameters()])
        return 6 * matrices + 12 * self.wte.embedding_dim * sum(self.windows)


# --------------------------------------------------------------------------------------------------------- kernels

if CUDA or os.environ.get("TRITON_INTERPRET"):
    import torch._functorch.config
    import triton
    import triton.language as tl

    # torch keeps compiled graphs for the next start; with an autograd Function in them only where that is allowed
    torch._functorch.config.autograd_cache_allow_custom_autograd_functions = True

    @triton.jit(do_not_specialize=["n", "seed"])
    def ngram_kernel(weight, squares, index, order, grads, lr, n, seed, WIDTH: tl.constexpr, LANES: tl.constexpr):
        """One program a place of the sorted index; the first of those that name one row does the row's step."""
        first = tl.program_id(0)
        row = tl.load(index + first)
        if tl.load(index + first - 1, mask=first > 0, other=-1) != row:
            lane = tl.arange(0, LANES)
            inside = lane < WIDTH
            total = tl.zeros((LANES,), tl.float32)
            place = first + tl.arange(0, 16)
            more = True
            while more:
                same = tl.load(index + place, mask=place < n, other=-1) == row
                grad = grads + tl.load(order + place, mask=same, other=0)[:, None] * WIDTH + lane[None]
                total += tl.sum(tl.load(grad, mask=same[:, None] & inside[None], other=0.0).to(tl.float32), 0)
                more = tl.sum(same.to(tl.int32)) == 16
                place += 16
            square = tl.load(squares + row) + tl.sum(total * total) / WIDTH
            tl.store(squares + row, square)
            value = tl.load(weight + row * WIDTH + lane, mask=inside, other=0.0).to(tl.float32)
            value -= lr * total / tl.sqrt(tl.maximum(square, 1e-20))
            if weight.dtype.element_ty == tl.bfloat16:
                # up or down by chance, so that steps below bf16's last digit add up all the same (arXiv 2010.06192)
                noise = tl.randint(seed, first * LANES + lane).to(tl.uint32, bitcast=True) >> 16
                digits = (value.to(tl.uint32, bitcast=True) + noise) >> 16 << 16
                value = digits.to(tl.float32, bitcast=True)
            tl.store(weight + row * WIDTH + lane, value.to(weight.dtype.element_ty), mask=inside)

    @triton.jit
    def nats_kernel(logits, targets, nats, CAP: tl.constexpr, VOCAB: tl.constexpr, LANES: tl.constexpr):
        """One program a row: its nats, and in place of its logits their gradient."""
        row, lane = tl.program_id(0).to(tl.int64), tl.arange(0, LANES)
        inside, target = lane < VOCAB, tl.load(targets + row)
        logit = tl.load(logits + row * VOCAB + lane, mask=inside, other=0.0).to(tl.float32)
        z = logit / CAP
        near = z * (1 - z * z * (1 / 3 - z * z * 2 / 15))  # where the quotient would cancel
        tanh = tl.where(tl.abs(z) < 0.05, near, 1 - 2 / (1 + tl.exp(2 * z)))
        tanh = tl.where(inside, tanh, -1.0)
        most = tl.max(tanh)
        share = tl.where(inside, tl.exp(CAP * (tanh - most)), 0.0)
        total = tl.sum(share)
        tl.store(nats + row, tl.log(total) + CAP * (most - tl.sum(tl.where(lane == target, tanh, 0.0))))
        grad = (share / total - (lane == target).to(tl.float32)) * (1 - tanh * tanh)
        tl.store(logits + row * VOCAB + lane, grad.to(logits.dtype.element_ty), mask=inside)

    @triton.jit
    def squares_kernel(
        a,
        b,
        squares,
        out,
        M,
        N: tl.constexpr,
        K: tl.constexpr,
        B_K: tl.constexpr,
        B_N: tl.constexpr,
        BACK: tl.constexpr,
        TALL: tl.constexpr,
        WIDE: tl.constexpr,
        DEEP: tl.constexpr,
    ):
        """out [M, N] = relu(a @ b) ** 2; or, for BACK, a @ b times the derivative of what gave these squares [M, N]."""
        program, across = tl.program_id(0), 8 * (N // WIDE)
        rows = tl.minimum(M // TALL - program // across * 8, 8)  # eight rows of tiles share what they read of b
        m = (program // across * 8 + program % across % rows) * TALL + tl.arange(0, TALL).to(tl.int64)[:, None]
        n, k = program % across // rows * WIDE + tl.arange(0, WIDE)[None], tl.arange(0, DEEP)
        product = tl.zeros((TALL, WIDE), tl.float32)
        for done in range(0, K, DEEP):
            left, right = tl.load(a + m * K + (done + k)[None]), tl.load(b + (done + k)[:, None] * B_K + n * B_N)
            product = tl.dot(left, right, product)
        if BACK:
            product *= 2 * tl.sqrt(tl.load(squares + m * N + n).to(tl.float32))
        else:
            product = tl.maximum(product, 0.0)
            product *= product
        tl.store(out + m * N + n, product.to(out.dtype.element_ty))


class CappedNats(torch.autograd.Function):
    """capped_nats whose gradient comes of the same pass over the logits (after Liger Kernel, arXiv 2410.10989)."""

    @staticmethod
    def forward(ctx, x, weight, targets, cap):
        logits = x @ weight.T
        nats, vocab = torch.empty(len(x), device=x.device), len(weight)
        lanes = triton.next_power_of_2(vocab)
        warps = min(32, max(4, lanes // 1024))
        nats_kernel[(len(x),)](logits, targets.contiguous(), nats, cap, vocab, lanes, num_warps=warps)
        ctx.save_for_backward(x, weight, logits)
        return nats

    @staticmethod
    def backward(ctx, given):
        x, weight, grads = ctx.saved_tensors
        scale = given[:, None].to(x.dtype)
        return (grads @ weight) * scale, grads.T @ (x * scale), None, None


tile_rows, tile_columns, tile_depth = 128, 256, 64


def whole_tiles(rows, w_in):
    return len(rows) % tile_rows == w_in.size(0) % tile_columns == w_in.size(1) % tile_depth == 0


def squares_product(a, b, squares=None):
    (M, K), N, back = a.shape, b.size(1), squares is not None
    out, grid = a.new_empty(M, N), (M // tile_rows * (N // tile_columns),)
    sizes = (M, N, K, *b.stride(), back, tile_rows, tile_columns, tile_depth)
    squares_kernel[grid](a.contiguous(), b, squares if back else out, out, *sizes, num_warps=8, num_stages=3)
    return out


class SquaredMLP(torch.autograd.Function):
    """squared_mlp with the squares, and what they pass back, taken inside the products before them."""

    @staticmethod
    def forward(ctx, x, w_in, w_out):
        squares = squares_product(x, w_in.T)
        ctx.save_for_backward(x, w_in, w_out, squares)
        return squares @ w_out.T

    @staticmethod
    def backward(ctx, given):
        x, w_in, w_out, squares = ctx.saved_tensors
        inner = squares_product(given, w_out, squares)
        return inner @ w_in, inner.T @ x, given.T @ squares


def squared_mlp(x, w_in, w_out):
    """relu(x @ w_in.T) ** 2 @ w_out.T; x [..., width], w_in [hidden, width], w_out [width, hidden]."""
    w_in, w_out, rows = w_in.to(x.dtype), w_out.to(x.dtype), x.flatten(0, -2)
    if HOPPER and x.dtype == torch.bfloat16 and whole_tiles(rows, w_in):
        return SquaredMLP.apply(rows, w_in, w_out).view_as(x)
    return F.linear(F.linear(x, w_in).relu().square(), w_out)  # another function here needs the line above gone


def capped_nats(x, weight, targets, cap):
    """Cross-entropy [n] of the logits cap * tanh(x @ weight.T / cap); x [n, width], weight [vocab, width]."""
    weight = weight.to(x.dtype)
    if CUDA:
        return CappedNats.apply(x, weight, targets, cap)
    logits = F.linear(x, weight).float()
    return F.cross_entropy(cap * torch.tanh(logits / cap), targets, reduction="none")  # and here


# ------------------------------------------------------------------------------------------------------- optimizer

POLAR_EXPRESS = (  # five quintic steps toward the orthogonal factor (Polar Express, arXiv 2505.16932)
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def dial(value):
    """A number as a 0-d tensor: filled on the device, since a copy from the host would wait for the backward pass."""
    return torch.full((), float(value), device=DEVICE)


def orthogonalise(g):
    """g [n, rows, cols], rows >= cols -> about the nearest matrices of orthogonal columns (Muon,
    kellerjordan.github.io/posts/muon)."""
    x = g.to(DTYPE)
    x = x / (matrix_norm(x) * 1.02 + 1e-6)
    for a, b, c in POLAR_EXPRESS:
        gram = x.mT @ x
        x = a * x + x @ (b * gram + c * gram @ gram)
    return x


def matrix_norm(x):
    return x.norm(dim=(-2, -1), keepdim=True)


@compiled
def muon_step(params, grads, momentum_buffer, second_moment, lr, momentum, decay):
    """One step on a stack [n, rows, cols], rows >= cols; lr [n, 1, 1] and the other dials are tensors, so that no new
    value of theirs compiles anew."""
    momentum_buffer.lerp_(grads, 1 - momentum)
    update = orthogonalise(grads.lerp(momentum_buffer, momentum)).float()
    # Variance reduction along the shorter side, the norm kept (NorMuon, arXiv 2510.05491).
    second_moment.lerp_(update.square().mean(-1, keepdim=True), 1 - MUON_BETA2)
    scaled = update * second_moment.clamp_min(1e-10).rsqrt()
    update = scaled * (matrix_norm(update) / matrix_norm(scaled).clamp_min(1e-10))
    # Decay only where it points the way of the update (Cautious Weight Decay, arXiv 2510.12402).
    update = update + decay * params * (update * params >= 0)
    return params - lr * update


def tall(matrices):
    return [m if m.size(0) >= m.size(1) else m.mT for m in matrices]


class Muon:
    """Muon over matrices of one shape, or its transpose, stepped as one stack of tall ones."""

    def __init__(self, params):
        self.params, shape = params, (len(params), *tall(params)[0].shape)
        self.momentum_buffer = torch.zeros(shape, device=DEVICE)
        self.second_moment = torch.zeros(*shape[:2], 1, device=DEVICE)
        scales = [max(1.0, p.size(0) / p.size(1)) ** 0.5 for p in params]
        self.scales = torch.tensor(scales, device=DEVICE)[:, None, None]

    @torch.no_grad()
    def step(self, lr, momentum, decay):
        params, grads = (torch.stack(tall(ms)) for ms in (self.params, [p.grad for p in self.params]))
        dials = (lr * self.scales, dial(momentum), dial(decay))
        stepped = muon_step(params, grads, self.momentum_buffer, self.second_moment, *dials)
        torch._foreach_copy_(tall(self.params), list(stepped.unbind()))


class Adam:
    """Adam (arXiv 1412.6980) over parameters with one learning rate. Not torch.optim: it costs a CPU run 3 s of
    imports; and its fused kernel needs no compilation."""

    def __init__(self, params, base_lr, betas=ADAM_BETAS):
        self.params, self.base_lr, self.betas = params, base_lr, dict(zip(("beta1", "beta2"), betas, strict=True))
        self.moments = [[torch.zeros_like(p) for p in params] for _ in range(2)]
        self.steps = [torch.zeros((), device=DEVICE) for _ in params]

    @torch.no_grad()
    def step(self, rate):
        if not self.params:
            return
        torch._foreach_add_(self.steps, 1)
        tensors = (self.params, [p.grad for p in self.params], *self.moments, [], self.steps)
        plain = {"weight_decay": 0.0, "amsgrad": False, "maximize": False}
        torch._fused_adamw_(*tensors, lr=self.base_lr * rate, eps=ADAM_EPS, **self.betas, **plain)


class Optimizer:
    """Muon for the blocks' matrices, Adam for tables, head, gates and scalars; rates follow the schedule."""

    def __init__(self, model):
        self.model = model
        scale = (model.wte.embedding_dim / 768) ** -0.5
        tables = [model.wte.weight, *(table.weight for table in model.value_embeds.values())]
        gates = [p for name, p in model.blocks.named_parameters() if "ve_gates" in name]
        self.adams = [
            Adam([model.lm_head.weight], UNEMBEDDING_LR * scale),
            Adam(tables, EMBEDDING_LR * scale),
            Adam([model.resid_lambdas], SCALAR_LR * 0.01),
            Adam(gates, SCALAR_LR * 0.1),
            Adam([model.x0_lambdas], SCALAR_LR, betas=(0.96, 0.95)),
        ]
        by_shape = {}
        for name, p in model.blocks.named_parameters():
            if "ve_gates" not in name:
                by_shape.setdefault((max(p.shape), min(p.shape)), []).append(p)
        self.muons = [Muon(params) for params in by_shape.values()]

    def step(self, share, step):
        """One update at `share` (0 to 1) of the time budget."""
        rate = lr_multiplier(share)
        for adam in self.adams:
            adam.step(rate)
        self.model.ngrams.update(NGRAM_LR)
        for muon in self.muons:
            muon.step(MATRIX_LR * rate, muon_momentum(share, step), WEIGHT_DECAY * (1 - share))
        self.model.zero_grad(set_to_none=True)


class WeightAverage:
    """Moving average of the weights from the middle of the budget on; it bears higher rates at the end (Polyak and
    Juditsky, 1992; LAWA, arXiv 2209.14981). Tables of n-grams are left out."""

    def __init__(self, params):
        self.params, self.average, self.share = params, [], 0.0

    @torch.no_grad()
    def update(self, share):
        """After a step at `share` of the time budget."""
        if AVERAGE_HALF_LIFE > 0 and share >= 0.5:
            self.average = self.average or [p.clone() for p in self.params]
            passed, self.share = share - self.share, share
            torch._foreach_lerp_(self.average, self.params, 1 - 0.5 ** (passed / AVERAGE_HALF_LIFE))

    @torch.no_grad()
    def take(self):
        """Makes it the model's weights."""
        if self.average:
            torch._foreach_copy_(self.params, self.average)


def lr_multiplier(share):
    """Linear warm-up, plateau, linear warm-down to FINAL_LR_FRAC, by share of the time budget."""
    if share < WARMUP_RATIO:
        return share / WARMUP_RATIO
    if share < 1 - WARMDOWN_RATIO:
        return 1.0
    left = max(0.0, 1 - share) / WARMDOWN_RATIO
    return left + (1 - left) * FINAL_LR_FRAC


def muon_momentum(share, step):
    """Quicker to turn at first (modded-nanogpt), and again in the second half of the budget (nanochat)."""
    return MUON_MOMENTUM - MUON_DIP * max(0.0, 1 - step / MUON_DIP_STEPS, 2 * share - 1)


# -------------------------------------------------------------------------------------------------------- training


class Reporter:
    """One progress line a step on a terminal, one a second at most in a pipe."""

    def __init__(self):
        self.terminal, self.smooth, self.weight, self.printed_at = sys.stdout.isatty(), 0.0, 0.0, 0.0

    def __call__(self, step, trained, loss, seconds, mfu, epoch):
        share, left = min(1.0, trained / TIME_BUDGET), max(0.0, TIME_BUDGET - trained)
        self.smooth, self.weight = 0.9 * self.smooth + 0.1 * loss, 0.9 * self.weight + 0.1
        if not self.terminal and time.time() - self.printed_at < 1 and left > 0:
            return
        self.printed_at = time.time()
        line = (
            f"step {step:05d} ({100 * share:.1f}%) | loss: {self.smooth / self.weight:.6f} | "
            f"dt: {1000 * seconds:.0f}ms | tok/sec: {TOTAL_BATCH_SIZE / seconds:,.0f} | mfu: {mfu:.1f}% | "
            f"epoch: {epoch} | remaining: {left:.0f}s"
        )
        print(f"\r{line}    " if self.terminal else line, end="" if self.terminal else "\n", flush=True)


def synchronize():
    if CUDA:
        torch.cuda.synchronize()
    elif DEVICE == "mps":
        torch.mps.synchronize()


def peak_memory_mb():
    """Memory taken on the accelerator, MiB; a CPU has none."""
    if CUDA:
        return torch.cuda.max_memory_allocated() / 2**20
    return torch.mps.driver_allocated_memory() / 2**20 if DEVICE == "mps" else 0.0


def peak_flops():
    name = torch.cuda.get_device_name() if CUDA else ""
    return next((flops for chip, flops in PEAK_BF16_FLOPS.items() if chip in name), math.inf)


def train(model, batches, accumulation):
    """Steps until TIME_BUDGET seconds of timed steps have passed; (seconds, steps)."""
    optimizer, average, report = Optimizer(model), WeightAverage(list(model.parameters())), Reporter()
    flops = model.flops_per_token() * TOTAL_BATCH_SIZE
    x, y, epoch = next(batches)
    trained, step, seen = 0.0, 0, epoch
    while trained < TIME_BUDGET:
        synchronize()
        start = time.time()
        for _ in range(accumulation):
            loss = model(x, y)
            (loss / accumulation).backward()
            x, y, epoch = next(batches)  # copied while the backward pass runs
        share = min(1.0, trained / TIME_BUDGET)
        optimizer.step(share, step)
        average.update(share)
        value = loss.item()
        synchronize()
        seconds = time.time() - start
        if not value < 100:  # NaN too
            print(f"\nFAIL: loss is {value} at step {step}")
            sys.exit(1)
        step += 1
        trained += seconds if step > UNTIMED_STEPS else 0.0
        if epoch > seen:
            model.ngrams.text_comes_again(left=(TIME_BUDGET - trained) * (epoch - 1) / max(trained, 1e-9))
            seen = epoch
        mfu = 100 * flops / seconds / peak_flops()
        report(step, trained, value, seconds, mfu, epoch)
        if step == 1:  # collections of a large live heap cost half a second each
            gc.collect()
            gc.freeze()
            gc.disable()
    gc.unfreeze()
    gc.enable()
    average.take()
    print(flush=True)
    return trained, step


def main():
    started = time.time()
    torch.manual_seed(SEED)
    torch.set_float32_matmul_precision("high")
    tokenizer = Tokenizer.from_directory()
    model = GPT(tokenizer.get_vocab_size())
    params = sum(p.numel() for p in [*model.parameters(), model.ngrams.weight])
    per_pass = DEVICE_BATCH_SIZE * MAX_SEQ_LEN
    if TOTAL_BATCH_SIZE % per_pass:
        sys.exit(f"TOTAL_BATCH_SIZE {TOTAL_BATCH_SIZE}: not a multiple of DEVICE_BATCH_SIZE * MAX_SEQ_LEN = {per_pass}")
    print(f"{DEVICE} {DTYPE}, {params / 1e6:.1f}M parameters, windows {model.windows}")
    batches = make_dataloader(tokenizer, DEVICE_BATCH_SIZE, MAX_SEQ_LEN, "train")
    trained, steps = train(model, batches, TOTAL_BATCH_SIZE // per_pass)
    model.eval()
    val_bpb = evaluate_bpb(model, tokenizer, DEVICE_BATCH_SIZE)
    timed_flops = model.flops_per_token() * TOTAL_BATCH_SIZE * max(0, steps - UNTIMED_STEPS)
    print("---")
    print(f"val_bpb:          {val_bpb:.6f}")
    print(f"training_seconds: {trained:.1f}")
    print(f"total_seconds:    {time.time() - started:.1f}")
    print(f"peak_vram_mb:     {peak_memory_mb():.1f}")
    print(f"mfu_percent:      {100 * timed_flops / trained / peak_flops():.2f}")
    print(f"total_tokens_M:   {steps * TOTAL_BATCH_SIZE / 1e6:.1f}")
    print(f"num_steps:        {steps}")
    print(f"num_params_M:     {params / 1e6:.1f}")
    print(f"depth:            {DEPTH}")


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # what torch's compilers leave running takes 2 s to end by itself; nothing of atexit's is run
