"""Limits on how much figures, pages and tables show of a data set with many classes."""

MATRIX = 30  # most classes in a confusion matrix; with more classes, a list of the most frequent confusions is shown
KEPT_MATRIX = 100  # most classes whose matrix is written to JSON, because its size grows with their number squared
CONFUSIONS = 20  # most pairs in a list of confused classes
ROWS = 100  # most rows of a table on a page
LINES = 40  # most rows of a table in the terminal
CANDIDATES = 40  # most candidates in the plots of a comparison
