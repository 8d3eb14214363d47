"""Search for the best model that a time budget can buy: trials, pruned early, and an honest comparison at the end."""
