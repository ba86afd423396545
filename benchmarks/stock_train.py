"""The recipe that others start from, kept as it is: karpathy/autoresearch's constants and shape, written anew.

The yardstick of `benchmarks/train_h100.py` and the proof that a train.py in that style is scored unchanged: it knows
nothing of the harness, imports only `prepare`, runs under autocast and compiles the whole model. Windows go through
flex_attention, since FlashAttention-3 is a download. `research-loop run LAB --train benchmarks/stock_train.py`.
"""

import gc
import math
import sys
import time
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from prepare import MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, evaluate_bpb, make_dataloader
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

ASPECT_RATIO = 64
HEAD_DIM = 128
WINDOW_PATTERN = "SSSL"
TOTAL_BATCH_SIZE = 2**19
EMBEDDING_LR = 0.6
UNEMBEDDING_LR = 0.004
MATRIX_LR = 0.04
SCALAR_LR = 0.5
WEIGHT_DECAY = 0.2
ADAM_BETAS = (0.8, 0.95)
WARMUP_RATIO = 0.0
WARMDOWN_RATIO = 0.5
FINAL_LR_FRAC = 0.0
DEPTH = 8
DEVICE_BATCH_SIZE = 128

SEED = 42
UNTIMED_STEPS = 11
H100_BF16_FLOPS = 989.5e12
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
cuda = device.type == "cuda"
maybe_compile = torch.compile(dynamic=False) if cuda else lambda function: function


@dataclass
class GPTConfig:
    sequence_len: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    window_pattern: str


def norm(x):
    return F.rms_norm(x, (x.size(-1),))


def has_value_embedding(layer, n_layer):
    return layer % 2 == (n_layer - 1) % 2


def apply_rotary(x, cos, sin):
    half = x.size(-1) // 2
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1)


