"""Adapters and bases on the Hub: publishing, cards, and code that travels with a base."""
