"""What a session of a legacy client is, apart from what is under way in it, and where that is kept."""
