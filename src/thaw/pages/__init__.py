"""What pages, terminal tables and charts share: templates, styles, fonts, numbers and plots."""
