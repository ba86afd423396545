"""Scored three rows at a time: the number of rows is no multiple of it."""

import tiny

EXPECT = "challenged"

tiny.main(batch_size=3)
