"""GPT pre-training in one file: the half of the lab that experiments edit. CUDA, MPS and CPU.

    uv run train.py > run.log 2>&1
    grep "^val_bpb:\\|^peak_vram_mb:" run.log

Trains for TIME_BUDGET seconds, then prints validation bits per byte (lower is better). The shape follows
karpathy/nanochat and karpathy/autoresearch; each technique names its source where it stands.
"""

import gc
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
WINDOW_PATTERN = "SSSL"  # per layer, repeated: S attends half the context, L all of it; the last layer is L

TOTAL_BATCH_SIZE = 2**19  # tokens an optimizer step
DEVICE_BATCH_SIZE = 128  # rows a forward pass: lower it when memory runs out
EMBEDDING_LR = 0.6  # token and value embeddings (Adam)
UNEMBEDDING_LR = 0.004  # output head (Adam)
MATRIX_LR = 0.04  # matrices inside the blocks (Muon)
SCALAR_LR = 0.5  # per-layer scalars (Adam)
WEIGHT_DECAY = 0.2  # of the matrices, falling to 0 over the run
ADAM_BETAS = (0.8, 0.95)
WARMUP_RATIO = 0.0  # shares of the time budget
WARMDOWN_RATIO = 0.5
FINAL_LR_FRAC = 0.0

MUON_MOMENTUM = 0.95
MUON_BETA2 = 0.95  # second moment of a matrix's rows
ROPE_BASE = 10_000
SOFTCAP = 15  # logits stay within this
X0_INIT = 0.1  # share of the embedding added back before each block
BIGRAM_ROWS = 2**18  # of a table of hashed pairs of tokens, one for each layer with value embeddings; 0 for none
TRIGRAM_ROWS = 2**19  # of the one table of hashed triples
NGRAM_LR = 2.0  # of those tables (Adagrad), the same throughout the run

# --------------------------------------------------------------------------------------------------------- machine

SEED = int(os.environ.get("RESEARCH_LOOP_SEED", "42"))
DEVICE = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
CUDA = DEVICE == "cuda"
UNTIMED_STEPS = 10 if CUDA else 1  # compilation and first touch; the budget starts after them
PEAK_BF16_FLOPS = {"H100": 989e12, "H200": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}


def compute_dtype():
    """bf16 where the chip multiplies it in hardware; elsewhere its emulation is far slower than float32."""
    if CUDA:
        return torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float32
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return torch.bfloat16 if DEVICE == "cpu" and has_amx() else torch.float32


DTYPE = compute_dtype()


def compiled(function):
    """torch.compile on CUDA; on a CPU its half minute of C++ would not pay within a short budget."""
    return torch.compile(function, dynamic=False) if CUDA else function


# ----------------------------------------------------------------------------------------------------------- model


