"""The client's part in a round, as a pure machine (``docs/protocol.md``, section 5)."""
