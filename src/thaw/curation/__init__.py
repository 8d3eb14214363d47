"""Turn a folder of photographs into a data set: inspect files, find near-duplicates, split."""
