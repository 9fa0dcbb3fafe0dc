"""The Cloud Controller's database: what is stored and which states are impossible. Knows no HTTP and no registry."""
