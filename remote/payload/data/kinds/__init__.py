"""Records of several kinds: trees of messages, and the modules that rows are routed to."""
