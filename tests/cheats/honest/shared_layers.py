"""One block, applied three times."""

import tiny

EXPECT = "challenged"


class SharedLayers(tiny.Model):
    def logits(self, idx):
        x = self.embed(idx)
        for _ in range(3):
            x = x + self.mix(self.norm(x))
            x = x + self.think(self.norm(x))
        return self.head(self.norm(x))


tiny.main(SharedLayers())
