"""Side-by-side measurements with the peers, load scenarios and plots."""