class CausalSelfAttention(nn.Module):
    """Queries and keys normalised after rotation; values mixed with a gated value embedding on every other layer."""

    gate_channels = 32

    def __init__(self, config, layer):
        super().__init__()
        self.n_head, self.head_dim = config.n_head, config.n_embd // config.n_head
        self.c_q = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.c_k = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.c_v = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=False)
        gated = has_value_embedding(layer, config.n_layer)
        self.ve_gate = nn.Linear(self.gate_channels, self.n_head, bias=False) if gated else None

    def forward(self, x, ve, cos_sin, mask):
        B, T, C = x.shape
        q, k, v = (c(x).view(B, T, self.n_head, self.head_dim) for c in (self.c_q, self.c_k, self.c_v))
        if ve is not None:
            gate = 2 * torch.sigmoid(self.ve_gate(x[..., : self.gate_channels]))
            v = v + gate.unsqueeze(-1) * ve.view(B, T, self.n_head, self.head_dim)
        q, k = norm(apply_rotary(q, *cos_sin)), norm(apply_rotary(k, *cos_sin))
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if mask is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        elif cuda and torch.compiler.is_compiling():
            y = flex_attention(q, k, v, block_mask=mask[1])
        else:  # uncompiled, flex_attention writes out every score
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[0][:T, :T])
        return self.c_proj(y.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def forward(self, x):
        return self.c_proj(F.relu(self.c_fc(x)).square())


class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.attn, self.mlp = CausalSelfAttention(config, layer), MLP(config)

    def forward(self, x, ve, cos_sin, mask):
        x = x + self.attn(norm(x), ve, cos_sin, mask)
        return x + self.mlp(norm(x))


class GPT(nn.Module):
    """forward(idx [B, T]) gives logits [B, T, vocab]; with targets the cross-entropy, reduced as `reduction` says."""

    softcap = 15

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.window_sizes = self._window_sizes(config)
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, config.n_embd),
                "h": nn.ModuleList([Block(config, i) for i in range(config.n_layer)]),
            }
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.resid_lambdas = nn.Parameter(torch.ones(config.n_layer))
        self.x0_lambdas = nn.Parameter(torch.zeros(config.n_layer))
        self.value_embeds = nn.ModuleDict(
            {
                str(i): nn.Embedding(config.vocab_size, config.n_embd)
                for i in range(config.n_layer)
                if has_value_embedding(i, config.n_layer)
            }
        )
        self.masks = {}

    @staticmethod
    def _window_sizes(config):
        letters = [config.window_pattern[i % len(config.window_pattern)] for i in range(config.n_layer - 1)] + ["L"]
        return [config.sequence_len // 2 if letter == "S" else config.sequence_len for letter in letters]

    @torch.no_grad()
    def init_weights(self):
        """On the device the model is on; also makes the rotary tables and the masks there."""
        bound = 3**0.5 * self.config.n_embd**-0.5
        nn.init.normal_(self.transformer.wte.weight, mean=0.0, std=1.0)
        nn.init.normal_(self.lm_head.weight, mean=0.0, std=0.001)
        for block in self.transformer.h:
            for linear in (block.attn.c_q, block.attn.c_k, block.attn.c_v, block.mlp.c_fc):
                nn.init.uniform_(linear.weight, -bound, bound)
            nn.init.zeros_(block.attn.c_proj.weight)
            nn.init.zeros_(block.mlp.c_proj.weight)
            if block.attn.ve_gate is not None:
                nn.init.zeros_(block.attn.ve_gate.weight)
        for table in self.value_embeds.values():
            nn.init.uniform_(table.weight, -bound, bound)
        self.resid_lambdas.fill_(1.0)
        self.x0_lambdas.fill_(0.1)
        for table in (self.transformer.wte, *self.value_embeds.values()):
            table.to(torch.bfloat16)
        self._make_rotary()
        for window in set(self.window_sizes):
            self.masks[window] = self._make_mask(window)

    def _make_rotary(self):
        head_dim = self.config.n_embd // self.config.n_head
        inverse = 1.0 / 10_000 ** (torch.arange(0, head_dim, 2, device=device).float() / head_dim)
        angles = torch.outer(torch.arange(self.config.sequence_len, device=device).float(), inverse)
        self.cos = angles.cos().bfloat16()[None, :, None, :]
        self.sin = angles.sin().bfloat16()[None, :, None, :]

    def _make_mask(self, window):
        """None for full causal attention; else bool [T, T] and, on CUDA, the same as a block mask."""
        T = self.config.sequence_len
        if window >= T:
            return None
        distance = torch.arange(T, device=device)[:, None] - torch.arange(T, device=device)
        band = (distance >= 0) & (distance < window)
        if not cuda:
            return band, None

        return band, create_block_mask(lambda b, h, q, k: (q >= k) & (q - k < window), None, None, T, T, device=device)

    def forward(self, idx, targets=None, reduction="mean"):
        T = idx.size(1)
        cos_sin = self.cos[:, :T], self.sin[:, :T]
        x = norm(self.transformer.wte(idx))
        x0 = x
        for i, block in enumerate(self.transformer.h):
            x = self.resid_lambdas[i] * x + self.x0_lambdas[i] * x0
            ve = self.value_embeds[str(i)](idx) if str(i) in self.value_embeds else None
            x = block(x, ve, cos_sin, self.masks[self.window_sizes[i]])
        logits = self.lm_head(norm(x)).float()
        logits = self.softcap * torch.tanh(logits / self.softcap)
        if targets is None:
            return logits
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1, reduction=reduction)

    def estimate_flops(self):
        """A token's, forward and backward: six a weight, attention as if each query saw its whole window."""
        matrices = sum(p.numel() for p in self.transformer.h.parameters()) + self.lm_head.weight.numel()
        return 6 * matrices + 12 * self.config.n_embd * sum(self.window_sizes)

    def setup_optimizer(self):
        scale = (self.config.n_embd / 768) ** -0.5
        adam = {"kind": "adamw", "betas": ADAM_BETAS, "eps": 1e-10, "weight_decay": 0.0}
        tables = [self.transformer.wte.weight], [table.weight for table in self.value_embeds.values()]
        groups = [
            {**adam, "params": [self.lm_head.weight], "lr": UNEMBEDDING_LR * scale},
            *({**adam, "params": params, "lr": EMBEDDING_LR * scale} for params in tables),
            {**adam, "params": [self.resid_lambdas], "lr": SCALAR_LR * 0.01},
            {**adam, "params": [self.x0_lambdas], "lr": SCALAR_LR, "betas": (0.96, 0.95)},
        ]
        matrices = list(self.transformer.h.parameters())
        for shape in sorted({p.shape for p in matrices}):
            params = [p for p in matrices if p.shape == shape]
            muon = {"kind": "muon", "lr": MATRIX_LR, "momentum": 0.95, "weight_decay": WEIGHT_DECAY}
            groups.append({**muon, "params": params})
        optimizer = MuonAdamW(groups)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return optimizer