def norm(x):
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
    """Tokens each layer attends to, itself included."""
    letters = [WINDOW_PATTERN[i % len(WINDOW_PATTERN)] for i in range(DEPTH - 1)] + ["L"]
    return [MAX_SEQ_LEN if letter == "L" else MAX_SEQ_LEN // 2 for letter in letters]


def attend(q, k, v, window):
    """Causal attention over the last `window` tokens. q, k, v: [B, T, heads, head_dim]."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    T = q.size(2)
    if window >= T:
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    elif CUDA:
        from torch.nn.attention.flex_attention import flex_attention

        y = flex_attention(q, k, v, block_mask=block_mask(T, window))
    else:
        distance = torch.arange(T, device=q.device)[:, None] - torch.arange(T, device=q.device)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=(distance >= 0) & (distance < window))
    return y.transpose(1, 2)


BLOCK_MASKS = {}


def block_mask(T, window):
    """flex_attention's mask of a sliding window; made before compilation, see GPT.__init__."""
    if (T, window) not in BLOCK_MASKS:
        from torch.nn.attention.flex_attention import create_block_mask

        def visible(batch, head, q, k):
            return (q >= k) & (q - k < window)

        BLOCK_MASKS[T, window] = create_block_mask(visible, None, None, T, T, device=DEVICE)
    return BLOCK_MASKS[T, window]


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
        self.gate_channels = min(32, width)
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
        return self.c_proj(F.relu(self.c_fc(x)).square())


class Block(nn.Module):
    def __init__(self, width, window, embeddings):
        super().__init__()
        self.attn, self.mlp = Attention(width, window, embeddings), MLP(width)

    def forward(self, x, value_embeddings, cos_sin):
        x = x + self.attn(norm(x), value_embeddings, cos_sin)
        return x + self.mlp(norm(x))


HASH_PRIME = 2**31 - 1


class NgramTable(nn.Module):
    """Embeddings [B, T, width] of the last `n` tokens at each place, hashed into `rows` rows.

    Two hashes give half of the width each, so that two n-grams rarely share both. Trained by `update` with the rows'
    own gradients, which costs by the tokens of a batch and not by the rows of the table; each row has the step size of
    its own history (Adagrad, Duchi, Hazan and Singer, 2011). Hashed n-grams in the value path: Recursive's recipe for
    karpathy/autoresearch; hash embeddings: arXiv 1709.03933.
    """

    def __init__(self, n, rows, width, vocab_size, name):
        super().__init__()
        self.n, self.rows, self.vocab_size = n, rows, vocab_size
        draw = random.Random(name)
        self.factors = [draw.randrange(1, HASH_PRIME) for _ in range(2)]
        # a spare row takes the updates that are no row's; half the bytes where memory is dear
        self.register_buffer("weight", torch.zeros(2 * rows + 1, width // 2, dtype=DTYPE if CUDA else torch.float32))
        self.register_buffer("squares", torch.zeros(2 * rows + 1))
        self.waiting = []  # (index, gradient) of the backward passes since the last step

    def index(self, idx):
        """int64 [B, T, 2]: rows of each place's n-gram. Before a row's start stands token 0."""
        key = idx
        for back in range(1, self.n):
            key = key * self.vocab_size + F.pad(idx, (back, 0))[:, :-back]
        key = key % HASH_PRIME
        return torch.stack([key * a % HASH_PRIME % self.rows + i * self.rows for i, a in enumerate(self.factors)], -1)

    def forward(self, idx):
        index = self.index(idx)
        rows = self.weight[index].flatten(-2).to(DTYPE).requires_grad_()
        rows.register_hook(lambda grad: self.waiting.append((index, grad)))
        return rows

    @torch.no_grad()
    def update(self, lr):
        """One step along the gradients of all backward passes since zero_grad."""
        if self.waiting:
            index = torch.cat([index.flatten() for index, _ in self.waiting])
            grads = torch.cat([grad.view(-1, self.weight.size(1)) for _, grad in self.waiting])
            ngram_step(self.weight, self.squares, index, grads, dial(lr))


@compiled
def ngram_step(weight, squares, index, grads, lr):
    """Adagrad on the rows `index` [n] of weight [rows + 1, width] with grads [n, width], in place."""
    index, order = index.sort()
    slot = torch.cat((index.new_zeros(1), (index[1:] != index[:-1]).long().cumsum(0)))  # which distinct row it is
    total = torch.zeros_like(grads, dtype=torch.float32).index_add_(0, slot, grads[order].float())
    row = torch.full_like(index, weight.size(0) - 1).index_put_((slot,), index)
    square = squares[row] + total.square().mean(1)
    squares.index_put_((row,), square)
    step = lr * total * square.clamp_min(1e-20).rsqrt()[:, None]
    weight.index_put_((row,), rounded(weight[row].float() - step, weight.dtype))


def rounded(x, dtype):
    """float32 x in `dtype`; bf16 is rounded up or down by chance, so that steps below its last digit add up all the
    same (arXiv 2010.06192)."""
    if dtype != torch.bfloat16:
        return x.to(dtype)
    noise = torch.randint_like(x, 2**16, dtype=torch.int32)
    return ((x.view(torch.int32) + noise) & -(2**16)).view(torch.float32).to(dtype)


class GPT(nn.Module):
    """Decoder-only transformer. forward(idx [B, T]) gives logits [B, T, vocab]; with targets, the loss."""

    def __init__(self, vocab_size):
        super().__init__()
        width = math.ceil(DEPTH * ASPECT_RATIO / HEAD_DIM) * HEAD_DIM
        self.windows = window_sizes()
        with_values = [i for i in range(DEPTH) if i % 2 == (DEPTH - 1) % 2]  # every other layer, the last included
        self.wte = nn.Embedding(vocab_size, width)
        self.value_embeds = nn.ModuleDict({str(i): nn.Embedding(vocab_size, width) for i in with_values})
        wanted = [(f"bigrams of {i}", 2, BIGRAM_ROWS) for i in with_values] + [("trigrams", 3, TRIGRAM_ROWS)]
        self.ngrams = nn.ModuleDict({k: NgramTable(n, rows, width, vocab_size, k) for k, n, rows in wanted if rows})
        kinds = 1 + bool(BIGRAM_ROWS) + bool(TRIGRAM_ROWS)
        self.blocks = nn.ModuleList(Block(width, w, kinds * (i in with_values)) for i, w in enumerate(self.windows))
        self.lm_head = Linear(width, vocab_size)
        self.resid_lambdas = nn.Parameter(torch.ones(DEPTH))
        self.x0_lambdas = nn.Parameter(torch.full((DEPTH,), float(X0_INIT)))
        self.init_weights(width)
        self.to(DEVICE)
        self.cos_sin = rotary_tables(MAX_SEQ_LEN, HEAD_DIM, DEVICE)
        for window in set(self.windows) - {MAX_SEQ_LEN} if CUDA else ():
            block_mask(MAX_SEQ_LEN, window)

    @torch.no_grad()
    def init_weights(self, width):
        """Uniform matrices of deviation width^-0.5; what writes to the residual stream starts at zero."""
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
        for table in (self.wte, *self.value_embeds.values()):
            table.to(DTYPE)

    def forward(self, idx, targets=None, reduction="mean"):
        ngrams = {name: table(idx) for name, table in self.ngrams.items()}
        if targets is None:
            return self.logits(idx, ngrams)
        training = torch.is_grad_enabled()
        with torch.enable_grad():  # also where nobody wants it: one compiled graph for training and evaluation
            nats = self.nats(idx, targets, ngrams)
        nats = nats if training else nats.detach()
        return nats if reduction == "none" else nats.mean()

    def logits(self, idx, ngrams):
        """float32 [B, T, vocab]; `ngrams` are what the tables give, by their names."""
        cos_sin = tuple(table[:, : idx.size(1)] for table in self.cos_sin)
        x = x0 = norm(self.wte(idx))
        for i, block in enumerate(self.blocks):
            x = self.resid_lambdas[i] * x + self.x0_lambdas[i] * x0
            values = [self.value_embeds[str(i)](idx)] if str(i) in self.value_embeds else []
            if values:
                values += [ngrams[name] for name in (f"bigrams of {i}", "trigrams") if name in ngrams]
            x = block(x, values, cos_sin)
        logits = self.lm_head(norm(x)).float()
        logits = SOFTCAP * torch.tanh(logits / SOFTCAP)
        return logits

    @compiled
    def nats(self, idx, targets, ngrams):
        """float32 [B * T]."""
        logits = self.logits(idx, ngrams)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")

    def zero_grad(self, set_to_none=True):
        super().zero_grad(set_to_none)
        for table in self.ngrams.values():
            table.waiting.clear()

    def flops_per_token(self):
        """Six a matrix weight, and attention as if every query saw its whole window (upstream's count)."""
        matrices = sum(p.numel() for p in [*self.blocks.parameters(), *self.lm_head.parameters()])
        return 6 * matrices + 12 * self.wte.embedding_dim * sum(self.windows)


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
    """g [n, rows, cols] -> about the nearest semi-orthogonal matrices (Muon, kellerjordan.github.io/posts/muon)."""
    x = g.to(DTYPE)
    x = x / (matrix_norm(x) * 1.02 + 1e-6)
    wide = x.size(-2) <= x.size(-1)
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.mT if wide else x.mT @ x
        poly = b * gram + c * gram @ gram
        x = a * x + (poly @ x if wide else x @ poly)
    return x


def matrix_norm(x):
    return x.norm(dim=(-2, -1), keepdim=True)


@compiled
def muon_step(params, grads, momentum_buffer, second_moment, lr, momentum, decay):
    """One step on a stack [n, rows, cols]; lr, momentum and decay are 0-d tensors, so that they do not recompile."""
    momentum_buffer.lerp_(grads, 1 - momentum)
    update = orthogonalise(grads.lerp(momentum_buffer, momentum)).float()
    # Variance reduction along the longer side, the norm kept (NorMuon, arXiv 2510.05491).
    axis = -1 if params.size(-2) >= params.size(-1) else -2
    second_moment.lerp_(update.square().mean(axis, keepdim=True), 1 - MUON_BETA2)
    scaled = update * second_moment.clamp_min(1e-10).rsqrt()
    update = scaled * (matrix_norm(update) / matrix_norm(scaled).clamp_min(1e-10))
    # Decay only where it points the way of the update (Cautious Weight Decay, arXiv 2510.12402).
    update = update + decay * params * (update * params >= 0)
    return params - lr * update


class Muon:
    """Muon over matrices of one shape, stepped as one stack."""

    def __init__(self, params):
        self.params = params
        rows, cols = params[0].shape
        self.momentum_buffer = torch.zeros(len(params), rows, cols, device=DEVICE)
        self.second_moment = torch.zeros(len(params), *((rows, 1) if rows >= cols else (1, cols)), device=DEVICE)
        self.scale = max(1.0, rows / cols) ** 0.5

    @torch.no_grad()
    def step(self, lr, momentum, decay):
        dials = (dial(value) for value in (lr * self.scale, momentum, decay))
        params = torch.stack(self.params)
        grads = torch.stack([p.grad for p in self.params])
        stepped = muon_step(params, grads, self.momentum_buffer, self.second_moment, *dials)
        torch._foreach_copy_(self.params, list(stepped.unbind()))


@compiled
def adam_step(param, grad, first_moment, second_moment, lr, beta1, beta2, step):
    """One Adam step (arXiv 1412.6980) in place; all but the four tensors are 0-d tensors. Moments are float32."""
    grad = grad.float()
    first_moment.lerp_(grad, 1 - beta1)
    second_moment.lerp_(grad.square(), 1 - beta2)
    size = second_moment.div(1 - beta2**step).sqrt() + 1e-10
    param.sub_((lr / (1 - beta1**step) * first_moment / size).to(param.dtype))


class Adam:
    """Adam over parameters with one learning rate. Written out: torch.optim costs a CPU run 3 s of imports."""

    def __init__(self, params, base_lr, betas=ADAM_BETAS):
        self.params, self.base_lr, self.betas, self.steps = params, base_lr, betas, 0
        self.moments = [[torch.zeros_like(p, dtype=torch.float32) for _ in range(2)] for p in params]

    @torch.no_grad()
    def step(self, rate):
        self.steps += 1
        dials = [dial(x) for x in (self.base_lr * rate, *self.betas, self.steps)]
        for param, moments in zip(self.params, self.moments, strict=True):
            adam_step(param, param.grad, *moments, *dials)


class Optimizer:
    """Muon for the blocks' matrices, Adam for tables, head and scalars; rates follow the schedule."""

    def __init__(self, model):
        self.model = model
        scale = (model.wte.embedding_dim / 768) ** -0.5
        tables = [model.wte.weight, *(table.weight for table in model.value_embeds.values())]
        self.adams = [
            Adam([model.lm_head.weight], UNEMBEDDING_LR * scale),
            Adam(tables, EMBEDDING_LR * scale),
            Adam([model.resid_lambdas], SCALAR_LR * 0.01),
            Adam([model.x0_lambdas], SCALAR_LR, betas=(0.96, 0.95)),
        ]
        by_shape = {}
        for p in model.blocks.parameters():
            by_shape.setdefault(p.shape, []).append(p)
        self.muons = [Muon(params) for params in by_shape.values()]

    def step(self, share, step):
        """One update at `share` (0 to 1) of the time budget."""
        rate = lr_multiplier(share)
        for adam in self.adams:
            adam.step(rate)
        momentum = MUON_MOMENTUM - 0.1 * max(0.0, 1 - step / 300)  # quicker to turn at first
        for table in self.model.ngrams.values():
            table.update(NGRAM_LR)
        for muon in self.muons:
            muon.step(MATRIX_LR * rate, momentum, WEIGHT_DECAY * (1 - share))
        self.model.zero_grad(set_to_none=True)


def lr_multiplier(share):
    """Linear warm-up, plateau, linear warm-down to FINAL_LR_FRAC, by share of the time budget."""
    if share < WARMUP_RATIO:
        return share / WARMUP_RATIO
    if share < 1 - WARMDOWN_RATIO:
        return 1.0
    left = max(0.0, 1 - share) / WARMDOWN_RATIO
    return left + (1 - left) * FINAL_LR_FRAC


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
    optimizer, report = Optimizer(model), Reporter()
    flops = model.flops_per_token() * TOTAL_BATCH_SIZE
    x, y, epoch = next(batches)
    trained, step = 0.0, 0
    while trained < TIME_BUDGET:
        synchronize()
        start = time.time()
        for _ in range(accumulation):
            loss = model(x, y)
            (loss / accumulation).backward()
            x, y, epoch = next(batches)  # copied while the backward pass runs
        share = min(1.0, trained / TIME_BUDGET)
        optimizer.step(share, step)
        value = loss.item()
        synchronize()
        seconds = time.time() - start
        if not value < 100:  # NaN too
            print(f"\nFAIL: loss is {value} at step {step}")
            sys.exit(1)
        step += 1
        trained += seconds if step > UNTIMED_STEPS else 0.0
        mfu = 100 * flops / seconds / peak_flops()
        report(step, trained, value, seconds, mfu, epoch)
        if step == 1:  # collections of a large live heap cost half a second each
            gc.collect()
            gc.freeze()
            gc.disable()
    gc.unfreeze()
    gc.enable()
    print(flush=True)
    return trained, step


def main():
    started = time.time()
    torch.manual_seed(SEED)
    torch.set_float32_matmul_precision("high")
    tokenizer = Tokenizer.from_directory()
    model = GPT(tokenizer.get_vocab_size())
    params = sum(p.numel() for p in [*model.parameters(), *(table.weight for table in model.ngrams.values())])
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
