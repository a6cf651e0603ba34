"""The coordinator's part in a masking round (``docs/protocol.md``, section 10)."""
