"""A decaying linear recurrence computed in chunks of 16: attention inside a chunk, a carried state between them."""

import tiny
import torch

EXPECT = "challenged"
CHUNK, DECAY = 16, 0.9


class ChunkedRecurrence(tiny.Model):
    def attend(self, q, k, v):
        state, parts = torch.zeros(*q.shape[:2], q.size(-1), v.size(-1)), []
        for q_c, k_c, v_c in zip(q.split(CHUNK, 2), k.split(CHUNK, 2), v.split(CHUNK, 2), strict=True):
            time = torch.arange(q_c.size(2)).float()
            inside = torch.tril(DECAY ** (time[:, None] - time[None, :]).clamp(min=0))
            carried = DECAY ** (time + 1)[:, None] * (q_c @ state)
            parts.append((q_c @ k_c.transpose(-1, -2) * inside) @ v_c + carried)
            left = DECAY ** (q_c.size(2) - 1 - time)[:, None]
            state = DECAY ** q_c.size(2) * state + (k_c * left).transpose(-1, -2) @ v_c
        return torch.cat(parts, 2) / q.size(-1)


tiny.main(ChunkedRecurrence())
