"""Asyncio loops over ports: no technology, no JSON."""
