"""A client's part in a masking round: a pure machine that takes nothing on the coordinator's word (docs/protocol.md, section 10)."""
