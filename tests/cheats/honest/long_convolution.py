"""A filter as long as the row, by FFT, padded to twice the length: the causal cousin of the circular one."""

import tiny
import torch
import torch.nn as nn

EXPECT = "challenged"


class LongConvolution(tiny.Model):
    def __init__(self):
        super().__init__()
        self.taps = nn.Parameter(torch.randn(tiny.MAX_SEQ_LEN, tiny.WIDTH) * 0.02)

    def mix(self, x):
        length = x.size(1)
        taps = torch.fft.rfft(self.taps[:length], n=2 * length, dim=0)
        return self.out(torch.fft.irfft(torch.fft.rfft(x, n=2 * length, dim=1) * taps, n=2 * length, dim=1)[:, :length])


tiny.main(LongConvolution())
