"""Compare the speed of Thaw with the loop of PyTorch's transfer learning tutorial on the same machine."""
