"""From a heap of photographs to a data set: what is in the files, which are alike, what goes where."""
