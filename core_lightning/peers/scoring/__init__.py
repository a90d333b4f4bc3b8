"""How a peer scores: log-probabilities of given tokens, cut into micro-batches."""
