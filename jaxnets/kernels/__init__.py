"""What makes a processor fast, for any network: kernels in C++, and when XLA calls them."""
