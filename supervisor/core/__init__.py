"""The pure core: what a job is and what happens to it. No I/O, no clock, no randomness of its own, no logger."""
