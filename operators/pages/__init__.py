"""The admin's own pages: the first page, the loss of a node, the changes, and the search."""
