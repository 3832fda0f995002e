"""Ranking: the listings that are relevant to a query."""
