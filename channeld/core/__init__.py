"""The part that decides about money: pure, synchronous, deterministic; no IO, no clock, no randomness."""
