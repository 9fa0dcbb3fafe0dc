"""Every setting, the file that gives them, and what only all of them together show."""
