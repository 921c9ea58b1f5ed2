"""What producers use: `Queue`. Field names and filters are pure functions in `documents`, shared by every client."""
