"""Benchmarks, run by `make bench`: one module for each question. Where possible, a figure is compared with a floor, the time
that the bare machine takes in the same run.
"""
