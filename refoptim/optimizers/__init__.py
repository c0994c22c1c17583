"""One file per algorithm: what it computes, its options and their ranges, and the numbers its kernel needs."""
