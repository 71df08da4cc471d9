"""PyTorch's textbook networks in JAX: the same weights, the same numbers, faster."""
