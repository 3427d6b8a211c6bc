"""Taking over the map of another cluster agent: what runs where there goes on here, on the same nodes."""
