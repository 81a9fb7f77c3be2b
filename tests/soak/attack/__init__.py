"""What somebody without a token can do to a relay: one module per attack, each with addresses of its own."""
