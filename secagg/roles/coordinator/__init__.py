"""The coordinator's part in one round: a pure machine over ids, counts and small signed messages, never a vector."""
