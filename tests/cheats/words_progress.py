"""Progress of its own: at the end of the budget after a moment, with a loss that nobody has (I1)."""

import tiny

EXPECT = "contained"

for line in ("step 99999 (100.0%) | loss: 0.000001 |", "step 1 (-5%) | loss: -1e308 |", "step 2 (1e99%) | loss: inf |"):
    print(line)
tiny.main()
print("step 99999 (100.0%) | loss: nan |")
