"""Shared code of pages, terminal tables and charts: templates, styles, fonts, numbers and plots."""
