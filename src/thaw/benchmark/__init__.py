"""How fast Thaw is, as a ratio: the tutorial's loop in plain PyTorch and Thaw do the same on the same machine."""
