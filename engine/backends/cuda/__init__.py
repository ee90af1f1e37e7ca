"""CUDA: our kernels, the driver seam, and one graph per frame."""
