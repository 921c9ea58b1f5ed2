"""The supervisor's side of its processes: the fork server, workers, slots, and the pool that keeps them."""
