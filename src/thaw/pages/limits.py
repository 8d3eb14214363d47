"""Limits that keep figures, pages and tables readable for data sets with many classes."""

MATRIX = 30  # largest number of classes in a confusion matrix; with more, the most frequent confusions are listed
KEPT_MATRIX = 100  # largest number of classes for which the matrix is written to JSON; its size is quadratic
CONFUSIONS = 20  # largest number of pairs in a list of confused classes
ROWS = 100  # largest number of rows of a table on a page
LINES = 40  # largest number of rows of a table in the terminal
CARD_CLASSES = 50  # largest number of classes on a model card
CANDIDATES = 40  # largest number of candidates in the plots of a comparison
