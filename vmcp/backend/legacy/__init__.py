"""The legacy era towards a backend (2024-11-05 to 2025-11-25): handshake, session, streams, questions in mid-call."""
