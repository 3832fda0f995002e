"""Metrics with intervals, pictures of mistakes, results and the tables made of them."""