POLAR_EXPRESS = [  # arXiv 2505.16932
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


@maybe_compile
def adamw_step(p, grad, exp_avg, exp_avg_sq, step, lr, beta1, beta2, eps, weight_decay):
    p.mul_(1 - lr * weight_decay)
    exp_avg.lerp_(grad, 1 - beta1)
    exp_avg_sq.lerp_(grad.square(), 1 - beta2)
    denominator = (exp_avg_sq / (1 - beta2**step)).sqrt() + eps
    p.add_(exp_avg / denominator * -(lr / (1 - beta1**step)))


@maybe_compile
def muon_step(grads, params, momentum_buffer, second_momentum, momentum, lr, weight_decay, beta2, tall):
    """[n, rows, cols]: Nesterov, Polar Express, NorMuon (arXiv 2510.05491), cautious decay (arXiv 2510.12402)."""
    momentum_buffer.lerp_(grads, 1 - momentum)
    X = grads.lerp(momentum_buffer, momentum).bfloat16()
    X = X / (X.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    for a, b, c in POLAR_EXPRESS:
        A = X.mT @ X if tall else X @ X.mT
        B = b * A + c * (A @ A)
        X = a * X + (X @ B if tall else B @ X)
    update = X.float()
    red = -1 if update.size(-2) >= update.size(-1) else -2
    size = update.norm(dim=(-2, -1), keepdim=True)
    second_momentum.lerp_(update.square().mean(dim=red, keepdim=True), 1 - beta2)
    update = update * second_momentum.clamp_min(1e-10).rsqrt()
    update = update * (size / update.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-10))
    params.sub_(lr * update + lr * weight_decay * params * ((update * params) >= 0))


class MuonAdamW(torch.optim.Optimizer):
    """Muon for groups of matrices of one shape, AdamW for all others."""

    def __init__(self, groups):
        super().__init__(groups, defaults={})
        self.steps = 0

    @torch.no_grad()
    def step(self):
        self.steps += 1
        for group in self.param_groups:
            (self._muon if group["kind"] == "muon" else self._adamw)(group)

    def _adamw(self, group):
        dials = (self.steps, group["lr"], *group["betas"], group["eps"], group["weight_decay"])
        for p in group["params"]:
            state = self.state[p]
            if not state:
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            adamw_step(p, p.grad, state["exp_avg"], state["exp_avg_sq"], *(scalar(dial) for dial in dials))

    def _muon(self, group):
        first = group["params"][0]
        state, (rows, cols) = self.state[first], first.shape
        if not state:
            shape = (len(group["params"]), rows, cols)
            state["momentum_buffer"] = torch.zeros(shape, device=first.device)
            reduced = (rows, 1) if rows >= cols else (1, cols)
            state["second_momentum"] = torch.zeros((shape[0], *reduced), device=first.device)
        grads = torch.stack([p.grad for p in group["params"]])
        params = torch.stack(group["params"])
        dials = (group["momentum"], group["lr"] * max(1.0, rows / cols) ** 0.5, group["weight_decay"], 0.95)
        buffers = state["momentum_buffer"], state["second_momentum"]
        muon_step(grads, params, *buffers, *(scalar(dial) for dial in dials), rows > cols)
        torch._foreach_copy_(group["params"], list(params.unbind(0)))


def scalar(value):
    """0-d on the host: compiled code takes it as an argument, so that a new rate is no new graph."""
    return torch.tensor(float(value))


def get_lr_multiplier(progress):
    if progress < WARMUP_RATIO:
        return progress / WARMUP_RATIO
    if progress < 1.0 - WARMDOWN_RATIO:
        return 1.0
    cooldown = (1.0 - progress) / WARMDOWN_RATIO
    return cooldown + (1 - cooldown) * FINAL_LR_FRAC


def synchronize():
    if cuda:
        torch.cuda.synchronize()


t_start = time.time()
torch.manual_seed(SEED)
torch.set_float32_matmul_precision("high")
autocast = torch.autocast(device.type, dtype=torch.bfloat16)

tokenizer = Tokenizer.from_directory()
n_embd = math.ceil(DEPTH * ASPECT_RATIO / HEAD_DIM) * HEAD_DIM
config = GPTConfig(MAX_SEQ_LEN, tokenizer.get_vocab_size(), DEPTH, n_embd // HEAD_DIM, n_embd, WINDOW_PATTERN)
with torch.device("meta"):
    model = GPT(config)
model.to_empty(device=device)
model.init_weights()
num_params = sum(p.numel() for p in model.parameters())
flops_per_token = model.estimate_flops()
print(f"{config}, {num_params / 1e6:.1f}M parameters")

tokens_per_pass = DEVICE_BATCH_SIZE * MAX_SEQ_LEN
assert TOTAL_BATCH_SIZE % tokens_per_pass == 0
grad_accum_steps = TOTAL_BATCH_SIZE // tokens_per_pass
optimizer = model.setup_optimizer()
model = maybe_compile(model)
train_loader = make_dataloader(tokenizer, DEVICE_BATCH_SIZE, MAX_SEQ_LEN, "train")
x, y, epoch = next(train_loader)

smooth_loss, total_training_time, step = 0.0, 0.0, 0
while True:
    synchronize()
    t0 = time.time()
    for _ in range(grad_accum_steps):
        with autocast:
            loss = model(x, y)
        train_loss = loss.detach()
        (loss / grad_accum_steps).backward()
        x, y, epoch = next(train_loader)

    progress = min(total_training_time / TIME_BUDGET, 1.0)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * get_lr_multiplier(progress)
        if group["kind"] == "muon":
            warm = min(step / 300, 1)
            group["momentum"] = (1 - warm) * 0.85 + warm * 0.95
            group["weight_decay"] = WEIGHT_DECAY * (1 - progress)
    optimizer.step()
    model.zero_grad(set_to_none=True)

    train_loss = train_loss.item()
    if math.isnan(train_loss) or train_loss > 100:
        print("FAIL")
        sys.exit(1)
    synchronize()
    dt = time.time() - t0
    if step >= UNTIMED_STEPS:
        total_training_time += dt

    smooth_loss = 0.9 * smooth_loss + 0.1 * train_loss
    mfu = 100 * flops_per_token * TOTAL_BATCH_SIZE / dt / H100_BF16_FLOPS
    print(
        f"\rstep {step:05d} ({100 * progress:.1f}%) | loss: {smooth_loss / (1 - 0.9 ** (step + 1)):.6f} | "
        f"dt: {dt * 1000:.0f}ms | tok/sec: {int(TOTAL_BATCH_SIZE / dt):,} | mfu: {mfu:.1f}% | epoch: {epoch} | "
        f"remaining: {max(0, TIME_BUDGET - total_training_time):.0f}s    ",
        end="",
        flush=True,
    )
    if step == 0:
        gc.collect()
        gc.freeze()
        gc.disable()
    step += 1
    if step > UNTIMED_STEPS and total_training_time >= TIME_BUDGET:
        break
print()

model.eval()
with autocast:
    val_bpb = evaluate_bpb(model, tokenizer, DEVICE_BATCH_SIZE)
timed_flops = flops_per_token * TOTAL_BATCH_SIZE * (step - UNTIMED_STEPS)
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"training_seconds: {total_training_time:.1f}")
print(f"total_seconds:    {time.time() - t_start:.1f}")
print(f"peak_vram_mb:     {torch.cuda.max_memory_allocated() / 2**20 if cuda else 0:.1f}")
print(f"mfu_percent:      {100 * timed_flops / total_training_time / H100_BF16_FLOPS:.2f}")
print(f"total_tokens_M:   {step * TOTAL_BATCH_SIZE / 1e6:.1f}")
print(f"num_steps:        {step}")
print(f"num_params_M:     {num_params / 1e6:.1f}")
print(f"depth:            {DEPTH}")
