"""Benchmarks: one module a question, run by `make bench`. A figure is a ratio to a floor of the same run, where one exists."""
