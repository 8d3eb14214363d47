"""Files on disk: the cache, arrays, checkpoints, and files that are written completely or not at all."""
