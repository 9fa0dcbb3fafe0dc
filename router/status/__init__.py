"""The ports for balancers, scrapers and people, and their pages."""
