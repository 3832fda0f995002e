"""Ranking the listings that suit a query."""
