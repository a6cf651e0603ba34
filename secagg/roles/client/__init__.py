"""A client's part in one ckks round: a pure machine that takes nothing on the coordinator's word (docs/protocol.md, section 5)."""
