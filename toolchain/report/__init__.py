"""What a compilation found out, as data (`report.json`), as tables and as a page."""
