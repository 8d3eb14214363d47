"""Read and write files: the cache, arrays, checkpoints and files that appear whole or not at all."""
