"""Ranking: the listings that are relevant to a query."""

import marketplace  # noqa: F401  sets how threads wait, before torch is imported
