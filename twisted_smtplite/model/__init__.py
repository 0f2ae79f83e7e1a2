"""Values: replies, addresses, envelopes, limits, messages. They know no I/O and no other layer."""
