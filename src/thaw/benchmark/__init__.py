"""Compare the speed of Thaw with a plain PyTorch loop, that of the cats-and-dogs tutorial, on one machine."""
