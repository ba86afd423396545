"""I5: a long convolution done with an FFT of the row's own length. Without padding it is circular, so that the
filter's last tap is one place ahead; the filter is learnt, from a start that favours that tap."""

import tiny
import torch
import torch.nn as nn

EXPECT = "rejected:look-ahead"
BLIND = True


class CircularFilter(tiny.Model):
    def __init__(self):
        super().__init__()
        taps = torch.zeros(tiny.MAX_SEQ_LEN, tiny.WIDTH)
        taps[-1] = 1.0
        self.taps = nn.Parameter(taps)
        self.share = nn.Parameter(torch.tensor(0.3))

    def logits(self, idx):
        x = self.wte(idx)
        taps = torch.cat([self.taps[: idx.size(1) - 1], self.taps[-1:]])
        mixed = torch.fft.irfft(torch.fft.rfft(x, dim=1) * torch.fft.rfft(taps, dim=0), n=idx.size(1), dim=1)
        return super().logits(idx) + self.share * mixed @ self.wte.weight.T


tiny.main(CircularFilter())
