"""The driver of rounds: what the coordinator's machine decides is done here, off the event loop where it computes."""
