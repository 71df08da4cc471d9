"""PyTorch networks, rewritten as Flax NNX source."""
