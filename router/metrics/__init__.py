"""What is counted, and the pages that show it."""
