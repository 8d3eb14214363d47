"""Compare the speed of Thaw with the cats-and-dogs tutorial's loop in plain PyTorch on one machine."""
