"""The V3 API: its conventions, and one module for each kind of resource."""
