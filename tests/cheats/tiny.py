"""A GPT that trains in a second, in pieces that a cheat or an unusual model replaces. A locked file of the cheats' lab.

A `train.py` of this corpus is a few lines: `import tiny`, a class over `tiny.Model` or a hook, and `tiny.main(...)`.
"""

import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from prepare import MAX_SEQ_LEN, TIME_BUDGET, VOCAB_SIZE, Tokenizer, evaluate_bpb, make_dataloader

WIDTH, HEADS = 64, 2
BATCH = 8
LR = 0.01


class Model(nn.Module):
    """forward(idx [B, T]) gives logits [B, T, vocab]; with targets, their nats. One block of attention and MLP."""

    def __init__(self, width=WIDTH):
        super().__init__()
        self.wte = nn.Embedding(VOCAB_SIZE, width)
        self.wpe = nn.Embedding(MAX_SEQ_LEN, width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.head = nn.Linear(width, VOCAB_SIZE, bias=False)
        for weight in (self.out.weight, self.down.weight, self.head.weight):
            nn.init.zeros_(weight)

    def embed(self, idx):
        """[B, T] -> [B, T, width]"""
        return self.wte(idx) + self.wpe.weight[: idx.size(1)]

    def attend(self, q, k, v):
        """[B, heads, T, width / heads] each -> the same shape"""
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def mix(self, x):
        """Tokens speak to each other: [B, T, width] -> the same"""
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        return self.out(self.attend(q, k, v).transpose(1, 2).flatten(2))

    def think(self, x):
        """Each token by itself: [B, T, width] -> the same"""
        return self.down(F.relu(self.up(x)).square())

    def norm(self, x):
        return F.rms_norm(x, (x.size(-1),))

    def logits(self, idx):
        x = self.embed(idx)
        x = x + self.mix(self.norm(x))
        x = x + self.think(self.norm(x))
        return self.head(self.norm(x))

    def forward(self, idx, targets=None, reduction="mean"):
        logits = self.logits(idx)
        return (
            logits if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)
        )


class Adam:
    """Adam (arXiv 1412.6980), written out: importing torch.optim takes seconds."""

    def __init__(self, params, lr=LR):
        self.params, self.lr, self.steps = [p for p in params if p.requires_grad], lr, 0
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.params]

    @torch.no_grad()
    def step(self):
        self.steps += 1
        for p, (first, second) in zip(self.params, self.moments, strict=True):
            if p.grad is None:
                continue
            first.lerp_(p.grad, 0.1)
            second.lerp_(p.grad.square(), 0.05)
            p -= self.lr * first / (1 - 0.9**self.steps) / ((second / (1 - 0.95**self.steps)).sqrt() + 1e-8)
            p.grad = None


def train(model, seconds=TIME_BUDGET, batches=None, after_step=None):
    """Adam until `seconds` have passed; `after_step(model, step)` is called after each step."""
    batches = batches or make_dataloader(Tokenizer.from_directory(), BATCH, MAX_SEQ_LEN, "train")
    optimizer, start, step = Adam(model.parameters()), time.time(), 0
    while (passed := time.time() - start) < seconds:
        x, y, epoch = next(batches)
        loss = model(x, y)
        loss.backward()
        optimizer.step()
        if after_step:
            after_step(model, step)
        share = 100 * min(1.0, passed / seconds)
        print(f"step {step:05d} ({share:.1f}%) | loss: {loss.item():.6f} | epoch: {epoch}", flush=True)
        step += 1
    return model


def summary(val_bpb, steps=0):
    """What a run prints at its end."""
    print("---")
    print(f"val_bpb:          {val_bpb:.6f}")
    print(f"training_seconds: {TIME_BUDGET:.1f}\npeak_vram_mb:     0.0\nnum_steps:        {steps}", flush=True)


def finish(model, batch_size=BATCH):
    """The score, and the summary."""
    summary(evaluate_bpb(model.eval(), Tokenizer.from_directory(), batch_size))


def main(model=None, batch_size=BATCH):
    """Trains and scores a model: ours, or another with the same forward."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    finish(train(Model() if model is None else model), batch_size)


if __name__ == "__main__":
    main()
