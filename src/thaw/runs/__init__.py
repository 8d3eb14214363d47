"""Code around a run: check its options, protect its folder, write its files, stop and resume it."""
