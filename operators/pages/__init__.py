"""The admin's own pages: what needs somebody now, a node, what changed, and the search."""
