"""Weights and optimizer state, from PyTorch and back."""
