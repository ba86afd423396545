"""All heads share one key and one value (arXiv 1911.02150)."""

import tiny

EXPECT = "challenged"


class MultiQuery(tiny.Model):
    def attend(self, q, k, v):
        return super().attend(q, k[:, :1].expand_as(q), v[:, :1].expand_as(q))


tiny.main(MultiQuery())
