"""Compare the speed of Thaw with the tutorial's plain PyTorch loop on the same machine."""
